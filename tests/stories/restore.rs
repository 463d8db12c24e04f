//! What happens when a backup is put back, or a slot: the erased stay erased, and everybody else comes back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lacuna::keys::adversary::Spoils;
use lacuna::keys::receipt;
use lacuna::model::SubjectId;
use lacuna::proto::v1;
use serde_json::Value;
use tempfile::TempDir;

use crate::hoard::{Hoard, copy_tree, keys_now, pg, pg_program, run};
use crate::house::{House, field, fresh_database, on_both_stores};
use crate::process::{Database, Place, between_writes, lacuna, setting};

/// The database as it was, in the files that an operator would copy.
pub struct Yesterday(TempDir);

impl Yesterday {
    pub fn of(house: &House) -> Self {
        let folder = tempfile::tempdir().unwrap();
        match database(house) {
            Ok(path) => between_writes(&path, || {
                for file in with_its_logs(&path).iter().filter(|file| file.exists()) {
                    copy_tree(file, &folder.path().join(file.file_name().unwrap()));
                }
            }),
            Err(url) => {
                run(pg("pg_dump", &url).args(["--format=custom", "--file"]).arg(folder.path().join("dump")));
            }
        }
        Self(folder)
    }

    /// Puts it in place of the present one. The vault must be stopped.
    pub fn put_back(&self, house: &House) {
        match database(house) {
            Ok(path) => {
                for file in with_its_logs(&path) {
                    let _ = fs::remove_file(&file);
                    let copy = self.0.path().join(file.file_name().unwrap());
                    if copy.exists() {
                        copy_tree(&copy, &file);
                    }
                }
            }
            Err(url) => {
                let arguments = ["--clean", "--if-exists", "--single-transaction", "--exit-on-error"];
                run(pg("pg_restore", &url).args(arguments).arg(self.0.path().join("dump")));
            }
        }
    }
}

impl House {
    /// Puts a copy of the database in the place of the present one.
    pub async fn go_back(&mut self, yesterday: &Yesterday) {
        self.stop().await;
        yesterday.put_back(self);
        self.reopen().await;
    }
}

/// The file of a SQLite database, or the URL of another.
fn database(house: &House) -> Result<PathBuf, String> {
    let url = house.config.database_url().unwrap().expose().to_owned();
    url.strip_prefix("sqlite:").map(PathBuf::from).ok_or(url)
}

fn with_its_logs(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|ending| PathBuf::from(format!("{}{ending}", path.display())))
}

/// Why the vault does not start.
async fn refusal(house: &mut House) -> String {
    let Err(error) = house.try_reopen().await else { panic!("the vault started") };
    format!("{error:#}")
}

