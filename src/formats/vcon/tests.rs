mod hidden;
mod hostile;

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use super::*;
use crate::crypto::SigningKey;
use crate::crypto::testing::Seeded;
use crate::formats::jwks::KeySet;
use crate::model::{Reason, Time};

/// A folder with more samples, in folders by their kind, if the tests were built with one.
const MORE: Option<&str> = option_env!("LACUNA_TEST_VCON");

/// The samples of this kind: those of the repository, and more of them.
fn samples(kind: &str) -> Vec<PathBuf> {
    let own =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vcon").join(if kind == "fake" { "" } else { kind });
    let more = MORE.map(|folder| Path::new(folder).join(kind));
    let mut files = Vec::new();
    for folder in std::iter::once(own).chain(more).filter(|folder| folder.is_dir()) {
        files.extend(fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
    }
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json" || ending == "vcon"));
    // One of the working group's files is no conversation, and one is their schema.
    files.retain(|file| !file.ends_with("vcon_json_schema.json") && !file.ends_with("simple-vcon.vcon"));
    assert!(files.len() >= 6, "{files:?}");
    files.sort();
    files
}

struct Schema(boon::Schemas, boon::SchemaIndex);

impl Schema {
    fn new() -> Self {
        let text = include_str!("../../../tests/data/vcon/ietf/vcon_json_schema.json");
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource("vcon", serde_json::from_str(text).unwrap()).unwrap();
        let index = compiler.compile("vcon", &mut schemas).unwrap();
        Self(schemas, index)
    }

    fn check(&self, text: &str) {
        let document: Value = serde_json::from_str(text).unwrap();
        self.0.validate(&document, self.1).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    }
}

fn take(document: &Value) -> Result<Read> {
    read(document.to_string().as_bytes(), Trust::Anybody, CardRule::Refuse)
}

fn taken(document: &Value) -> Conversation {
    take(document).unwrap_or_else(|error| panic!("{error}: {document}")).conversation
}

/// The field that is refused.
fn fault(document: &Value) -> String {
    take(document).err().unwrap_or_else(|| panic!("it is taken: {document}")).field.unwrap_or_default()
}

fn now() -> Time {
    Time::parse("2026-02-01T00:00:00Z").unwrap()
}

fn shown(conversation: &Conversation, party: usize) -> String {
    let redacted = redact(conversation, party, now(), &Seeded::new(1)).unwrap();
    write(&redacted).unwrap().expose().to_owned()
}

/// The words of a text in lower case: `ana.mueller@kunde.example` says a name as well as `Ana Mueller` does.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase).collect()
}

fn call() -> Value {
    json!({
        "uuid": "01928e10-193e-8231-b9a2-279e0d16bc46",
        "created_at": "2026-01-31T09:30:00Z",
        "subject": "Refund for Diana Hernández",
        "parties": [
            { "name": "Ana Müller", "tel": "+4930555999", "mailto": "ana@kunde.example", "role": "customer" },
            { "name": "Diana Hernandez", "tel": "+1 599 639 3222", "mailto": "diana.hernandez@firm.example",
              "sip": "sip:dhernandez@pbx.example", "meta": { "extension": "88412" }, "role": "agent" },
        ],
        "dialog": [
            { "type": "text", "start": "2026-01-31T09:30:00Z", "parties": [1], "body": "Hello, Ana Müller here?" },
            { "type": "recording", "start": "2026-01-31T09:31:00Z", "duration": 30, "parties": [0, 1],
              "url": "https://u:p@rec.example/a.wav?X-Signature=secret#t", "filename": "diana.wav",
              "party_history": [
                { "party": 0, "time": "2026-01-31T09:31:01Z", "event": "keydown", "button": "4" },
                { "party": 1, "time": "2026-01-31T09:31:02Z", "event": "pci_pause" },
                { "party": 1, "time": "2026-01-31T09:31:09Z", "event": "pci_resume" },
              ] },
        ],
        "analysis": [],
        "attachments": [],
    })
}

