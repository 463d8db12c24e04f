//! What an entry of the journal says.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::keys::checkpoint::{hex, unhex};
use crate::model::{
    ConsentEvent, Erasure, ErasureState, Error, HeldSubject, Hold, HoldId, Label, Reference, Release, Restriction,
    Result, SubjectId, Terms, Time, TokenRow,
};
use crate::store::Tx;
use crate::store::access::CallerChange;
use crate::store::consent::{self, DocumentKind};
use crate::store::journal::{Mark, Marked};
use crate::store::suppression::Name;
use crate::vault::hold::copy::Wanted;

/// One record: a line of JSON.
#[derive(Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A version of a purpose, notice or collection point.
    Document(Definition),
    /// What holds of the use of a person's values.
    Subject(Person),
    /// A consent event in its place.
    ConsentEvent(Recorded),
    /// An erasure that was scheduled or cancelled.
    Erasure(Scheduled),
    /// A name that has come onto the suppression list, or off it.
    Suppression(Listed),
    /// That a caller was disabled, or enabled again.
    Caller(Admission),
    /// A legal hold that was placed or released.
    Hold(Case),
}

/// A version of a document of the catalogue.
#[derive(Serialize, Deserialize)]
pub struct Definition {
    kind: String,
    code: String,
    version: u32,
    document: String,
    defined_by: String,
    defined_at: i64,
}

/// The terms of a person.
#[derive(Serialize, Deserialize)]
pub struct Person {
    subject: String,
    restricted: Option<(String, i64)>,
    profiling: bool,
    suppressed_at: Option<i64>,
    version: u64,
}

/// A consent event.
#[derive(Serialize, Deserialize)]
pub struct Recorded {
    number: u64,
    #[serde(with = "crate::model::consent::maybe_hex")]
    previous_hash: Option<[u8; 32]>,
    document: String,
}

/// An erasure.
#[derive(Serialize, Deserialize)]
pub struct Scheduled {
    erasure: String,
    subject: String,
    reason: String,
    requested_by: String,
    requested_at: i64,
    execute_at: Option<i64>,
    cancelled: bool,
}

/// A name and whether it is on the suppression list.
#[derive(Serialize, Deserialize)]
pub struct Listed {
    /// The name.
    #[serde(with = "crate::model::consent::hex")]
    pub name: Name,
    /// Whether it is on the list.
    pub listed: bool,
}

/// Whether a caller is let in.
#[derive(Serialize, Deserialize)]
pub struct Admission {
    caller: String,
    disabled: bool,
    reason: String,
    changed_by: String,
    changed_at: i64,
}

/// A legal hold, without its copies: these are in the database alone.
#[derive(Serialize, Deserialize)]
pub struct Case {
    hold: String,
    matter: String,
    basis: String,
    #[serde(with = "crate::model::consent::hex")]
    asked: [u8; 32],
    placed_by: String,
    placed_at: i64,
    /// Who released it, when and why.
    released: Option<(String, i64, String)>,
    /// Of whom it kept how many copies.
    over: Vec<(String, u64)>,
    /// The tokens that it kept copies of, in hex, if it named tokens.
    tokens: Option<Vec<String>>,
}

/// A hold as it was, with what to copy again.
pub struct Kept {
    /// The hold.
    pub hold: Hold,
    /// Of whom it kept how many copies.
    pub over: Vec<(SubjectId, u64)>,
    /// Which values those were.
    pub wanted: Wanted,
}

