//! The drill: it proves on a copy that a restore brings back everybody but the erased, and says so when that is not so.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::hoard::{copy_tree, pg, run};
use crate::process::{Database, Place, Server, lacuna, setting};
use crate::restore::{answer, on};

/// Somebody with a token, through the program.
fn somebody(place: &Place, server: &Server, mail: &str) -> (String, String) {
    let value = format!("email={mail}");
    let created = answer(&mut server.client(place), &["token", "create", "--source", "test:drill", &value]);
    let token = &created["tokens"][0];
    (token["token"].as_str().unwrap().to_owned(), token["subject"].as_str().unwrap().to_owned())
}

fn erase(place: &Place, server: &Server, subject: &str) {
    let arguments = ["subject", "erase", "--reason", "art17_1_b", "--yes", subject];
    assert_eq!(answer(&mut server.client(place), &arguments)["erasure"]["state"], "ERASURE_STATE_SHREDDED");
}

/// A drill, with its exit status and what it reported. Its scratch place must be as empty as before.
fn drill(place: &Place, database: Option<&str>, slot: &Path, backup: &Path, more: &[&str]) -> (i32, Value, String) {
    let scratch = place.path().join("scratch");
    fs::create_dir_all(&scratch).unwrap();
    let mut command = on(&place.data(), slot, database);
    command.args(["keys", "drill", "--output", "json", "--backup"]).arg(backup).arg("--scratch").arg(&scratch);
    let output = command.args(more).output().unwrap();
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "the scratch directory is empty again");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&said).unwrap_or_default();
    (output.status.code().unwrap(), report, said + &String::from_utf8_lossy(&output.stderr))
}

/// Whether a check of a report held.
fn held(report: &Value, check: &str) -> Option<bool> {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|found| found["check"] == check).map(|found| found["held"].as_bool().unwrap())
}

const NOTHING_OPENS: &str = "nothing opens of whoever was erased since";
const ATTACK_WORKS: &str = "the attack reads whoever was not erased";

/// Every file of the slot and the sink, with its content.
fn custodians(place: &Place) -> BTreeSet<(PathBuf, Vec<u8>)> {
    let folders = [place.slot(), place.data().join("checkpoints")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    // The running vault goes on signing its audit, in a folder of its own.
    files.filter(|path| path.is_file()).map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

fn scratch_databases() -> String {
    let Some(server) = setting("LACUNA_TEST_POSTGRES") else { return String::new() };
    let statement = "SELECT datname FROM pg_database WHERE datname LIKE 'lacuna_drill_%'";
    run(pg("psql", &server).args(["--no-psqlrc", "--tuples-only", "--command", statement]))
}

fn told(database: Option<&str>, empty_database: Option<&str>) {
    let place = Place::new();
    let server = place.start(database);
    let (_, ada) = somebody(&place, &server, "ada@example.com");
    let demanded = [
        "token",
        "create",
        "--source",
        "test:drill",
        "--subject",
        &ada,
        "--class",
        "mifid.voice",
        "email=order@example.com",
    ];
    answer(&mut server.client(&place), &demanded);
    let (bob, bobs) = somebody(&place, &server, "bob@example.com");
    somebody(&place, &server, "cyd@example.com");
    let early = somebody(&place, &server, "eve@example.com").1;
    erase(&place, &server, &early);
    let backup = place.path().join("backup");
    run(on(&place.data(), &place.slot(), database).arg("backup").arg(&backup));
    let old_slot = place.path().join("old-slot");
    copy_tree(&place.slot(), &old_slot);

    // With the slot as it was, an erasure since would not hold: the drill can tell, as long as somebody was erased.
    let (status, report, said) = drill(&place, database, &old_slot, &backup, &[]);
    assert_eq!((status, &report["counts"]["erased_since"]), (0, &Value::from(0)), "{said}");
    erase(&place, &server, &ada);
    let (status, report, said) = drill(&place, database, &old_slot, &backup, &[]);
    assert_eq!((status, held(&report, NOTHING_OPENS)), (1, Some(false)), "{said}");
    assert_eq!((&report["verdict"], &report["counts"]["erased_since"]), (&"NOT HELD".into(), &1.into()), "{said}");
    let opened = report["checks"].as_array().unwrap().iter().find(|check| check["check"] == NOTHING_OPENS).unwrap();
    assert_eq!(opened["people"], Value::from(vec![ada.clone()]), "{said}");
    assert_eq!(held(&report, "a restore opens the vault"), Some(false), "{said}");
    assert!(said.contains("old copy") && !said.contains("example.com"), "{said}");

    // With the present slot everything holds, beside a vault that goes on serving.
    let before = custodians(&place);
    let file = place.path().join("report.json");
    let more = ["--report", file.to_str().unwrap()];
    let (status, report, said) = drill(&place, database, &place.slot(), &backup, &more);
    assert_eq!((status, &report["verdict"]), (0, &"HELD".into()), "{said}");
    for (count, expected) in
        [("subjects", 4), ("erased_before", 1), ("erased_since", 1), ("living", 2), ("sampled", 2), ("values_kept", 1)]
    {
        assert_eq!(report["counts"][count], expected, "{count} in {said}");
    }
    assert_eq!((held(&report, ATTACK_WORKS), held(&report, NOTHING_OPENS)), (Some(true), Some(true)), "{said}");
    assert!(report["recovery_seconds"].as_f64().unwrap() > 0.0 && report["operator"].as_str().unwrap().contains('@'));
    assert!(!said.contains("example.com"), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&file).unwrap()).unwrap(), report);
    assert_eq!(custodians(&place), before, "slot and sink are as they were");
    if let Some(empty) = empty_database {
        let more = ["--scratch-database-url", empty];
        for _ in 0..2 {
            let (status, _, said) = drill(&place, database, &place.slot(), &backup, &more);
            assert_eq!(status, 0, "the database was left as empty as it was found: {said}");
        }
        let live = ["--scratch-database-url", database.unwrap()];
        let (status, _, said) = drill(&place, database, &place.slot(), &backup, &live);
        assert!(status == 2 && said.contains("name an empty one"), "{said}");
    }
    let (status, report, said) = drill(&place, database, &place.slot(), &backup, &["--sample", "1"]);
    assert_eq!(
        (status, &report["counts"]["sampled"], &report["counts"]["living"]),
        (0, &1.into(), &2.into()),
        "{said}"
    );
    let reveal = ["token", "reveal", "--purpose", "customer_care", &bob];
    assert_eq!(answer(&mut server.client(&place), &reveal)["results"][0]["value"], "bob@example.com");
    erase(&place, &server, &bobs);

    // What cannot be right is not called right.
    assert_eq!(drill(&place, database, &place.slot(), Path::new("/nowhere"), &[]).0, 2);
    let (status, _, said) = drill(&place, database, &place.path().join("no-slot"), &backup, &[]);
    assert!(status == 1 && said.contains("no-slot"), "{said}");
    damage(&backup);
    let (status, report, said) = drill(&place, database, &place.slot(), &backup, &[]);
    assert_eq!((status, held(&report, "the backup is whole")), (1, Some(false)), "{said}");
    assert!(server.stop().success());
    // Nor is it put in the place of anything.
    let refused =
        on(&place.data(), &place.slot(), database).arg("restore").arg(&backup).arg("--replace").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("damaged") && said.contains("vault."), "{said}");
    let server = place.start(database);
    let reveal = ["token", "reveal", "--purpose", "customer_care", &bob];
    let output = server.client(&place).args(reveal).output().unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("SUBJECT_ERASED"),
        "the database is the one that was there"
    );
}

