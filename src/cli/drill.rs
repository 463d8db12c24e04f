//! `lacuna keys drill`: proves beside a running vault, on a copy of a backup, what a restore would come to.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result as Outcome, ensure};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::admin::Here;
use super::backup::{self, Manifest};
use super::failure::Result;
use super::open;
use super::print::Answer;
use super::table::record;
use crate::config::Config;
use crate::crypto::{Random, SystemRandom};
use crate::keys::Custody;
use crate::keys::checkpoint::hex;
use crate::keys::custody::Parts;
use crate::keys::drill::{self, Moment, Survey, Tried};
use crate::keys::files;
use crate::keys::kek::{Absent, Kek, LocalKek};
use crate::keys::lease::Lease;
use crate::keys::signer::Signer;
use crate::model::{Clock as _, SubjectId, SystemClock};
use crate::platform;
use crate::store::{self, Scratch, Store};

/// How many people's pseudonyms a check names.
const NAMED: usize = 20;

/// What no drill can prove.
const LIMITS: [&str; 5] = [
    "A copy of the root slot from before an erasure, with what wraps it, opens what was erased since. No drill can tell \
     whether somebody has one.",
    "The adversary had this backup, the newest checkpoint and the running vault's key state. Other copies were not looked \
     at; what is said of the erased holds for them by construction, not by this test.",
    "Of those who were not erased, only the people of the sample were read.",
    "What was changed after the backup other than by an erasure (rectifications, restrictions, objections, new people) is \
     not in it and is not restored.",
    "The time is that of this machine and its scratch place, from a backup at hand to a vault that could be started.",
];

/// Arguments of `lacuna keys drill`.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the backup
    #[arg(long, value_name = "DIR")]
    backup: PathBuf,
    /// How many people who were not erased are read, drawn at random; everybody when there are fewer
    #[arg(long, value_name = "N", default_value_t = 1000)]
    sample: usize,
    /// File for the report, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Directory for the scratch copy, which is removed afterwards [default: that for temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// An empty PostgreSQL database for the scratch copy, emptied afterwards [default: one is made on the same server]
    #[arg(long, value_name = "URL", hide_env_values = true)]
    scratch_database_url: Option<String>,
    #[command(flatten)]
    pub here: Here,
}

/// The report, fit for an auditor.
#[derive(Default, Serialize)]
struct Report {
    verdict: &'static str,
    started_at: String,
    seconds: f64,
    /// From the backup at hand to a vault that could be started.
    recovery_seconds: Option<f64>,
    operator: String,
    version: &'static str,
    vault: String,
    running_vault: String,
    backup: About,
    slot: Slot,
    checkpoint: Option<Saved>,
    counts: Counts,
    checks: Vec<Check>,
    limits: [&'static str; 5],
}

#[derive(Default, Serialize)]
struct About {
    place: String,
    manifest_sha256: String,
    taken_at: String,
    database: String,
    version: String,
    epoch: u64,
    root_id: String,
}

#[derive(Default, Serialize)]
struct Slot {
    place: String,
    epoch: u64,
    root_id: String,
    assurance: &'static str,
}

#[derive(Serialize)]
struct Saved {
    epoch: u64,
    root_id: String,
    erasures: u64,
}

#[derive(Default, Serialize)]
struct Counts {
    subjects: u64,
    erased_before: u64,
    erased_since: u64,
    pending: u64,
    living: u64,
    sampled: u64,
    values_of_erased: u64,
    /// Of theirs, what outlasts their erasure because a law demands it.
    values_kept: u64,
    values_of_sample: u64,
    pages_opened: u64,
    pages_closed: u64,
}

#[derive(Serialize)]
struct Check {
    #[serde(rename = "check")]
    name: &'static str,
    held: bool,
    words: String,
    /// Pseudonyms of those for whom it did not hold; not all, if they are many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    people: Vec<String>,
}

impl Report {
    fn check(&mut self, name: &'static str, held: bool, words: impl Into<String>, people: &BTreeSet<SubjectId>) {
        let people = if held { Vec::new() } else { people.iter().take(NAMED).map(ToString::to_string).collect() };
        self.checks.push(Check { name, held, words: words.into(), people });
    }

