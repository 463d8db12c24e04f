//! Configuration: one TOML file, every key known, every secret also as a file; command-line options and the
//! environment override it.
//!
//! ```
//! let config: lacuna::config::Config = lacuna::config::parse(r#"
//! data_dir = "/var/lib/lacuna"
//! database_url_file = "/etc/lacuna/database-url"
//! listen = "127.0.0.1:50051"
//!
//! [slot]
//! directory = "/srv/lacuna-slot"
//! mirrors = ["/mnt/other/lacuna-slot"]
//! kek_file = "/etc/lacuna/kek"
//!
//! [[sinks]]
//! directory = "/mnt/other/checkpoints"
//!
//! [purposes.order_confirmation]
//! basis = "contract"
//!
//! [policy]
//! directory = "/etc/lacuna/policies"
//!
//! [[callers]]
//! name = "mailer"
//! groups = ["mailer"]
//! token_file = "/etc/lacuna/callers/mailer"
//! purposes = ["order_confirmation"]
//! "#).unwrap();
//! assert_eq!(config.callers.len(), 1);
//! ```

mod audit;
mod brakes;
mod caller;
mod endpoint;
mod events;
mod issuer;
mod limits;
mod policy;
mod process;
mod recording;
mod sink;
pub mod slot;
mod telemetry;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

pub use audit::Audit;
pub use brakes::{Brakes, Budget, Misses};
pub use caller::{Caller, check_name};
pub use events::Events;
pub use issuer::{Algorithm, Claim, Issuer};
pub use limits::Limits;
pub use policy::{Authorization, Policy};
pub use process::{CoreDumps, Process, Swap};
pub use recording::{Queue, Recording};
pub use sink::{Bucket, Sink};
pub use slot::Slot;
pub use telemetry::Telemetry;
pub use tls::{ClientCertificates, Tls};

use crate::model::{Basis, Purpose};
use crate::policy::{Seeds, default_classes, default_purposes};

/// A secret that must not be printed by accident.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// The secret itself. Every call is a place to review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// All of it. Without a file, every field has its default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the embedded database, checkpoints and the development credential are: `./lacuna-data`.
    pub data_dir: Option<PathBuf>,
    /// `sqlite:PATH` or `postgres://…`; `vault.db` in the data directory when not said.
    pub database_url: Option<Hidden>,
    /// A file that holds the database's URL.
    pub database_url_file: Option<PathBuf>,
    /// Where to listen: `127.0.0.1:50051`. Other machines can call only with TLS.
    pub listen: Option<SocketAddr>,
    /// TLS of that door; none when not said.
    pub tls: Option<Tls>,
    /// What callers may take of that door.
    pub limits: Limits,
    /// Where to serve metrics; nowhere when not said.
    pub metrics_listen: Option<SocketAddr>,
    /// Buckets of the search index of a new vault: 1024.
    pub index_buckets: Option<u32>,
    /// The root slot.
    pub slot: Slot,
    /// Where checkpoints of the key state go: `checkpoints` in the data directory.
    pub sinks: Vec<Sink>,
    /// How many of them must have a change before it counts as saved: all.
    pub sinks_required: Option<usize>,
    /// The purposes that a new vault begins with, by code; built-in ones when there are none. See `DefinePurpose` for later.
    pub purposes: BTreeMap<String, Seed>,
    /// Who may call; a development credential is made when there are none.
    pub callers: Vec<Caller>,
    /// Who issues bearer tokens to callers.
    pub issuers: Vec<Issuer>,
    /// What callers may do.
    pub policy: Policy,
    /// What stops callers who ask for too much.
    pub brakes: Brakes,
    /// Whether calls may be recorded.
    pub recording: Recording,
    /// Events for other systems.
    pub events: Events,
    /// The audit.
    pub audit: Audit,
    /// What is logged, and how.
    pub log: Log,
    /// Where spans of calls are told.
    pub telemetry: Telemetry,
    /// What of the process's memory may reach a disk.
    pub process: Process,
}

/// A purpose that a new vault begins with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// The lawful ground.
    pub basis: Basis,
    /// Whether a restriction spares it (Art. 18(2) GDPR).
    #[serde(default)]
    pub despite_restriction: bool,
    /// Whether it profiles the person.
    #[serde(default)]
    pub profiling: bool,
}

/// Logging.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A filter as `info` or `lacuna=debug,warn`. Other crates are never heard below INFO (see [`crate::telemetry`]).
    pub filter: String,
    /// Whether each line is a JSON document.
    pub json: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), json: false }
    }
}

