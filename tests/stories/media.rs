//! Recordings in an object store, sealed under the keys of their parts, by whoever keeps them: the program alone, without a vault.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::process::{lacuna, run, said};

const PART: &str = "prt_aeaqcaibaeaqcaibaeaqcaibae";
const OTHER: &str = "prt_aiaqcaibaeaqcaibaeaqcaibae";

/// A folder with a key, another one, and a recording of three chunks.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.key("part.key", &[7; 32]);
        desk.key("other.key", data_encoding::BASE64.encode(&[8; 32]).as_bytes());
        fs::write(desk.path("call.wav"), recording()).unwrap();
        desk
    }

    fn key(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn media(&self, arguments: &[&str]) -> Output {
        run(lacuna().arg("media").args(arguments).current_dir(self.0.path()))
    }

    /// What a command says that is refused, which leaves nothing behind.
    fn refused(&self, arguments: &[&str]) -> String {
        let before = self.names();
        let output = self.media(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert_eq!(self.names(), before, "{arguments:?} left something behind");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn recording() -> Vec<u8> {
    (0..150_000_u32).flat_map(u32::to_be_bytes).take(150_000).collect()
}

fn told(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_recording_is_sealed_shown_and_opened() {
    let desk = Desk::new();
    let sealed = desk.media(&["encrypt", "call.wav", "--key-file", "part.key", "--part", PART, "--output", "json"]);
    assert_eq!(told(&sealed), json!({ "part": PART, "bytes": 150_000, "file": "call.wav.lacuna" }));
    let envelope = fs::read(desk.path("call.wav.lacuna")).unwrap();
    assert_eq!((envelope.len(), mode(&desk.path("call.wav.lacuna"))), (150_000 + 58 + 3 * 16, 0o600));

    let shown = told(&desk.media(&["show", "call.wav.lacuna", "--output", "json"]));
    assert_eq!(shown, json!({ "part": PART, "version": 1, "bytes": 150_000, "envelope_bytes": envelope.len() }));
    let text = desk.media(&["show", "call.wav.lacuna"]);
    assert!(said(&text).contains(PART) && said(&text).contains("150000 bytes"), "{}", said(&text));

    let said_so = desk.refused(&["decrypt", "call.wav.lacuna", "--key-file", "part.key"]);
    assert!(said_so.contains("is there already"), "the recording is still there: {said_so}");
    fs::remove_file(desk.path("call.wav")).unwrap();
    told(&desk.media(&["decrypt", "call.wav.lacuna", "--key-file", "part.key", "--part", PART, "--output", "json"]));
    assert!(fs::read(desk.path("call.wav")).unwrap() == recording());
    assert_eq!(mode(&desk.path("call.wav")), 0o600);
    assert_eq!(desk.names(), ["call.wav", "call.wav.lacuna", "other.key", "part.key"]);
}

#[test]
fn recordings_go_through_pipes() {
    let desk = Desk::new();
    let piped = |file: &str, arguments: &[&str]| {
        let mut command = lacuna();
        command.arg("media").args(arguments).current_dir(desk.0.path());
        run(command.stdin(Stdio::from(fs::File::open(desk.path(file)).unwrap())))
    };
    let sealed = piped("call.wav", &["encrypt", "-", "--key-file", "other.key", "--part", PART, "--out", "-"]);
    fs::write(desk.path("envelope"), &sealed.stdout).unwrap();
    assert_eq!(told(&piped("envelope", &["show", "-", "--output", "json"]))["part"], PART);
    let opened = piped("envelope", &["decrypt", "-", "--key-file", "other.key", "--out", "-"]);
    assert!(opened.stdout == recording(), "{}", opened.status);
    let keyed = piped("other.key", &["decrypt", "envelope", "--key-file", "-", "--out", "-"]);
    assert!(keyed.stdout == recording(), "{}", keyed.status);

    let cut = &sealed.stdout[..sealed.stdout.len() - 1];
    fs::write(desk.path("envelope"), cut).unwrap();
    let opened = piped("envelope", &["decrypt", "-", "--key-file", "other.key", "--out", "-"]);
    assert_eq!(opened.status.code(), Some(2));
    assert!(opened.stdout == recording()[..2 << 16], "two chunks are genuine, and nothing of the third is shown");
}

#[test]
fn what_does_not_open_leaves_nothing() {
    let desk = Desk::new();
    desk.media(&["encrypt", "call.wav", "--key-file", "part.key", "--part", PART, "--out", "envelope"]);
    let envelope = fs::read(desk.path("envelope")).unwrap();
    let decrypt = |key: &str| desk.refused(&["decrypt", "envelope", "--key-file", key, "--out", "out"]);
    assert!(decrypt("other.key").contains("another one than that of the envelope"));
    let part = ["decrypt", "envelope", "--key-file", "part.key", "--out", "out", "--part", OTHER];
    assert!(desk.refused(&part).contains("another part"));

    let (chunk, mut moved) = ((64 << 10) + 16, envelope.clone());
    moved[58..58 + 2 * chunk].rotate_left(chunk);
    let mut newer = envelope.clone();
    newer[8] = 2;
    let mut damaged = envelope.clone();
    damaged[100_000] ^= 1;
    for (bytes, reason) in [
        (&envelope[..58 + chunk], "was cut off"),
        (&envelope[..40], "was cut off"),
        (&[], "no envelope"),
        (&recording(), "no envelope"),
        (&newer, "version 2"),
        (&moved, "was damaged"),
        (&damaged, "was damaged"),
        (&[&envelope[..], b"more"].concat(), "was damaged"),
    ] {
        fs::write(desk.path("envelope"), bytes).unwrap();
        let refusal = decrypt("part.key");
        assert!(refusal.contains(reason), "{reason}: {refusal}");
    }
}

#[test]
fn a_key_is_a_key_and_nobody_elses() {
    let desk = Desk::new();
    let encrypt = |key: &str| desk.refused(&["encrypt", "call.wav", "--key-file", key, "--part", PART]);
    desk.key("short.key", b"MARKED");
    let refusal = encrypt("short.key");
    assert!(refusal.contains("32 bytes are expected") && !refusal.contains("MARKED"), "{refusal}");
    fs::set_permissions(desk.path("part.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(encrypt("part.key").contains("others may read it"));
    let both = desk.refused(&["encrypt", "-", "--key-file", "-", "--part", PART, "--out", "x"]);
    assert!(both.contains("cannot both"), "{both}");
    assert!(desk.refused(&["encrypt", "call.wav", "--key-file", "other.key", "--part", "call-7"]).contains("prt_"));
}
