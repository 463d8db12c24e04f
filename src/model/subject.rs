//! A person, and how far along the way to being forgotten.

use super::{ErasureId, Error, Jurisdiction, Label, Reason, Reference, Result, SubjectId, Time};

/// Where a subject stands, in the order of life. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectState {
    /// Values may be revealed, if the policy allows.
    Active = 1,
    /// Values are kept and not used, except for what Art. 18(2) GDPR leaves open.
    Restricted = 2,
    /// An erasure waits for its time; until then it can be cancelled. Meanwhile as good as restricted.
    Scheduled = 3,
    /// The erasure has begun; it goes forward only, even through a crash.
    Shredding = 4,
    /// No key opens a value of this subject any more. Final.
    Shredded = 5,
}

impl SubjectState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Active, Self::Restricted, Self::Scheduled, Self::Shredding, Self::Shredded];

    /// Its name, as on the wire and in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Restricted => "RESTRICTED",
            Self::Scheduled => "SCHEDULED",
            Self::Shredding => "SHREDDING",
            Self::Shredded => "SHREDDED",
        }
    }

    /// The number that stores keep, 1 to 5.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The state with this number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        Some(match number {
            1 => Self::Active,
            2 => Self::Restricted,
            3 => Self::Scheduled,
            4 => Self::Shredding,
            5 => Self::Shredded,
            _ => return None,
        })
    }
}

/// Why and since when a subject's values must not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restriction {
    /// The ground that was given.
    pub ground: Reference,
    /// When it began.
    pub since: Time,
}

/// What holds of the use of a person's values, as of a version of their record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The restriction in force.
    pub restriction: Option<Restriction>,
    /// Whether profiles may use them.
    pub profiling: bool,
    /// Since when the person objects to direct marketing.
    pub suppressed_at: Option<Time>,
    /// The version.
    pub version: u64,
}

/// One person. Nothing here is personal data: this record outlives the erasure, as the fence that tells an erased
/// subject from one that never was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its name, for good.
    pub id: SubjectId,
    /// What it is to its keeper (`customer`).
    pub kind: Label,
    /// Whose law applies, when known.
    pub jurisdiction: Option<Jurisdiction>,
    /// Where the vault has it from.
    pub source: Label,
    /// Where it stands. Changed by the methods below only.
    pub state: SubjectState,
    /// The restriction in force. It waits behind a scheduled erasure and is back when that is cancelled.
    pub restriction: Option<Restriction>,
    /// Whether its values may feed a profile (Art. 21 and 22 GDPR).
    pub profiling: bool,
    /// Since when it objects to direct marketing (Art. 21(2) GDPR); for good, unless it takes that back.
    pub suppressed_at: Option<Time>,
    /// When it was opened.
    pub created_at: Time,
    /// The erasure that is scheduled, under way or done.
    pub erasure: Option<ErasureId>,
    /// When it was shredded.
    pub erased_at: Option<Time>,
    /// Grows by one with every change; the etag that callers see is made of it.
    pub version: u64,
}

impl Subject {
    /// Opens a subject: active, unrestricted, at version 1.
    #[must_use]
    pub const fn open(
        id: SubjectId,
        kind: Label,
        jurisdiction: Option<Jurisdiction>,
        source: Label,
        profiling: bool,
        now: Time,
    ) -> Self {
        Self {
            id,
            kind,
            jurisdiction,
            source,
            state: SubjectState::Active,
            restriction: None,
            profiling,
            suppressed_at: None,
            created_at: now,
            erasure: None,
            erased_at: None,
            version: 1,
        }
    }

    /// Refuses once the erasure has begun: `ERASURE_PENDING` while it runs, `SUBJECT_ERASED` for ever after.
    pub fn alive(&self) -> Result<()> {
        let error = match self.state {
            SubjectState::Active | SubjectState::Restricted | SubjectState::Scheduled => return Ok(()),
            SubjectState::Shredding => Error::new(Reason::ErasurePending, "the subject is being erased"),
            SubjectState::Shredded => {
                Error::new(Reason::SubjectErased, "the subject was erased; nothing can bring it back")
            }
        };
        Err(self.tell(error))
    }

    /// Forbids the use of the subject's values. Behind a scheduled erasure the restriction waits for its cancellation.
    pub fn restrict(&mut self, ground: Reference, now: Time) -> Result<()> {
        self.alive()?;
        if self.restriction.is_some() {
            return Err(self.tell(Error::new(Reason::SubjectRestricted, "the subject is restricted already")));
        }
        self.restriction = Some(Restriction { ground, since: now });
        if self.state == SubjectState::Active {
            self.state = SubjectState::Restricted;
        }
        self.changed();
        Ok(())
    }

