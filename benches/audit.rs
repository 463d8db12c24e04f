//! Whom a breach affects, counted on a log of a million entries: `cargo bench --bench audit`.
//!
//! The log is written as the vault writes it, and nothing else is there: no key, no slot, no vault. Every count is compared
//! with what the generator knows of the entries that it made. Beside each count stands the bare limit, which is reading
//! the same batches and walking along their lines in the same run.
//!
//! On SQLite, and with `LACUNA_TEST_POSTGRES` also on PostgreSQL. Run as a test it makes a small log, for the counts.

use std::collections::{BTreeMap, HashSet};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lacuna::model::{FieldType, Redaction, SubjectId, Time};
use lacuna::store::{self, Scratch, Store};
use lacuna::vault::audit::affected::{Affected, affected};
use lacuna::vault::audit::list::{Filter, Search};
use lacuna::vault::audit::walk::{Witness, verify};
use lacuna::vault::audit::{Entry, Head, Touched, outcome};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use zeroizing_alloc::ZeroAlloc;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

/// Entries in a measurement, and when nothing is measured.
const ENTRIES: (u32, u32) = (1_000_000, 10_000);
/// Entries in a batch, and batches in a transaction.
const BATCH: (usize, usize) = (100, 20);
/// How often each count is repeated; the median is told.
const ROUNDS: usize = 5;
/// Between two entries.
const STEP: Duration = Duration::from_secs(1);
/// 2026-11-22T12:00:00Z.
const BEGUN: Time = Time::from_micros(1_795_348_800_000_000);

const CALLERS: u32 = 50;
/// People for each entry: a fifth.
const ENTRIES_PER_PERSON: u32 = 5;
const KINDS: [FieldType; 2] = [FieldType::Email, FieldType::Phone];
const COUNTRIES: [&str; 3] = ["DE", "FR", "US-CA"];
const PURPOSES: [&str; 2] = ["customer_care", "order_confirmation"];

/// What the generator knows of an entry.
struct Made {
    number: u32,
    caller: u32,
    person: u32,
    purpose: usize,
    /// How many of the person's values it is about.
    values: usize,
    deed: Deed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Shown,
    Refused,
    Found,
}

/// The same entries each time.
fn made(entries: u32) -> impl Iterator<Item = Made> {
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let people = (entries / ENTRIES_PER_PERSON).max(1);
    (0..entries).map(move |number| Made {
        number,
        caller: random.next_u32() % CALLERS,
        person: random.next_u32() % people,
        purpose: usize::from(random.next_u32() % 2 == 0),
        values: if random.next_u32() % 2 == 0 { 1 } else { 2 },
        deed: match random.next_u32() % 20 {
            0 => Deed::Refused,
            1 => Deed::Found,
            _ => Deed::Shown,
        },
    })
}

impl Made {
    fn time(&self) -> Time {
        BEGUN.plus(STEP * self.number)
    }

    fn caller(&self) -> String {
        format!("svc-{}", self.caller)
    }

    fn kinds(&self) -> impl Iterator<Item = FieldType> {
        KINDS.into_iter().take(self.values)
    }

    fn entry(&self) -> Entry {
        let outcome = if self.deed == Deed::Refused { "NotPermitted" } else { outcome::OK };
        let touched = self.kinds().map(|kind| Touched {
            row: row(self.person, kind).into(),
            subject: subject(self.person).to_string().into(),
            kind: kind.name().into(),
            jurisdiction: country(self.person).into(),
            outcome: outcome.into(),
            ..Touched::default()
        });
        let deed = if self.deed == Deed::Found { "FindTokens" } else { "Detokenize" };
        Entry {
            purpose: purpose(self.purpose).to_owned(),
            redaction: Redaction::PlainText.name(),
            request: format!("{:032x}", self.number),
            touched: touched.collect(),
            ..Entry::new(&self.caller(), deed, self.time())
        }
    }
}

fn row(person: u32, kind: FieldType) -> String {
    format!("{person:030x}{:02x}", kind.number())
}

fn subject(person: u32) -> SubjectId {
    SubjectId::from_bytes(u128::from(person).to_be_bytes())
}

fn country(person: u32) -> &'static str {
    COUNTRIES.iter().cycle().nth(person as usize % COUNTRIES.len()).copied().unwrap_or_default()
}

fn purpose(number: usize) -> &'static str {
    PURPOSES.iter().cycle().nth(number).copied().unwrap_or_default()
}

