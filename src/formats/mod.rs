//! Formats: documents of other systems, read into types of ours and written again.
//!
//! This floor knows how others write things down: conversations ([`vcon`]), sets of keys ([`jwks`]), and recordings that are
//! sealed and lie in object stores ([`media`]). It must not know keys of people, stores or rules: it takes bytes and gives a
//! value or a refusal that names the field at fault and never a value. Nothing is fetched that a document points to.

mod address;
pub mod cdr;
mod json;
pub mod jwks;
pub mod media;
mod plain;
pub mod vcon;

pub use address::bare_address;
pub use json::Json;
pub use plain::Plain;
