//! A slot of two copies, written one after the other.
//!
//! A copy may be away for a while, as a disk that is not mounted, and comes back as it was; one may be lost for good,
//! and is then taken out of the configuration. A writer may crash between two copies. Writers exclude each other for the
//! time of one operation; two leaders take turns in any other way. Key states that nobody needs any more are deleted.
//! Once, somebody may put a copy in its place that was made in the beginning. Whoever kept it can read what it opens, and
//! that is the limit of the promise; but the vault must not begin from it.

use super::{Broken, Mistake, Protocol, Step, fail, holds};

/// Subjects, as bits.
const SUBJECTS: [u8; 2] = [1, 2];
const MOST: usize = 3;
const NONE: u8 = u8::MAX;

struct Mirrors {
    /// An erasure is acknowledged when every copy has advanced, not when the first one has.
    waits_for_all: bool,
    /// The copy of the highest epoch decides, not any that can be read.
    highest_decides: bool,
    /// Nothing is written while a copy is away.
    misses_none: bool,
    /// Whoever finds an erasure done brings every copy up to date before they say so.
    settles: bool,
    /// And looks again afterwards.
    looks_again: bool,
    /// Key states are deleted when every copy has advanced, not when the first one has.
    deletes_late: bool,
    /// Whether somebody brings back an old copy.
    brings_back: bool,
}

