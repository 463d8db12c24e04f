//! Text of a person.

use crate::crypto::SecretBytes;

/// Text that may be about a person: wiped when dropped, with no `Debug` and no `Clone`.
#[derive(Default)]
pub struct Plain(SecretBytes);

impl Plain {
    /// The text itself. Every call is a place to review.
    #[must_use]
    pub fn expose(&self) -> &str {
        // It was made of text.
        std::str::from_utf8(self.0.expose()).unwrap_or_default()
    }

    /// The same text in another place.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::from(self.expose())
    }

    /// Whether there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Plain {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<String> for Plain {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}