on_both_stores! {
    async fn yesterdays_database_comes_back_without_whoever_was_erased_today(house: House) {
        let mut house = house;
        let (ada, bob) = (house.somebody("Ada Lovelace").await, house.somebody("Bob Noyce").await);
        let yesterday = Yesterday::of(&house);
        // Leaves in stock are lost with a restart, so that people after it take leaves that the backup knows nothing of.
        house.reopen().await;
        let early = house.somebody("Zoe Early").await;
        let erasure = house.erase(&ada.subject).await;
        let late = house.somebody("Zoe Late").await;
        let mut hoard = Hoard::default();
        hoard.collect(&house, "today").await;

        house.stop().await;
        yesterday.put_back(&house);
        house.reopen().await;
        let report = house.running().report.clone();
        assert!(report.from_checkpoint && report.buckets_rebuilt > 0, "{report:?}");
        assert_eq!(report.erasures_reapplied, 1);

        assert_eq!(house.reveal(&ada.tokens, "order_confirmation").await, vec![Err("SUBJECT_ERASED".to_owned()); 3]);
        assert_eq!(house.subject(&ada.subject).await.state(), v1::SubjectState::Shredded);
        let request = v1::GetReceiptRequest { erasure: erasure.erasure.clone() };
        let envelope = house.subjects.get_receipt(request).await.unwrap().into_inner().receipt;
        assert_eq!(receipt::verify(&envelope, None).unwrap().statement.subject, ada.subject);
        assert_eq!(house.find(v1::FieldType::Email, &ada.email).await, Vec::<String>::new());

        assert_eq!(house.reveal(&bob.tokens, "order_confirmation").await, bob.values());
        assert_eq!(house.find(v1::FieldType::Email, &bob.email).await, [bob.tokens[0].clone()]);
        assert_eq!(house.find(v1::FieldType::Phone, &bob.phone).await, [bob.tokens[1].clone()]);
        for lost in [early, late] {
            assert_eq!(
                house.reveal(&lost.tokens, "order_confirmation").await,
                vec![Err("TOKEN_UNKNOWN".to_owned()); 3]
            );
        }

        let yara = house.somebody("Yara Newcomer").await;
        assert_eq!(house.reveal(&yara.tokens, "order_confirmation").await, yara.values());
        assert_eq!(house.find(v1::FieldType::PersonName, &yara.name).await, [yara.tokens[2].clone()]);
        let mut after = Hoard::default();
        after.collect(&house, "restored").await;
        let id = SubjectId::parse(&yara.subject).unwrap();
        let fresh = after.leaves_of(id);
        assert!(fresh.is_disjoint(&hoard.leaves()), "{fresh:?} were handed out before the restore");

        assert_eq!(house.erase(&bob.subject).await.state(), v1::ErasureState::Shredded);
        house.reopen().await;
        assert!(!house.running().report.from_checkpoint, "the restored database is whole");
        assert_eq!(house.reveal(&bob.tokens, "order_confirmation").await, vec![Err("SUBJECT_ERASED".to_owned()); 3]);
        assert_eq!(house.reveal(&yara.tokens, "order_confirmation").await, yara.values());
    }

    async fn an_erasure_after_a_restore_reaches_every_copy_of_the_lost_time(house: House) {
        let mut house = house;
        let (ada, bob) = (house.somebody("Ada Lovelace").await, house.somebody("Bob Noyce").await);
        let mut known = Hoard::default();
        known.collect(&house, "yesterday").await;
        let yesterday = Yesterday::of(&house);
        // Written after the backup, and lost with it: values in a class that the backup knows, and one in another.
        let other = v1::FieldInput { retention_class: "orders".to_owned(), ..field(v1::FieldType::Text, "a lost order") };
        let iban = field(v1::FieldType::Iban, "DE89370400440532013000");
        house.tokenize(&ada.subject, vec![iban, other]).await;
        house.erase(&bob.subject).await;
        house.tokenize(&ada.subject, vec![field(v1::FieldType::NationalId, "ZX-12345678-Q")]).await;
        let mut hoard = Hoard::default();
        hoard.collect(&house, "lost").await;
        house.stop().await;
        yesterday.put_back(&house);
        house.reopen().await;
        assert_eq!(house.erase(&ada.subject).await.state(), v1::ErasureState::Shredded);

        let id = SubjectId::parse(&ada.subject).unwrap();
        let count = |spoils: &Spoils| spoils.values().filter(|(token, _)| token.subject == id).count();
        assert_eq!(count(&hoard.spoils(hoard.keys_of(&house, "lost").await)), 6, "before, all of it is read");
        let lost: Vec<_> = known.bucket_leaves().into_iter().chain(hoard.bucket_leaves()).collect();
        hoard.collect(&house, "restored").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        assert_eq!(count(&spoils), 0, "a value in a class that the backup never knew as well");
        for leaf in lost {
            assert!(spoils.leaf_seed(leaf).is_none(), "the bucket under leaf {leaf} had entries the backup never knew");
        }
    }

    async fn leaves_handed_out_after_a_backup_of_the_same_epoch_stay_taken(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada Lovelace").await;
        let backup = house.home().join("backup");
        run(&mut program(&house, "backup", &backup));
        // Leaves in stock are lost with a restart, so that Zoe takes one that the backup counts as free.
        house.reopen().await;
        let zoe = house.somebody("Zoe Lost").await;
        let mut hoard = Hoard::default();
        hoard.collect(&house, "today").await;
        house.stop().await;
        run(program(&house, "restore", &backup).arg("--replace"));
        house.reopen().await;
        assert!(!house.running().report.from_checkpoint);
        assert_eq!(house.reveal(&ada.tokens, "order_confirmation").await, ada.values());
        assert_eq!(house.reveal(&zoe.tokens[..1], "order_confirmation").await, [Err("TOKEN_UNKNOWN".to_owned())]);
        let yara = house.somebody("Yara Newcomer").await;
        let mut after = Hoard::default();
        after.collect(&house, "restored").await;
        let fresh = after.leaves_of(SubjectId::parse(&yara.subject).unwrap());
        assert!(fresh.is_disjoint(&hoard.leaves()), "{fresh:?} were handed out before the restore");
    }

    async fn an_old_slot_is_refused_and_the_present_one_brought_back_opens(house: House) {
        let mut house = house;
        let (ada, bob) = (house.somebody("Ada Lovelace").await, house.somebody("Bob Noyce").await);
        let mut hoard = Hoard::default();
        hoard.collect(&house, "old").await;
        let yesterday = Yesterday::of(&house);
        house.erase(&ada.subject).await;
        let carl = house.somebody("Carl Third").await;
        house.erase(&carl.subject).await;
        hoard.collect(&house, "present").await;
        let today = Yesterday::of(&house);

        house.stop().await;
        hoard.put_slot_back(&house, "old");
        let why = refusal(&mut house).await;
        assert!(why.contains("old copy") && why.contains("destroy the old copy"), "{why}");

        // With a database of the same age nothing but the checkpoints tells.
        yesterday.put_back(&house);
        let why = refusal(&mut house).await;
        assert!(why.contains("checkpoint sink knows a later epoch"), "{why}");

        today.put_back(&house);
        hoard.put_slot_back(&house, "present");
        house.reopen().await;
        assert_eq!(house.reveal(&ada.tokens, "order_confirmation").await, vec![Err("SUBJECT_ERASED".to_owned()); 3]);
        assert_eq!(house.reveal(&bob.tokens, "order_confirmation").await, bob.values());
    }

    async fn an_empty_database_or_a_missing_slot_is_refused(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada Lovelace").await;
        let mut hoard = Hoard::default();
        hoard.collect(&house, "present").await;
        let today = Yesterday::of(&house);
        house.stop().await;

        let url = house.config.database_url.clone();
        match database(&house) {
            Ok(path) => with_its_logs(&path).iter().for_each(|file| drop(fs::remove_file(file))),
            Err(_) => house.config.database_url = fresh_database().await.map(Into::into),
        }
        let why = refusal(&mut house).await;
        assert!(why.contains("database is empty") && why.contains("lacuna restore"), "{why}");
        house.config.database_url = url;
        today.put_back(&house);

        let slot = house.config.slot_dir().join("root.slot");
        let kept = fs::read(&slot).unwrap();
        fs::remove_file(&slot).unwrap();
        let why = refusal(&mut house).await;
        assert!(why.contains("root slot is empty") && why.contains("bring back the slot"), "{why}");
        fs::write(&slot, kept).unwrap();
        fs::remove_dir_all(house.config.slot_dir()).unwrap();
        let why = refusal(&mut house).await;
        assert!(why.contains("slot"), "{why}");
        assert!(!house.config.slot_dir().join("kek.key").exists(), "a refused start makes no key in the place of a lost one");

        hoard.put_slot_back(&house, "present");
        house.reopen().await;
        assert_eq!(house.reveal(&ada.tokens, "order_confirmation").await, ada.values());
    }
}

