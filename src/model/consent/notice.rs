//! What people are told before they decide.

use serde::{Deserialize, Serialize};

use super::Change;
use super::purpose::{check_list, check_words};
use crate::crypto::derive::sha256;
use crate::model::{Error, Jurisdiction, Label, Reason, Result, Time};

/// The longest text, in bytes.
const TEXT: usize = 256 << 10;
/// Most languages.
const LANGUAGES: usize = 50;

/// A version of a notice. Published once, and never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its name.
    pub notice: String,
    /// 1 and upwards.
    pub version: u32,
    /// The exact text in each language.
    pub texts: Vec<NoticeText>,
    /// What is processed.
    pub categories: Vec<String>,
    /// What for: codes of purposes.
    pub purposes: Vec<String>,
    /// Who receives it.
    pub recipients: Vec<String>,
    /// How long it is kept.
    pub retention: String,
    /// Who is responsible.
    pub controller: Option<Controller>,
    /// Where the data is stored.
    pub storage_locations: Vec<String>,
    /// How to withdraw.
    pub withdrawal_method: String,
    /// Whom to complain to.
    pub authority: String,
    /// What this version changed.
    pub change: Change,
    /// Whether this version adds categories, purposes or recipients.
    pub widens: bool,
    /// When it was published.
    pub published_at: i64,
}

/// Who is responsible.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// Their name.
    pub name: String,
    /// Where they are.
    pub address: String,
    /// How to reach them.
    pub contact: String,
    /// Under which law.
    pub jurisdiction: String,
}

/// A notice in one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeText {
    /// A language tag of BCP 47.
    pub language: String,
    /// The text, byte by byte.
    pub text: String,
    /// SHA-256 of it.
    #[serde(with = "super::hex")]
    pub sha256: [u8; 32],
}

impl NoticeText {
    /// A text with its digest.
    #[must_use]
    pub fn new(language: String, text: String) -> Self {
        let sha256 = sha256(&[text.as_bytes()]);
        Self { language, text, sha256 }
    }
}

impl Notice {
    /// Whether it may be published: the four mandatory parts are there (Art. 13 GDPR), and a text.
    ///
    /// # Errors
    /// `ValueInvalid`, naming the part.
    pub fn check(&self) -> Result<()> {
        Label::purpose(&self.notice).map_err(|error| error.at("notice.notice"))?;
        let missing = |field: &'static str| {
            Err(Error::invalid(
                field,
                "a notice tells categories, purposes, recipients and retention; this part is missing",
            ))
        };
        for (field, list) in [
            ("notice.categories", &self.categories),
            ("notice.purposes", &self.purposes),
            ("notice.recipients", &self.recipients),
        ] {
            if list.is_empty() {
                return missing(field);
            }
            check_list(field, list)?;
        }
        if self.retention.trim().is_empty() {
            return missing("notice.retention");
        }
        check_words("notice.retention", &self.retention)?;
        check_words("notice.withdrawal_method", &self.withdrawal_method)?;
        check_words("notice.authority", &self.authority)?;
        check_list("notice.storage_locations", &self.storage_locations)?;
        for code in &self.purposes {
            Label::purpose(code).map_err(|error| error.at("notice.purposes"))?;
        }
        if let Some(controller) = &self.controller {
            for text in [&controller.name, &controller.address, &controller.contact] {
                check_words("notice.controller", text)?;
            }
            if !controller.jurisdiction.is_empty() {
                Jurisdiction::parse(&controller.jurisdiction)
                    .map_err(|error| error.at("notice.controller.jurisdiction"))?;
            }
        }
        self.check_texts()
    }

    fn check_texts(&self) -> Result<()> {
        if self.texts.is_empty() || self.texts.len() > LANGUAGES {
            return Err(Error::invalid("notice.texts", "expected the text in 1 to 50 languages"));
        }
        let mut languages = std::collections::BTreeSet::new();
        for text in &self.texts {
            let tag = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_alphanumeric());
            if text.language.len() > 35 || !text.language.split('-').all(tag) {
                return Err(Error::invalid("notice.texts.language", "expected a tag of BCP 47, such as \"de\""));
            }
            if !languages.insert(text.language.to_ascii_lowercase()) {
                return Err(Error::invalid("notice.texts.language", "one language is there twice"));
            }
            if text.text.trim().is_empty() {
                return Err(Error::invalid("notice.texts.text", "a text is empty"));
            }
            if text.text.len() > TEXT {
                let error = Error::new(Reason::ValueTooLarge, "a text of a notice is too long").at("notice.texts.text");
                return Err(error.with("maximum", TEXT));
            }
        }
        Ok(())
    }

    /// Makes this the version after `before`, published at `now`.
    pub fn follow(&mut self, before: &Self, now: Time) {
        self.version = before.version + 1;
        self.published_at = now.micros();
        let adds = |new: &[String], old: &[String]| new.iter().any(|one| !old.contains(one));
        self.widens = adds(&self.categories, &before.categories)
            || adds(&self.recipients, &before.recipients)
            || adds(&self.purposes, &before.purposes);
    }

    /// Whether it tells of a purpose, or of one above it.
    #[must_use]
    pub fn tells_of(&self, code: &str) -> bool {
        self.purposes
            .iter()
            .any(|told| code.strip_prefix(told.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }

    /// The text with a digest.
    #[must_use]
    pub fn text(&self, sha256: &[u8; 32]) -> Option<&NoticeText> {
        self.texts.iter().find(|text| text.sha256 == *sha256)
    }
}
