//! What each type of text accepts, and the normal form it is found by. Normal forms are stable: what is normal stays
//! as it is, and changing a rule here means indexing anew.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::LazyLock;

use iban::{Iban, IbanLike as _};

use super::{FieldType, json};
use crate::model::card::contains_card_number;

/// Why a text is not a value of its type.
pub(super) enum Refusal {
    /// It does not have the form.
    Shape,
    /// It holds card data in a place that a look at the text alone would miss.
    Card,
}

type Normal = Result<Option<String>, Refusal>;

/// Fewest and most digits of an international number (the most are those of ITU-T E.164).
const INTERNATIONAL: std::ops::RangeInclusive<usize> = 7..=15;

/// Fewest and most digits of a number without its country code: a short code, up to a long one with its trunk prefix.
const NATIONAL: std::ops::RangeInclusive<usize> = 3..=14;

/// The telephone metadata, loaded by the first number that is parsed.
pub(super) static WARM: LazyLock<bool> = LazyLock::new(|| phonenumber::parse(None, "+15552368000").is_ok());

/// The normal form of `text` as a value of type `kind`; `Ok(None)` where it is the text itself or there is none.
pub(super) fn of(kind: FieldType, text: &str) -> Normal {
    match kind {
        FieldType::Text => Ok(Some(text.trim().to_owned())),
        FieldType::PersonName | FieldType::PostalAddress => Ok(Some(folded(text))),
        FieldType::Email => shaped(email(text)),
        FieldType::Phone => shaped(phone(text)),
        FieldType::DateOfBirth => shaped(date(text)),
        FieldType::NationalId | FieldType::DeviceId => shaped(code(text)),
        FieldType::Iban => shaped(account(text)),
        FieldType::PaymentCard => json::Card::read(text).map(|card| Some(card.normal())),
        FieldType::IpAddress => shaped(text.trim().parse::<IpAddr>().ok().map(|ip| ip.to_canonical().to_string())),
        FieldType::Location => location(text).map(|()| None).ok_or(Refusal::Shape),
        FieldType::Score => score(text).map(|()| None),
        FieldType::Json => json::scan(text).map(|()| None),
        FieldType::Bytes => Err(Refusal::Shape),
    }
}

fn shaped(normal: Option<String>) -> Normal {
    normal.map(Some).ok_or(Refusal::Shape)
}

/// The words in one case with one space between them. Upper case first, so that `ß` is found as `SS`.
pub(super) fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase));
    }
    folded
}

/// The address in lower case. RFC 5321 lets a host tell `Ann@` from `ann@`; hardly any does, and a person who asks to
/// be forgotten must be found by either.
fn email(text: &str) -> Option<String> {
    let text = text.trim();
    let options = email_address::Options::default().without_display_text().without_domain_literal().with_required_tld();
    email_address::EmailAddress::parse_with_options(text, options).ok()?;
    Some(folded(text))
}

/// The local part and the domain of an address.
pub(in crate::model) fn email_parts(text: &str) -> (&str, &str) {
    text.trim().rsplit_once('@').unwrap_or((text, ""))
}

/// E.164 for a number with `+` or `00`, else its digits alone, which then mean something only within a country.
///
/// An extension (`x12`, `ext. 12`, `;ext=12`) is accepted and is not part of the normal form. Numbers that no operator
/// has given out are accepted too: ranges change faster than metadata, and a caller's data is what it is.
fn phone(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix("tel:").unwrap_or(text);
    let text = without_extension(text)?.trim();
    if !text.chars().all(|c| c.is_ascii_digit() || is_phone_punctuation(c)) || text.rfind('+').is_some_and(|at| at > 0)
    {
        return None;
    }
    let digits: String = text.replace("(0)", "").chars().filter(char::is_ascii_digit).collect();
    let Some(number) = text.strip_prefix('+').map(|_| digits.as_str()).or_else(|| digits.strip_prefix("00")) else {
        return NATIONAL.contains(&digits.len()).then_some(digits);
    };
    let shaped = INTERNATIONAL.contains(&number.len()) && !number.starts_with('0');
    shaped.then(|| assigned(number).unwrap_or_else(|| format!("+{number}")))
}

/// The E.164 form of a number that an operator can have given out, without a trunk prefix that slipped in.
fn assigned(number: &str) -> Option<String> {
    let number = phonenumber::parse(None, format!("+{number}")).ok().filter(phonenumber::is_valid)?;
    Some(number.format().mode(phonenumber::Mode::E164).to_string())
}

/// The country code of a number in normal form, when there is one.
pub(in crate::model) fn country_code(normal: &str) -> Option<u16> {
    normal.starts_with('+').then(|| phonenumber::parse(None, normal).ok()).flatten().map(|number| number.code().value())
}