#[test]
fn every_sample_is_read_and_written_as_the_schema_wants_and_shows_nobody_else() {
    let schema = Schema::new();
    let kinds = ["fake", "ietf"].into_iter().chain(MORE.map(|_| "generated"));
    for file in kinds.flat_map(samples) {
        let bytes = fs::read(&file).unwrap();
        let read = read(&bytes, Trust::Anybody, CardRule::Refuse).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        let full = write(&read.conversation).unwrap();
        schema.check(full.expose());
        let again = super::read(full.expose().as_bytes(), Trust::Anybody, CardRule::Refuse).unwrap().conversation;
        assert!(write(&again).unwrap().expose() == full.expose(), "{file:?}: it reads back as it was written");
        let parties = &read.conversation.parties;
        for own in 0..parties.len() {
            let redacted = shown(&read.conversation, own);
            schema.check(&redacted);
            let (lower, said) = (redacted.to_lowercase(), words(&redacted));
            let own_words: Vec<_> = parties[own].told.iter().flat_map(|(_, text)| words(text.expose())).collect();
            for (at, other) in parties.iter().enumerate().filter(|(at, _)| *at != own) {
                for name in ["name", "tel", "mailto"] {
                    let Some(value) = other.get(name) else { continue };
                    assert!(full.expose().contains(value), "{file:?}: party {at} is in what is whole");
                    assert!(!lower.contains(&value.to_lowercase()), "{file:?}: {name} of party {at} for {own}");
                    for part in value.split(|c: char| !c.is_alphabetic()).filter(|_| name == "name") {
                        let part = part.to_lowercase();
                        let named = said.contains(&part) && !own_words.contains(&part);
                        assert!(part.is_empty() || !named, "{file:?}: a name of party {at} for {own}");
                    }
                }
            }
            for text in parties[own].told.iter().filter(|(name, _)| *name != "stir") {
                let text = serde_json::to_string(text.1.expose()).unwrap();
                assert!(redacted.contains(&text), "{file:?}: what is their own stays, party {own}");
            }
        }
    }
}

#[test]
fn what_is_malformed_is_refused_by_the_name_of_the_field() {
    let expected = [
        ("bad_dialog_types.json", "dialog[0].duration"),
        ("bad_duration.json", "dialog[0].duration"),
        ("bad_mimetype.json", "dialog[0].mimetype"),
        ("bad_url.json", "dialog[0].url"),
        ("missing_uuid_and_vcon_version.json", "uuid"),
        ("null_parties.json", "parties"),
    ];
    let files = samples("invalid");
    assert!(expected.iter().all(|(name, _)| files.iter().any(|file| file.ends_with(name))), "{files:?}");
    for file in &files {
        let found = expected.iter().find(|(name, _)| file.ends_with(name));
        let &(name, field) = found.unwrap_or_else(|| panic!("{file:?} is new: say which field is refused"));
        let error = read(&fs::read(file).unwrap(), Trust::Anybody, CardRule::Refuse).err().unwrap();
        assert_eq!((error.reason, error.field.as_deref()), (Reason::ValueInvalid, Some(field)), "{name}");
    }
    let with = |pointer: &str, value: Value| {
        let mut document = call();
        *document.pointer_mut(pointer).unwrap() = value;
        fault(&document)
    };
    assert_eq!(with("/dialog/1/parties", json!([0, 2])), "dialog[1].parties[1]");
    assert_eq!(with("/dialog/1/duration", json!(1e300)), "dialog[1].duration");
    assert_eq!(with("/dialog/1/start", json!("yesterday")), "dialog[1].start");
    assert_eq!(with("/dialog/1/url", json!("file:///etc/passwd")), "dialog[1].url");
    assert_eq!(with("/parties/0", Value::Null), "parties[0]");
    assert_eq!(with("/parties/1/name", json!(7)), "parties[1].name");
    assert_eq!(with("/uuid", json!("7")), "uuid");
    let added = |key: &str, value: Value| {
        let mut document = call();
        document[key] = value;
        fault(&document)
    };
    assert_eq!(added("critical", json!(["moon"])), "critical[0]");
    assert_eq!(added("group", json!([{}])), "group");
    let id = "01928e10-193e-8231-b9a2-279e0d16bc47";
    let mut both = call();
    both["redacted"] = json!({ "uuid": id, "type": "x" });
    both["amended"] = json!({ "uuid": id });
    assert_eq!(fault(&both), "amended");
    let body = |body: Value| {
        let mut document = call();
        document["analysis"] = json!([{ "type": "summary", "vendor": "x", "encoding": "base64url", "body": body }]);
        fault(&document)
    };
    assert_eq!(body(json!({})), "analysis[0].body");
    assert_eq!(body(json!("?")), "analysis[0].body");
    let twice = br#"{"uuid":"01928e10-193e-8231-b9a2-279e0d16bc46","uuid":"01928e10-193e-8231-b9a2-279e0d16bc47"}"#;
    let error = read(twice, Trust::Anybody, CardRule::Refuse).err().unwrap();
    assert_eq!(error.field.as_deref(), Some("uuid"));
    let deep = format!("{{\"subject\":{}0{}}}", "[".repeat(60), "]".repeat(60));
    assert!(read(deep.as_bytes(), Trust::Anybody, CardRule::Refuse).err().unwrap().message.contains("deep"));
}