/// Reads a configuration and checks what can be checked without touching anything.
///
/// # Errors
/// Naming the key at fault.
pub fn parse(text: &str) -> Result<Config> {
    // The parser's own message quotes the line at fault, which may hold a secret.
    let config: Config = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        let line = text.lines().nth(before.lines().count().saturating_sub(1)).unwrap_or_default();
        let key = line.split_once('=').map_or(line, |(key, _)| key).trim();
        anyhow::anyhow!("line {}, at {key}: {}", before.lines().count().max(1), error.message())
    })?;
    config.check()?;
    Ok(config)
}

/// Reads a configuration file; all defaults when there is none.
///
/// # Errors
/// Naming the file and the key at fault.
pub fn load(path: Option<&Path>) -> Result<Config> {
    let Some(path) = path else { return Ok(Config::default()) };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("in {}", path.display()))
}

impl Config {
    fn check(&self) -> Result<()> {
        ensure!(
            self.database_url.is_none() || self.database_url_file.is_none(),
            "give database_url or database_url_file, not both"
        );
        let buckets = self.index_buckets();
        ensure!((64..=1 << 20).contains(&buckets), "index_buckets must lie between 64 and 1048576");
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        self.limits.check()?;
        issuer::check(&self.issuers)?;
        caller::check(self)?;
        self.slot.check()?;
        self.brakes.check()?;
        self.recording.check()?;
        self.events.check()?;
        self.audit.check()?;
        self.telemetry.check()?;
        for (at, sink) in self.sinks.iter().enumerate() {
            sink.check(at)?;
        }
        let (sinks, required) = (self.sinks.len().max(1), self.sinks_required());
        ensure!(
            (1..=sinks).contains(&required),
            "sinks_required must lie between 1 and the number of sinks, which is {sinks}"
        );
        for code in self.purposes.keys() {
            crate::model::Label::purpose(code).with_context(|| format!("purposes: {code:?}"))?;
        }
        Ok(())
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| PathBuf::from("lacuna-data"))
    }

    /// The directory of the slot's deciding copy. By default it stands beside the data directory, so that a backup of
    /// the one does not take the other along.
    #[must_use]
    pub fn slot_dir(&self) -> PathBuf {
        self.slot.directory.clone().unwrap_or_else(|| {
            let data = self.data_dir();
            let name = data.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let stem = name.strip_suffix("-data").unwrap_or(&name).to_owned();
            data.with_file_name(format!("{stem}-slot"))
        })
    }

    /// Where the root slot is, for people.
    #[must_use]
    pub fn slot_place(&self) -> String {
        match &self.slot.pkcs11 {
            Some(token) if self.slot.kind == slot::Kind::Pkcs11 => format!("the PKCS#11 token {}", token.token),
            _ => self.slot_dir().display().to_string(),
        }
    }

    /// Where the key is that wraps what lies in files, for people.
    #[must_use]
    pub fn kek_place(&self) -> String {
        match (self.slot.kek, &self.slot.pkcs11, &self.slot.aws_kms) {
            (slot::Kek::Pkcs11, Some(token), _) => format!("the PKCS#11 token {}", token.token),
            (slot::Kek::AwsKms, _, Some(kms)) => format!("{} in AWS KMS", kms.key),
            _ => self.kek_file().display().to_string(),
        }
    }

    /// The file of a local key-encrypting key.
    #[must_use]
    pub fn kek_file(&self) -> PathBuf {
        self.slot.kek_file.clone().unwrap_or_else(|| self.slot_dir().join("kek.key"))
    }

    /// The files of the key-encrypting keys, the present one and the former one, as far as they are in files.
    #[must_use]
    pub fn kek_files(&self) -> Vec<PathBuf> {
        let former = self.slot.former_kek.iter().filter(|former| former.kek == slot::Kek::Local);
        let present = (self.slot.kek == slot::Kek::Local).then(|| self.kek_file());
        present.into_iter().chain(former.filter_map(|former| former.kek_file.clone())).collect()
    }

    /// Where checkpoints go.
    #[must_use]
    pub fn sinks(&self) -> Vec<Sink> {
        if self.sinks.is_empty() {
            return vec![Sink::in_directory(self.data_dir().join("checkpoints"))];
        }
        self.sinks.clone()
    }

    /// Those of them that are directories.
    #[must_use]
    pub fn sink_directories(&self) -> Vec<PathBuf> {
        self.sinks().into_iter().filter_map(|sink| sink.directory).collect()
    }

    /// How many sinks must have a change before it counts as saved.
    #[must_use]
    pub fn sinks_required(&self) -> usize {
        self.sinks_required.unwrap_or_else(|| self.sinks.len().max(1))
    }

    /// The database's URL.
    ///
    /// # Errors
    /// When the file that should hold it cannot be read.
    pub fn database_url(&self) -> Result<Hidden> {
        if let Some(path) = &self.database_url_file {
            return read_secret(path);
        }
        let embedded = || Hidden(format!("sqlite:{}", self.data_dir().join("vault.db").display()));
        Ok(self.database_url.clone().unwrap_or_else(embedded))
    }

    /// Where to listen.
    ///
    /// # Errors
    /// Off loopback without TLS, or with callers whose credential is for development.
    pub fn listen(&self) -> Result<SocketAddr> {
        let listen = self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 50051)));
        if listen.ip().is_loopback() {
            return Ok(listen);
        }
        ensure!(
            self.tls.is_some(),
            "refusing to listen on {listen} without TLS: what callers send must not leave the machine in the clear. \
             Configure [tls], or listen on 127.0.0.1"
        );
        ensure!(
            !self.callers.is_empty(),
            "refusing to listen on {listen} with a development credential: configure [[callers]], or listen on 127.0.0.1"
        );
        if let Some(caller) = self.callers.iter().find(|caller| caller.has_token()) {
            bail!(
                "refusing to listen on {listen}: caller {} has a token, which is for development on one machine. Know it \
                 by its certificate or a token that expires, or listen on 127.0.0.1",
                caller.name
            );
        }
        Ok(listen)
    }

    /// Buckets of the search index of a new vault.
    #[must_use]
    pub fn index_buckets(&self) -> u32 {
        self.index_buckets.unwrap_or(crate::keys::index::BUCKETS)
    }

    /// What a new vault begins with.
    #[must_use]
    pub fn seeds(&self) -> Seeds {
        Seeds { purposes: self.purposes(), classes: default_classes() }
    }

    /// The purposes that a new vault begins with.
    #[must_use]
    pub fn purposes(&self) -> Vec<Purpose> {
        if self.purposes.is_empty() {
            return default_purposes();
        }
        let seed = |(code, seed): (&String, &Seed)| Purpose {
            profiling: seed.profiling,
            ..Purpose::seed(code, seed.basis, seed.despite_restriction)
        };
        self.purposes.iter().map(seed).collect()
    }

    /// Checks what the paths are to each other.
    ///
    /// # Errors
    /// When the slot lies where a backup of the data would take it along.
    pub fn check_paths(&self) -> Result<()> {
        let data = absolute(&self.data_dir())?;
        let slots = std::iter::once(self.slot_dir()).chain(self.slot.mirrors.iter().cloned());
        for slot in slots {
            if absolute(&slot)?.starts_with(&data) {
                bail!(
                    "the root slot at {} lies inside the data directory {}: a backup of the data would take it along, \
                     and nothing could be forgotten. Put it elsewhere with --slot-dir",
                    slot.display(),
                    data.display()
                );
            }
        }
        self.check_audit_paths(&data)
    }
}

