//! Values of a person: fifteen types, each with what it accepts and the form by which it is found again.
//!
//! A [`Value`] exists only if it is valid. It keeps what was given character for character, since that is what a
//! reveal must return, and beside it a normal form, which serves search and deduplication and is never shown.

mod json;
mod normal;
mod sealed;

use std::fmt;

use super::card::contains_card_data;
use super::{Error, Reason, Result};
use crate::crypto::SecretBytes;

pub(super) use json::Card;
pub use normal::Region;
pub(super) use normal::{country_code, email_parts};

/// Longest TEXT that can be searched for, in bytes.
const SEARCHABLE_TEXT: usize = 256;

/// What kind of value a field holds. The numbers are stored and are those of `lacuna.v1.FieldType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldType {
    /// Any text, up to 64 KiB. Found by its exact wording without outer white space, up to 256 bytes.
    Text = 1,
    /// A name as its bearer writes it, up to 256 bytes. Found whatever the case and spacing.
    PersonName = 2,
    /// An address of RFC 5321, up to 254 bytes. Found whatever the case.
    Email = 3,
    /// A telephone number, up to 64 bytes. Found by its E.164 form; one without a country code by its digits.
    Phone = 4,
    /// A postal address, up to 1 KiB. Found whatever the case and spacing.
    PostalAddress = 5,
    /// A day of birth, `YYYY-MM-DD`, from 1850 to 2200.
    DateOfBirth = 6,
    /// A number or code that a state gives to a person, up to 128 bytes. Found whatever the case and punctuation.
    NationalId = 7,
    /// An account number of ISO 13616 with right check digits, with or without spaces.
    Iban = 8,
    /// What of a payment card may be kept: holder, address, expiry, last four digits. See [`Value::parse`].
    PaymentCard = 9,
    /// An IPv4 or IPv6 address. Found in its canonical form (RFC 5952); IPv4-mapped ones as IPv4.
    IpAddress = 10,
    /// What tells a device apart (IMEI, MAC, advertising id), up to 256 bytes. Found whatever the case and punctuation.
    DeviceId = 11,
    /// A place: `latitude,longitude` in decimal degrees, or a `geo:` URI (RFC 5870). Not searchable.
    Location = 12,
    /// A finite decimal number that was computed about a person. Not searchable.
    Score = 13,
    /// A JSON text (RFC 8259), up to 64 KiB and 128 levels. Not searchable.
    Json = 14,
    /// Any bytes, up to 64 KiB. Not searchable, not scanned.
    Bytes = 15,
}

