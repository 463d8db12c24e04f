//! Documents of other systems: conversations, and signatures around them.

use data_encoding::BASE64URL_NOPAD;

use super::{Named, Repeated, signer};
use crate::formats::jwks::KeySet;
use crate::formats::vcon::{self, CardRule, Trust};
use crate::model::Time;

pub const TARGETS: &[Named] = &[("vcons", vcons), ("vcon_signatures", vcon_signatures)];

/// What is read is written, reads back the same, and has a form for each party.
fn vcons(bytes: &[u8]) {
    let Ok(read) = vcon::read(bytes, Trust::Anybody, CardRule::Mask) else { return };
    let Ok(written) = vcon::write(&read.conversation) else { return };
    let again = vcon::read(written.expose().as_bytes(), Trust::Anybody, CardRule::Refuse);
    let again = again.ok().and_then(|again| vcon::write(&again.conversation).ok());
    assert!(again.is_some_and(|again| again.expose() == written.expose()), "it does not read back");
    for party in 0..read.conversation.parties.len().min(3) {
        let redacted = vcon::redact(&read.conversation, party, Time::from_micros(0), &Repeated::default());
        let redacted = redacted.ok().and_then(|redacted| vcon::write(&redacted).ok());
        let redacted =
            redacted.map(|text| vcon::read(text.expose().as_bytes(), Trust::Anybody, CardRule::Refuse).is_ok());
        assert_eq!(redacted, Some(true), "what is redacted does not read back");
    }
}

/// As it came, and as a payload that was signed.
fn vcon_signatures(bytes: &[u8]) {
    let Some(key) = signer() else { return };
    let jwk = format!("{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"{}\"}}", BASE64URL_NOPAD.encode(&key.public()));
    let Ok(keys) = KeySet::of_file(jwk.as_bytes()) else { return };
    let _either = KeySet::of_file(bytes);
    assert!(vcon::read(bytes, Trust::Signers(&keys), CardRule::Mask).is_err(), "nobody signed it");
    let _either = vcon::read(bytes, Trust::Anybody, CardRule::Mask);
    let (protected, payload) = (BASE64URL_NOPAD.encode(b"{\"alg\":\"EdDSA\"}"), BASE64URL_NOPAD.encode(bytes));
    let signature = BASE64URL_NOPAD.encode(&key.sign(format!("{protected}.{payload}").as_bytes()));
    let document = format!("{{\"payload\":\"{payload}\",\"protected\":\"{protected}\",\"signature\":\"{signature}\"}}");
    let signed = vcon::read(document.as_bytes(), Trust::Signers(&keys), CardRule::Mask);
    let plain = vcon::read(bytes, Trust::Anybody, CardRule::Mask);
    if let Ok(signed) = signed {
        assert!(signed.signed && plain.is_ok_and(|plain| plain.conversation.uuid == signed.conversation.uuid));
    }
}
