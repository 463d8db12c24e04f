//! Who gets in: every rpc that there is, by the descriptors, so that a new one cannot be forgotten.

use lacuna::proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status};

use crate::house::{House, fields_at_fault, on_both_stores, reason};
use crate::request::call_over;

/// One rpc of the API.
#[derive(Clone, Debug)]
pub struct Rpc {
    /// `/lacuna.v1.TokenService/Tokenize`.
    pub path: String,
    pub streams: bool,
    /// Whether there is anything to say in a request.
    pub asks: bool,
}

/// Every rpc of the vault's own services.
pub fn rpcs() -> Vec<Rpc> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let mut rpcs = Vec::new();
    for file in files.iter().filter(|file| file.package().starts_with("lacuna.")) {
        for service in &file.service {
            rpcs.extend(service.method.iter().map(|method| {
                let input = method.input_type().rsplit('.').next().unwrap();
                Rpc {
                    path: format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    streams: method.server_streaming(),
                    asks: file.message_type.iter().any(|kind| kind.name() == input && !kind.field.is_empty()),
                }
            }));
        }
    }
    rpcs
}

/// Calls an rpc with one message, whatever it is; answers the first message that comes back.
pub async fn call(house: &House, path: &str, message: Vec<u8>, credential: Option<&str>) -> Result<Vec<u8>, Status> {
    call_over(house.channel().await, path, message, credential).await
}

/// The credential of whoever may call this house.
pub fn credential(house: &House) -> String {
    let path = house.running().dev_token_file.as_ref().unwrap();
    format!("Bearer {}", std::fs::read_to_string(path).unwrap().trim())
}

/// What is about the vault as a whole, so that nothing has to be said.
const OF_THE_VAULT: [&str; 10] = [
    "PreviewRetention",
    "RunRetention",
    "GetKeyStatus",
    "RotateRoot",
    "RotateIndexKey",
    "RotateKek",
    "RotateSigningKey",
    "AuditConsents",
    "VerifyAuditChain",
    "GetCheckpoint",
];

on_both_stores! {
    async fn nobody_gets_in_without_a_known_credential(house: House) {
        let good = credential(&house);
        let rpcs = rpcs();
        assert!(rpcs.len() >= 20, "{rpcs:?}");
        let before = house.everything().await;
        for Rpc { path, .. } in rpcs {
            let bare = good.trim_start_matches("Bearer ");
            for wrong in [None, Some("Bearer MARKED-nobody"), Some("Bearer "), Some("Basic MARKED"), Some(bare)] {
                let refused = call(&house, &path, Vec::new(), wrong).await.unwrap_err();
                assert_eq!(refused.code(), Code::Unauthenticated, "{path} with {wrong:?}");
                assert_eq!(reason(&refused), "CALLER_UNKNOWN", "{path}");
                assert!(!format!("{refused:?}").contains("MARKED"), "{path} repeats the credential");
            }
        }
        assert_eq!(house.everything().await, before);
    }

    async fn an_empty_request_is_refused_by_name_or_answered(house: House) {
        let good = credential(&house);
        for Rpc { path, streams, .. } in rpcs() {
            match call(&house, &path, Vec::new(), Some(&good)).await {
                // Lists need nothing, nor do the vault's own keys; and a stream answers within.
                Ok(_) => {
                    let name = path.rsplit('/').next().unwrap();
                    assert!(streams || name.starts_with("List") || OF_THE_VAULT.contains(&name), "{path}");
                }
                // What is no token at all is no token of the vault.
                Err(refused) if refused.code() == Code::NotFound => {
                    assert_eq!(reason(&refused), "TOKEN_UNKNOWN", "{path}");
                }
                Err(refused) => {
                    assert_eq!(refused.code(), Code::InvalidArgument, "{path}: {refused:?}");
                    assert_eq!(fields_at_fault(&refused).len(), 1, "{path}: {refused:?}");
                }
            }
        }
    }

    async fn noise_is_refused_and_harms_nobody(house: House) {
        let good = credential(&house);
        let before = house.everything().await;
        // A request without fields has none that could be wrong.
        for Rpc { path, .. } in rpcs().into_iter().filter(|rpc| rpc.asks) {
            for noise in [vec![0xff; 64], vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], vec![0x0a, 2, 0xff, 0xfe]] {
                let refused = call(&house, &path, noise, Some(&good)).await.unwrap_err();
                assert_ne!(refused.code(), Code::Unauthenticated, "{path}");
                assert_ne!(refused.code(), Code::Unknown, "{path}: {refused:?}");
            }
        }
        assert_eq!(house.everything().await, before);
    }
}
