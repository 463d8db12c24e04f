//! One erasure, from the request to the receipt.

use serde::{Deserialize, Serialize};

use super::{Cohort, ErasureId, Error, Reason, Reference, Result, SubjectId, Time};

/// Where an erasure stands. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErasureState {
    /// It waits for its time and can be cancelled.
    Scheduled = 1,
    /// It has begun; what holds it up, if anything, is in `pending_reason`. It will be finished.
    Pending = 2,
    /// Done, and a receipt says so.
    Shredded = 3,
    /// Taken back before it began.
    Cancelled = 4,
}

impl ErasureState {
    /// The number that stores keep, 1 to 4.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The state with this number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        Some(match number {
            1 => Self::Scheduled,
            2 => Self::Pending,
            3 => Self::Shredded,
            4 => Self::Cancelled,
            _ => return None,
        })
    }
}

/// Why copies outlast an erasure that a legal hold keeps.
pub const LEGAL_HOLD: &str = "LEGAL_HOLD";

/// What happens to one part of a subject's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanItem {
    /// Which part.
    pub element: Element,
    /// The retention class, for values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The month in which the values were kept, of those that ended or end with it: `2026-11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<String>,
    /// When what is kept for a time ends, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    /// Why it is kept, where no time ends that: [`LEGAL_HOLD`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happens to it.
    pub verdict: Verdict,
    /// How many.
    pub count: u64,
}

impl PlanItem {
    /// What happens to so many of a part, all classes together.
    #[must_use]
    pub const fn new(element: Element, verdict: Verdict, count: u64) -> Self {
        Self { element, class: None, cohort: None, end_time: None, reason: None, verdict, count }
    }

    /// What happens to so many values of a class.
    #[must_use]
    pub fn of_class(class: &str, verdict: Verdict, count: u64) -> Self {
        Self { class: Some(class.to_owned()), ..Self::new(Element::Fields, verdict, count) }
    }

    /// So many values that outlast the erasure: of a class and month that a law demands, until a time; or copies for a case,
    /// until the hold is released, which no time does.
    #[must_use]
    pub fn kept(class: &str, cohort: Cohort, until: Time, count: u64) -> Self {
        let kept = Self::of_class(class, Verdict::KeepRestricted, count);
        if until == Time::LAST {
            return Self { reason: Some(LEGAL_HOLD.to_owned()), ..kept };
        }
        Self { cohort: Some(cohort.to_string()), end_time: Some(until.to_string()), ..kept }
    }
}

/// The parts of a subject's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Element {
    /// Values, and with them their entries in the search index.
    Fields,
    /// Tokens: random, nothing of a value in them.
    Tokens,
    /// Names on the suppression list, of somebody who objects to direct marketing.
    Suppression,
}

/// What an erasure does with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Its keys are destroyed in every copy, and its ciphertexts deleted here.
    Destroy,
    /// A law demands it: its keys stay until its retention ends, and open it for claims and for authorities only, when two
    /// people say so.
    KeepRestricted,
    /// It stays as a pseudonym that leads to nothing.
    KeepPseudonym,
    /// It stays as a keyed digest, which tells whoever has the value that it is there, and leads to nobody.
    KeepDigest,
}

/// The erasure of one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Its name, for good; the receipt bears it.
    pub id: ErasureId,
    /// Who is forgotten.
    pub subject: SubjectId,
    /// Where it stands. Changed by the methods below only.
    pub state: ErasureState,
    /// The ticket or legal ground.
    pub reason: Reference,
    /// The caller who asked for it.
    pub requested_by: String,
    /// When it was asked for.
    pub requested_at: Time,
    /// When a scheduled erasure begins; `None` when it was to begin at once.
    pub execute_at: Option<Time>,
    /// What is destroyed and what is kept.
    pub plan: Vec<PlanItem>,
    /// The epoch of the key tree that lacks the keys; set once that tree is written.
    pub epoch: Option<u64>,
    /// When the keys were gone.
    pub shredded_at: Option<Time>,
    /// What holds up a pending erasure, in words without personal data ("a checkpoint sink does not answer").
    pub pending_reason: Option<String>,
    /// The signed receipt, once the keys are gone.
    pub receipt: Option<Vec<u8>>,
}

impl Erasure {
    /// An erasure that begins at once: `PENDING` until the keys are gone.
    #[must_use]
    pub fn immediate(id: ErasureId, subject: SubjectId, reason: Reference, requested_by: &str, now: Time) -> Self {
        Self {
            id,
            subject,
            state: ErasureState::Pending,
            reason,
            requested_by: requested_by.to_owned(),
            requested_at: now,
            execute_at: None,
            plan: Vec::new(),
            epoch: None,
            shredded_at: None,
            pending_reason: None,
            receipt: None,
        }
    }

    /// An erasure that begins at `execute_at`, which must lie ahead, and can be cancelled until then.
    pub fn scheduled(
        id: ErasureId,
        subject: SubjectId,
        reason: Reference,
        requested_by: &str,
        now: Time,
        execute_at: Time,
    ) -> Result<Self> {
        if execute_at <= now {
            return Err(Error::invalid("execute_time", "lies in the past; leave it out to erase at once"));
        }
        let erasure = Self::immediate(id, subject, reason, requested_by, now);
        Ok(Self { state: ErasureState::Scheduled, execute_at: Some(execute_at), ..erasure })
    }

