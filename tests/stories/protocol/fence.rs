//! The fence: after the answer to an erasure, no node answers with the value.
//!
//! Two nodes answer reveals with keys that they have in memory. Each holds a lease: a row in the database that it renews,
//! by which the leader knows who may still have the old keys. A node may stand still at any point for any time, a
//! message may take any time or be lost. Time is counted in ticks, and all clocks run at the same speed.

use super::{Broken, Mistake, Protocol, Step, fail, holds};

/// For how many ticks a lease is good.
const LEASE: u8 = 2;
/// For how many ticks a cache keeps what it read, in the mistake that has one.
const KEPT: u8 = 1;

struct Fence {
    /// The leader waits until each node has the new keys, or no lease.
    waits: bool,
    /// A node counts its lease from the moment when it asked for it, not from the answer.
    counts_from_asking: bool,
    /// The clock is read when the answer leaves, not some time before.
    reads_clock_last: bool,
    /// A node says that it has the new keys only when no reveal with the old ones is under way.
    lands_first: bool,
    /// A node that was without a lease forgets the reveals that it had begun.
    forgets_flights: bool,
    /// Each reveal reads the subject's state from the database, not from a cache that forgets after a time.
    reads_state: bool,
}

const AS_BUILT: Fence = Fence {
    waits: true,
    counts_from_asking: true,
    reads_clock_last: true,
    lands_first: true,
    forgets_flights: true,
    reads_state: true,
};

/// A reveal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Flight {
    None,
    /// The value is open.
    Air,
    /// And may leave, says a clock that was read a moment ago.
    Checked,
}

