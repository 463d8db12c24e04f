//! Conversations in the vCon format of the IETF working group (draft-ietf-vcon-vcon-core), its extension for contact centres and
//! its attachment for the lawful basis.
//!
//! [`read`] takes what others wrote, in the dialects that there are, and refuses what is wrong with the name of the field.
//! [`redact()`] makes of a conversation the one that a party may have, [`write()`] a document of either. What must not be held
//! is dropped on the way in: digits that were pressed, queries of addresses, card numbers by a [`CardRule`].

mod apart;
mod clean;
mod fields;
mod known;
mod mask;
mod model;
mod names;
mod read;
mod read_dialog;
mod redact;
mod signed;
#[cfg(test)]
mod tests;
mod together;
mod write;

pub use apart::{Apart, Happened, Kept, KeptBody, PIECE, apart, check_parts};
pub use clean::{CardRule, without_secrets};
pub use model::{
    Analysis, Attachment, BASES, Body, Changes, Content, Conversation, Dialog, DialogKind, EVENTS, Earlier, Event, Gap,
    Grant, LAWFUL_BASIS, LINKS, LawfulBasis, Others, PARTY, Party, Role, Seat,
};
pub use redact::{redact, withhold};
pub use signed::Trust;
pub use together::{Call, Held, Leg, Member, Other, together};
pub use write::write;

use super::Json;
use crate::model::{Error, Result};

/// Largest document, in bytes.
pub const MOST_BYTES: usize = 32 << 20;

/// A conversation that was read.
pub struct Read {
    /// The conversation.
    pub conversation: Conversation,
    /// What was changed on the way in.
    pub changes: Changes,
    /// Whether it was signed; by whom is known only if signers were given.
    pub signed: bool,
}

/// Reads a document, signed or not.
///
/// # Errors
/// `ValueInvalid` or `CardData`, with the field that is wrong and what to do; never with a value.
pub fn read(bytes: &[u8], trust: Trust<'_>, cards: CardRule) -> Result<Read> {
    if bytes.len() > MOST_BYTES {
        return Err(Error::invalid(
            "document",
            "it is larger than 32 MiB; put recordings beside it instead of into it",
        ));
    }
    let (document, signed) = signed::open(Json::parse(bytes, "document")?, trust)?;
    let (conversation, changes) = read::conversation(document, cards)?;
    Ok(Read { conversation, changes, signed })
}
