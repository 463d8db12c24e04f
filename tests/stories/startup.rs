//! What is looked at before the vault serves: each thing that would break a promise is refused or told, with its fix.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::base_backup::BaseBackup;
use crate::outside::outside_on_both_stores;
use crate::process::{Database, Place, Server, lacuna, run, said};

/// A configuration without anything to be told of, but for what depends on the machine.
const GOOD: &str = "data_dir = 'data'\nindex_buckets = 64\nlisten = '127.0.0.1:0'\n\
                    [slot]\ndirectory = 'slot'\nkek_file = 'kek/kek.key'\n";

/// The checks of `lacuna config check`, and its exit status.
fn checks(place: &Place, text: &str, more: &[&str]) -> (Vec<Value>, Option<i32>) {
    fs::write(place.path().join("lacuna.toml"), text).unwrap();
    let mut command = lacuna();
    command.args(["config", "check", "--config", "lacuna.toml", "--output", "json"]).args(more);
    let output = run(command.current_dir(place.path()));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    (answer["checks"].as_array().unwrap().clone(), output.status.code())
}

/// What `lacuna serve` says when it must not start.
fn refusal(place: &Place, text: &str) -> String {
    fs::write(place.path().join("lacuna.toml"), text).unwrap();
    let mut command = lacuna();
    let ran = run(command.args(["serve", "--config", "lacuna.toml"]).current_dir(place.path()));
    assert_eq!(ran.status.code(), Some(2), "{text}\n{}", said(&ran));
    assert!(ran.stdout.is_empty(), "it listened: {}", said(&ran));
    String::from_utf8(ran.stderr).unwrap()
}

/// Starts and stops a server here.
fn serves(place: &Place, text: &str) {
    assert!(started(place, text).stop().success(), "{}", place.log());
}

fn started(place: &Place, text: &str) -> Server {
    fs::write(place.path().join("lacuna.toml"), text).unwrap();
    let log = fs::File::options().create(true).append(true).open(place.path().join("log")).unwrap();
    let mut command = lacuna();
    command.args(["serve", "--config", "lacuna.toml"]).current_dir(place.path()).stderr(log);
    Server::start(&mut command).unwrap_or_else(|fault| panic!("{fault}\n{}", place.log()))
}

/// The one check of that name, or the worst of them.
fn worst<'c>(checks: &'c [Value], name: &str) -> &'c Value {
    let rank = |check: &&Value| ["PASS", "WARN", "FAIL"].iter().position(|verdict| check["verdict"] == **verdict);
    checks.iter().filter(|check| check["name"] == name).max_by_key(rank).unwrap_or_else(|| panic!("no check {name}"))
}

/// `lacuna config check` fails, and `lacuna serve` does not start, because of this check; both name the fix.
fn assert_refused(place: &Place, text: &str, name: &str, fix: &str) {
    let (checks, status) = checks(place, text, &[]);
    let check = worst(&checks, name);
    assert_eq!(check["verdict"], "FAIL", "{text}\n{check}");
    assert!(check["fix"].as_str().unwrap().contains(fix), "{text}\n{check}");
    assert_eq!(status, Some(1), "{text}");
    let told = refusal(place, text);
    assert!(told.contains(name) && told.contains(fix), "{text}\n{told}");
}

#[test]
fn every_check_is_documented_and_tells_itself() {
    let place = Place::new();
    let (found, status) = checks(&place, GOOD, &[]);
    assert_eq!(status, Some(0));
    let names: BTreeSet<_> = found.iter().map(|check| check["name"].as_str().unwrap().to_owned()).collect();
    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md")).unwrap();
    let (_, table) = manual.split_once("### What is checked at the start").unwrap();
    let rows =
        table.split("\n#").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(names, rows.map(str::to_owned).collect(), "the table in docs/operating.md lists every check");
    assert!(!place.data().exists() && !place.slot().exists(), "looking makes nothing");

    serves(&place, GOOD);
    let (found, _) = checks(&place, GOOD, &[]);
    assert_eq!(worst(&found, "durability")["found"].as_str().unwrap().split(": ").nth(1), Some("synchronous is FULL"));
    for check in &found {
        let is_good = check["verdict"] == "PASS";
        assert_eq!(is_good, check["fix"].is_null(), "what is not good has a fix: {check}");
    }
}

