//! Following the history: a stream of events and checkpoints.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::watch as channel;
use tokio::time::Instant;

use super::{Page, Place, head, place_all};
use crate::model::{Cursor, Error, OutboxEvent, OutboxKind, Reason, Result};
use crate::policy::{Action, Caller};
use crate::store::Tx;
use crate::store::outbox::{Head, Placed};
use crate::vault::Vault;

/// From where on.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// What changes from now on.
    Now,
    /// Everything that is kept.
    Oldest,
    /// A place in the history, itself included.
    Cursor(Cursor),
}

/// What is to be watched.
#[derive(Clone, Debug)]
pub struct Watch {
    /// From where on.
    pub from: From,
    /// Which kinds; all when empty.
    pub kinds: Vec<OutboxKind>,
}

/// What a stream tells.
#[derive(Clone, Debug)]
pub struct Told {
    /// An event, with the token that it is about as callers know it; or nothing, as a sign that all there was is told.
    pub event: Option<(Placed, Option<String>)>,
    /// From where to go on after an interruption.
    pub cursor: Cursor,
}

impl Vault {
    /// Follows the history for as long as the caller listens and `stop` is not set.
    ///
    /// An event is told again after an interruption rather than never. All that is about one person is told in the order
    /// in which it happened.
    ///
    /// # Errors
    /// `CursorLost`, also later in the stream, when the vault no longer has what comes next; `Overloaded`.
    pub async fn watch_events(
        self: &Arc<Self>,
        caller: &Caller,
        ask: Watch,
        stop: channel::Receiver<bool>,
    ) -> Result<impl Stream<Item = Result<Told>> + Send + use<>> {
        let events = &self.events;
        let place = events.watching.enter(&caller.name, events.settings.streams)?;
        let newest = events.newest.subscribe();
        let store = self.custody.store();
        let opening = events.opening.acquire().await.map_err(Error::internal)?;
        if head(&mut *store.read().await?).await?.waiting {
            // All that was committed before the caller asked comes before the first checkpoint.
            place_all(store, self.clock.now()).await?;
        }
        let mut tx = store.read().await?;
        let head = head(&mut *tx).await?;
        let from = match ask.from {
            From::Cursor(cursor) => cursor,
            From::Now => head.cursor,
            From::Oldest => {
                let oldest = tx.events_after(0, 1).await?.1.pop();
                oldest.map_or(head.cursor, |oldest| Cursor {
                    position: oldest.position,
                    mark: oldest.mark,
                    ..head.cursor
                })
            }
        };
        check(&mut *tx, &head, from).await?;
        drop(tx);
        drop(opening);
        // The newest event was told before now.
        let at = if matches!(ask.from, From::Now) { from.position } else { from.position.saturating_sub(1) };
        let follower = Follower {
            vault: Arc::clone(self),
            caller: caller.clone(),
            kinds: ask.kinds,
            at,
            known: head.cursor.position,
            cursor: from,
            page: VecDeque::new(),
            newest,
            stop,
            caught_up: false,
            silent_since: None,
            _place: place,
        };
        // So that the node begins to look for news of others at once.
        store.news().notify_one();
        Ok(futures_util::stream::try_unfold(follower, |mut follower| async move {
            Ok(follower.next().await?.map(|told| (told, follower)))
        }))
    }
}

/// Whether the history still has what a cursor stands for.
pub(super) async fn check(tx: &mut dyn Tx, head: &Head, cursor: Cursor) -> Result<()> {
    if cursor.history != head.cursor.history || cursor.position > head.cursor.position {
        return Err(other_history());
    }
    if cursor.position == 0 {
        return if head.oldest > 1 { Err(too_old()) } else { Ok(()) };
    }
    match tx.mark_at(cursor.position).await? {
        Some(mark) if mark == cursor.mark => Ok(()),
        Some(_) => Err(other_history()),
        None => Err(too_old()),
    }
}

fn too_old() -> Error {
    let message =
        "what came after this cursor is no longer kept: read anew what you hold copies of, then watch from now on";
    Error::new(Reason::CursorLost, message).with("cause", "TOO_OLD")
}

fn other_history() -> Error {
    let message = "this cursor is of a history that the vault does not have, because a backup of it was restored or another \
                   vault gave it: read anew what you hold copies of, then watch from now on";
    Error::new(Reason::CursorLost, message).with("cause", "OTHER_HISTORY")
}

