//! `lacuna vcon import`: conversations out of files and folders, each recorded as a call.
//!
//! What was recorded before is recorded no second time, so an import that was broken off is begun again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Cards, folder};
use crate::cli::client::Remote;
use crate::cli::failure::{Refusal, Result};
use crate::cli::tally::Tally;
use crate::proto::v1;
use crate::proto::v1::import_vcon_response::Outcome;
use crate::vault::call::ImportVcon;

/// The columns of the results.
const COLUMNS: [&str; 6] = ["file", "result", "call", "reason", "field", "message"];

/// How many files are read ahead.
const AHEAD: usize = 8;

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  lacuna vcon import --system recorder calls/
  lacuna vcon import --system recorder --signer recorder.pem --results vcon.results.csv today/*.vcon.json";

/// What `vcon import` imports.
#[derive(clap::Args)]
pub struct Import {
    /// Files, and folders of files that end in .vcon or .json
    #[arg(required = true, value_name = "FILE|FOLDER")]
    paths: Vec<PathBuf>,
    /// Which system tells of the calls
    #[arg(long, value_name = "CODE")]
    system: String,
    /// Public keys of which one must have signed: PEM, a JSON Web Key, or a set of them
    #[arg(long, value_name = "KEYFILE")]
    signer: Option<PathBuf>,
    /// What to do about payment card numbers
    #[arg(long, value_enum, default_value = "refuse")]
    cards: Cards,
    /// Retention class of what is kept of parties who do not serve
    #[arg(long, value_name = "CLASS", default_value = "", hide_default_value = true)]
    retention_class: String,
    /// Retention class of recordings, transcripts and other parts
    #[arg(long, value_name = "CLASS", default_value = "", hide_default_value = true)]
    part_retention_class: String,
    /// Where to write what became of each file, as CSV; else only files that were refused are shown
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// Why a file was not sent, by its number.
type Unread = BTreeMap<u64, anyhow::Error>;

impl Import {
    /// Imports, and tells of each file.
    pub async fn run(self, remote: &Remote) -> Result<()> {
        let mapping = self.mapping()?;
        let files = folder::files(&self.paths)?;
        let mut tally = Tally::begin(remote.output, "file", &files, self.results.as_deref(), &COLUMNS)?;
        let end = all(remote, mapping, &files, &mut tally).await;
        tally.close(end)
    }

    fn mapping(&self) -> anyhow::Result<v1::VconMapping> {
        let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        Ok(v1::VconMapping {
            source_system: self.system.clone(),
            signers: self.signer.as_ref().map(read).transpose()?.unwrap_or_default(),
            mask_cards: matches!(self.cards, Cards::Mask),
            retention_class: self.retention_class.clone(),
            part_retention_class: self.part_retention_class.clone(),
        })
    }
}

async fn all(remote: &Remote, mapping: v1::VconMapping, files: &[PathBuf], tally: &mut Tally) -> Result<()> {
    let mut vault = remote.open().await?;
    let (sender, documents) = mpsc::channel(AHEAD);
    let listed = files.to_vec();
    let reading = tokio::task::spawn_blocking(move || send(&listed, &sender));
    let mut mapping = Some(mapping);
    let requests = tokio_stream::StreamExt::map(ReceiverStream::new(documents), move |document| {
        v1::ImportVconRequest { mapping: mapping.take(), document: Some(document) }
    });
    let mut told = 0;
    // A stream without a document has nothing to say how it is read.
    if any_readable(files) {
        let mut answers = vault.calls.import_vcon(requests).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            let file = usize::try_from(answer.number).ok().and_then(|at| files.get(at));
            let name = file.map(|file| file.display().to_string()).unwrap_or_default();
            match &answer.outcome {
                Some(Outcome::Vcon(vcon)) => {
                    tally.recorded(&[&name], vcon.outcome, &vcon.call, &vcon.left_out.join(" "))?;
                }
                Some(Outcome::Error(error)) => tally.refused(&[&name], error)?,
                None => {}
            }
            told += 1;
            let size = file.and_then(|file| fs::metadata(file).ok()).map_or(0, |file| file.len());
            tally.bar.inc(size);
        }
    } else {
        drop(requests);
    }
    let unread = reading.await.context("the files could not be read")?;
    for (at, error) in &unread {
        let name = usize::try_from(*at).ok().and_then(|at| files.get(at)).map(|file| file.display().to_string());
        tally.refusal(&[&name.unwrap_or_default()], &Refusal::of_usage(error))?;
    }
    if told + unread.len() < files.len() {
        return Err(
            anyhow::anyhow!("the vault ended the import; what was recorded stays, so run the same again").into()
        );
    }
    Ok(())
}

/// Whether there is a file that can be sent.
fn any_readable(files: &[PathBuf]) -> bool {
    files.iter().any(|file| check(file).is_ok())
}

fn check(file: &Path) -> anyhow::Result<()> {
    let size = fs::File::open(file).and_then(|file| file.metadata()).context("the file cannot be read")?.len();
    anyhow::ensure!(size <= ImportVcon::LARGEST as u64, "the file is larger than 8 MiB; put recordings beside it");
    Ok(())
}

/// Sends the files, and answers which could not be read.
fn send(files: &[PathBuf], to: &mpsc::Sender<v1::VconDocument>) -> Unread {
    let mut unread = Unread::new();
    for (number, file) in (0..).zip(files) {
        let content = check(file).and_then(|()| fs::read(file).context("the file cannot be read"));
        match content {
            Ok(content) => {
                if to.blocking_send(v1::VconDocument { number, content }).is_err() {
                    break;
                }
            }
            Err(error) => drop(unread.insert(number, error)),
        }
    }
    unread
}
