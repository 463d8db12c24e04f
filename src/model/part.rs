//! Parts of a call: recordings, transcripts and whatever else belongs to one of its parties.

use super::{CallId, Error, PartBody, PartId, PartKind, Result, Time, TokenRow};

/// A part of a call: what is clear of it, and by which tokens the rest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub id: PartId,
    /// Of which call.
    pub call: CallId,
    /// Whose it is.
    pub party: u8,
    /// What it is.
    pub kind: PartKind,
    /// The retention class of what is kept of it.
    pub class: String,
    /// The type of what it stands for, or empty.
    pub media_type: String,
    /// SHA-256 of that.
    pub sha256: Option<[u8; 32]>,
    /// When that was made.
    pub occurred_at: Option<Time>,
    /// What is kept of it.
    pub body: PartBody,
    /// The token of that.
    pub content: Option<TokenRow>,
    /// The token of the key under which it is sealed elsewhere.
    pub media_key: Option<TokenRow>,
    /// When it was attached.
    pub created_at: Time,
}

impl Part {
    /// The token that tells whether the part is there: its content's, else its key's.
    #[must_use]
    pub fn token(&self) -> Option<TokenRow> {
        self.content.or(self.media_key)
    }
}

/// A media type without parameters, in lower case: `audio/wav`. Kept in clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaType(Box<str>);

impl MediaType {
    /// Most characters.
    const LONGEST: usize = 100;

    /// Reads one; no text is none.
    pub fn parse(text: &str) -> Result<Self> {
        let name = |name: &str| {
            let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".+-_".contains(&byte);
            name.as_bytes().first().is_some_and(u8::is_ascii_lowercase) && name.bytes().all(allowed)
        };
        let fits = text.split_once('/').is_some_and(|(kind, of)| name(kind) && name(of));
        // No number hides in it: the longest that there is in a registered one is a year.
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        if text.is_empty() || (fits && text.len() <= Self::LONGEST && digits <= 6) {
            return Ok(Self(text.into()));
        }
        Err(Error::invalid(
            "media_type",
            "expected a type and subtype in lower case, such as audio/wav, at most 100 characters",
        ))
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_types_and_nothing_else() {
        for text in ["", "audio/wav", "application/vcon+json", "audio/x-wav", "text/plain", "audio/mp4"] {
            assert_eq!(MediaType::parse(text).unwrap().as_str(), text);
        }
        let long = format!("audio/{}", "a".repeat(100));
        for text in [
            "audio",
            "audio/",
            "/wav",
            "Audio/wav",
            "text/plain; charset=utf-8",
            "a/b/c",
            "text/ada@b",
            "tel/n4930123456",
            &long,
        ] {
            let error = MediaType::parse(text).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("media_type"), "{text}");
        }
    }
}
