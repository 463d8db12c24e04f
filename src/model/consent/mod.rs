//! Purposes, notices and consent (Art. 6, 7, 8 and 21 GDPR; ISO/IEC TS 27560 by way of the W3C Data Privacy Vocabulary).
//!
//! What is defined is versioned, what is recorded is appended: [`Purpose`], [`Notice`] and [`CollectionPoint`] are
//! documents of the catalogue, [`ConsentEvent`] is an entry of a person's ledger, and [`Standing`] is what the entries
//! come to. Nothing here is personal data, so that it can stay when the person is erased.

mod age;
mod event;
mod notice;
mod point;
mod purpose;
mod standing;

pub use age::comes_of_age;
pub use event::{Actor, ConsentEvent, EventKind, Evidence, Method};
pub(crate) use event::{maybe_moment, moment, text as id_text};
pub use notice::{Controller, Notice, NoticeText};
pub use point::{CollectionPoint, PointKind};
pub(super) use purpose::check_words;
pub use purpose::{Basis, Change, Channel, Mode, Purpose, PurposeState};
pub use standing::{Consent, ConsentState, Objection, Standing};

/// Serde of byte strings as lower-case hex.
pub(crate) mod hex {
    use data_encoding::HEXLOWER;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(D::Error::custom)?;
        bytes.try_into().map_err(|_| D::Error::custom("expected 32 bytes"))
    }
}

/// The same of one that may be absent.
pub(crate) mod maybe_hex {
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Hex(#[serde(with = "super::hex")] [u8; 32]);

    #[expect(clippy::ref_option, reason = "the shape that serde asks for")]
    pub fn serialize<S: Serializer>(bytes: &Option<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => super::hex::serialize(bytes, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 32]>, D::Error> {
        Ok(Option::<Hex>::deserialize(deserializer)?.map(|hex| hex.0))
    }
}
