//! A slot in a cryptographic token, which has no compare-and-swap: keys stand side by side in it, and each call is alone.
//!
//! A root is prepared as a key that counts for nothing yet, a candidate; it is armed by a change of that key, which fails
//! when the key is gone. The armed key of the highest epoch is the current root. Two leaders call the token at the same
//! time, each may crash between any two calls.

use super::{Broken, Mistake, Protocol, Step, fail, holds};

/// Subjects, as bits.
const SUBJECTS: [u8; 2] = [1, 2];
const MOST: usize = 4;

struct TokenSlot {
    /// A key is armed by a change of the key itself, not by a mark beside it.
    arms_key: bool,
    /// The armed key of the highest epoch is the current root, not the key of the lowest epoch.
    highest_armed_decides: bool,
    /// Candidates of others are left alone by whoever prepares.
    spares_candidates: bool,
    /// A candidate that was made although the slot had moved on is noticed before anything is sealed under it.
    looks_after_making: bool,
    /// An erasure is acknowledged when the token holds no other root at all.
    looks_for_others: bool,
}

const AS_BUILT: TokenSlot = TokenSlot {
    arms_key: true,
    highest_armed_decides: true,
    spares_candidates: true,
    looks_after_making: true,
    looks_for_others: true,
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
    acknowledged: u8,
    leaders: [Leader; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Task {
    Idle,
    /// Looks whether the slot is still at the base.
    Look,
    Make,
    LookAgain,
    Save,
    Compare,
    Arm,
    Destroy,
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

    fn begin(&self, state: &State, at: usize, steps: &mut Vec<(Step, State)>) {
        let Some(base) = self.current(state) else { return };
        for subject in SUBJECTS.into_iter().filter(|subject| state.acknowledged & subject == 0) {
            let mut push = |what, next| steps.push((Step { who: "a leader", what, which: subject }, next));
            let mut next = *state;
            if state.lacks[usize::from(base)] & subject != 0 {
                next.leaders[at] = Leader { task: Task::Destroy, base, new: base, subject };
                push("finds already erased subject", next);
            }
            // Also when it is erased already: to leave behind a candidate that nobody arms.
            if usize::from(state.begun) < MOST {
                let new = state.begun;
                next = *state;
                next.leaders[at] = Leader { task: Task::Look, base, new, subject };
                next.lacks[usize::from(new)] = state.lacks[usize::from(base)] | subject;
                next.begun += 1;
                push("begins to erase subject", next);
            }
        }
    }

    fn go_on(&self, state: &State, at: usize, steps: &mut Vec<(Step, State)>) {
        let leader = state.leaders[at];
        let (new, own) = (leader.new, 1 << leader.new);
        let mut push = |what, next| steps.push((Step { who: "a leader", what, which: new }, next));
        push("crashes, with root", state.given_up(at));
        let at_base = self.current(state) == Some(leader.base);
        match leader.task {
            Task::Idle => {}
            Task::Look | Task::Compare if !at_base => push("finds the slot moved on, with root", state.given_up(at)),
            Task::Look => push("may prepare root", state.with(at, Task::Make)),
            Task::Make => {
                let mut next = state.with(at, if self.looks_after_making { Task::LookAgain } else { Task::Save });
                if !self.spares_candidates {
                    next.keys &= state.armed;
                }
                next.keys |= own;
                push("makes a candidate of root", next);
            }
            Task::LookAgain if at_base => push("still may prepare root", state.with(at, Task::Save)),
            Task::LookAgain => {
                push("takes back root", State { keys: state.keys & !own, ..state.given_up(at) });
            }
            Task::Save => {
                let written = state.written | own;
                push("writes key state", State { written, ..state.with(at, Task::Compare) });
            }
            Task::Compare => push("may advance to root", state.with(at, Task::Arm)),
            Task::Arm if !self.highest_armed_decides => {
                let keys = state.keys & !(1 << leader.base);
                push("destroys what came before root", State { keys, ..state.with(at, Task::Acknowledge) });
            }
            Task::Arm if self.arms_key && state.keys & own == 0 => {
                push("finds gone root", state.given_up(at));
            }
            Task::Arm => push("arms root", State { armed: state.armed | own, ..state.with(at, Task::Destroy) }),
            Task::Destroy => match lowest(state.keys & (own - 1)) {
                Some(key) => push("destroys one root before root", State { keys: state.keys & !key, ..*state }),
                None => push("has destroyed all before root", state.with(at, Task::Acknowledge)),
            },
            Task::Acknowledge if self.looks_for_others && state.keys != own => {
                push("finds another root beside root", state.given_up(at));
            }
            Task::Acknowledge => {
                let acknowledged = state.acknowledged | leader.subject;
                push("acknowledges what is erased under root", State { acknowledged, ..state.given_up(at) });
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
        State { keys: 1, armed: 1, lacks: [0; MOST], begun: 1, written: 1, acknowledged: 0, leaders: [IDLE; 2] }
    }

    fn steps(&self, state: &State, steps: &mut Vec<(Step, State)>) {
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
            name: "candidates of others are destroyed",
            protocol: TokenSlot { spares_candidates: false, arms_key: false, ..AS_BUILT },
            broken: Broken::TotalLoss,
            steps: 11,
        },
        Mistake {
            name: "the key of the lowest epoch decides",
            protocol: TokenSlot { highest_armed_decides: false, ..AS_BUILT },
            broken: Broken::TotalLoss,
            steps: 10,
        },
        Mistake {
            name: "a candidate made after the slot moved on",
            protocol: TokenSlot { looks_after_making: false, ..AS_BUILT },
            broken: Broken::Recoverable,
            steps: 13,
        },
        Mistake {
            name: "acknowledged beside a candidate of somebody else",
            protocol: TokenSlot { looks_for_others: false, ..AS_BUILT },
            broken: Broken::Recoverable,
            steps: 15,
        },
    ]);
}