    /// Ends the restriction. Refused while an erasure is scheduled: cancel that first.
    pub fn lift(&mut self) -> Result<()> {
        self.alive()?;
        match self.state {
            SubjectState::Restricted => {}
            SubjectState::Scheduled => return Err(self.scheduled()),
            _ => return Err(self.refuse(Reason::ValueInvalid, "the subject is not restricted").at("subject")),
        }
        self.restriction = None;
        self.state = SubjectState::Active;
        self.changed();
        Ok(())
    }

    /// Turns the use of the subject's values in profiles on or off.
    pub fn set_profiling(&mut self, enabled: bool) -> Result<()> {
        self.alive()?;
        self.profiling = enabled;
        self.changed();
        Ok(())
    }

    /// Objects to direct marketing. Answers whether that is news; the record tells since when, and when it was said again
    /// the ledger tells.
    pub fn suppress(&mut self, since: Time) -> bool {
        if self.suppressed_at.is_some() {
            return false;
        }
        self.suppressed_at = Some(since);
        self.changed();
        true
    }

    /// Finds that it objects to direct marketing under an identifier that it was given. Answers whether that is news. The
    /// version stays: whoever may not know of the list must not learn of it by the etag.
    pub const fn recognise(&mut self, now: Time) -> bool {
        let news = self.suppressed_at.is_none();
        if news {
            self.suppressed_at = Some(now);
        }
        news
    }

    /// Takes back its objection to all direct marketing. Answers whether there was one, before `at`.
    pub fn release(&mut self, at: Time) -> bool {
        if self.suppressed_at.is_none_or(|since| since > at) {
            return false;
        }
        self.suppressed_at = None;
        self.changed();
        true
    }

    /// What holds of the use of the subject's values.
    #[must_use]
    pub fn terms(&self) -> Terms {
        let (restriction, profiling) = (self.restriction.clone(), self.profiling);
        Terms { restriction, profiling, suppressed_at: self.suppressed_at, version: self.version }
    }

    /// Takes over the terms of a younger version, which this record, being of a backup, does not know. Answers whether
    /// they are younger, and the subject not past all terms.
    pub fn take_over(&mut self, terms: Terms) -> bool {
        // That somebody was recognised on the suppression list makes no new version.
        let recognised = terms.version == self.version && self.suppressed_at.is_none() && terms.suppressed_at.is_some();
        if (terms.version <= self.version && !recognised) || self.alive().is_err() {
            return false;
        }
        (self.restriction, self.profiling) = (terms.restriction, terms.profiling);
        (self.suppressed_at, self.version) = (terms.suppressed_at, terms.version);
        if self.state != SubjectState::Scheduled {
            self.state = if self.restriction.is_some() { SubjectState::Restricted } else { SubjectState::Active };
        }
        true
    }

    /// Lets `erasure` wait for its time; its values rest until then.
    pub fn schedule(&mut self, erasure: ErasureId) -> Result<()> {
        self.alive()?;
        if self.state == SubjectState::Scheduled {
            return Err(self.scheduled());
        }
        self.state = SubjectState::Scheduled;
        self.erasure = Some(erasure);
        self.changed();
        Ok(())
    }

    /// Takes the scheduled erasure back: restricted again if a restriction stands, else active.
    pub fn cancel(&mut self) -> Result<()> {
        self.alive()?;
        if self.state != SubjectState::Scheduled {
            return Err(self.refuse(Reason::ErasureUnknown, "no erasure of the subject is scheduled"));
        }
        self.state = if self.restriction.is_some() { SubjectState::Restricted } else { SubjectState::Active };
        self.erasure = None;
        self.changed();
        Ok(())
    }

    /// Begins the erasure; from here there is no way back. An erasure that was scheduled gives way to `erasure`.
    pub fn begin_shred(&mut self, erasure: ErasureId) -> Result<()> {
        self.alive()?;
        self.state = SubjectState::Shredding;
        self.erasure = Some(erasure);
        self.changed();
        Ok(())
    }

    /// Records that the keys are gone. Only for a subject whose erasure has begun.
    pub fn finish_shred(&mut self, now: Time) -> Result<()> {
        match self.state {
            SubjectState::Shredding => {}
            SubjectState::Shredded => return self.alive(),
            _ => return Err(Error::internal("an erasure ends that never began")),
        }
        self.state = SubjectState::Shredded;
        self.erased_at = Some(now);
        self.changed();
        Ok(())
    }

    fn changed(&mut self) {
        self.version = self.version.saturating_add(1);
    }

    fn scheduled(&self) -> Error {
        self.tell(Error::new(Reason::SubjectScheduled, "an erasure of the subject is scheduled; cancel it first"))
    }

