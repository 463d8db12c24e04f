//! Appending to the ledger: what is told at the same time becomes durable in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::chain::{Chain, MOST_EVENTS, stood};
use super::record::{Age, Given};
use super::rules::{self, Deed, Suppression};
use super::{Library, tell};
use crate::batch::{Batch, Limits};
use crate::crash;
use crate::keys::Custody;
use crate::model::{
    Clock, ConsentEvent, ConsentEventId, ConsentState, Error, EventKind, Mode, Purpose, RequestId, Result, Standing,
    Subject, SubjectId, Time,
};
use crate::policy::Catalogue;
use crate::store::Tx;
use crate::store::consent::Stood;
use crate::store::journal::Mark;
use crate::store::request::Answer;
use crate::vault::answer;
use crate::vault::subject::unknown;
use crate::vault::together::{Failure, Together};

/// The rpc, for its answers.
pub(super) const DEED: &str = "RecordConsent";

/// How many share a transaction at most: an embedded vault's audit waits as long.
const MOST: usize = 16;

/// An event that is to be appended.
pub struct Append {
    /// Who tells.
    pub caller: String,
    /// What they tell.
    pub event: ConsentEvent,
    /// When it was expressed, if not now.
    pub effective_at: Option<Time>,
    /// Append nothing where there is nothing left to withdraw.
    pub once: bool,
    /// Makes it idempotent.
    pub request: Option<RequestId>,
    /// Whether the person decides alone.
    pub(super) age: Age,
}

/// The shared appends.
pub type Appends = Batch<Append, Result<Given>>;

/// Starts them.
pub fn start(custody: Arc<Custody>, library: Arc<Library>, clock: Arc<dyn Clock>) -> Appends {
    // One at a time, because several that lock the same people in turn would only wait for each other.
    let limits = Limits { weight: MOST, in_flight: 1, waiting: 8192 };
    let ledger = Arc::new(Ledger { custody, library, clock });
    Batch::start(
        limits,
        |_| 1,
        move |appends: Vec<Append>| {
            let ledger = Arc::clone(&ledger);
            async move { ledger.run(&appends).await }
        },
    )
}

struct Ledger {
    custody: Arc<Custody>,
    library: Arc<Library>,
    clock: Arc<dyn Clock>,
}

/// What is appended, found to fit.
struct Decided {
    /// As it is then.
    person: Subject,
    chain: Chain,
    stood: Vec<Stood>,
    suppression: Suppression,
}

/// What an append comes to.
enum Decision {
    New(Box<Decided>),
    /// The same request was faster, or there is nothing left to withdraw.
    Known(Given),
}

#[async_trait]
impl Together for Ledger {
    type Item = Append;
    type Outcome = Given;

    async fn transact(&self, appends: &[&Append]) -> Result<Vec<Result<Given>>, Failure> {
        let mut tx = self.custody.store().write().await.map_err(Failure::NotBegun)?;
        let mut ids: Vec<SubjectId> = appends.iter().map(|append| append.event.subject).collect();
        ids.sort_unstable();
        ids.dedup();
        let people = tx.lock_subjects(&ids).await?;
        let mut people: BTreeMap<SubjectId, Subject> = people.into_iter().map(|person| (person.id, person)).collect();
        let catalogue = self.library.read_in(&mut *tx).await?;
        let now = self.clock.now();
        let mut outcomes = Vec::with_capacity(appends.len());
        for append in appends {
            outcomes.push(match self.decide(&mut *tx, &catalogue, &people, append, now).await {
                Ok(Decision::Known(given)) => Ok(given),
                Ok(Decision::New(decided)) => {
                    people.insert(decided.person.id, decided.person.clone());
                    Ok(self.write(&mut *tx, append, *decided, now).await?)
                }
                Err(error) if error.is_refusal() => Err(error),
                Err(error) => return Err(error.into()),
            });
        }
        crash::point("consent::before-commit");
        tx.commit().await.map_err(Failure::InCommit)?;
        crash::point("consent::recorded");
        Ok(outcomes)
    }
}

impl Ledger {
    /// Whether an event fits what is there; writes nothing.
    async fn decide(
        &self,
        tx: &mut dyn Tx,
        catalogue: &Catalogue,
        people: &BTreeMap<SubjectId, Subject>,
        append: &Append,
        now: Time,
    ) -> Result<Decision> {
        let mut event = append.event.clone();
        let mut person = people.get(&event.subject).cloned().ok_or_else(|| unknown(event.subject))?;
        if let Some(answer) = answer::given(tx, &append.caller, DEED, append.request).await? {
            return recorded(tx, &answer).await.map(Decision::Known);
        }
        let deed = Deed { catalogue, person: &person, age: append.age, now };
        let purpose = deed.complete(&mut event, append.effective_at)?;
        if append.once && is_withdrawn(tx, catalogue, &purpose, &event).await? {
            return Ok(Decision::Known(Vec::new()));
        }
        event.caller.clone_from(&append.caller);
        event.id = ConsentEventId::new(now, self.custody.ring.random());
        let mut chain = Chain::of(tx, event.subject).await?;
        let mut stood = vec![follow(tx, &mut chain, &purpose, &mut event.clone(), &person).await?];
        if event.kind.says_no() {
            for below in catalogue.below(&purpose.code) {
                let mut event = ConsentEvent {
                    id: ConsentEventId::new(now, self.custody.ring.random()),
                    purpose: below.code.clone(),
                    purpose_version: below.version,
                    along_with: Some(event.id),
                    supersedes: None,
                    evidence: Vec::new(),
                    ..event.clone()
                };
                // What nobody may object to is not objected to.
                if rules::check_kind(below, &event).is_ok() {
                    stood.push(follow(tx, &mut chain, below, &mut event, &person).await?);
                }
            }
        }
        let newest = newest_objection(tx, catalogue, &event).await?;
        let suppression = Suppression::of(&purpose, &event, newest, &mut person);
        Ok(Decision::New(Box::new(Decided { person, chain, stood, suppression })))
    }

