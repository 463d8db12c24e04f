//! Legal holds: copies of values that a case needs, whatever becomes of the values themselves.

use super::{Error, HoldId, Label, Reason, Reference, Result, SubjectId, Time, TokenRow};
use crate::crypto::derive::sha256;

/// What the classes begin with that keys of copies are for. No value is put into one.
pub const HOLDS: &str = "hold/";

/// What the digest of what a hold names begins with, so that it is a digest of nothing else.
const DOMAIN: &[u8] = b"lacuna hold v1\n";

/// What a hold is placed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Every value that these people have at that moment.
    Subjects(Vec<SubjectId>),
    /// The values of these tokens.
    Tokens(Vec<TokenRow>),
}

impl Held {
    /// Whether tokens are named, and not whole people.
    #[must_use]
    pub const fn by_token(&self) -> bool {
        matches!(self, Self::Tokens(_))
    }

    /// A digest of what is named, in whichever order: two requests that name the same have the same.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut ids: Vec<&[u8; 16]> = match self {
            Self::Subjects(subjects) => subjects.iter().map(SubjectId::as_bytes).collect(),
            Self::Tokens(tokens) => tokens.iter().map(TokenRow::as_bytes).collect(),
        };
        ids.sort_unstable();
        ids.dedup();
        let mut parts: Vec<&[u8]> = vec![DOMAIN, if self.by_token() { b"t" } else { b"s" }];
        parts.extend(ids.into_iter().map(<[u8; 16]>::as_slice));
        sha256(&parts)
    }
}

/// The end of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Who released it.
    pub by: String,
    /// When.
    pub at: Time,
    /// A legal ground or a ticket.
    pub reason: Reference,
}

/// A hold: from when it is placed until somebody releases it. No time ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its name.
    pub id: HoldId,
    /// The case. Several holds may be of one.
    pub matter: Label,
    /// A legal ground or a ticket.
    pub basis: Reference,
    /// Whether tokens were named, and not whole people.
    pub by_token: bool,
    /// The digest of what was named ([`Held::digest`]).
    pub asked: [u8; 32],
    /// Who placed it.
    pub placed_by: String,
    /// When.
    pub placed_at: Time,
    /// Its end; `None` while it runs. Changed by [`Hold::release`] only.
    pub released: Option<Release>,
}

impl Hold {
    /// The class that keys of its copies are for.
    #[must_use]
    pub fn class(&self) -> String {
        format!("{HOLDS}{}", self.matter.as_str())
    }

    /// Whether a request for it says the same as the one that placed it.
    #[must_use]
    pub fn is_for(&self, matter: &Label, basis: &Reference, held: &Held) -> bool {
        (&self.matter, &self.basis, self.asked) == (matter, basis, held.digest())
    }

    /// Ends it.
    ///
    /// # Errors
    /// `HoldReleased` when it has ended.
    pub fn release(&mut self, release: Release) -> Result<()> {
        if let Some(before) = &self.released {
            let error = Error::new(Reason::HoldReleased, "the hold was released before");
            return Err(error.with("hold", self.id).with("release_time", before.at));
        }
        self.released = Some(release);
        Ok(())
    }
}

/// Of whom a hold keeps copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSubject {
    /// Whom.
    pub subject: SubjectId,
    /// The leaf of the key that the copies are under; `None` when there was nothing to copy.
    pub leaf: Option<u32>,
    /// How many values were copied.
    pub copied: u64,
    /// How many more were to be and are not: they did not open, or a restored database has no copy of them.
    pub lost: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold() -> Hold {
        Hold {
            id: HoldId::from_bytes([1; 16]),
            matter: Label::matter("smith-v-acme").unwrap(),
            basis: Reference::parse("basis", "Art. 17(3)(e)").unwrap(),
            by_token: false,
            asked: Held::Subjects(vec![SubjectId::from_bytes([2; 16])]).digest(),
            placed_by: "counsel".to_owned(),
            placed_at: Time::from_micros(5),
            released: None,
        }
    }

    #[test]
    fn a_hold_ends_once() {
        let mut hold = hold();
        let reason = Reference::parse("reason", "settled").unwrap();
        let release = |at| Release { by: "counsel".to_owned(), at: Time::from_micros(at), reason: reason.clone() };
        hold.release(release(7)).unwrap();
        let before = hold.clone();
        assert_eq!(hold.release(release(8)).unwrap_err().reason, Reason::HoldReleased);
        assert_eq!(hold, before);
    }

    #[test]
    fn what_is_named_counts_and_not_its_order() {
        let [one, other] = [1, 2].map(|byte| SubjectId::from_bytes([byte; 16]));
        let named = Held::Subjects(vec![one, other]).digest();
        assert_eq!(named, Held::Subjects(vec![other, one, other]).digest());
        assert_ne!(named, Held::Subjects(vec![one]).digest());
        let rows = [1, 2].map(|byte| TokenRow::from_bytes([byte; 16]));
        assert_ne!(named, Held::Tokens(rows.to_vec()).digest());
        let other_basis = Reference::parse("basis", "CASE-8").unwrap();
        let held = Held::Subjects(vec![SubjectId::from_bytes([2; 16])]);
        assert!(hold().is_for(&hold().matter, &hold().basis, &held));
        assert!(!hold().is_for(&hold().matter, &other_basis, &held));
    }
}