    /// Whether its time has come.
    #[must_use]
    pub fn due(&self, now: Time) -> bool {
        self.state == ErasureState::Scheduled && self.execute_at.is_none_or(|time| time <= now)
    }

    /// Takes it back. Refused as soon as it has begun.
    pub fn cancel(&mut self) -> Result<()> {
        self.still_scheduled()?;
        self.state = ErasureState::Cancelled;
        Ok(())
    }

    /// Begins it, because its time has come or somebody will not wait for it.
    pub fn begin(&mut self) -> Result<()> {
        self.still_scheduled()?;
        self.state = ErasureState::Pending;
        Ok(())
    }

    /// Notes what holds it up. Only while it is pending.
    pub fn hold_up(&mut self, reason: impl Into<String>) -> Result<()> {
        self.still_pending()?;
        self.pending_reason = Some(reason.into());
        Ok(())
    }

    /// Records that the keys are gone. Only while it is pending.
    pub fn finish(&mut self, now: Time) -> Result<()> {
        self.still_pending()?;
        self.state = ErasureState::Shredded;
        self.shredded_at = Some(now);
        self.pending_reason = None;
        Ok(())
    }

    fn still_scheduled(&self) -> Result<()> {
        match self.state {
            ErasureState::Scheduled => Ok(()),
            ErasureState::Pending => {
                Err(self.tell(Reason::ErasurePending, "the erasure has begun and cannot be stopped"))
            }
            ErasureState::Shredded => {
                Err(self.tell(Reason::SubjectErased, "the subject was erased; nothing can bring it back"))
            }
            ErasureState::Cancelled => Err(self.tell(Reason::ErasureUnknown, "the erasure was cancelled before")),
        }
    }

    fn still_pending(&self) -> Result<()> {
        match self.state {
            ErasureState::Pending => Ok(()),
            ErasureState::Scheduled => Err(Error::internal("an erasure goes on that never began")),
            ErasureState::Shredded | ErasureState::Cancelled => self.still_scheduled(),
        }
    }

    /// A refusal with the ids and, once it is done, the time.
    fn tell(&self, reason: Reason, message: &'static str) -> Error {
        let error = Error::new(reason, message).with("subject", self.subject).with("erasure", self.id);
        self.shredded_at.iter().fold(error, |error, time| error.with("erase_time", time))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Time::from_micros(1_800_000_000_000_000);
    const LATER: Time = Time::from_micros(1_900_000_000_000_000);

    fn scheduled() -> Erasure {
        let reason = Reference::parse("reason", "CASE-7").unwrap();
        Erasure::scheduled(ErasureId::from_bytes([1; 16]), SubjectId::from_bytes([2; 16]), reason, "svc", NOW, LATER)
            .unwrap()
    }

    #[test]
    fn it_waits_for_its_time() {
        let erasure = scheduled();
        assert!(!erasure.due(NOW));
        assert!(erasure.due(LATER));
        let (id, subject, reason) = (erasure.id, erasure.subject, erasure.reason.clone());
        assert!(!Erasure::immediate(id, subject, reason.clone(), "svc", NOW).due(LATER));
        let error = Erasure::scheduled(id, subject, reason, "svc", NOW, NOW).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("execute_time"));
    }

    #[test]
    fn only_a_scheduled_one_is_cancelled() {
        let mut erasure = scheduled();
        erasure.cancel().unwrap();
        assert_eq!(erasure.cancel().unwrap_err().reason, Reason::ErasureUnknown);
        let mut erasure = scheduled();
        erasure.begin().unwrap();
        assert_eq!(erasure.cancel().unwrap_err().reason, Reason::ErasurePending);
        erasure.hold_up("a sink does not answer").unwrap();
        erasure.finish(LATER).unwrap();
        assert_eq!(erasure.pending_reason, None);
        let error = erasure.cancel().unwrap_err();
        assert_eq!(error.reason, Reason::SubjectErased);
        assert!(error.metadata.contains(&("erase_time", LATER.to_string())));
        assert!(error.metadata.contains(&("erasure", erasure.id.to_string())));
    }

    #[test]
    fn numbers_are_stable() {
        let numbers: Vec<i16> =
            (0..6).filter(|&n| ErasureState::from_number(n).is_some_and(|s| s.number() == n)).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
    }

    proptest! {
        #[test]
        fn what_is_done_stays_done(deeds in proptest::collection::vec(0_u8..4, 0..20)) {
            let mut erasure = scheduled();
            for deed in deeds {
                let before = erasure.clone();
                let done = match deed {
                    0 => erasure.cancel(),
                    1 => erasure.begin(),
                    2 => erasure.hold_up("waiting"),
                    _ => erasure.finish(LATER),
                };
                if done.is_err() || matches!(before.state, ErasureState::Shredded | ErasureState::Cancelled) {
                    prop_assert_eq!(&erasure, &before);
                }
            }
        }
    }
}