/// One bit of the copy of the database, somewhere in the middle.
fn damage(backup: &Path) {
    let copy =
        ["vault.db", "vault.pgdump"].map(|name| backup.join(name)).into_iter().find(|path| path.exists()).unwrap();
    let mut bytes = fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&copy, bytes).unwrap();
}

#[test]
fn a_drill_tells_on_sqlite_what_a_restore_would_come_to() {
    told(None, None);
}

#[test]
fn a_drill_tells_on_postgres_what_a_restore_would_come_to() {
    let (Some(database), Some(empty)) = (Database::create("the drill"), Database::create("the drill")) else { return };
    let before = scratch_databases();
    told(Some(&database.url()), Some(&empty.url()));
    assert_eq!(scratch_databases(), before, "no scratch database is left");
}

#[test]
fn a_backup_that_lost_a_file_is_refused_by_name() {
    let place = Place::new();
    assert!(place.start(None).stop().success());
    let backup = place.path().join("backup");
    run(on(&place.data(), &place.slot(), None).arg("backup").arg(&backup));
    let restore = || {
        let output =
            on(&place.data(), &place.slot(), None).arg("restore").arg(&backup).arg("--replace").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    fs::rename(backup.join("vault.db"), backup.join("elsewhere")).unwrap();
    let (status, said) = restore();
    assert!(status == Some(2) && said.contains("vault.db") && said.contains("incomplete"), "{said}");
    fs::rename(backup.join("elsewhere"), backup.join("vault.db")).unwrap();
    let manifest = fs::read_to_string(backup.join("manifest.json")).unwrap();
    for (was, is) in [("vault.db", "../vault.db"), ("\"format\": 1", "\"format\": 2"), ("{", "")] {
        fs::write(backup.join("manifest.json"), manifest.replacen(was, is, 1)).unwrap();
        assert_eq!(restore().0, Some(2), "{was} became {is}");
    }
    fs::remove_file(backup.join("manifest.json")).unwrap();
    let (status, said) = restore();
    assert!(status == Some(2) && said.contains("never completed"), "{said}");
    fs::write(backup.join("manifest.json"), manifest).unwrap();
    assert_eq!(restore().0, Some(0), "put right again, it serves");
    let mut help = lacuna();
    let help: &mut Command = help.args(["keys", "drill", "--help"]);
    assert!(run(help).contains("--scratch-database-url"));
}
