//! Key-encrypting keys as operators have them: each serves one vault, and gives way to another without a loss.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::{self, Database, Server, lacuna, said};
use crate::softhsm;

/// A folder with vaults in it, and what they share.
struct Yard {
    folder: tempfile::TempDir,
}

/// One of them. It runs while there is a server.
struct Vault {
    folder: PathBuf,
    yard: PathBuf,
    server: Option<Server>,
}

impl Yard {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A vault whose section of the slot has these settings.
    fn vault(&self, name: &str, slot: &str) -> Vault {
        let vault = Vault { folder: self.path().join(name), yard: self.path().to_owned(), server: None };
        fs::create_dir(&vault.folder).unwrap();
        vault.configure(slot);
        vault
    }

    /// Makes a token, and answers the settings by which a KEK is in it; `None`, and a notice, without SoftHSM.
    fn token(&self, story: &str) -> Option<String> {
        let module = softhsm::module(story)?;
        softhsm::make(self.path());
        let (token, pin) = (softhsm::TOKEN, softhsm::PIN);
        Some(format!("kek = 'pkcs11'\n[slot.pkcs11]\nmodule = '{module}'\ntoken = '{token}'\npin = '{pin}'\n"))
    }
}

impl Vault {
    fn configure(&self, slot: &str) {
        let head =
            "data_dir = 'data'\nlisten = '127.0.0.1:0'\nindex_buckets = 64\n[[sinks]]\ndirectory = 'checkpoints'\n";
        fs::write(self.folder.join("lacuna.toml"), format!("{head}[slot]\ndirectory = 'slot'\n{slot}")).unwrap();
    }

