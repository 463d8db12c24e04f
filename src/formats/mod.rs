//! Formats: documents of other systems, read into types of ours and written again.
//!
//! This floor knows how bytes are laid out outside: recordings in object stores ([`media`]). It must not know keys of people,
//! stores or rules: it takes bytes and gives a value or a refusal that names what is at fault and never a value.

pub mod media;