const AS_BUILT: Mirrors = Mirrors {
    waits_for_all: true,
    highest_decides: true,
    misses_none: true,
    settles: true,
    looks_again: true,
    deletes_late: true,
    brings_back: true,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Away,
    Here,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Copy {
    place: Place,
    current: u8,
    next: u8,
    /// It was made in the beginning and put in its place by hand.
    old: bool,
}

/// What a leader is about to do. The number is the copy to be written next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Task {
    Idle,
    Prepare(u8),
    Save,
    Advance(u8),
    Settle(u8),
    LookAgain,
    Acknowledge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Leader {
    task: Task,
    base: u8,
    new: u8,
    subject: u8,
}

const IDLE: Leader = Leader { task: Task::Idle, base: 0, new: 0, subject: 0 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    copies: [Copy; 2],
    lacks: [u8; MOST],
    begun: u8,
    /// Key states that were written anywhere, and that the vault still has.
    written: u8,
    kept: u8,
    acknowledged: u8,
    brought_back: bool,
    leaders: [Leader; 2],
}

impl State {
    fn copies(&self, places: &'static [Place]) -> impl Iterator<Item = Copy> {
        self.copies.into_iter().filter(|copy| places.contains(&copy.place))
    }

    /// Every root that exists.
    fn roots(&self) -> u8 {
        let taken = self.copies(&[Place::Away, Place::Here]).filter(|copy| !copy.old);
        taken.fold(0, |roots, copy| roots | bit(copy.current) | bit(copy.next))
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

const fn bit(number: u8) -> u8 {
    if number == NONE { 0 } else { 1 << number }
}

impl Mirrors {
    /// The copies that may be taken for the slot's content.
    fn deciding(&self, state: &State) -> Vec<Copy> {
        let mut here: Vec<_> = state.copies(&[Place::Here]).collect();
        if self.highest_decides {
            here.sort_by_key(|copy| copy.current);
            return here.pop().into_iter().collect();
        }
        here
    }

    fn begin(&self, state: &State, at: usize, steps: &mut Vec<(Step, State)>) {
        for decided in self.deciding(state) {
            for subject in SUBJECTS.into_iter().filter(|subject| state.acknowledged & subject == 0) {
                let base = decided.current;
                let mut push = |what, next| steps.push((Step { who: "a leader", what, which: subject }, next));
                let mut next = *state;
                if state.lacks[usize::from(base)] & subject != 0 {
                    let task = if self.settles { Task::Settle(0) } else { Task::Acknowledge };
                    next.leaders[at] = Leader { task, base, new: base, subject };
                    push("finds already erased subject", next);
                } else if usize::from(state.begun) < MOST {
                    next.leaders[at] = Leader { task: Task::Prepare(0), base, new: state.begun, subject };
                    next.lacks[usize::from(state.begun)] = state.lacks[usize::from(base)] | subject;
                    next.begun += 1;
                    push("begins to erase subject", next);
                }
            }
        }
    }

    /// Begins one operation of the slot, with what the copies hold by then.
    fn operate(&self, state: &State, at: usize, steps: &mut Vec<(Step, State)>) {
        let leader = state.leaders[at];
        let busy = |other: &Leader| matches!(other.task, Task::Prepare(1) | Task::Advance(1) | Task::Settle(1));
        if state.leaders.iter().any(busy) {
            return;
        }
        let away = self.misses_none && state.copies(&[Place::Away]).next().is_some();
        for decided in self.deciding(state) {
            let compares = match leader.task {
                Task::Prepare(_) => decided.current == leader.base,
                Task::Advance(_) => decided.current == leader.base && decided.next == leader.new,
                _ => true,
            };
            if away || !compares {
                let step = Step { who: "a leader", what: "is refused by the slot, with root", which: leader.new };
                steps.push((step, state.given_up(at)));
                continue;
            }
            let mut state = *state;
            if matches!(leader.task, Task::Settle(_)) {
                state.leaders[at].new = decided.current;
            }
            self.write(&state, at, 0, steps);
        }
    }

    /// Writes one copy.
    fn write(&self, state: &State, at: usize, copy: u8, steps: &mut Vec<(Step, State)>) {
        let leader = state.leaders[at];
        let mut push = |what, next| steps.push((Step { who: "a leader", what, which: leader.new }, next));
        let mut next = *state;
        let slot = &mut next.copies[usize::from(copy)];
        match slot.place {
            Place::Away if self.misses_none => {
                push("finds a copy away, with root", state.given_up(at));
                return;
            }
            Place::Away | Place::Lost => {}
            Place::Here => {
                let (current, next) = match leader.task {
                    Task::Prepare(_) => (leader.base, leader.new),
                    _ => (leader.new, NONE),
                };
                *slot = Copy { current, next, place: Place::Here, old: false };
            }
        }
        let (task, what) = match (leader.task, copy) {
            (Task::Prepare(_), 0) => (Task::Prepare(1), "prepares, in the first copy, root"),
            (Task::Prepare(_), _) => (Task::Save, "prepares, in the second copy, root"),
            (Task::Advance(_), 0) if !self.waits_for_all => (Task::Acknowledge, "advances the first copy to root"),
            (Task::Advance(_), 0) => (Task::Advance(1), "advances the first copy to root"),
            (Task::Advance(_), _) => (Task::Acknowledge, "advances the second copy to root"),
            (_, 0) => (Task::Settle(1), "settles the first copy at root"),
            _ => (Task::LookAgain, "settles the second copy at root"),
        };
        next.leaders[at].task = task;
        let advanced = matches!(leader.task, Task::Advance(_)) && (copy == 1 || !self.deletes_late);
        if advanced {
            next.kept &= bit(leader.new);
        }
        push(what, next);
    }
}

impl Protocol for Mirrors {
    type State = State;

    fn start(&self) -> State {
        let copy = Copy { place: Place::Here, current: 0, next: NONE, old: false };
        State {
            copies: [copy; 2],
            lacks: [0; MOST],
            begun: 1,
            written: 1,
            kept: 1,
            acknowledged: 0,
            brought_back: false,
            leaders: [IDLE; 2],
        }
    }

    fn steps(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        for (at, leader) in state.leaders.iter().enumerate() {
            if leader.task != Task::Idle {
                let step = Step { who: "a leader", what: "crashes, at root", which: leader.new };
                steps.push((step, state.given_up(at)));
            }
            let step = |what| Step { who: "a leader", what, which: leader.new };
            match leader.task {
                Task::Idle => self.begin(state, at, steps),
                Task::Prepare(0) | Task::Advance(0) | Task::Settle(0) => self.operate(state, at, steps),
                Task::Prepare(copy) | Task::Advance(copy) | Task::Settle(copy) => self.write(state, at, copy, steps),
                Task::Save => {
                    let mut next = state.with(at, Task::Advance(0));
                    next.written |= bit(leader.new);
                    next.kept |= bit(leader.new);
                    steps.push((step("writes key state"), next));
                }
                // What was found in one copy may be gone with it.
                Task::LookAgain if self.looks_again && state.lacks[usize::from(leader.new)] & leader.subject == 0 => {
                    steps.push((step("finds not erased after all what it settled at root"), state.given_up(at)));
                }
                Task::LookAgain | Task::Acknowledge => {
                    let mut next = state.given_up(at);
                    next.acknowledged |= leader.subject;
                    steps.push((step("acknowledges what is erased under root"), next));
                }
            }
        }
        for (at, copy) in state.copies.iter().enumerate() {
            let other = state.copies[1 - at].place;
            let mut push = |what, place| {
                let mut next = *state;
                next.copies[at].place = place;
                steps.push((Step { who: "a copy", what, which: copy.current }, next));
            };
            match copy.place {
                Place::Away => push("comes back, with root", Place::Here),
                Place::Here if other == Place::Here => push("goes away, with root", Place::Away),
                _ => {}
            }
            // One misfortune at a time.
            if copy.place != Place::Lost && other != Place::Lost && !state.copies.iter().any(|copy| copy.old) {
                push("is lost for good, with root", Place::Lost);
            }
            if self.brings_back && copy.current != 0 && !state.brought_back && [copy.place, other] == [Place::Here; 2] {
                let mut next = State { brought_back: true, ..*state };
                next.copies[at] = Copy { current: 0, next: NONE, old: true, ..*copy };
                steps.push((
                    Step { who: "somebody", what: "brings back an old copy, in place of root", which: copy.current },
                    next,
                ));
            }
        }
        for (_, next) in steps {
            next.leaders.sort_unstable();
        }
    }

    fn done(&self, state: &State) -> bool {
        state.acknowledged == SUBJECTS[0] | SUBJECTS[1]
    }

    fn broken(&self, state: &State) -> Option<Broken> {
        let roots = state.roots();
        let mut open = (0..MOST).filter(|key| state.written & roots & (1 << key) != 0);
        if open.any(|key| state.acknowledged & !state.lacks[key] != 0) {
            return Some(Broken::Recoverable);
        }
        // A copy that is away may come back; until then the vault waits.
        let kept = |copy: &Copy| state.kept & bit(copy.current) != 0;
        let kept = if self.highest_decides {
            state.copies(&[Place::Away, Place::Here]).max_by_key(|copy| copy.current).is_none_or(|copy| kept(&copy))
        } else {
            self.deciding(state).iter().all(kept)
        };
        (!kept).then_some(Broken::TotalLoss)
    }
}

#[test]
fn a_mirrored_slot_holds() {
    holds("two copies, of which the highest decides", &AS_BUILT);
}

#[test]
fn a_mirrored_slot_with_a_mistake_breaks_a_promise() {
    fail(&[
        Mistake {
            name: "acknowledged when the first copy has advanced",
            protocol: Mirrors { waits_for_all: false, ..AS_BUILT },
            broken: Broken::Recoverable,
            steps: 6,
        },
        Mistake {
            name: "any copy that can be read decides",
            protocol: Mirrors { highest_decides: false, ..AS_BUILT },
            broken: Broken::TotalLoss,
            steps: 7,
        },
        Mistake {
            name: "a copy that is away is not waited for",
            protocol: Mirrors { misses_none: false, brings_back: false, ..AS_BUILT },
            broken: Broken::Recoverable,
            steps: 8,
        },
        Mistake {
            name: "acknowledged because one copy says that it is done",
            protocol: Mirrors { settles: false, ..AS_BUILT },
            broken: Broken::Recoverable,
            steps: 7,
        },
        Mistake {
            name: "acknowledged after settling, whatever was settled",
            protocol: Mirrors { looks_again: false, ..AS_BUILT },
            broken: Broken::Recoverable,
            steps: 11,
        },
        Mistake {
            name: "key states deleted when the first copy has advanced",
            protocol: Mirrors { deletes_late: false, ..AS_BUILT },
            broken: Broken::TotalLoss,
            steps: 6,
        },
    ]);
}
