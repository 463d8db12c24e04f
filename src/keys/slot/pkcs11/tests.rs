//! The protocol with writers who run into each other at every step. The cabinet is in memory; what a token makes of it is
//! for the stories of the slot's contract.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use super::protocol::{Parts, advance, create, load, prepare, settle};
use super::*;
use crate::crypto::SystemRandom;

const TREE: [u8; 16] = [7; 16];

/// A cabinet in which every step is one poll.
#[derive(Default)]
struct Memory(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    found: Found,
    roots: BTreeMap<Name, Secret<32>>,
    destroyed: BTreeSet<Name>,
    /// What it forgets when it is asked anew: it never wrote it.
    unwritten: BTreeMap<Name, Parts>,
    /// What does not open.
    spoiled: BTreeSet<Name>,
}

/// Ready at the second poll.
struct Step(bool);

impl Future for Step {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[async_trait]
impl Cabinet for Memory {
    async fn search(&self) -> Result<Found> {
        Step(false).await;
        Ok(self.0.lock().unwrap().found.clone())
    }

    async fn make_key(&self, name: &Name) -> Result<()> {
        Step(false).await;
        let mut inside = self.0.lock().unwrap();
        assert!(!inside.destroyed.contains(name), "a key came back");
        inside.found.entry(*name).or_default().key = true;
        Ok(())
    }

    async fn seal(&self, name: &Name, root: &Root) -> Result<()> {
        Step(false).await;
        let mut inside = self.0.lock().unwrap();
        if !inside.found.get(name).is_some_and(|parts| parts.key) {
            return Err(refused("no key"));
        }
        inside.found.entry(*name).or_default().sealed = true;
        inside.roots.insert(*name, root.copy().key);
        Ok(())
    }

    async fn arm(&self, name: &Name) -> Result<()> {
        Step(false).await;
        self.0.lock().unwrap().found.entry(*name).or_default().armed = true;
        Ok(())
    }

    async fn destroy(&self, name: &Name) -> Result<()> {
        Step(false).await;
        {
            let mut inside = self.0.lock().unwrap();
            inside.destroyed.insert(*name);
            inside.roots.remove(name);
            inside.found.entry(*name).or_default().key = false;
        }
        Step(false).await;
        self.0.lock().unwrap().found.remove(name);
        Ok(())
    }

    async fn open(&self, name: &Name) -> Result<Root> {
        Step(false).await;
        let inside = self.0.lock().unwrap();
        if inside.spoiled.contains(name) {
            return Err(refused("it does not open"));
        }
        let key = inside.roots.get(name).ok_or_else(|| refused("gone"))?;
        Ok(Root { id: name.id, epoch: name.epoch, key: Secret::from_slice(key.expose()).unwrap() })
    }

    async fn refresh(&self) -> Result<()> {
        Step(false).await;
        let mut guard = self.0.lock().unwrap();
        let Inside { found, unwritten, .. } = &mut *guard;
        unwritten.retain(|name, lost| {
            let parts = found.entry(*name).or_default();
            let before = *parts;
            (parts.key, parts.sealed, parts.armed) =
                (parts.key && !lost.key, parts.sealed && !lost.sealed, parts.armed && !lost.armed);
            before == *parts
        });
        Ok(())
    }
}

impl Memory {
    /// What decides, as a search of this moment finds it: there must always be one.
    fn decides(&self) -> u64 {
        let found = self.0.lock().unwrap().found.clone();
        let counts = found.iter().filter(|(_, parts)| parts.armed && parts.key);
        let (name, parts) = counts.max_by_key(|(name, _)| name.epoch).expect("every root is lost");
        assert!(parts.sealed);
        name.epoch
    }

