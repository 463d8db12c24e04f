//! Names for things: sixteen bytes each, typed, and told apart by a prefix wherever a person can see them.
//!
//! In text an id is its prefix and 26 characters of base32 (RFC 4648 section 6, lower case, no padding). There is one
//! spelling of each id: anything else is refused, so ids can be compared, logged and indexed as text.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;

use super::{Error, Result, Time};
use crate::crypto::Random;
use crate::crypto::derive::sha256;

/// Characters of base32 that sixteen bytes take.
const TEXT: usize = 26;

/// Writes the one spelling of an id.
fn write_text(f: &mut fmt::Formatter<'_>, prefix: &str, bytes: [u8; 16]) -> fmt::Result {
    let mut text = [0; TEXT];
    BASE32_NOPAD.encode_mut(&bytes, &mut text);
    text.make_ascii_lowercase();
    f.write_str(prefix)?;
    text.iter().try_for_each(|&letter| fmt::Write::write_char(f, char::from(letter)))
}

/// Reads the one spelling of an id; `None` for anything else.
fn read_text(prefix: &str, text: &str) -> Option<[u8; 16]> {
    let mut letters: [u8; TEXT] = text.strip_prefix(prefix)?.as_bytes().try_into().ok()?;
    if letters.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    letters.make_ascii_uppercase();
    BASE32_NOPAD.decode(&letters).ok()?.try_into().ok()
}

/// Sixteen bytes that sort by time: 48 bits of milliseconds and 74 bits of chance (`UUIDv7`, RFC 9562 section 5.7).
fn time_ordered(now: Time, random: &dyn Random) -> [u8; 16] {
    let mut chance = [0; 10];
    random.fill(&mut chance);
    let millis = u64::try_from(now.micros() / 1000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &chance).into_uuid().into_bytes()
}