impl FieldType {
    /// Every type, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Text,
        Self::PersonName,
        Self::Email,
        Self::Phone,
        Self::PostalAddress,
        Self::DateOfBirth,
        Self::NationalId,
        Self::Iban,
        Self::PaymentCard,
        Self::IpAddress,
        Self::DeviceId,
        Self::Location,
        Self::Score,
        Self::Json,
        Self::Bytes,
    ];

    /// The number that stores keep, 1 to 15.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// Its name, as on the wire and in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::PersonName => "PERSON_NAME",
            Self::Email => "EMAIL",
            Self::Phone => "PHONE",
            Self::PostalAddress => "POSTAL_ADDRESS",
            Self::DateOfBirth => "DATE_OF_BIRTH",
            Self::NationalId => "NATIONAL_ID",
            Self::Iban => "IBAN",
            Self::PaymentCard => "PAYMENT_CARD",
            Self::IpAddress => "IP_ADDRESS",
            Self::DeviceId => "DEVICE_ID",
            Self::Location => "LOCATION",
            Self::Score => "SCORE",
            Self::Json => "JSON",
            Self::Bytes => "BYTES",
        }
    }

    /// The type with this number.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Whether a value is a way to reach one person, by which their objection to direct marketing is remembered. A postal
    /// address is none: whoever else lives there has not objected.
    #[must_use]
    pub const fn reaches_a_person(self) -> bool {
        matches!(self, Self::Email | Self::Phone | Self::DeviceId)
    }

    /// The most bytes a value may have.
    #[must_use]
    pub const fn limit(self) -> usize {
        match self {
            Self::Text | Self::Json | Self::Bytes => 64 * 1024,
            Self::PostalAddress | Self::PaymentCard => 1024,
            Self::PersonName | Self::DeviceId | Self::Location => 256,
            Self::Email => 254,
            Self::NationalId => 128,
            Self::Phone | Self::DateOfBirth | Self::Iban | Self::IpAddress | Self::Score => 64,
        }
    }

    /// What a value must look like, to end the sentence "expected …".
    const fn expectation(self) -> &'static str {
        match self {
            Self::Text => "UTF-8 text without control characters",
            Self::PersonName => "a name in letters, without control characters",
            Self::Email => "an e-mail address, such as name@example.com",
            Self::Phone => "a telephone number, best with its country code, such as +49 30 1234567",
            Self::PostalAddress => "a postal address, without control characters",
            Self::DateOfBirth => "a day from 1850 to 2200 as YYYY-MM-DD",
            Self::NationalId => "an identification number in letters and digits",
            Self::Iban => "an IBAN with right check digits",
            Self::PaymentCard => json::CARD_EXPECTED,
            Self::IpAddress => "an IPv4 or IPv6 address, without port or network",
            Self::DeviceId => "a device identifier in letters and digits",
            Self::Location => "latitude,longitude in decimal degrees, or a geo: URI",
            Self::Score => "a finite decimal number",
            Self::Json => "JSON of at most 128 levels",
            Self::Bytes => "bytes, not text",
        }
    }

    /// Whether digits that pass for a card number are fine once the type's own rules accept the value.
    const fn vouches_for_digits(self) -> bool {
        matches!(
            self,
            Self::Phone | Self::Iban | Self::DateOfBirth | Self::IpAddress | Self::Location | Self::Score | Self::Bytes
        )
    }

    /// Whether lines and tabs may stand in a value.
    const fn has_lines(self) -> bool {
        matches!(self, Self::Text | Self::PostalAddress | Self::Json | Self::PaymentCard)
    }
}

/// A value as it travels: text for every type but BYTES.
pub enum Content {
    /// Text in UTF-8.
    Text(SecretBytes),
    /// Bytes of any meaning.
    Bytes(SecretBytes),
}

impl Content {
    /// The bytes themselves, whichever they are.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        match self {
            Self::Text(content) | Self::Bytes(content) => content.expose(),
        }
    }

    fn into_secret(self) -> SecretBytes {
        match self {
            Self::Text(content) | Self::Bytes(content) => content,
        }
    }
}

/// A valid value of a person, as given and in its normal form.
pub struct Value {
    kind: FieldType,
    raw: SecretBytes,
    /// `None` when there is none, or it is the same as `raw`.
    normal: Option<SecretBytes>,
}

/// Says the type and nothing of the value.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({:?})", self.kind)
    }
}

impl Value {
    /// Takes a value in, or refuses it with `VALUE_INVALID`, `VALUE_TOO_LARGE` or `CARD_DATA` at field `value`.
    ///
    /// A payment card number is refused wherever it stands, except in BYTES, which are not read, and in types whose
    /// own rules accept the digits (an international phone number, an IBAN). `PAYMENT_CARD` takes a JSON object with
    /// the keys `holder` and `address` (both optional), `expiry` (`MM/YY` or `YYYY-MM`) and `last_four`; no other.
    pub fn parse(kind: FieldType, content: Content) -> Result<Self> {
        let is_bytes = matches!(content, Content::Bytes(_));
        let raw = content.into_secret();
        check_size(kind, raw.len())?;
        if is_bytes != (kind == FieldType::Bytes) {
            return Err(invalid(kind));
        }
        if kind == FieldType::Bytes {
            return Ok(Self { kind, raw, normal: None });
        }
        let normal = {
            let text = std::str::from_utf8(raw.expose()).map_err(|_| invalid(kind))?;
            normalise(kind, text)?
        };
        let normal = normal.map(SecretBytes::from).filter(|normal| normal.expose() != raw.expose());
        Ok(Self { kind, raw, normal })
    }

