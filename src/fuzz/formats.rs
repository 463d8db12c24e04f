//! Documents of other systems: conversations, and signatures around them.

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use jiff::tz::Offset;

use super::{Named, Repeated, signer, text};
use crate::cli::call::import::rows::{Format as Rows, of_bytes};
use crate::formats::cdr::{self, Format, Mapping};
use crate::formats::jwks::KeySet;
use crate::formats::vcon::{self, CardRule, KeptBody, Trust, without_secrets};
use crate::model::{Direction, Time};

pub const TARGETS: &[Named] =
    &[("vcons", vcons), ("vcon_signatures", vcon_signatures), ("cdr", cdr), ("cdr_files", cdr_files)];

/// What is read is written, reads back the same, and has a form for each party.
fn vcons(bytes: &[u8]) {
    let Ok(read) = vcon::read(bytes, Trust::Anybody, CardRule::Mask) else { return };
    let Ok(written) = vcon::write(&read.conversation) else { return };
    let again = vcon::read(written.expose().as_bytes(), Trust::Anybody, CardRule::Refuse);
    let again = again.ok().and_then(|again| vcon::write(&again.conversation).ok());
    assert!(again.is_some_and(|again| again.expose() == written.expose()), "it does not read back");
    kept(&read.conversation);
    for party in 0..read.conversation.parties.len().min(3) {
        let redacted = vcon::redact(&read.conversation, party, Time::from_micros(0), &Repeated::default());
        let redacted = redacted.ok().and_then(|redacted| vcon::write(&redacted).ok());
        let redacted =
            redacted.map(|text| vcon::read(text.expose().as_bytes(), Trust::Anybody, CardRule::Refuse).is_ok());
        assert_eq!(redacted, Some(true), "what is redacted does not read back");
    }
}

/// What a call keeps of a conversation is that conversation.
fn kept(conversation: &vcon::Conversation) {
    let Ok(apart) = vcon::apart(conversation) else { return };
    let member = |party: cdr::Party| vcon::Member {
        role: party.role,
        label: None,
        number: Some(party.number).filter(|text| !text.is_empty()),
        name: Some(party.name).filter(|text| !text.is_empty()),
        place: None,
        note: Some(party.note).filter(|text| !text.is_empty()),
        agent_id: None,
    };
    let (mut pieces, mut addresses) = (Vec::new(), Vec::new());
    for (at, part) in apart.parts.into_iter().enumerate() {
        match part.body {
            KeptBody::Address(address) => addresses.push((at, address)),
            KeptBody::Piece(piece) => pieces.push(piece),
        }
    }
    let (uuid, at) = (apart.leg.source_call_id, apart.leg.facts.started_at);
    let parties = apart.leg.parties.into_iter().map(member).collect();
    let (legs, others) = (Vec::new(), Vec::new());
    let call = vcon::Call { uuid, recorded_at: at, began_at: at, parties, pieces, addresses, legs, others };
    let again = vcon::together(call);
    assert!(again.is_ok(), "what was kept is no conversation");
    let Ok(mut again) = again else { return };
    assert_eq!(again.parties.len(), conversation.parties.len());
    // Who had no role or a number that was withheld is told otherwise.
    again.parties.clear();
    let Ok(mut plain) =
        vcon::write(conversation).and_then(|text| vcon::read(text.expose().as_bytes(), Trust::Anybody, CardRule::Mask))
    else {
        return;
    };
    plain.conversation.parties.clear();
    let texts = [&again, &plain.conversation].map(|one| vcon::write(one).ok());
    let [Some(again), Some(plain)] = texts else { return };
    assert_eq!(again.expose().len(), plain.expose().len(), "something of it was lost");
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

/// A mapping and, below it, a row; the mapping is one byte that says which.
fn cdr(bytes: &[u8]) {
    let (which, row) = bytes.split_first().map_or((0, bytes), |(which, row)| (*which, row));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let pairs = [("source_call_id", "id"), ("start_time", "began"), ("caller_number", "from"), ("note", "note")];
    let of = |format, header: Vec<String>, columns: &[(&str, &str)]| Mapping {
        format,
        header,
        delimiter: b',',
        columns: columns.iter().map(|(field, column)| ((*field).to_owned(), (*column).to_owned())).collect(),
        direction: Some(Direction::Inbound),
        directions: BTreeMap::new(),
        dispositions: BTreeMap::new(),
        offset: Offset::UTC,
        time_format: (which & 8 == 8).then(|| text(row).to_owned()),
    };
    let mapping = match which % 5 {
        0 => of(Format::AsteriskCsv, Vec::new(), &[]),
        1 => of(Format::FreeswitchJson, Vec::new(), &[]),
        2 => of(Format::Connect, Vec::new(), &[]),
        3 => of(Format::Twilio, Vec::new(), &[]),
        _ => of(Format::GenericCsv, names(&["id", "began", "from", "note"]), &pairs),
    };
    let Ok(mapping) = mapping.checked() else { return };
    let Ok(told) = cdr::read(text(row), &mapping) else { return };
    assert!(told.revision > 0, "a leg that cannot be told");
    assert!(
        told.facts.dialled.bytes().all(|byte| byte.is_ascii_digit() || b"+*#".contains(&byte)),
        "clear, and no number"
    );
    assert!(told.facts.queue.len() <= 64 && told.facts.queue.bytes().all(|byte| byte.is_ascii_graphic()), "no code");
    for party in &told.parties {
        assert!(without_secrets(party.note.expose()).is_none(), "an address that kept its query");
    }
}

/// A file of each kind, taken apart; what comes of it is one row each.
fn cdr_files(bytes: &[u8]) {
    for row in of_bytes(Rows::Twilio, bytes) {
        assert!(crate::formats::Json::parse(row.as_bytes(), "row").is_ok(), "no row of JSON");
    }
    let _either = of_bytes(Rows::AsteriskCsv, bytes);
}
