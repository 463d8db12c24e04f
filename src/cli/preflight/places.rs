//! The places: whether a backup of one thing would take another along, and whether one disk holds what should be apart.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Check;
use crate::config::slot::Kind;
use crate::config::{Config, absolute};
use crate::platform;

pub fn check(config: &Config) -> Result<Vec<Check>> {
    let places = Places::of(config)?;
    let mut checks = places.slot_apart();
    checks.push(places.key_apart());
    checks.push(places.mounts());
    checks.extend(places.mirrors());
    checks.extend(places.sinks());
    Ok(checks)
}

/// Where everything is, with links resolved.
struct Places {
    data: PathBuf,
    /// The directory of an embedded database.
    database: Option<PathBuf>,
    slot: PathBuf,
    mirrors: Vec<PathBuf>,
    /// The files of the keys that wrap the slot, as far as they are files.
    keys: Vec<PathBuf>,
    /// Whether the root itself is elsewhere, in a token.
    in_token: bool,
    sinks: Vec<PathBuf>,
    /// Whether the vault was made already.
    made: bool,
}

impl Places {
    fn of(config: &Config) -> Result<Self> {
        let url = config.database_url()?;
        let file = url.expose().strip_prefix("sqlite:").map(|path| absolute(Path::new(path))).transpose()?;
        let all = |paths: Vec<PathBuf>| paths.iter().map(|path| absolute(path)).collect::<Result<Vec<_>>>();
        let slot = absolute(&config.slot_dir())?;
        Ok(Self {
            data: absolute(&config.data_dir())?,
            database: file.as_deref().and_then(Path::parent).map(Path::to_owned),
            made: slot.join(super::super::custodian::SLOT_FILE).exists(),
            slot,
            mirrors: all(config.slot.mirrors.clone())?,
            keys: all(config.kek_files())?,
            in_token: config.slot.kind == Kind::Pkcs11,
            sinks: all(config.sink_directories())?,
        })
    }

