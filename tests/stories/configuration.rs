//! What an operator writes: a good file is taken, a bad one is refused with the key named and with what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use crate::process::{Place, lacuna, run, said};

/// Runs `lacuna config check` on a file with this text.
fn check(place: &Place, text: &str) -> Output {
    let file = place.path().join("lacuna.toml");
    fs::write(&file, text).unwrap();
    run(config_check(place).arg("--config").arg(file))
}

fn config_check(place: &Place) -> Command {
    let mut command = lacuna();
    command.args(["config", "check"]).current_dir(place.path());
    command
}

const GOOD: &str = r#"
data_dir = "vault-data"
listen = "127.0.0.1:0"
index_buckets = 64

[slot]
directory = "vault-slot"
mirrors = ["mirror"]
kek_file = "kek/kek.key"

[[sinks]]
directory = "checkpoints"

[purposes.order_confirmation]
basis = "contract"

[purposes.legal_claims]
basis = "legitimate_interests"
despite_restriction = true

[[callers]]
name = "mailer"
token_file = "mailer-token"
purposes = ["order_confirmation"]
"#;

#[test]
fn a_good_configuration_passes_and_nothing_is_made() {
    let place = Place::new();
    fs::write(place.path().join("mailer-token"), "MARKED-long-secret\n").unwrap();
    fs::set_permissions(place.path().join("mailer-token"), fs::Permissions::from_mode(0o600)).unwrap();
    let checked = check(&place, GOOD);
    assert!(checked.status.success(), "{}", said(&checked));
    assert!(!said(&checked).contains("MARKED"), "{}", said(&checked));
    let mut left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["lacuna.toml", "mailer-token"]);
}

#[test]
fn no_configuration_is_a_good_one() {
    let place = Place::new();
    let checked = run(&mut config_check(&place));
    assert!(checked.status.success(), "{}", said(&checked));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_bad_configuration_is_refused_by_name() {
    let bad = [
        ("colour = 'red'", "colour"),
        ("listen = 'everywhere'", "listen"),
        ("listen = '0.0.0.0:50051'", "127.0.0.1"),
        ("index_buckets = 3", "index_buckets"),
        ("[slot]\nmirror = ['a']", "mirror"),
        ("[[sinks]]\npath = 'a'", "path"),
        ("database_url = 'sqlite:a'\ndatabase_url_file = 'b'", "database_url_file"),
        ("database_url = 'mysql://MARKED@host/vault'", "sqlite:PATH"),
        ("database_url_file = 'missing'", "missing"),
        ("[purposes.tracking]\nbasis = 'curiosity'", "curiosity"),
        ("[purposes.tracking]\nbasis = 'contract'\ncolour = 1", "colour"),
        ("[purposes.'Jane Doe']\nbasis = 'contract'", "purposes"),
        ("[[callers]]\nname = 'mailer'", "token_file"),
        ("[[callers]]\nname = 'mailer'\ntoken = 'MARKED'\ntoken_file = 'b'", "token_file"),
        ("[[callers]]\nname = 'mailer'\ntoken = 'MARKED'\npurposes = ['no sense']", "no sense"),
        ("[[callers]]\nname = 'mailer'\ntoken_file = 'missing'", "missing"),
        ("[[callers]]\nname = ''\ntoken = 'MARKED'", "callers[0].name"),
        ("data_dir = 'd'\n[slot]\ndirectory = 'd/slot'", "--slot-dir"),
        ("data_dir = 'd'\n[slot]\nkek_file = 'k'\nmirrors = ['d/mirror']", "--slot-dir"),
        ("[slot]\nmirrors = ['mirror']", "slot.kek_file"),
        ("[recording.jurisdictions]\nGermany = 'all_party'", "recording.jurisdictions.Germany"),
        ("[recording.jurisdictions]\nDE = 'nobody'", "nobody"),
        ("[recording.queues.'Jane Doe']\npurposes = ['order']", "recording.queues"),
        ("[recording.queues.orders]\npurposes = []", "recording.queues"),
        ("[recording.queues.orders]\npurposes = ['no sense']", "no sense"),
        ("not toml at all", "lacuna.toml"),
    ];
    let place = Place::new();
    for (text, named) in bad {
        let checked = check(&place, text);
        assert_eq!(checked.status.code(), Some(2), "{text}: {}", said(&checked));
        assert!(said(&checked).contains(named), "{text}: {}", said(&checked));
        assert!(!said(&checked).contains("MARKED"), "{text}: {}", said(&checked));
    }
    let mut missing = config_check(&place);
    let checked = run(missing.args(["--config", "nowhere.toml"]));
    assert_eq!(checked.status.code(), Some(2), "{}", said(&checked));
    assert!(said(&checked).contains("nowhere.toml"), "{}", said(&checked));
}

/// Runs `lacuna serve`, which must end by itself.
fn refused_to_serve(place: &Place, arguments: &[&str]) -> String {
    let mut command = lacuna();
    let ran = run(command.arg("serve").args(arguments).current_dir(place.path()));
    assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {}", said(&ran));
    assert!(ran.stdout.is_empty(), "it never listened: {}", said(&ran));
    String::from_utf8(ran.stderr).unwrap()
}

#[test]
fn it_does_not_serve_off_loopback() {
    let place = Place::new();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051"] {
        let told = refused_to_serve(&place, &["--listen", address]);
        assert!(told.contains(address.trim_end_matches(":0")) && told.contains("TLS"), "{told}");
        assert!(told.contains("127.0.0.1"), "it says what to do: {told}");
    }
    assert!(!place.path().join("lacuna-data").exists(), "nothing was made");
}

#[test]
fn it_does_not_keep_the_slot_where_a_backup_would_take_it_along() {
    let place = Place::new();
    fs::create_dir(place.path().join("data")).unwrap();
    std::os::unix::fs::symlink("data", place.path().join("link")).unwrap();
    for slot in ["data/slot", "data", "link/slot", "data/../data/slot"] {
        let told = refused_to_serve(&place, &["--listen", "127.0.0.1:0", "--data-dir", "data", "--slot-dir", slot]);
        assert!(told.contains("backup") && told.contains("--slot-dir"), "{slot}: {told}");
    }
    assert_eq!(fs::read_dir(place.path().join("data")).unwrap().count(), 0, "nothing was made");
}

#[test]
fn it_serves_with_a_good_configuration_to_the_callers_in_it() {
    let place = Place::new();
    fs::write(place.path().join("mailer-token"), "a-long-mailer-secret\n").unwrap();
    fs::set_permissions(place.path().join("mailer-token"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(place.path().join("lacuna.toml"), GOOD).unwrap();
    let mut command = lacuna();
    command.args(["serve", "--config", "lacuna.toml"]).current_dir(place.path());
    let server = crate::process::Server::start(command.stderr(std::process::Stdio::null())).unwrap();
    let client = |token: &str| {
        let mut command = lacuna();
        command.env("LACUNA_ADDRESS", format!("http://{}", server.address()));
        command.env("LACUNA_TOKEN_FILE", place.path().join(token)).current_dir(place.path());
        command
    };
    let create = ["token", "create", "--source", "web_form:checkout", "email=ada@example.com"];
    let created = run(client("mailer-token").args(create));
    assert!(created.status.success(), "{}", said(&created));
    fs::write(place.path().join("other-token"), "other\n").unwrap();
    let refused = run(client("other-token").args(create));
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("CALLER_UNKNOWN"), "{}", said(&refused));
    assert!(!place.path().join("vault-data/dev-token").exists(), "no development credential beside configured callers");
    assert!(server.stop().success());
}