/// A lease on its way to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Renewal {
    None,
    Asked { age: u8, applied: bool },
    Answered { age: u8, new_keys: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Node {
    /// Whether it still has the old keys.
    old_keys: bool,
    /// How long its lease lasts, as it believes.
    lease: u8,
    /// How long its lease lasts and whether it has the new keys, as the database says.
    row: u8,
    applied: bool,
    /// How long its cache says that the value may be shown.
    cache: u8,
    flight: Flight,
    renewal: Renewal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    nodes: [Node; 2],
    /// The database refuses the subject and names the next epoch.
    announced: bool,
    acknowledged: bool,
    /// A value left after that.
    late: bool,
}

impl Fence {
    fn reveal(&self, state: &State, at: usize, push: &mut impl FnMut(&'static str, Node)) {
        let node = state.nodes[at];
        match node.flight {
            Flight::None => {
                let fresh = !state.announced && node.old_keys;
                let cached = !self.reads_state && node.cache > 0;
                if node.lease > 0 && (fresh || cached) {
                    let cache = if fresh { KEPT } else { node.cache };
                    push("opens the value", Node { flight: Flight::Air, cache, ..node });
                }
            }
            Flight::Air if node.lease == 0 => push("gives its reveal up", Node { flight: Flight::None, ..node }),
            Flight::Air if self.reads_clock_last => push("ANSWERS", Node { flight: Flight::None, ..node }),
            Flight::Air => push("sees that its lease lasts", Node { flight: Flight::Checked, ..node }),
            Flight::Checked => push("ANSWERS", Node { flight: Flight::None, ..node }),
        }
    }

    fn renew(&self, state: &State, at: usize, push: &mut impl FnMut(&'static str, Node)) {
        let node = state.nodes[at];
        match node.renewal {
            Renewal::None => {
                let applied = !node.old_keys && (!self.lands_first || node.flight == Flight::None);
                push("asks to renew its lease", Node { renewal: Renewal::Asked { age: 0, applied }, ..node });
            }
            Renewal::Asked { age, applied } => {
                let renewal = Renewal::Answered { age, new_keys: state.announced };
                let applied = node.applied || applied;
                push("has its lease renewed", Node { row: LEASE, applied, renewal, ..node });
                push("asked in vain", Node { renewal: Renewal::None, ..node });
            }
            Renewal::Answered { age, new_keys } => {
                let lease = LEASE - if self.counts_from_asking { age } else { 0 };
                let kept = node.lease > 0 || !self.forgets_flights;
                let flight = if kept { node.flight } else { Flight::None };
                let old_keys = node.old_keys && !new_keys;
                let renewed = Node { lease: lease.max(node.lease), flight, old_keys, renewal: Renewal::None, ..node };
                push("learns of its lease", renewed);
                push("never learns of its lease", Node { renewal: Renewal::None, ..node });
            }
        }
    }

    fn lead(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        let mut push = |what, next| steps.push((Step { who: "the leader", what, which: 1 }, next));
        if !state.announced {
            push("announces epoch", State { announced: true, ..*state });
        } else if !state.acknowledged {
            let safe = state.nodes.iter().all(|node| node.applied || node.row == 0);
            if safe || !self.waits {
                push("advances and acknowledges epoch", State { acknowledged: true, ..*state });
            }
        }
    }
}

fn tick(mut state: State) -> State {
    for node in &mut state.nodes {
        node.lease = node.lease.saturating_sub(1);
        node.row = node.row.saturating_sub(1);
        node.cache = node.cache.saturating_sub(1);
        if let Renewal::Asked { age, .. } | Renewal::Answered { age, .. } = &mut node.renewal {
            *age = (*age + 1).min(LEASE);
        }
    }
    state
}

impl Protocol for Fence {
    type State = State;

    fn start(&self) -> State {
        let node = Node {
            old_keys: true,
            lease: LEASE,
            row: LEASE,
            applied: false,
            cache: 0,
            flight: Flight::None,
            renewal: Renewal::None,
        };
        State { nodes: [node; 2], announced: false, acknowledged: false, late: false }
    }

    fn steps(&self, state: &State, steps: &mut Vec<(Step, State)>) {
        for at in 0..2 {
            let mut push = |what, node: Node| {
                let mut next = *state;
                next.nodes[at] = node;
                next.late |= what == "ANSWERS" && state.acknowledged;
                steps.push((Step { who: "a node", what, which: node.lease }, next));
            };
            self.reveal(state, at, &mut push);
            self.renew(state, at, &mut push);
        }
        self.lead(state, steps);
        steps.push((Step { who: "time", what: "passes", which: 1 }, tick(*state)));
        for (_, next) in steps {
            next.nodes.sort_unstable();
        }
    }

    fn done(&self, state: &State) -> bool {
        state.acknowledged
    }

    fn broken(&self, state: &State) -> Option<Broken> {
        state.late.then_some(Broken::Revealed)
    }
}

#[test]
fn no_node_answers_behind_the_fence() {
    holds("leases, and reveals that end with them", &AS_BUILT);
}

#[test]
fn a_fence_with_a_gap_lets_a_value_through() {
    fail(&[
        Mistake { name: "no fence", protocol: Fence { waits: false, ..AS_BUILT }, broken: Broken::Revealed, steps: 4 },
        Mistake {
            name: "a cache that forgets after a time",
            protocol: Fence { reads_state: false, ..AS_BUILT },
            broken: Broken::Revealed,
            steps: 13,
        },
        Mistake {
            name: "a clock that was read before",
            protocol: Fence { reads_clock_last: false, ..AS_BUILT },
            broken: Broken::Revealed,
            steps: 7,
        },
        Mistake {
            name: "a lease counted from the answer",
            protocol: Fence { counts_from_asking: false, ..AS_BUILT },
            broken: Broken::Revealed,
            steps: 9,
        },
        Mistake {
            name: "new keys reported while old reveals are under way",
            protocol: Fence { lands_first: false, ..AS_BUILT },
            broken: Broken::Revealed,
            steps: 11,
        },
        Mistake {
            name: "a new lease for what began under an old one",
            protocol: Fence { forgets_flights: false, ..AS_BUILT },
            broken: Broken::Revealed,
            steps: 9,
        },
    ]);
}
