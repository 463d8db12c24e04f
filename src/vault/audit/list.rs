//! Reading the log: which entries are meant, and a walk along them in the order of time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::{Touched, call, outcome};
use crate::keys::checkpoint::{hex, unhex};
use crate::model::{Error, FieldType, Result, SubjectId, Time, TokenRow};
use crate::store::Tx;
use crate::store::audit::{Batch, Place};
use crate::store::node::NodeId;
use crate::vault::Vault;
use crate::vault::read::Name;

/// How many batches are read at once.
const PAGE: u32 = 100;

/// How many batches are looked through for one page.
const MOST_BATCHES: usize = 50_000;

/// How many texts are looked for in each line at most; of more, each line is read instead.
const MOST_NEEDLES: usize = 32;

/// How far apart the times of an entry and of its batch may lie: it waits for a commit, and clocks are set.
const SLACK: Duration = Duration::from_hours(1);

/// What an entry tells.
#[derive(Debug, Deserialize)]
pub struct Told<'l> {
    /// When, RFC 3339.
    #[serde(borrow)]
    pub time: Cow<'l, str>,
    /// The call.
    #[serde(default, borrow)]
    pub request: Cow<'l, str>,
    /// Who.
    #[serde(borrow)]
    pub caller: Cow<'l, str>,
    /// The rpc.
    #[serde(borrow)]
    pub deed: Cow<'l, str>,
    /// For what purpose.
    #[serde(default, borrow)]
    pub purpose: Cow<'l, str>,
    /// How much was shown.
    #[serde(default, borrow)]
    pub redaction: Cow<'l, str>,
    /// A ticket.
    #[serde(default, borrow)]
    pub justification: Cow<'l, str>,
    /// The request for approval that it is about, or that let it through.
    #[serde(default, borrow)]
    pub approval: Cow<'l, str>,
    /// Why the whole call was refused.
    #[serde(default, borrow)]
    pub refused: Option<Cow<'l, str>>,
    /// What it touched.
    #[serde(default, borrow)]
    pub touched: Vec<Touched<'l>>,
    /// How many tokens do not exist.
    #[serde(default)]
    pub unknown: u64,
    /// What was decided about the recording of a call.
    #[serde(default, borrow)]
    pub recording: Option<ToldDecision<'l>>,
}

/// What an entry tells of a decision about the recording of a call.
#[derive(Debug, Deserialize)]
pub struct ToldDecision<'l> {
    /// The purposes, each with its answer.
    #[serde(borrow)]
    pub purposes: BTreeMap<Cow<'l, str>, Cow<'l, str>>,
}

impl<'l> Told<'l> {
    /// Reads an entry.
    ///
    /// # Errors
    /// `Internal` when it makes no sense.
    pub fn parse(line: &'l str) -> Result<Self> {
        serde_json::from_str(line).map_err(Error::internal)
    }

    /// When.
    ///
    /// # Errors
    /// `Internal` when that makes no sense.
    pub fn time(&self) -> Result<Time> {
        Time::parse(&self.time).ok_or_else(|| Error::internal("an audit entry has no time"))
    }
}

/// Where an entry is: its chain, its batch, and its place in the batch, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId {
    /// Whose chain.
    pub node: NodeId,
    /// Which batch.
    pub batch: u64,
    /// Which entry of it.
    pub entry: u64,
}

impl EntryId {
    /// Reads what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// `ValueInvalid` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let parse = || {
            let (node, rest) = text.strip_prefix("aud_")?.split_once('-')?;
            let (batch, entry) = rest.split_once('-')?;
            Some(Self { node: unhex(node)?, batch: batch.parse().ok()?, entry: entry.parse().ok()? })
        };
        parse()
            .filter(|id| id.to_string() == text)
            .ok_or_else(|| Error::invalid("entry", "is not an entry of the audit"))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aud_{}-{}-{}", hex(&self.node), self.batch, self.entry)
    }
}

