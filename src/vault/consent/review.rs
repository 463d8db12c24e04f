//! Which consents should be looked at before long.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::check::{self, Shown};
use crate::model::{Channel, Consent, ConsentState, Error, Label, Purpose, PurposeState, Result, SubjectId, Time};
use crate::policy::Catalogue;
use crate::store::Tx;
use crate::store::consent::Stood;
use crate::vault::Vault;
use crate::vault::audit::{Touched, call, outcome};

/// How far ahead is looked unless somebody says otherwise.
const AHEAD: Duration = Duration::from_hours(30 * 24);
/// How many standings are read in one go.
const PAGE: u32 = 256;

/// Why a consent should be looked at. The numbers are those of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DueReason {
    /// Its time for a review has come.
    Review = 1,
    /// It ends.
    Expiry = 2,
    /// What it was given under has changed, or a child comes of age.
    Reconfirm = 3,
}

/// A consent that should be looked at.
pub struct Due {
    /// Whose.
    pub subject: SubjectId,
    /// How it stands.
    pub shown: Shown,
    /// Why.
    pub reason: DueReason,
    /// When.
    pub due_at: Time,
}

/// Where a page ends: at a consent that is found by when it is due, or, of a purpose that has changed, by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    due_at: Option<Time>,
    purpose: String,
    subject: SubjectId,
    /// The number of the last channel that was given.
    channel: i32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let due = self.due_at.map_or(-1, Time::micros);
        write!(f, "{due} {} {} {}", self.purpose, self.subject, self.channel)
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let foreign = || Error::invalid("page_token", "is not one that the vault gave");
        let mut words = text.split(' ');
        let (Some(due), Some(purpose), Some(subject), Some(channel), None) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            return Err(foreign());
        };
        let due: i64 = due.parse().map_err(|_| foreign())?;
        Label::purpose(purpose).map_err(|_| foreign())?;
        Ok(Self {
            due_at: (due >= 0).then_some(Time::from_micros(due)),
            purpose: purpose.to_owned(),
            subject: subject.parse().map_err(|_| foreign())?,
            channel: channel.parse().map_err(|_| foreign())?,
        })
    }
}

/// A page that is being filled.
struct Search {
    catalogue: Arc<Catalogue>,
    /// The purposes of which it cannot be told from the standings alone what is due.
    changed: BTreeSet<String>,
    now: Time,
    before: Time,
    room: usize,
    found: Vec<(Position, Due)>,
}

impl Vault {
    /// A page of the consents that should be looked at by `before`, with where the next one begins. First those that are
    /// due by the calendar, in the order of time, then those of purposes that have changed.
    pub async fn list_due(
        &self,
        before: Option<Time>,
        from: Option<Position>,
        size: u32,
    ) -> Result<(Vec<Due>, Option<Position>)> {
        let mut tx = self.custody.store().read().await?;
        let now = self.clock.now();
        let catalogue = self.library.at_least(tx.catalogue_generation().await?).await?;
        let changed = catalogue.purposes().map(|purpose| purpose.code.clone());
        let changed = changed.filter(|code| catalogue.has_changed(code)).collect();
        let before = before.unwrap_or_else(|| now.plus(AHEAD));
        let room = size as usize + 1;
        let mut search = Search { catalogue, changed, now, before, room, found: Vec::new() };
        if from.as_ref().is_none_or(|from| from.due_at.is_some()) {
            self.search_calendar(&mut *tx, &mut search, from.clone()).await?;
        }
        self.search_changed(&mut *tx, &mut search, from.filter(|from| from.due_at.is_none())).await?;
        let mut found = search.found;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().map(|(position, _)| position.clone()).filter(|_| more);
        call::touch(found.iter().map(|(_, due)| Touched::subject(due.subject, None, outcome::OK)));
        Ok((found.into_iter().map(|(_, due)| due).collect(), next))
    }

