//! `lacuna bench lookup`: how soon an agent knows who calls, in a vault with as many people as were asked for.
//!
//! A vault is opened in this process, in a temporary folder or on an empty database of PostgreSQL, and filled through its own
//! door. Then calls arrive at a fixed rate, whether or not those before them have been answered: a latency is counted from the
//! moment at which the call was due, so a vault that falls behind cannot hide it. Beside it the bare store reads the same
//! rows at the same rate: what is left is the transport, the search index, the decision, the keys and the durable record.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Status;

use super::load::{PURPOSE, check, field};
use super::measure::{Measure, Pace};
use super::own;
use super::report::{cores, whole};
use crate::cli::client::Vault;
use crate::cli::failure::Result;
use crate::cli::print::Answer;
use crate::cli::serve::Running;
use crate::cli::table;
use crate::crypto::{Random as _, SystemRandom};
use crate::model::{Clock as _, OpaqueToken, SubjectId, SystemClock, TokenRow};
use crate::platform;
use crate::proto::v1;
use crate::store::Store;

/// What an agent waits for, in microseconds: half of all look-ups, and all but one of a hundred.
const BUDGET: [u64; 2] = [5_000, 25_000];

/// Callers who are looked up, spread evenly over all.
const SAMPLE: usize = 20_000;

/// Values that are shown of each, as many as a look-up shows: the name and five more.
const SHOWN: usize = 6;

/// How many people there are, how often one calls, and where they are kept.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Look-ups")]
pub struct Load {
    /// People in the vault of `lookup`
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    callers: u32,
    /// Look-ups that arrive each second
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
}

/// Somebody who calls: their number, and where the store has it.
#[derive(Clone)]
struct Known {
    number: String,
    subject: SubjectId,
    row: TokenRow,
}

/// What came of the look-ups, or of the reads beside them.
struct Side {
    name: &'static str,
    measure: Measure,
    cpu: f64,
}

/// Fills a vault, measures look-ups and bare reads, and removes everything again.
pub async fn run(load: &Load, at: &own::Place, pace: Pace) -> Result<Answer> {
    let measured = at.with_vault(|running, door| async move {
        let known = fill(&running, &door, load, pace).await?;
        let store = running.vault.custody().share_store();
        measure(&door, &store, &known, load, pace).await
    });
    Ok(answer(load, at, pace, &measured.await?))
}

/// Has everybody kept, as an import would; answers some of them.
async fn fill(running: &Running, door: &Vault, load: &Load, pace: Pace) -> Result<Vec<Known>> {
    let ring = &running.vault.custody().ring;
    let all = usize::try_from(load.callers).unwrap_or(usize::MAX);
    let (every, part) = (all.div_ceil(SAMPLE).max(1), all.div_ceil(100).max(1));
    let in_flight = usize::try_from(pace.in_flight).unwrap_or(1);
    let mut keeping = stream::iter(0..all)
        .map(|number| {
            let mut tokens = door.tokens.clone();
            async move { Ok::<_, Status>((number, tokens.tokenize(person(number)).await?.into_inner())) }
        })
        .buffer_unordered(in_flight);
    let (mut known, mut kept, begun) = (Vec::new(), 0_usize, Instant::now());
    while let Some(done) = keeping.next().await {
        let (number, person) = done?;
        kept += 1;
        if kept.is_multiple_of(part) || kept == all {
            let done = 100 * kept / all;
            eprint!(
                "\rlookup: filling the vault [{:<20}] {done} %, {} s ",
                "#".repeat(done / 5),
                begun.elapsed().as_secs()
            );
        }
        if number.is_multiple_of(every) {
            let token = person.tokens.first().map(|token| token.token.as_str()).unwrap_or_default();
            let (subject, token) = (SubjectId::parse(&person.subject), OpaqueToken::parse(token));
            let subject = subject.map_err(|_| Status::internal("a subject has no id"))?;
            let token = token.map_err(|_| Status::internal("a token is none"))?;
            known.push(Known { number: number_of(number), subject, row: ring.row(token) });
        }
    }
    eprintln!();
    Ok(known)
}

