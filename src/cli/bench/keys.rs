//! `lacuna bench keys`: what readers notice of a change of keys. Reveals are measured without anything else, then with
//! one change after the other beside them, and nobody may be refused.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tonic::Status;

use super::What;
use super::load::Corpus;
use super::measure::{Measure, Pace, closed_loop};
use super::report::{PERCENTILES, conditions, cores, figures, whole};
use crate::cli::client::{Remote, Vault};
use crate::cli::failure::Result;
use crate::cli::print::Answer;
use crate::cli::table;
use crate::proto::v1;

/// What is done beside the reveals, again and again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The root key is rotated.
    Root,
    /// The key that wraps the root slot is rotated.
    Kek,
    /// Somebody else is erased: their leaves are punctured.
    Puncture,
    /// The index key is rotated.
    Index,
}

impl Change {
    const ALL: [Self; 4] = [Self::Root, Self::Kek, Self::Puncture, Self::Index];

    const fn name(self) -> &'static str {
        match self {
            Self::Root => "root key rotations",
            Self::Kek => "KEK rotations",
            Self::Puncture => "erasures of others",
            Self::Index => "index key rotations",
        }
    }
}

/// Reveals without and with a change beside them.
struct Row {
    change: Change,
    without: Measure,
    with: Measure,
    /// How many changes came to their end meanwhile.
    changes: u64,
}

/// Measures all changes, each beside the same load without it.
pub async fn run(remote: &Remote, pace: Pace) -> Result<Answer> {
    let vault = remote.open().await?;
    eprintln!("keys: preparing");
    let readers = Corpus::prepare(&vault, What::Reveal, pace).await?;
    let mut rows = Vec::new();
    for change in Change::ALL {
        let others = Corpus::prepare(&vault, What::Erase, Pace { in_flight: 1, ..pace }).await?;
        eprintln!("keys: measuring reveals without and with {}, {} s each", change.name(), pace.span.as_secs());
        let without = closed_loop(&vault, What::Reveal, &readers, pace, Measure::empty()?).await;
        let stop = Arc::new(AtomicBool::new(false));
        let changing = tokio::spawn(keep_changing(vault.clone(), change, others, Arc::clone(&stop)));
        let mut with = closed_loop(&vault, What::Reveal, &readers, pace, Measure::empty()?).await;
        stop.store(true, Ordering::SeqCst);
        let changes = match changing.await.map_err(anyhow::Error::from)? {
            Ok(changes) => changes,
            Err(status) => {
                with.fail(|| format!("{} failed: {}", change.name(), status.message()));
                0
            }
        };
        rows.push(Row { change, without, with, changes });
    }
    Ok(answer(remote.address(), pace, &rows))
}

/// Makes one change after the other until told to stop; answers how many.
async fn keep_changing(mut vault: Vault, change: Change, others: Corpus, stop: Arc<AtomicBool>) -> Result<u64, Status> {
    let mut changes = 0;
    while !stop.load(Ordering::SeqCst) {
        match change {
            Change::Root => {
                let rotation = vault.keys.rotate_root(v1::RotateRootRequest::default()).await?.into_inner().rotation;
                end(&mut vault, rotation, &stop).await?;
            }
            Change::Kek => {
                let rotation = vault.keys.rotate_kek(v1::RotateKekRequest::default()).await?.into_inner().rotation;
                end(&mut vault, rotation, &stop).await?;
            }
            Change::Index => {
                let request = v1::RotateIndexKeyRequest::default();
                let rotation = vault.keys.rotate_index_key(request).await?.into_inner().rotation;
                end(&mut vault, rotation, &stop).await?;
            }
            Change::Puncture => {
                let Some(request) = others.draw(What::Erase) else { break };
                request.call(&mut vault).await?;
            }
        }
        changes += 1;
    }
    Ok(changes)
}

/// Waits until a rotation has ended.
async fn end(vault: &mut Vault, rotation: Option<v1::Rotation>, stop: &AtomicBool) -> Result<(), Status> {
    let mut rotation = rotation.unwrap_or_default();
    while rotation.state() == v1::RotationState::Running {
        if stop.load(Ordering::SeqCst) && !rotation.detail.is_empty() {
            return Err(Status::internal(format!("it waits: {}", rotation.detail)));
        }
        tokio::time::sleep(super::super::keys::LOOK).await;
        let request = v1::GetRotationRequest { rotation: rotation.rotation.clone() };
        rotation = vault.keys.get_rotation(request).await?.into_inner().rotation.unwrap_or_default();
    }
    match rotation.state() {
        v1::RotationState::Done => Ok(()),
        _ => Err(Status::internal(rotation.detail)),
    }
}

fn answer(address: &str, pace: Pace, rows: &[Row]) -> Answer {
    let failed = rows.iter().any(|row| row.without.errors + row.with.errors > 0);
    let json = json!({
        "machine": { "cores": cores() },
        "parameters": {
            "address": address,
            "in_flight": pace.in_flight,
            "seconds": pace.span.as_secs(),
            "connections": 1,
        },
        "results": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    Answer { json, human: human(pace, rows), failed }
}

fn human(pace: Pace, rows: &[Row]) -> String {
    let percentiles = PERCENTILES.map(|(name, _)| format!("{name} µs"));
    let head = ["reveals beside", "changes", "reveals/s"].into_iter().chain(percentiles.iter().map(String::as_str));
    let head: Vec<_> = head.chain(["p99 ratio", "failed reveals"]).collect();
    let mut text = table::table(&head, rows.iter().flat_map(Row::cells));
    let _ = write!(text, "\n\n{}; the client and a local vault share the machine.", conditions(pace));
    for row in rows {
        for error in [&row.without.first_error, &row.with.first_error].into_iter().flatten() {
            let _ = write!(text, "\nbeside {}: {error}", row.change.name());
        }
    }
    text
}

impl Row {
    /// The p99 with the change over the p99 without.
    #[expect(clippy::cast_precision_loss, reason = "microseconds are far below 2^52")]
    fn ratio(&self) -> Option<f64> {
        let p99 = |measure: &Measure| measure.latencies.value_at_quantile(0.99) as f64;
        (p99(&self.without) > 0.0).then(|| p99(&self.with) / p99(&self.without))
    }

    fn json(&self) -> Value {
        json!({
            "beside": self.change.name(),
            "changes": self.changes,
            "without": figures(What::Reveal, &self.without),
            "with": figures(What::Reveal, &self.with),
            "p99_ratio": self.ratio(),
        })
    }

    fn cells(&self) -> [Vec<String>; 2] {
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let cells = |name: &str, changes: String, measure: &Measure, ratio: String| {
            let percentiles = PERCENTILES.iter().map(|(_, at)| measure.latencies.value_at_quantile(*at).to_string());
            let head = [name.to_owned(), changes, whole(measure.rate())];
            head.into_iter().chain(percentiles).chain([ratio, measure.errors.to_string()]).collect()
        };
        [
            cells("nothing", String::new(), &self.without, String::new()),
            cells(self.change.name(), self.changes.to_string(), &self.with, ratio),
        ]
    }
}
