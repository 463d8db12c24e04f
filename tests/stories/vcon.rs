//! Conversations of other systems on the command line: looked at, and written for one of their parties.

use std::fs;
use std::path::{Path, PathBuf};

use lacuna::crypto::{SigningKey, SystemRandom};
use serde_json::{Value, json};

use crate::process::{lacuna, run, said};

/// The repository's samples below this folder.
fn samples(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vcon").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json" || ending == "vcon"));
    files.retain(|file| !file.ends_with("vcon_json_schema.json"));
    files.sort();
    assert!(files.len() >= 6, "{files:?}");
    files
}

fn check(files: &[PathBuf], args: &[&str]) -> (bool, Value) {
    let output = run(lacuna().args(["vcon", "check", "--output", "json"]).args(args).args(files));
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    (output.status.success(), answer)
}

#[test]
fn samples_are_taken_and_malformed_ones_are_refused_by_the_name_of_the_field() {
    for folder in ["", "ietf"] {
        let (well, answer) = check(&samples(folder), &[]);
        assert!(well, "{answer}");
    }
    let (well, answer) = check(&samples("invalid"), &[]);
    assert!(!well);
    let folder = samples("invalid").first().unwrap().parent().unwrap().to_owned();
    assert_eq!(check(&[folder], &[]), (false, answer.clone()), "the folder stands for the files in it");
    let missing = run(lacuna().args(["vcon", "check", "nowhere.vcon"]));
    assert!(missing.status.code() == Some(2) && said(&missing).contains("nowhere.vcon"), "{}", said(&missing));
    for file in answer["files"].as_array().unwrap() {
        assert!(file["field"].as_str().is_some_and(|field| !field.is_empty()), "{file}");
    }
}

#[test]
fn a_party_gets_a_conversation_without_the_others() {
    let folder = tempfile::tempdir().unwrap();
    for file in samples("").iter().step_by(5) {
        let whole: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        for own in 0..2 {
            let out = folder.path().join("redacted.json");
            let party = own.to_string();
            let redact = |more: &[&str]| {
                run(lacuna().args(["vcon", "redact", "--for", &party, "--out"]).arg(&out).arg(file).args(more))
            };
            fs::write(&out, "another").unwrap();
            let refused = redact(&[]);
            assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
            assert!(said(&refused).contains("--force") && fs::read(&out).unwrap() == b"another", "{}", said(&refused));
            let output = redact(&["--force"]);
            assert!(output.status.success(), "{}", said(&output));
            fs::remove_file(&out).unwrap();
            assert!(redact(&[]).status.success());
            let text = fs::read_to_string(&out).unwrap();
            let redacted: Value = serde_json::from_str(&text).unwrap();
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
    let call = fs::read(samples("").first().unwrap()).unwrap();
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
    let (well, answer) = check(&samples("")[..1], &["--signer", signer.to_str().unwrap()]);
    assert!(!well && answer["files"][0]["field"] == "signatures", "{answer}");
    // The working group's own example, by the key of the certificate in it.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vcon/ietf");
    let (example, pem) = (folder.join("ab_call_ext_rec_signed.vcon"), folder.join("signer.pem"));
    let (well, answer) = check(&[example], &["--signer", pem.to_str().unwrap()]);
    assert!(well && answer["files"][0]["signature"] == "verified", "{answer}");
}
