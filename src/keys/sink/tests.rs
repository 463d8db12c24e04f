//! What was saved comes back: against a naive model, whatever is interrupted, dropped, damaged or late.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::checkpoint::{Content, Erased, State};
use super::super::slot::Root;
use super::super::tree::{PageId, Puncture, Tree};
use super::*;
use crate::crypto::testing::Seeded;
use crate::store::key::{Page, Punctured};

const TREE: [u8; 16] = *b"the tree of test";

/// One moment of the key state, as simply as it can be told.
#[derive(Clone)]
struct Moment {
    tree: Tree,
    pages: HashMap<PageId, Vec<u8>>,
    state: Content,
}

/// A change that was made up, and what it led to if it came to be.
struct Attempt {
    base: Option<Root>,
    root: Root,
    change: Content,
    after: Moment,
}

/// A vault's key state with its sinks, and every attempt ever made.
struct History {
    home: TempDir,
    random: Seeded,
    sinks: Sinks,
    attempts: Vec<Attempt>,
    /// The attempt that the slot stands at.
    present: usize,
}

fn copy(root: &Root) -> Root {
    Root {
        id: root.id,
        epoch: root.epoch,
        key: crate::crypto::Secret::build(|to| to.copy_from_slice(root.key.expose())),
    }
}

fn erased(epoch: u64) -> Erased {
    Erased {
        kept: Vec::new(),
        erasure: format!("erasure {epoch}"),
        subject: format!("subject {epoch}"),
        reason: "Art. 17".to_owned(),
        requested_by: "test".to_owned(),
        requested_at: 1,
        erased_at: 2,
        epoch,
    }
}

fn all(content: &Content) -> State {
    let mut state = State::default();
    state.apply(content.clone()).unwrap();
    state
}

impl History {
    async fn new(seed: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let random = Seeded::new(seed);
        let sinks = open(home.path(), 2);
        let mut history = Self { home, random, sinks, attempts: Vec::new(), present: 0 };
        let genesis = Tree::genesis(TREE, &history.random);
        history.make_up(None, genesis, &[]);
        history.save(0, &history.sinks).await.unwrap();
        history
    }

    fn sink(&self, at: usize) -> DirectorySink {
        DirectorySink::new(&path(self.home.path(), at))
    }

    fn present(&self) -> &Attempt {
        &self.attempts[self.present]
    }

    /// Thinks of the next change without telling anybody.
    fn make_up(&mut self, base: Option<usize>, puncture: Puncture, ranges: &[(u32, u32)]) -> usize {
        let epoch = self.attempts.len() as u64;
        let before = base.map(|at| self.attempts[at].after.clone());
        let (mut pages, mut state) = before.map_or_else(Default::default, |moment| (moment.pages, moment.state));
        for id in &puncture.removed {
            pages.remove(id).unwrap();
        }
        pages.extend(puncture.written.iter().map(|page| (page.id, page.blob.clone())));
        let punctured: Vec<_> = ranges.iter().map(|&(first, last)| Punctured { first, last, epoch }).collect();
        let erasures = if ranges.is_empty() { Vec::new() } else { vec![erased(epoch)] };
        state.next_leaf = 100 + u32::try_from(epoch).unwrap();
        state.pages = pages.iter().map(|(id, blob)| Page { id: *id, blob: blob.clone() }).collect();
        state.punctured.extend(punctured.iter().copied());
        state.erasures.extend(erasures.iter().cloned());
        let root = Root::of(&puncture, epoch);
        let change = Content {
            next_leaf: state.next_leaf,
            pages: puncture.written,
            removed: puncture.removed,
            punctured,
            erasures,
        };
        let base = base.map(|at| copy(&self.attempts[at].root));
        self.attempts.push(Attempt { base, root, change, after: Moment { tree: puncture.tree, pages, state } });
        self.attempts.len() - 1
    }

