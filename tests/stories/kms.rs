//! A key-encrypting key in AWS KMS: what goes on without it, what waits for it, and that nothing is lost over it.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use lacuna::proto::v1;
use serde_json::json;
use tonic::Code;

use crate::house::reason;
use crate::moto::{ACCESS_KEY_ID, Line, Mode, Moto, REGION, SECRET_ACCESS_KEY, answering};
use crate::outside::{Door, Outside, PATIENCE, outside_on_both_stores};
use crate::process::{run, said};

/// How long a call may take in these stories, in seconds.
const TIMEOUT: u64 = 2;

/// A KMS, and a vault's line to it.
struct Kms {
    moto: Moto,
    line: Line,
}

impl Kms {
    fn start(story: &str) -> Option<Self> {
        let moto = Moto::start(story)?;
        Some(Self { line: moto.line(), moto })
    }

    /// The settings of a key.
    fn section(&self, place: &str, key: &str) -> String {
        let endpoint = self.line.endpoint();
        format!("[{place}.aws_kms]\nkey = '{key}'\nendpoint = '{endpoint}'\ntimeout_seconds = {TIMEOUT}\n")
    }

    /// Has the vault use a key.
    fn configure(&self, vault: &Outside, key: &str, former: &str) {
        configure(vault, &format!("kek = 'aws-kms'\n{}{former}", self.section("slot", key)));
    }

    /// The vault that a key says it serves.
    fn vault_of(&self, key: &str) -> String {
        let arn = self.moto.kms("DescribeKey", &json!({ "KeyId": key }))["KeyMetadata"]["Arn"].clone();
        let tags = self.moto.kms("ListResourceTags", &json!({ "KeyId": arn }));
        let tag = tags["Tags"].as_array().unwrap().iter().find(|tag| tag["TagKey"] == "lacuna-vault");
        tag.unwrap_or_else(|| panic!("{tags}"))["TagValue"].as_str().unwrap().to_owned()
    }

    fn state_of(&self, key: &str) -> String {
        let found = self.moto.kms("DescribeKey", &json!({ "KeyId": key }));
        found["KeyMetadata"]["KeyState"].as_str().unwrap().to_owned()
    }

    /// The aliases that begin so.
    fn aliases(&self, begin: &str) -> Vec<String> {
        let found = self.moto.kms("ListAliases", &json!({}));
        let names = found["Aliases"].as_array().unwrap().iter();
        names
            .map(|alias| alias["AliasName"].as_str().unwrap().to_owned())
            .filter(|name| name.starts_with(begin))
            .collect()
    }
}

fn start(vault: &Outside) -> Door {
    let command = with_credentials(vault.serve(), vault);
    vault.start_with(command, &[]).unwrap_or_else(|fault| panic!("{fault}\n{}", vault.place.log()))
}

/// What `lacuna serve` says when it does not start, and how long it took.
fn refusal(vault: &Outside) -> String {
    let begun = Instant::now();
    let mut command = with_credentials(vault.command(&["serve", "--listen", "127.0.0.1:0"]), vault);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(begun.elapsed() < Duration::from_secs(10 * TIMEOUT), "{:?}", begun.elapsed());
    let said = said(&output);
    assert!(!said.contains(SECRET_ACCESS_KEY) && !said.to_lowercase().contains("erased"), "{said}");
    said
}

/// Writes a configuration with these settings of the slot.
fn configure(vault: &Outside, slot: &str) {
    let text = format!(
        "index_buckets = 64\n[log]\nfilter = 'trace'\n[[sinks]]\ndirectory = 'checkpoints'\n\
         [slot]\nmirrors = ['mirror']\n{slot}"
    );
    fs::write(vault.place.path().join("lacuna.toml"), text).unwrap();
}

/// Credentials where AWS's tools look first, and nothing where they look then.
fn with_credentials(mut command: Command, vault: &Outside) -> Command {
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
    without_credentials(&mut command, vault).env("AWS_REGION", REGION);
    command
}