    fn keys_below(&self, epoch: u64) -> usize {
        self.0.lock().unwrap().found.iter().filter(|(name, parts)| parts.key && name.epoch < epoch).count()
    }
}

/// Runs something by itself, without anybody in between.
fn alone<T>(deed: impl Future<Output = T>) -> T {
    let mut deed = std::pin::pin!(deed);
    loop {
        if let Poll::Ready(done) = deed.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
}

fn root(epoch: u64) -> Root {
    let key = Secret::random(&SystemRandom::new());
    Root { id: derive::root_id(&key), epoch, key }
}

fn created() -> (Memory, [u8; 16]) {
    let (memory, genesis) = (Memory::default(), root(0));
    let id = genesis.id;
    alone(create(&memory, &Content::first(TREE, genesis))).unwrap();
    (memory, id)
}

type Deed<'a> = Pin<Box<dyn Future<Output = Result<u64>> + 'a>>;

/// Polls the deeds in the order of `schedule`, then each to its end, but for those that crash. Watches at each step that
/// what decides never goes back, and that whoever reports success has left no key below.
fn interleave(memory: &Memory, mut deeds: Vec<Deed<'_>>, schedule: &[usize], crash: &[usize]) -> Vec<Option<u64>> {
    let mut outcomes: Vec<Option<Option<u64>>> = vec![None; deeds.len()];
    let mut highest = memory.decides();
    let rest = (0..deeds.len()).filter(|at| !crash.contains(at)).flat_map(|at| std::iter::repeat_n(at, 64));
    for at in schedule.iter().copied().chain(rest) {
        if outcomes[at].is_some() {
            continue;
        }
        if let Poll::Ready(done) = deeds[at].as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            if let Ok(epoch) = &done {
                assert_eq!(memory.keys_below(*epoch), 0, "a former root is left, and success was reported");
            }
            outcomes[at] = Some(done.ok());
        }
        let decides = memory.decides();
        assert!(decides >= highest, "epoch {decides} decides after epoch {highest}");
        highest = decides;
    }
    outcomes.into_iter().map(Option::flatten).collect()
}

/// Every way to deal out the numbers of steps among two.
fn schedules(one: usize, other: usize) -> Vec<Vec<usize>> {
    match (one, other) {
        (0, n) => vec![vec![1; n]],
        (n, 0) => vec![vec![0; n]],
        _ => {
            let with =
                |first: usize, rest: Vec<Vec<usize>>| rest.into_iter().map(move |rest| [vec![first], rest].concat());
            with(0, schedules(one - 1, other)).chain(with(1, schedules(one, other - 1))).collect()
        }
    }
}

/// Whatever happened, somebody who comes later can go on, and afterwards nothing older is left.
fn assert_goes_on(memory: &Memory) {
    alone(settle(memory)).unwrap();
    let content = alone(load(memory)).unwrap().unwrap();
    assert_eq!(content.current.epoch, memory.decides());
    let next = root(content.next_epoch());
    alone(prepare(memory, &content.current.id, &next)).unwrap();
    alone(advance(memory, &content.current.id, &next.id)).unwrap();
    assert_eq!((memory.decides(), memory.keys_below(next.epoch)), (next.epoch, 0));
}

#[test]
fn it_prepares_advances_and_forgets() {
    let (memory, old) = created();
    let next = root(1);
    alone(prepare(&memory, &old, &next)).unwrap();
    alone(prepare(&memory, &old, &next)).unwrap();
    assert!(alone(prepare(&memory, &old, &root(1))).is_err());
    let content = alone(load(&memory)).unwrap().unwrap();
    assert_eq!((content.current.epoch, content.next_epoch()), (0, 2));
    alone(settle(&memory)).unwrap();
    assert_eq!(alone(load(&memory)).unwrap().unwrap().next.unwrap().id, next.id, "settling keeps what is prepared");
    for _ in 0..2 {
        alone(advance(&memory, &old, &next.id)).unwrap();
        assert_eq!((memory.decides(), memory.keys_below(1)), (1, 0));
    }
    assert!(alone(prepare(&memory, &old, &root(2))).is_err());
    assert!(alone(create(&memory, &Content::first(TREE, root(0)))).is_err());
    assert_goes_on(&memory);
}

/// Which object of a root a token loses.
const LOSSES: [Parts; 3] = [
    Parts { key: true, sealed: false, armed: false },
    Parts { key: false, sealed: true, armed: false },
    Parts { key: false, sealed: false, armed: true },
];

#[test]
fn a_root_that_the_token_did_not_keep_is_never_relied_on() {
    for lost in LOSSES {
        let (memory, old) = created();
        let next = root(1);
        alone(prepare(&memory, &old, &next)).unwrap();
        memory.0.lock().unwrap().unwritten.insert(Name::of(TREE, &next), lost);
        assert!(alone(advance(&memory, &old, &next.id)).is_err(), "{lost:?}");
        assert_eq!(alone(load(&memory)).unwrap().unwrap().current.id, old, "{lost:?}");
        assert_goes_on(&memory);

        let (memory, genesis) = (Memory::default(), root(0));
        memory.0.lock().unwrap().unwritten.insert(Name::of(TREE, &genesis), lost);
        assert!(alone(create(&memory, &Content::first(TREE, genesis))).is_err(), "{lost:?}");
        let again = root(0);
        alone(create(&memory, &Content::first(TREE, again.copy()))).unwrap();
        assert_eq!(alone(load(&memory)).unwrap().unwrap().current.id, again.id);
    }
}

#[test]
fn a_root_that_does_not_open_is_never_relied_on_and_its_epoch_is_taken() {
    let (memory, old) = created();
    let next = root(1);
    alone(prepare(&memory, &old, &next)).unwrap();
    memory.0.lock().unwrap().spoiled.insert(Name::of(TREE, &next));
    assert!(alone(advance(&memory, &old, &next.id)).is_err());
    let content = alone(load(&memory)).unwrap().unwrap();
    assert_eq!((content.current.id, content.next.is_none(), content.next_epoch()), (old, true, 2));
    // Below it there may be one that does open.
    let (memory, old) = created();
    let (good, bad) = (root(1), root(2));
    alone(prepare(&memory, &old, &good)).unwrap();
    alone(prepare(&memory, &old, &bad)).unwrap();
    memory.0.lock().unwrap().spoiled.insert(Name::of(TREE, &bad));
    let content = alone(load(&memory)).unwrap().unwrap();
    assert_eq!((content.next.as_ref().map(|next| next.id), content.next_epoch()), (Some(good.id), 3));
    assert_goes_on(&memory);

    let (memory, genesis) = (Memory::default(), root(0));
    memory.0.lock().unwrap().spoiled.insert(Name::of(TREE, &genesis));
    assert!(alone(create(&memory, &Content::first(TREE, genesis))).is_err());
}

#[test]
fn two_who_prepare_never_both_have_one_epoch() {
    for schedule in schedules(8, 8) {
        let (memory, old) = created();
        let writer = |next: Root| -> Deed<'_> {
            let memory = &memory;
            Box::pin(async move { prepare(memory, &old, &next).await.map(|()| 0) })
        };
        let outcomes = interleave(&memory, vec![writer(root(1)), writer(root(1))], &schedule, &[]);
        assert!(outcomes.iter().flatten().count() < 2, "{schedule:?}");
        assert_goes_on(&memory);
    }
}