/// A country, whose numbers may be written without its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region(phonenumber::country::Id);

impl Region {
    /// The country with this code of two letters (ISO 3166-1).
    #[must_use]
    pub fn named(code: &str) -> Option<Self> {
        let known = code.len() == 2 && code.bytes().all(|letter| letter.is_ascii_uppercase());
        code.parse().ok().filter(|_| known).map(Self)
    }

    /// The country of an international number.
    #[must_use]
    pub fn of(number: &str) -> Option<Self> {
        let normal = phone(number).filter(|normal| normal.starts_with('+'))?;
        phonenumber::parse(None, normal).ok()?.country().id().map(Self)
    }

    /// The E.164 form of a number as it is dialled in the country; `None` of one that no operator there gives out.
    pub(in crate::model) fn international(self, number: &str) -> Option<String> {
        let number = phonenumber::parse(Some(self.0), number).ok().filter(phonenumber::is_valid)?;
        Some(number.format().mode(phonenumber::Mode::E164).to_string())
    }

    /// The digits by which a number in E.164 is dialled in the country; `None` of a number of another one.
    pub(in crate::model) fn national(self, normal: &str) -> Option<String> {
        let number = phonenumber::parse(None, normal).ok().filter(|number| number.country().id() == Some(self.0))?;
        let dialled = number.format().mode(phonenumber::Mode::National).to_string();
        Some(dialled.chars().filter(char::is_ascii_digit).collect())
    }
}

fn without_extension(text: &str) -> Option<&str> {
    let Some((number, extension)) = ["ext.", ";ext=", "ext", "x", "#"].iter().find_map(|mark| text.split_once(mark))
    else {
        return Some(text);
    };
    let extension = extension.trim();
    ((1..=6).contains(&extension.len()) && extension.bytes().all(|c| c.is_ascii_digit()))
        .then(|| number.trim_end_matches([' ', ',', ';']))
}

fn is_phone_punctuation(c: char) -> bool {
    matches!(c, '+' | ' ' | '-' | '.' | '/' | '(' | ')' | '\u{a0}' | '\u{202f}' | '\u{2010}'..='\u{2013}')
}

fn date(text: &str) -> Option<String> {
    let text = text.trim();
    let shaped = text.len() == 10
        && text.bytes().enumerate().all(|(at, c)| if matches!(at, 4 | 7) { c == b'-' } else { c.is_ascii_digit() });
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let date = jiff::civil::Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()?;
    (shaped && (1850..=2200).contains(&date.year())).then(|| text.to_owned())
}

/// Letters and digits in capitals; what people put between them varies.
fn code(text: &str) -> Option<String> {
    let code: String = text.chars().flat_map(char::to_uppercase).filter(|c| c.is_alphanumeric()).collect();
    (!code.is_empty()).then_some(code)
}

fn account(text: &str) -> Option<String> {
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).collect();
    Some(plain.parse::<Iban>().ok()?.electronic_str().to_owned())
}

fn location(text: &str) -> Option<()> {
    let text = text.trim();
    let (geo, text) = text.strip_prefix("geo:").map_or((false, text), |rest| (true, rest));
    let place = if geo { text.split(';').next()? } else { text };
    let numbers = place.split(',').map(|number| degrees(number.trim())).collect::<Option<Vec<f64>>>()?;
    let in_range = match *numbers.as_slice() {
        [latitude, longitude] => latitude.abs() <= 90.0 && longitude.abs() <= 180.0,
        [latitude, longitude, _altitude] => geo && latitude.abs() <= 90.0 && longitude.abs() <= 180.0,
        _ => false,
    };
    let parameters = text.get(place.len()..)?;
    let harmless = parameters.bytes().all(|c| c.is_ascii_alphanumeric() || b";=-._~%".contains(&c));
    (in_range && harmless && !contains_card_number(parameters)).then_some(())
}

fn degrees(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|c| c.is_ascii_digit() || b"+-.".contains(&c));
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

/// A decimal number. Its whole part is looked at for a card number: a computed score has no use for so many digits,
/// while sixteen decimals are common.
fn score(text: &str) -> Result<(), Refusal> {
    let text = text.trim();
    let plain = text.bytes().all(|c| c.is_ascii_digit() || b"+-.eE".contains(&c));
    let number: f64 = text.parse().map_err(|_| Refusal::Shape)?;
    if !plain || !number.is_finite() {
        return Err(Refusal::Shape);
    }
    let whole: Cow<'_, str> = if text.contains(['e', 'E']) && number.abs() >= 1e12 {
        Cow::Owned(format!("{number:.0}"))
    } else {
        Cow::Borrowed(text.split('.').next().unwrap_or_default())
    };
    if contains_card_number(whole.trim_start_matches(['+', '-'])) { Err(Refusal::Card) } else { Ok(()) }
}
