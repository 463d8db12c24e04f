//! What callers hold in place of a value. Nothing in a token is computed from the value, except that a shaped token
//! of a number may keep its last four digits.

use data_encoding::BASE32_NOPAD;

use super::digits::digit;
use super::field::Card;
use super::{Error, FieldType, Result, Value, contains_card_number, luhn_valid};
use crate::crypto::Random;

/// What every shaped e-mail token ends with. No mail can ever get there (RFC 2606 section 2).
const MAIL_HOST: &str = "@token.invalid";

/// What every shaped telephone token begins with: 999 is a country code that the ITU keeps in reserve.
const PHONE_PREFIX: &str = "+999";

/// Random digits after the prefix of a shaped telephone token.
const PHONE_DIGITS: usize = 12;

/// Digits of a shaped number.
const NUMBER: usize = 16;

/// Letters before the `@` of a shaped e-mail token: sixteen random bytes in base32.
const MAIL_LETTERS: usize = 26;

/// Numbers that keep their last four digits have at least this many; of shorter ones four digits would be too much.
const TELLING: usize = 8;

/// How often a token that came out as a card number is drawn anew before the source of chance is taken for broken.
const ATTEMPTS: usize = 64;

/// What a token looks like. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenFormat {
    /// `tok_` and 26 characters.
    Opaque = 1,
    /// Like the value it stands for, so that it passes where the value passed; see [`shape`].
    Shaped = 2,
}

impl TokenFormat {
    /// The number that stores keep, 1 or 2.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The format with this number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        match number {
            1 => Some(Self::Opaque),
            2 => Some(Self::Shaped),
            _ => None,
        }
    }
}

/// Where a token stands, in the order of life. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenState {
    /// It can be turned back into its value.
    Active = 1,
    /// Its time is over.
    Expired = 2,
    /// It was for one use, and was used.
    Spent = 3,
    /// A caller deleted it.
    Deleted = 4,
    /// Its subject was erased.
    Erased = 5,
    /// Its value was inferred about the subject, and destroyed when profiling was switched off.
    Purged = 6,
    /// Its value was kept long enough, and destroyed.
    Ended = 7,
}

impl TokenState {
    /// The number that stores keep, 1 to 7.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The state with this number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        Some(match number {
            1 => Self::Active,
            2 => Self::Expired,
            3 => Self::Spent,
            4 => Self::Deleted,
            5 => Self::Erased,
            6 => Self::Purged,
            7 => Self::Ended,
            _ => return None,
        })
    }
}

/// Draws a token in the shape of the value: an e-mail address that no mail reaches, a telephone number that nobody
/// has, or sixteen digits that no card has (their check digit is wrong) and that end like the value's.
///
/// Two draws may collide (a number has twelve random digits, about 40 bits): the store's unique index notices, and the
/// caller draws again. Types without a shape are refused at field `format`.
pub fn shape(value: &Value, random: &dyn Random) -> Result<String> {
    match value.kind() {
        FieldType::Email => draw(|| mail(random)),
        FieldType::Phone => draw(|| format!("{PHONE_PREFIX}{}", digits(random, PHONE_DIGITS))),
        FieldType::PaymentCard | FieldType::Iban | FieldType::NationalId => {
            let last_four = last_four(value);
            draw(|| number(random, &last_four))
        }
        _ => Err(Error::invalid(
            "format",
            "only EMAIL, PHONE, PAYMENT_CARD, IBAN and NATIONAL_ID have a shape; use an opaque token",
        )),
    }
}

/// Whether the text has the form of a shaped token. It may be no token all the same: only the store knows.
#[must_use]
pub fn looks_shaped(text: &str) -> bool {
    if let Some(letters) = text.strip_suffix(MAIL_HOST) {
        return letters.len() == MAIL_LETTERS && letters.bytes().all(|c| matches!(c, b'a'..=b'z' | b'2'..=b'7'));
    }
    let (digits, length) = text.strip_prefix(PHONE_PREFIX).map_or((text, NUMBER), |rest| (rest, PHONE_DIGITS));
    digits.len() == length && digits.bytes().all(|c| c.is_ascii_digit())
}

/// Draws until what came out is no card number.
fn draw(mut once: impl FnMut() -> String) -> Result<String> {
    let drawn = std::iter::repeat_with(&mut once).take(ATTEMPTS).find(|token| !contains_card_number(token));
    drawn.ok_or_else(|| Error::internal("the source of randomness repeats itself"))
}

