//! Words that callers choose and the vault keeps in clear: where a value came from, what it is for, why it must go.
//!
//! Labels survive the erasure of the people they were used for, since receipts and the audit quote them. So they must
//! not be able to hold a person: no prose, no `@`, no number long enough to be a phone, an account or a card. A reason
//! names a ticket or a legal ground; the story behind it belongs where the ticket is.

use std::fmt;

use super::card::contains_card_number;
use super::{CallId, Error, Reason, Result};

/// Most digits that may stand side by side: enough for a date written 20261121, too few for a phone number.
const DIGITS: usize = 8;

/// A short code: 1 to 64 (some uses: 128) of `a-z 0-9 . _ : / -`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Box<str>);

impl Label {
    /// One that was accepted before, as the store kept it: rules that have tightened since do not touch it.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text.into())
    }

    /// Where a value came from (`web_form:checkout`, `import:crm-2026-11`): at most 128 characters, and never absent,
    /// because a person may ask (GDPR Art. 15(1)(g)).
    pub fn source(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::new(
                Reason::SourceRequired,
                "say where the value comes from, such as \"web_form:checkout\"",
            )
            .at("source"));
        }
        Self::parse("source", text, 128)
    }

    /// A caller's own mark on a token: at most 128 characters.
    pub fn tag(text: &str) -> Result<Self> {
        Self::parse("tags", text, 128)
    }

    /// What a subject is to its keeper (`customer`, `agent`): at most 64 characters.
    pub fn kind(text: &str) -> Result<Self> {
        Self::parse("kind", text, 64)
    }

    /// The name of a retention class: at most 64 characters.
    pub fn retention_class(text: &str) -> Result<Self> {
        Self::parse("retention_class", text, 64)
    }

    /// The code of a purpose (`marketing.email`): at most 64 characters. Whether one was given is for the policy to ask.
    pub fn purpose(text: &str) -> Result<Self> {
        Self::parse("purpose", text, 64)
    }

    /// A queue of a contact centre (`sales:de`): at most 64 characters.
    pub fn queue(text: &str) -> Result<Self> {
        Self::parse("queue", text, 64)
    }

    /// The name of a system that is told what changes (`crm`, `mailer:eu`): at most 64 characters.
    pub fn consumer(text: &str) -> Result<Self> {
        Self::parse("consumer", text, 64)
    }

    /// The case that values are held for (`smith-v-acme`): at most 64 characters.
    pub fn matter(text: &str) -> Result<Self> {
        Self::parse("matter", text, 64)
    }

    /// A code in a field of a call (`queue`, `campaign`): at most 64 characters.
    pub fn code(field: &'static str, text: &str) -> Result<Self> {
        Self::parse(field, text, 64)
    }

    /// The label itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(field: &'static str, text: &str, limit: usize) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._:/-".contains(c);
        if !fits(text, limit, allowed) || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            let message =
                format!("expected 1 to {limit} characters of a-z, 0-9 and ._:/- beginning with a letter or digit");
            return Err(Error::invalid(field, message));
        }
        names_nobody(field, text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose law applies: a country of ISO 3166-1 (`DE`), or one of its parts by ISO 3166-2 (`US-CA`). Shape only: which
/// codes exist changes more often than software does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jurisdiction(Box<str>);

impl Jurisdiction {
    /// One that was accepted before, as the store kept it: rules that have tightened since do not touch it.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text.into())
    }

    /// Reads two upper-case letters, and after a hyphen one to three more letters or digits.
    pub fn parse(text: &str) -> Result<Self> {
        let (country, part) = text.split_once('-').map_or((text, None), |(country, part)| (country, Some(part)));
        let upper = |c: u8| c.is_ascii_uppercase();
        let country = country.len() == 2 && country.bytes().all(upper);
        let part = part
            .is_none_or(|part| (1..=3).contains(&part.len()) && part.bytes().all(|c| upper(c) || c.is_ascii_digit()));
        if country && part {
            return Ok(Self(text.into()));
        }
        Err(Error::invalid("jurisdiction", "expected an ISO 3166 code in capitals, such as \"DE\" or \"US-CA\""))
    }

    /// The code, as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The two letters of the country.
    #[must_use]
    pub fn country(&self) -> &str {
        self.0.split('-').next().unwrap_or_default()
    }
}

