//! The files that are meant: some by their names, some because they are in a folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// How deeply folders are looked into.
const DEEPEST: usize = 16;

/// The files and those of the folders that end in .vcon or .json, in the order of their names. Refuses what is not there.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        find(path, DEEPEST, &mut files)?;
    }
    Ok(files)
}

/// The files of a folder, in the order of their names; a file itself whatever it is called.
fn find(path: &Path, levels: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let context = || format!("cannot read the folder {}", path.display());
    let entries = fs::read_dir(path).with_context(context)?;
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>().with_context(context)?;
    found.sort();
    for path in found {
        let named = path.extension().is_some_and(|ending| ending == "json" || ending == "vcon");
        if path.is_dir() && levels > 0 {
            find(&path, levels - 1, files)?;
        } else if named && !path.is_dir() {
            files.push(path);
        }
    }
    Ok(())
}