/// Which entries are meant. What is absent does not narrow.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Who called.
    pub caller: Option<String>,
    /// The rpc.
    pub rpc: Option<String>,
    /// For what purpose.
    pub purpose: Option<String>,
    /// One of these tokens was touched, by row in hexadecimal.
    pub rows: Vec<String>,
    /// This subject was touched.
    pub subject: Option<SubjectId>,
    /// A value of this type was touched.
    pub kind: Option<FieldType>,
    /// On this node.
    pub node: Option<NodeId>,
    /// The call.
    pub request: Option<String>,
    /// From then on.
    pub start: Option<Time>,
    /// Before then.
    pub end: Option<Time>,
    /// Only what was refused.
    pub refused: bool,
}

impl Filter {
    /// Whether it narrows to somebody, something or some time.
    #[must_use]
    pub const fn is_narrow(&self) -> bool {
        self.caller.is_some()
            || !self.rows.is_empty()
            || self.subject.is_some()
            || self.kind.is_some()
            || self.node.is_some()
            || self.start.is_some()
    }

    /// What each line has that is meant: of each of these, one. Quicker to look for than to read the line.
    fn needles(&self) -> Vec<Vec<String>> {
        let mut needles = Vec::new();
        needles.extend(self.subject.map(|id| vec![id.to_string()]));
        if (1..=MOST_NEEDLES).contains(&self.rows.len()) {
            needles.push(self.rows.clone());
        }
        let quoted = |caller: &String| vec![format!("\"caller\":{}", serde_json::Value::from(caller.as_str()))];
        needles.extend(self.caller.as_ref().map(quoted));
        needles.extend(self.kind.map(|kind| vec![format!("\"{}\"", kind.name())]));
        needles
    }

    /// Whether an entry is meant.
    fn means(&self, told: &Told<'_>, time: Time) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        let shown = self.subject.map(|id| id.to_string());
        self.start.is_none_or(|start| time >= start)
            && self.end.is_none_or(|end| time < end)
            && same(&self.caller, &told.caller)
            && same(&self.rpc, &told.deed)
            && (same(&self.purpose, &told.purpose) || self.means_decision(told))
            && same(&self.request, &told.request)
            && (!self.refused
                || told.refused.is_some()
                || told.touched.iter().any(|one| outcome::is_refusal(&one.outcome)))
            && (self.rows.is_empty() && shown.is_none() && self.kind.is_none()
                || told.touched.iter().any(|one| self.means_touched(one, shown.as_deref())))
    }

    /// Whether it tells of a recording for the purpose that is meant.
    fn means_decision(&self, told: &Told<'_>) -> bool {
        let decided = told.recording.as_ref().zip(self.purpose.as_ref());
        decided.is_some_and(|(told, purpose)| told.purposes.contains_key(purpose.as_str()))
    }

    /// Whether what an entry touched is meant.
    #[must_use]
    pub fn means_touched(&self, one: &Touched<'_>, subject: Option<&str>) -> bool {
        (self.rows.is_empty() || self.rows.iter().any(|row| *row == one.row))
            && subject.is_none_or(|subject| subject == one.subject)
            && self.kind.is_none_or(|kind| kind.name() == one.kind)
    }

    /// The moments between which a batch was written that may hold an entry that is meant.
    fn window(&self) -> (Time, Time) {
        let last = Time::from_micros(i64::MAX);
        let first = Time::from_micros(i64::MIN);
        (self.start.map_or(first, |start| start.minus(SLACK)), self.end.map_or(last, |end| end.plus(SLACK)))
    }
}

/// A walk along the batches that may hold what is meant, in the order of time.
pub struct Search<'f> {
    filter: &'f Filter,
    needles: Vec<Vec<String>>,
    at: Place,
    until: Time,
}

impl<'f> Search<'f> {
    /// A walk from the beginning, or from a place on.
    #[must_use]
    pub fn begin(filter: &'f Filter, after: Option<Place>) -> Self {
        let (from, until) = filter.window();
        let before = Time::from_micros(from.micros().saturating_sub(1));
        Self { filter, needles: filter.needles(), at: after.unwrap_or((before, [0xff; 16], u64::MAX >> 1)), until }
    }

    /// The next batches; none at the end.
    pub async fn next(&mut self, tx: &mut dyn Tx) -> Result<Vec<Batch>> {
        let page = tx.audit_batches_since(self.at, self.until, PAGE).await?;
        if let Some(last) = page.last() {
            self.at = place(last);
        }
        Ok(page)
    }