    fn refuse(&self, reason: Reason, message: &'static str) -> Error {
        Error::new(reason, message).with("subject", self.id)
    }

    /// Adds what a caller needs to know: whom it is about; the erasure, and once it is done its time; and of a refusal
    /// that a restriction is the cause of, since when.
    #[must_use]
    pub fn tell(&self, error: Error) -> Error {
        let error = error.with("subject", self.id);
        let error = self.erasure.iter().fold(error, |error, erasure| error.with("erasure", erasure));
        let error = self.erased_at.iter().fold(error, |error, time| error.with("erase_time", time));
        let restricted = error.reason == Reason::SubjectRestricted;
        self.restriction.iter().filter(|_| restricted).fold(error, |error, why| error.with("since", why.since))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Time::from_micros(1_800_000_000_000_000);
    const ERASURE: ErasureId = ErasureId::from_bytes([2; 16]);

    fn subject() -> Subject {
        let (kind, source) = (Label::kind("customer").unwrap(), Label::source("test").unwrap());
        Subject::open(SubjectId::from_bytes([1; 16]), kind, None, source, true, NOW)
    }

    fn ground() -> Reference {
        Reference::parse("ground", "GDPR Art. 18(1)(a)").unwrap()
    }

    #[test]
    fn a_restriction_survives_a_cancelled_erasure() {
        let mut subject = subject();
        subject.restrict(ground(), NOW).unwrap();
        subject.schedule(ERASURE).unwrap();
        assert_eq!(subject.lift().unwrap_err().reason, Reason::SubjectScheduled);
        subject.cancel().unwrap();
        assert_eq!((subject.state, subject.erasure, subject.version), (SubjectState::Restricted, None, 4));
        subject.lift().unwrap();
        assert_eq!(subject.state, SubjectState::Active);
    }

    #[test]
    fn a_restriction_set_while_scheduled_comes_into_force_on_cancel() {
        let mut subject = subject();
        subject.schedule(ERASURE).unwrap();
        subject.restrict(ground(), NOW).unwrap();
        assert_eq!(subject.state, SubjectState::Scheduled);
        assert_eq!(subject.restrict(ground(), NOW).unwrap_err().reason, Reason::SubjectRestricted);
        subject.cancel().unwrap();
        assert_eq!(subject.state, SubjectState::Restricted);
    }

    #[test]
    fn an_erased_subject_says_when_and_by_what() {
        let mut subject = subject();
        subject.begin_shred(ERASURE).unwrap();
        assert_eq!(subject.alive().unwrap_err().reason, Reason::ErasurePending);
        assert_eq!(subject.begin_shred(ERASURE).unwrap_err().reason, Reason::ErasurePending);
        assert_eq!(subject.cancel().unwrap_err().reason, Reason::ErasurePending);
        subject.finish_shred(NOW).unwrap();
        let error = subject.finish_shred(NOW).unwrap_err();
        assert_eq!(error.reason, Reason::SubjectErased);
        assert!(error.metadata.contains(&("erasure", ERASURE.to_string())));
        assert!(error.metadata.contains(&("erase_time", NOW.to_string())));
    }

    #[test]
    fn a_change_that_does_not_apply_changes_nothing() {
        let mut subject = subject();
        assert!(subject.lift().is_err());
        assert!(subject.cancel().is_err());
        assert_eq!(subject.finish_shred(NOW).unwrap_err().reason, Reason::Internal);
        assert_eq!(subject.version, 1);
    }

    #[test]
    fn numbers_are_stable() {
        let numbers: Vec<i16> =
            (0..7).filter(|&n| SubjectState::from_number(n).is_some_and(|s| s.number() == n)).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
    }

    proptest! {
        #[test]
        fn nothing_leads_back_from_the_shredder(deeds in proptest::collection::vec(0_u8..7, 0..40)) {
            let mut subject = subject();
            for deed in deeds {
                let before = subject.clone();
                let done = match deed {
                    0 => subject.restrict(ground(), NOW),
                    1 => subject.lift(),
                    2 => subject.set_profiling(false),
                    3 => subject.schedule(ERASURE),
                    4 => subject.cancel(),
                    5 => subject.begin_shred(ERASURE),
                    _ => subject.finish_shred(NOW),
                };
                if before.state >= SubjectState::Shredding {
                    prop_assert!(subject.state >= before.state);
                }
                let consistent = if done.is_ok() { before.version + 1 == subject.version } else { before == subject };
                prop_assert!(consistent);
                prop_assert_eq!(subject.erased_at.is_some(), subject.state == SubjectState::Shredded);
                if subject.state == SubjectState::Restricted {
                    prop_assert!(subject.restriction.is_some());
                }
            }
        }
    }
}
