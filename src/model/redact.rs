//! How much of a value a reveal shows.
//!
//! Masks have one width, whatever they hide, so that a mask tells no length. What has no part that could be shown
//! without telling too much (free text, JSON, bytes, places, scores) is either shown or not.

use std::net::IpAddr;

use super::field::{Card, country_code, email_parts};
use super::{Content, FieldType, Value};

/// Stands for what is not shown; three characters wide for three or three hundred.
const MASK: &str = "\u{2022}\u{2022}\u{2022}";

/// Stands for a whole value.
const REDACTED: &str = "[redacted]";

/// How much is shown, from all to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Redaction {
    /// What was given, character for character.
    PlainText,
    /// Enough for somebody who knows the value to recognise it.
    Masked,
    /// The last four letters or digits, to compare with what a person reads out; of a short value at most half.
    LastFour,
    /// Nothing, not even how long it is.
    Redacted,
}

impl Redaction {
    /// Every redaction, the weakest first.
    pub const ALL: [Self; 4] = [Self::PlainText, Self::Masked, Self::LastFour, Self::Redacted];

    /// Its name, as on the wire and in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlainText => "PLAIN_TEXT",
            Self::Masked => "MASKED",
            Self::LastFour => "LAST_FOUR",
            Self::Redacted => "REDACTED",
        }
    }

    /// The one by a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|redaction| redaction.name() == name)
    }
}

/// What a reveal shows of `value`: text for every type, but bytes for BYTES.
#[must_use]
pub fn redact(value: &Value, redaction: Redaction) -> Content {
    let shown = match redaction {
        Redaction::PlainText => return plain(value),
        Redaction::Masked => masked(value),
        Redaction::LastFour => last_four(value),
        Redaction::Redacted => None,
    };
    let shown = shown.unwrap_or_else(|| REDACTED.to_owned()).into();
    if value.kind() == FieldType::Bytes { Content::Bytes(shown) } else { Content::Text(shown) }
}

fn plain(value: &Value) -> Content {
    let copy = crate::crypto::SecretBytes::new(value.raw().to_vec());
    if value.kind() == FieldType::Bytes { Content::Bytes(copy) } else { Content::Text(copy) }
}

/// The masked form; `None` for types of which no part can be shown.
fn masked(value: &Value) -> Option<String> {
    Some(match value.kind() {
        FieldType::PersonName => initials(value.text()),
        FieldType::Email => email(value.text()),
        FieldType::Phone => phone(value.normal_text()),
        FieldType::DateOfBirth => format!("{}-\u{2022}\u{2022}-\u{2022}\u{2022}", value.text().trim().get(..4)?),
        FieldType::NationalId | FieldType::DeviceId => format!("{MASK}{}", tail(value.normal_text(), 2)),
        FieldType::Iban => {
            let account = value.normal_text();
            format!("{}{MASK}{}", account.get(..2)?, tail(account, 4))
        }
        FieldType::PaymentCard => card(value)?,
        FieldType::IpAddress => network(value.normal_text())?,
        FieldType::PostalAddress
        | FieldType::Text
        | FieldType::Json
        | FieldType::Bytes
        | FieldType::Location
        | FieldType::Score => return None,
    })
}

/// The last four letters or digits; `None` for types that are shown whole or not at all.
fn last_four(value: &Value) -> Option<String> {
    match value.kind() {
        FieldType::Text | FieldType::Json | FieldType::Bytes | FieldType::Location | FieldType::Score => None,
        FieldType::PaymentCard => Card::of(value).map(|card| format!("{MASK}{}", card.last_four())),
        // The end of the domain says nothing about anybody.
        FieldType::Email => Some(format!("{MASK}{}", tail(email_parts(value.text()).0, 4))),
        _ => Some(format!("{MASK}{}", tail(value.text(), 4))),
    }
}

/// The last `count` letters and digits, but never more than half of all.
fn tail(text: &str, count: usize) -> String {
    let known = |c: &char| c.is_alphanumeric();
    let all = text.chars().filter(known).count();
    text.chars().filter(known).skip(all - count.min(all / 2)).collect()
}

/// `D••• H•••`: the first letter of up to three words, none of a word of one letter.
fn initials(name: &str) -> String {
    name.split_whitespace().take(3).map(initial).collect::<Vec<_>>().join(" ")
}

fn initial(word: &str) -> String {
    let first = word.chars().next().filter(|_| word.chars().nth(1).is_some());
    first.into_iter().collect::<String>() + MASK
}

/// `a•••@e•••.com`.
fn email(text: &str) -> String {
    let (local, domain) = email_parts(text);
    let (host, top) = domain.rsplit_once('.').unwrap_or((domain, ""));
    format!("{}@{}.{top}", initial(local), initial(host))
}