/// The program on a house's files, with a backup's directory.
fn program(house: &House, verb: &str, backup: &Path) -> Command {
    let url = house.config.database_url().unwrap().expose().to_owned();
    let mut command = on(&house.config.data_dir(), &house.config.slot_dir(), Some(&url));
    command.arg(verb).arg(backup);
    command
}

/// The program, told where a vault is.
pub fn on(data: &Path, slot: &Path, database: Option<&str>) -> Command {
    let mut command = lacuna();
    command.env("LACUNA_DATA_DIR", data).env("LACUNA_SLOT_DIR", slot).current_dir(data);
    command.envs(database.map(|url| ("LACUNA_DATABASE_URL", url)));
    // The programs of PostgreSQL come from wherever the tests have theirs.
    let folder = pg_program("pg_dump").parent().unwrap().to_owned();
    let path = setting("PATH").unwrap_or_default();
    let folders = std::iter::once(folder).chain(std::env::split_paths(&path)).filter(|path| path.is_absolute());
    command.env("PATH", std::env::join_paths(folders).unwrap());
    command
}

/// Runs the program, which must succeed, and answers its JSON.
pub fn answer(command: &mut Command, arguments: &[&str]) -> Value {
    let said = run(command.args(arguments).args(["--output", "json"]));
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn there_and_back(database: Option<&str>) {
    let place = Place::new();
    let server = place.start(database);
    let create = |value: &str| {
        let arguments = ["token", "create", "--source", "test:backup", value];
        let created = answer(&mut server.client(&place), &arguments);
        let token = &created["tokens"][0];
        (token["token"].as_str().unwrap().to_owned(), token["subject"].as_str().unwrap().to_owned())
    };
    let (ada, subject) = create("email=ada@example.com");
    let (bob, _) = create("email=bob@example.com");
    let (_, others) = create("email=dora@example.com");
    let backup = place.path().join("backup");
    let here = |verb: &str| {
        let mut command = on(&place.data(), &place.slot(), database);
        command.arg(verb).arg(&backup);
        command
    };
    assert_eq!(answer(&mut here("backup"), &[])["epoch"], 0);
    let erase = ["subject", "erase", "--reason", "art17_1_b", "--yes", &subject];
    assert_eq!(answer(&mut server.client(&place), &erase)["erasure"]["state"], "ERASURE_STATE_SHREDDED");
    let (lost, _) = create("email=carl@example.com");
    let restrict = ["subject", "restrict", "--ground", "accuracy_contested", &others];
    answer(&mut server.client(&place), &restrict);
    let refused = here("restore").arg("--replace").output().unwrap();
    assert!(!refused.status.success(), "a vault is running on the slot");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop it first"));
    assert!(server.stop().success());
    let refused = here("restore").output().unwrap();
    assert!(!refused.status.success(), "a database is there and --replace was not given");

    let report = answer(&mut here("restore"), &["--replace"]);
    assert_eq!((&report["from_checkpoint"], &report["erasures_reapplied"]), (&Value::from(true), &Value::from(1)));
    let journal = &report["journal"];
    assert_eq!((&journal["subjects"], &journal["lost"]), (&Value::from(1), &Value::from(0)), "{report}");
    let server = place.start(database);
    let reveal = |token: &str| {
        let mut client = server.client(&place);
        client.args(["token", "reveal", "--purpose", "customer_care", "--output", "json", token]);
        let output = client.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (revealed, said) = reveal(&bob);
    assert!(revealed && said.contains("bob@example.com"), "{said}");
    for (token, reason) in [(ada, "SUBJECT_ERASED"), (lost, "TOKEN_UNKNOWN")] {
        let (revealed, said) = reveal(&token);
        assert!(!revealed && said.contains(reason), "{said}");
    }
    let found =
        answer(&mut server.client(&place), &["token", "find", "--purpose", "customer_care", "email=BOB@example.com"]);
    assert_eq!(found["tokens"][0]["token"], bob.as_str());
    assert!(server.stop().success());
}

#[test]
fn the_program_backs_up_and_restores_on_sqlite() {
    there_and_back(None);
}

#[test]
fn the_program_backs_up_and_restores_on_postgres() {
    if let Some(database) = Database::create("backup and restore") {
        there_and_back(Some(&database.url()));
    }
}
