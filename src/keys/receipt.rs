//! Receipts: a signed statement that an erasure is complete, verifiable by anyone, offline, for ever.
//!
//! A receipt is a [`statement`]. It says what was destroyed and how certain it is;
//! it never says that data was anonymised, because that is not what happened.

use serde::{Deserialize, Serialize};

use super::checkpoint::hex;
use super::signer::Signer;
use super::slot::Assurance;
use super::statement;
use crate::model::{Erasure, Error, PlanItem, Result, Time};

/// The DSSE payload type of a receipt.
pub const PAYLOAD_TYPE: &str = "application/vnd.lacuna.erasure-receipt+json";

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

impl statement::Statement for Statement {
    const TYPE: &'static str = PAYLOAD_TYPE;
    const NAME: &'static str = "receipt";

    fn public_key(&self) -> &str {
        &self.public_key
    }
}

impl Signer {
    /// The receipt of an erasure that is complete at `at`.
    pub fn sign(
        &self,
        erasure: &Erasure,
        root: (u64, &[u8; 16]),
        slot: (&str, Assurance),
        at: Time,
    ) -> Result<Vec<u8>> {
        self.state(|public_key| Statement {
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
            public_key,
        })
    }
}

/// What verification found.
pub type Verified = statement::Verified<Statement>;

/// Checks a receipt. With `expected` the signature must be of one of those keys; without, it must be of the key that
/// the receipt itself names, which shows that nothing was altered but not who signed.
///
/// # Errors
/// `ValueInvalid`, saying what does not hold.
pub fn verify(receipt: &[u8], expected: Option<&[Vec<u8>]>) -> Result<Verified> {
    statement::verify(receipt, expected)
}

/// The public keys in a file of them: one a line, base64, the newest first.
///
/// # Errors
/// `ValueInvalid` when there is none, or something else.
pub fn public_keys(text: &str) -> Result<Vec<Vec<u8>>> {
    let keys = text.split_whitespace().map(|line| data_encoding::BASE64.decode(line.as_bytes()).ok());
    let keys: Option<Vec<_>> = keys.map(|key| key.filter(|key| key.len() == 32)).collect();
    keys.filter(|keys| !keys.is_empty())
        .ok_or_else(|| Error::invalid("public_key", "expected public keys of Ed25519 in base64, one a line"))
}
