//! Writes shared by concurrent callers: new values and audit entries that wait at the same time become durable in
//! one transaction, at the price of one sync to disk.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::audit::{Entry, Head, outcome};
use super::brake::honey::Pot;
use super::brake::{self, Alarm, enumeration};
use super::call::{Appended, Choice};
use super::keep::keep_tokens;
use super::together::{Failure, Together};
use crate::batch::{Batch, Limits};
use crate::crash;
use crate::keys::Custody;
use crate::keys::checkpoint::hex;
use crate::keys::doubt::Doubt;
use crate::keys::index::Spot;
use crate::keys::leaves::Leaf;
use crate::model::{
    Call, CallEvent, CallField, Clock, Cohort, Error, Leg, OutboxEvent, Part, PartId, Party, Reason, RequestId, Result,
    Span, Subject, SubjectId, Time, Token, TokenRow, TokenState,
};
use crate::store::Tx;
use crate::store::brake::Used;
use crate::store::index::Generation;
use crate::store::key::SubjectKey;
use crate::store::node::NodeId;
use crate::store::suppression::Name;

/// Something to be made durable.
pub enum Write {
    /// A call, or what is new of one, with the values of its parties.
    Call(Box<NewCall>),
    /// Something that happened during a call.
    Event(Box<NewEvent>),
    /// A part of a call, with the values that are kept of it.
    Part(Box<NewPart>),
    /// Values with their tokens, and perhaps the subject they are of.
    Tokens(Box<NewTokens>),
    /// A record of what is about to be answered.
    Record(Box<Record>),
}

/// What came of it.
pub enum Written {
    /// Of [`Write::Call`].
    Call,
    /// Of [`Write::Event`].
    Event(Appended),
    /// Of [`Write::Part`].
    Part,
    /// Of [`Write::Tokens`].
    Tokens(Tokenized),
    /// Of [`Write::Record`]: the single-use tokens that this record, and no other, has spent.
    Recorded(Vec<TokenRow>),
}

/// Values to be kept.
pub struct NewTokens {
    /// Who asks.
    pub caller: String,
    /// The id of the call.
    pub call: String,
    /// The rpc.
    pub deed: &'static str,
    /// Makes the write idempotent.
    pub request: Option<RequestId>,
    /// Whose values.
    pub owner: Owner,
    /// Whether they are told again and again, as with each call of a person: what the owner has already is then used, and of
    /// nobody else. Somebody new is opened in any case.
    pub told: bool,
    /// The part of a call that they are of, which has keys of its own.
    pub part: Option<PartId>,
    /// Keys that the subject did not have yet.
    pub keys: Vec<SubjectKey>,
    /// Their leaves.
    pub leaves: Vec<Leaf>,
    /// The values.
    pub fields: Vec<NewToken>,
}

/// A call, or what is new of one, as it is to be if nobody has changed it since it was read.
pub struct NewCall {
    /// Who asks.
    pub caller: String,
    /// The id of the rpc's call.
    pub request_name: String,
    /// The rpc.
    pub deed: &'static str,
    /// Makes the write idempotent.
    pub request: Option<RequestId>,
    /// The version that was read; `None` of a call that is new.
    pub read: Option<u64>,
    /// What it is then.
    pub call: Call,
    /// The leg that is told.
    pub leg: Leg,
    /// Who comes to it.
    pub parties: Vec<Party>,
    /// Everybody in the leg, for the audit.
    pub subjects: Vec<SubjectId>,
    /// Values to be kept, by whose they are.
    pub told: Vec<Told>,
    /// Tokens whose values others take the place of.
    pub replaced: Vec<Token>,
}

/// Something that happened during a call.
pub struct NewEvent {
    /// Who asks.
    pub caller: String,
    /// The id of the rpc's call.
    pub request_name: String,
    /// The rpc.
    pub deed: &'static str,
    /// What has happened.
    pub event: CallEvent,
    /// To whom.
    pub subject: Option<SubjectId>,
    /// What becomes of what was recorded before an objection.
    pub span: Span,
}

/// A part of a call, as it is to be unless there is one of its name.
pub struct NewPart {
    /// The part.
    pub part: Part,
    /// The leg that it is told with, which has to say the same still.
    pub of: Option<ToldLeg>,
    /// What is kept of it.
    pub new: NewTokens,
    /// Makes the write idempotent.
    pub request: Option<RequestId>,
    /// Most parts that its call may have.
    pub most: usize,
}

/// A revision of a leg that parts are told with.
#[derive(Clone)]
pub struct ToldLeg {
    /// Which system tells of the leg.
    pub system: String,
    /// What that calls it.
    pub source_id: String,
    /// Counts what it says.
    pub revision: u64,
}

impl ToldLeg {
    /// Whether a leg is the one, and says what it said.
    #[must_use]
    pub fn is(&self, leg: &Leg) -> bool {
        leg.system == self.system && leg.source_id == self.source_id && leg.revision == self.revision
    }
}

/// Values of one subject that are told with a call.
pub struct Told {
    /// The values.
    pub new: NewTokens,
    /// Of each, which party's and what it is; `None` for what is no party's.
    pub of: Vec<Option<(u8, CallField)>>,
    /// By what the subject was looked for, and who was found.
    pub sought: Vec<Sought>,
}