    fn next(&mut self, ranges: &[(u32, u32)]) -> usize {
        let all: Vec<_> = ranges.iter().map(|&(first, last)| first..=last).collect();
        let puncture = self.present().after.tree.puncture(&all, &self.random);
        self.make_up(Some(self.present), puncture, ranges)
    }

    async fn save(&self, at: usize, sinks: &Sinks) -> Result<()> {
        let Attempt { base, root, change, after } = &self.attempts[at];
        let step = Step { tree: &TREE, base: base.as_ref(), root, taken_at: 7 };
        sinks.save(&step, change, async { Ok(after.state.clone()) }).await
    }

    /// A change that comes to be.
    async fn advance(&mut self, ranges: &[(u32, u32)]) {
        let next = self.next(ranges);
        self.save(next, &self.sinks).await.unwrap();
        self.present = next;
    }

    async fn rebuild(&self, at: usize) -> Result<Option<State>> {
        rebuild(&self.sink(at), &self.present().root).await
    }

    /// What a sink gives back is the present state, and it opens.
    async fn check(&self, at: usize) {
        let state = self.rebuild(at).await.unwrap().unwrap();
        assert_eq!(state, all(&self.present().after.state), "sink {at}");
        let pages: HashMap<_, _> = state.pages().into_iter().map(|page| (page.id, page.blob)).collect();
        let tree = Tree::load(TREE, &self.present().root.key, |id| pages.get(&id)).unwrap();
        assert_eq!(tree.stats(), self.present().after.tree.stats());
    }

    async fn names(&self, at: usize) -> Vec<Name> {
        self.sink(at).checkpoints().await.unwrap()
    }

    fn file(&self, at: usize, name: &Name) -> PathBuf {
        path(self.home.path(), at).join(name.to_string())
    }
}

fn path(home: &Path, at: usize) -> PathBuf {
    home.join(format!("sink-{at}"))
}

fn open(home: &Path, required: usize) -> Sinks {
    let sink = |at| Arc::new(DirectorySink::new(&path(home, at))) as Arc<dyn CheckpointSink>;
    Sinks::new((0..2).map(sink).collect(), required)
}

/// What can happen to a vault's sinks.
#[derive(Clone, Debug)]
enum Act {
    /// A run that succeeds.
    Run(u32, u32),
    /// A run that ends after it has written to so many sinks.
    Crash(u32, usize),
    /// The process starts again and knows nothing of what it wrote.
    Restart,
    /// The present root's garbage is collected.
    Collect,
    /// A writer that has slept takes an old root for the present one.
    CollectLate(prop::sample::Index),
    /// A writer that has slept writes what it meant to write long ago.
    SaveLate(prop::sample::Index),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_u32..5000, 0_u32..200).prop_map(|(first, length)| Act::Run(first, first + length)),
        2 => (0_u32..5000, 0_usize..3).prop_map(|(leaf, sinks)| Act::Crash(leaf, sinks)),
        1 => Just(Act::Restart),
        3 => Just(Act::Collect),
        1 => any::<prop::sample::Index>().prop_map(Act::CollectLate),
        1 => any::<prop::sample::Index>().prop_map(Act::SaveLate),
    ]
}

async fn happen(history: &mut History, act: Act) {
    match act {
        Act::Run(first, last) => history.advance(&[(first, last)]).await,
        Act::Crash(leaf, sinks) => {
            let next = history.next(&[(leaf, leaf)]);
            for at in 0..sinks {
                let alone = Sinks::new(vec![Arc::new(history.sink(at))], 1);
                history.save(next, &alone).await.unwrap();
            }
        }
        Act::Restart => history.sinks = open(history.home.path(), 2),
        Act::Collect => history.sinks.collect_garbage(&history.present().root.id).await,
        Act::CollectLate(index) => {
            // Whoever believes a root to be the present one believes so because it was.
            let was = |attempt: &&Attempt| {
                let next = history.attempts.iter().filter_map(|next| next.base.as_ref());
                next.map(|base| base.id).any(|base| base == attempt.root.id)
            };
            let roots: Vec<_> = history.attempts.iter().filter(was).map(|attempt| attempt.root.id).collect();
            if !roots.is_empty() {
                open(history.home.path(), 2).collect_garbage(index.get(&roots)).await;
            }
        }
        Act::SaveLate(index) => {
            let _refused_or_not =
                history.save(index.index(history.attempts.len()), &open(history.home.path(), 2)).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn opening_gives_the_state_of_the_naive_model(acts in prop::collection::vec(act(), 1..40), seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut history = History::new(seed).await;
            for act in acts {
                happen(&mut history, act).await;
                history.check(0).await;
                history.check(1).await;
            }
        });
    }
}

