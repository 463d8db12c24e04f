//! JSON values and the JSON object of a payment card, read without building a tree of copies.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Value;
use super::normal::{Refusal, folded};
use crate::crypto::SecretBytes;
use crate::model::card::{contains_card_data, is_security_code, names_security_code};

/// What a `PAYMENT_CARD` must look like.
pub(super) const CARD_EXPECTED: &str = "a JSON object with only the keys holder, address, expiry (\"MM/YY\" or \"YYYY-MM\") \
                                        and last_four (4 digits); holder and address are optional";

/// Keys under which a card number, its security code or its PIN travels.
const FORBIDDEN: [&str; 16] = [
    "cardnumber",
    "cavv",
    "ccnumber",
    "cid",
    "csc",
    "cvc",
    "cvc2",
    "cvv",
    "cvv2",
    "number",
    "pan",
    "pin",
    "pinblock",
    "securitycode",
    "track1",
    "track2",
];

/// Reads a JSON text to its end; refuses card data in strings and keys (whose escapes are undone) and in numbers, and members that are
/// named like a security code and could be one.
pub(super) fn scan(text: &str) -> Result<(), Refusal> {
    match serde_json::from_str::<Scan>(text) {
        Ok(Scan { card: true, .. }) => Err(Refusal::Card),
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::Shape),
    }
}

/// What was met on the way through a JSON text.
#[derive(Default)]
struct Scan {
    card: bool,
    /// A text that names a security code, and one that could be such a code.
    names_code: bool,
    is_code: bool,
}

impl<'de> Deserialize<'de> for Scan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Scan;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Scan, E> {
        Ok(Scan::default())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Scan, E> {
        self.visit_unit()
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scan, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scan, E> {
        self.visit_u64(number.unsigned_abs())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scan, E> {
        if number.fract() == 0.0 { self.visit_str(&format!("{:.0}", number.abs())) } else { self.visit_unit() }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scan, E> {
        Ok(Scan {
            card: contains_card_data(text),
            names_code: names_security_code(text),
            is_code: is_security_code(text),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scan, A::Error> {
        let mut card = false;
        while let Some(item) = items.next_element::<Scan>()? {
            card |= item.card;
        }
        Ok(Scan { card, ..Scan::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Scan, A::Error> {
        let mut card = false;
        while let Some((key, value)) = entries.next_entry::<Scan, Scan>()? {
            card |= key.card || value.card || (key.names_code && value.is_code);
        }
        Ok(Scan { card, ..Scan::default() })
    }
}

/// What of a payment card may be kept. Each part is wiped when dropped.
#[derive(Default)]
pub(in crate::model) struct Card {
    holder: Option<SecretBytes>,
    address: Option<SecretBytes>,
    expiry: Option<SecretBytes>,
    last_four: Option<SecretBytes>,
}

impl Card {
    /// The card in a value that was accepted; `None` for anything else.
    pub(in crate::model) fn of(value: &Value) -> Option<Self> {
        Self::read(value.text()).ok()
    }

    /// Reads the object; refuses any other key, and those that name a secret of the card as card data.
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        scan(text)?;
        let parts = serde_json::from_str::<Parts>(text).map_err(|_| Refusal::Shape)?;
        let mut card = Self::default();
        for (key, value) in parts.0 {
            card.put(&key, value)?;
        }
        if card.expiry.is_none() || card.last_four.is_none() {
            return Err(Refusal::Shape);
        }
        Ok(card)
    }

    fn put(&mut self, key: &str, value: Option<SecretBytes>) -> Result<(), Refusal> {
        let plain: String = key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        if FORBIDDEN.contains(&plain.as_str()) {
            return Err(Refusal::Card);
        }
        let value = value.ok_or(Refusal::Shape)?;
        let text = part(Some(&value));
        let clean = !text.trim().is_empty() && text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'));
        let (place, fits) = match key {
            "holder" => (&mut self.holder, clean),
            "address" => (&mut self.address, clean),
            "expiry" => (&mut self.expiry, month(text).is_some()),
            "last_four" => (&mut self.last_four, text.len() == 4 && text.bytes().all(|c| c.is_ascii_digit())),
            _ => return Err(Refusal::Shape),
        };
        if !fits || place.is_some() {
            return Err(Refusal::Shape);
        }
        *place = Some(value);
        Ok(())
    }

    /// One spelling of each card: keys in order, case and spacing folded, expiry as `YYYY-MM`.
    pub(super) fn normal(&self) -> String {
        serde_json::json!({
            "holder": folded(self.holder()),
            "address": folded(part(self.address.as_ref())),
            "expiry": month(part(self.expiry.as_ref())).unwrap_or_default(),
            "last_four": self.last_four(),
        })
        .to_string()
    }

    /// The holder's name; empty if there is none.
    pub(in crate::model) fn holder(&self) -> &str {
        part(self.holder.as_ref())
    }

    /// The last four digits.
    pub(in crate::model) fn last_four(&self) -> &str {
        part(self.last_four.as_ref())
    }
}

fn part(part: Option<&SecretBytes>) -> &str {
    part.and_then(|part| std::str::from_utf8(part.expose()).ok()).unwrap_or_default()
}

/// `MM/YY` or `YYYY-MM` of this century, as `YYYY-MM`.
fn month(text: &str) -> Option<String> {
    let (year, month) = match (text.len(), text.split_once('/'), text.split_once('-')) {
        (5, Some((month, year)), _) => (format!("20{year}"), month),
        (7, _, Some((year, month))) => (year.to_owned(), month),
        _ => return None,
    };
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|c| c.is_ascii_digit());
    let real = month.parse().is_ok_and(|month: u8| (1..=12).contains(&month));
    (digits(&year, 4) && digits(month, 2) && year.starts_with("20") && real).then(|| format!("{year}-{month}"))
}

/// The entries of an object in their order, repeated keys included; `None` for a value that is not a string.
struct Parts(Vec<(String, Option<SecretBytes>)>);

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PartsVisitor)
    }
}

struct PartsVisitor;

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Parts, A::Error> {
        let mut parts = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, serde_json::Value>()? {
            let value = match value {
                serde_json::Value::String(text) => Some(SecretBytes::from(text)),
                _ => None,
            };
            parts.push((key, value));
        }
        Ok(Parts(parts))
    }
}
