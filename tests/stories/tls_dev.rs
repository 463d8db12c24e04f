//! TLS as an operator meets it: certificates for trying out, and files that are replaced while the vault serves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::outside::{free_address, metrics};
use crate::process::{Place, Server, lacuna, run, said};

/// How long the server may take to notice something.
const PATIENCE: Duration = Duration::from_mins(1);

/// `lacuna tls dev` in a place, for a mailer and a shop.
fn make(place: &Place) -> String {
    let mut command = lacuna();
    command.args(["tls", "dev", "tls", "--caller", "mailer", "--caller", "shop"]).current_dir(place.path());
    let made = run(&mut command);
    assert!(made.status.success(), "{}", said(&made));
    String::from_utf8(made.stdout).unwrap()
}

fn serve(place: &Place, more: &[&str]) -> Server {
    let mut command = place.serve(None);
    command.args(["--config", "tls/lacuna.toml"]).args(more);
    Server::start(&mut command).unwrap_or_else(|fault| panic!("{fault}\n{}", place.log()))
}

/// The program as a client that shows a certificate.
fn client(place: &Place, server: &Server, caller: &str) -> Command {
    let mut command = lacuna();
    let file = |name: &str| place.path().join("tls").join(name);
    command
        .current_dir(place.path())
        .env("LACUNA_ADDRESS", format!("https://{}", server.address()))
        .env("LACUNA_CA_FILE", file("ca.pem"))
        .env("LACUNA_CLIENT_CERT", file(&format!("{caller}.pem")))
        .env("LACUNA_CLIENT_KEY", file(&format!("{caller}.key")));
    command
}

fn create(client: &mut Command) -> std::process::Output {
    run(client.args(["token", "create", "--source", "try:out", "email=ada@example.com"]))
}

fn wait_for(what: &str, mut seen: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        std::thread::yield_now();
    }
}