#[test]
fn secrets_of_addresses_and_digits_are_dropped() {
    let Read { conversation, changes, .. } = take(&call()).unwrap();
    assert_eq!((changes.addresses, changes.digits), (1, 1));
    let full = write(&conversation).unwrap();
    for gone in ["secret", "u:p", "button"] {
        assert!(!full.expose().contains(gone), "{gone}");
    }
    let document: Value = serde_json::from_str(full.expose()).unwrap();
    assert_eq!(document["dialog"][1]["url"], "https://rec.example/a.wav");
    assert_eq!(document["dialog"][1]["lacuna_gaps"][0]["end"], "2026-01-31T09:31:09.000000Z");
    let redacted: Value = serde_json::from_str(&shown(&conversation, 0)).unwrap();
    assert_eq!(redacted["dialog"][1]["lacuna_gaps"][0]["reason"], "pci");
    assert!(redacted["dialog"][1].get("url").is_none() && redacted["dialog"][1].get("filename").is_none());
    assert_eq!(redacted["redacted"]["uuid"], document["uuid"]);
    assert_ne!(redacted["uuid"], document["uuid"]);
}

#[test]
fn cards_are_refused_or_masked() {
    let said = "four one one one one one one one one one one one one one one one";
    for text in ["card 4111 1111 1111 1111, thanks", said] {
        let mut document = call();
        document["dialog"][0]["body"] = json!(text);
        let error = take(&document).err().unwrap();
        assert_eq!((error.reason, error.field.as_deref()), (Reason::CardData, Some("dialog[0].body")));
        let read = read(document.to_string().as_bytes(), Trust::Anybody, CardRule::Mask).unwrap();
        assert_eq!(read.changes.cards, 1);
        let full = write(&read.conversation).unwrap();
        assert!(
            full.expose().contains("[card]") && !full.expose().contains("1111") && !full.expose().contains("one one")
        );
    }
    let mut document = call();
    document["attachments"] = json!([{ "body": { "number": 4_111_111_111_111_111_u64 }, "encoding": "json" }]);
    assert_eq!(fault(&document), "attachments[0].body");
}

#[test]
fn others_are_found_in_any_spelling_and_own_data_stays() {
    let texts = [
        "DIANA HERNÁNDEZ",
        "diana",
        "Hernandez's",
        "dhernandez",
        "DianaHernandez",
        "Diana_Hernandez",
        "Hernandez, Diana",
        "d\u{200b}iana",
        "diana dot hernandez at firm dot example",
        "Diana.Hernandez@Firm.Example",
        "599-639-3222",
        "639 3222",
        "639.3222",
        "five nine nine six three nine three two two two",
        "six three nine, three, triple two",
        "tel:+15996393222",
        "sip:dhernandez@pbx.example",
        "diana.hernandez@elsewhere.example",
        "88412",
        "Diana77",
    ];
    for text in texts {
        let mut document = call();
        document["dialog"][0]["body"] = json!(format!("Ana Müller, +4930555999, ana@kunde.example: {text}"));
        let redacted: Value = serde_json::from_str(&shown(&taken(&document), 0)).unwrap();
        let body = redacted["dialog"][0]["body"].as_str().unwrap();
        assert!(body.starts_with("Ana Müller, +4930555999, ana@kunde.example: "), "{body}");
        assert!(body.contains("[redacted]"), "{text}: {body}");
        let left = body.to_lowercase();
        for part in ["diana", "hern", "639", "six three", "firm"] {
            assert!(!left.contains(part), "{text}: {body}");
        }
    }
    let mut document = call();
    document["dialog"][0]["body"] = json!("{\"agent\":\"Di\\u0061na\"}");
    let redacted: Value = serde_json::from_str(&shown(&taken(&document), 0)).unwrap();
    assert_eq!(redacted["dialog"][0]["body"], "{\"agent\":\"[redacted]\"}");
    let redacted: Value = serde_json::from_str(&shown(&taken(&call()), 0)).unwrap();
    assert_eq!(redacted["subject"], "Refund for [redacted]");
    assert_eq!(redacted["parties"][1], json!({ "name": "anonymous", "role": "agent" }));
}

#[test]
fn words_of_a_transcript_are_read_together() {
    let mut document = call();
    let words = "my number is five nine nine six three nine three two two two says diana";
    let words: Vec<_> = words.split(' ').map(|word| json!({ "word": word, "start": 1 })).collect();
    document["analysis"] =
        json!([{ "type": "transcript", "vendor": "x", "encoding": "json", "body": { "words": words } }]);
    let redacted: Value = serde_json::from_str(&shown(&taken(&document), 0)).unwrap();
    let words = redacted["analysis"][0]["body"]["words"].as_array().unwrap();
    let words: Vec<_> = words.iter().map(|word| word["word"].as_str().unwrap()).collect();
    assert_eq!(words[..3], ["my", "number", "is"]);
    assert!(words[3..13].iter().all(|word| *word == "[redacted]"), "{words:?}");
    assert_eq!(words[13..], ["says", "[redacted]"]);
}

