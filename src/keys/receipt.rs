//! Receipts: a signed statement that an erasure is complete, verifiable by anyone, offline, for ever.
//!
//! A receipt is a [`statement`]. It says what was destroyed and how certain it is;
//! it never says that data was anonymised, because that is not what happened.

use serde::{Deserialize, Serialize};

use super::checkpoint::hex;
use super::signer::Signer;
use super::slot::Assurance;
use super::statement;
use crate::model::{Element, Erasure, Error, PlanItem, Result, RetentionRun, Time, Verdict};

/// The DSSE payload type of a receipt.
pub const PAYLOAD_TYPE: &str = "application/vnd.lacuna.erasure-receipt+json";

/// What a receipt is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// The erasure of a person.
    #[default]
    Erasure,
    /// Values that were kept long enough.
    Retention,
    /// Parts of a call, before that.
    Parts,
    /// The copies of a legal hold that was released.
    Hold,
}

impl Kind {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
    fn is_erasure(&self) -> bool {
        *self == Self::Erasure
    }
}

/// What a receipt states.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The format, 1.
    pub version: u32,
    /// What it is about.
    #[serde(default, rename = "type", skip_serializing_if = "Kind::is_erasure")]
    pub kind: Kind,
    /// The erasure; empty in the receipt of a retention run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub erasure: String,
    /// The retention run; empty in the receipt of an erasure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub retention_run: String,
    /// The call whose parts were destroyed; empty in other receipts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub call: String,
    /// The legal hold whose copies were destroyed; empty in other receipts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hold: String,
    /// Who was erased, by pseudonym; empty in the receipt of a retention run, which is about many.
    #[serde(default, skip_serializing_if = "String::is_empty")]
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
        let mut statement = destroyed(erasure.requested_at, erasure.plan.clone(), root, slot, at);
        statement.erasure = erasure.id.to_string();
        statement.subject = erasure.subject.to_string();
        erasure.reason.as_str().clone_into(&mut statement.reason);
        self.state(|public_key| Statement { public_key, ..statement })
    }

    /// The receipt of a retention run whose keys are gone at `at`.
    pub fn sign_run(
        &self,
        run: &RetentionRun,
        root: (u64, &[u8; 16]),
        slot: (&str, Assurance),
        at: Time,
    ) -> Result<Vec<u8>> {
        let item = |ended: &crate::model::Ended| PlanItem {
            class: Some(ended.class.clone()),
            cohort: Some(ended.cohort.clone()).filter(|cohort| !cohort.is_empty()),
            ..PlanItem::new(Element::Fields, Verdict::Destroy, ended.values)
        };
        let mut statement = destroyed(run.started_at, run.items.iter().map(item).collect(), root, slot, at);
        statement.kind = match (run.call, run.hold) {
            (Some(_), _) => Kind::Parts,
            (None, Some(_)) => Kind::Hold,
            (None, None) => Kind::Retention,
        };
        statement.retention_run = run.id.to_string();
        statement.call = run.call.map(|call| call.to_string()).unwrap_or_default();
        statement.hold = run.hold.map(|hold| hold.to_string()).unwrap_or_default();
        run.reason.clone_into(&mut statement.reason);
        self.state(|public_key| Statement { public_key, ..statement })
    }
}

/// What every receipt states, of whatever it is.
fn destroyed(
    requested_at: Time,
    plan: Vec<PlanItem>,
    root: (u64, &[u8; 16]),
    slot: (&str, Assurance),
    at: Time,
) -> Statement {
    Statement {
        version: 1,
        kind: Kind::Erasure,
        erasure: String::new(),
        retention_run: String::new(),
        call: String::new(),
        hold: String::new(),
        subject: String::new(),
        reason: String::new(),
        request_time: requested_at.to_string(),
        erase_time: at.to_string(),
        plan,
        epoch: root.0,
        root_id: hex(root.1),
        slot: slot.0.to_owned(),
        assurance: slot.1.name().to_owned(),
        promise: "The keys to the values listed as DESTROY are destroyed, and their ciphertexts deleted from the \
                      live vault. No copy of its databases, logs or backups, taken at any time, opens them, unless \
                      somebody kept a copy of an earlier root slot together with the key that wraps it. Values that \
                      callers were given before are not covered."
            .to_owned(),
        public_key: String::new(),
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
