//! A caller in another language: the stock Python libraries against the real server, then its receipt, offline.

use std::path::Path;
use std::process::Command;

use crate::process::{Database, Place, Server, lacuna, run, said, setting, skipped};

#[test]
fn python_speaks_to_the_vault_on_sqlite() {
    story(None);
}

#[test]
fn python_speaks_to_the_vault_on_postgres() {
    if let Some(database) = Database::create("the Python client") {
        story(Some(&database.url()));
    }
}

#[test]
fn python_speaks_to_the_vault_over_mutual_tls() {
    let Some(python) = setting("LACUNA_TEST_PYTHON") else { return skipped("the Python client", "LACUNA_TEST_PYTHON") };
    let place = Place::new();
    let made = run(lacuna().args(["tls", "dev", "tls", "--caller", "shop"]).current_dir(place.path()));
    assert!(made.status.success(), "{}", said(&made));
    let (configuration, token) = (place.path().join("tls/lacuna.toml"), place.path().join("token"));
    std::fs::write(&token, "the-token-of-the-shop").unwrap();
    let text = std::fs::read_to_string(&configuration).unwrap();
    std::fs::write(&configuration, format!("{text}token = 'the-token-of-the-shop'\n")).unwrap();
    let mut command = place.serve(None);
    let server = Server::start(command.arg("--config").arg(&configuration)).unwrap();
    let mut client = python_client(&python, &place, &server, &token);
    let ran = run(client.arg("--tls").arg(place.path().join("tls")));
    assert!(ran.status.success(), "{}\nthe server's log:\n{}", said(&ran), place.log());
    stop(server, &place);
}

fn python_client(python: &str, place: &Place, server: &Server, token: &Path) -> Command {
    let mut command = Command::new(python);
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/client.py");
    command.arg("-B").arg(client).arg("--address").arg(server.address()).arg("--token-file").arg(token);
    command.arg("--receipt").arg(place.path().join("receipt"));
    command
}

fn story(database: Option<&str>) {
    let Some(python) = setting("LACUNA_TEST_PYTHON") else { return skipped("the Python client", "LACUNA_TEST_PYTHON") };
    let place = Place::new();
    let receipt = place.path().join("receipt");
    let server = place.start(database);

    let ran = run(&mut python_client(&python, &place, &server, &place.token()));
    assert!(ran.status.success(), "{}\nthe server's log:\n{}", said(&ran), place.log());

    // What the client left survives a restart, as the program's own client sees it.
    let people = remembered(&place, &server);
    stop(server, &place);
    let server = place.start(database);
    assert_eq!(remembered(&place, &server), people);
    stop(server, &place);

    let verify = || run(lacuna().args(["receipt", "verify"]).arg(&receipt));
    let verified = verify();
    assert!(verified.status.success(), "{}", said(&verified));
    let good = std::fs::read_to_string(&receipt).unwrap();
    for part in ["\"payload\":\"", "\"sig\":\""] {
        // A letter in the middle of the base64, so that what changes is what is signed and not how it is written.
        let at = good.find(part).unwrap() + part.len() + 40;
        let mut bad = good.clone().into_bytes();
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        std::fs::write(&receipt, bad).unwrap();
        let refused = verify();
        assert!(refused.status.code().is_some_and(|code| code != 0), "{part}: {}", said(&refused));
    }
}

fn remembered(place: &Place, server: &Server) -> String {
    let listed = run(server.client(place).args(["subject", "list", "--output=json"]));
    let people = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.status.success() && people.contains("SUBJECT_STATE_SHREDDED"), "{}", said(&listed));
    people
}

fn stop(server: Server, place: &Place) {
    let stopped = server.stop();
    assert_eq!(stopped.code(), Some(0), "after SIGTERM: {stopped}\n{}", place.log());
}