/// What is asked of the log.
struct Question {
    name: &'static str,
    caller: Option<u32>,
    /// Numbers of entries.
    window: Option<(u32, u32)>,
    kind: Option<FieldType>,
    person: Option<u32>,
    /// The values of so many people, by their tokens.
    tokens: u32,
}

impl Question {
    const fn of(name: &'static str) -> Self {
        Self { name, caller: None, window: None, kind: None, person: None, tokens: 0 }
    }

    fn all(entries: u32) -> [Self; 7] {
        let window = Some((entries / 10 * 4, entries / 10 * 5));
        [
            Self { caller: Some(7), window, ..Self::of("one caller in a tenth of the time") },
            Self { caller: Some(7), ..Self::of("one caller, the whole log") },
            Self { kind: Some(FieldType::Phone), window, ..Self::of("one type in a tenth of the time") },
            Self { kind: Some(FieldType::Phone), ..Self::of("one type, the whole log") },
            Self { tokens: 10, ..Self::of("twenty tokens, the whole log") },
            Self { person: Some(3), ..Self::of("one person, the whole log") },
            Self { window: Some((0, entries)), ..Self::of("everything") },
        ]
    }

    fn filter(&self) -> Filter {
        let at = |number: u32| BEGUN.plus(STEP * number);
        let rows = (0..self.tokens).flat_map(|person| KINDS.map(|kind| row(person, kind)));
        Filter {
            caller: self.caller.map(|caller| format!("svc-{caller}")),
            start: self.window.map(|(start, _)| at(start)),
            end: self.window.map(|(_, end)| at(end)),
            kind: self.kind,
            subject: self.person.map(subject),
            rows: rows.collect(),
            ..Filter::default()
        }
    }

    /// Whether an entry is meant; of its values those are that [`Self::means_value`] tells.
    fn means(&self, made: &Made) -> bool {
        self.caller.is_none_or(|caller| caller == made.caller)
            && self.window.is_none_or(|(start, end)| (start..end).contains(&made.number))
            && made.kinds().any(|kind| self.means_value(made, kind))
    }

    fn means_value(&self, made: &Made, kind: FieldType) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
            && self.person.is_none_or(|person| person == made.person)
            && (self.tokens == 0 || made.person < self.tokens)
    }
}

/// What is counted, and what the generator says that it should come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    entries: u64,
    reveals: u64,
    lookups: u64,
    people: u64,
    /// Of each type: people, values and reveals.
    types: BTreeMap<&'static str, (u64, u64, u64)>,
    countries: BTreeMap<String, u64>,
    purposes: BTreeMap<String, u64>,
    first: Option<Time>,
    last: Option<Time>,
}

impl Counts {
    fn truth(question: &Question, entries: u32) -> Self {
        let (mut counts, mut people) = (Self::default(), HashSet::new());
        let (mut of_types, mut values, mut purposes) = (HashSet::new(), HashSet::new(), HashSet::new());
        for made in made(entries).filter(|made| question.means(made)) {
            counts.entries += 1;
            if made.deed == Deed::Refused {
                continue;
            }
            for kind in made.kinds().filter(|kind| question.means_value(&made, *kind)) {
                people.insert(made.person);
                let of_type = counts.types.entry(kind.name()).or_default();
                of_type.0 += u64::from(of_types.insert((made.person, kind)));
                if made.deed == Deed::Found {
                    counts.lookups += 1;
                } else {
                    counts.reveals += 1;
                    of_type.1 += u64::from(values.insert((made.person, kind)));
                    of_type.2 += 1;
                    purposes.insert((made.purpose, made.person));
                }
                counts.first.get_or_insert(made.time());
                counts.last = Some(made.time());
            }
        }
        counts.people = people.len() as u64;
        for person in people {
            *counts.countries.entry(country(person).to_owned()).or_default() += 1;
        }
        for (number, _) in purposes {
            *counts.purposes.entry(purpose(number).to_owned()).or_default() += 1;
        }
        counts
    }

    fn told(affected: &Affected) -> Self {
        let types = affected.categories.iter().map(|(kind, of)| (kind.name(), (of.subjects, of.values, of.reveals)));
        Self {
            entries: affected.entries,
            reveals: affected.reveals,
            lookups: affected.people.iter().map(|person| person.lookups).sum(),
            people: affected.people.len() as u64,
            types: types.collect(),
            countries: affected.jurisdictions.clone(),
            purposes: affected.purposes.clone(),
            first: affected.first,
            last: affected.last,
        }
    }
}

