//! The generated types of the API, and the descriptors that reflection serves.
//!
//! Messages that carry plaintext, or in which a caller could put it by mistake, have no derived `Debug`; the ones
//! that they have show names only. `build.rs` says which.

use std::fmt;

/// `google.rpc`: the status of a single item.
pub mod google {
    #[allow(clippy::allow_attributes, missing_docs, reason = "generated")]
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// `lacuna.v1`: the API.
pub mod lacuna {
    #[allow(clippy::allow_attributes, missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("lacuna.v1");
    }
}

pub use lacuna::v1;

/// Every message and service of the API, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lacuna.binpb"));

/// A `Debug` that names the message and hides what it carries.
macro_rules! opaque_debug {
    ($($message:path),+ $(,)?) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), " { .. }"))
            }
        }
    )+};
}

include!(concat!(env!("OUT_DIR"), "/opaque.rs"));

#[cfg(test)]
mod tests {
    use super::v1;

    #[test]
    fn what_callers_send_and_are_shown_prints_its_name_only() {
        let marked = || "marked".to_owned();
        let event = v1::AppendCallEventRequest { event_id: marked(), ..Default::default() };
        assert_eq!(format!("{event:?}"), "v1::AppendCallEventRequest { .. }");
        let erase = v1::ErasePartsRequest { reason: marked(), ..Default::default() };
        assert_eq!(format!("{erase:?}"), "v1::ErasePartsRequest { .. }");
        let content = v1::field_input::Content::Value(marked());
        let field = v1::FieldInput { content: Some(content.clone()), ..Default::default() };
        assert_eq!(format!("{field:?} {content:?}"), "v1::FieldInput { .. } v1::field_input::Content { .. }");
    }
}