/// How a subject was looked for by a value.
pub struct Sought {
    /// Which of the values.
    pub field: usize,
    /// The mark of an agent's name; `None` of whoever is no agent.
    pub agent: Option<String>,
    /// What was found.
    pub choice: Choice,
}

/// Whose values are kept.
pub enum Owner {
    /// Someone new.
    New(Subject),
    /// Someone the vault has.
    Known(SubjectId),
}

impl Owner {
    /// Their pseudonym.
    pub const fn subject(&self) -> SubjectId {
        match self {
            Self::New(subject) => subject.id,
            Self::Known(id) => *id,
        }
    }
}

/// One sealed value with its token.
pub struct NewToken {
    /// The token.
    pub token: Token,
    /// The month of the key that it was sealed under.
    pub cohort: Option<Cohort>,
    /// The value's places in the search index, when it is searchable: in the generations that were written a moment
    /// ago.
    pub spots: Vec<Spot>,
    /// The value's name on the suppression list, when it is a way to reach one person.
    pub name: Option<Name>,
    /// Whether a token for the same value is to be used instead, if there is one.
    pub deduplicate: bool,
    /// For another shape, should this one be taken; another seal, should its key be retiring; another place, should
    /// the index be rotated.
    pub value: Arc<crate::model::Value>,
}

impl Write {
    /// The values that it keeps, by whose they are.
    pub fn tokens(&self) -> Vec<&NewTokens> {
        match self {
            Self::Call(call) => call.told.iter().map(|told| &told.new).collect(),
            Self::Part(part) => vec![&part.new],
            Self::Event(_) | Self::Record(_) => Vec::new(),
            Self::Tokens(new) => vec![new],
        }
    }

    /// Tokens whose values others take the place of.
    pub fn replaced(&self) -> &[Token] {
        match self {
            Self::Call(call) => &call.replaced,
            Self::Event(_) | Self::Part(_) | Self::Record(_) | Self::Tokens(_) => &[],
        }
    }
}

impl NewToken {
    /// Whether the value's place in a generation has been worked out.
    pub fn is_in(&self, generation: &Generation) -> bool {
        self.spots.iter().any(|spot| spot.is_in(generation))
    }
}

/// What was kept.
#[derive(Clone)]
pub struct Tokenized {
    /// Whose values; `None` when every value was there already and nobody new was opened.
    pub subject: Option<SubjectId>,
    /// One token for each value, in order.
    pub tokens: Vec<(Token, TokenState)>,
    /// How the subject is about direct marketing.
    pub objection: Objection,
}

/// How a person is about direct marketing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Objection {
    /// No objection is known.
    #[default]
    None,
    /// They object to it.
    Known,
    /// They were found to, by a value that was just kept. Until then they may have been permitted it.
    Found,
}

/// An audit entry, with what becomes durable together with it.
pub struct Record {
    /// The entry.
    pub entry: Entry,
    /// Single-use tokens that are spent.
    pub spend: Vec<TokenRow>,
    /// What the caller has used of its limits.
    pub used: Vec<Used>,
    /// What is told beside it.
    pub alarm: Option<Entry>,
}

impl Record {
    /// An entry alone.
    pub const fn of(entry: Entry) -> Self {
        Self { entry, spend: Vec::new(), used: Vec::new(), alarm: None }
    }
}

/// The shared writes.
pub type Writes = Batch<Write, Result<Written>>;

/// Starts them.
pub fn start(custody: Arc<Custody>, clock: Arc<dyn Clock>, chain: NodeId, brakes: &brake::Brakes) -> Writes {
    let limits = Limits { weight: 2000, in_flight: 1, waiting: 8192 };
    let writer = Arc::new(Writer {
        custody,
        clock,
        chain,
        process: *brakes.process(),
        honey: brakes.honey(),
        head: Mutex::new(None),
    });
    Batch::start(limits, weigh, move |writes: Vec<Write>| {
        let writer = Arc::clone(&writer);
        async move { writer.run(&writes).await }
    })
}

fn weigh(write: &Write) -> usize {
    match write {
        Write::Call(_) | Write::Part(_) | Write::Tokens(_) => {
            write.tokens().iter().map(|new| 1 + new.fields.len()).sum()
        }
        Write::Event(_) => 1,
        Write::Record(record) => 1 + record.entry.touched.len(),
    }
}

struct Writer {
    custody: Arc<Custody>,
    clock: Arc<dyn Clock>,
    /// The audit chain that this process writes.
    chain: NodeId,
    /// Whose counts of what callers have used these are.
    process: [u8; 16],
    honey: Arc<Pot>,
    /// Where the audit chain stands; read again after a failure.
    head: Mutex<Option<Head>>,
}

#[async_trait]
impl Together for Writer {
    type Item = Write;
    type Outcome = Written;

