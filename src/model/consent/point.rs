//! Where decisions are collected.

use serde::{Deserialize, Serialize};

use super::purpose::check_words;
use crate::model::numbered::numbered;
use crate::model::{Error, Label, Reason, Result};

numbered! {
    /// What a collection point is.
    PointKind {
        /// A form on a web page.
        WebForm = 1,
        /// A telephone menu.
        Ivr = 2,
        /// An employee who talks to the person.
        Agent = 3,
        /// An app.
        App = 4,
        /// Decisions taken over from elsewhere.
        Import = 5,
        /// A program of the person, or of a partner.
        Api = 6,
        /// Paper.
        Paper = 7,
        /// A browser says so by itself (Art. 21(5) GDPR).
        BrowserSignal = 8,
    }
}

impl PointKind {
    /// Whether what comes from there may have happened long ago.
    #[must_use]
    pub const fn is_late(self) -> bool {
        matches!(self, Self::Import | Self::Paper)
    }
}

/// A collection point as it is defined at present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionPoint {
    /// Its name.
    pub id: String,
    /// Counts the definitions.
    pub version: u32,
    /// What it is.
    pub kind: PointKind,
    /// Who looks after it.
    pub owner: String,
    /// The notices shown there; any when empty.
    pub notices: Vec<String>,
    /// Nothing may be collected there.
    pub disabled: bool,
}

impl CollectionPoint {
    /// Whether the document makes sense by itself.
    ///
    /// # Errors
    /// `ValueInvalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        Label::purpose(&self.id).map_err(|error| error.at("collection_point.collection_point"))?;
        check_words("collection_point.owner", &self.owner)?;
        for notice in &self.notices {
            Label::purpose(notice).map_err(|error| error.at("collection_point.notices"))?;
        }
        Ok(())
    }

    /// Whether a decision may come from there now, under this notice.
    ///
    /// # Errors
    /// `CollectionPointUnknown` when it is disabled, `NoticeUnknown` when another notice is shown there.
    pub fn check_use(&self, notice: &str) -> Result<()> {
        if self.disabled {
            let error = Error::new(Reason::CollectionPointUnknown, "the collection point is disabled");
            return Err(error.at("collection_point").with("collection_point", &self.id));
        }
        if !notice.is_empty() && !self.notices.is_empty() && !self.notices.iter().any(|shown| shown == notice) {
            let error = Error::new(Reason::NoticeUnknown, "the collection point shows other notices");
            return Err(error.at("notice").with("collection_point", &self.id));
        }
        Ok(())
    }
}