    async fn write(&self, tx: &mut dyn Tx, append: &Append, decided: Decided, now: Time) -> Result<Given> {
        let Decided { person, chain, stood, suppression } = decided;
        let mut marks: Vec<Mark> =
            chain.added.iter().map(|added| Mark::ConsentEvent(person.id, added.number)).collect();
        let switched = suppression != Suppression::Stays;
        if switched {
            tx.update_subjects(std::slice::from_ref(&person)).await?;
            marks.push(Mark::Subject(person.id));
        }
        match suppression {
            Suppression::Begins => self.custody.suppress(tx, person.id).await?,
            Suppression::Ends => self.custody.release(tx, person.id).await?,
            Suppression::Stays => {}
        }
        tx.mark(&marks).await?;
        tx.insert_consent_events(&chain.added).await?;
        tx.put_standings(&stood, now).await?;
        tx.tell(&tell::of_entries(&chain.added, switched, now, self.custody.ring.random())).await?;
        let ids: Vec<String> = chain.added.iter().map(|recorded| recorded.event.id.to_string()).collect();
        let of = answer::Keep { caller: &append.caller, deed: DEED, request: append.request, subject: Some(person.id) };
        answer::keep(tx, &of, ids.join(","), now).await?;
        Ok(chain.added)
    }
}

/// What an earlier answer told of.
pub(super) async fn recorded(tx: &mut dyn Tx, answer: &Answer) -> Result<Given> {
    let mut given = Vec::new();
    for id in answer.answer.split(',') {
        let event = tx.consent_event(id.parse()?).await?;
        given.push(event.ok_or_else(|| Error::internal("a consent event is gone"))?);
    }
    Ok(given)
}

/// Appends an event to a chain and answers how the consents to its purpose stand then.
async fn follow(
    tx: &mut dyn Tx,
    chain: &mut Chain,
    purpose: &Purpose,
    event: &mut ConsentEvent,
    person: &Subject,
) -> Result<Stood> {
    let recorded = tx.consent_events(person.id, &purpose.code, 0, MOST_EVENTS).await?;
    let mut events: Vec<ConsentEvent> = recorded.into_iter().map(|recorded| recorded.event).collect();
    let before = Standing::of(&events, event.effective_at);
    rules::check_follows(purpose, person, event, &before, &events)?;
    events.push(event.clone());
    let after = Standing::of(&events, event.effective_at).consent(event.channel);
    event.state = after.state_at(event.effective_at);
    chain.push(event)?;
    Ok(stood(purpose, person.id, &events))
}

/// When the person of an event that takes an objection back last objected to direct marketing, whichever purpose they
/// named: their record tells only since when they do.
async fn newest_objection(tx: &mut dyn Tx, catalogue: &Catalogue, event: &ConsentEvent) -> Result<Option<Time>> {
    if event.kind != EventKind::WithdrawObjection {
        return Ok(None);
    }
    let (mut newest, mut after) = (None, 0);
    loop {
        let page = tx.consent_events(event.subject, "", after, MOST_EVENTS).await?;
        let Some(last) = page.last() else { return Ok(newest) };
        after = last.number;
        newest = newest.max(rules::newest_objection(catalogue, page.iter().map(|recorded| &recorded.event)));
    }
}

/// Whether a withdrawal would end nothing, neither of its purpose nor of one below.
async fn is_withdrawn(tx: &mut dyn Tx, catalogue: &Catalogue, purpose: &Purpose, event: &ConsentEvent) -> Result<bool> {
    use ConsentState::{Given, Invalidated, Pending, Refused, Renewed, Revoked, Withdrawn};
    let below: Vec<&Purpose> = catalogue.below(&purpose.code).collect();
    let of: Vec<_> =
        std::iter::once(purpose).chain(below.iter().copied()).map(|one| (event.subject, one.code.as_str())).collect();
    let stood = tx.standings(&of).await?;
    let consent = |one: &Purpose| {
        let found = stood.iter().find(|stood| stood.purpose == one.code);
        found.map(|found| found.standing.consent(event.channel)).unwrap_or_default()
    };
    let may_permit = |one: &&Purpose| {
        let consent = consent(one);
        // What waits to be confirmed may be one day.
        matches!(consent.state, Given | Renewed | Pending) || (one.mode == Mode::OptOut && !consent.silence_is_no)
    };
    let ended = matches!(consent(purpose).state, Withdrawn | Refused | Revoked | Invalidated);
    Ok(ended && !below.iter().any(may_permit))
}