/// The bytes of a typed id and the ways in and out of them.
macro_rules! sixteen_bytes {
    ($name:ident) => {
        impl $name {
            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The id with these bytes; `None` unless there are sixteen.
            #[must_use]
            pub fn from_slice(slice: &[u8]) -> Option<Self> {
                slice.try_into().ok().map(Self)
            }

            /// The sixteen bytes, as a store keeps them.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }
    };
}

/// Ids that are made from the time, so that a store appends instead of scattering.
macro_rules! time_ordered {
    ($name:ident) => {
        impl $name {
            /// A fresh id: ids of a later millisecond sort after it.
            pub fn new(now: Time, random: &dyn Random) -> Self {
                Self(time_ordered(now, random))
            }
        }
    };
}

/// Ids that callers see.
macro_rules! shown {
    ($name:ident, $prefix:literal, $field:literal) => {
        impl $name {
            /// What the text of every such id begins with.
            pub const PREFIX: &str = $prefix;

            /// Reads an id in its one spelling. The refusal tells what was expected, never what was given.
            pub fn parse(text: &str) -> Result<Self> {
                read_text(Self::PREFIX, text).map(Self).ok_or_else(|| {
                    Error::invalid(
                        $field,
                        concat!(
                            "expected \"",
                            $prefix,
                            "\" followed by 26 characters of a-z and 2-7, as the vault gave it"
                        ),
                    )
                })
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_text(f, Self::PREFIX, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// One person, as long as the vault remembers that there was one: `sub_…`. It outlives the erasure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectId([u8; 16]);
sixteen_bytes!(SubjectId);
time_ordered!(SubjectId);
shown!(SubjectId, "sub_", "subject");

/// One entry of a person's ledger of consent: `cev_…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsentEventId([u8; 16]);
sixteen_bytes!(ConsentEventId);
time_ordered!(ConsentEventId);
shown!(ConsentEventId, "cev_", "consent_event");

impl ConsentEventId {
    /// What sorts before every id of this moment and after.
    #[must_use]
    pub fn floor(time: Time) -> Self {
        let millis = u64::try_from(time.micros() / 1000).unwrap_or(0);
        Self((u128::from(millis) << 80).to_be_bytes())
    }
}

/// One receipt of consents: `rcp_…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiptId([u8; 16]);
sixteen_bytes!(ReceiptId);
time_ordered!(ReceiptId);
shown!(ReceiptId, "rcp_", "receipt");

/// One erasure, from the request to the receipt: `ers_…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErasureId([u8; 16]);
sixteen_bytes!(ErasureId);
time_ordered!(ErasureId);
shown!(ErasureId, "ers_", "erasure");

/// One event that systems which keep copies are told of: `evt_…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; 16]);
sixteen_bytes!(EventId);
time_ordered!(EventId);
shown!(EventId, "evt_", "event");

/// One call of a contact centre, of one or more legs: `call_…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId([u8; 16]);
sixteen_bytes!(CallId);
time_ordered!(CallId);
shown!(CallId, "call_", "call");

/// One request for approval: `apr_…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApprovalId([u8; 16]);
sixteen_bytes!(ApprovalId);
time_ordered!(ApprovalId);
shown!(ApprovalId, "apr_", "approval");

/// One run that destroys what was kept long enough: `rtn_…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetentionRunId([u8; 16]);
sixteen_bytes!(RetentionRunId);
time_ordered!(RetentionRunId);
shown!(RetentionRunId, "rtn_", "retention_run");

/// One legal hold: `hold_…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId([u8; 16]);
sixteen_bytes!(HoldId);
time_ordered!(HoldId);
shown!(HoldId, "hold_", "hold");

/// One part of a call, such as a recording: `prt_…`. A file that is sealed under the part's key carries it in clear, so that
/// the right key can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId([u8; 16]);
sixteen_bytes!(PartId);
time_ordered!(PartId);
shown!(PartId, "prt_", "part");

impl PartId {
    /// The name of a part that comes with a leg of a call: the same each time that this revision of the leg is told.
    #[must_use]
    pub fn told(system: &str, source_id: &str, revision: u64, number: usize) -> Self {
        let (revision, number) = (revision.to_be_bytes(), (number as u64).to_be_bytes());
        let digest = sha256(&[
            b"lacuna call part",
            &[0],
            system.as_bytes(),
            &[0],
            source_id.as_bytes(),
            &[0],
            &revision,
            &number,
        ]);
        let mut id = [0; 16];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(id)
    }
}

/// One rotation of a key: `rot_…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RotationId([u8; 16]);
sixteen_bytes!(RotationId);
time_ordered!(RotationId);
shown!(RotationId, "rot_", "rotation");

/// One entry in the log of what happened to the keys: `kev_…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyEventId([u8; 16]);
sixteen_bytes!(KeyEventId);
time_ordered!(KeyEventId);
shown!(KeyEventId, "kev_", "key_event");

/// An opaque token as a caller holds it: `tok_…`. Its bytes look like chance and tell neither the value nor the time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpaqueToken([u8; 16]);
sixteen_bytes!(OpaqueToken);
shown!(OpaqueToken, "tok_", "token");

/// The row of a token in the store. It tells when the token was made, so it has no text form and stays inside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenRow([u8; 16]);
sixteen_bytes!(TokenRow);
time_ordered!(TokenRow);

/// Says that it is a row, and not which: rows carry their time of birth.
impl fmt::Debug for TokenRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenRow")
    }
}

/// The id a caller gives to a write so that asking twice does it once: any UUID of RFC 9562, in any of its spellings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId([u8; 16]);
sixteen_bytes!(RequestId);

impl RequestId {
    /// Reads a UUID. An absent id is the caller's of this function to notice: empty text is refused here.
    pub fn parse(text: &str) -> Result<Self> {
        uuid::Uuid::try_parse(text)
            .map(|id| Self(id.into_bytes()))
            .map_err(|_| Error::invalid("request_id", "expected a UUID, such as uuidgen prints"))
    }
}

impl FromStr for RequestId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// The hyphenated spelling in lower case.
impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&uuid::Uuid::from_bytes(self.0), f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::SystemRandom;

    #[test]
    fn ids_of_a_later_millisecond_sort_later() {
        let random = SystemRandom::new();
        let early = SubjectId::new(Time::from_micros(1_000_000), &random);
        let late = SubjectId::new(Time::from_micros(1_001_000), &random);
        assert!(early < late);
        assert_eq!(early.as_bytes()[6] >> 4, 7, "the version of RFC 9562");
        assert_ne!(late, SubjectId::new(Time::from_micros(1_001_000), &random));
    }

    #[test]
    fn a_time_before_the_epoch_still_makes_an_id() {
        let id = TokenRow::new(Time::from_micros(-5), &SystemRandom::new());
        assert_eq!(id.as_bytes()[..6], [0; 6]);
        assert_eq!(format!("{id:?}"), "TokenRow");
    }

    #[test]
    fn only_the_one_spelling_is_read() {
        let text = OpaqueToken::from_bytes([7; 16]).to_string();
        assert_eq!(text.len(), 30);
        let wrong = [
            String::new(),
            text.to_uppercase(),
            text.replace("tok_", "sub_"),
            text.replace("tok_", ""),
            format!("{text}a"),
            format!(" {text}"),
            text[..29].to_owned(),
            format!("{}b", &text[..29]),
            format!("{}\u{e9}", &text[..28]),
        ];
        for wrong in wrong {
            let error = OpaqueToken::parse(&wrong).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("token"));
            assert!(error.message.contains("tok_"));
            assert!(wrong.len() < 5 || !format!("{error:?}").contains(&wrong));
        }
    }

    #[test]
    fn request_ids_are_uuids_in_any_spelling() {
        let id = RequestId::parse("67E55044-10B1-426F-9247-BB680E5FE0C8").unwrap();
        assert_eq!(id, "67e5504410b1426f9247bb680e5fe0c8".parse().unwrap());
        assert_eq!(id.to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
        assert!(RequestId::parse("").is_err());
        assert!(RequestId::parse("67e55044-10b1-426f-9247").is_err());
    }

    proptest! {
        #[test]
        fn text_and_bytes_are_the_same_id(bytes: [u8; 16]) {
            let id = SubjectId::from_bytes(bytes);
            prop_assert_eq!(SubjectId::parse(&id.to_string()).unwrap(), id);
            prop_assert_eq!(SubjectId::from_slice(id.as_bytes()), Some(id));
            prop_assert!(ErasureId::parse(&id.to_string()).is_err());
        }
    }
}
