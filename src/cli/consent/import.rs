//! `lacuna consent import`: existing consents, row by row, with what became of each.
//!
//! Rows are read, looked up and recorded at the same time, several of each at once, and never more of them are held than
//! [`AHEAD`] allows. The rows of one person are recorded one after the other, because what a decision means depends on
//! those before it; what became of the rows is told in the order of the file. A row names its request by what it says, so
//! that the same row is recorded once however often it is sent.

mod desk;
mod results;
pub(crate) mod row;
pub(crate) mod source;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::anyhow;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::client::Remote;
use crate::cli::failure::Result;
use crate::proto::v1;
use desk::{Desk, Prepared};
use results::{Done, Results};
use row::Defaults;
use source::{Format, Source};

/// Rows that are held for each call in flight.
const AHEAD: usize = 16;

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  lacuna consent import consents.csv --results consents.results.csv --collection-point import:crm --notice privacy
  lacuna consent import consents.jsonl --dry-run --search-purpose customer_care
  zcat consents.csv.gz | lacuna consent import - --format csv --delimiter ';' --results consents.results.csv

Columns of CSV, fields of JSON lines; what every row has in common can be said with an option instead:
  who    subject | identifier, identifier_type (an e-mail address, say; needs --search-purpose)
  what   purpose, channel, kind, effective_time, reason, supersedes, bundled, actor, birth_date
  how    method, affirmative_action, explicit_consent, collection_point
  told   notice with notice_sha256, or with language and notice_version, whose digest is looked up
  proof  evidence_kind, evidence_sha256, evidence_personal; in JSON also evidence: [{\"kind\", \"sha256\", \"personal\"}]
  id     request_id; made from what the row says unless given
Rows whose method is none (pre-ticked, assumed, silence) are recorded, as invalid. A row that is refused keeps no other from
being recorded. Of each row a line of results says line, result, subject, consent_event, state, reason, field, message. After a
cut, or with the refused rows put right, run the same again, as the same caller: nothing is recorded twice.";

/// What `consent import` imports.
#[derive(clap::Args)]
pub struct Import {
    /// CSV with a header, or JSON lines; standard input for -
    #[arg(value_name = "FILE|-")]
    file: String,
    /// What the file holds; told by its ending unless given
    #[arg(long, value_enum, required_if_eq("file", "-"))]
    format: Option<Format>,
    /// What stands between the columns of CSV: one character, or tab
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = source::delimiter)]
    delimiter: u8,
    /// Where to write what became of each row, in the format of the file; standard output unless given
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Look everything up and record nothing
    #[arg(long)]
    dry_run: bool,
    /// The purpose for which people are searched by identifiers
    #[arg(long, value_name = "PURPOSE")]
    search_purpose: Option<String>,
    /// Calls in flight
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u16).range(1..=1024))]
    in_flight: u16,
    #[command(flatten)]
    defaults: Defaults,
}

/// A row on its way to the vault, and who waits to be told what became of it.
struct Job {
    line: u64,
    request: Box<v1::RecordConsentRequest>,
    tell: oneshot::Sender<Result<Done>>,
}

impl Import {
    /// Imports, and tells of each row.
    pub async fn run(self, remote: &Remote) -> Result<()> {
        let source = Source::open(&self.file, self.format, self.delimiter)?;
        if let Some(results) = &self.results {
            // Results would take the place of the rows before they are read.
            let places = (std::fs::canonicalize(&self.file), std::fs::canonicalize(results));
            if matches!(places, (Ok(rows), Ok(results)) if rows == results) {
                return Err(anyhow!("--results names the file of the rows: name another").into());
            }
        }
        let desk = Desk::open(remote.open().await?, self.defaults, self.search_purpose, self.dry_run).await?;
        let results = Results::create(source.format, self.delimiter, self.results.as_deref(), remote.output)?;
        let begin = Instant::now();
        let (results, end) = import(&desk, source, results, usize::from(self.in_flight)).await;
        results.close(begin.elapsed(), self.dry_run, end)
    }
}

/// Takes all rows through the vault; answers what was told of them, and how it ended.
async fn import(desk: &Desk, source: Source, mut results: Results, in_flight: usize) -> (Results, Result<()>) {
    let rows = source.start(in_flight);
    let (waiting, waited) = mpsc::channel(in_flight * AHEAD);
    // Those who wait bound what lies in the lanes.
    let (lanes, work): (Vec<_>, Vec<_>) = (0..in_flight).map(|_| mpsc::channel(in_flight * AHEAD)).unzip();
    let record = join_all(work.into_iter().map(|jobs| record(desk, jobs)));
    let (dispatched, told, _) = tokio::join!(dispatch(desk, rows, lanes, waiting), tell(&mut results, waited), record);
    (results, told.and(dispatched))
}

/// Looks rows up, several at once, and puts those of one person into one lane, in the order of the file.
async fn dispatch(
    desk: &Desk,
    rows: mpsc::Receiver<anyhow::Result<source::Read>>,
    lanes: Vec<mpsc::Sender<Job>>,
    waiting: mpsc::Sender<oneshot::Receiver<Result<Done>>>,
) -> Result<()> {
    let mut prepared = ReceiverStream::new(rows).map(|read| desk.prepare(read)).buffered(lanes.len());
    while let Some(prepared) = prepared.next().await {
        let prepared = prepared?;
        let (tell, told) = oneshot::channel();
        if waiting.send(told).await.is_err() {
            break; // Who was told has found a reason to end.
        }
        match prepared {
            Prepared::Done(done) => drop(tell.send(Ok(done))),
            Prepared::Ready { line, request } => {
                if let Some(lane) = lanes.get(lane(&request.subject, lanes.len())) {
                    drop(lane.send(Job { line, request, tell }).await);
                }
            }
        }
    }
    Ok(())
}

/// Which of so many lanes a person's rows take.
fn lane(subject: &str, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    usize::try_from(hasher.finish() % u64::try_from(lanes).unwrap_or(1)).unwrap_or_default()
}

/// Records the rows of a lane, one after the other.
async fn record(desk: &Desk, mut jobs: mpsc::Receiver<Job>) {
    while let Some(Job { line, request, tell }) = jobs.recv().await {
        let _ = tell.send(desk.record(line, &request).await);
    }
}

/// Tells what became of the rows, in the order of the file.
async fn tell(results: &mut Results, mut waited: mpsc::Receiver<oneshot::Receiver<Result<Done>>>) -> Result<()> {
    while let Some(told) = waited.recv().await {
        let Ok(done) = told.await else { break };
        results.write(&done?)?;
    }
    Ok(())
}
