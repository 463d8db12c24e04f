//! The generated types of the API, and the descriptors that reflection serves.
//!
//! Messages that carry plaintext have no derived `Debug`; the ones written here show counts and names only.

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

opaque_debug!(
    v1::FieldInput,
    v1::field_input::Content,
    v1::TokenizeRequest,
    v1::DetokenizeResult,
    v1::detokenize_result::Outcome,
    v1::DetokenizeResponse,
    v1::DetokenizeStreamResponse,
    v1::detokenize_stream_response::Outcome,
    v1::FindTokensRequest,
    v1::UpdateTokenRequest,
    v1::update_token_request::Content,
);