#[tokio::test]
async fn a_chain_is_a_whole_one_and_what_changed_since() {
    let mut history = History::new(1).await;
    for leaf in 0..60 {
        history.advance(&[(leaf * 5000, leaf * 5000)]).await;
        history.sinks.collect_garbage(&history.present().root.id).await;
    }
    let names = history.names(0).await;
    let whole = names.iter().filter(|name| name.whole).count();
    assert_eq!(whole, 2, "the present chain and the one before it: {names:#?}");
    assert!(names.len() > 10, "{names:#?}");
    let size = |name: &Name| fs::metadata(history.file(0, name)).unwrap().len();
    let last = names.last().unwrap();
    assert!(!last.whole && size(last) < 10_000, "{} bytes", size(last));
    let largest = names.iter().filter(|name| name.whole).map(size).max().unwrap();
    assert!(largest > 10 * size(last), "{largest} bytes");
    history.check(0).await;
}

#[tokio::test]
async fn what_was_altered_cut_or_lost_is_named_and_another_sink_is_taken() {
    let mut history = History::new(2).await;
    for leaf in 0..20 {
        history.advance(&[(leaf * 5000, leaf * 5000)]).await;
    }
    history.sinks.collect_garbage(&history.present().root.id).await;
    let names = history.names(0).await;
    let start = names.iter().rposition(|name| name.whole).unwrap();
    assert!(names.len() - start >= 3, "{names:#?}");
    for (at, name) in names.iter().enumerate().skip(start) {
        let (file, bytes) = (history.file(0, name), fs::read(history.file(0, name)).unwrap());
        let mut altered = bytes.clone();
        altered[bytes.len() / 2] ^= 1;
        for damage in [Some(&altered[..]), Some(&bytes[..bytes.len() / 2]), Some(b""), None] {
            match damage {
                Some(bytes) => fs::write(&file, bytes).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let root = &history.present().root;
            match history.rebuild(0).await {
                // A lost one is named by its root in that which needs it; of the newest nobody knows.
                Ok(state) => assert!(state.is_none() && damage.is_none() && at + 1 == names.len()),
                Err(error) => {
                    let lost = super::super::checkpoint::hex(&name.root_id);
                    let expected = if damage.is_some() { name.to_string() } else { lost };
                    assert!(error.message.contains(&expected), "{error}");
                }
            }
            assert_eq!(history.sinks.rebuild(root).await, Some(all(&history.present().after.state)));
        }
        fs::write(&file, &bytes).unwrap();
        history.check(0).await;
    }
}

#[tokio::test]
async fn a_sink_with_a_broken_chain_gets_a_whole_checkpoint_and_nothing_is_changed_in_place() {
    let mut history = History::new(3).await;
    for leaf in 0..20 {
        history.advance(&[(leaf * 5000, leaf * 5000)]).await;
    }
    let before = history.names(0).await;
    let start = before.iter().rposition(|name| name.whole).unwrap();
    assert!(start + 1 < before.len(), "it ends with what changed since");
    let bytes = fs::read(history.file(0, &before[start])).unwrap();
    fs::write(history.file(0, &before[start]), &bytes[1..]).unwrap();
    history.sinks = open(history.home.path(), 2);
    history.advance(&[(7, 7)]).await;
    history.check(0).await;
    history.check(1).await;
    assert!(history.names(0).await.last().unwrap().whole && !history.names(1).await.last().unwrap().whole);
    assert_eq!(fs::read(history.file(0, &before[start])).unwrap(), &bytes[1..], "what is damaged stays as it is");
    // A file that goes while the process runs is missed without being read.
    let names = history.names(1).await;
    fs::remove_file(history.file(1, names.iter().rfind(|name| name.whole).unwrap())).unwrap();
    history.advance(&[(8, 8)]).await;
    history.check(1).await;
}

#[tokio::test]
async fn a_sink_that_fails_holds_nothing_up_when_enough_others_are_left_and_catches_up() {
    let mut history = History::new(4).await;
    history.advance(&[(1, 1)]).await;
    let (place, away) = (path(history.home.path(), 1), history.home.path().join("away"));
    fs::rename(&place, &away).unwrap();
    fs::write(&place, "a file where a directory should be").unwrap();
    // Both are required: nothing is saved.
    let next = history.next(&[(2, 2)]);
    let error = history.save(next, &history.sinks).await.unwrap_err();
    assert!(error.reason == Reason::KeyCustodianUnavailable && error.message.contains("sink-1"), "{error}");
    // One is enough: it is, and the other is told to lag.
    history.sinks = open(history.home.path(), 1);
    history.advance(&[(3, 3)]).await;
    let present = history.present().root.id;
    let standing = history.sinks.standing(&present).await;
    assert!(standing[0].trouble.is_none() && standing[1].trouble.as_ref().unwrap().contains("sink-1"), "{standing:?}");
    assert!(!history.sinks.may_lag(), "what failed just now is left alone");
    assert_eq!(history.sinks.newest().await.unwrap().unwrap().0, 3);
    fs::remove_file(&place).unwrap();
    fs::rename(&away, &place).unwrap();
    history.sinks = open(history.home.path(), 1);
    let standing = history.sinks.standing(&present).await;
    assert!(standing[1].trouble.as_ref().unwrap().contains("lags"), "{standing:?}");
    assert!(history.sinks.may_lag());
    let Attempt { root, after, .. } = history.present();
    let step = Step { tree: &TREE, base: None, root, taken_at: 8 };
    history.sinks.catch_up(&step, async { Ok(after.state.clone()) }).await.unwrap();
    history.check(1).await;
    assert!(history.sinks.standing(&present).await.iter().all(|sink| sink.trouble.is_none()));
    assert!(!history.sinks.may_lag());
    history.advance(&[(4, 4)]).await;
    history.check(0).await;
    history.check(1).await;
}

/// A sink that takes every call and never answers.
struct Silent;

#[async_trait]
impl CheckpointSink for Silent {
    async fn make(&self) -> Result<()> {
        std::future::pending().await
    }

    async fn put(&self, _: &str, _: &[u8]) -> Result<()> {
        std::future::pending().await
    }

    async fn get(&self, _: &str) -> Result<Option<Vec<u8>>> {
        std::future::pending().await
    }

    async fn is_there(&self) -> Result<()> {
        std::future::pending().await
    }

    async fn list(&self, _: &str) -> Result<Vec<String>> {
        std::future::pending().await
    }

    async fn remove(&self, _: &str) -> Result<()> {
        std::future::pending().await
    }

    fn describe(&self) -> String {
        "the silent one".to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_never_answers_is_not_waited_for_for_ever() {
    let mut history = History::new(5).await;
    let both = |required| Sinks::new(vec![Arc::new(history.sink(0)), Arc::new(Silent)], required);
    let (two, one) = (both(2), both(1));
    let next = history.next(&[(1, 1)]);
    let error = history.save(next, &two).await.unwrap_err();
    assert!(error.message.contains("the silent one does not answer"), "{error}");
    history.save(next, &one).await.unwrap();
    history.present = next;
    history.check(0).await;
    // The next time it is not even asked.
    let begun = tokio::time::Instant::now();
    let next = history.next(&[(2, 2)]);
    history.save(next, &one).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 0);
}