fn mail(random: &dyn Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    format!("{}{MAIL_HOST}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

/// Sixteen digits with these at the end, and a wrong check digit.
fn number(random: &dyn Random, last: &str) -> String {
    let number = digits(random, NUMBER.saturating_sub(last.len())) + last;
    let values: Vec<u8> = number.chars().filter_map(digit).collect();
    if !luhn_valid(&values) {
        return number;
    }
    // Changing one digit always makes a right check digit wrong.
    let first = values.first().map_or(0, |first| (first + 1) % 10);
    format!("{first}{}", number.get(1..).unwrap_or_default())
}

/// Random digits, at most sixteen. Of 2^128 numbers so few are left over that no digit is likelier than another.
fn digits(random: &dyn Random, count: usize) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    let digits = format!("{:016}", u128::from_be_bytes(bytes) % 10_u128.pow(16));
    digits.get(NUMBER.saturating_sub(count)..).unwrap_or_default().to_owned()
}

/// The last four digits of the value; none of a value with so few that four would be half of them or more.
fn last_four(value: &Value) -> String {
    if value.kind() == FieldType::PaymentCard {
        return Card::of(value).map(|card| card.last_four().to_owned()).unwrap_or_default();
    }
    let digits: String = value.text().chars().filter_map(digit).map(|digit| char::from(b'0' + digit)).collect();
    match digits.len().checked_sub(4) {
        Some(from) if digits.len() > TELLING => digits.get(from..).unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::SystemRandom;
    use crate::model::{Content, Reason};

    fn token(kind: FieldType, text: &str) -> Result<String> {
        let value = Value::parse(kind, Content::Text(text.to_owned().into())).unwrap();
        shape(&value, &SystemRandom::new())
    }

    #[test]
    fn tokens_have_the_shape_of_their_value() {
        let mail = token(FieldType::Email, "ann@example.com").unwrap();
        assert!(mail.ends_with(".invalid") && mail.len() == 40);
        let phone = token(FieldType::Phone, "+49 30 1234567").unwrap();
        assert!(phone.starts_with("+999") && phone.len() == 16);
        for text in [mail, phone, token(FieldType::Iban, "DE89 3704 0044 0532 0130 00").unwrap()] {
            assert!(looks_shaped(&text));
        }
        for (kind, text) in [(FieldType::Email, "x@token.invalid"), (FieldType::Phone, "+999123456789012")] {
            assert!(
                Value::parse(kind, Content::Text(text.to_owned().into())).is_ok(),
                "a token passes where values pass"
            );
        }
        assert!(!looks_shaped("tok_aaaaaaaaaaaaaaaaaaaaaaaaaa"));
        assert!(!looks_shaped("+49301234567"));
        assert!(!looks_shaped("ann@example.com"));
    }

    #[test]
    fn the_last_four_are_kept_unless_they_would_tell_too_much() {
        let card = r#"{"expiry":"07/29","last_four":"4242"}"#;
        assert!(token(FieldType::PaymentCard, card).unwrap().ends_with("4242"));
        assert!(token(FieldType::Iban, "DE89 3704 0044 0532 0130 00").unwrap().ends_with("3000"));
        assert!(token(FieldType::NationalId, "123.456.789-09").unwrap().ends_with("8909"));
        assert!((0..50).any(|_| !token(FieldType::NationalId, "AB 12 34 56 C").unwrap().ends_with("3456")));
    }

    #[test]
    fn other_types_have_no_shape() {
        let error = token(FieldType::Text, "hello").unwrap_err();
        assert_eq!((error.reason, error.field.as_deref()), (Reason::ValueInvalid, Some("format")));
    }

    #[test]
    fn numbers_are_stable() {
        assert!((1..=2).all(|n| TokenFormat::from_number(n).is_some_and(|format| format.number() == n)));
        assert!((1..=7).all(|n| TokenState::from_number(n).is_some_and(|state| state.number() == n)));
        assert!(TokenFormat::from_number(3).is_none() && TokenState::from_number(0).is_none());
    }

    proptest! {
        #[test]
        fn shaped_numbers_are_no_cards(last_four in "[0-9]{4}") {
            let card = format!(r#"{{"expiry":"07/29","last_four":"{last_four}"}}"#);
            let token = token(FieldType::PaymentCard, &card).unwrap();
            let values: Vec<u8> = token.bytes().map(|b| b - b'0').collect();
            prop_assert_eq!(values.len(), NUMBER);
            prop_assert!(!luhn_valid(&values));
            prop_assert!(!contains_card_number(&token));
            prop_assert!(token.ends_with(&last_four));
        }
    }
}