/// One who follows the history.
struct Follower {
    vault: Arc<Vault>,
    caller: Caller,
    kinds: Vec<OutboxKind>,
    /// Everything up to this position was told, or is not wanted.
    at: u64,
    /// How far the history is at least.
    known: u64,
    /// From where to go on after an interruption.
    cursor: Cursor,
    /// What was read and not told yet.
    page: VecDeque<Placed>,
    newest: channel::Receiver<u64>,
    stop: channel::Receiver<bool>,
    /// Whether all that there was at first is told.
    caught_up: bool,
    /// Since when nothing was told.
    silent_since: Option<Instant>,
    _place: Place,
}

impl Follower {
    /// What is told next; `None` when the server stops.
    async fn next(&mut self) -> Result<Option<Told>> {
        loop {
            // They may have lost the right since they began, or that to be told of alarms, or who objects to direct marketing.
            let (authority, now) = (&self.vault.authority, self.vault.clock.now());
            authority.enter(&self.caller, Action::WatchEvents, now)?;
            let alarmed = authority.could(&self.caller, Action::ReadAlarms, now)?;
            let markets = authority.may_market(&self.caller, &self.vault.library.known(), now)?;
            while let Some(placed) = self.page.pop_front() {
                self.pass(&placed);
                let wanted = self.kinds.is_empty() || self.kinds.contains(&placed.event.kind);
                let may_know = (markets || !placed.event.tells_of_objection()) && (alarmed || !placed.event.is_alarm());
                if wanted && may_know {
                    return Ok(Some(self.told(Some(placed))));
                }
            }
            if *self.stop.borrow() || self.stop.has_changed().is_err() {
                return Ok(None);
            }
            self.known = self.known.max(*self.newest.borrow_and_update());
            let silent = self.silent_since.is_some_and(|since| since + self.silence() <= Instant::now());
            if !silent && self.known > self.at {
                self.read().await?;
            } else if silent || self.rest().await {
                self.check().await?;
                return Ok(Some(self.told(None)));
            }
        }
    }

    fn pass(&mut self, placed: &Placed) {
        self.at = placed.position;
        self.cursor = Cursor { position: placed.position, mark: placed.mark, ..self.cursor };
    }

    fn told(&mut self, placed: Option<Placed>) -> Told {
        self.silent_since = Some(Instant::now());
        let name = |placed: Placed| {
            let token = placed.event.token.map(|row| match &placed.shaped {
                Some(shaped) => shaped.clone(),
                None => self.vault.custody.ring.opaque(row).to_string(),
            });
            (placed, token)
        };
        Told { event: placed.map(name), cursor: self.cursor }
    }

    fn silence(&self) -> Duration {
        self.vault.events.settings.silence
    }

    /// Whether this is still the history that was told: another may have taken its place while there was nothing to tell.
    async fn check(&self) -> Result<()> {
        let mut tx = self.vault.custody.store().read().await?;
        let head = head(&mut *tx).await?;
        check(&mut *tx, &head, self.cursor).await
    }

    async fn read(&mut self) -> Result<()> {
        let page: Arc<Page> = self.vault.events.pages.call(self.at).await??;
        // What is in it may be about a purpose that another node has defined a moment ago.
        self.vault.library.refreshed().await?;
        // Another history may have taken the place of this one, or time has passed.
        if page.history.is_some_and(|history| history != self.cursor.history) || page.events.is_empty() {
            return Err(other_history());
        }
        if page.events.first().is_some_and(|first| first.position != self.at + 1) {
            return Err(too_old());
        }
        // By its marks: one that has gone back and on again has the same name and other events in the same places.
        let (position, mark) = (self.cursor.position, self.cursor.mark);
        let goes_on = |first: &Placed| match first.position {
            again if again == position => first.mark == mark,
            _ => first.mark == OutboxEvent::mark_after(mark, first.event.id),
        };
        if !page.events.first().is_some_and(goes_on) {
            return Err(other_history());
        }
        self.page.extend(page.events.iter().cloned());
        Ok(())
    }

    /// Waits for news. Answers whether it is time to tell that there are none: at first, and after some silence.
    async fn rest(&mut self) -> bool {
        let silence = self.silence();
        let Some(since) = self.silent_since.filter(|_| self.caught_up) else {
            self.caught_up = true;
            return true;
        };
        tokio::select! {
            // That nobody tells any more means that the vault is closed.
            _ = self.newest.changed() => false,
            _ = self.stop.changed() => false,
            () = tokio::time::sleep_until(since + silence) => true,
        }
    }
}