/// Writes the log by the vault's own way.
async fn write(store: &dyn Store, entries: u32) -> Result<()> {
    store.migrate().await?;
    let mut made = made(entries).peekable();
    while made.peek().is_some() {
        let mut tx = store.write().await?;
        let mut head = Head::read(&mut *tx, [0; 16]).await?;
        for _ in 0..BATCH.1 {
            let (mut batch, mut now) = (Vec::with_capacity(BATCH.0), BEGUN);
            for made in made.by_ref().take(BATCH.0) {
                now = made.time();
                batch.push(made.entry());
            }
            if !batch.is_empty() {
                head = head.append(&mut *tx, &batch.iter().collect::<Vec<_>>(), now).await?;
            }
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Reads every batch that may hold what is meant, and walks along its lines.
async fn walk(store: &dyn Store, filter: &Filter) -> Result<usize> {
    let (mut tx, mut search, mut lines) = (store.read().await?, Search::begin(filter, None), 0);
    loop {
        let page = search.next(&mut *tx).await?;
        if page.is_empty() {
            return Ok(lines);
        }
        lines += page.iter().map(|batch| batch.body.lines().map(black_box).count()).sum::<usize>();
    }
}

/// What a question took, round after round.
#[derive(Default)]
struct Took {
    count: Vec<Duration>,
    bare: Vec<Duration>,
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64)
}

/// Asks every question, in turns, and checks each answer.
async fn ask(store: &dyn Store, entries: u32, rounds: usize) -> Result<()> {
    let questions = Question::all(entries);
    let truths: Vec<Counts> = questions.iter().map(|question| Counts::truth(question, entries)).collect();
    let mut took: Vec<Took> = questions.iter().map(|_| Took::default()).collect();
    for _ in 0..rounds {
        for ((question, truth), took) in questions.iter().zip(&truths).zip(&mut took) {
            let (filter, watch) = (question.filter(), Instant::now());
            walk(store, &filter).await?;
            took.bare.push(watch.elapsed());
            let watch = Instant::now();
            let found = affected(&mut *store.read().await?, &filter).await?;
            took.count.push(watch.elapsed());
            let told = Counts::told(&found);
            ensure!(told == *truth, "{}: told {told:?} and made {truth:?}", question.name);
        }
    }
    println!("| what is asked | entries | people | seconds | bare walk | ratio |\n|---|---|---|---|---|---|");
    for ((question, truth), took) in questions.iter().zip(&truths).zip(took) {
        let (count, bare) = (median(took.count), median(took.bare));
        let (name, ratio) = (question.name, count / bare.max(f64::EPSILON));
        println!("| {name} | {} | {} | {count:.3} | {bare:.3} | {ratio:.1} |", truth.entries, truth.people);
    }
    let watch = Instant::now();
    let witness = Witness { vault: [0; 16], keys: &[], checkpoints: &[], now: BEGUN };
    let verified = verify(&mut *store.read().await?, &witness).await?;
    ensure!((verified.entries, verified.faults.len()) == (entries.into(), 0), "the log does not verify");
    println!("| verification of the whole log | {entries} | | {:.3} | | |", watch.elapsed().as_secs_f64());
    Ok(())
}

async fn measure(url: &str, entries: u32, rounds: usize) -> Result<()> {
    let store = store::open(url).await?;
    let watch = Instant::now();
    write(&*store, entries).await?;
    let (rate, on) = (f64::from(entries) / watch.elapsed().as_secs_f64(), store.describe().await?);
    println!(
        "\n{on}: {entries} entries in batches of {}, written at {rate:.0} a second; median of {rounds}\n",
        BATCH.0
    );
    let asked = ask(&*store, entries, rounds).await;
    store.close().await;
    asked
}

#[tokio::main]
async fn main() -> Result<()> {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let (entries, rounds) = if measured { (ENTRIES.0, ROUNDS) } else { (ENTRIES.1, 1) };
    let folder = tempfile::tempdir().context("there is no place for a database")?;
    measure(&format!("sqlite:{}", folder.path().join("log.db").display()), entries, rounds).await?;
    #[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration but this")]
    let Ok(server) = std::env::var("LACUNA_TEST_POSTGRES") else { return Ok(()) };
    let scratch = Scratch::make(&server, Path::new(""), &format!("lacuna_bench_{}", std::process::id())).await?;
    let asked = measure(&scratch.url(), entries, rounds).await;
    scratch.discard().await?;
    asked
}