fn without_credentials<'c>(command: &'c mut Command, vault: &Outside) -> &'c mut Command {
    let nowhere = vault.place.path().join("nothing-of-aws");
    command.env("AWS_CONFIG_FILE", &nowhere).env("AWS_SHARED_CREDENTIALS_FILE", nowhere);
    command.env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN").env("AWS_EC2_METADATA_DISABLED", "true")
}

/// The key that a wrapped file names.
fn key_of(wrapped: &[u8]) -> (String, &[u8]) {
    assert_eq!(wrapped[0], 3, "the format of KMS");
    let (name, blob) = wrapped[3..].split_at(usize::from(u16::from_be_bytes([wrapped[1], wrapped[2]])));
    (String::from_utf8(name.to_vec()).unwrap(), blob)
}

/// Rotates the KEK as an operator does.
async fn rotate(vault: &Outside, door: &mut Door) {
    let mut client = door.server.client(&vault.place);
    let output = run(client.args(["keys", "rotate-kek", "--no-wait", "--output", "json"]));
    assert!(output.status.success(), "{}", said(&output));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    ended(door, answer["rotation"]["rotation"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()).await;
}

/// Asserts that every copy of the slot and the signing key need this key.
fn assert_wrapped_by(vault: &Outside, key: &str) {
    let signing = [vault.place.slot(), vault.mirror()].map(|directory| directory.join("receipt-signing.key"));
    for file in vault.slots().iter().chain(&signing) {
        let bytes = fs::read(file).unwrap();
        assert_eq!(key_of(&bytes).0, key, "{}", file.display());
    }
}

outside_on_both_stores! {
    async fn a_vault_is_made_under_a_key_in_kms_and_lives_with_it(vault: Outside) {
        let Some(kms) = Kms::start("a vault under a key in KMS") else { return };
        let key = kms.moto.make_key("alias/lacuna");
        kms.configure(&vault, "alias/lacuna", "");
        let mut door = start(&vault);
        let (ada, bob) = (door.tokenize("ada").await, door.tokenize("bob").await);
        assert_eq!(door.erase(&ada).await.state(), v1::ErasureState::Shredded);
        door.assert_gone(&ada).await;
        assert_wrapped_by(&vault, &key);
        assert!(!vault.kek().exists() && !vault.place.slot().join("kek.key").exists());
        assert!(door.server.stop().success());

        let mut door = start(&vault);
        door.assert_gone(&ada).await;
        door.assert_there(&bob).await;
        let status = run(&mut with_credentials(vault.command(&["keys", "status"]), &vault));
        assert!(status.status.success() && said(&status).contains("alias/lacuna in AWS KMS"), "{}", said(&status));

        let check = run(&mut with_credentials(vault.command(&["config", "check"]), &vault));
        assert!(check.status.success() && said(&check).contains("every service that"), "{}", said(&check));

        // What went to the service and came from it is in no log, however much is logged.
        let wrapped = fs::read(&vault.slots()[0]).unwrap();
        let sealed = data_encoding::BASE64.encode(key_of(&wrapped).1);
        let context = json!({ "lacuna": "lacuna/root-slot/v1", "lacuna-vault": kms.vault_of("alias/lacuna") });
        let ask = json!({ "CiphertextBlob": sealed, "EncryptionContext": context });
        let plain = kms.moto.kms("Decrypt", &ask)["Plaintext"].as_str().unwrap().to_owned();
        assert!(plain.len() > 40);
        let log = vault.place.log();
        for secret in [&plain[..40], SECRET_ACCESS_KEY] {
            assert!(!log.contains(secret), "the log holds {secret}");
        }
    }

    async fn a_kek_moves_to_kms_and_there_from_key_to_key(vault: Outside) {
        let Some(kms) = Kms::start("a KEK that moves to KMS") else { return };
        let (first, second) = (kms.moto.make_key("alias/first"), kms.moto.make_key("alias/second"));
        let local = "kek_file = 'kek/kek.key'\n";
        configure(&vault, local);
        let mut door = start(&vault);
        let (ada, bob) = (door.tokenize("ada").await, door.tokenize("bob").await);
        assert!(door.server.stop().success());

        kms.configure(&vault, "alias/first", &format!("[slot.former_kek]\nkek = 'local'\n{local}"));
        let mut door = start(&vault);
        door.assert_there(&ada).await;
        rotate(&vault, &mut door).await;
        assert_wrapped_by(&vault, &first);
        assert!(door.server.stop().success());
        fs::remove_file(vault.kek()).unwrap();

        let former = format!("[slot.former_kek]\nkek = 'aws-kms'\n{}", kms.section("slot.former_kek", "alias/first"));
        kms.configure(&vault, "alias/second", &former);
        let mut door = start(&vault);
        rotate(&vault, &mut door).await;
        assert_wrapped_by(&vault, &second);
        door.assert_there(&bob).await;
        assert!(door.server.stop().success());
        assert_eq!(kms.state_of(&first), "Enabled", "whoever made the former key removes it");

        // In place: another key behind the same alias. The former one can be saved for a while.
        kms.configure(&vault, "alias/second", "");
        let mut door = start(&vault);
        for _ in 0..2 {
            let before = key_of(&fs::read(&vault.slots()[0]).unwrap()).0;
            rotate(&vault, &mut door).await;
            let now = key_of(&fs::read(&vault.slots()[0]).unwrap()).0;
            assert_ne!(before, now);
            assert_wrapped_by(&vault, &now);
            assert_eq!([kms.state_of(&before), kms.state_of("alias/second")], ["PendingDeletion", "Enabled"]);
            assert_eq!(kms.aliases("alias/second"), ["alias/second"]);
        }
        assert_eq!(door.erase(&ada).await.state(), v1::ErasureState::Shredded);
        door.kill();
        let mut door = start(&vault);
        door.assert_gone(&ada).await;
        door.assert_there(&bob).await;
    }

    async fn a_wrong_key_is_told_and_nothing_is_lost_over_it(vault: Outside) {
        let Some(kms) = Kms::start("a wrong key in KMS") else { return };
        let (key, _) = (kms.moto.make_key("alias/lacuna"), kms.moto.make_key("alias/other"));
        kms.configure(&vault, "alias/lacuna", "");
        let mut door = start(&vault);
        let ada = door.tokenize("ada").await;
        assert!(door.server.stop().success());
        let slots = vault.slots().map(|slot| fs::read(slot).unwrap());

        // The credentials could open it, but it is not the key that is asked for.
        kms.configure(&vault, "alias/other", "");
        let told = refusal(&vault);
        assert!(told.contains(&key) && told.contains("slot.aws_kms.key") && told.contains("former_kek"), "{told}");
        kms.configure(&vault, "alias/nowhere", "");
        let told = refusal(&vault);
        assert!(told.contains("alias/nowhere") && told.contains("there is no such key"), "{told}");
        configure(&vault, "kek_file = 'kek/kek.key'\n");
        fs::create_dir_all(vault.kek().parent().unwrap()).unwrap();
        let told = refusal(&vault);
        assert!(told.contains("kek/kek.key"), "{told}");

        kms.configure(&vault, "alias/lacuna", "");
        let mut command = vault.command(&["serve", "--listen", "127.0.0.1:0"]);
        let output = run(without_credentials(&mut command, &vault).env("AWS_REGION", REGION));
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("see to the credentials"), "{}", said(&output));
        let output = run(without_credentials(&mut command, &vault).env_remove("AWS_REGION"));
        assert!(said(&output).contains("slot.aws_kms.region"), "{}", said(&output));

        assert_eq!(vault.slots().map(|slot| fs::read(slot).unwrap()), slots, "nothing was written");
        let mut door = start(&vault);
        door.assert_there(&ada).await;
        kms.moto.check_credentials();
        let erasure = door.erase(&ada).await;
        assert_eq!(erasure.state(), v1::ErasureState::Pending);
        assert!(erasure.pending_reason.contains("see to the credentials"), "{}", erasure.pending_reason);
        assert!(door.server.stop().success());
        let told = refusal(&vault);
        assert!(told.contains("see to the credentials"), "{told}");

        // A service that repeats what it was asked with.
        let body = r#"{"__type": "InvalidSignatureException", "message": "It does not match.\n\nx-amz-security-token:TOKEN"}"#;
        let endpoint = answering("400 Bad Request", body);
        configure(&vault, &format!("kek = 'aws-kms'\n[slot.aws_kms]\nkey = 'alias/lacuna'\nendpoint = '{endpoint}'\n"));
        let told = refusal(&vault);
        assert!(told.contains("InvalidSignatureException: It does not match. (see to the credentials"), "{told}");
        assert!(!told.contains("TOKEN"), "{told}");
    }

    async fn while_kms_is_away_or_silent_reveals_go_on_and_changes_wait(vault: Outside) {
        let Some(kms) = Kms::start("KMS away and silent") else { return };
        kms.moto.make_key("alias/lacuna");
        kms.configure(&vault, "alias/lacuna", "");
        let mut door = start(&vault);
        let zoe = door.tokenize("zoe").await;
        for (mode, name) in [(Mode::Cut, "ada"), (Mode::Silent, "bob")] {
            let person = door.tokenize(name).await;
            kms.line.set(mode);
            door.custodian(false).await;
            door.serving(true).await;
            door.assert_there(&person).await;
            let begun = Instant::now();
            let erasure = door.erase(&person).await;
            assert!(begun.elapsed() < PATIENCE / 4, "{mode:?}: {:?}", begun.elapsed());
            assert_eq!(erasure.state(), v1::ErasureState::Pending);
            assert!(erasure.pending_reason.contains("alias/lacuna in AWS KMS"), "{}", erasure.pending_reason);
            assert_eq!(door.reveal(&person).await, vec![Err("ERASURE_PENDING".to_owned()); 2]);
            door.assert_there(&zoe).await;
            // New people come and are read; a rotation is not begun.
            let newcomer = door.tokenize(&format!("{name}-too")).await;
            door.assert_there(&newcomer).await;
            for validate_only in [true, false] {
                let ask = v1::RotateKekRequest { validate_only, ..Default::default() };
                let refused = door.keys.rotate_kek(ask).await.unwrap_err();
                assert_eq!(refused.code(), Code::Unavailable);
                assert_eq!(reason(&refused), "KEY_CUSTODIAN_UNAVAILABLE");
            }
            door.assert_there(&zoe).await;

            kms.line.set(Mode::Open);
            door.shredded(&erasure.erasure).await;
            door.assert_gone(&person).await;
            door.assert_there(&newcomer).await;
            door.custodian(true).await;
            rotate(&vault, &mut door).await;
        }
        // Nobody waits for it at the end or at the start.
        kms.line.set(Mode::Silent);
        door.custodian(false).await;
        let begun = Instant::now();
        assert!(door.server.stop().success());
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        for mode in [Mode::Silent, Mode::Cut] {
            kms.line.set(mode);
            let told = refusal(&vault);
            assert!(told.contains("AWS does not answer; see to the network"), "{mode:?}: {told}");
        }
        kms.line.set(Mode::Open);
        let mut door = start(&vault);
        door.assert_there(&zoe).await;
    }
}

/// Waits until a rotation has ended well.
async fn ended(door: &mut Door, rotation: String) {
    let waiting = async {
        loop {
            let ask = v1::GetRotationRequest { rotation: rotation.clone() };
            let found = door.keys.get_rotation(ask).await.unwrap().into_inner().rotation.unwrap();
            if found.state() != v1::RotationState::Running {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, waiting).await.expect("the rotation does not end by itself");
    assert_eq!(found.state(), v1::RotationState::Done, "{found:?}");
}
