//! Signed conversations: JSON Web Signatures (RFC 7515) in JSON, with one signature or several.
//!
//! Whoever verifies says by which keys. What a document says of keys, certificates in it included, is never believed and never
//! fetched. How it is signed is taken from what is signed alone.

use data_encoding::BASE64URL_NOPAD;

use super::fields::{Fields, LABEL};
use crate::crypto::jws::Algorithm;
use crate::formats::Json;
use crate::formats::jwks::KeySet;
use crate::model::{Error, Result};

/// No document has more signatures.
const MOST_SIGNATURES: usize = 16;

/// Whose conversations are read.
#[derive(Clone, Copy)]
pub enum Trust<'k> {
    /// Anybody's; a signature is not looked at.
    Anybody,
    /// Of those who have one of these keys, and signed.
    Signers(&'k KeySet),
}

/// What was signed, after its signature was verified if that is wanted; and whether it was signed.
///
/// # Errors
/// `ValueInvalid`, when it is encrypted, is not signed by whom it should be, or is no JWS.
pub fn open(document: Json, trust: Trust<'_>) -> Result<(Json, bool)> {
    if document.get("ciphertext").is_some() {
        let message = "it is encrypted (JWE); have it decrypted by whoever holds the key, and send what comes out";
        return Err(Error::invalid("ciphertext", message));
    }
    if document.get("payload").is_none() {
        return match trust {
            Trust::Anybody => Ok((document, false)),
            Trust::Signers(_) => {
                Err(Error::invalid("signatures", "it is not signed, and must be by one of the keys given"))
            }
        };
    }
    let mut fields = Fields::of(document, "")?;
    let payload = fields.text("payload", usize::MAX)?;
    let payload = payload.ok_or_else(|| fields.refuse("payload", "there is nothing that was signed"))?;
    let mut signatures = Vec::new();
    for (at, item) in fields.list("signatures", MOST_SIGNATURES)?.into_iter().enumerate() {
        signatures.push(Signature::of(&mut Fields::of(item, &format!("signatures[{at}]"))?)?);
    }
    if signatures.is_empty() {
        signatures.push(Signature::of(&mut fields)?);
    } else if fields.has("signature") {
        return Err(fields.refuse("signature", "it has one signature beside several; leave it out"));
    }
    if let Trust::Signers(keys) = trust {
        verify(&signatures, payload.expose(), keys)?;
    }
    let bytes = BASE64URL_NOPAD.decode(payload.expose().trim_end_matches('=').as_bytes());
    let bytes = bytes.map_err(|_| fields.refuse("payload", "it is not base64url"))?;
    let inner = Json::parse(&bytes, "payload")?;
    if inner.get("payload").is_some() {
        return Err(fields.refuse("payload", "it is signed twice, one within the other; take the outer one off"));
    }
    Ok((inner, true))
}

struct Signature {
    path: String,
    protected: String,
    bytes: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<String>,
}

impl Signature {
    fn of(fields: &mut Fields) -> Result<Self> {
        let protected = fields.text("protected", 1 << 20)?;
        let protected = protected.ok_or_else(|| fields.refuse("protected", "it does not say how it is signed"))?;
        let signature = fields.text("signature", 4096)?;
        let signature = signature.and_then(|text| BASE64URL_NOPAD.decode(text.expose().as_bytes()).ok());
        let signature = signature.ok_or_else(|| fields.refuse("signature", "a signature in base64url is expected"))?;
        let path = fields.at("protected");
        let bad = || Error::invalid(&path, "a header in base64url is expected");
        let header = BASE64URL_NOPAD.decode(protected.expose().as_bytes()).map_err(|_| bad())?;
        let mut header = Fields::of(Json::parse(&header, &path)?, &path)?;
        if header.has("crit") || header.has("b64") {
            return Err(header.refuse("crit", "it demands what is not known here"));
        }
        let alg = header.text("alg", LABEL)?;
        let algorithm = alg.and_then(|alg| Algorithm::called(alg.expose()));
        let message = "only signatures of RS256, ES256 and EdDSA are taken, and never none";
        let algorithm = algorithm.ok_or_else(|| header.refuse("alg", message))?;
        let mut kid = header.text("kid", LABEL)?;
        if let (None, Some(aside)) = (&kid, fields.take("header")) {
            kid = Fields::of(aside, &fields.at("header"))?.text("kid", LABEL)?;
        }
        let kid = kid.map(|kid| kid.expose().to_owned());
        Ok(Self {
            path: fields.at("signature"),
            protected: protected.expose().to_owned(),
            bytes: signature,
            algorithm,
            kid,
        })
    }
}

/// Whether one of them is by one of the keys.
fn verify(signatures: &[Signature], payload: &str, keys: &KeySet) -> Result<()> {
    let mut refusal = None;
    for signature in signatures {
        let signed = format!("{}.{payload}", signature.protected);
        let mut known = false;
        for key in keys.candidates(signature.kid.as_deref(), signature.algorithm) {
            if key.verify(signed.as_bytes(), &signature.bytes) {
                return Ok(());
            }
            known = true;
        }
        let message = if known {
            "the signature is not by any of the keys given, or what was signed has been changed"
        } else {
            "none of the keys given is of the name and algorithm with which it was signed"
        };
        refusal.get_or_insert(Error::invalid(&signature.path, message));
    }
    Err(refusal.unwrap_or_else(|| Error::invalid("signatures", "it is not signed")))
}
