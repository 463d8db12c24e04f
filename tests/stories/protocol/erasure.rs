//! One erasure after the other, by two leaders, over a database that fails over once to a standby that lags.
//!
//! A key state lacks the leaves of whoever was erased in it; a root in the slot opens one key state. The adversary holds
//! every key state ever written. A leader may crash anywhere, and one that still talks to the lost database goes on.

use super::{Broken, Mistake, Protocol, Step, fail, holds};

/// Subjects, as bits.
const SUBJECTS: [u8; 2] = [1, 2];
/// Key states there may be, with the first one, which lacks nobody.
const MOST: usize = 5;
/// No root.
const NONE: u8 = u8::MAX;

/// What a run does, one after the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Acknowledge,
    Advance,
    Checkpoint,
    /// Destroys the root that it began from, on a slot that keeps roots side by side.
    DestroyOld,
    Prepare,
    Write,
}

use Deed::{Acknowledge, Advance, Checkpoint, DestroyOld, Prepare, Write};

/// How the protocol is built.
struct Erasure {
    order: &'static [Deed],
    leaders: usize,
    /// The slot compares before it sets. Otherwise roots are added to it and removed.
    compares: bool,
    /// The database keeps the pages of earlier key states beside the new ones.
    copies_on_write: bool,
    /// A run begins from the root in the slot, not from what the database says.
    asks_slot: bool,
    /// The standby may lack what was committed last.
    standby_lags: bool,
}

const AS_BUILT: Erasure = Erasure {
    order: &[Prepare, Checkpoint, Write, Advance, Acknowledge],
    leaders: 2,
    compares: true,
    copies_on_write: true,
    asks_slot: true,
    standby_lags: true,
};

/// Roots added and removed, and the database says which one counts.
const DATABASE_DECIDES: Erasure = Erasure { compares: false, copies_on_write: false, asks_slot: false, ..AS_BUILT };

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    /// Whom each key state lacks.
    lacks: [u8; MOST],
    /// How many key states were begun.
    begun: u8,
    /// The roots in the slot: the present one, the next one, and on a slot that does not compare, others.
    current: u8,
    next: u8,
    beside: u8,
    /// Key states that were written anywhere, that the sinks hold, and that the rows of each database give.
    written: u8,
    sinks: u8,
    databases: [u8; 2],
    failed_over: bool,
    acknowledged: u8,
    leaders: [Leader; 2],
}

/// A leader: how many deeds of its run are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Leader {
    running: bool,
    done: u8,
    base: u8,
    new: u8,
    subject: u8,
    /// Which database it talks to.
    database: u8,
}

impl Leader {
    const fn idle(database: u8) -> Self {
        Self { running: false, done: 0, base: 0, new: 0, subject: 0, database }
    }
}

const fn bit(number: u8) -> u8 {
    if number == NONE { 0 } else { 1 << number }
}

impl State {
    fn roots(&self) -> u8 {
        bit(self.current) | bit(self.next) | self.beside
    }

    fn newest_database(&self) -> u8 {
        u8::from(self.failed_over)
    }

    fn with(mut self, at: usize, leader: Leader) -> Self {
        self.leaders[at] = leader;
        self
    }

    /// The leader gives up; it will talk to the database that serves then.
    fn given_up(self, at: usize) -> Self {
        self.with(at, Leader::idle(self.newest_database()))
    }
}

impl Erasure {
    fn begin(&self, state: &State, at: usize, steps: &mut Vec<(Step, State)>) {
        let leader = state.leaders[at];
        let rows = state.databases[usize::from(leader.database)];
        let base = if self.asks_slot { state.current } else { present(rows) };
        if usize::from(state.begun) == MOST || (rows | state.sinks) & state.roots() & bit(base) == 0 {
            return;
        }
        for subject in SUBJECTS {
            let step = |what, which| Step { who: "a leader", what, which };
            if state.lacks[usize::from(base)] & subject == 0 {
                let new = state.begun;
                let mut next = state.with(at, Leader { running: true, done: 0, base, new, subject, ..leader });
                next.lacks[usize::from(new)] = state.lacks[usize::from(base)] | subject;
                next.begun += 1;
                steps.push((step("begins to erase subject", subject), next));
            } else if state.acknowledged & subject == 0 {
                let next = State { acknowledged: state.acknowledged | subject, ..*state };
                steps.push((step("finds already erased, and acknowledges, subject", subject), next));
            }
        }
    }

    fn go_on(&self, state: &State, at: usize, steps: &mut Vec<(Step, State)>) {
        let leader = state.leaders[at];
        let Leader { base, new, subject, database, .. } = leader;
        let mut push = |what, which, next| steps.push((Step { who: "a leader", what, which }, next));
        push("crashes while it makes state", new, state.given_up(at));
        let Some(deed) = self.order.get(usize::from(leader.done)) else {
            push("is done with state", new, state.given_up(at));
            return;
        };
        let mut next = state.with(at, Leader { done: leader.done + 1, ..leader });
        match deed {
            Prepare if self.compares && state.current != base => {
                push("is refused to prepare root", new, state.given_up(at));
            }
            Prepare => {
                if self.compares {
                    next.next = new;
                } else {
                    next.beside |= bit(new);
                }
                push("prepares root", new, next);
            }
            Checkpoint => {
                next.sinks |= bit(new);
                next.written |= bit(new);
                push("writes to the sinks state", new, next);
            }
            Write => {
                let rows = &mut next.databases[usize::from(database)];
                if !self.copies_on_write && present(*rows) != base {
                    push("finds that the database moved on from state", base, state.given_up(at));
                    return;
                }
                *rows = if self.copies_on_write { *rows | bit(new) } else { bit(new) };
                next.written |= bit(new);
                push("commits to the database state", new, next);
            }
            Advance if self.compares && (state.current, state.next) != (base, new) => {
                push("is refused to advance to root", new, state.given_up(at));
            }
            Advance => {
                (next.current, next.next, next.beside) = (new, NONE, 0);
                push("advances the slot to root", new, next);
            }
            DestroyOld => {
                if state.current == base {
                    (next.current, next.beside) = (new, next.beside & !bit(new));
                }
                next.beside &= !bit(base);
                push("destroys root", base, next);
            }
            Acknowledge => {
                next.acknowledged |= subject;
                push("acknowledges the erasure of subject", subject, next);
            }
        }
    }