#[test]
fn the_slot_stands_where_no_backup_takes_it_along() {
    let place = Place::new();
    // The other way round, the data inside the data directory is refused before anything is looked at.
    for (text, name) in [
        ("data_dir = 'slot/data'\n[slot]\ndirectory = 'slot'\nkek_file = 'kek/kek.key'", "slot-apart"),
        ("data_dir = 'data'\ndatabase_url = 'sqlite:slot/vault.db'\n[slot]\ndirectory = 'slot'", "slot-apart"),
        ("data_dir = 'data'\n[slot]\ndirectory = 'slot'\n[[sinks]]\ndirectory = 'slot'", "slot-apart"),
        ("data_dir = 'data'\n[slot]\ndirectory = 'slot'\n[[sinks]]\ndirectory = 'slot/checkpoints'", "slot-apart"),
        ("data_dir = 'data'\n[slot]\ndirectory = 'sink/slot'\n[[sinks]]\ndirectory = 'sink'", "slot-apart"),
        (
            "data_dir = 'data'\n[slot]\ndirectory = 'slot'\nmirrors = ['sink']\nkek_file = 'k/k'\n[[sinks]]\ndirectory = 'sink'",
            "slot-apart",
        ),
        ("[slot]\ndirectory = 'slot'\nmirrors = ['other', 'slot']\nkek_file = 'kek/kek.key'", "mirrors-apart"),
        ("[slot]\ndirectory = 'slot'\nmirrors = ['mirror']\nkek_file = 'slot/kek.key'", "kek-apart"),
        ("[slot]\ndirectory = 'slot'\nmirrors = ['mirror']\nkek_file = 'mirror/kek.key'", "kek-apart"),
    ] {
        assert_refused(&place, text, name, "slot.");
    }
    let mut left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["lacuna.toml"], "nothing was made");
}

#[test]
fn what_is_less_than_it_could_be_is_told_and_served() {
    let place = Place::new();
    let text = "data_dir = 'data'\nindex_buckets = 64\nlisten = '127.0.0.1:0'\n\
                [slot]\ndirectory = 'slot'\n[[sinks]]\ndirectory = 'checkpoints'\n";
    let server = started(&place, text);
    // Before the first erasure a sink that is missing is made anew.
    let ask = |arguments: &[&str]| -> Value {
        let asked = run(server.client(&place).args(arguments).args(["--output", "json"]));
        assert!(asked.status.success(), "{}", said(&asked));
        serde_json::from_slice(&asked.stdout).unwrap()
    };
    let made = ask(&["token", "create", "--source", "web_form:checkout", "email=ada@example.com"]);
    ask(&["subject", "erase", "--reason", "art17_1_b", "--yes", made["subject"].as_str().unwrap()]);
    assert!(server.stop().success());
    fs::rename(place.path().join("checkpoints"), place.path().join("away")).unwrap();
    serves(&place, text);
    let log = place.log();
    let (found, status) = checks(&place, text, &[]);
    assert_eq!(status, Some(0), "a warning is no failure");
    for (name, fix) in [("kek-apart", "slot.kek_file"), ("mirrors-apart", "slot.mirrors"), ("sinks", "mkdir -m 700")] {
        let check = worst(&found, name);
        assert_eq!(check["verdict"], "WARN", "{check}");
        assert!(check["fix"].as_str().unwrap().contains(fix), "{check}");
        assert!(log.contains(check["found"].as_str().unwrap()) && log.contains(fix), "{name}: {log}");
    }
}

#[test]
fn a_sink_is_a_directory() {
    let place = Place::new();
    fs::write(place.path().join("checkpoints"), "a file where a directory should be").unwrap();
    assert_refused(&place, &format!("{GOOD}[[sinks]]\ndirectory = 'checkpoints'\n"), "sinks", "sinks.directory");
}

