//! Where a conversation is written.

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};

use crate::cli::fresh::FreshFile;
use crate::keys::files;

/// Where to write it.
#[derive(clap::Args)]
pub struct Out {
    /// Where to write it, a file that must not be there yet; without this it is the answer
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "out")]
    force: bool,
}

/// A file that may be written.
pub struct Begun {
    path: PathBuf,
    /// `None` where it may replace another one.
    fresh: Option<FreshFile>,
}

impl Out {
    /// Refuses a file that is there already, unless it is to be replaced; before anybody is asked for what is to be in it. `None` where it is
    /// the answer.
    pub fn begin(self) -> anyhow::Result<Option<Begun>> {
        let Some(path) = self.out else { return Ok(None) };
        let fresh = if self.force { None } else { Some(FreshFile::begin(&path)) };
        let fresh = fresh.transpose().map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                anyhow!("{} is there already; name another file, or give --force", path.display())
            }
            _ => anyhow!(error).context(format!("cannot write {}", path.display())),
        })?;
        Ok(Some(Begun { path, fresh }))
    }
}

impl Begun {
    /// Writes the whole file, and answers where it is.
    pub fn write(self, document: &[u8]) -> anyhow::Result<PathBuf> {
        let written = match self.fresh {
            Some(mut fresh) => fresh.file().write_all(document).and_then(|()| fresh.keep()),
            None => files::replace(&self.path, document),
        };
        written.with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(self.path)
    }
}
