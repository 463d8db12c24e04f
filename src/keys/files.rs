//! Files that hold keys or key state: written so that a crash leaves the old content or the new, never half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::crash;

/// What the name of a file ends with while it is being written.
pub const UNFINISHED: &str = ".new";

/// Replaces `path` by `bytes`, readable by the owner only. Durable when this returns: the content is synced before
/// it gets its name, and the directory afterwards. The directory must be there: one that is missing may be a disk that
/// is not mounted.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = parent(path);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(UNFINISHED);
    let fresh = directory.join(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    crash::point("files::written");
    fs::rename(&fresh, path)?;
    crash::point("files::renamed");
    sync_directory(directory)
}

/// Makes a directory that only its owner can enter, with its parents.
pub fn make_private_directory(path: &Path) -> io::Result<()> {
    if !path.exists() {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Reads a file that may not be there.
pub fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses a file that others than its owner may read.
pub fn check_private(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    let others = mode & 0o077;
    if others == 0 {
        return Ok(());
    }
    let message = format!("{} has mode {mode:o}; others may read it: chmod 600 {}", path.display(), path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

/// Makes renames and removals in a directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The directory a file is in.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}
