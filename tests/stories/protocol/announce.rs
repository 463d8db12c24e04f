//! Two leaders on one database: what one has announced to be punctured, the other must take along.
//!
//! Subject X is listed in a bucket of the search index, subject Y is not. A run that erases X writes the bucket anew under
//! a fresh leaf, in the transaction that announces its leaves; the old copy of the bucket opens as long as the old leaf
//! lives. Two numbers keep the leaders apart: the epoch, which is never used twice, and the fence, a row that moves by
//! compare-and-set in that same transaction.

use super::{Broken, Mistake, Protocol, Step, fail, holds};

const X: u8 = 1;
const Y: u8 = 2;
/// The leaves of the bucket, one after the other, are the bits from here on.
const BUCKET: u8 = 2;
const LEAVES: usize = 6;
const MOST: usize = 5;
const NONE: u8 = u8::MAX;

struct Announce {
    /// The transaction moves the fence, and fails when another moved it since the run was put together.
    checks_fence: bool,
    /// An epoch is past every root that the slot holds, prepared ones too. Otherwise it follows the present one.
    counts_prepared: bool,
    /// A run takes along what an interrupted one announced.
    takes_along: bool,
}

const AS_BUILT: Announce = Announce { checks_fence: true, counts_prepared: true, takes_along: true };

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    /// Of each root: which leaves its key state lacks, and its epoch.
    lacks: [u8; MOST],
    epochs: [u8; MOST],
    begun: u8,
    current: u8,
    next: u8,
    /// Which root's key state the sinks hold for each epoch.
    sinks: [u8; MOST],
    fence: u8,
    /// For each leaf the epoch that was to lack it.
    announced: [u8; LEAVES],
    /// Which leaf the bucket is under, and those under which it ever listed X.
    bucket: u8,
    listed: u8,
    pending: u8,
    acknowledged: u8,
    leaders: [Leader; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Task {
    Idle,
    Prepare,
    Save,
    Write,
    Advance,
    Acknowledge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Leader {
    task: Task,
    base: u8,
    new: u8,
    subjects: u8,
    leaves: u8,
    /// The bucket's leaf, when it is to be written anew.
    bucket: u8,
    fence: u8,
}

const IDLE: Leader = Leader { task: Task::Idle, base: 0, new: 0, subjects: 0, leaves: 0, bucket: NONE, fence: 0 };

impl State {
    fn epoch(&self, root: u8) -> u8 {
        if root == NONE { 0 } else { self.epochs[usize::from(root)] }
    }

    fn given_up(mut self, at: usize) -> Self {
        self.leaders[at] = IDLE;
        self
    }

    fn with(mut self, at: usize, task: Task) -> Self {
        self.leaders[at].task = task;
        self
    }
}

impl Announce {
    /// Puts a run together from the slot and the database.
    fn gather(&self, state: &State, at: usize, steps: &mut Vec<(Step, State)>) {
        let subjects = state.pending & !state.acknowledged;
        let base = state.current;
        let lacks = state.lacks[usize::from(base)];
        let mut push = |what, next| steps.push((Step { who: "a leader", what, which: subjects }, next));
        if subjects == 0 {
            return;
        }
        if subjects & !lacks == 0 {
            let mut next = *state;
            next.leaders[at] = Leader { task: Task::Acknowledge, base, new: base, subjects, ..IDLE };
            push("finds already erased subjects", next);
            return;
        }
        if usize::from(state.begun) == MOST {
            return;
        }
        let mut leaves = subjects;
        if self.takes_along {
            let later = |leaf: &usize| state.announced[*leaf] > state.epoch(base);
            leaves |= (0..LEAVES).filter(later).fold(0, |leaves, leaf| leaves | 1 << leaf);
        }
        // Whoever's value still opens is looked up in the index.
        let bucket = if subjects & X & !lacks != 0 { state.bucket } else { NONE };
        if bucket != NONE {
            leaves |= 1 << bucket;
        }
        let new = state.begun;
        let mut next = *state;
        next.lacks[usize::from(new)] = lacks | leaves;
        next.begun += 1;
        next.leaders[at] = Leader { task: Task::Prepare, base, new, subjects, leaves, bucket, fence: state.fence };
        push("puts a run together for subjects", next);
    }

    fn go_on(&self, state: &State, at: usize, steps: &mut Vec<(Step, State)>) {
        let leader = state.leaders[at];
        let (new, epoch) = (leader.new, state.epoch(leader.new));
        let mut push = |what, which, next| steps.push((Step { who: "a leader", what, which }, next));
        push("crashes, with root", new, state.given_up(at));
        match leader.task {
            Task::Idle => {}
            Task::Prepare if state.current != leader.base => {
                push("is refused to prepare root", new, state.given_up(at));
            }
            Task::Prepare => {
                let prepared = if self.counts_prepared { state.epoch(state.next) } else { 0 };
                let mut next = state.with(at, Task::Save);
                next.epochs[usize::from(new)] = state.epoch(leader.base).max(prepared) + 1;
                next.next = new;
                push("prepares root", new, next);
            }
            Task::Save => {
                let mut next = state.with(at, Task::Write);
                next.sinks[usize::from(epoch)] = new;
                push("writes a checkpoint of root", new, next);
            }
            Task::Write => {
                let moved = self.checks_fence && state.fence != leader.fence;
                if moved || (leader.bucket != NONE && leader.bucket != state.bucket) {
                    push("finds the database moved on, with root", new, state.given_up(at));
                } else {
                    push("commits and announces the leaves of root", new, written(state, at));
                }
            }
            Task::Advance if (state.current, state.next) == (leader.base, new) => {
                push("advances to root", new, State { current: new, next: NONE, ..state.with(at, Task::Acknowledge) });
            }
            Task::Advance => push("is refused to advance to root", new, state.given_up(at)),
            Task::Acknowledge => {
                let next = State { acknowledged: state.acknowledged | leader.subjects, ..state.given_up(at) };
                push("acknowledges subjects", leader.subjects, next);
            }
        }
    }
}

/// Step 4.
fn written(state: &State, at: usize) -> State {
    let leader = state.leaders[at];
    let mut next = state.with(at, Task::Advance);
    next.fence += 1;
    for leaf in (0..LEAVES).filter(|leaf| leader.leaves & (1 << leaf) != 0) {
        next.announced[leaf] = state.epoch(leader.new);
    }
    if leader.bucket != NONE {
        next.bucket += 1;
    }
    next
}

impl Protocol for Announce {
    type State = State;

    fn start(&self) -> State {
        let mut sinks = [NONE; MOST];
        sinks[0] = 0;
        State {
            lacks: [0; MOST],
            epochs: [0; MOST],
            begun: 1,
            current: 0,
            next: NONE,
            sinks,
            fence: 0,
            announced: [0; LEAVES],
            bucket: BUCKET,
            listed: 1 << BUCKET,
            pending: 0,
            acknowledged: 0,
            leaders: [IDLE; 2],
        }
    }

    fn steps(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        for subject in [X, Y].into_iter().filter(|subject| state.pending & subject == 0) {
            let step = Step { who: "somebody", what: "asks to erase subject", which: subject };
            steps.push((step, State { pending: state.pending | subject, ..*state }));
        }
        for at in 0..2 {
            if state.leaders[at].task == Task::Idle {
                self.gather(state, at, steps);
            } else {
                self.go_on(state, at, steps);
            }
        }
        for (_, next) in steps {
            next.leaders.sort_unstable();
        }
    }

    fn done(&self, state: &State) -> bool {
        state.acknowledged == X | Y
    }

    fn broken(&self, state: &State) -> Option<Broken> {
        let dead = state.acknowledged | if state.acknowledged & X == 0 { 0 } else { state.listed };
        let opens = |root: u8| root != NONE && dead & !state.lacks[usize::from(root)] != 0;
        if opens(state.current) || opens(state.next) {
            return Some(Broken::Recoverable);
        }
        let saved = state.sinks[usize::from(state.epoch(state.current))];
        (saved != state.current).then_some(Broken::TotalLoss)
    }
}

#[test]
fn two_leaders_take_along_what_the_other_announced() {
    holds("epochs that are never used twice, and a fence in the database", &AS_BUILT);
}

#[test]
fn two_leaders_with_a_mistake_break_a_promise() {
    fail(&[
        Mistake {
            name: "the fence moved since the run was put together, and nobody looks",
            protocol: Announce { checks_fence: false, ..AS_BUILT },
            broken: Broken::Recoverable,
            steps: 18,
        },
        Mistake {
            name: "two roots of one epoch",
            protocol: Announce { counts_prepared: false, ..AS_BUILT },
            broken: Broken::TotalLoss,
            steps: 9,
        },
        Mistake {
            name: "what an interrupted run announced is not taken along",
            protocol: Announce { takes_along: false, ..AS_BUILT },
            broken: Broken::Recoverable,
            steps: 11,
        },
    ]);
}
