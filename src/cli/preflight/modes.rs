//! The files: who else may read or replace them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Check;
use crate::cli::custodian::SLOT_FILE;
use crate::cli::open::signing_keys;
use crate::config::{self, Config};

const NAME: &str = "file-modes";

/// What a file is, which decides who may do what with it.
#[derive(Clone, Copy)]
enum Kind {
    /// A secret of one caller or one connection. A group that the operator made for it may read it.
    Credential,
    /// Sealed values and pseudonyms.
    Database,
    /// Whoever may write here can put other files in the place of ours.
    Directory,
    /// A key: for its owner only.
    Key,
}

pub fn check(config: &Config) -> Result<Vec<Check>> {
    let files = files(config)?;
    let there = files.iter().filter(|(_, path)| path.exists()).count();
    let mut checks: Vec<_> = files.iter().filter_map(|(kind, path)| look_at(*kind, path)).collect();
    if checks.is_empty() {
        checks.push(Check::pass(NAME, format!("nobody else may read or replace the {there} files and directories")));
    }
    Ok(checks)
}

fn files(config: &Config) -> Result<Vec<(Kind, PathBuf)>> {
    let slots = || std::iter::once(config.slot_dir()).chain(config.slot.mirrors.iter().cloned());
    let mut files: Vec<_> = slots().map(|directory| (Kind::Key, directory.join(SLOT_FILE))).collect();
    files.extend(config.kek_files().into_iter().map(|key| (Kind::Key, key)));
    files.extend(signing_keys(config).into_iter().map(|key| (Kind::Key, key)));
    files.push((Kind::Key, config.data_dir().join("dev-token")));
    files.extend(config.callers.iter().filter_map(|caller| caller.token_file.clone()).map(credential));
    files.extend(config.tls.iter().map(|tls| tls.key_file.clone()).map(credential));
    files.extend(config.database_url_file.clone().map(credential));
    files.extend(config.sinks().iter().flat_map(config::Sink::key_files).map(credential));
    files.extend(config.slot.pkcs11.as_ref().and_then(|token| token.pin_file.clone()).map(credential));
    if let Some(path) = config.database_url()?.expose().strip_prefix("sqlite:") {
        files.extend(["", "-wal"].map(|ending| (Kind::Database, PathBuf::from(format!("{path}{ending}")))));
    }
    let directories = slots().chain([config.data_dir()]).chain(config.sink_directories());
    files.extend(directories.map(|directory| (Kind::Directory, directory)));
    Ok(files)
}

const fn credential(path: PathBuf) -> (Kind, PathBuf) {
    (Kind::Credential, path)
}

fn look_at(kind: Kind, path: &Path) -> Option<Check> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let place = path.display();
    let found = |who: &str| format!("{place} has mode {mode:03o}: {who}");
    match kind {
        Kind::Key if mode & 0o077 != 0 => {
            Some(Check::fail(NAME, found("others may read or replace a key"), format!("chmod 600 {place}")))
        }
        Kind::Credential if mode & 0o007 != 0 => {
            Some(Check::fail(NAME, found("everybody may read a credential"), format!("chmod 600 {place}")))
        }
        Kind::Database if mode & 0o022 != 0 => {
            Some(Check::fail(NAME, found("others may change the database"), format!("chmod 600 {place}")))
        }
        Kind::Database if mode & 0o055 != 0 => {
            Some(Check::warn(NAME, found("others may read pseudonyms and times"), format!("chmod 600 {place}")))
        }
        Kind::Directory if mode & 0o002 != 0 => {
            Some(Check::fail(NAME, found("everybody may replace what is in it"), format!("chmod 700 {place}")))
        }
        Kind::Directory if mode & 0o020 != 0 => {
            Some(Check::warn(NAME, found("a group may replace what is in it"), format!("chmod 700 {place}")))
        }
        _ => None,
    }
}