impl Case {
    /// As it was.
    pub fn kept(self) -> Result<Kept> {
        let by_token = self.tokens.is_some();
        let row = |text: &String| unhex(text).map(TokenRow::from_bytes);
        let rows = self.tokens.iter().flatten().map(row).collect::<Option<_>>();
        let rows = rows.ok_or_else(|| Error::internal("the journal names a token that is none"))?;
        let placed_at = Time::from_micros(self.placed_at);
        let released = self.released.map(|(by, at, reason)| {
            let (at, reason) = (Time::from_micros(at), Reference::stored(reason));
            Release { by, at, reason }
        });
        let hold = Hold {
            id: self.hold.parse()?,
            matter: Label::stored(self.matter),
            basis: Reference::stored(self.basis),
            by_token,
            asked: self.asked,
            placed_by: self.placed_by,
            placed_at,
            released,
        };
        let over = self.over.into_iter().map(|(subject, copied)| Ok((subject.parse()?, copied)));
        let over = over.collect::<Result<_>>()?;
        Ok(Kept { hold, over, wanted: if by_token { Wanted::Of(rows) } else { Wanted::Until(placed_at) } })
    }
}

impl Definition {
    /// As the store has it.
    pub fn stored(self) -> Result<consent::Document> {
        let kind = DocumentKind::from_name(&self.kind);
        Ok(consent::Document {
            kind: kind.ok_or_else(|| Error::internal("the journal names a kind of document that there is not"))?,
            code: self.code,
            version: self.version,
            document: self.document,
            defined_by: self.defined_by,
            defined_at: Time::from_micros(self.defined_at),
        })
    }
}

impl Person {
    /// Whose terms, and what they are.
    pub fn terms(self) -> Result<(SubjectId, Terms)> {
        let restriction = self
            .restricted
            .map(|(ground, since)| Restriction { ground: Reference::stored(ground), since: Time::from_micros(since) });
        let suppressed_at = self.suppressed_at.map(Time::from_micros);
        let terms = Terms { restriction, profiling: self.profiling, suppressed_at, version: self.version };
        Ok((self.subject.parse()?, terms))
    }
}

impl Recorded {
    /// As the store has it.
    pub fn stored(self) -> Result<consent::Recorded> {
        let event = ConsentEvent::read(&self.document)?;
        let Self { number, previous_hash, document } = self;
        let hash = ConsentEvent::hash(previous_hash.as_ref(), &document);
        Ok(consent::Recorded { event, number, document, previous_hash, hash })
    }
}

impl Scheduled {
    /// As it was: scheduled, or cancelled.
    pub fn erasure(self) -> Result<Erasure> {
        let (id, subject) = (self.erasure.parse()?, self.subject.parse()?);
        let (reason, requested_at) = (Reference::stored(self.reason), Time::from_micros(self.requested_at));
        let state = if self.cancelled { ErasureState::Cancelled } else { ErasureState::Scheduled };
        let execute_at = self.execute_at.map(Time::from_micros);
        let erasure = Erasure::immediate(id, subject, reason, &self.requested_by, requested_at);
        Ok(Erasure { state, execute_at, ..erasure })
    }
}

impl Admission {
    /// As the store has it, in a place there.
    pub fn change(&self, seq: i64) -> CallerChange {
        CallerChange {
            seq,
            caller: self.caller.clone(),
            disabled: self.disabled,
            reason: self.reason.clone(),
            changed_by: self.changed_by.clone(),
            changed_at: Time::from_micros(self.changed_at),
        }
    }
}