#[test]
fn certificates_for_trying_out_are_made_and_work() {
    let place = Place::new();
    let told = make(&place);
    for part in ["lacuna.toml", "spiffe://lacuna.test/mailer", "[tls]", "--client-cert", "mailer.key"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(place.path().join("tls")).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{} has mode {mode:o}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    let expected =
        ["ca.pem", "lacuna.toml", "mailer.key", "mailer.pem", "server.key", "server.pem", "shop.key", "shop.pem"];
    assert_eq!(names, expected, "the key of the authority is nowhere");

    let server = serve(&place, &[]);
    assert!(!place.token().exists(), "no development credential beside configured callers");
    for caller in ["mailer", "shop"] {
        let created = create(&mut client(&place, &server, caller));
        assert!(created.status.success(), "{}", said(&created));
    }
    let localhost = format!("https://localhost:{}", server.address().rsplit_once(':').unwrap().1);
    let created = create(client(&place, &server, "shop").env("LACUNA_ADDRESS", localhost));
    assert!(created.status.success(), "{}", said(&created));

    let refused = create(client(&place, &server, "shop").env_remove("LACUNA_CA_FILE"));
    assert_eq!(refused.status.code(), Some(3), "no authority of this system vouches for it: {}", said(&refused));
    let refused = create(&mut client(&place, &server, "server"));
    assert_eq!(refused.status.code(), Some(3), "a server is no caller: {}", said(&refused));
    let refused = create(client(&place, &server, "shop").env("LACUNA_CLIENT_KEY", place.path().join("tls/mailer.key")));
    assert!(!refused.status.success(), "{}", said(&refused));
    let half = create(client(&place, &server, "shop").env_remove("LACUNA_CLIENT_KEY"));
    assert_eq!(half.status.code(), Some(2), "{}", said(&half));
    assert!(server.stop().success());
}

#[test]
fn making_certificates_replaces_nothing() {
    let place = Place::new();
    make(&place);
    let before = fs::read(place.path().join("tls/server.key")).unwrap();
    let mut command = lacuna();
    let again = run(command.args(["tls", "dev", "tls", "--caller", "other"]).current_dir(place.path()));
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    assert!(said(&again).contains("is there already"), "{}", said(&again));
    assert_eq!(fs::read(place.path().join("tls/server.key")).unwrap(), before);
    assert!(!place.path().join("tls/other.pem").exists());
    for bad in ["", "a/b", "../a", "ca", "server", "a b"] {
        let mut command = lacuna();
        let refused = run(command.args(["tls", "dev", "elsewhere", "--caller", bad]).current_dir(place.path()));
        assert_eq!(refused.status.code(), Some(2), "{bad}: {}", said(&refused));
    }
}

/// The value of a metric.
fn metric(address: std::net::SocketAddr, name: &str) -> Option<String> {
    let page = String::from_utf8(metrics(address)).unwrap();
    page.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
}

#[test]
fn a_bad_new_file_keeps_the_old_one_and_says_so() {
    let place = Place::new();
    make(&place);
    let address = free_address();
    let server = serve(&place, &["--metrics-listen", &address.to_string()]);
    let stale = || metric(address, "lacuna_credentials_stale{what=\"tls\"}");
    wait_for("the metric", || stale().as_deref() == Some("0"));
    let expires: f64 = metric(address, "lacuna_tls_certificate_expire_seconds").unwrap().parse().unwrap();
    assert!(expires > 1.7e9 && expires < 1e10, "{expires}");
    let file = |name: &str| place.path().join("tls").join(name);
    let whole = fs::read(file("server.pem")).unwrap();
    let good = |name: &str, bytes: &[u8]| fs::write(file(name), bytes).unwrap();
    let bad: [(&str, &[u8], &str); 4] = [
        ("server.pem", b"no certificate", "holds no certificate"),
        ("server.pem", &fs::read(file("shop.pem")).unwrap(), "server.key cannot be used"),
        ("ca.pem", b"", "holds no certificate"),
        ("server.key", b"MARKED", "holds no private key"),
    ];
    for (name, bytes, why) in bad {
        let before = fs::read(file(name)).unwrap();
        let told = place.log().len();
        good(name, bytes);
        server.signal("HUP");
        wait_for(why, || place.log()[told..].contains(why));
        wait_for("the metric", || stale().as_deref() == Some("1"));
        // The client needs the authority's certificate too.
        good(name, &before);
        let created = create(&mut client(&place, &server, "shop"));
        assert!(created.status.success(), "{}", said(&created));
        // Nobody has to tell it.
        wait_for("the metric", || stale().as_deref() == Some("0"));
    }
    assert_eq!(fs::read(file("server.pem")).unwrap(), whole);
    assert!(!place.log().contains("MARKED"), "{}", place.log());
    fs::remove_file(file("server.key")).unwrap();
    server.signal("HUP");
    wait_for("the loss", || place.log().contains("cannot read"));
    let created = create(&mut client(&place, &server, "shop"));
    assert!(created.status.success(), "{}", said(&created));
    assert!(server.stop().success());
}

#[test]
fn a_vault_does_not_start_with_files_that_cannot_be_used() {
    let place = Place::new();
    make(&place);
    let check = |folder: &Path| {
        let mut command = lacuna();
        run(command.args(["config", "check", "--config", "tls/lacuna.toml"]).current_dir(folder))
    };
    let checked = check(place.path());
    assert!(checked.status.success(), "{}", said(&checked));
    assert!(said(&checked).contains("mutual"), "{}", said(&checked));
    fs::write(place.path().join("tls/server.pem"), "nothing").unwrap();
    let checked = check(place.path());
    assert_eq!(checked.status.code(), Some(2), "{}", said(&checked));
    assert!(said(&checked).contains("server.pem"), "{}", said(&checked));
    let mut command = place.serve(None);
    let fault =
        Server::start(command.args(["--config", "tls/lacuna.toml"])).err().expect("it serves without a certificate");
    assert!(fault.contains("exit status: 2"), "{fault}");
    assert!(!place.data().exists(), "nothing was made");
}

#[test]
fn with_tls_it_serves_other_machines_but_nobody_by_a_token() {
    let place = Place::new();
    make(&place);
    let text = fs::read_to_string(place.path().join("tls/lacuna.toml")).unwrap();
    let configured = |more: &str| {
        fs::write(place.path().join("lacuna.toml"), format!("listen = '0.0.0.0:50051'\n{more}")).unwrap();
        let mut command = lacuna();
        run(command.args(["config", "check", "--config", "lacuna.toml"]).current_dir(place.path()))
    };
    let good = configured(&text);
    assert!(good.status.success(), "{}", said(&good));
    let only_tls = text.split("[[callers]]").next().unwrap();
    let token = format!("{text}\n[[callers]]\nname = 'old'\ntoken = 'MARKED-of-sixteen'\n");
    for (bad, why) in [("", "without TLS"), (only_tls, "development credential"), (&token, "caller old has a token")] {
        let refused = configured(bad);
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains(why) && !said(&refused).contains("MARKED"), "{why}: {}", said(&refused));
    }
}