    /// Calls `each` with what is meant of a batch: the number of the entry, its line, and what it tells.
    pub fn entries(&self, batch: &Batch, mut each: impl FnMut(u64, &str, &Told<'_>, Time) -> Result<()>) -> Result<()> {
        if self.filter.node.is_some_and(|node| node != batch.node) {
            return Ok(());
        }
        for (at, line) in batch.body.lines().enumerate() {
            if !self.needles.iter().all(|some| some.iter().any(|needle| line.contains(needle.as_str()))) {
                continue;
            }
            let told = Told::parse(line)?;
            let time = told.time()?;
            if self.filter.means(&told, time) {
                each(at as u64 + 1, line, &told, time)?;
            }
        }
        Ok(())
    }
}

const fn place(batch: &Batch) -> Place {
    (batch.created_at, batch.node, batch.seq)
}

/// Where a page ended: after an entry of a batch, or after the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    at: Place,
    entry: u64,
}

impl Position {
    /// Reads what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// `ValueInvalid` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let parse = || {
            let mut parts = text.splitn(4, '.');
            let time = Time::from_micros(parts.next()?.parse().ok()?);
            let (node, seq) = (unhex(parts.next()?)?, parts.next()?.parse::<u64>().ok()?.min(u64::MAX >> 1));
            Some(Self { at: (time, node, seq), entry: parts.next()?.parse().ok()? })
        };
        parse().ok_or_else(|| Error::invalid("page_token", "is not one that the vault gave"))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (time, node, seq) = self.at;
        write!(f, "{}.{}.{seq}.{}", time.micros(), hex(&node), self.entry)
    }
}

/// An entry that was listed.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Where it is.
    pub id: EntryId,
    /// As it is in the log.
    pub line: String,
}

/// A page of the entries that are meant, with where the next one begins. It may hold fewer than `size`, and not be the last.
///
/// # Errors
/// `Internal` when an entry makes no sense.
pub async fn list(
    tx: &mut dyn Tx,
    filter: &Filter,
    from: Option<Position>,
    size: usize,
) -> Result<(Vec<Listed>, Option<Position>)> {
    // The batch in which the page before ended is read once more.
    let again = from.map(|from| (from.at.0, from.at.1, from.at.2.saturating_sub(1)));
    let mut search = Search::begin(filter, again);
    let (mut listed, mut end, mut batches) = (Vec::new(), None, 0);
    loop {
        let page = search.next(tx).await?;
        if page.is_empty() {
            return Ok((listed, None));
        }
        for batch in &page {
            let (at, node, seq) = (place(batch), batch.node, batch.seq);
            search.entries(batch, |entry, line, _, _| {
                let seen = from.is_some_and(|from| from.at == at && entry <= from.entry);
                if !seen && listed.len() < size {
                    listed.push(Listed { id: EntryId { node, batch: seq, entry }, line: line.to_owned() });
                    end = Some(Position { at, entry });
                }
                Ok(())
            })?;
            if listed.len() == size {
                return Ok((listed, end));
            }
        }
        batches += page.len();
        if batches >= MOST_BATCHES {
            let (time, node, seq) = search.at;
            return Ok((listed, Some(Position { at: (time, node, seq), entry: u64::MAX >> 1 })));
        }
    }
}

impl Vault {
    /// A page of the audit.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn list_audit_entries(
        &self,
        filter: &Filter,
        from: Option<Position>,
        size: u32,
    ) -> Result<(Vec<Listed>, Option<Position>)> {
        let _one_reader = self.audit.readers.acquire().await.map_err(Error::internal)?;
        call::touch(filter.subject.map(|id| Touched::subject(id, None, outcome::OK)));
        list(&mut *self.custody.store().read().await?, filter, from, size as usize).await
    }

    /// The rows of tokens, in hexadecimal, as the audit names them.
    ///
    /// # Errors
    /// `TokenUnknown` for what is not a token of the vault.
    pub async fn rows_of(&self, tokens: &[String]) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        for text in tokens {
            let row: TokenRow = match Name::parse(text, &self.custody) {
                Name::Row(row) => row,
                _ => self.facts(text).await?.token.row,
            };
            rows.push(hex(row.as_bytes()));
        }
        Ok(rows)
    }
}
