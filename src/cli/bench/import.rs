//! `lacuna bench import`: how soon the calls of a telephone system are in the vault, beside what the bare store needs for the same rows.
//!
//! Rows as Asterisk writes them go through the door over one stream; people call again and again, and are found by their numbers. Then
//! everything that the store has of those calls is written once more under other names, in transactions of as many calls as a stream has
//! under way: what is left between the two is the transport, the search, the keys, the seals and the durable record of the audit.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tonic::Status;

use super::own;
use super::report::{cores, whole};
use crate::cli::client::Vault;
use crate::cli::failure::Result;
use crate::cli::print::Answer;
use crate::cli::serve::Running;
use crate::cli::table;
use crate::crypto::SystemRandom;
use crate::model::{
    Call, CallFilter, CallId, Clock as _, Leg, Party, PartyValue, Subject, SubjectId, SystemClock, Token, TokenRow,
};
use crate::proto::v1;
use crate::store::Store;

/// How often somebody calls.
const CALLS_EACH: u32 = 5;
/// Agents who answer.
const AGENTS: u32 = 50;
/// Calls of which a transaction of the bare store writes everything.
const TOGETHER: usize = 32;
/// Calls that are read at once.
const PAGE: u32 = 500;
/// Which system told of the calls, and of their copies.
const SYSTEM: &str = "bench";
const AGAIN: &str = "again";
/// When the first call was.
const BEGIN: i64 = 1_767_225_600;

/// How many calls there are.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Imports")]
pub struct Volume {
    /// Calls that `import` records
    #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u32).range(32..=10_000_000))]
    rows: u32,
}

/// What the store has of some calls.
#[derive(Default)]
struct Rows {
    subjects: Vec<Subject>,
    tokens: Vec<Token>,
    calls: Vec<Call>,
    legs: Vec<Leg>,
    parties: Vec<Party>,
    values: Vec<PartyValue>,
}

/// Imports, writes the same once more, and compares.
pub async fn run(load: &Volume, place: &own::Place) -> Result<Answer> {
    let [import, bare] = place.with_vault(|running, door| measure(running, door, load.rows)).await?;
    let rate = |took: Duration| f64::from(load.rows) / took.as_secs_f64().max(0.001);
    let (ratio, callers) = (rate(import) / rate(bare), load.rows.div_ceil(CALLS_EACH));
    let sides = [("import", import), ("bare inserts", bare)];
    let json = json!({
        "machine": { "cores": cores() },
        "parameters": { "store": place.store(), "rows": load.rows, "callers": callers, "agents": AGENTS, "streams": 1 },
        "results": sides.map(|(what, took)| json!({ "what": what, "rows_per_second": rate(took), "seconds": took.as_secs_f64() })),
        "ratio": ratio,
    });
    let cells =
        sides.map(|(what, took)| vec![what.to_owned(), whole(rate(took)), format!("{:.1}", took.as_secs_f64())]);
    let human = format!(
        "{}\n\n{}, {}, {} of {}; the import reaches {:.0} % of the bare store's rate.",
        table::table(&["what", "calls/s", "seconds"], cells.into_iter()),
        table::count(cores(), "core"),
        place.store(),
        table::count(usize::try_from(load.rows).unwrap_or_default(), "call"),
        table::count(usize::try_from(callers).unwrap_or_default(), "caller"),
        100.0 * ratio,
    );
    Ok(Answer { json, human, failed: false })
}

async fn measure(running: Arc<Running>, door: Vault, rows: u32) -> Result<[Duration; 2]> {
    eprintln!("import: {rows} calls through the door");
    let import = import(door, rows).await?;
    let store = running.vault.custody().share_store();
    drop(running);
    eprintln!("import: the same rows into the bare store");
    Ok([import, write_again(&*store).await?])
}

async fn import(mut door: Vault, rows: u32) -> Result<Duration> {
    let begun = Instant::now();
    let asked = tokio_stream::iter((0..rows).map(|number| v1::ImportCdrRequest {
        mapping: (number == 0).then(mapping),
        row: Some(v1::CdrRow { row: number.into(), content: row(number) }),
    }));
    let mut told = door.calls.import_cdr(asked).await?.into_inner();
    let mut kept = 0;
    while let Some(answer) = told.message().await? {
        match answer.outcome {
            Some(v1::import_cdr_response::Outcome::Leg(_)) => kept += 1,
            other => Err(Status::internal(format!("a row was not recorded: {other:?}")))?,
        }
    }
    if kept != rows {
        Err(Status::internal(format!("{kept} of {rows} rows were answered")))?;
    }
    Ok(begun.elapsed())
}

fn mapping() -> v1::CdrMapping {
    let directions = [("from-trunk".to_owned(), v1::CallDirection::Inbound.into())];
    v1::CdrMapping {
        format: v1::CdrFormat::AsteriskCsv.into(),
        source_system: SYSTEM.to_owned(),
        columns: [("agent_id".to_owned(), "accountcode".to_owned())].into(),
        directions: directions.into(),
        ..Default::default()
    }
}

/// A call of somebody who calls again: neighbours in the file are other people.
fn row(number: u32) -> String {
    let at = |after: u32| {
        let moment = Timestamp::from_second(BEGIN + i64::from(number) * 7 + i64::from(after)).unwrap_or_default();
        moment.strftime("%F %T").to_string()
    };
    let (caller, agent, talked) = (number / CALLS_EACH, number % AGENTS, 30 + number % 600);
    // Each of a thousand takes their turn before the first calls again.
    let caller = caller - caller % 1000 + number % 1000;
    let id = format!("{}.{number}", BEGIN + i64::from(number) * 7);
    format!(
        "agent-{agent},+4930{caller:08},+498001234,from-trunk,\"\"\"Caller {caller}\"\" <+4930{caller:08}>\",\
         PJSIP/trunk-{number:08x},PJSIP/{agent}-{number:08x},Queue,billing,{},{},{},{},{talked},ANSWERED,\
         DOCUMENTATION,{id},,,{id},{number}",
        at(0),
        at(9),
        at(9 + talked),
        9 + talked,
    )
}