#[test]
fn what_is_not_theirs_leaves_an_empty_place() {
    let mut document = call();
    document["parties"].as_array_mut().unwrap().push(json!({ "name": "Eve Moss", "role": "supervisor" }));
    let leg =
        json!({ "type": "text", "start": "2026-01-31T09:32:00Z", "parties": [1, 2], "body": "the caller is angry" });
    document["dialog"].as_array_mut().unwrap().push(leg);
    let grants = json!({ "lawful_basis": "consent", "purpose_grants": [{ "purpose": "recording", "granted": true }] });
    let basis = |party: usize| {
        json!({
            "purpose": "lawful_basis", "start": "2026-01-31T09:30:00Z", "party": party, "dialog": 0, "encoding": "json",
            "body": grants,
        })
    };
    let whole = json!({ "purpose": "copy", "party": 0, "encoding": "json", "body": { "copy": call() } });
    document["attachments"] = json!([basis(0), basis(1), whole]);
    document["unknown"] = json!("Diana");
    let conversation = taken(&document);
    let (full, redacted) = (write(&conversation).unwrap(), shown(&conversation, 0));
    let schema = Schema::new();
    schema.check(full.expose());
    schema.check(&redacted);
    let (full, redacted): (Value, Value) =
        (serde_json::from_str(full.expose()).unwrap(), serde_json::from_str(&redacted).unwrap());
    assert_eq!(full["dialog"][2]["body"], "the caller is angry");
    assert!(redacted["dialog"][2].get("body").is_none() && redacted["dialog"].as_array().unwrap().len() == 3);
    assert_eq!(redacted["attachments"][0]["body"], grants);
    assert!(redacted["attachments"][1].get("body").is_none() && redacted["attachments"][2].get("body").is_none());
    assert!(full["attachments"][2].get("body").is_some() && redacted.get("unknown").is_none());
}

fn signed(payload: &str, header: &str, key: &SigningKey) -> Value {
    let (payload, protected) = (BASE64URL_NOPAD.encode(payload.as_bytes()), BASE64URL_NOPAD.encode(header.as_bytes()));
    let signature = BASE64URL_NOPAD.encode(&key.sign(format!("{protected}.{payload}").as_bytes()));
    json!({ "payload": payload, "protected": protected, "signature": signature })
}

#[test]
fn only_those_who_are_trusted_sign() {
    let set = |key: &SigningKey| {
        let x = BASE64URL_NOPAD.encode(&key.public());
        KeySet::of_file(json!({ "kty": "OKP", "crv": "Ed25519", "x": x }).to_string().as_bytes()).unwrap()
    };
    let (key, _) = SigningKey::generate(&Seeded::new(1)).unwrap();
    let (other, _) = SigningKey::generate(&Seeded::new(2)).unwrap();
    let (keys, others) = (set(&key), set(&other));
    let open = |document: &Value, keys: &KeySet| {
        read(document.to_string().as_bytes(), Trust::Signers(keys), CardRule::Refuse)
            .map(|read| read.signed)
            .map_err(|error| error.field.unwrap_or_default())
    };
    let good = signed(&call().to_string(), "{\"alg\":\"EdDSA\"}", &key);
    assert_eq!(open(&good, &keys), Ok(true));
    assert_eq!(open(&good, &others), Err("signature".to_owned()));
    assert_eq!(open(&call(), &keys), Err("signatures".to_owned()), "it is not signed");
    let general = json!({ "payload": good["payload"], "signatures": [
        { "protected": good["protected"], "signature": good["signature"] },
    ] });
    assert_eq!(open(&general, &keys), Ok(true));
    assert_eq!(open(&general, &others), Err("signatures[0].signature".to_owned()));
    for header in ["{\"alg\":\"none\"}", "{\"alg\":\"HS256\"}", "{}"] {
        assert_eq!(
            open(&signed(&call().to_string(), header, &key), &keys),
            Err("protected.alg".to_owned()),
            "{header}"
        );
    }
    let crit = signed(&call().to_string(), "{\"alg\":\"EdDSA\",\"crit\":[\"b64\"]}", &key);
    assert_eq!(open(&crit, &keys), Err("protected.crit".to_owned()));
    let mut changed = good.clone();
    changed["payload"] = json!(BASE64URL_NOPAD.encode(b"{}"));
    assert_eq!(open(&changed, &keys), Err("signature".to_owned()));
    assert_eq!(fault(&json!({ "ciphertext": "x", "recipients": [] })), "ciphertext");
}
