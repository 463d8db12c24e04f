//! Receipts: a signed statement that an erasure is complete, verifiable by anyone, offline, for ever.
//!
//! A receipt is a DSSE envelope around a JSON statement, signed with Ed25519. The signing key is outside the key
//! tree, wrapped like the slot: it must outlive every root. A receipt says what was destroyed and how certain it is;
//! it never says that data was anonymised, because that is not what happened.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::checkpoint::hex;
use super::files;
use super::kek::Kek;
use super::slot::Assurance;
use crate::crypto::{Random, SigningKey, dsse};
use crate::model::{Erasure, Error, PlanItem, Reason, Result, Time};

/// The DSSE payload type of a receipt.
pub const PAYLOAD_TYPE: &str = "application/vnd.lacuna.erasure-receipt+json";

const LABEL: &str = "lacuna/receipt-signing-key/v1";

/// What a receipt states.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The format, 1.
    pub version: u32,
    /// The erasure.
    pub erasure: String,
    /// Who was erased, by pseudonym.
    pub subject: String,
    /// A legal ground or a ticket.
    pub reason: String,
    /// When it was asked for, RFC 3339.
    pub request_time: String,
    /// When the keys were destroyed, RFC 3339.
    pub erase_time: String,
    /// What was destroyed and what was kept.
    pub plan: Vec<PlanItem>,
    /// The epoch of the key tree that lacks the keys.
    pub epoch: u64,
    /// The root key of that epoch, by its public name. The slot holds no earlier one.
    pub root_id: String,
    /// The kind of root slot.
    pub slot: String,
    /// How certain the destruction is.
    pub assurance: String,
    /// The promise, in words.
    pub promise: String,
    /// The key that verifies the receipt, base64.
    pub public_key: String,
}

/// Signs receipts.
pub struct Signer {
    key: SigningKey,
}

impl Signer {
    /// Reads the wrapped signing key from the first of `paths` where it is, after making one if `create` and there is
    /// none. Each place gets a copy, and beside it the public key, with the ending `pub`.
    pub async fn open(paths: &[PathBuf], kek: &dyn Kek, create: bool, random: &dyn Random) -> Result<Self> {
        let unusable = |source: Box<dyn std::error::Error + Send + Sync>| {
            let places = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            let message = format!("the key that signs receipts, in {places}, cannot be used: {source}");
            Error::new(Reason::KeyCustodianUnavailable, message)
        };
        if create && paths.iter().all(|path| !path.exists()) {
            let (key, pkcs8) = SigningKey::generate(random).map_err(|error| unusable(error.into()))?;
            let public = format!("{}\n", data_encoding::BASE64.encode(&key.public()));
            let wrapped = kek.wrap(LABEL, &pkcs8).await?;
            for path in paths {
                let written = files::replace(&path.with_extension("pub"), public.as_bytes());
                written.and_then(|()| files::replace(path, &wrapped)).map_err(|error| unusable(error.into()))?;
            }
        }
        let found = paths.iter().find_map(|path| files::read_if_there(path).transpose()).transpose();
        let found = found.map_err(|error| unusable(error.into()))?;
        let wrapped = found.ok_or_else(|| unusable("it is nowhere; bring it back".into()))?;
        let pkcs8 = kek.unwrap(LABEL, &wrapped).await?;
        let key = SigningKey::from_pkcs8(&pkcs8).map_err(|error| unusable(error.into()))?;
        Ok(Self { key })
    }

    /// The keys that verify what was signed here: the present one first, then those before it.
    #[must_use]
    pub fn public_keys(&self) -> Vec<Vec<u8>> {
        vec![self.key.public().to_vec()]
    }

    /// The receipt of an erasure that is complete at `erased_at`.
    pub fn sign(
        &self,
        erasure: &Erasure,
        root: (u64, &[u8; 16]),
        slot: (&str, Assurance),
        at: Time,
    ) -> Result<Vec<u8>> {
        let statement = Statement {
            version: 1,
            erasure: erasure.id.to_string(),
            subject: erasure.subject.to_string(),
            reason: erasure.reason.as_str().to_owned(),
            request_time: erasure.requested_at.to_string(),
            erase_time: at.to_string(),
            plan: erasure.plan.clone(),
            epoch: root.0,
            root_id: hex(root.1),
            slot: slot.0.to_owned(),
            assurance: slot.1.name().to_owned(),
            promise: "The keys to the values listed as DESTROY are destroyed, and their ciphertexts deleted from the \
                      live vault. No copy of its databases, logs or backups, taken at any time, opens them, unless \
                      somebody kept a copy of an earlier root slot together with the key that wraps it. Values that \
                      callers were given before are not covered."
                .to_owned(),
            public_key: data_encoding::BASE64.encode(&self.key.public()),
        };
        let payload = serde_json::to_vec(&statement).map_err(Error::internal)?;
        serde_json::to_vec(&dsse::Envelope::sign(PAYLOAD_TYPE, &payload, &self.key)).map_err(Error::internal)
    }
}

/// What verification found.
#[derive(Debug)]
pub struct Verified {
    /// The statement, whose signature holds.
    pub statement: Statement,
    /// The statement as it was signed.
    pub json: String,
    /// Whether the signing key is the one that was expected, rather than the one the receipt names.
    pub trusted: bool,
}

/// Checks a receipt. With `expected` the signature must be of that key; without, it must be of the key that the
/// receipt itself names, which shows that nothing was altered but not who signed.
///
/// # Errors
/// `ValueInvalid`, saying what does not hold.
pub fn verify(receipt: &[u8], expected: Option<&[u8]>) -> Result<Verified> {
    let refuse = |what: &'static str| Error::invalid("receipt", what);
    let envelope: dsse::Envelope =
        serde_json::from_slice(receipt).map_err(|_| refuse("this is not the JSON of a DSSE envelope"))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(refuse("this envelope holds something else than an erasure receipt"));
    }
    let unchecked = data_encoding::BASE64.decode(envelope.payload.as_bytes()).unwrap_or_default();
    let named: Statement =
        serde_json::from_slice(&unchecked).map_err(|_| refuse("the statement in the receipt makes no sense"))?;
    let named_key = data_encoding::BASE64.decode(named.public_key.as_bytes()).unwrap_or_default();
    let payload = envelope
        .verify(expected.unwrap_or(&named_key))
        .ok_or_else(|| refuse("the signature does not hold: the receipt was altered or another key signed it"))?;
    let statement = serde_json::from_slice(&payload).map_err(Error::internal)?;
    let json = String::from_utf8(payload).map_err(Error::internal)?;
    Ok(Verified { statement, json, trusted: expected.is_some() })
}

/// The statement inside a receipt that this vault made, as JSON.
pub fn statement_json(receipt: &[u8]) -> Result<String> {
    let envelope: dsse::Envelope = serde_json::from_slice(receipt).map_err(Error::internal)?;
    let payload = data_encoding::BASE64.decode(envelope.payload.as_bytes()).map_err(Error::internal)?;
    String::from_utf8(payload).map_err(Error::internal)
}