    /// The standby takes over, with what it has by then.
    fn fail_over(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        let rows = state.databases[0];
        let take_over = |rows| {
            (
                Step { who: "the standby", what: "takes over, with the rows of", which: rows },
                State { databases: [state.databases[0], rows], failed_over: true, ..*state },
            )
        };
        if !self.standby_lags {
            steps.push(take_over(rows));
        } else if self.copies_on_write {
            // Any suffix may be missing: all rows, or those up to one of them.
            let lower = (0..MOST).map(|newest| rows & ((1 << newest) - 1));
            steps.extend(lower.filter(|some| *some != rows).chain([rows]).map(take_over));
        } else {
            let earlier = (0..=present(rows)).map(bit).filter(|one| one & state.written != 0);
            steps.extend(earlier.map(take_over));
        }
    }
}

/// The newest key state in some rows; without copy on write it is the only one.
fn present(rows: u8) -> u8 {
    if rows == 0 { NONE } else { u8::try_from(rows.ilog2()).unwrap() }
}

impl Protocol for Erasure {
    type State = State;

    fn start(&self) -> State {
        State {
            lacks: [0; MOST],
            begun: 1,
            current: 0,
            next: NONE,
            beside: 0,
            written: 1,
            sinks: 1,
            databases: [1, 0],
            failed_over: false,
            acknowledged: 0,
            leaders: [Leader::idle(0); 2],
        }
    }

    fn steps(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        for at in 0..self.leaders {
            if state.leaders[at].running {
                self.go_on(state, at, steps);
            } else {
                self.begin(state, at, steps);
            }
        }
        if !state.failed_over {
            self.fail_over(state, steps);
        }
        // Leaders differ by nothing but their names.
        for (_, next) in steps {
            next.leaders[..self.leaders].sort_unstable();
        }
    }

    fn done(&self, state: &State) -> bool {
        state.acknowledged == SUBJECTS[0] | SUBJECTS[1]
    }

    fn broken(&self, state: &State) -> Option<Broken> {
        let roots = state.roots();
        let open = (0..MOST).filter(|key| state.written & roots & (1 << key) != 0);
        if open.clone().any(|key| state.acknowledged & !state.lacks[key] != 0) {
            return Some(Broken::Recoverable);
        }
        let rows = state.databases[usize::from(state.newest_database())];
        ((rows | state.sinks) & roots == 0).then_some(Broken::TotalLoss)
    }
}

#[test]
fn an_erasure_in_the_right_order_holds() {
    holds("prepare, checkpoint, write, advance, acknowledge", &AS_BUILT);
}

#[test]
fn an_erasure_in_another_order_breaks_a_promise() {
    let ordered = |order| Erasure { order, ..AS_BUILT };
    fail(&[
        Mistake {
            name: "acknowledged before the slot advances",
            protocol: ordered(&[Prepare, Checkpoint, Write, Acknowledge, Advance]),
            broken: Broken::Recoverable,
            steps: 5,
        },
        Mistake {
            name: "advanced before the next state is anywhere",
            protocol: ordered(&[Prepare, Advance, Checkpoint, Write, Acknowledge]),
            broken: Broken::TotalLoss,
            steps: 3,
        },
    ]);
}

#[test]
fn an_erasure_without_sinks_loses_keys() {
    let unsaved = |standby_lags| Erasure { order: &[Prepare, Write, Advance, Acknowledge], standby_lags, ..AS_BUILT };
    fail(&[
        Mistake {
            name: "no sink, and a standby that lags",
            protocol: unsaved(true),
            broken: Broken::TotalLoss,
            steps: 5,
        },
        // The leader goes on with the database that was lost.
        Mistake {
            name: "no sink, and a standby that does not lag",
            protocol: unsaved(false),
            broken: Broken::TotalLoss,
            steps: 5,
        },
    ]);
}

#[test]
fn a_database_that_decides_leaves_old_roots_behind() {
    let deciding = |order| Erasure { order, ..DATABASE_DECIDES };
    fail(&[
        Mistake {
            name: "the old root is destroyed afterwards",
            protocol: deciding(&[Prepare, Checkpoint, Write, DestroyOld, Acknowledge]),
            broken: Broken::Recoverable,
            steps: 5,
        },
        Mistake {
            name: "every root but the own is destroyed",
            protocol: deciding(&[Prepare, Checkpoint, Write, Advance, Acknowledge]),
            broken: Broken::Recoverable,
            steps: 5,
        },
        Mistake {
            name: "a single leader that crashes",
            protocol: Erasure {
                order: &[Prepare, Write, DestroyOld, Acknowledge],
                leaders: 1,
                standby_lags: false,
                ..DATABASE_DECIDES
            },
            broken: Broken::Recoverable,
            steps: 5,
        },
    ]);
}