/// `+49•••43`, or `•••43` without a country code.
fn phone(normal: &str) -> String {
    let code = country_code(normal).map(|code| format!("+{code}")).filter(|code| normal.starts_with(code.as_str()));
    format!("{}{MASK}{}", code.unwrap_or_default(), tail(normal, 2))
}

/// `203.0.•.•`, or `2001:db8:•`.
fn network(normal: &str) -> Option<String> {
    Some(match normal.parse().ok()? {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            format!("{first}.{second}.\u{2022}.\u{2022}")
        }
        IpAddr::V6(ip) => {
            let [first, second, ..] = ip.segments();
            format!("{first:x}:{second:x}:\u{2022}")
        }
    })
}

/// The object with its keys, of which only the last four digits are shown.
fn card(value: &Value) -> Option<String> {
    let card = Card::of(value)?;
    let expiry = "\u{2022}\u{2022}/\u{2022}\u{2022}";
    let shown = serde_json::json!({
        "holder": initials(card.holder()), "address": MASK, "expiry": expiry, "last_four": card.last_four(),
    });
    Some(shown.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(kind: FieldType, text: &str, redaction: Redaction) -> String {
        let content = match kind {
            FieldType::Bytes => Content::Bytes(text.to_owned().into()),
            _ => Content::Text(text.to_owned().into()),
        };
        let value = Value::parse(kind, content).unwrap();
        let shown = redact(&value, redaction);
        assert_eq!(matches!(shown, Content::Bytes(_)), kind == FieldType::Bytes);
        String::from_utf8(shown.expose().to_vec()).unwrap().replace('\u{2022}', "*")
    }

    const SAMPLES: [(FieldType, &str, &str, &str); 18] = [
        (FieldType::Text, "call back", "[redacted]", "[redacted]"),
        (FieldType::PersonName, "Dana van Houten Smith", "D*** v*** H***", "***mith"),
        (FieldType::PersonName, "X Li", "*** L***", "***i"),
        (FieldType::Email, "ann@example.com", "a***@e***.com", "***n"),
        (FieldType::Email, "a@x.org", "***@***.org", "***"),
        (FieldType::Phone, "+49 30 1234543", "+49***43", "***4543"),
        (FieldType::Phone, "+15996393222", "+1***22", "***3222"),
        (FieldType::Phone, "110", "***0", "***0"),
        (FieldType::PostalAddress, "1 High St", "[redacted]", "***hSt"),
        (FieldType::DateOfBirth, "1980-05-17", "1980-**-**", "***0517"),
        (FieldType::NationalId, "AB 12 34 56 C", "***6C", "***456C"),
        (FieldType::Iban, "DE89 3704 0044 0532 0130 00", "DE***3000", "***3000"),
        (FieldType::IpAddress, "203.0.113.7", "203.0.*.*", "***1137"),
        (FieldType::IpAddress, "2001:db8::1", "2001:db8:*", "***db81"),
        (FieldType::DeviceId, "aa:bb:cc:dd:ee:ff", "***FF", "***eeff"),
        (FieldType::Score, "0.75", "[redacted]", "[redacted]"),
        (FieldType::Json, "{\"a\":1}", "[redacted]", "[redacted]"),
        (FieldType::Bytes, "abc", "[redacted]", "[redacted]"),
    ];

    #[test]
    fn each_type_shows_its_part() {
        for (kind, text, masked, last_four) in SAMPLES {
            assert_eq!(shown(kind, text, Redaction::PlainText), text);
            assert_eq!(shown(kind, text, Redaction::Masked), masked);
            assert_eq!(shown(kind, text, Redaction::LastFour), last_four);
            assert_eq!(shown(kind, text, Redaction::Redacted), "[redacted]");
        }
    }

    #[test]
    fn a_card_shows_its_last_four() {
        let text = r#"{"holder":"Ann Lee","address":"1 High St","expiry":"07/29","last_four":"4242"}"#;
        let masked = shown(FieldType::PaymentCard, text, Redaction::Masked);
        assert_eq!(masked, r#"{"holder":"A*** L***","address":"***","expiry":"**/**","last_four":"4242"}"#);
        assert_eq!(shown(FieldType::PaymentCard, text, Redaction::LastFour), "***4242");
    }

    #[test]
    fn redactions_are_ordered_by_strength() {
        assert!(Redaction::PlainText < Redaction::Masked && Redaction::LastFour < Redaction::Redacted);
    }

    proptest! {
        #[test]
        fn names_of_any_length_look_alike(first in "[A-Z][a-z]{1,40}", last in "[A-Z][a-z]{1,40}") {
            let masked = shown(FieldType::PersonName, &format!("{first} {last}"), Redaction::Masked);
            prop_assert_eq!(masked.len(), "A*** B***".len());
        }
    }
}