#[test]
fn files_that_others_may_read_or_replace_are_refused_and_the_fix_works() {
    let place = Place::new();
    let caller = "[[callers]]\nname = 'mailer'\ntoken_file = 'mailer-token'\n";
    let text = format!("{GOOD}{caller}");
    fs::write(place.path().join("mailer-token"), "a-long-mailer-secret\n").unwrap();
    let chmod = |name: &str, mode: u32| {
        fs::set_permissions(place.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod("mailer-token", 0o640);
    serves(&place, &text);
    for (name, mode) in [
        ("slot/root.slot", 0o640),
        ("slot/receipt-signing.key", 0o604),
        ("kek/kek.key", 0o660),
        ("mailer-token", 0o644),
        ("data/vault.db", 0o620),
        ("data", 0o707),
        ("slot", 0o777),
    ] {
        chmod(name, mode);
        let fix = format!("chmod {} ", if place.path().join(name).is_dir() { 700 } else { 600 });
        assert_refused(&place, &text, "file-modes", &fix);
        // What it says, word for word: once for the file, and once for each that SQLite keeps beside it, which has the
        // mode of the file and may come and go.
        for _ in 0..3 {
            let (found, _) = checks(&place, &text, &[]);
            let failed = |check: &&Value| check["name"] == "file-modes" && check["verdict"] == "FAIL";
            let Some(first) = found.iter().find(failed) else { break };
            let fix = first["fix"].as_str().unwrap();
            let fixed = run(Command::new("sh").args(["-c", fix]).current_dir(place.path()));
            assert!(fixed.status.success(), "{}", said(&fixed));
        }
        serves(&place, &text);
    }
    chmod("data/vault.db", 0o644);
    let (found, status) = checks(&place, &text, &[]);
    assert_eq!((worst(&found, "file-modes")["verdict"].as_str(), status), (Some("WARN"), Some(0)));
}

#[test]
fn a_server_without_fsync_is_refused() {
    let Some(database) = Database::create("startup::a_server_without_fsync_is_refused") else { return };
    let careless = BaseBackup::empty();
    let place = Place::new();
    let with = |url: &str| format!("database_url = '{url}'\n{GOOD}");
    let (found, status) = checks(&place, &with(&database.url()), &[]);
    assert_eq!(status, Some(0), "{found:?}");
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        let told = found.iter().any(|check| check["found"].as_str().unwrap().ends_with(&format!("{name} is on")));
        assert!(told, "{name}: {found:?}");
    }
    assert_refused(&place, &with(&careless.url), "durability", "fsync = on");
    assert!(!place.slot().exists(), "nothing was made");
}

outside_on_both_stores! {
    async fn a_clock_behind_the_newest_record_is_refused(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        door.reveal(&ada).await;
        door.erase(&ada).await;
        assert!(door.server.stop().success());
        // A minute is no reason, an hour is.
        for (table, column) in
            [("audit_batch", "created_at"), ("subject", "created_at"), ("token", "created_at"), ("erasure", "requested_at")]
        {
            let later = |seconds: i64| format!("UPDATE {table} SET {column} = {column} + {}", seconds * 1_000_000);
            vault.sql(&later(3600));
            let fault = vault.try_start(&[]).err().unwrap_or_else(|| panic!("it starts an hour before its {table}"));
            let log = vault.place.log();
            assert!(fault.contains("ended") && log.contains("the newest record in the database is of"), "{log}");
            assert!(log.contains("NTP"), "{log}");
            vault.sql(&later(-3600 + 30));
            let door = vault.try_start(&[]).unwrap_or_else(|fault| panic!("{table}: {fault}\n{}", vault.place.log()));
            assert!(door.server.stop().success());
            fs::remove_file(vault.place.path().join("log")).unwrap();
        }
    }
}

/// Starts a server that a core dump may be taken of, as far as the system is concerned, and aborts it.
fn aborted(place: &Place, more: &str) -> std::process::ExitStatus {
    fs::write(place.path().join("lacuna.toml"), format!("{GOOD}{more}")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited; exec \"$0\" serve --config lacuna.toml", env!("CARGO_BIN_EXE_lacuna")]);
    command.current_dir(place.path()).stderr(Stdio::null()).stdin(Stdio::null());
    let mut server = Server::start(&mut command).unwrap();
    server.signal("ABRT");
    server.wait()
}

#[test]
fn the_process_leaves_no_core_dump() {
    let place = Place::new();
    let allowed = aborted(&place, "[process]\ncore_dumps = 'allow'\n");
    assert_eq!(allowed.signal(), Some(6));
    if !allowed.core_dumped() {
        eprintln!("this system dumps nobody's core, so that nothing can be shown");
    }
    let refused = aborted(&place, "");
    assert_eq!(refused.signal(), Some(6));
    assert!(!refused.core_dumped(), "a core was dumped");
}
