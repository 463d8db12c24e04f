//! Signed statements of the vault: JSON in a DSSE envelope, signed with Ed25519 by the [`Signer`], verifiable by anyone,
//! offline, for as long as somebody has the public key. Each names the key that signed it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Custody;
use super::signer::Signer;
use crate::crypto::dsse::Envelope;
use crate::crypto::note;
use crate::model::{Error, Result};

/// What is stated.
pub trait Statement: Serialize + DeserializeOwned {
    /// The DSSE payload type.
    const TYPE: &'static str;
    /// What it is, for people.
    const NAME: &'static str;

    /// The key that signs, base64.
    fn public_key(&self) -> &str;
}

/// What verification found.
#[derive(Debug)]
pub struct Verified<T> {
    /// The statement, whose signature holds.
    pub statement: T,
    /// The statement as it was signed.
    pub json: String,
    /// Which of the keys that were expected signed it, counted from 0; none when no key was expected, and the signature
    /// is of the key that the statement names.
    pub signed_by: Option<usize>,
}

impl Signer {
    /// Signs what `statement` makes of the public key.
    pub(super) fn state<T: Statement>(&self, statement: impl FnOnce(String) -> T) -> Result<Vec<u8>> {
        let key = self.key();
        let statement = statement(data_encoding::BASE64.encode(&key.public()));
        let payload = serde_json::to_vec(&statement).map_err(Error::internal)?;
        serde_json::to_vec(&Envelope::sign(T::TYPE, &payload, &key)).map_err(Error::internal)
    }
}

impl Custody {
    /// The vault, by the tree of its keys.
    #[must_use]
    pub const fn vault(&self) -> [u8; 16] {
        self.parts.vault
    }

    /// Signs a note in a name.
    #[must_use]
    pub fn sign_note(&self, text: &str, name: &str) -> String {
        note::sign(text, name, &self.parts.signer.key())
    }

    /// Signs what `statement` makes of the public key.
    pub fn state<T: Statement>(&self, statement: impl FnOnce(String) -> T) -> Result<Vec<u8>> {
        self.parts.signer.state(statement)
    }
}

/// Checks the signature of a statement. With `expected` it must be of one of those keys; without, it must be of the key
/// that the statement itself names, which shows that nothing was altered but not who signed.
///
/// # Errors
/// `ValueInvalid`, saying what does not hold.
pub fn verify<T: Statement>(signed: &[u8], expected: Option<&[Vec<u8>]>) -> Result<Verified<T>> {
    let refuse = |what: String| Error::invalid(T::NAME, what);
    let envelope = envelope(signed).map_err(|error| error.at(T::NAME))?;
    if envelope.payload_type != T::TYPE {
        return Err(refuse(format!("this envelope holds something else than a {}", T::NAME)));
    }
    let unchecked = data_encoding::BASE64.decode(envelope.payload.as_bytes()).unwrap_or_default();
    let named: T = serde_json::from_slice(&unchecked)
        .map_err(|_| refuse(format!("the statement in the {} makes no sense", T::NAME)))?;
    let named_key = data_encoding::BASE64.decode(named.public_key().as_bytes()).unwrap_or_default();
    let holds = |(at, key): (usize, &Vec<u8>)| envelope.verify(key).map(|payload| (at, payload));
    let (at, payload) = expected.unwrap_or(&[named_key]).iter().enumerate().find_map(holds).ok_or_else(|| {
        refuse(format!("the signature does not hold: the {} was altered or another key signed it", T::NAME))
    })?;
    let statement = serde_json::from_slice(&payload).map_err(Error::internal)?;
    let json = String::from_utf8(payload).map_err(Error::internal)?;
    Ok(Verified { statement, json, signed_by: expected.map(|_| at) })
}

/// What an envelope claims to hold.
///
/// # Errors
/// `ValueInvalid` when it is none.
pub fn payload_type(signed: &[u8]) -> Result<String> {
    Ok(envelope(signed)?.payload_type)
}

/// The statement inside an envelope that this vault made, as JSON.
pub fn json(signed: &[u8]) -> Result<String> {
    let envelope: Envelope = serde_json::from_slice(signed).map_err(Error::internal)?;
    let payload = data_encoding::BASE64.decode(envelope.payload.as_bytes()).map_err(Error::internal)?;
    String::from_utf8(payload).map_err(Error::internal)
}

fn envelope(signed: &[u8]) -> Result<Envelope> {
    serde_json::from_slice(signed).map_err(|_| Error::invalid("file", "this is not the JSON of a DSSE envelope"))
}
