//! `lacuna bench cost`: what TLS, the tokens of issuers, policies and the audit cost a warm reveal.
//!
//! Several vaults are opened in this process, in a temporary folder, each with another configuration and with the same
//! people; a bare echo stands beside them, with TLS and without. They are asked in short turns. One vault is there twice:
//! that tells what of a difference is chance.
//!
//! The audit cannot be switched off, so its share is not a difference of two vaults. The first one is also called without
//! a transport, as its own door calls it, and the stages of these calls are told: `audit.wait` is how long a call waits
//! until its entry is durable.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use tonic::Status;

use super::inside::Inside;
use super::load::{Corpus, Door, Request};
use super::measure::Pace;
use super::report::cores;
use super::turns::{Side, TURN, Turns};
use super::{What, echo};
use crate::cli::client::{Credentials, Remote, Vault};
use crate::cli::failure::Result;
use crate::cli::policies::DEVELOPMENT;
use crate::cli::print::{Answer, Output};
use crate::cli::serve::Running;
use crate::cli::tls;
use crate::config::{self, Config};
use crate::crypto::SigningKey;
use crate::crypto::{Random as _, SystemRandom};
use crate::keys::checkpoint::hex;
use crate::keys::files;
use crate::model::{Clock as _, SystemClock};
use crate::policy::Caller;

/// What is measured, one after the other.
const WHATS: [What; 2] = [What::Reveal, What::RevealTen];

/// Who calls where the configuration knows callers, and the groups that they are in.
const CALLER: &str = "bench";
const GROUPS: &str = "[\"supervisor\", \"ordering-service\"]";
/// How long a token of the issuer is good for, in seconds: longer than any run.
const GOOD_FOR: i64 = 24 * 3600;

/// The templates of roles.
const ROLES: [(&str, &str); 9] = [
    ("analytics", include_str!("../../../policies/roles/analytics.cedar")),
    ("auditor", include_str!("../../../policies/roles/auditor.cedar")),
    ("contact-centre-agent", include_str!("../../../policies/roles/contact-centre-agent.cedar")),
    ("data-protection-officer", include_str!("../../../policies/roles/data-protection-officer.cedar")),
    ("mailer", include_str!("../../../policies/roles/mailer.cedar")),
    ("ordering-service", include_str!("../../../policies/roles/ordering-service.cedar")),
    ("security-officer", include_str!("../../../policies/roles/security-officer.cedar")),
    ("supervisor", include_str!("../../../policies/roles/supervisor.cedar")),
    ("telephone-system", include_str!("../../../policies/roles/telephone-system.cedar")),
];

/// A vault to be opened.
struct Setup {
    name: &'static str,
    known_by: KnownBy,
    policies: Policies,
}

/// By what the caller is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KnownBy {
    /// The development credential, or a token in the configuration where the caller is in groups.
    Token,
    /// A certificate, with TLS.
    Certificate,
    /// A token of an issuer.
    Jwt,
}

/// What the caller is permitted by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policies {
    /// The one that is in force without any.
    One,
    /// The templates of all roles.
    Roles,
    /// These, and others up to so many.
    UpTo(usize),
}

const SETUPS: [Setup; 7] = [
    Setup { name: "one policy", known_by: KnownBy::Token, policies: Policies::One },
    Setup { name: "one policy, again", known_by: KnownBy::Token, policies: Policies::One },
    Setup { name: "mutual TLS", known_by: KnownBy::Certificate, policies: Policies::One },
    Setup { name: "JWT", known_by: KnownBy::Jwt, policies: Policies::One },
    Setup { name: "all roles", known_by: KnownBy::Token, policies: Policies::Roles },
    Setup { name: "100 policies", known_by: KnownBy::Token, policies: Policies::UpTo(100) },
    Setup { name: "mutual TLS, all roles", known_by: KnownBy::Certificate, policies: Policies::Roles },
];

/// Where calls go.
#[derive(Clone)]
enum Way {
    Wire(Box<Vault>),
    Inside(Inside),
}

impl Door for Way {
    async fn call(&mut self, request: Request) -> Result<(), Status> {
        match self {
            Self::Wire(vault) => vault.as_mut().call(request).await,
            Self::Inside(inside) => inside.call(request).await,
        }
    }
}

