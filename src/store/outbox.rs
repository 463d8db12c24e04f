//! The outbox: what changed, in an order that nobody who has seen a later event can have missed an earlier one of.
//!
//! An event is written in the transaction of the change that it tells of, so there is either both or neither. It must
//! not get its position there: of two transactions, the one that draws the lower number may commit later, and whoever
//! has read past the higher one would never see it. So the work is split.
//!
//! - [`Outbox::tell`] puts an event among the *entries*, without a position. Of events about one subject it keeps the
//!   order: their transactions hold that subject's row, so each sees the entries of those before it, committed, and takes
//!   the next `number`. Nothing else orders concurrent transactions, and nothing else has to.
//! - [`place`] moves the entries that are committed into the *history*, in a transaction of its own, behind those that are
//!   there. It holds the row of the head from before it looks until it commits, so there is one at a time: each sees all
//!   that the ones before it have moved, begins at the position after theirs, and its commit makes all its positions
//!   visible at once. Hence the history that any statement sees is a prefix of every later one: positions 1 to n without
//!   a gap, for good. An entry that is committed later comes later, whenever its transaction began.
//!
//! Within one subject the order holds, too. A statement that sees the entry with number k sees, or has seen moved, those
//! with lower numbers, which were committed before k was written; [`place`] takes lower numbers first, and of those that
//! it takes puts each subject's in the order of their numbers. A number may be used again once its entry is moved: all
//! that is left then comes later.
//!
//! No clock takes part. Times of different nodes, which disagree, order events of different subjects only, and those only
//! within one move. Plain statements at READ COMMITTED are enough: each statement after the head is locked sees what was
//! committed until then. Where one process has the database for itself, its transactions come one after the other, and
//! `tell` moves the entries at once.
//!
//! Each event in the history carries a *mark*, a digest over the ids of all events up to it. Two databases that agree on
//! the mark at a position agree on everything before it. So a cursor, which has the mark, is recognised as foreign by a
//! copy of the database that has taken another way since, even when nobody noticed that a copy was put in place.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;

use super::Tx;
use crate::model::{Cursor, EventId, Mark, OutboxEvent, Result, SubjectId, Time};

/// How many entries are moved in one transaction.
const MOVED: u32 = 1000;

/// An event that is written and not in the history yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The subject as it is stored: zeros for nobody in particular.
    pub subject: [u8; 16],
    /// Its place among those about that subject.
    pub number: u64,
    /// Its name.
    pub id: EventId,
    /// When it was written, by the clock of whoever did.
    pub created_at: Time,
}

/// An event in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Where.
    pub position: u64,
    /// What the history is up to there.
    pub mark: Mark,
    /// The event.
    pub event: OutboxEvent,
    /// The token that it is about, when it is a shaped one.
    pub shaped: Option<String>,
}

/// Where the history stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The newest event.
    pub cursor: Cursor,
    /// The oldest position that is kept; one after the newest when none is.
    pub oldest: u64,
    /// Whether there are entries that are not in the history yet.
    pub waiting: bool,
}

/// A system that is told what changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// Since when it is known.
    pub registered_at: Time,
    /// Which history it has acknowledged, by its name.
    pub history: Mark,
    /// Up to where, inclusive.
    pub position: u64,
    /// The mark there, if that is kept.
    pub mark: Option<Mark>,
    /// Which caller said so.
    pub acknowledged_by: String,
    /// When.
    pub acknowledged_at: Time,
    /// When the oldest event was written that it has not acknowledged.
    pub behind_since: Option<Time>,
}

/// That a consumer has acknowledged an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The event, by its position.
    pub event: u64,
    /// The consumer.
    pub consumer: String,
    /// Which caller said so; `None` when nobody has.
    pub caller: Option<String>,
    /// When.
    pub at: Option<Time>,
}

/// The operations on the outbox.
#[async_trait]
pub trait Outbox {
    /// Writes events, in order. Each subject must be locked, or new. After the commit whoever waits for
    /// [`super::Store::news`] is woken.
    async fn tell(&mut self, events: &[OutboxEvent]) -> Result<()>;

    /// The same of alarms, in the order in which this process raises them: so nobody has to be locked. No two transactions
    /// of one process may do so at once.
    async fn tell_alarms(&mut self, process: &[u8; 16], events: &[OutboxEvent]) -> Result<()>;

    /// Names the history, if it has no name yet.
    async fn begin_history(&mut self, name: &Mark) -> Result<()>;

    /// Gives it another name: every cursor of before is lost then.
    async fn rename_history(&mut self, name: &Mark) -> Result<()>;

    /// Where the history stands; `None` before it has begun.
    async fn outbox_head(&mut self) -> Result<Option<Head>>;

    /// The position of its newest event, and nothing that takes longer to find.
    async fn history_end(&mut self) -> Result<u64>;

    /// Its newest event, with the right to lengthen it until the transaction ends.
    async fn lock_outbox(&mut self) -> Result<Option<Cursor>>;

    /// Entries that are not in the history yet, lower numbers first.
    async fn outbox_entries(&mut self, limit: u32) -> Result<Vec<Waiting>>;

