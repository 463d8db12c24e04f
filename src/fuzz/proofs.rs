//! What is signed, and read by whoever is shown it: receipts, bundles, notes, proofs, entries of the audit.

use super::{Named, halves, signer, text};
use crate::crypto::dsse::Envelope;
use crate::crypto::{merkle, note};
use crate::keys::statement::{self, Statement};
use crate::keys::{checkpoint::hex, receipt};
use crate::model::Time;
use crate::store::audit::Batch;
use crate::vault::audit::checkpoint::{Checkpoint, flatten, unflatten};
use crate::vault::audit::list::Told;
use crate::vault::audit::{proof, reveals};
use crate::vault::consent::bundle::{self, Bundle};
use crate::vault::consent::receipt::Receipt;

pub const TARGETS: &[Named] = &[
    ("receipts", signed::<receipt::Statement>),
    ("consent_receipts", signed::<Receipt>),
    ("bundles", bundles),
    ("notes", notes),
    ("audit_checkpoints", audit_checkpoints),
    ("audit_entries", audit_entries),
    ("audit_proofs", audit_proofs),
    ("frontiers", frontiers),
];

/// As it came, and as a payload that was signed.
fn signed<T: Statement>(bytes: &[u8]) {
    let Some(key) = signer() else { return };
    let keys = [key.public().to_vec()];
    assert!(statement::verify::<T>(bytes, Some(&keys)).is_err(), "nobody signed it");
    let _either = (statement::verify::<T>(bytes, None), statement::payload_type(bytes), statement::json(bytes));
    let envelope = Envelope::sign(T::TYPE, bytes, &key);
    let envelope = serde_json::to_vec(&envelope).unwrap_or_default();
    if let Ok(verified) = statement::verify::<T>(&envelope, Some(&keys)) {
        assert_eq!((verified.json.as_bytes(), verified.signed_by), (bytes, Some(0)));
    }
}

fn bundles(bytes: &[u8]) {
    signed::<Bundle>(bytes);
    let Some(key) = signer() else { return };
    let envelope = serde_json::to_vec(&Envelope::sign(Bundle::TYPE, bytes, &key)).unwrap_or_default();
    if let Ok(verified) = bundle::verify(&envelope, Some(&[key.public().to_vec()])) {
        assert!(verified.statement.decide().is_ok_and(|(decision, _)| decision == verified.statement.decision));
    }
}

fn notes(bytes: &[u8]) {
    let Some(key) = signer() else { return };
    let (name, said) = ("example.com/log", text(bytes));
    assert!(note::open(said, name, &[key.public()]).is_none(), "nobody signed it");
    let note = note::sign(said, name, &key);
    if let Some((read, at)) = note::open(&note, name, &[key.public()]) {
        assert_eq!((read, at), (said, 0), "what was signed is what is read");
    }
}

/// The text below a signature, or the whole of it.
fn audit_checkpoints(bytes: &[u8]) {
    let Some(key) = signer() else { return };
    let (said, keys) = (text(bytes), [key.public().to_vec()]);
    assert!(Checkpoint::open(said, &keys).is_none(), "nobody signed it");
    let origin = said.lines().next().unwrap_or_default();
    if let Some(checkpoint) = Checkpoint::open(&note::sign(said, origin, &key), &keys) {
        assert_eq!((checkpoint.text().as_str(), checkpoint.origin().as_str()), (said, origin));
    }
}

fn audit_entries(bytes: &[u8]) {
    for line in text(bytes).lines() {
        if let Ok(told) = Told::parse(line) {
            let _either = told.time();
        }
    }
    let (time, body) = (Time::from_micros(0), text(bytes).to_owned());
    let (node, prev_hash, merkle) = ([0; 16], [0; 32], [0; 32]);
    let batch = Batch { node, seq: 1, prev_hash, merkle, entries: 1, marks: Vec::new(), body, created_at: time };
    let _either = reveals(&batch);
}

/// A proof, in which a checkpoint may stand that is to be signed: the text after the first byte that is nothing.
fn audit_proofs(bytes: &[u8]) {
    let Some(key) = signer() else { return };
    let keys = [key.public().to_vec()];
    let (document, said) = halves(bytes);
    assert!(proof::check(document, &keys).is_err(), "nobody signed it");
    let Ok(mut document) = serde_json::from_slice::<proof::Proof>(document) else { return };
    let said = text(said);
    document.checkpoint = note::sign(said, said.lines().next().unwrap_or_default(), &key);
    let document = serde_json::to_vec(&document).unwrap_or_default();
    if let Ok(proven) = proof::check(&document, &keys) {
        assert!(proven.id.batch > 0 && proven.id.entry > 0 && proven.id.batch <= proven.checkpoint.size);
        assert!(proven.id.to_string().contains(&hex(&proven.checkpoint.node)));
    }
}

/// How many leaves there are, which one is meant, and hashes.
fn frontiers(bytes: &[u8]) {
    let Some((size, rest)) = bytes.split_first_chunk::<8>() else { return };
    let Some((index, rest)) = rest.split_first_chunk::<8>() else { return };
    let (size, index) = (u64::from_be_bytes(*size), u64::from_be_bytes(*index));
    let (path, _) = rest.as_chunks::<32>();
    if let Some(root) = merkle::follow([1; 32], index, size, path) {
        assert!(index < size && (size > 1 || root == [1; 32]));
    }
    let Some(frontier) = unflatten(size, rest) else { return };
    assert_eq!(flatten(&frontier), rest);
    let _root = frontier.root();
    if size < u64::MAX >> 2 {
        let mut grown = frontier.clone();
        grown.push([1; 32]);
        let proof = merkle::prove(&frontier, &[[1; 32]], size);
        let root = proof.and_then(|path| merkle::follow([1; 32], size, size + 1, &path));
        assert_eq!(root, Some(grown.root()), "the proof of what was just appended");
    }
}
