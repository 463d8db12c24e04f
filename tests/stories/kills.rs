//! A hundred power cuts at moments that nobody chose.
//!
//! The seed is printed; `LACUNA_TEST_SEED` repeats a run. It repeats what is asked for and when the power goes; what the
//! machine had done by then is its own affair.

use std::time::Duration;

use lacuna::proto::v1;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use crate::outside::{Door, Outside, Person};
use crate::process::setting;

const CUTS: u32 = 100;

/// No power cut comes later than this after a start.
const LONGEST_LIFE: u64 = 120;

/// How many people are looked at after each start; everybody is at the end.
const GLANCE: usize = 3;

/// So many are always left alive, for their keys to be at stake.
const CROWD: usize = 12;

/// What became of everybody, as far as anybody was told.
#[derive(Default)]
struct Told {
    alive: Vec<Person>,
    erased: Vec<Person>,
    /// Erasures that were asked for, and not answered.
    between: Vec<Person>,
    births: u32,
}

impl Told {
    /// Keeps and erases people until the power goes.
    async fn live(&mut self, door: &mut Door, mut random: ChaCha8Rng) {
        loop {
            let dies = random.next_u32().is_multiple_of(2) && self.alive.len() > CROWD;
            if !dies {
                self.births += 1;
                if let Ok(person) = door.try_tokenize(&format!("person{}", self.births)).await {
                    self.alive.push(person);
                }
                continue;
            }
            let at = random.next_u32() as usize % self.alive.len();
            self.between.push(self.alive.swap_remove(at));
            let victim = self.between.last().unwrap().clone();
            let Ok(erasure) = door.try_erase(&victim, "").await else { return };
            if erasure.state() == v1::ErasureState::Shredded {
                self.erased.extend(self.between.pop());
            }
        }
    }

    /// Whoever was being erased when the power went is erased, or was not begun with.
    async fn resolve(&mut self, door: &mut Door) {
        for person in std::mem::take(&mut self.between) {
            let subject = door.subject(&person).await;
            if subject.state() == v1::SubjectState::Active {
                self.alive.push(person);
            } else {
                door.shredded(&subject.erasure).await;
                self.erased.push(person);
            }
        }
    }
}

async fn survives(vault: Outside) {
    let seed = setting("LACUNA_TEST_SEED").map_or_else(|| u64::from(std::process::id()), |seed| seed.parse().unwrap());
    eprintln!("LACUNA_TEST_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut told = Told::default();
    for _ in 0..CUTS {
        let mut door = vault.start();
        told.resolve(&mut door).await;
        for person in told.alive.iter().rev().take(GLANCE) {
            door.assert_there(person).await;
        }
        for person in told.erased.iter().rev().take(GLANCE) {
            door.assert_gone(person).await;
        }
        let life = Duration::from_millis(u64::from(random.next_u32()) % LONGEST_LIFE);
        let deeds = ChaCha8Rng::seed_from_u64(u64::from(random.next_u32()));
        // The time is the power cut's, whatever is under way then.
        let _ = tokio::time::timeout(life, told.live(&mut door, deeds)).await;
        door.kill();
    }
    let mut door = vault.start();
    told.resolve(&mut door).await;
    println!("{} alive, {} erased", told.alive.len(), told.erased.len());
    assert!(told.alive.len() > GLANCE && told.erased.len() > GLANCE, "the power went too early to tell");
    for person in &told.alive {
        door.assert_there(person).await;
    }
    for person in &told.erased {
        door.assert_gone(person).await;
    }
    let keys = vault.keys();
    assert_eq!((&keys["database_epoch"], &keys["erasures_pending"]), (&keys["epoch"], &0.into()), "{keys}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_power_cuts_lose_nobody_and_bring_nobody_back_with_the_slot_in_files() {
    survives(Outside::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_power_cuts_lose_nobody_and_bring_nobody_back_with_the_slot_in_a_token() {
    if let Some(vault) = Outside::with_a_token("a hundred power cuts") {
        survives(vault).await;
    }
}