/// A vault with its people.
struct Open {
    name: &'static str,
    running: Running,
    door: Vault,
    people: Corpus,
}

/// What came of one kind of call.
struct Measured {
    json: Value,
    human: String,
    failed: bool,
}

/// Opens the vaults, measures them in turns, and removes everything again.
pub async fn run(pace: Pace) -> Result<Answer> {
    let mut name = [0; 8];
    SystemRandom::new().fill(&mut name);
    let home = std::env::temp_dir().join(format!("lacuna-bench-{}", hex(&name)));
    files::make_private_directory(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let measured = measure_in(&home, pace).await;
    fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
    Ok(answer(pace, &measured?))
}

async fn measure_in(home: &Path, pace: Pace) -> Result<Vec<Measured>> {
    let mut vaults = Vec::new();
    for (at, setup) in SETUPS.iter().enumerate() {
        eprintln!("cost: preparing a vault with {}", setup.name);
        vaults.push(setup.open(&home.join(at.to_string()), pace).await?);
    }
    let first = vaults.first().context("there is no vault")?;
    let secure = Setup::certificates(&home.join("echo"))?;
    let address = echo::start_with_tls(&home.join("echo")).await.context("the echo cannot be started")?;
    let echo = echo::start().await.context("the echo cannot be started")?;
    let echoes = [("echo", echo), ("echo, mutual TLS", connect(&format!("https://{address}"), secure.0).await?)];
    let mut all = Vec::new();
    for what in WHATS {
        let inside = Inside::of(Arc::clone(&first.running.vault), Caller::named(DEVELOPMENT));
        let mut ways: Vec<_> = vaults
            .iter()
            .map(|open| (open.name, Way::Wire(Box::new(open.door.clone())), open.people.again()))
            .collect();
        ways.push(("one policy, no transport", Way::Inside(inside.clone()), first.people.again()));
        ways.extend(echoes.iter().map(|(name, door)| (*name, Way::Wire(Box::new(door.clone())), first.people.again())));
        let sides = ways.into_iter().map(|(name, way, people)| Side::of(name, what, way, people));
        let mut turns = Turns { sides: sides.collect::<anyhow::Result<_>>()? };
        turns.take(&format!("cost, {}", what.name()), pace).await?;
        all.push(Measured {
            json: json!({ "what": what.name(), "results": turns.json(), "stages": inside.json() }),
            human: format!("{}\n\n{}\n\n", turns.human(what.name(), pace), inside.human()),
            failed: turns.failed(),
        });
    }
    // Nobody is left now who holds on to a vault: it could not be closed.
    for open in vaults {
        open.running.stop().await?;
    }
    Ok(all)
}

async fn connect(address: &str, credentials: Credentials) -> Result<Vault> {
    Remote::at(address.to_owned(), credentials, Output::Human).open().await
}

impl Setup {
    async fn open(&self, folder: &Path, pace: Pace) -> Result<Open> {
        files::make_private_directory(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (credentials, text) = self.configuration(folder)?;
        let config = Config {
            data_dir: Some(folder.join("lacuna-data")),
            listen: Some(([127, 0, 0, 1], 0).into()),
            ..config::parse(&text)?
        };
        let running = Running::start(&config, Arc::new(SystemClock)).await?;
        let credentials = match (credentials, &running.dev_token_file) {
            (Some(credentials), _) => credentials,
            (None, Some(file)) => Credentials::of_bearer(file.clone()),
            (None, None) => Err(anyhow::anyhow!("the vault has no development credential"))?,
        };
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let door = connect(&format!("{scheme}://{}", running.address), credentials).await?;
        let people = Corpus::prepare(&door, What::Reveal, pace).await?;
        Ok(Open { name: self.name, running, door, people })
    }

    /// The credentials of the caller, unless the vault makes them, and the configuration.
    fn configuration(&self, folder: &Path) -> anyhow::Result<(Option<Credentials>, String)> {
        let (credentials, mut text) = match (self.known_by, self.policies) {
            (KnownBy::Token, Policies::One) => return Ok((None, String::new())),
            (KnownBy::Token, _) => Self::token(&folder.join("token"))?,
            (KnownBy::Jwt, _) => Self::issuer(folder)?,
            (KnownBy::Certificate, _) => Self::certificates(&folder.join("tls"))?,
        };
        if self.policies != Policies::One {
            writeln!(text, "groups = {GROUPS}")?;
            let directory = folder.join("policies");
            self.policies.write(&directory)?;
            writeln!(text, "[policy]\ndirectory = {}", quoted(&directory))?;
        }
        Ok((Some(credentials), text))
    }

    /// A token that is the same every time. The caller stands last in the configuration, as in the other two.
    fn token(file: &Path) -> anyhow::Result<(Credentials, String)> {
        let mut token = [0; 32];
        SystemRandom::new().fill(&mut token);
        files::replace(file, hex(&token).as_bytes())?;
        let text = format!("[[callers]]\nname = \"{CALLER}\"\ntoken_file = {}\n", quoted(file));
        Ok((Credentials::of_bearer(file.to_owned()), text))
    }

    /// A token of an issuer, whose key is in a file.
    fn issuer(folder: &Path) -> anyhow::Result<(Credentials, String)> {
        let (key, _) = SigningKey::generate(&SystemRandom::new())?;
        let published =
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": "1", "x": BASE64URL_NOPAD.encode(&key.public()) });
        let (keys, file) = (folder.join("jwks.json"), folder.join("token"));
        files::replace(&keys, json!({ "keys": [published] }).to_string().as_bytes())?;
        let now = SystemClock.now().micros() / 1_000_000;
        let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let header = part(json!({ "alg": "EdDSA", "kid": "1", "typ": "JWT" }));
        let claims = json!({ "iss": CALLER, "aud": CALLER, "sub": CALLER, "iat": now, "exp": now + GOOD_FOR });
        let signed = format!("{header}.{}", part(claims));
        let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(&key.sign(signed.as_bytes())));
        files::replace(&file, token.as_bytes())?;
        let text = format!(
            "[[issuers]]\nissuer = \"{CALLER}\"\naudience = \"{CALLER}\"\njwks_file = {}\n\
             [[callers]]\nname = \"{CALLER}\"\njwt = {{ value = \"{CALLER}\" }}\n",
            quoted(&keys)
        );
        Ok((Credentials::of_bearer(file), text))
    }

    /// Certificates, as `lacuna tls dev` makes them.
    fn certificates(folder: &Path) -> anyhow::Result<(Credentials, String)> {
        files::make_private_directory(folder)?;
        let text = tls::make(folder, &[CALLER.to_owned()], SystemClock.now())?;
        let file = |name: &str| -> PathBuf { folder.join(name) };
        let (certificate, key) = (file(&format!("{CALLER}.pem")), file(&format!("{CALLER}.key")));
        Ok((Credentials::of_certificate(file("ca.pem"), certificate, key), text))
    }
}

impl Policies {
    fn write(self, directory: &Path) -> anyhow::Result<()> {
        files::make_private_directory(directory)?;
        for (role, text) in ROLES {
            files::replace(&directory.join(format!("{role}.cedar")), text.as_bytes())?;
        }
        let Self::UpTo(most) = self else { return Ok(()) };
        let there: usize = ROLES.iter().map(|(_, text)| text.matches("@id(").count()).sum();
        let mut others = String::new();
        for number in there..most {
            writeln!(
                others,
                "@id(\"other: {number}\")\n\
                 permit (principal in Lacuna::Group::\"group-{number}\", action == Lacuna::Action::\"reveal\", resource)\n\
                 when {{ context.purpose == Lacuna::Purpose::\"purpose_{number}\" }};"
            )?;
        }
        Ok(files::replace(&directory.join("others.cedar"), others.as_bytes())?)
    }
}

fn quoted(path: &Path) -> toml::Value {
    toml::Value::String(path.display().to_string())
}

fn answer(pace: Pace, measured: &[Measured]) -> Answer {
    let json = json!({
        "machine": { "cores": cores() },
        "parameters": {
            "store": "SQLite",
            "in_flight": pace.in_flight,
            "seconds": pace.span.as_secs(),
            "turn_ms": TURN.as_millis(),
            "connections": 1,
        },
        "measured": measured.iter().map(|of| of.json.clone()).collect::<Vec<_>>(),
    });
    let human = measured.iter().map(|of| of.human.as_str()).collect();
    Answer { json, human, failed: measured.iter().any(|of| of.failed) }
}
