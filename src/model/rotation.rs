//! Rotations of keys, and what happened to the keys.

use super::{Error, KeyEventId, Result, RotationId, SubjectId, Time};

/// Which key is rotated. The numbers are stored, and are those of `lacuna.v1.RotationKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RotationKind {
    /// The root key of the tree.
    Root = 1,
    /// The keys of one subject.
    SubjectKey = 2,
    /// The key of the search index.
    IndexKey = 3,
    /// The key that wraps the root slot.
    Kek = 4,
    /// The key that signs receipts.
    SigningKey = 5,
}

impl RotationKind {
    /// The number that stores keep.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        Some(match number {
            1 => Self::Root,
            2 => Self::SubjectKey,
            3 => Self::IndexKey,
            4 => Self::Kek,
            5 => Self::SigningKey,
            _ => return None,
        })
    }

    /// The key, in words.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Root => "root key",
            Self::SubjectKey => "subject key",
            Self::IndexKey => "index key",
            Self::Kek => "key-encrypting key",
            Self::SigningKey => "signing key",
        }
    }
}

/// Where a rotation stands. The numbers are stored, and are those of `lacuna.v1.RotationState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RotationState {
    /// Under way, or waiting for what `detail` says. It is taken up again after a crash.
    Running = 1,
    /// The new key is in use and the old one is destroyed.
    Done = 2,
    /// Given up; `detail` says why. The old key stays in use where it was.
    Failed = 3,
}

impl RotationState {
    /// The number that stores keep.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The state with this number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        Some(match number {
            1 => Self::Running,
            2 => Self::Done,
            3 => Self::Failed,
            _ => return None,
        })
    }
}

/// The rotation of a key, from the request to the end of the old key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Its name.
    pub id: RotationId,
    /// Which key.
    pub kind: RotationKind,
    /// Whose key, when it is a subject's.
    pub subject: Option<SubjectId>,
    /// The caller who asked for it.
    pub requested_by: String,
    /// When it was asked for.
    pub created_at: Time,
    /// Where it stands.
    pub state: RotationState,
    /// How much of the total is done.
    pub done: u64,
    /// How much there is to do; grows if more comes while it runs.
    pub total: u64,
    /// What the next step has to know, as JSON. Also tells a second worker that the first has been here.
    pub step: String,
    /// What it waits for, or what came of it: ids and counts in words.
    pub detail: String,
    /// When it last changed.
    pub updated_at: Time,
    /// When it ended.
    pub finished_at: Option<Time>,
}

impl Rotation {
    /// A rotation that begins now.
    #[must_use]
    pub fn begin(id: RotationId, kind: RotationKind, subject: Option<SubjectId>, by: &str, now: Time) -> Self {
        Self {
            id,
            kind,
            subject,
            requested_by: by.to_owned(),
            created_at: now,
            state: RotationState::Running,
            done: 0,
            total: 0,
            step: String::new(),
            detail: String::new(),
            updated_at: now,
            finished_at: None,
        }
    }

    /// Moves on to `step`, with so much more done.
    pub fn advance(&mut self, step: String, done: u64, now: Time) -> Result<()> {
        self.check_running()?;
        self.step = step;
        self.done += done;
        self.total = self.total.max(self.done);
        self.detail.clear();
        self.updated_at = now;
        Ok(())
    }

    /// Notes what holds it up.
    pub fn hold_up(&mut self, why: String, now: Time) -> Result<()> {
        self.check_running()?;
        self.detail = why;
        self.updated_at = now;
        Ok(())
    }

    /// Ends it.
    pub fn finish(&mut self, state: RotationState, detail: String, now: Time) -> Result<()> {
        self.check_running()?;
        self.state = state;
        self.detail = detail;
        if state == RotationState::Done {
            self.done = self.total;
        }
        (self.updated_at, self.finished_at) = (now, Some(now));
        Ok(())
    }

    fn check_running(&self) -> Result<()> {
        if self.state == RotationState::Running {
            return Ok(());
        }
        Err(Error::internal("a rotation that has ended was to be changed"))
    }
}

/// What a subject's key may be used for. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// New values are sealed under it.
    Active = 1,
    /// Its values are on their way to another key.
    Retiring = 2,
    /// No value is under it; it is destroyed, or condemned.
    Retired = 3,
}

impl KeyState {
    /// The number that stores keep.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The state with this number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        Some(match number {
            1 => Self::Active,
            2 => Self::Retiring,
            3 => Self::Retired,
            _ => return None,
        })
    }
}

/// What kind of thing happened to the keys. The numbers are stored, and are those of `lacuna.v1.KeyEventKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyEventKind {
    /// A rotation was asked for.
    RotationBegun = 1,
    /// A rotation is complete.
    RotationDone = 2,
    /// A rotation was given up.
    RotationFailed = 3,
    /// The root slot stands at a new root.
    EpochAdvanced = 4,
    /// A node has begun to use the keys.
    NodeJoined = 5,
    /// A node has stopped, or its lease has run out.
    NodeLeft = 6,
    /// The root slot is wrapped by another key.
    KekChanged = 7,
    /// Receipts are signed by another key.
    SigningKeyChanged = 8,
}

impl KeyEventKind {
    /// The number that stores keep.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        Some(match number {
            1 => Self::RotationBegun,
            2 => Self::RotationDone,
            3 => Self::RotationFailed,
            4 => Self::EpochAdvanced,
            5 => Self::NodeJoined,
            6 => Self::NodeLeft,
            7 => Self::KekChanged,
            8 => Self::SigningKeyChanged,
            _ => return None,
        })
    }
}

/// Something that happened to the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// Its name.
    pub id: KeyEventId,
    /// When.
    pub at: Time,
    /// The caller or the node.
    pub actor: String,
    /// What.
    pub kind: KeyEventKind,
    /// Ids, counts and epochs in words, never a value.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for number in 0..12 {
            assert!(RotationKind::from_number(number).is_none_or(|kind| kind.number() == number));
            assert!(RotationState::from_number(number).is_none_or(|state| state.number() == number));
            assert!(KeyState::from_number(number).is_none_or(|state| state.number() == number));
            assert!(KeyEventKind::from_number(number).is_none_or(|kind| kind.number() == number));
        }
    }

    #[test]
    fn what_has_ended_does_not_change_any_more() {
        let at = Time::from_micros(5);
        let mut rotation = Rotation::begin(RotationId::from_bytes([1; 16]), RotationKind::Root, None, "ann", at);
        rotation.advance("1".to_owned(), 3, at).unwrap();
        assert_eq!((rotation.done, rotation.total), (3, 3));
        rotation.finish(RotationState::Done, "epoch 2".to_owned(), at).unwrap();
        assert!(rotation.advance(String::new(), 1, at).is_err());
        assert!(rotation.hold_up(String::new(), at).is_err());
        assert!(rotation.finish(RotationState::Failed, String::new(), at).is_err());
    }
}