    fn copies(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.slot).chain(&self.mirrors)
    }

    /// A copy of the slot in what is backed up, or what is backed up in the directory of a copy.
    fn slot_apart(&self) -> Vec<Check> {
        const NAME: &str = "slot-apart";
        let fix = "put the slot in a directory of its own, outside everything that is backed up (slot.directory, \
                   slot.mirrors), and destroy the files at the old place";
        let mut checks = Vec::new();
        for copy in self.copies() {
            let data = ("the data directory", &self.data);
            let database = self
                .database
                .iter()
                .filter(|directory| **directory != self.data)
                .map(|directory| ("the directory of the database", directory));
            let sinks = self.sinks.iter().map(|sink| ("the checkpoint sink", sink));
            for (what, place) in std::iter::once(data).chain(database).chain(sinks) {
                let found = if copy == place {
                    format!("the root slot at {} is in {what}", copy.display())
                } else if place.starts_with(copy) {
                    format!("{what} {} lies inside the directory of the root slot, {}", place.display(), copy.display())
                } else if copy.starts_with(place) {
                    format!("the root slot at {} lies inside {what}, {}", copy.display(), place.display())
                } else {
                    continue;
                };
                // Next to a database file there may be anything, and what backs it up may take the file only.
                let below = copy != place && Some(place) == self.database.as_ref() && copy.starts_with(place);
                let found = format!("{found}: whoever backs up the one takes the other along");
                checks.push(if below { Check::warn(NAME, found, fix) } else { Check::fail(NAME, found, fix) });
            }
        }
        if checks.is_empty() {
            checks.push(Check::pass(NAME, "no backup of data or checkpoints takes the root slot along"));
        }
        checks.dedup_by(|one, other| one.found == other.found);
        checks
    }

    /// The key that wraps the slot, beside a copy of it.
    fn key_apart(&self) -> Check {
        const NAME: &str = "kek-apart";
        let beside = |key: &&PathBuf| self.copies().any(|copy| key.parent() == Some(copy));
        let Some(key) = self.keys.iter().find(beside) else {
            return Check::pass(NAME, "the key-encrypting key is away from every copy of the slot");
        };
        let what = if self.in_token { "the key that signs receipts" } else { "the slot" };
        let found = format!(
            "the key-encrypting key {} lies beside the root slot: whoever copies the directory has {what} in clear",
            key.display()
        );
        let fix = "move it to another medium and name it with slot.kek_file; back it up";
        if self.mirrors.is_empty() {
            return Check::warn(NAME, found, fix);
        }
        let lost = format!("{found}, and whoever loses the directory loses every mirror as well");
        Check::fail(NAME, lost, fix)
    }

    /// The slot on the volume that is there for the data.
    fn mounts(&self) -> Check {
        const NAME: &str = "mounts";
        let (data, root) = (device(&self.data), device(Path::new("/")));
        let shared = self.copies().find(|copy| data.is_some() && data != root && device(copy) == data);
        match shared {
            None => Check::pass(NAME, "no copy of the root slot is on a volume of the data's own"),
            Some(copy) => Check::warn(
                NAME,
                format!(
                    "the root slot at {} is on the same volume as the data: a snapshot of the volume holds both",
                    copy.display()
                ),
                "put the slot on a volume that is never snapshotted",
            ),
        }
    }

    /// Mirrors that would be lost together.
    fn mirrors(&self) -> Vec<Check> {
        const NAME: &str = "mirrors-apart";
        let copies: Vec<_> = self.copies().collect();
        let mut checks = Vec::new();
        for (at, copy) in copies.iter().enumerate() {
            for other in copies.iter().take(at) {
                if copy == other {
                    let found = format!("{} is named twice as the place of the root slot", copy.display());
                    checks.push(Check::fail(NAME, found, "name another directory in slot.mirrors"));
                } else if device(copy).is_some() && device(copy) == device(other) {
                    let (one, two) = (other.display(), copy.display());
                    let found = format!("{one} and {two} are on one volume: both copies of the slot are lost with it");
                    checks.push(Check::warn(NAME, found, "put the mirror on another medium"));
                }
            }
        }
        if self.in_token {
            return vec![Check::pass(NAME, "the root slot is in a token, which is mirrored by its own means")];
        }
        match (checks.is_empty(), self.mirrors.is_empty()) {
            (false, _) => checks,
            (true, false) => vec![Check::pass(NAME, "every copy of the root slot is on a volume of its own")],
            (true, true) => vec![Check::warn(
                NAME,
                "the root slot has no mirror: losing it loses every value for good",
                "name a directory on another medium in slot.mirrors",
            )],
        }
    }

    /// Sinks that cannot take a checkpoint. The vault serves without, but no erasure completes.
    fn sinks(&self) -> Vec<Check> {
        const NAME: &str = "sinks";
        let mut checks = Vec::new();
        for sink in &self.sinks {
            let place = sink.display();
            if sink.is_dir() {
                if let Err(error) = platform::may_write(sink) {
                    let found = format!("the checkpoint sink {place} cannot be written to: {error}");
                    let fix = format!("chown and chmod 700 {place} for this account, or mount it writable");
                    checks.push(Check::warn(NAME, format!("{found}; erasures will wait"), fix));
                }
            } else if sink.exists() {
                let found = format!("the checkpoint sink {place} is not a directory");
                checks.push(Check::fail(NAME, found, "name a directory in sinks.directory"));
            } else if self.made {
                let found = format!("the checkpoint sink {place} is missing; erasures will wait");
                checks.push(Check::warn(NAME, found, format!("mount its disk; if it is new, mkdir -m 700 {place}")));
            }
        }
        if checks.is_empty() {
            checks.push(Check::pass(NAME, "every checkpoint sink can be written to, or will be made"));
        }
        checks
    }
}

/// The device that a path is on, or will be on.
fn device(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|ancestor| std::fs::metadata(ancestor).ok()).map(|file| file.dev())
}
