//! A slot in a cryptographic token, which has no compare-and-swap: things can be made, found and destroyed in it, one call
//! after the other.
//!
//! A root is prepared as a key that counts for nothing yet, a candidate; a mark arms it. The armed root of the highest
//! epoch whose key is there is the current one. Two leaders call the token at the same time, each may crash between any
//! two calls. What a run destroys it reads from the database after its candidate is made.

use super::{Broken, Mistake, Protocol, Step, fail, holds};

/// Subjects, as bits.
const SUBJECTS: [u8; 2] = [1, 2];
const MOST: usize = 4;

struct TokenSlot {
    /// The armed root of the highest epoch is the current one, not the key of the lowest epoch.
    highest_armed_decides: bool,
    /// Candidates of others are left alone by whoever prepares.
    spares_candidates: bool,
    /// Nothing is destroyed before the armed root was found to be the current one.
    looks_before_destroying: bool,
    /// A root is not armed while there is a candidate of a later epoch.
    yields_to_later: bool,
    /// What dies is read after the candidate was made, not before.
    gathers_late: bool,
    /// What others announced since the base is taken along, also when their erasures are done.
    takes_along: bool,
}

const AS_BUILT: TokenSlot = TokenSlot {
    highest_armed_decides: true,
    spares_candidates: true,
    looks_before_destroying: true,
    yields_to_later: true,
    gathers_late: true,
    takes_along: true,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    /// Keys in the token, and marks that arm them.
    keys: u8,
    armed: u8,
    lacks: [u8; MOST],
    begun: u8,
    /// Key states that were written.
    written: u8,
    /// The database: subjects that somebody asked to erase, those whose end was announced, those that are done.
    asked: u8,
    announced: u8,
    acknowledged: u8,
    leaders: [Leader; 2],
}

/// What a leader is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Task {
    Idle,
    Make,
    LookAgain,
    Gather,
    Save,
    Announce,
    Compare,
    Arm,
    LookAtCurrent,
    Destroy,
    Acknowledge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Leader {
    task: Task,
    base: u8,
    new: u8,
    /// Whom the new root is to leave out.
    dying: u8,
}

const IDLE: Leader = Leader { task: Task::Idle, base: 0, new: 0, dying: 0 };

impl State {
    fn given_up(mut self, at: usize) -> Self {
        self.leaders[at] = IDLE;
        self
    }

    fn with(mut self, at: usize, task: Task) -> Self {
        self.leaders[at].task = task;
        self
    }
}

impl TokenSlot {
    /// The current root.
    fn current(&self, state: &State) -> Option<u8> {
        let number = |bit: u32| u8::try_from(bit).unwrap();
        if self.highest_armed_decides {
            (state.keys & state.armed).checked_ilog2().map(number)
        } else {
            (state.keys != 0).then(|| number(state.keys.trailing_zeros()))
        }
    }

    /// Whom a run that begins from a root leaves out.
    fn dying(&self, state: &State, base: u8) -> u8 {
        let announced = if self.takes_along { state.announced } else { 0 };
        state.lacks[usize::from(base)] | announced | (state.asked & !state.acknowledged)
    }

    fn begin(&self, state: &State, at: usize, steps: &mut Vec<(Step, State)>) {
        let Some(base) = self.current(state) else { return };
        let pending = state.asked & !state.acknowledged;
        if pending == 0 {
            return;
        }
        let mut push = |what, next| steps.push((Step { who: "a leader", what, which: pending }, next));
        if pending & !state.lacks[usize::from(base)] == 0 {
            let mut next = *state;
            next.leaders[at] = Leader { task: Task::LookAtCurrent, base, new: base, dying: 0 };
            push("finds already erased subjects", next);
        } else if usize::from(state.begun) < MOST {
            let mut next = *state;
            next.leaders[at] = Leader { task: Task::Make, base, new: 0, dying: self.dying(state, base) };
            push("begins to erase subjects", next);
        }
    }

