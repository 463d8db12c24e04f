//! The protocols behind an erasure, each as a small machine whose every state is visited: what goes on in which order,
//! with crashes, pauses and several processes anywhere in between.
//!
//! Each machine is told twice: as it is built, where no state may break a promise; and once for every mistake that is
//! easily made in it, where the checker must find the break. A machine that cannot fail proves nothing.
//!
//! Two promises are watched in all of them. Nothing that was acknowledged can be read: whoever holds every key state
//! ever written and whatever the slot holds now cannot open it. And no key is lost: the vault itself always finds a key
//! state that the slot opens.

#![expect(clippy::struct_excessive_bools, reason = "each of them is a mistake that can be made alone")]

mod announce;
mod erasure;
mod fence;
mod mirrors;
mod token_slot;

use std::collections::HashMap;
use std::fmt::{self, Debug, Write as _};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// How a promise is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// What was acknowledged as erased can still be opened.
    Recoverable,
    /// A value leaves after its erasure was acknowledged.
    Revealed,
    /// No key state is left that the slot opens: everybody's values are lost.
    TotalLoss,
}

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Step {
    /// Who does it, or to whom it happens.
    who: &'static str,
    /// What it is.
    what: &'static str,
    /// Which one, as the number of an epoch or a subject.
    which: u8,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.who, self.what, self.which)
    }
}

/// A machine.
trait Protocol {
    type State: Copy + Eq + Hash + Debug;

    /// Where it begins.
    fn start(&self) -> Self::State;

    /// Everything that may happen next, each with the state after it.
    fn steps(&self, state: &Self::State, steps: &mut Vec<(Step, Self::State)>);

    /// Whether it came to its end. One that never does breaks no promise either.
    fn done(&self, state: &Self::State) -> bool;

    /// Which promise does not hold.
    fn broken(&self, state: &Self::State) -> Option<Broken>;
}

/// What the checker found.
struct Verdict {
    states: usize,
    done: bool,
    broken: Option<Broken>,
    /// The shortest way there.
    trace: Vec<Step>,
}

/// More states than any machine here has.
const MOST_STATES: usize = 3_000_000;

/// Visits every state, nearest first, until one breaks a promise or none is left.
fn explore<P: Protocol>(protocol: &P) -> Verdict {
    let start = protocol.start();
    let mut seen: HashMap<P::State, u32, BuildHasherDefault<Mix>> = HashMap::default();
    // In the order in which they were reached, each with the one that it was reached from.
    let mut states = vec![(start, 0)];
    seen.insert(start, 0);
    let (mut next, mut done, mut steps) = (0, false, Vec::new());
    while next < states.len() {
        let state = states[next].0;
        if let Some(broken) = protocol.broken(&state) {
            let trace = trace(protocol, &states, next);
            return Verdict { states: next + 1, done, broken: Some(broken), trace };
        }
        done |= protocol.done(&state);
        protocol.steps(&state, &mut steps);
        let from = u32::try_from(next).unwrap();
        for (_, reached) in steps.drain(..) {
            let number = u32::try_from(states.len()).unwrap();
            if *seen.entry(reached).or_insert(number) == number {
                states.push((reached, from));
            }
        }
        next += 1;
        assert!(states.len() < MOST_STATES, "the machine has too many states to be visited");
    }
    Verdict { states: states.len(), done, broken: None, trace: Vec::new() }
}

/// What happened on the way to a state.
fn trace<P: Protocol>(protocol: &P, states: &[(P::State, u32)], mut at: usize) -> Vec<Step> {
    let mut trace = Vec::new();
    while at != 0 {
        let (reached, from) = states[at];
        let mut steps = Vec::new();
        protocol.steps(&states[from as usize].0, &mut steps);
        trace.push(steps.into_iter().find(|(_, state)| *state == reached).unwrap().0);
        at = from as usize;
    }
    trace.reverse();
    trace
}

/// The machine as it is built keeps its promises in every state.
fn holds<P: Protocol>(name: &str, protocol: &P) {
    let verdict = explore(protocol);
    assert_eq!(verdict.broken, None, "{name}\n{}", told(&verdict.trace));
    assert!(verdict.done, "{name}: it never comes to its end");
    println!("{name}: holds in all of {} states", verdict.states);
}

/// The machine with a mistake breaks a promise, in this way and after so many steps.
struct Mistake<P> {
    name: &'static str,
    protocol: P,
    broken: Broken,
    steps: usize,
}

/// Each of the mistakes is found.
fn fail<P: Protocol>(mistakes: &[Mistake<P>]) {
    let mut faults = Vec::new();
    for Mistake { name, protocol, broken, steps } in mistakes {
        let verdict = explore(protocol);
        let found = (verdict.broken, verdict.trace.len());
        let told = format!("{name}: {found:?} after {} states\n{}", verdict.states, told(&verdict.trace));
        println!("{told}");
        if found != (Some(*broken), *steps) {
            faults.push(format!("expected {broken:?} after {steps} steps: {told}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn told(trace: &[Step]) -> String {
    trace.iter().enumerate().fold(String::new(), |mut told, (at, step)| {
        writeln!(told, "  {:>2}. {step}", at + 1).unwrap();
        told
    })
}

/// A hash of few instructions, because tests are built without optimisation.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
