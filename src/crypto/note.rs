//! Signed notes (`c2sp.org/signed-note`): text that people can read, with signatures below it, each by a named key.
//!
//! ```text
//! lacuna/audit/3f…/00…
//! 1832
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — lacuna/audit/3f…/00… Az3grlgtzPICa5OS8npVmf1M…
//! ```

use data_encoding::{BASE64, HEXLOWER};

use super::derive::sha256;
use super::sign::{SigningKey, verify};

/// What a signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// The type of a signature by Ed25519.
const ED25519: u8 = 1;

/// The most bytes that a note may have.
const LONGEST: usize = 64 * 1024;

/// Signs `text`, which ends with a line feed, in the name of `name`, which holds neither a space nor a plus.
#[must_use]
pub fn sign(text: &str, name: &str, key: &SigningKey) -> String {
    let signed = [id(name, &key.public()).as_slice(), &key.sign(text.as_bytes())].concat();
    format!("{text}\n{DASH}{name} {}\n", BASE64.encode(&signed))
}

/// The text of a note, if one of these keys has signed it in the name of `name`; and which. Signatures by others do not matter.
#[must_use]
pub fn open<'n, K: AsRef<[u8]>>(note: &'n str, name: &str, keys: &[K]) -> Option<(&'n str, usize)> {
    if note.len() > LONGEST || !note.ends_with('\n') || note.contains(|c: char| c < ' ' && c != '\n') {
        return None;
    }
    let at = note.rfind("\n\n")?;
    let (text, below) = (note.get(..=at)?, note.get(at + 2..)?);
    for line in below.lines() {
        let (signer, signature) = line.strip_prefix(DASH)?.split_once(' ')?;
        let bytes = BASE64.decode(signature.as_bytes()).ok()?;
        let (named, signature) = bytes.split_at_checked(4)?;
        if signer != name {
            continue;
        }
        let fits = |key: &K| id(name, key.as_ref()) == named && verify(key.as_ref(), text.as_bytes(), signature);
        if let Some(at) = keys.iter().position(fits) {
            return Some((text, at));
        }
    }
    None
}

/// The verifier key: name, key id and public key in the form that other tools take.
#[must_use]
pub fn verifier(name: &str, public: &[u8]) -> String {
    let typed = [&[ED25519], public].concat();
    format!("{name}+{}+{}", HEXLOWER.encode(&id(name, public)), BASE64.encode(&typed))
}

/// The key id: what tells keys of one name apart.
fn id(name: &str, public: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[name.as_bytes(), b"\n", &[ED25519], public]);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::Seeded;

    /// The note and the key of the documentation of Go's `golang.org/x/mod/sumdb/note`, from which the format came.
    const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn reads_what_others_have_signed() {
        let (name, typed) = ("PeterNeumann", BASE64.decode(KEY.rsplit('+').next().unwrap().as_bytes()).unwrap());
        let public = &typed[1..];
        assert_eq!(verifier(name, public), KEY);
        let (text, by) = open(NOTE, name, &[[0; 32].as_slice(), public]).unwrap();
        assert!(text.starts_with("If you think") && text.ends_with("problem is.\n"));
        assert_eq!(by, 1);
        assert_eq!(open(NOTE, "SomebodyElse", &[public]), None);
        assert_eq!(open(NOTE, name, &[[0; 32]]), None);
        for (from, to) in
            [("think", "thank"), ("x08g", "y08g"), ("wJnAM=", "wJnAN="), ("\u{2014}", "-"), ("\n\n", "\n")]
        {
            assert_eq!(open(&NOTE.replace(from, to), name, &[public]), None, "{from} as {to}");
        }
    }

    #[test]
    fn what_is_signed_opens_and_other_signatures_do_not_matter() {
        let (key, _) = SigningKey::generate(&Seeded::new(7)).unwrap();
        let note = sign("lacuna\n7\n", "lacuna/log", &key);
        assert_eq!(open(&note, "lacuna/log", &[key.public()]), Some(("lacuna\n7\n", 0)));
        let line = NOTE.lines().last().unwrap();
        let witnessed = format!("{note}{line}\n");
        assert_eq!(open(&witnessed, "lacuna/log", &[key.public()]), Some(("lacuna\n7\n", 0)));
        assert_eq!(open(&note.replace('7', "8"), "lacuna/log", &[key.public()]), None);
    }
}