    fn answer(&self) -> Outcome<Answer> {
        let mut lines = vec![
            ("verdict", self.verdict.to_owned()),
            ("when", format!("{}, {:.1} s", self.started_at, self.seconds)),
            ("by", self.operator.clone()),
            ("vault", self.vault.clone()),
            ("running vault", self.running_vault.clone()),
            ("backup", format!("{} of {}, epoch {}", self.backup.place, self.backup.taken_at, self.backup.epoch)),
            ("its manifest", format!("SHA-256 {}", self.backup.manifest_sha256)),
            ("root slot", format!("{} at epoch {}, root {}", self.slot.place, self.slot.epoch, self.slot.root_id)),
            ("assurance", self.slot.assurance.to_owned()),
        ];
        if let Some(saved) = &self.checkpoint {
            lines.push(("checkpoint", format!("epoch {}, with {} erasures", saved.epoch, saved.erasures)));
        }
        if let Some(seconds) = self.recovery_seconds {
            lines.push(("time to recover", format!("{seconds:.1} s")));
        }
        let counts = &self.counts;
        lines.push((
            "people",
            format!(
                "{} in the backup: {} erased before it, {} since, {} whose erasure waits, {} others, {} of them read",
                counts.subjects,
                counts.erased_before,
                counts.erased_since,
                counts.pending,
                counts.living,
                counts.sampled
            ),
        ));
        let mut human = record(&lines);
        for check in &self.checks {
            let verdict = if check.held { "held    " } else { "NOT HELD" };
            let _ = write!(human, "\n  {verdict}  {}: {}", check.name, check.words);
            if !check.people.is_empty() {
                let _ = write!(human, " ({})", check.people.join(", "));
            }
        }
        human.push_str("\n\nWhat this does not prove:");
        for limit in self.limits {
            let _ = write!(human, "\n- {limit}");
        }
        let failed = self.verdict != HELD;
        Ok(Answer { json: serde_json::to_value(self)?, human, failed })
    }
}

const HELD: &str = "HELD";

/// Carries the drill out and shows the report.
pub async fn run(args: Args) -> Result<()> {
    let begun = Instant::now();
    let config = args.here.place.config()?;
    let manifest = Manifest::read(&args.backup)?;
    let url = config.database_url()?.expose().to_owned();
    backup::check_kind(&manifest, &url)?;
    let mut report = Report {
        started_at: SystemClock.now().to_string(),
        operator: platform::operator(),
        version: env!("CARGO_PKG_VERSION"),
        vault: manifest.tree.clone(),
        backup: About {
            place: args.backup.display().to_string(),
            manifest_sha256: Manifest::digest(&args.backup)?,
            taken_at: manifest.taken_at.clone(),
            database: manifest.database.clone(),
            version: manifest.version.clone(),
            epoch: manifest.epoch,
            root_id: manifest.root_id.clone(),
        },
        limits: LIMITS,
        ..Report::default()
    };
    let random: Arc<dyn Random> = Arc::new(SystemRandom::new());
    let folder = Folder::make(args.scratch.as_deref(), &*random)?;
    let scratch = match &args.scratch_database_url {
        Some(given) => Scratch::take(given).await,
        None => Scratch::make(&url, &folder.path, &folder.name).await,
    };
    let scratch = scratch.map_err(anyhow::Error::from)?;
    let drill = Drill { config, url, folder: &folder.path, scratch: scratch.url(), random, args: &args, manifest };
    let carried_out = tokio::select! {
        carried_out = drill.carry_out(&mut report) => carried_out,
        () = interrupted() => Err(anyhow::anyhow!("it was interrupted")),
    };
    let discarded = scratch.discard().await.map_err(anyhow::Error::from).and_then(|()| folder.remove());
    for error in [carried_out.err(), discarded.err()].into_iter().flatten() {
        report.check("the drill was carried out", false, format!("{error:#}"), &BTreeSet::new());
    }
    report.seconds = begun.elapsed().as_secs_f64();
    report.verdict = if report.checks.iter().all(|check| check.held) { HELD } else { "NOT HELD" };
    let answer = report.answer()?;
    if let Some(path) = &args.report {
        let bytes = serde_json::to_vec_pretty(&answer.json).map_err(anyhow::Error::from)?;
        let written = files::replace(path, &bytes);
        written.with_context(|| format!("cannot write the report to {}", path.display()))?;
    }
    args.here.output.show(&answer)
}

/// Returns when somebody wants the drill to end.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// A directory that goes with its owner, with all that is in it.
struct Folder {
    name: String,
    path: PathBuf,
}

impl Folder {
    fn make(parent: Option<&Path>, random: &dyn Random) -> Outcome<Self> {
        let mut number = [0; 8];
        random.fill(&mut number);
        let name = format!("lacuna_drill_{}", data_encoding::HEXLOWER.encode(&number));
        let path = parent.map_or_else(std::env::temp_dir, Path::to_owned).join(&name);
        let made = files::make_private_directory(&path);
        made.with_context(|| format!("cannot make the scratch directory {}", path.display()))?;
        Ok(Self { name, path })
    }