    async fn transact(&self, writes: &[&Write]) -> Result<Vec<Result<Written>>, Failure> {
        let known_head = self.head.lock().unwrap_or_else(PoisonError::into_inner).take();
        let now = self.clock.now();
        let mut tx = self.custody.store().write().await.map_err(Failure::NotBegun)?;
        let (mut tokens, found, doubt) = keep_tokens(&self.custody, &mut *tx, writes, now).await?;
        let mut spent = spend(&mut *tx, writes, now).await?;
        self.count(&mut *tx, writes).await?;
        let mut records: Vec<Option<Settled<'_>>> = writes.iter().map(|write| settle(write, &mut spent)).collect();
        let alarms = self.alarms(&mut *tx, &records, &found).await?;
        let mut entries: Vec<&Entry> = records.iter().flatten().map(|record| &*record.entry).collect();
        entries.extend(&found);
        entries.extend(alarms.iter().map(|alarm| &alarm.entry));
        let mut head = match known_head {
            Some(head) => head,
            None => Head::read(&mut *tx, self.chain).await?,
        };
        if !entries.is_empty() {
            head = head.append(&mut *tx, &entries, now).await?;
        }
        crash::point("write::before-commit");
        tx.commit().await.map_err(Failure::InCommit)?;
        doubt.into_iter().for_each(Doubt::resolve);
        crash::point("write::after-commit");
        alarms.iter().for_each(brake::tell);
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
        Ok(writes
            .iter()
            .zip(&mut records)
            .enumerate()
            .map(|(at, (_, record))| match record {
                Some(record) => Ok(Written::Recorded(std::mem::take(&mut record.spent))),
                None => tokens.remove(&at).unwrap_or_else(|| Err(Error::internal("a write got lost"))),
            })
            .collect())
    }
}

impl Writer {
    /// What is to be told of honey that was touched and of enumeration that is suspected, in the transaction of the entries.
    async fn alarms(&self, tx: &mut dyn Tx, records: &[Option<Settled<'_>>], found: &[Entry]) -> Result<Vec<Alarm>> {
        let (mut alarms, now, random) = (Vec::new(), self.clock.now(), self.custody.ring.random());
        for entry in records.iter().flatten().map(|record| &*record.entry).chain(found) {
            alarms.extend(self.honey.alarm(entry, random, now)?);
        }
        let suspected = records.iter().flatten().filter_map(|record| record.alarm);
        alarms.extend(suspected.map(|told| enumeration::alarm(told, random, now)));
        let events: Vec<OutboxEvent> = alarms.iter().flat_map(|alarm: &Alarm| alarm.events.iter().cloned()).collect();
        tx.tell_alarms(&self.process, &events).await?;
        Ok(alarms)
    }

    /// Adds to what callers have used of their limits.
    async fn count(&self, tx: &mut dyn Tx, writes: &[&Write]) -> Result<()> {
        let used = writes.iter().flat_map(|write| match write {
            Write::Record(record) => record.used.as_slice(),
            Write::Call(_) | Write::Event(_) | Write::Part(_) | Write::Tokens(_) => &[],
        });
        let used = brake::together(used);
        if used.is_empty() { Ok(()) } else { tx.add_used(&self.process, &used).await }
    }
}

/// What a record comes to.
struct Settled<'w> {
    entry: Cow<'w, Entry>,
    /// What it, and no other, has spent.
    spent: Vec<TokenRow>,
    alarm: Option<&'w Entry>,
}

/// Gives a record those of the tokens it asks for that nobody before it was given. Of the others its entry says that they
/// were spent already.
fn settle<'w>(write: &'w Write, left: &mut HashSet<TokenRow>) -> Option<Settled<'w>> {
    let Write::Record(record) = write else { return None };
    let spent: Vec<TokenRow> = record.spend.iter().copied().filter(|row| left.remove(row)).collect();
    if spent.len() == record.spend.len() {
        return Some(Settled { entry: Cow::Borrowed(&record.entry), spent, alarm: record.alarm.as_ref() });
    }
    let (mut entry, mut given) = (record.entry.clone(), HashSet::new());
    given.extend(spent.iter().map(|row| hex(row.as_bytes())));
    let asked: HashSet<String> = record.spend.iter().map(|row| hex(row.as_bytes())).collect();
    for one in entry.touched.iter_mut().filter(|one| one.outcome == outcome::OK && asked.contains(&*one.row)) {
        if !given.remove(&*one.row) {
            one.outcome = Cow::Owned(outcome::refused(Reason::TokenSpent));
        }
    }
    Some(Settled { entry: Cow::Owned(entry), spent, alarm: record.alarm.as_ref() })
}

/// Spends single-use tokens and answers which were not spent before.
async fn spend(tx: &mut dyn Tx, writes: &[&Write], now: Time) -> Result<HashSet<TokenRow>> {
    let mut rows: Vec<TokenRow> = writes
        .iter()
        .filter_map(|write| match write {
            Write::Record(record) => Some(record.spend.iter().copied()),
            Write::Call(_) | Write::Event(_) | Write::Part(_) | Write::Tokens(_) => None,
        })
        .flatten()
        .collect();
    if rows.is_empty() {
        return Ok(HashSet::new());
    }
    rows.sort_unstable();
    rows.dedup();
    Ok(tx.spend_tokens(&rows, now).await?.into_iter().collect())
}
