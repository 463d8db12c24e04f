//! `lacuna call import`: calls out of the files of a telephone system.
//!
//! A thread of its own takes files apart into rows; the vault reads what the rows say, and answers in their order. A row that was
//! recorded before is recorded no second time, so a broken import is begun again, from the beginning or from a row.

mod mapping;
pub(crate) mod rows;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::client::{Remote, Vault};
use crate::cli::failure::{Failure, Result};
use crate::cli::tally::Tally;
use crate::proto::v1;
use crate::proto::v1::import_cdr_response::Outcome;
use mapping::Told;
use rows::{Format, Reading};

/// The columns of the results.
const COLUMNS: [&str; 7] = ["file", "row", "result", "call", "reason", "field", "message"];

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  lacuna call import --format asterisk-csv --system pbx --mapping pbx.toml Master.csv
  lacuna call import --format freeswitch-json --system fs cdr/*.cdr.json --results cdr.results.csv
  lacuna call import --format csv --system crm --mapping crm.toml --from-row 120000 calls.csv

A mapping is a file of TOML, and everything in it is optional but the columns of csv:
  direction = \"inbound\"            # which way a call goes whose row does not say
  utc_offset = \"+01:00\"            # of times without a zone; else they are UTC
  time_format = \"%d.%m.%Y %H:%M\"   # of times that are written otherwise
  delimiter = \";\"
  header = [\"src\", \"dst\"]          # of asterisk-csv, where it writes other columns than cdr_csv; csv has one in the file
  [columns]                        # field = column; fields are those of CdrMapping
  source_call_id = \"Call ID\"
  [directions]                     # word = direction
  \"from-trunk\" = \"inbound\"
  [dispositions]                   # word = disposition
  \"talked\" = \"answered\"
JSON is one object, a list of them, or several one after the other.";

/// What `call import` imports.
#[derive(clap::Args)]
pub struct Import {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Which system wrote them, and how
    #[arg(long, value_enum)]
    format: Format,
    /// Which system tells of the calls
    #[arg(long, value_name = "CODE")]
    system: String,
    /// How rows are read (TOML)
    #[arg(long, value_name = "FILE", required_if_eq("format", "csv"))]
    mapping: Option<PathBuf>,
    /// Begin with this row of each file, counted from 1
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true)]
    from_row: u64,
    /// Where to write what became of each row, as CSV; else only rows that were refused are shown
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

impl Import {
    /// Imports, and tells of each row.
    pub async fn run(self, remote: &Remote) -> Result<()> {
        let told = Told::read(self.mapping.as_deref())?;
        let results = self.results.as_deref();
        let mut tally = Tally::begin(remote.output, "row", &self.files, results, &COLUMNS)?;
        let end = self.all(remote, &told, &mut tally).await;
        tally.close(end)
    }

    async fn all(&self, remote: &Remote, told: &Told, tally: &mut Tally) -> Result<()> {
        let mut vault = remote.open().await?;
        for file in &self.files {
            self.one(&mut vault, file, told, tally).await?;
        }
        Ok(())
    }

    async fn one(&self, vault: &mut Vault, file: &Path, told: &Told, tally: &mut Tally) -> Result<()> {
        let name = file.display().to_string();
        let reading = Reading { format: self.format, delimiter: told.delimiter()?, from: self.from_row };
        let rows::Started { header, rows, read, end } = reading.start(file)?;
        let mut mapping = Some(told.wire(self.format, &self.system, header)?);
        let requests = tokio_stream::StreamExt::map(ReceiverStream::new(rows), move |row| v1::ImportCdrRequest {
            mapping: mapping.take(),
            row: Some(row),
        });
        let before = tally.bar.position();
        let mut answers = match vault.calls.import_cdr(requests).await {
            Ok(answers) => answers.into_inner(),
            // Nothing was read that a vault could be asked about.
            Err(refused) => {
                return Err(end
                    .await
                    .ok()
                    .and_then(std::result::Result::err)
                    .map_or_else(|| refused.into(), Failure::from));
            }
        };
        while let Some(answer) = answers.message().await? {
            tally.bar.set_position(before + read.load(std::sync::atomic::Ordering::Relaxed));
            let place = [name.as_str(), &answer.row.to_string()];
            match &answer.outcome {
                Some(Outcome::Leg(leg)) => tally.recorded(&place, leg.outcome, &leg.call, "")?,
                Some(Outcome::Error(error)) => tally.refused(&place, error)?,
                None => {}
            }
        }
        let end = end.await.context("the file could not be read to its end")?;
        Ok(end.with_context(|| format!("stopped reading {name}; what stands before was sent"))?)
    }
}