    fn remove(self) -> Outcome<()> {
        fs::remove_dir_all(&self.path)
            .with_context(|| format!("cannot remove the scratch directory {}; remove it yourself", self.path.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _it_is_gone_already_when_all_went_well = fs::remove_dir_all(&self.path);
    }
}

/// A drill under way.
struct Drill<'a> {
    config: Config,
    url: String,
    folder: &'a Path,
    scratch: String,
    random: Arc<dyn Random>,
    args: &'a Args,
    manifest: Manifest,
}

impl Drill<'_> {
    async fn carry_out(&self, report: &mut Report) -> Outcome<()> {
        let nobody = BTreeSet::new();
        let begun = Instant::now();
        let whole = self.manifest.verify(&self.args.backup);
        let words = whole.as_ref().map_or_else(|error| format!("{error:#}"), |()| "every digest is right".to_owned());
        report.check("the backup is whole", whole.is_ok(), words, &nobody);
        if whole.is_err() {
            return Ok(());
        }
        store::restore(&self.scratch, &self.args.backup, false).await?;
        let restored = begun.elapsed();
        let copy = store::open(&self.scratch).await?;
        let done = self.look(&copy, report).await;
        let begun = Instant::now();
        let done = match done {
            Ok((moment, survey)) => self.restore(&copy, moment, &survey, report).await,
            Err(error) => Err(error),
        };
        copy.close().await;
        let opened = done?.map(|at| at.duration_since(begun));
        report.recovery_seconds = opened.map(|opened| (restored + opened).as_secs_f64());
        Ok(())
    }

    /// Has the adversary read the copy of the backup as it is.
    async fn look(&self, copy: &Arc<dyn Store>, report: &mut Report) -> Outcome<(Moment, Survey)> {
        copy.migrate().await?;
        // Asked before the slot: whoever is erased by then must be dead under the root that the slot holds.
        let (running, words) = match self.running().await {
            Ok(running) => (Some(running), "asked who was erased".to_owned()),
            Err(error) => (None, format!("not asked, so that only the checkpoint tells who was erased: {error:#}")),
        };
        report.running_vault = words;
        let mut erased = match &running {
            Some(running) => drill::erased_in(&**running).await?,
            None => BTreeSet::new(),
        };
        let slot = super::custodian::look_at_slot(&self.config, self.manifest.tree()?).await?;
        let moment = Moment::of(&*slot, &open::sinks(&self.config)?).await?;
        erased.extend(moment.erased()?);
        let content = &moment.content;
        ensure!(
            hex(&content.tree) == self.manifest.tree,
            "the backup is of vault {}, the root slot of vault {}",
            self.manifest.tree,
            hex(&content.tree)
        );
        report.slot = Slot {
            place: slot.describe(),
            epoch: content.current.epoch,
            root_id: hex(&content.current.id),
            assurance: slot.assurance().name(),
        };
        report.checkpoint = moment.checkpoint.as_ref().map(|checkpoint| Saved {
            epoch: content.current.epoch,
            root_id: hex(&content.current.id),
            erasures: checkpoint.erasures().count() as u64,
        });
        let survey = drill::survey(&**copy, &erased, self.args.sample, &*self.random).await?;
        let counts = &mut report.counts;
        counts.subjects = survey.subjects;
        counts.erased_before = survey.erased_before;
        counts.erased_since = survey.erased_since.len() as u64;
        (counts.pending, counts.living) = (survey.pending, survey.living);
        counts.sampled = survey.sample.len() as u64;

        let mut spoils = drill::plunder(&moment, &**copy, running.as_deref()).await?;
        let (opened, closed) = spoils.pages();
        (counts.pages_opened, counts.pages_closed) = (opened as u64, closed as u64);
        let dead = drill::attack(&mut spoils, &**copy, &survey.erased_since, &moment.kept()).await?;
        let listed = drill::listed(&spoils, &**copy, &dead).await?;
        let living = drill::attack(&mut spoils, &**copy, &survey.sample, &BTreeSet::new()).await?;
        (counts.values_of_erased, counts.values_kept) = (dead.values, dead.kept);
        counts.values_of_sample = living.values;
        judge_attack(report, &dead, listed, &living);
        if let Some(running) = running {
            running.close().await;
        }
        Ok((moment, survey))
    }