async fn measure(door: &Vault, store: &Arc<dyn Store>, known: &[Known], load: &Load, pace: Pace) -> Result<[Side; 2]> {
    let (random, now) = (SystemRandom::new(), SystemClock.now());
    // So many that none of them is held up by the limit of an agent.
    let agents: Vec<String> = (0..load.rate.max(64)).map(|_| SubjectId::new(now, &random).to_string()).collect();
    eprintln!("lookup: measuring look-ups, then bare reads, {} s each", pace.span.as_secs());
    let look_up = |at: usize, one: &Known| {
        let mut calls = door.calls.clone();
        let request = v1::LookupByCallerRequest {
            number: one.number.clone(),
            region_hint: "DE".to_owned(),
            assurance: v1::CallerAssurance::Verified.into(),
            purpose: PURPOSE.to_owned(),
            agent: agents.get(at % agents.len().max(1)).cloned().unwrap_or_default(),
            ..Default::default()
        };
        async move {
            let answer = calls.lookup_by_caller(request).await?.into_inner();
            if answer.degraded {
                return Err(Status::deadline_exceeded("a look-up was degraded"));
            }
            check(&v1::DetokenizeResponse { results: answer.values }, SHOWN)
        }
    };
    let read = |_: usize, one: &Known| {
        let (store, one) = (Arc::clone(store), one.clone());
        async move { bare(&*store, &one).await.map_err(|error| Status::internal(error.to_string())) }
    };
    // What is read for the first time is read unmeasured, for both.
    let warm = Pace { span: pace.span / 10, ..pace };
    open_loop(known, load.rate, warm, &look_up).await?;
    let vault = side("look-ups", open_loop(known, load.rate, pace, &look_up)).await?;
    open_loop(known, load.rate, warm, &read).await?;
    let store = side("bare reads", open_loop(known, load.rate, pace, &read)).await?;
    Ok([vault, store])
}

/// Reads what a look-up reads of a person, and nothing of the index.
async fn bare(store: &dyn Store, one: &Known) -> crate::model::Result<()> {
    let mut tx = store.read().await?;
    tx.facts_for(&[(one.row, PURPOSE)], &[]).await?;
    tx.last_added(&[one.subject]).await?;
    tx.newest_facts(one.subject, PURPOSE, 6).await.map(drop)
}

/// Measures, with the time that this process has computed meanwhile, in cores.
async fn side(name: &'static str, work: impl Future<Output = anyhow::Result<Measure>>) -> anyhow::Result<Side> {
    let (computed, begun) = (platform::computed(), Instant::now());
    let measure = work.await?;
    let cpu = platform::computed().saturating_sub(computed).as_secs_f64() / begun.elapsed().as_secs_f64().max(0.001);
    Ok(Side { name, measure, cpu })
}

/// Calls that begin when they are due, whatever became of those before.
async fn open_loop<F>(
    known: &[Known],
    rate: u32,
    pace: Pace,
    call: &(impl Fn(usize, &Known) -> F + Sync),
) -> anyhow::Result<Measure>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (mut tasks, mut measure, random) = (JoinSet::new(), Measure::empty()?, SystemRandom::new());
    let begin = tokio::time::Instant::now();
    let calls = u64::from(rate).saturating_mul(u64::try_from(pace.span.as_millis()).unwrap_or(u64::MAX)) / 1000;
    for at in 0..calls.max(1) {
        let due = begin + Duration::from_nanos(at.saturating_mul(1_000_000_000) / u64::from(rate.max(1)));
        tokio::time::sleep_until(due).await;
        let (mut bytes, at) = ([0; 8], usize::try_from(at).unwrap_or_default());
        random.fill(&mut bytes);
        let drawn = usize::try_from(u64::from_le_bytes(bytes) >> 1).unwrap_or_default() % known.len().max(1);
        let Some(one) = known.get(drawn) else { break };
        let work = call(at, one);
        tasks.spawn(async move {
            let outcome = work.await;
            (due.elapsed(), outcome)
        });
        while let Some(done) = tasks.try_join_next() {
            note(&mut measure, done?);
        }
    }
    while let Some(done) = tasks.join_next().await {
        note(&mut measure, done?);
    }
    measure.elapsed = begin.elapsed();
    Ok(measure)
}