    /// Writes more settings, in front of the others.
    fn put_before(&self, more: &str) {
        let file = self.folder.join("lacuna.toml");
        fs::write(&file, format!("{more}{}", fs::read_to_string(&file).unwrap())).unwrap();
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = lacuna();
        command.args(arguments.split_whitespace()).env("LACUNA_CONFIG", "lacuna.toml").current_dir(&self.folder);
        command.env("SOFTHSM2_CONF", softhsm::conf(&self.yard)).env("LACUNA_TOKEN_FILE", "data/dev-token");
        for (name, value) in [("AWS_ACCESS_KEY_ID", "story"), ("AWS_SECRET_ACCESS_KEY", "a-secret-that-nobody-checks")]
        {
            command.env(name, value);
        }
        if let Some(server) = &self.server {
            command.env("LACUNA_ADDRESS", format!("http://{}", server.address()));
        }
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn try_start(&mut self) -> Result<(), String> {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        self.server = Some(Server::start(self.command("serve").stderr(log))?);
        Ok(())
    }

    fn start_with_failpoints(&mut self, failpoints: &str) {
        self.server = Some(Server::start(self.command("serve").env("FAILPOINTS", failpoints)).unwrap());
    }

    fn start(&mut self) {
        self.try_start().unwrap_or_else(|fault| panic!("{fault}\n{}", self.log()));
    }

    fn stop(&mut self) {
        assert!(self.server.take().unwrap().stop().success());
    }

    /// Stops it, and starts it with other settings.
    fn restart_with(&mut self, slot: &str) {
        self.stop();
        self.configure(slot);
        self.start();
    }

    fn restart(&mut self) {
        self.stop();
        self.start();
    }

    fn ask(&self, arguments: &str) -> Result<Value, String> {
        let output = process::run(self.command(arguments).args(["--output", "json"]));
        let json = serde_json::from_slice(&output.stdout).map_err(|_| said(&output))?;
        if output.status.success() { Ok(json) } else { Err(said(&output)) }
    }

    /// Rotates the KEK and waits for the end.
    fn rotate(&self) -> Value {
        self.ask("keys rotate-kek").unwrap_or_else(|why| panic!("{why}\n{}", self.log()))
    }

    /// Somebody's token.
    fn somebody(&self) -> String {
        let created = self.ask("token create --source test:keks text=here").unwrap();
        created["tokens"][0]["token"].as_str().unwrap().to_owned()
    }

    fn assert_readable(&self, token: &str) {
        let revealed = self.ask(&format!("token reveal --purpose customer_care {token}")).unwrap();
        assert_eq!(revealed["results"][0]["value"], "here");
    }

    /// Erasing somebody writes the slot.
    fn assert_erases(&self) {
        let created = self.ask("token create --source test:keks text=gone").unwrap();
        let subject = created["tokens"][0]["subject"].as_str().unwrap();
        let answer = self.ask(&format!("subject erase --reason art17_1_b --yes {subject}")).unwrap();
        assert_eq!(answer["erasure"]["state"], "ERASURE_STATE_SHREDDED", "{answer}");
    }
}

#[test]
fn a_file_of_a_kek_serves_one_vault() {
    let yard = Yard::new();
    let shared = "kek_file = '../shared/kek.key'\n";
    let (mut one, mut other) = (yard.vault("one", shared), yard.vault("other", shared));
    one.start();
    let kept = one.somebody();
    assert!(other.try_start().is_err(), "it takes the KEK of another vault");
    assert!(other.log().contains("belongs to another vault"), "{}", other.log());
    one.rotate();
    one.restart();
    one.assert_readable(&kept);
    // What the other was refused keeps it from nothing.
    other.configure("kek_file = 'kek/kek.key'\n");
    other.start();
    let others = other.somebody();
    other.stop();
    other.configure(shared);
    assert!(other.try_start().is_err(), "it opens what is not its own");
    other.configure("kek_file = 'kek/kek.key'\n");
    other.start();
    other.assert_readable(&others);
}

#[test]
fn vaults_that_share_a_token_have_keks_of_their_own() {
    let yard = Yard::new();
    let Some(token) = yard.token("two vaults with KEKs in one token") else { return };
    let (mut one, mut other) = (yard.vault("one", &token), yard.vault("other", &token));
    one.start();
    other.start();
    let (ones, others) = (one.somebody(), other.somebody());
    one.rotate();
    for (vault, token) in [(&mut one, &ones), (&mut other, &others)] {
        vault.restart();
        vault.assert_readable(token);
        vault.assert_erases();
    }
}

#[test]
fn a_vault_moves_from_a_file_into_a_token() {
    let yard = Yard::new();
    let Some(token) = yard.token("a KEK that moves into a token") else { return };
    let file = "kek_file = 'kek/kek.key'\n";
    let mut vault = yard.vault("vault", file);
    vault.start();
    let kept = vault.somebody();
    let former = "[slot.former_kek]\nkek = 'local'\nkek_file = 'kek/kek.key'\n";
    vault.restart_with(&format!("{token}{former}"));
    // From here on the slot is written under the new one.
    vault.assert_erases();
    vault.restart();
    let done = vault.rotate();
    assert_eq!(done["rotation"]["state"], "ROTATION_STATE_DONE", "{done}");
    vault.assert_erases();
    fs::remove_dir_all(vault.folder.join("kek")).unwrap();
    vault.restart_with(&token);
    vault.assert_readable(&kept);
    vault.assert_erases();
    vault.rotate();
    vault.restart();
    vault.assert_readable(&kept);
}

#[test]
fn nodes_whose_slot_is_in_a_token_share_the_directory_beside_it() {
    let yard = Yard::new();
    let Some(token) = yard.token("two nodes and a token") else { return };
    let Some(database) = Database::create("two nodes and a token") else { return };
    let slot = format!("kind = 'pkcs11'\n{token}");
    let (mut one, mut other) = (yard.vault("one", &slot), yard.vault("other", &slot));
    for node in [&one, &other] {
        node.put_before(&format!("database_url = '{}'\n", database.url()));
    }
    one.start();
    let kept = one.somebody();
    // What an operator may do to get the second node to start.
    fs::create_dir(other.folder.join("slot")).unwrap();
    for file in ["receipt-signing.key", "receipt-signing.pub"] {
        fs::copy(one.folder.join("slot").join(file), other.folder.join("slot").join(file)).unwrap();
    }
    assert!(other.try_start().is_err(), "a copy of the directory does");
    assert!(other.log().contains("slot.directory must be one and the same"), "{}", other.log());
    fs::remove_dir_all(other.folder.join("slot")).unwrap();
    std::os::unix::fs::symlink(one.folder.join("slot"), other.folder.join("slot")).unwrap();
    other.start();
    other.assert_readable(&kept);
    // Nobody replaces a database that is served, on whichever machine.
    one.ask("backup ../backup").unwrap();
    one.stop();
    fs::remove_file(other.folder.join("slot")).unwrap();
    let restore = || process::run(&mut one.command("restore ../backup --replace"));
    fs::rename(one.folder.join("slot/root.lock"), one.folder.join("lock-of-another-machine")).unwrap();
    let refused = restore();
    assert!(!refused.status.success() && said(&refused).contains("serves this database"), "{}", said(&refused));
    other.assert_readable(&kept);
    other.server = None;
    let restored = restore();
    assert!(restored.status.success(), "{}", said(&restored));
    one.start();
    one.assert_readable(&kept);
}

#[cfg(feature = "aws-kms")]
#[test]
fn a_key_in_kms_serves_one_vault_and_each_of_its_versions_names_it() {
    let Some(moto) = crate::moto::Moto::start("a KEK in AWS KMS") else { return };
    let yard = Yard::new();
    for alias in ["alias/lacuna", "alias/other"] {
        moto.make_key(alias);
    }
    let endpoint = moto.endpoint();
    let kms = |alias: &str| {
        let place = format!("region = 'us-east-1'\nendpoint = '{endpoint}'");
        format!("kek = 'aws-kms'\n[slot.aws_kms]\nkey = 'alias/{alias}'\n{place}\n")
    };
    let (mut one, mut other) = (yard.vault("one", &kms("lacuna")), yard.vault("other", &kms("lacuna")));
    one.start();
    let kept = one.somebody();
    assert!(other.try_start().is_err() && other.log().contains("belongs to another vault"), "{}", other.log());
    for _ in 0..2 {
        let done = one.rotate();
        assert_eq!(done["rotation"]["state"], "ROTATION_STATE_DONE", "{done}");
    }
    one.restart();
    one.assert_readable(&kept);
    one.assert_erases();
    assert!(other.try_start().is_err(), "the version that a rotation made is nobody else's either");
    other.configure(&kms("other"));
    other.start();
    let others = other.somebody();
    // From one key to another, and the other vault is none the wiser.
    moto.make_key("alias/third");
    let former = format!("[slot.former_kek]\n{}", kms("lacuna").replace("[slot.", "[slot.former_kek."));
    one.restart_with(&format!("{}{former}", kms("third")));
    one.assert_erases();
    one.rotate();
    one.restart_with(&kms("third"));
    one.assert_readable(&kept);
    other.restart();
    other.assert_readable(&others);
}

#[test]
fn a_crash_after_a_custodian_has_changed_a_key_does_not_change_it_once_more() {
    let yard = Yard::new();
    let mut vault = yard.vault("vault", "kek_file = 'kek/kek.key'\n");
    vault.start();
    for (verb, done) in [("rotate-kek", "copies to version 2, in place of 1"), ("rotate-signing-key", "2 public keys")]
    {
        vault.stop();
        vault.start_with_failpoints("rotation::renewed=return");
        let unheard = vault.ask(&format!("keys {verb}"));
        assert!(unheard.is_err(), "{unheard:?}");
        vault.server.take().unwrap().wait();
        vault.start();
        let listed = loop {
            let listed = vault.ask("keys rotations").unwrap();
            if listed["rotations"][0]["state"] != "ROTATION_STATE_RUNNING" {
                break listed;
            }
        };
        let detail = listed["rotations"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(done), "{verb}: {detail}");
    }
}