#[test]
fn two_who_advance_leave_one_root_however_they_run_into_each_other() {
    for schedule in schedules(9, 9) {
        for crash in [None, Some(0), Some(1)] {
            let (memory, old) = created();
            let (one, other) = (root(1), root(2));
            alone(prepare(&memory, &old, &one)).unwrap();
            alone(prepare(&memory, &old, &other)).unwrap();
            let writer = |next: Root| -> Deed<'_> {
                let memory = &memory;
                Box::pin(async move { advance(memory, &old, &next.id).await.map(|()| next.epoch) })
            };
            // One who crashes stops somewhere on the way.
            let stop = schedule.len() / 2;
            let schedule = if crash.is_some() { &schedule[..stop] } else { &schedule[..] };
            let crash: Vec<usize> = crash.into_iter().collect();
            let deeds = vec![writer(one), writer(other)];
            let outcomes = interleave(&memory, deeds, schedule, &crash);
            assert!(!crash.is_empty() || outcomes.iter().any(Option::is_some), "nobody came through: {schedule:?}");
            assert_goes_on(&memory);
        }
    }
}

#[test]
fn three_writers_at_random_lose_nothing_and_go_forward() {
    for seed in 0..2000 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut pick = |below: usize| usize::try_from(random.next_u32()).unwrap() % below;
        let (memory, _) = created();
        let writer = || -> Deed<'_> {
            let memory = &memory;
            Box::pin(async move {
                let mut last = Err(refused("not tried"));
                for _ in 0..3 {
                    let content = load(memory).await?.unwrap();
                    let next = root(content.next_epoch());
                    last = prepare(memory, &content.current.id, &next).await;
                    if last.is_ok() {
                        last = advance(memory, &content.current.id, &next.id).await;
                    }
                    if last.is_ok() {
                        return Ok(next.epoch);
                    }
                }
                last.map(|()| 0)
            })
        };
        let schedule: Vec<usize> = (0..pick(150)).map(|_| pick(3)).collect();
        let crash: Vec<usize> = (0..3).filter(|_| pick(3) == 0).collect();
        interleave(&memory, vec![writer(), writer(), writer()], &schedule, &crash);
        assert_goes_on(&memory);
    }
}
