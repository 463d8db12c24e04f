//! Conversations of other systems on the command line: looked at, and written for one of their parties.

use std::fs;
use std::path::{Path, PathBuf};

use lacuna::crypto::{SigningKey, SystemRandom};
use serde_json::{Value, json};

use crate::process::{lacuna, run, said};

/// The shared samples of this kind when they lie beside the repository, and the copies in it otherwise.
fn samples(kind: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = root.join("../shared/data/vcon").join(kind);
    let own = root.join("tests/data/vcon").join(if kind == "invalid" { kind } else { "" });
    let folder = if shared.is_dir() { shared } else { own };
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json" || ending == "vcon"));
    // One of the working group's files is no conversation, and one is their schema.
    files.retain(|file| !file.ends_with("vcon_json_schema.json") && !file.ends_with("simple-vcon.vcon"));
    files.sort();
    files
}

fn check(files: &[PathBuf], args: &[&str]) -> (bool, Value) {
    let output = run(lacuna().args(["vcon", "check", "--output", "json"]).args(args).args(files));
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    (output.status.success(), answer)
}

fn faults(document: &Value) -> String {
    let schema = include_str!("../data/vcon/ietf/vcon_json_schema.json");
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource("vcon", serde_json::from_str(schema).unwrap()).unwrap();
    let index = compiler.compile("vcon", &mut schemas).unwrap();
    schemas.validate(document, index).map_or_else(|error| format!("{error:#}"), |()| String::new())
}

#[test]
fn samples_are_taken_and_malformed_ones_are_refused_by_the_name_of_the_field() {
    for kind in ["fake", "generated", "ietf"] {
        let (well, answer) = check(&samples(kind), &[]);
        assert!(well, "{answer}");
    }
    let (well, answer) = check(&samples("invalid"), &[]);
    assert!(!well);
    let fields: Vec<_> =
        answer["files"].as_array().unwrap().iter().map(|file| file["field"].as_str().unwrap()).collect();
    assert_eq!(
        fields,
        ["dialog[0].duration", "dialog[0].duration", "dialog[0].mimetype", "dialog[0].url", "uuid", "parties"]
    );
}

#[test]
fn a_party_gets_a_conversation_without_the_others() {
    let folder = tempfile::tempdir().unwrap();
    for file in samples("fake").iter().chain(&samples("generated")).step_by(60) {
        let whole: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        for own in 0..2 {
            let out = folder.path().join("redacted.json");
            let party = own.to_string();
            let output = run(lacuna().args(["vcon", "redact", "--for", &party, "--out"]).arg(&out).arg(file));
            assert!(output.status.success(), "{}", said(&output));
            let text = fs::read_to_string(&out).unwrap();
            let redacted: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(faults(&redacted), "", "{}", file.display());
            assert_eq!(redacted["redacted"]["uuid"], whole["uuid"]);
            assert_eq!(redacted["parties"].as_array().unwrap().len(), whole["parties"].as_array().unwrap().len());
            for name in ["name", "tel", "mailto", "email"] {
                let value = whole["parties"][1 - own][name].as_str().unwrap_or_default().to_lowercase();
                assert!(value.is_empty() || !text.to_lowercase().contains(&value), "{}: {name}", file.display());
                let value = whole["parties"][own][name].as_str().unwrap_or_default();
                assert!(text.contains(value), "{}: what is their own stays: {name}", file.display());
            }
        }
    }
}

#[test]
fn a_signature_is_verified_by_the_key_that_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let call = fs::read(samples("fake").first().unwrap()).unwrap();
    let encode = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let (key, _) = SigningKey::generate(&SystemRandom::new()).unwrap();
    let (payload, protected) = (encode(&call), encode(b"{\"alg\":\"EdDSA\"}"));
    let signature = encode(&key.sign(format!("{protected}.{payload}").as_bytes()));
    let document = json!({ "payload": payload, "signatures": [{ "protected": protected, "signature": signature }] });
    let (file, signer, other) =
        (folder.path().join("signed.vcon"), folder.path().join("signer.jwk"), folder.path().join("other.jwk"));
    fs::write(&file, document.to_string()).unwrap();
    let jwk = |key: &SigningKey| json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(&key.public()) }).to_string();
    fs::write(&signer, jwk(&key)).unwrap();
    fs::write(&other, jwk(&SigningKey::generate(&SystemRandom::new()).unwrap().0)).unwrap();
    let files = [file];
    let (well, answer) = check(&files, &["--signer", signer.to_str().unwrap()]);
    assert!(well && answer["files"][0]["signature"] == "verified", "{answer}");
    let (well, answer) = check(&files, &["--signer", other.to_str().unwrap()]);
    assert!(!well && answer["files"][0]["field"] == "signatures[0].signature", "{answer}");
    let (well, answer) = check(&samples("fake")[..1], &["--signer", signer.to_str().unwrap()]);
    assert!(!well && answer["files"][0]["field"] == "signatures", "{answer}");
    // The working group's own example, by the key of the certificate in it.
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/vcon/ietf/ab_call_ext_rec_signed.vcon");
    if example.exists() {
        let pem = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vcon/ietf/signer.pem");
        let (well, answer) = check(&[example], &["--signer", pem.to_str().unwrap()]);
        assert!(well && answer["files"][0]["signature"] == "verified", "{answer}");
    }
}