    /// The type.
    #[must_use]
    pub const fn kind(&self) -> FieldType {
        self.kind
    }

    /// What was given, byte for byte.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        self.raw.expose()
    }

    /// What was given, as text; empty for BYTES.
    #[must_use]
    pub fn text(&self) -> &str {
        match self.kind {
            FieldType::Bytes => "",
            _ => std::str::from_utf8(self.raw()).unwrap_or_default(),
        }
    }

    /// The form by which equal values are found; `None` when values like this one cannot be searched for.
    #[must_use]
    pub fn normal(&self) -> Option<&[u8]> {
        self.searchable().then(|| self.normal.as_ref().map_or(self.raw(), SecretBytes::expose))
    }

    /// The normal form as text; what was given where there is none.
    pub(super) fn normal_text(&self) -> &str {
        self.normal().map_or(self.text(), |normal| std::str::from_utf8(normal).unwrap_or_default())
    }

    /// Whether the value can be searched for: all but JSON, BYTES, LOCATION, SCORE, and TEXT of more than 256 bytes.
    #[must_use]
    pub fn searchable(&self) -> bool {
        match self.kind {
            FieldType::Json | FieldType::Bytes | FieldType::Location | FieldType::Score => false,
            FieldType::Text => self.raw.len() <= SEARCHABLE_TEXT,
            _ => true,
        }
    }

    /// Gives away what was given, to be revealed.
    #[must_use]
    pub fn into_content(self) -> Content {
        match self.kind {
            FieldType::Bytes => Content::Bytes(self.raw),
            _ => Content::Text(self.raw),
        }
    }
}

/// Loads what the first telephone number would otherwise wait for (a few milliseconds, some megabytes).
pub fn warm_up() {
    std::sync::LazyLock::force(&normal::WARM);
}

/// The normal form, if the type has one that may differ from the text; refuses what the type does not accept.
fn normalise(kind: FieldType, text: &str) -> Result<Option<String>> {
    let accepted = if is_clean(kind, text) { normal::of(kind, text) } else { Err(normal::Refusal::Shape) };
    let card = match (&accepted, kind) {
        (Err(normal::Refusal::Card), _) => true,
        (Ok(_), _) if kind.vouches_for_digits() => false,
        _ => contains_card_data(text),
    };
    if card {
        return Err(card_data(kind));
    }
    accepted.map_err(|_| invalid(kind))
}

/// Whether there is something to see, and no control character that the type has no use for.
fn is_clean(kind: FieldType, text: &str) -> bool {
    let line = |c: char| kind.has_lines() && matches!(c, '\n' | '\r' | '\t');
    !text.trim().is_empty() && text.chars().all(|c| !c.is_control() || line(c))
}

fn check_size(kind: FieldType, size: usize) -> Result<()> {
    match size {
        0 => Err(Error::invalid("value", "is empty")),
        _ if size > kind.limit() => {
            let message = format!("is longer than the {} bytes that a value of its type may have", kind.limit());
            Err(Error::new(Reason::ValueTooLarge, message).at("value").with("maximum", kind.limit()))
        }
        _ => Ok(()),
    }
}

fn invalid(kind: FieldType) -> Error {
    Error::invalid("value", format!("expected {}", kind.expectation()))
}

fn card_data(kind: FieldType) -> Error {
    let message = match kind {
        FieldType::PaymentCard => {
            "holds a card number or security code; keep only holder, address, expiry and last_four"
        }
        _ => "holds what reads as payment card data; the vault keeps none, only the last four digits (PAYMENT_CARD)",
    };
    Error::new(Reason::CardData, message).at("value")
}

#[cfg(test)]
mod tests;
