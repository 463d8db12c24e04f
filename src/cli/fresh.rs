//! A file of somebody's data that is there whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::keys::files::{UNFINISHED, parent, sync_directory};
use crate::platform;

/// A file on its way to a name, readable by its owner only.
///
/// On Linux it has no name until it is kept, so it is gone when the process ends, even by a kill. Where the file system
/// does not know such files, it has another name, which is taken away when this is dropped.
pub struct FreshFile {
    file: File,
    path: PathBuf,
    /// Where it lies until it is kept, if it has to have a name.
    unfinished: Option<PathBuf>,
}

impl FreshFile {
    /// Begins a file. One that is there already is refused, and stays what it is.
    pub fn begin(path: &Path) -> io::Result<Self> {
        refuse_existing(path)?;
        let path = path.to_owned();
        if let Ok(file) = platform::nameless_file(parent(&path)) {
            return Ok(Self { file, path, unfinished: None });
        }
        let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
        name.push(UNFINISHED);
        let unfinished = parent(&path).join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        Ok(Self { file, path, unfinished: Some(unfinished) })
    }

    /// Where to write.
    pub const fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file its name. Durable when this returns.
    pub fn keep(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        match self.unfinished.take() {
            None => platform::name_file(&self.file, &self.path)?,
            Some(unfinished) => {
                let named = refuse_existing(&self.path).and_then(|()| fs::rename(&unfinished, &self.path));
                if let Err(error) = named {
                    self.unfinished = Some(unfinished);
                    return Err(error);
                }
            }
        }
        sync_directory(parent(&self.path))
    }
}

impl Drop for FreshFile {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            let _ = fs::remove_file(unfinished);
        }
    }
}

fn refuse_existing(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there already; name another file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.wav");
        let mut fresh = FreshFile::begin(&path).unwrap();
        fresh.file().write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(fresh);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        let mut fresh = FreshFile::begin(&path).unwrap();
        fresh.file().write_all(b"whole").unwrap();
        fresh.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(FreshFile::begin(&path).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn what_came_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.wav");
        let fresh = FreshFile::begin(&path).unwrap();
        fs::write(&path, "another").unwrap();
        assert_eq!(fresh.keep().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"another");
    }

    #[test]
    fn a_file_with_another_name_meanwhile_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, unfinished) = (folder.path().join("call.wav"), folder.path().join("call.wav.new"));
        let fresh = || FreshFile {
            file: File::create_new(&unfinished).unwrap(),
            path: path.clone(),
            unfinished: Some(unfinished.clone()),
        };
        drop(fresh());
        assert!(!unfinished.exists());
        fresh().keep().unwrap();
        assert!(path.exists() && !unfinished.exists());
        fresh().keep().unwrap_err();
        assert!(!unfinished.exists());
    }
}