    /// Moves entries into the history, each to its position; the last one is the newest then. The head must be locked.
    async fn move_entries(&mut self, moved: &[(Waiting, u64, Mark)], now: Time) -> Result<()>;

    /// The events after a position, in order, with the name of the history that they are of. `None` for the name when
    /// there are none.
    async fn events_after(&mut self, position: u64, limit: u32) -> Result<(Option<Mark>, Vec<Placed>)>;

    /// The mark of the event at a position, if that is kept.
    async fn mark_at(&mut self, position: u64) -> Result<Option<Mark>>;

    /// A page of the events about a subject, oldest first, after a position.
    async fn events_about(&mut self, subject: SubjectId, after: u64, limit: u32) -> Result<Vec<Placed>>;

    /// The oldest positions that are kept, each with when it was given.
    async fn oldest_events(&mut self, limit: u32) -> Result<Vec<(u64, Time)>>;

    /// Removes what lies before a position, and acknowledgements that nothing needs then.
    async fn remove_events_before(&mut self, position: u64) -> Result<()>;

    /// Notes that a consumer has acknowledged everything up to a place. `false`, and no change, when it had before.
    async fn acknowledge(&mut self, name: &str, upto: &Cursor, caller: &str, now: Time) -> Result<bool>;

    /// One consumer.
    async fn consumer(&mut self, name: &str) -> Result<Option<Consumer>>;

    /// A page of consumers, by name.
    async fn consumers(&mut self, after: &str, limit: u32) -> Result<Vec<Consumer>>;

    /// Removes a consumer. `false` when there is none.
    async fn delete_consumer(&mut self, name: &str) -> Result<bool>;

    /// For each of these positions and each consumer, whether and when it was acknowledged first.
    async fn acknowledgements(&mut self, positions: &[u64]) -> Result<Vec<Acknowledgement>>;
}

/// What became of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The newest event then.
    pub newest: Cursor,
    /// How many entries were moved. With none there is nothing to commit.
    pub entries: usize,
    /// Whether there may be more.
    pub more: bool,
}

/// Moves entries into the history; `None` before that has begun.
///
/// # Errors
/// `StoreUnavailable`; nothing is moved then.
pub async fn place(tx: &mut dyn Tx, now: Time) -> Result<Option<Moved>> {
    let Some(mut head) = tx.lock_outbox().await? else { return Ok(None) };
    let entries = tx.outbox_entries(MOVED).await?;
    let more = entries.len() >= MOVED as usize;
    let mut moved = Vec::with_capacity(entries.len());
    for entry in in_order(entries) {
        head.position += 1;
        head.mark = OutboxEvent::mark_after(head.mark, entry.id);
        moved.push((entry, head.position, head.mark));
    }
    tx.move_entries(&moved, now).await?;
    Ok(Some(Moved { newest: head, entries: moved.len(), more }))
}

/// By time as far as that can be told, and each subject's by their numbers: these take each other's places.
fn in_order(mut entries: Vec<Waiting>) -> Vec<Waiting> {
    let mut numbered: BTreeMap<[u8; 16], VecDeque<Waiting>> = BTreeMap::new();
    entries.sort_by_key(|entry| (entry.subject, entry.number));
    for entry in &entries {
        numbered.entry(entry.subject).or_default().push_back(entry.clone());
    }
    entries.sort_by_key(|entry| (entry.created_at, entry.id));
    entries.iter().filter_map(|place| numbered.get_mut(&place.subject)?.pop_front()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(subject: u8, number: u64, created_at: i64) -> Waiting {
        let mut id = [subject; 16];
        (id[0], id[1]) = (u8::try_from(number).unwrap(), u8::try_from(created_at).unwrap());
        Waiting {
            subject: [subject; 16],
            number,
            id: EventId::from_bytes(id),
            created_at: Time::from_micros(created_at),
        }
    }

    #[test]
    fn clocks_that_disagree_do_not_disorder_what_is_about_one_subject() {
        let entries = vec![entry(1, 1, 90), entry(2, 1, 50), entry(1, 2, 10), entry(2, 2, 60)];
        let order: Vec<_> = in_order(entries).iter().map(|entry| (entry.subject[0], entry.number)).collect();
        assert_eq!(order, [(1, 1), (2, 1), (2, 2), (1, 2)]);
    }

    proptest! {
        #[test]
        fn everything_is_placed_once_and_each_subjects_in_order(
            times in proptest::collection::vec((0_u8..4, 0_i64..100), 0..60)
        ) {
            let mut numbers = [0; 4];
            let mut entries = Vec::new();
            for (subject, time) in times {
                numbers[usize::from(subject)] += 1;
                entries.push(entry(subject, numbers[usize::from(subject)], time));
            }
            let placed = in_order(entries.clone());
            prop_assert_eq!(placed.len(), entries.len());
            for subject in 0..4 {
                let of = placed.iter().filter(|entry| entry.subject[0] == subject).map(|entry| entry.number);
                prop_assert!(of.eq(1..=numbers[usize::from(subject)]));
            }
        }
    }
}