impl fmt::Display for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why something was done: a ticket (`CASE-2026/118`) or a legal ground (`GDPR Art. 17(1)(b)`), 1 to 128 characters.
///
/// Audit entries and receipts repeat it for years after the person is gone, so it can point at a story but has no room
/// to tell one: letters, digits, space and `._:/()#-`, no long number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(Box<str>);

impl Reference {
    /// One that was accepted before, as the store kept it: rules that have tightened since do not touch it.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text.into())
    }

    /// Reads a reference that stands in `field` (`reason`, `ground`, `justification`).
    pub fn parse(field: &'static str, text: &str) -> Result<Self> {
        if !fits(text, 128, |c| c.is_alphanumeric() || " ._:/()#-".contains(c)) || text.trim().is_empty() {
            let message = "name a ticket or a legal ground in 1 to 128 letters, digits, spaces and ._:/()#-";
            return Err(Error::invalid(field, message));
        }
        names_nobody(field, text)?;
        Ok(Self(text.into()))
    }

    /// The reference, as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether there are 1 to `limit` characters, all of them allowed.
fn fits(text: &str, limit: usize, allowed: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().take(limit + 1).count() <= limit && text.chars().all(allowed)
}

/// Refuses what could name a person by number.
fn names_nobody(field: &'static str, text: &str) -> Result<()> {
    if contains_card_number(text) {
        return Err(Error::new(Reason::CardData, "holds what reads as a payment card number").at(field));
    }
    if text.split(|c: char| !c.is_numeric()).any(|run| run.chars().count() > DIGITS) {
        return Err(Error::invalid(
            field,
            "more than 8 digits in a row could name a person; this text outlives erasure",
        ));
    }
    Ok(())
}

impl From<CallId> for Reference {
    fn from(call: CallId) -> Self {
        Self(call.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_labels() {
        for text in ["web_form:checkout", "import:crm-2026-11", "4th", "crm/eu.west", "export-20261121"] {
            assert_eq!(Label::source(text).unwrap().as_str(), text);
            assert_eq!(Label::tag(text).unwrap().to_string(), text);
        }
        assert!(Label::source(&"a".repeat(128)).is_ok());
        assert!(Label::kind(&"a".repeat(64)).is_ok());
        assert!(Label::purpose(&"a".repeat(65)).is_err());
    }

    #[test]
    fn people_are_not_labels() {
        let long = "a".repeat(129);
        for text in ["Jane Doe", "jane@example.com", "tel:0301234567", "", "-a", "a\n", "\u{e9}t\u{e9}", &long] {
            let error = Label::tag(text).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("tags"));
            assert!(text.len() < 3 || !format!("{error:?}").contains(text));
        }
        assert_eq!(Label::tag("4111-1111-1111-1111").unwrap_err().reason, Reason::CardData);
        assert_eq!(Label::source("").unwrap_err().reason, Reason::SourceRequired);
    }

    #[test]
    fn jurisdictions_are_iso_codes() {
        for text in ["DE", "US-CA", "GB-ENG", "FR-75"] {
            assert_eq!(Jurisdiction::parse(text).unwrap().country(), &text[..2]);
        }
        for text in ["", "de", "DEU", "US-", "US-CALI", "US-ca", "U\u{e9}"] {
            assert!(Jurisdiction::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn references_point_and_do_not_tell() {
        for text in ["GDPR Art. 17(1)(b)", "CASE-2026/118", "\u{a7} 17 BDSG".trim_start_matches('\u{a7}'), "Ticket #44"]
        {
            assert_eq!(Reference::parse("reason", text).unwrap().as_str(), text);
        }
        for text in [
            "",
            "  ",
            "call 0301234567",
            "jane@example.com",
            "a;b",
            "a\nb",
            "call \u{660}\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}\u{667}\u{668}",
        ] {
            assert_eq!(Reference::parse("reason", text).unwrap_err().field.as_deref(), Some("reason"), "{text}");
        }
    }
}