/// What there is to say about what is marked, in the order in which it is to be done again.
pub async fn of(tx: &mut dyn Tx, marks: &[Marked]) -> Result<Vec<Record>> {
    let (mut documents, mut subjects, mut events, mut erasures) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut names, mut callers, mut holds) = (Vec::new(), BTreeSet::new(), Vec::new());
    for Marked { mark, .. } in marks {
        match mark {
            Mark::Document(kind, code, version) => documents.push((*kind, code, *version)),
            Mark::Subject(id) => subjects.push(*id),
            Mark::ConsentEvent(subject, number) => events.push((*subject, *number)),
            Mark::Erasure(id) => erasures.push(*id),
            Mark::Suppression(name) => names.push(*name),
            Mark::Caller(name) => drop(callers.insert(name)),
            Mark::Hold(id) => holds.push(*id),
        }
    }
    let mut records = Vec::with_capacity(marks.len());
    documents.sort_by(|one, other| (one.0.name(), &one.1, one.2).cmp(&(other.0.name(), &other.1, other.2)));
    for (kind, code, version) in documents {
        records.extend(tx.document(kind, code, version).await?.map(document));
    }
    records.extend(tx.subjects(&subjects).await?.iter().map(|person| subject(person.id, person.terms())));
    let found = tx.consent_events_at(&events).await?;
    let mut events: Vec<_> = found.into_iter().map(|found| (found.event.subject, found.number, found)).collect();
    events.sort_by_key(|(subject, number, _)| (*subject, *number));
    let event = |found: consent::Recorded| {
        let consent::Recorded { number, previous_hash, document, .. } = found;
        Record::ConsentEvent(Recorded { number, previous_hash, document })
    };
    records.extend(events.into_iter().map(|(_, _, found)| event(found)));
    let due = |erasure: &Erasure| matches!(erasure.state, ErasureState::Scheduled | ErasureState::Cancelled);
    records.extend(tx.erasures(&erasures).await?.into_iter().filter(due).map(erasure));
    let suppressed = tx.suppressed(&names).await?;
    let listed = |name| Record::Suppression(Listed { name, listed: suppressed.contains(&name) });
    records.extend(names.into_iter().map(listed));
    if !callers.is_empty() {
        let changes = tx.caller_changes(0).await?;
        let newest: BTreeMap<_, _> = changes.into_iter().map(|change| (change.caller.clone(), change)).collect();
        records.extend(newest.into_values().filter(|change| callers.contains(&change.caller)).map(caller));
    }
    let over = tx.held_subjects(&holds).await?;
    for hold in tx.holds(&holds).await? {
        let id = hold.id;
        let of = move |(hold, held): &(HoldId, HeldSubject)| (*hold == id).then_some(*held);
        let rows = if hold.by_token { Some(tx.held_rows(id).await?) } else { None };
        records.push(case(hold, over.iter().filter_map(of), rows));
    }
    Ok(records)
}

fn case(hold: Hold, over: impl Iterator<Item = HeldSubject>, rows: Option<Vec<TokenRow>>) -> Record {
    let release = |release: Release| (release.by, release.at.micros(), release.reason.to_string());
    Record::Hold(Case {
        hold: hold.id.to_string(),
        matter: hold.matter.to_string(),
        basis: hold.basis.to_string(),
        asked: hold.asked,
        placed_by: hold.placed_by,
        placed_at: hold.placed_at.micros(),
        released: hold.released.map(release),
        over: over.map(|held| (held.subject.to_string(), held.copied)).collect(),
        tokens: rows.map(|rows| rows.iter().map(|row| hex(row.as_bytes())).collect()),
    })
}

fn document(found: consent::Document) -> Record {
    Record::Document(Definition {
        kind: found.kind.name().to_owned(),
        code: found.code,
        version: found.version,
        document: found.document,
        defined_by: found.defined_by,
        defined_at: found.defined_at.micros(),
    })
}

fn subject(id: SubjectId, terms: Terms) -> Record {
    let restricted = terms.restriction.map(|why| (why.ground.to_string(), why.since.micros()));
    let suppressed_at = terms.suppressed_at.map(Time::micros);
    let (profiling, version) = (terms.profiling, terms.version);
    Record::Subject(Person { subject: id.to_string(), restricted, profiling, suppressed_at, version })
}

fn caller(found: CallerChange) -> Record {
    let CallerChange { caller, disabled, reason, changed_by, changed_at, .. } = found;
    Record::Caller(Admission { caller, disabled, reason, changed_by, changed_at: changed_at.micros() })
}

fn erasure(found: Erasure) -> Record {
    Record::Erasure(Scheduled {
        erasure: found.id.to_string(),
        subject: found.subject.to_string(),
        reason: found.reason.to_string(),
        requested_by: found.requested_by,
        requested_at: found.requested_at.micros(),
        execute_at: found.execute_at.map(Time::micros),
        cancelled: found.state == ErasureState::Cancelled,
    })
}
