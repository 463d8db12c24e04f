//! Who has been told: what consumers have acknowledged.

use std::collections::BTreeMap;

use super::head;
use super::watch::check;
use crate::model::{Cursor, Error, Label, Mark, Reason, Result, SubjectId};
use crate::policy::Caller;
use crate::store::outbox::{Acknowledgement, Consumer, Head, Placed};
use crate::vault::Vault;
use crate::vault::audit::{Touched, call};

/// How many consumers there may be.
const MOST: usize = 1000;
/// How many events are shown at once with who has acknowledged them.
const PAGE: u32 = 100;

/// A consumer, and how far it lags behind.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// The consumer.
    pub consumer: Consumer,
    /// From where it goes on; `None` when that is no longer kept, or is of another history.
    pub cursor: Option<Cursor>,
    /// How many events it has not acknowledged.
    pub behind: u64,
    /// Whether some of them were removed before it had, or may have been told in another history only.
    pub lost: bool,
}

/// An event, and who has acknowledged it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The event.
    pub event: Placed,
    /// The token that it is about, as callers know it.
    pub token: Option<String>,
    /// Each consumer, by name.
    pub consumers: Vec<Acknowledgement>,
}

impl Vault {
    /// Notes that a consumer has dealt with everything up to a cursor, its event included. One that it has acknowledged
    /// before changes nothing.
    ///
    /// # Errors
    /// `CursorLost` for a cursor that is not of this history.
    pub async fn acknowledge_event(&self, caller: &Caller, name: &Label, cursor: Cursor) -> Result<Acknowledged> {
        let name = name.as_str();
        let mut tx = self.custody.store().write().await?;
        let head = head(&mut *tx).await?;
        let known = tx.consumer(name).await?;
        let same = known.as_ref().filter(|known| known.history == cursor.history);
        let before = same.is_some_and(|known| known.position >= cursor.position);
        if let Err(error) = check(&mut *tx, &head, cursor).await {
            // What it has acknowledged may be removed meanwhile.
            if !before || cursor.history != head.cursor.history || cursor.position >= head.oldest {
                return Err(error);
            }
        }
        if known.is_none() && tx.consumers("", u32::try_from(MOST).unwrap_or(u32::MAX)).await?.len() >= MOST {
            let message = "there are as many consumers as there may be; delete those that are no more";
            return Err(Error::new(Reason::Overloaded, message).with("maximum", MOST));
        }
        tx.acknowledge(name, &cursor, &caller.name, self.clock.now()).await?;
        let consumer = tx.consumer(name).await?.ok_or_else(|| unknown(name))?;
        tx.commit().await?;
        Ok(show(&head, consumer))
    }

    /// A page of consumers, by name, with the name after which the next one begins.
    pub async fn list_consumers(&self, after: &str, size: u32) -> Result<(Vec<Acknowledged>, Option<String>)> {
        let mut tx = self.custody.store().read().await?;
        let mut found = tx.consumers(after, size + 1).await?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().map(|consumer| consumer.name.clone()).filter(|_| more);
        let head = head(&mut *tx).await?;
        Ok((found.into_iter().map(|consumer| show(&head, consumer)).collect(), next))
    }

    /// Forgets a consumer that is no more, with all that it has acknowledged.
    ///
    /// # Errors
    /// `ConsumerUnknown`.
    pub async fn delete_consumer(&self, caller: &Caller, name: &Label) -> Result<()> {
        self.record_deed(caller, "DeleteConsumer").await?;
        let mut tx = self.custody.store().write().await?;
        if !tx.delete_consumer(name.as_str()).await? {
            return Err(unknown(name.as_str()));
        }
        tx.commit().await
    }

    /// A page of the events about a person that are kept, oldest first, each with who has acknowledged it and when; and
    /// the position after which the next one begins. Works after erasure.
    pub async fn list_deliveries(
        &self,
        caller: &Caller,
        subject: SubjectId,
        after: u64,
        size: u32,
    ) -> Result<(Vec<Delivery>, Option<u64>)> {
        let size = size.min(PAGE);
        let mut tx = self.custody.store().read().await?;
        let known = tx.subjects(&[subject]).await?.pop().ok_or_else(|| crate::vault::subject::unknown(subject))?;
        call::touch([Touched::described(&known)]);
        let may_market = self.authority.may_market(caller, &*self.library.refreshed().await?, self.clock.now())?;
        let (mut found, mut from) = (Vec::new(), Some(after));
        // Pages are as long, and end at the same places, as if there were nothing that is not shown.
        while let Some(after) = from.take_if(|_| found.len() <= size as usize) {
            let events = tx.events_about(subject, after, size + 1).await?;
            from = events.last().map(|event| event.position).filter(|_| events.len() > size as usize);
            found.extend(events.into_iter().filter(|placed| may_market || !placed.event.tells_of_objection()));
        }
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().map(|event| event.position).filter(|_| more);
        let positions: Vec<u64> = found.iter().map(|event| event.position).collect();
        let mut by_event: BTreeMap<u64, Vec<Acknowledgement>> = BTreeMap::new();
        for acknowledgement in tx.acknowledgements(&positions).await? {
            by_event.entry(acknowledgement.event).or_default().push(acknowledgement);
        }
        let delivery = |event: Placed| {
            let opaque = |row| self.custody.ring.opaque(row).to_string();
            let token = event.event.token.map(|row| event.shaped.clone().unwrap_or_else(|| opaque(row)));
            let consumers = by_event.remove(&event.position).unwrap_or_default();
            Delivery { event, token, consumers }
        };
        Ok((found.into_iter().map(delivery).collect(), next))
    }

    /// Tells the metrics how far consumers are behind.
    pub(super) async fn tell_consumers(&self) -> Result<()> {
        let size = u32::try_from(MOST).unwrap_or(u32::MAX);
        let (consumers, now) = (self.list_consumers("", size).await?.0, self.clock.now().micros());
        for Acknowledged { consumer, behind, .. } in consumers {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            let float = |number: i64| number as f64;
            let since = consumer.behind_since.map_or(0, |since| (now - since.micros()).max(0));
            metrics::gauge!("lacuna_event_consumer_behind", "consumer" => consumer.name.clone())
                .set(float(i64::try_from(behind).unwrap_or(i64::MAX)));
            metrics::gauge!("lacuna_event_consumer_behind_seconds", "consumer" => consumer.name)
                .set(float(since) / 1e6);
        }
        Ok(())
    }
}

fn show(head: &Head, consumer: Consumer) -> Acknowledged {
    let position = consumer.position;
    let behind = head.cursor.position.saturating_sub(position);
    // What it has acknowledged of a history that is no more cannot be told from what it has not.
    let elsewhere = consumer.history != head.cursor.history;
    let lost = elsewhere || (behind > 0 && position + 1 < head.oldest);
    let begin = (position == 0 && !lost).then(Mark::default);
    let kept = consumer.mark.or(begin).filter(|_| !elsewhere);
    let cursor = kept.map(|mark| Cursor { position, mark, ..head.cursor });
    Acknowledged { consumer, cursor, behind, lost }
}

fn unknown(name: &str) -> Error {
    Error::new(Reason::ConsumerUnknown, "there is no such consumer").with("consumer", name)
}