    /// The database of the running vault, only looked at.
    async fn running(&self) -> Outcome<Arc<dyn Store>> {
        let missing = self.url.strip_prefix("sqlite:").filter(|path| !Path::new(path).exists());
        ensure!(missing.is_none(), "its database is not there");
        Ok(store::open(&self.url).await?)
    }

    /// Opens the copy as a restore would, and reads it. Answers when it was open.
    async fn restore(
        &self,
        copy: &Arc<dyn Store>,
        moment: Moment,
        survey: &Survey,
        report: &mut Report,
    ) -> Outcome<Option<Instant>> {
        let (nobody, kept) = (BTreeSet::new(), moment.kept());
        drill::forget_nodes(&**copy).await?;
        // Keys of its own, thrown away with the copy: a drill signs nothing.
        let (vault, path) = (self.manifest.tree()?, self.folder.join("kek.key"));
        let kek: Arc<dyn Kek> = Arc::new(LocalKek::open(&path, vault, Absent::Make, Arc::clone(&self.random))?);
        let signing = [self.folder.join("receipt-signing.key")];
        let signer = Signer::open(&signing, Arc::clone(&kek), Absent::Make, &*self.random).await?;
        let parts = Parts {
            vault,
            store: Arc::clone(copy),
            slot: moment.slot,
            sinks: moment.sinks,
            signer,
            kek,
            clock: Arc::new(SystemClock),
            random: Arc::clone(&self.random),
            index_buckets: self.config.index_buckets(),
            lease: Arc::new(Lease::unlimited()),
        };
        let (custody, recovered) = match Custody::open(parts).await {
            Ok(opened) => opened,
            Err(error) => {
                report.check("a restore opens the vault", false, format!("it refuses: {error}"), &nobody);
                return Ok(None);
            }
        };
        let opened = Instant::now();
        let words = format!(
            "from epoch {} to {}; {} erasures were applied again and {} index buckets rebuilt",
            recovered.epoch_before, recovered.epoch, recovered.erasures_reapplied, recovered.buckets_rebuilt
        );
        report.check("a restore opens the vault", true, words, &nobody);
        let left = custody.not_erased(&survey.erased_since, &kept).await?;
        let words = format!("{} of {} people are not", left.len(), survey.erased_since.len());
        report.check("after it, whoever was erased is marked so and has no ciphertext", left.is_empty(), words, &left);
        let read = custody.open_values_of(&survey.sample).await?;
        let words =
            format!("{} of {} values of {} people opened and made sense", read.opened, read.values, read.subjects);
        report.check("after it, whoever was not erased is readable", read.closed.is_empty(), words, &read.closed);
        custody.leave().await?;
        Ok(Some(opened))
    }
}

/// What the adversary read, and what they should have.
fn judge_attack(report: &mut Report, dead: &Tried, listed: u64, living: &Tried) {
    let words = format!(
        "{} of {} values of {} people opened with every key that the slot opens",
        living.opened, living.values, living.subjects
    );
    let all = living.closed.is_empty();
    report.check("the attack reads whoever was not erased", all, words, &living.closed);
    let words = match dead.subjects {
        0 => "nobody was erased since the backup, so there was nothing to try".to_owned(),
        people => format!(
            "of {} values of {people} people, {} opened; {} of the people have a value or a key that opens; {} more values \
             outlast the erasure, as a law demands",
            dead.values,
            dead.opened,
            dead.open.len(),
            dead.kept
        ),
    };
    report.check("nothing opens of whoever was erased since", dead.open.is_empty(), words, &dead.open);
    let words = format!("{listed} entries of theirs were found in the search index of the backup");
    report.check("the search index of the backup lists none of them", listed == 0, words, &BTreeSet::new());
}
