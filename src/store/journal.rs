//! What is to go into the journal of the sinks.

use async_trait::async_trait;
use data_encoding::HEXLOWER;

use super::consent::DocumentKind;
use super::suppression::Name;
use crate::model::{ErasureId, Error, HoldId, Result, SubjectId};

/// Something that has changed and that a restored backup must be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A document of the catalogue is new.
    Document(DocumentKind, String, u32),
    /// A consent event is new: whose, and its place in the chain.
    ConsentEvent(SubjectId, u64),
    /// A person's restriction, profiling or objection has changed.
    Subject(SubjectId),
    /// An erasure was scheduled or cancelled.
    Erasure(ErasureId),
    /// A name has come onto the suppression list, or off it.
    Suppression(Name),
    /// A caller was disabled, or enabled again.
    Caller(String),
    /// A legal hold was placed or released.
    Hold(HoldId),
}

impl Mark {
    /// The number that stores keep of the kind, and what names the row.
    #[must_use]
    pub fn key(&self) -> (i16, String) {
        match self {
            // Numbers are filled up, so that what comes first stands first, in any order of letters.
            Self::Document(kind, code, version) => (1, format!("{} {code} {version:010}", kind.name())),
            Self::Subject(id) => (2, id.to_string()),
            Self::ConsentEvent(subject, number) => (3, format!("{subject} {number:020}")),
            Self::Erasure(id) => (4, id.to_string()),
            Self::Suppression(name) => (5, HEXLOWER.encode(name)),
            Self::Caller(name) => (6, name.clone()),
            Self::Hold(id) => (7, id.to_string()),
        }
    }

    /// Reads what [`Mark::key`] wrote.
    ///
    /// # Errors
    /// `Internal` for what it did not write.
    pub fn of(kind: i16, key: &str) -> Result<Self> {
        let document = || {
            let mut parts = key.splitn(3, ' ');
            let kind = DocumentKind::from_name(parts.next()?)?;
            let code = parts.next()?.to_owned();
            Some(Self::Document(kind, code, parts.next()?.parse().ok()?))
        };
        let event = || {
            let (subject, number) = key.split_once(' ')?;
            Some(Self::ConsentEvent(subject.parse().ok()?, number.parse().ok()?))
        };
        let name = || HEXLOWER.decode(key.as_bytes()).ok()?.try_into().ok();
        match kind {
            1 => document().ok_or_else(|| super::inconsistent("journal_mark", "key")),
            2 => key.parse().map(Self::Subject).map_err(Error::internal),
            3 => event().ok_or_else(|| super::inconsistent("journal_mark", "key")),
            4 => key.parse().map(Self::Erasure).map_err(Error::internal),
            5 => name().map(Self::Suppression).ok_or_else(|| super::inconsistent("journal_mark", "key")),
            6 => Ok(Self::Caller(key.to_owned())),
            7 => key.parse().map(Self::Hold).map_err(Error::internal),
            _ => Err(super::inconsistent("journal_mark", "kind")),
        }
    }
}

/// A mark as it was found.
#[derive(Clone, Debug)]
pub struct Marked {
    /// What has changed.
    pub mark: Mark,
    /// How often, since the mark was made.
    pub changes: i64,
}

/// The operations on what is to go into the journal.
#[async_trait]
pub trait Journals {
    /// Marks what the transaction changes.
    async fn mark(&mut self, marks: &[Mark]) -> Result<()>;

    /// The first marks, documents before people and people before what they decided.
    async fn marks(&mut self, limit: u32) -> Result<Vec<Marked>>;

    /// Those of the marks that are there.
    async fn marked(&mut self, marks: &[Mark]) -> Result<Vec<Mark>>;

    /// How many marks there are.
    async fn count_marks(&mut self) -> Result<u64>;

    /// Removes marks, but for those that have changed since they were found.
    async fn unmark(&mut self, marks: &[Marked]) -> Result<()>;

    /// The stamp of the youngest entry of the journal that this database knows all of.
    async fn journal_upto(&mut self) -> Result<i64>;

    /// Moves that on from one stamp to another. `false`, and no change, when somebody else was faster.
    async fn advance_journal(&mut self, from: i64, to: i64) -> Result<bool>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back() {
        let marks = [
            Mark::Document(DocumentKind::Point, "shop:a/b-c".to_owned(), 12),
            Mark::ConsentEvent(SubjectId::from_bytes([1; 16]), 7),
            Mark::Subject(SubjectId::from_bytes([2; 16])),
            Mark::Erasure(ErasureId::from_bytes([3; 16])),
            Mark::Suppression([4; 32]),
            Mark::Caller("mailer, eu".to_owned()),
            Mark::Hold(HoldId::from_bytes([5; 16])),
        ];
        for mark in marks {
            let (kind, key) = mark.key();
            assert_eq!(Mark::of(kind, &key).unwrap(), mark);
        }
        assert!(Mark::of(8, "x").is_err() && Mark::of(5, "ab").is_err() && Mark::of(1, "purpose x y").is_err());
    }
}