fn read_secret(path: &Path) -> Result<Hidden> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(!text.trim().is_empty(), "{} is empty", path.display());
    Ok(Hidden(text.trim().to_owned()))
}

/// The path with its existing part resolved, so that links cannot hide where it leads.
///
/// # Errors
/// When the working directory is gone, or the path is empty.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(&path);
    let rest = path.strip_prefix(existing)?;
    let resolved = fs::canonicalize(existing).unwrap_or_else(|_| existing.to_owned());
    // Joining nothing would add a slash.
    Ok(if rest.as_os_str().is_empty() { resolved } else { resolved.join(rest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_contradictions_are_named() {
        for (text, named) in [
            ("colour = 1", "colour"),
            ("[slot]\nmirror = []", "mirror"),
            ("database_url = 'a'\ndatabase_url_file = 'b'", "not both"),
            ("[[callers]]\nname = 'a'", "token_file"),
            ("[[callers]]\nname = 'a'\ntoken = 't'\npurposes = ['no pe']", "no pe"),
            ("[purposes.x]\nbasis = 'whim'", "whim"),
            ("index_buckets = 3", "index_buckets"),
            ("[telemetry]\notlp = 'http://a.b:4317'", "telemetry.otlp"),
            ("[telemetry]\notlp = 'https://u:p@a.b:4317'", "telemetry.otlp"),
            ("[telemetry]\nratio = 1.5", "telemetry.ratio"),
            ("[slot]\nmirrors = ['/b']", "kek_file"),
            ("[slot]\nkind = 'tape'", "tape"),
            ("[slot]\nkek = 'pkcs11'", "[slot.pkcs11]"),
            ("[slot]\nkek = 'aws-kms'", "[slot.aws_kms]"),
            ("[slot]\nkek = 'aws-kms'\n[slot.aws_kms]\nkey = 'k'\nendpoint = 'http://a.b'", "slot.aws_kms.endpoint"),
            ("[slot]\nkek = 'aws-kms'\n[slot.aws_kms]\nkey = 'k'\ntimeout_seconds = 0", "slot.aws_kms.timeout_seconds"),
            ("[slot.former_kek]\nkek = 'local'", "needs kek_file"),
            ("[slot.former_kek]\nkek = 'aws-kms'", "[slot.former_kek.aws_kms]"),
            ("[slot]\nkind = 'pkcs11'", "[slot.pkcs11]"),
            ("[slot.pkcs11]\nmodule = '/m.so'\ntoken = 't'", "pin_file"),
            ("[slot.pkcs11]\nmodule = '/m.so'\ntoken = 't'\npin = '1'\nlabel = 'a:b'", "label"),
            (
                "[slot]\nkind = 'pkcs11'\nmirrors = ['/b']\n[slot.pkcs11]\nmodule = '/m.so'\ntoken = 't'\npin = '1'",
                "slot.mirrors",
            ),
            ("[tls]\ncertificate_file = 'c'", "key_file"),
            ("[tls]\ncertificate_file = 'c'\nkey_file = 'k'\nclient_certificates = 'optional'", "tls.client_ca_file"),
            ("[tls]\ncertificate_file = 'c'\nkey_file = 'k'\nclient_crl_file = 'r'", "tls.client_crl_file"),
            ("[[callers]]\nname = 'a'\ncertificate = ['dns:a']", "tls.client_ca_file"),
            ("[[callers]]\nname = 'a'\ncertificate = ['a']", "certificate"),
            ("[[callers]]\nname = 'a'\ntoken = 't'\n[[callers]]\nname = 'a'\ntoken = 'u'", "the name a"),
            ("[[issuers]]\nissuer = 'i'\naudience = 'a'", "jwks_file"),
            ("[[issuers]]\nissuer = 'i'\naudience = 'a'\njwks_url = 'http://a.b/'", "jwks_url"),
            ("[[issuers]]\nissuer = 'i'\naudience = 'a'\njwks_file = 'f'\nalgorithms = ['HS256']", "HS256"),
            ("[[issuers]]\nissuer = 'i'\naudience = 'a'\njwks_file = 'f'\nalgorithms = ['none']", "none"),
            ("[[callers]]\nname = 'a'\n[callers.jwt]\nvalue = 'b'", "[[issuers]]"),
            ("[limits]\nconnections = 0", "limits.connections"),
            ("[limits]\narriving_mib = 15", "limits.arriving_mib"),
            ("[limits]\nspeed = 1", "speed"),
            ("[brakes]\nreveal_budget = { values = 0, seconds = 1 }", "brakes.reveal_budget.values"),
            (
                "[[callers]]\nname = 'a'\ntoken = 't'\nreveal_budget = { values = 1, seconds = 0 }",
                "reveal_budget.seconds",
            ),
            ("[events]\nretention_days = 0", "events.retention_days"),
            ("[audit]\nretention_days = 0", "audit.retention_days"),
            ("[audit]\ncheckpoint_seconds = 0", "audit.checkpoint_seconds"),
            ("sinks_required = 0", "sinks_required"),
            ("sinks_required = 2", "sinks_required"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(named), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_slot_stands_beside_the_data_and_never_inside() {
        let at = |path: &str| Config { data_dir: Some(path.into()), ..Config::default() };
        assert_eq!(Config::default().slot_dir(), PathBuf::from("lacuna-slot"));
        assert_eq!(at("/x/blue").slot_dir(), PathBuf::from("/x/blue-slot"));
        let mut inside = at("/nowhere/data");
        inside.slot.directory = Some("/nowhere/data/slot".into());
        assert!(inside.check_paths().is_err());
        inside.slot.directory = Some("/nowhere/data/../elsewhere".into());
        assert!(at("/nowhere/data").check_paths().is_ok());
        let mut inside = at("/nowhere/data");
        inside.audit.checkpoints = vec!["/nowhere/data/audit".into()];
        assert!(inside.check_paths().is_err());
    }

    #[test]
    fn secrets_are_not_printed_and_plaintext_stays_on_loopback() {
        let config = parse("database_url = 'postgres://u:hunter2@h/d'\nlisten = '0.0.0.0:1'").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(config.listen().is_err());
    }
}