fn note(measure: &mut Measure, (late, outcome): (Duration, Result<(), Status>)) {
    let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
    match outcome {
        Ok(()) if measure.latencies.record(micros).is_ok() => {}
        Ok(()) => measure.fail(|| "a latency cannot be recorded".to_owned()),
        Err(status) => measure.fail(|| status.message().to_owned()),
    }
}

/// The number of a caller.
fn number_of(number: usize) -> String {
    format!("+4930{number:08}")
}

/// A caller: a number, a name and five more values.
fn person(number: usize) -> v1::TokenizeRequest {
    let salutation =
        v1::FieldInput { tags: vec!["salutation".to_owned()], ..field(v1::FieldType::Text, "Frau Dr.".to_owned()) };
    v1::TokenizeRequest {
        source: "bench:lookup".to_owned(),
        fields: vec![
            field(v1::FieldType::Phone, number_of(number)),
            field(v1::FieldType::PersonName, format!("Ada Lovelace {number}")),
            salutation,
            field(v1::FieldType::Email, format!("ada.{number}@example.com")),
            field(v1::FieldType::Text, format!("customer {number}")),
            field(v1::FieldType::PostalAddress, format!("{number} High Street, 10115 Berlin")),
            field(
                v1::FieldType::DateOfBirth,
                format!("19{:02}-{:02}-{:02}", number % 100, number % 12 + 1, number % 28 + 1),
            ),
        ],
        ..Default::default()
    }
}

impl Side {
    /// The latency that half of the calls did not have, that one of a hundred had, and the longest.
    fn latencies(&self) -> [u64; 3] {
        let of = &self.measure.latencies;
        [of.value_at_quantile(0.5), of.value_at_quantile(0.99), of.max()]
    }

    fn is_within(&self) -> bool {
        let [p50, p99, _] = self.latencies();
        self.measure.errors == 0 && p50 <= BUDGET[0] && p99 <= BUDGET[1]
    }

    fn json(&self) -> Value {
        let [p50, p99, longest] = self.latencies();
        json!({
            "what": self.name,
            "operations": self.measure.latencies.len(),
            "operations_per_second": self.measure.rate(),
            "p50_us": p50,
            "p99_us": p99,
            "max_us": longest,
            "cpu_cores": self.cpu,
            "errors": self.measure.errors,
            "first_error": self.measure.first_error,
        })
    }

    fn cells(&self) -> Vec<String> {
        let head = [self.name.to_owned(), whole(self.measure.rate())].into_iter();
        let latencies = self.latencies().map(|micros| micros.to_string());
        head.chain(latencies).chain([format!("{:.2}", self.cpu), self.measure.errors.to_string()]).collect()
    }
}

fn answer(load: &Load, at: &own::Place, pace: Pace, sides: &[Side; 2]) -> Answer {
    let [vault, _] = sides;
    let store = at.store();
    let json = json!({
        "machine": { "cores": cores() },
        "parameters": {
            "store": store,
            "callers": load.callers,
            "rate": load.rate,
            "buckets": at.buckets,
            "seconds": pace.span.as_secs(),
            "connections": 1,
        },
        "results": sides.iter().map(Side::json).collect::<Vec<_>>(),
        "budget": { "p50_us": BUDGET[0], "p99_us": BUDGET[1], "within": vault.is_within() },
    });
    let head = ["what", "a second", "p50 µs", "p99 µs", "max µs", "cores", "errors"];
    let mut human = table::table(&head, sides.iter().map(Side::cells));
    let _ = write!(
        human,
        "\n\n{}, {store}, {}, {} buckets; {} a second for {} s over 1 connection, counted from when each was due.\n\
         {} the budget of {} ms for half of them and {} ms for all but one of a hundred.",
        table::count(cores(), "core"),
        table::count(usize::try_from(load.callers).unwrap_or_default(), "person"),
        at.buckets,
        load.rate,
        pace.span.as_secs(),
        if vault.is_within() { "WITHIN" } else { "OVER" },
        BUDGET[0] / 1000,
        BUDGET[1] / 1000,
    );
    for (side, error) in sides.iter().filter_map(|side| Some((side, side.measure.first_error.as_ref()?))) {
        let _ = write!(human, "\n{} failed first with {error}", side.name);
    }
    Answer { json, human, failed: sides.iter().any(|side| side.measure.errors > 0) }
}
