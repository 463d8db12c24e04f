//! All sinks of a vault together: what is written to which, how many must have it, and who lags.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::super::checkpoint::{Checkpoint, Content, State};
use super::super::slot::Root;
use super::chain::{self, Link};
use super::{CheckpointSink, Name, keep, unusable};
use crate::model::{Error, Result};

/// How many checkpoints may follow a whole one. Opening reads them all; a whole one costs as much as there are
/// punctures and erasures.
const LONGEST: usize = 256;

/// How long a sink may take to answer, and how much longer for each megabyte.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_A_MEGABYTE: Duration = Duration::from_secs(1);

/// How many bytes a chain is taken to have before it is read.
const LARGE: usize = 256 << 20;

/// How long a sink that failed is left alone, as long as there are enough others.
const REST: Duration = Duration::from_secs(30);

/// How long what a sink was seen to hold counts as known.
const FRESH: Duration = Duration::from_secs(30);

/// The sinks of a vault.
pub struct Sinks {
    all: Vec<Tracked>,
    required: usize,
}

/// A change of the key state that is to be saved.
pub struct Step<'a> {
    /// The tree's id.
    pub tree: &'a [u8; 16],
    /// The root that the change goes on from, if there is one and the change is relative to it.
    pub base: Option<&'a Root>,
    /// The root that opens the state after the change.
    pub root: &'a Root,
    /// When, in microseconds since 1970.
    pub taken_at: i64,
}

/// How a sink is, as far as is known.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Where it is.
    pub place: String,
    /// The newest epoch that it holds.
    pub epoch: Option<u64>,
    /// Why it is not as it should be.
    pub trouble: Option<String>,
}

/// A sink with what this process knows of it.
pub(super) struct Tracked {
    sink: Arc<dyn CheckpointSink>,
    memory: Mutex<Memory>,
}

/// The roots that a sink has checkpoints of, each with its epoch, in the order of epochs.
type Roots = Vec<(u64, [u8; 16])>;

#[derive(Default)]
struct Memory {
    /// A chain that was found to be whole, oldest first.
    chain: Vec<Link>,
    /// What it holds and when that was looked at; or why it could not be.
    seen: Option<(Instant, Result<Roots, String>)>,
    /// When it last failed.
    failed: Option<Instant>,
    /// Whether it was seen to hold the present key state, or took it.
    up_to_date: bool,
    /// The root that was the present one when somebody last asked how the sink is.
    asked_for: [u8; 16],
    /// How many entries its journal has got since somebody last looked through it; `None` when it may lack some.
    untended: Option<u32>,
}

/// What is to be written to one sink.
enum Plan {
    /// A checkpoint that goes on from the last link of a chain.
    After(Vec<Link>, Vec<u8>),
    /// A whole one, after what came before it as far as that is known.
    Whole(Option<Name>),
}