/// Writes everything that there is of calls once more, under other names; answers how long the writing took.
async fn write_again(store: &dyn Store) -> anyhow::Result<Duration> {
    let (mut took, mut after) = (Duration::ZERO, None);
    let mut names = Names { random: SystemRandom::new(), subjects: HashMap::new(), tokens: HashMap::new() };
    loop {
        let read = read(store, after).await?;
        let Some(last) = read.calls.last() else { return Ok(took) };
        after = Some(last.id);
        for rows in read.renamed(&mut names) {
            let begun = Instant::now();
            rows.write(store).await?;
            took += begun.elapsed();
        }
    }
}

async fn read(store: &dyn Store, after: Option<CallId>) -> anyhow::Result<Rows> {
    let mut tx = store.read().await?;
    let mut calls = tx.list_calls(&CallFilter::default(), after, PAGE).await?;
    calls.retain(|call| call.system == SYSTEM);
    let ids: Vec<CallId> = calls.iter().map(|call| call.id).collect();
    let (legs, parties) = (tx.legs_of(&ids).await?, tx.parties_of(&ids).await?);
    let values = tx.party_values_of(&ids).await?;
    let named = values.iter().map(|value| value.token).chain(legs.iter().filter_map(|leg| leg.digest));
    let named: Vec<TokenRow> = named.collect::<BTreeSet<_>>().into_iter().collect();
    let tokens = tx.facts(&named, &[]).await?.into_iter().map(|facts| facts.token).collect();
    let people: BTreeSet<SubjectId> = parties.iter().map(|party| party.subject).collect();
    let subjects = tx.subjects(&people.into_iter().collect::<Vec<_>>()).await?;
    Ok(Rows { subjects, tokens, calls, legs, parties, values })
}

/// The other name of a call, and the part that it is in.
fn copied<'r>(
    calls: &HashMap<CallId, (CallId, usize)>,
    parts: &'r mut [Rows],
    call: &CallId,
) -> Option<(CallId, &'r mut Rows)> {
    let (id, part) = calls.get(call)?;
    Some((*id, parts.get_mut(*part)?))
}

/// The other names of what was copied.
struct Names {
    random: SystemRandom,
    subjects: HashMap<SubjectId, SubjectId>,
    tokens: HashMap<TokenRow, TokenRow>,
}

impl Names {
    fn subject(&mut self, id: SubjectId) -> SubjectId {
        *self.subjects.entry(id).or_insert_with(|| SubjectId::new(SystemClock.now(), &self.random))
    }

    fn token(&mut self, row: TokenRow) -> TokenRow {
        *self.tokens.entry(row).or_insert_with(|| TokenRow::new(SystemClock.now(), &self.random))
    }
}

impl Rows {
    /// The same under other names, in as many parts as there are transactions. Who was copied before is not copied again.
    fn renamed(mut self, names: &mut Names) -> Vec<Self> {
        self.subjects.retain(|subject| !names.subjects.contains_key(&subject.id));
        self.tokens.retain(|token| !names.tokens.contains_key(&token.row));
        for subject in &mut self.subjects {
            subject.id = names.subject(subject.id);
        }
        for token in &mut self.tokens {
            (token.row, token.subject) = (names.token(token.row), names.subject(token.subject));
        }
        let mut calls: HashMap<CallId, (CallId, usize)> = HashMap::new();
        let parts = self.calls.chunks(TOGETHER).enumerate();
        let mut parts: Vec<Self> = parts
            .map(|(part, of)| {
                let of = of.iter().map(|call| {
                    let id = CallId::new(SystemClock.now(), &names.random);
                    calls.insert(call.id, (id, part));
                    Call { id, system: AGAIN.to_owned(), ..call.clone() }
                });
                Self { calls: of.collect(), ..Self::default() }
            })
            .collect();
        for leg in self.legs {
            let Some((call, rows)) = copied(&calls, &mut parts, &leg.call) else { continue };
            let digest = leg.digest.map(|row| names.token(row));
            rows.legs.push(Leg { call, system: AGAIN.to_owned(), digest, ..leg });
        }
        for party in self.parties {
            let Some((call, rows)) = copied(&calls, &mut parts, &party.call) else { continue };
            rows.parties.push(Party { call, subject: names.subject(party.subject), ..party });
        }
        for value in self.values {
            let Some((call, rows)) = copied(&calls, &mut parts, &value.call) else { continue };
            rows.values.push(PartyValue { call, token: names.token(value.token), ..value });
        }
        // Whoever a page tells of comes with its first calls, so that rows that name others find them.
        if let Some(first) = parts.first_mut() {
            (first.subjects, first.tokens) = (self.subjects, self.tokens);
        }
        parts
    }

    async fn write(self, store: &dyn Store) -> anyhow::Result<()> {
        let mut tx = store.write().await?;
        tx.insert_subjects(&self.subjects).await?;
        tx.insert_tokens(&self.tokens).await?;
        tx.insert_calls(&self.calls).await?;
        tx.put_legs(&self.legs).await?;
        tx.insert_parties(&self.parties).await?;
        tx.put_party_values(&self.values).await?;
        Ok(tx.commit().await?)
    }
}