    fn go_on(&self, state: &State, at: usize, steps: &mut Vec<(Step, State)>) {
        let Leader { task, base, new, dying } = state.leaders[at];
        // The epoch is taken when the candidate is made.
        let new = if task == Task::Make { state.begun } else { new };
        let own = 1 << new;
        let later = state.keys & !state.armed & !(own | (own - 1)) != 0;
        let current = self.current(state);
        let mut push = |what, next| steps.push((Step { who: "a leader", what, which: new }, next));
        push("crashes, with root", state.given_up(at));
        let mut next = *state;
        match task {
            Task::Idle => {}
            Task::Make if usize::from(new) == MOST => {}
            Task::Make => {
                next.begun += 1;
                next.leaders[at].new = new;
                if !self.spares_candidates {
                    next.keys &= state.armed;
                }
                next.keys |= own;
                push("makes a candidate of root", next.with(at, Task::LookAgain));
            }
            Task::LookAgain if current != Some(base) || later => {
                push("was overtaken, with root", state.given_up(at));
            }
            Task::LookAgain => {
                push("may go on with root", state.with(at, Task::Gather));
            }
            Task::Gather => {
                next.lacks[usize::from(new)] = if self.gathers_late { self.dying(state, base) } else { dying };
                next.leaders[at].dying = 0;
                push("gathers what dies with root", next.with(at, Task::Save));
            }
            Task::Save => {
                next.written |= own;
                push("writes key state", next.with(at, Task::Announce));
            }
            Task::Announce => {
                next.announced |= state.lacks[usize::from(new)];
                push("announces what dies with root", next.with(at, Task::Compare));
            }
            Task::Compare if current != Some(base) || (self.yields_to_later && later) => {
                push("finds the slot moved on, with root", state.given_up(at));
            }
            Task::Compare => push("may advance to root", state.with(at, Task::Arm)),
            Task::Arm if !self.highest_armed_decides => {
                next.keys &= !(1 << base);
                push("destroys what came before root", next.with(at, Task::Acknowledge));
            }
            Task::Arm => {
                next.armed |= own;
                push("arms root", next.with(at, Task::LookAtCurrent));
            }
            Task::LookAtCurrent if self.looks_before_destroying && current != Some(new) => {
                push("is not at the current root, with root", state.given_up(at));
            }
            Task::LookAtCurrent => push("may destroy what is before root", state.with(at, Task::Destroy)),
            Task::Destroy => match lowest(state.keys & (own - 1)) {
                Some(key) => {
                    next.keys &= !key;
                    push("destroys one root before root", next);
                }
                None => push("has destroyed all before root", state.with(at, Task::Acknowledge)),
            },
            Task::Acknowledge if current != Some(new) => push("finds another root than root", state.given_up(at)),
            Task::Acknowledge => {
                next.acknowledged |= state.asked & state.lacks[usize::from(new)];
                push("acknowledges what is erased under root", next.given_up(at));
            }
        }
    }
}

fn lowest(keys: u8) -> Option<u8> {
    (keys != 0).then(|| 1 << keys.trailing_zeros())
}

impl Protocol for TokenSlot {
    type State = State;

    fn start(&self) -> State {
        State {
            keys: 1,
            armed: 1,
            lacks: [0; MOST],
            begun: 1,
            written: 1,
            asked: 0,
            announced: 0,
            acknowledged: 0,
            leaders: [IDLE; 2],
        }
    }

    fn steps(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        for subject in SUBJECTS.into_iter().filter(|subject| state.asked & subject == 0) {
            let step = Step { who: "somebody", what: "asks to erase subject", which: subject };
            steps.push((step, State { asked: state.asked | subject, ..*state }));
        }
        for at in 0..2 {
            if state.leaders[at].task == Task::Idle {
                self.begin(state, at, steps);
            } else {
                self.go_on(state, at, steps);
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
        let mut open = (0..MOST).filter(|key| state.written & state.keys & (1 << key) != 0);
        if open.any(|key| state.acknowledged & !state.lacks[key] != 0) {
            return Some(Broken::Recoverable);
        }
        let found = self.current(state).is_some_and(|root| state.written & (1 << root) != 0);
        (!found).then_some(Broken::TotalLoss)
    }
}

#[test]
fn a_slot_in_a_token_holds() {
    holds("candidates, of which the highest that is armed decides", &AS_BUILT);
}

#[test]
fn a_slot_in_a_token_with_a_mistake_breaks_a_promise() {
    fail(&[
        Mistake {
            name: "candidates of others are destroyed, and nobody looks before they destroy",
            protocol: TokenSlot { spares_candidates: false, looks_before_destroying: false, ..AS_BUILT },
            broken: Broken::TotalLoss,
            steps: 13,
        },
        Mistake {
            name: "the key of the lowest epoch decides",
            protocol: TokenSlot { highest_armed_decides: false, ..AS_BUILT },
            broken: Broken::TotalLoss,
            steps: 11,
        },
        Mistake {
            name: "armed beside a later candidate",
            protocol: TokenSlot { yields_to_later: false, ..AS_BUILT },
            broken: Broken::Recoverable,
            steps: 19,
        },
        Mistake {
            name: "what dies was read before the candidate was made",
            protocol: TokenSlot { gathers_late: false, ..AS_BUILT },
            broken: Broken::Recoverable,
            steps: 19,
        },
        Mistake {
            name: "what others announced is not taken along",
            protocol: TokenSlot { takes_along: false, ..AS_BUILT },
            broken: Broken::Recoverable,
            steps: 18,
        },
    ]);
}
