//! Policies: where their files are.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::model::Time;
use crate::policy::{PolicyFile, Term};

/// What the names of policies' files end in.
const ENDING: &str = "cedar";
/// The most bytes that all of them may have together.
const MOST_BYTES: usize = 4 << 20;

/// What callers may do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// A directory with files `*.cedar`. Without it, every caller may do everything, for the purposes they may name.
    pub directory: Option<PathBuf>,
}

impl Policy {
    /// The files, in the order of their names; `None` when none are configured.
    ///
    /// # Errors
    /// When there are none in the directory, or one cannot be read.
    pub fn files(&self) -> Result<Option<Vec<PolicyFile>>> {
        let Some(directory) = &self.directory else { return Ok(None) };
        let place = || format!("the policies in {}", directory.display());
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).with_context(place)? {
            let path = entry.with_context(place)?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                paths.push(path);
            }
        }
        paths.sort();
        let (mut files, mut bytes) = (Vec::new(), 0);
        for path in paths {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            bytes += text.len();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(PolicyFile { name, text });
        }
        ensure!(!files.is_empty(), "{}: there is no file *.{ENDING}, so nobody could do anything", place());
        ensure!(bytes <= MOST_BYTES, "{}: more than {MOST_BYTES} bytes", place());
        Ok(Some(files))
    }
}

/// What the register of authorised persons says of a caller.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authorization {
    /// Whom the caller stands for: a person, a team, a service.
    pub person: String,
    /// Who authorised them.
    pub granted_by: String,
    /// The first day, `YYYY-MM-DD`; before it the caller is refused.
    pub from: String,
    /// The last day; afterwards the caller is refused.
    pub until: String,
    /// When they were trained.
    pub trained: String,
}

impl Authorization {
    pub(super) fn check(&self) -> Result<()> {
        for (name, day) in [("from", &self.from), ("until", &self.until), ("trained", &self.trained)] {
            let good = day.is_empty() || day.parse::<Date>().is_ok();
            ensure!(good, "authorization.{name} is not a day as 2027-01-31");
        }
        let backwards = !self.from.is_empty() && !self.until.is_empty() && self.until < self.from;
        ensure!(!backwards, "authorization.until lies before authorization.from");
        Ok(())
    }

    /// From the first day to the end of the last one, UTC.
    #[must_use]
    pub fn term(&self) -> Term {
        let day = |text: &str| text.parse::<Date>().ok();
        let midnight = |day: Date| {
            let begin = day.to_zoned(TimeZone::UTC).ok()?;
            Some(Time::from_micros(begin.timestamp().as_microsecond()))
        };
        let ends = day(&self.until).and_then(|last| midnight(last.tomorrow().ok()?));
        Term { begins: day(&self.from).and_then(midnight), ends }
    }
}