    async fn search_calendar(&self, tx: &mut dyn Tx, search: &mut Search, from: Option<Position>) -> Result<()> {
        let mut after = from.unwrap_or(Position {
            due_at: Some(Time::from_micros(0)),
            purpose: String::new(),
            subject: SubjectId::from_bytes([0; 16]),
            channel: -1,
        });
        while search.found.len() < search.room {
            let key = (after.due_at.unwrap_or(Time::from_micros(0)), after.subject, after.purpose.clone());
            let page = tx.due_standings(search.before, &key, PAGE).await?;
            let here = page.iter().filter(|stood| !search.changed.contains(&stood.purpose)).cloned().collect();
            self.add(tx, search, here, &after, true).await?;
            let Some(last) = page.last().filter(|_| page.len() == PAGE as usize) else { return Ok(()) };
            after = Position { channel: i32::MAX, ..position(last, Channel::Any, true) };
        }
        Ok(())
    }

    async fn search_changed(&self, tx: &mut dyn Tx, search: &mut Search, from: Option<Position>) -> Result<()> {
        let beginning = |purpose: &str| Position {
            due_at: None,
            purpose: purpose.to_owned(),
            subject: SubjectId::from_bytes([0; 16]),
            channel: -1,
        };
        for purpose in search.changed.clone() {
            if from.as_ref().is_some_and(|from| purpose < from.purpose) {
                continue;
            }
            let known = from.clone().filter(|from| from.purpose == purpose);
            let mut after = known.unwrap_or_else(|| beginning(&purpose));
            while search.found.len() < search.room {
                let page = tx.standings_to(&purpose, after.subject, PAGE).await?;
                self.add(tx, search, page.clone(), &after, false).await?;
                let Some(last) = page.last().filter(|_| page.len() == PAGE as usize) else { break };
                after = Position { channel: i32::MAX, ..position(last, Channel::Any, false) };
            }
        }
        Ok(())
    }

    /// Adds what is due of some standings and lies after a position.
    async fn add(
        &self,
        tx: &mut dyn Tx,
        search: &mut Search,
        stood: Vec<Stood>,
        after: &Position,
        by_calendar: bool,
    ) -> Result<()> {
        let subjects: BTreeSet<SubjectId> = stood.iter().map(|stood| stood.subject).collect();
        let people = self.people(tx, &subjects.into_iter().collect::<Vec<_>>()).await?;
        for stood in stood {
            let (Some(person), Some(purpose)) = (people.get(&stood.subject), search.catalogue.purpose(&stood.purpose))
            else {
                continue;
            };
            let purpose = Arc::new(purpose.clone());
            for (channel, consent) in &stood.standing.consents {
                let place = position(&stood, *channel, by_calendar);
                let same = Position { channel: after.channel, ..place.clone() } == *after;
                if same && place.channel <= after.channel {
                    continue;
                }
                let Some((due_at, reason)) = search.due(&purpose, consent) else { continue };
                let shown =
                    check::shown_over(&search.catalogue, &purpose, *channel, person, &stood.standing, search.now)?;
                search.found.push((place, Due { subject: stood.subject, shown, reason, due_at }));
            }
            if search.found.len() >= search.room {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Search {
    /// When a consent should be looked at, and why; `None` when that is later, or there is nothing to look at.
    fn due(&self, purpose: &Purpose, consent: &Consent) -> Option<(Time, DueReason)> {
        let over = consent.state_at(self.now) == ConsentState::Expired;
        if purpose.state != PurposeState::Active || !consent.state.is_yes() || over {
            return None;
        }
        if let Some(changed) = self.catalogue.reconfirm(purpose, consent, self.now) {
            return Some((changed.since, DueReason::Reconfirm));
        }
        let expiry = consent.valid_until.map(|time| (Time::from_micros(time), DueReason::Expiry));
        let grown = consent.of_age_at.map(|time| (Time::from_micros(time), DueReason::Reconfirm));
        let review = purpose.review(Time::from_micros(consent.since)).map(|time| (time, DueReason::Review));
        [expiry, grown, review].into_iter().flatten().filter(|(time, _)| *time <= self.before).min()
    }
}

fn position(stood: &Stood, channel: Channel, by_calendar: bool) -> Position {
    Position {
        due_at: stood.due_at.filter(|_| by_calendar),
        purpose: stood.purpose.clone(),
        subject: stood.subject,
        channel: channel.number(),
    }
}