impl Sinks {
    /// The sinks, of which so many must have a change before it counts as saved.
    #[must_use]
    pub fn new(all: Vec<Arc<dyn CheckpointSink>>, required: usize) -> Self {
        let track = |sink| Tracked { sink, memory: Mutex::default() };
        Self { all: all.into_iter().map(track).collect(), required }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &dyn CheckpointSink> {
        self.all.iter().map(|tracked| &*tracked.sink)
    }

    /// As many sinks, each behind another.
    #[must_use]
    pub fn behind(&self, wrap: impl Fn(Arc<dyn CheckpointSink>) -> Arc<dyn CheckpointSink>) -> Self {
        Self::new(self.all.iter().map(|tracked| wrap(Arc::clone(&tracked.sink))).collect(), self.required)
    }

    /// How many must have a change before it counts as saved.
    #[must_use]
    pub fn required(&self) -> usize {
        self.required
    }

    /// Writes a change to the sinks: what has changed where a sink has the state before, in a chain that is not too
    /// long or too heavy, and otherwise the whole state, which `whole` puts together. Durable in as many sinks as are
    /// required when this returns; the others lag, and get a whole checkpoint later.
    pub async fn save(
        &self,
        step: &Step<'_>,
        change: &Content,
        whole: impl Future<Output = Result<Content>> + Send,
    ) -> Result<()> {
        let awake = self.awake();
        let plans = join_all(awake.iter().map(|tracked| tracked.plan(step, change))).await;
        let wanted = plans.iter().any(|plan| matches!(plan, Ok(Plan::Whole(_))));
        let (whole, refused) = if wanted { split(seal(step, None, whole.await)) } else { (None, None) };
        let puts = awake.iter().zip(plans).map(|(tracked, plan)| tracked.carry_out(step, plan, whole.as_deref()));
        let failures: Vec<_> = join_all(puts).await.into_iter().filter_map(Result::err).collect();
        let saved = awake.len() - failures.len();
        if saved >= self.required {
            return Ok(());
        }
        if let Some(error) = refused {
            return Err(error);
        }
        let why: Vec<_> = failures.iter().map(ToString::to_string).collect();
        Err(unusable(format!(
            "{saved} checkpoint sinks have the next key state, and {} are required: {}",
            self.required,
            why.join("; ")
        )))
    }

    /// Brings those that lag to the present key state, with a whole checkpoint.
    pub async fn catch_up(&self, step: &Step<'_>, whole: impl Future<Output = Result<Content>> + Send) -> Result<()> {
        let mut behind = Vec::new();
        for tracked in self.all.iter().filter(|tracked| tracked.may_lag()) {
            match tracked.holds(&step.root.id).await {
                Ok(true) => tracked.remember(|memory| memory.up_to_date = true),
                Ok(false) => behind.push(tracked),
                Err(_) => {} // It was told, and rests.
            }
        }
        if behind.is_empty() {
            return Ok(());
        }
        let bytes = seal(step, None, whole.await)?;
        for tracked in behind {
            if tracked.carry_out(step, Ok(Plan::Whole(None)), Some(&bytes)).await.is_ok() {
                let (sink, epoch) = (tracked.sink.describe(), step.root.epoch);
                tracing::info!(sink, epoch, "a checkpoint sink has caught up");
            }
        }
        Ok(())
    }

    /// Whether [`Sinks::catch_up`] may find something to do.
    #[must_use]
    pub fn may_lag(&self) -> bool {
        self.all.iter().any(Tracked::may_lag)
    }

    /// Lets sinks drop what nothing needs once the slot stands at the root `present`.
    pub async fn collect_garbage(&self, present: &[u8; 16]) {
        let drop_old = async |tracked: &&Tracked| {
            if let Err(error) = tracked.collect_garbage(present).await {
                tracing::warn!(sink = tracked.sink.describe(), %error, "old checkpoints stay");
            }
        };
        join_all(self.awake().iter().map(drop_old)).await;
    }

    /// The key state of `root`, from the first sink that has it undamaged.
    pub async fn rebuild(&self, root: &Root) -> Option<State> {
        for sink in self.iter() {
            match chain::rebuild(sink, root).await {
                Ok(None) => {}
                Ok(state) => return state,
                Err(error) => tracing::error!(%error, "a checkpoint cannot be used"),
            }
        }
        None
    }

    /// The newest epoch that any sink holds, and where.
    ///
    /// # Errors
    /// When fewer sinks answer than are required.
    pub async fn newest(&self) -> Result<Option<(u64, String)>> {
        let (mut newest, mut failures) = (None, Vec::new());
        let looks = join_all(self.all.iter().map(Tracked::look)).await;
        for (tracked, found) in self.all.iter().zip(looks) {
            match found {
                Ok(roots) => newest = newest.max(roots.last().map(|(epoch, _)| (*epoch, tracked.sink.describe()))),
                Err(error) => failures.push(error),
            }
        }
        let answered = self.all.len() - failures.len();
        match failures.pop() {
            Some(error) if answered < self.required => Err(error),
            _ => Ok(newest),
        }
    }

    /// How each sink is, when the present root is `present`. Asks those again that have not been asked for a while.
    pub async fn standing(&self, present: &[u8; 16]) -> Vec<Standing> {
        join_all(self.all.iter().map(|tracked| tracked.standing(present))).await
    }

    /// Each of them, with what is known of it.
    pub(super) fn tracked(&self) -> &[Tracked] {
        &self.all
    }

    /// Those that have not failed just now; all, if too few are left.
    pub(super) fn awake(&self) -> Vec<&Tracked> {
        let awake: Vec<_> = self.all.iter().filter(|tracked| !tracked.rests()).collect();
        if awake.len() < self.required { self.all.iter().collect() } else { awake }
    }
}

impl Tracked {
    fn remember<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> T {
        change(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn sink(&self) -> &dyn CheckpointSink {
        &*self.sink
    }

    /// How many entries of the journal nobody has looked through.
    pub(super) fn untended(&self) -> u32 {
        self.remember(|memory| memory.untended.unwrap_or(u32::MAX))
    }

    pub(super) fn tended(&self) {
        self.remember(|memory| memory.untended = Some(0));
    }

    pub(super) fn grown(&self) {
        self.remember(|memory| memory.untended = memory.untended.map(|number| number.saturating_add(1)));
    }

    pub(super) fn lack_entries(&self) {
        self.remember(|memory| memory.untended = None);
    }

    pub(super) fn rests(&self) -> bool {
        self.remember(|memory| memory.failed.is_some_and(|at| at.elapsed() < REST))
    }

    fn may_lag(&self) -> bool {
        !self.rests() && !self.remember(|memory| memory.up_to_date)
    }

    pub(super) fn fail(&self, error: &Error) {
        tracing::warn!(sink = self.sink.describe(), %error, "a checkpoint sink lags behind");
        self.remember(|memory| {
            let now = Instant::now();
            memory.up_to_date = false;
            memory.failed = Some(now);
            memory.seen = Some((now, Err(error.to_string())));
        });
    }

    /// Waits for an answer, but not for ever.
    pub(super) async fn within<T>(&self, bytes: usize, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let megabytes = u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        let patience = PATIENCE.saturating_add(PATIENCE_A_MEGABYTE.saturating_mul(megabytes));
        let late = |_| unusable(format!("the checkpoint sink {} does not answer", self.sink.describe()));
        tokio::time::timeout(patience, answer).await.map_err(late)?
    }

    /// Asks the sink, and lets it rest when it does not answer.
    pub(super) async fn ask<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        self.within(0, answer).await.inspect_err(|error| self.fail(error))
    }

    /// What the sink holds.
    async fn look(&self) -> Result<Roots> {
        let names = self.ask(self.sink.checkpoints()).await?;
        let roots: Vec<_> = names.iter().map(|name| (name.epoch, name.root_id)).collect();
        self.remember(|memory| memory.seen = Some((Instant::now(), Ok(roots.clone()))));
        Ok(roots)
    }

    async fn holds(&self, root_id: &[u8; 16]) -> Result<bool> {
        Ok(self.look().await?.iter().any(|(_, root)| root == root_id))
    }

    /// What to write: see [`Sinks::save`].
    async fn plan(&self, step: &Step<'_>, change: &Content) -> Result<Plan> {
        let names = self.within(0, self.sink.checkpoints()).await?;
        let Some(base) = step.base else {
            self.within(0, self.sink.make()).await?;
            return Ok(Plan::Whole(None));
        };
        let chain = self.chain(&names, base).await;
        let Some(last) = chain.last() else {
            return Ok(Plan::Whole(names.into_iter().find(|name| name.root_id == base.id)));
        };
        let bytes = seal(step, Some(last), Ok(change.clone()))?;
        let whole = chain.first().map_or(0, |link| link.bytes);
        let after: u64 = chain.iter().skip(1).map(|link| link.bytes).sum();
        if chain.len() > LONGEST || after + bytes.len() as u64 > whole {
            return Ok(Plan::Whole(Some(last.name.clone())));
        }
        Ok(Plan::After(chain, bytes))
    }

    /// The chain that ends with a checkpoint of `root`; empty when the sink has none, or it is not whole.
    async fn chain(&self, names: &[Name], root: &Root) -> Vec<Link> {
        let mut known = self.remember(|memory| memory.chain.clone());
        if !known.iter().all(|link| names.contains(&link.name)) {
            known.clear();
        }
        if let Some(at) = known.iter().rposition(|link| link.name.root_id == root.id) {
            known.truncate(at + 1);
            return known;
        }
        let trace = chain::trace(&*self.sink, names, root, &known);
        self.within(LARGE, trace).await.map_or_else(
            |error| {
                tracing::error!(%error, "a checkpoint cannot be used; the sink gets a whole one");
                Vec::new()
            },
            Option::unwrap_or_default,
        )
    }

    async fn carry_out(&self, step: &Step<'_>, plan: Result<Plan>, whole: Option<&[u8]>) -> Result<()> {
        let done = match plan {
            Ok(Plan::After(chain, bytes)) => {
                let before = chain.last().map(|link| link.name.clone());
                self.put(step, before.as_ref(), chain, &bytes).await
            }
            Ok(Plan::Whole(before)) => match whole {
                Some(bytes) => self.put(step, before.as_ref(), Vec::new(), bytes).await,
                None => Err(unusable(format!("there is no whole key state for {}", self.sink.describe()))),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = &done {
            self.fail(error);
        }
        done
    }

    async fn put(&self, step: &Step<'_>, before: Option<&Name>, mut chain: Vec<Link>, bytes: &[u8]) -> Result<()> {
        let (epoch, root_id) = (step.root.epoch, step.root.id);
        let name = Name::of(epoch, root_id, bytes, before, chain.is_empty());
        self.within(bytes.len(), self.sink.put(&name.to_string(), bytes)).await?;
        chain.push(Link::of(name, bytes));
        self.remember(|memory| {
            memory.chain = chain;
            memory.failed = None;
            memory.up_to_date = true;
            match &mut memory.seen {
                Some((_, Ok(roots))) => roots.push((epoch, root_id)),
                seen => *seen = None,
            }
        });
        Ok(())
    }

    async fn collect_garbage(&self, present: &[u8; 16]) -> Result<()> {
        let names = self.within(0, self.sink.checkpoints()).await?;
        for name in keep::obsolete(&names, present) {
            self.within(0, self.sink.remove(&name.to_string())).await?;
        }
        Ok(())
    }

    async fn standing(&self, present: &[u8; 16]) -> Standing {
        let known = self.remember(|memory| {
            let again = std::mem::replace(&mut memory.asked_for, *present) == *present;
            let holds = |roots: &Roots| roots.iter().any(|(_, root)| root == present);
            let (at, roots) = memory.seen.as_ref()?;
            // Another node may have written to it since.
            let known = at.elapsed() < FRESH && (again || roots.as_ref().is_ok_and(holds));
            known.then(|| roots.clone())
        });
        let roots = match known {
            Some(roots) => roots,
            None => self.look().await.map_err(|error| error.to_string()),
        };
        let place = self.sink.describe();
        let (epoch, trouble) = match roots {
            Err(trouble) => (None, Some(trouble)),
            Ok(roots) if roots.is_empty() => (None, Some("holds no checkpoint".to_owned())),
            Ok(roots) => {
                let lags = !roots.iter().any(|(_, root)| root == present);
                self.remember(|memory| memory.up_to_date &= !lags);
                let trouble = lags.then(|| "lags behind: it lacks the present key state".to_owned());
                (roots.last().map(|(epoch, _)| *epoch), trouble)
            }
        };
        Standing { place, epoch, trouble }
    }
}

fn seal(step: &Step<'_>, base: Option<&Link>, content: Result<Content>) -> Result<Vec<u8>> {
    let base = base.map(Link::base);
    Checkpoint::new(step.tree, step.root, step.taken_at, base, &content?).seal(step.root)
}

fn split<T>(result: Result<T>) -> (Option<T>, Option<Error>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error)),
    }
}
