//! A drill: what a restore of a backup would come to, proven on a copy of it that nobody is served from.
//!
//! Two readers look at the copy. The [adversary](super::adversary) has every page of the backup, of the newest
//! checkpoint and of the running vault, and every key that the slot opens: of whoever was erased since they must read
//! nothing, and of everybody else all, or the attack would prove nothing. Then the vault opens the copy just as after a
//! restore, with the slot and the sinks as they were when the drill began: everybody erased must be marked so, and
//! everybody else's values must open and make sense. No value is kept, counted by content, or told.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::adversary::{Loot, Spoils};
use super::checkpoint::State;
use super::custody::Custody;
use super::sink::{CheckpointSink, Sinks};
use super::slot::{Assurance, Content, CopyStatus, RootSlot};
use crate::crypto::Random;
use crate::model::{ErasureState, Error, Reason, Result, SubjectId, SubjectState, TokenRow};
use crate::policy::{self, Upkeep};
use crate::store::Store;
use crate::store::index::Generation;
use crate::store::subject::Filter;

/// How much is read at once.
const PAGE: u32 = 1000;
const BATCH: usize = 200;

/// How often slot and sinks are looked at together before giving up.
const LOOKS: u32 = 5;

/// The custodians as they were at one moment. What is made from it can be opened and changes nothing.
pub struct Moment {
    /// What the slot held.
    pub content: Content,
    /// The slot, standing still.
    pub slot: Arc<dyn RootSlot>,
    /// The sinks, standing still.
    pub sinks: Sinks,
    /// The key state that they hold for the slot's root, if any does.
    pub checkpoint: Option<State>,
}

impl Moment {
    /// Looks at slot and sinks, beside a vault that may be erasing.
    pub async fn of(slot: &dyn RootSlot, sinks: &Sinks) -> Result<Self> {
        let empty = || Error::new(Reason::KeyCustodianUnavailable, "the root slot is empty");
        for look in 1.. {
            let sinks = sinks.behind(|sink| Arc::new(StillSink::of(sink)));
            // Before the slot, which is never behind a sink.
            sinks.newest().await?;
            let content = slot.load().await?.ok_or_else(empty)?;
            let checkpoint = sinks.rebuild(&content.current).await;
            let moved =
                || async { Ok::<_, Error>(slot.load().await?.ok_or_else(empty)?.current.id != content.current.id) };
            if checkpoint.is_none() && look < LOOKS && moved().await? {
                continue;
            }
            let slot = Arc::new(StillSlot::of(slot, &content));
            return Ok(Self { content, slot, sinks, checkpoint });
        }
        Err(empty())
    }

    /// Who was erased, as far as the checkpoint knows.
    pub fn erased(&self) -> Result<BTreeSet<SubjectId>> {
        let erased = self.checkpoint.iter().flat_map(State::erasures);
        erased.map(|erased| SubjectId::parse(&erased.subject)).collect()
    }

    /// The leaves of keys that outlast an erasure, as far as the checkpoint knows.
    #[must_use]
    pub fn kept(&self) -> BTreeSet<u32> {
        self.checkpoint.iter().flat_map(State::erasures).flat_map(|erased| &erased.kept).map(|kept| kept.leaf).collect()
    }
}

/// Who was erased, as a database has it.
pub async fn erased_in(store: &dyn Store) -> Result<BTreeSet<SubjectId>> {
    let (mut tx, mut after, mut erased) = (store.read().await?, None, BTreeSet::new());
    loop {
        let page = tx.list_erasures(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(erased) };
        after = Some(last.id);
        let done = page.iter().filter(|erasure| erasure.state == ErasureState::Shredded);
        erased.extend(done.map(|erasure| erasure.subject));
    }
}

/// Who is in a backup.
#[derive(Default)]
pub struct Survey {
    /// Everybody.
    pub subjects: u64,
    /// Those who were erased before it was taken.
    pub erased_before: u64,
    /// Those erased since.
    pub erased_since: Vec<SubjectId>,
    /// Those whose erasure had begun when it was taken and is not known to be complete.
    pub pending: u64,
    /// Everybody else.
    pub living: u64,
    /// Some of them, at random.
    pub sample: Vec<SubjectId>,
}

/// Goes through everybody in a copy of a backup and draws `wanted` of those who live.
pub async fn survey(
    copy: &dyn Store,
    erased: &BTreeSet<SubjectId>,
    wanted: usize,
    random: &dyn Random,
) -> Result<Survey> {
    let (mut tx, mut after, mut survey) = (copy.read().await?, None, Survey::default());
    loop {
        let page = tx.list_subjects(&Filter::default(), after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(survey) };
        after = Some(last.id);
        for subject in &page {
            survey.subjects += 1;
            match subject.state {
                SubjectState::Shredded => survey.erased_before += 1,
                _ if erased.contains(&subject.id) => survey.erased_since.push(subject.id),
                SubjectState::Shredding => survey.pending += 1,
                SubjectState::Active | SubjectState::Restricted | SubjectState::Scheduled => {
                    survey.living += 1;
                    draw(&mut survey.sample, subject.id, survey.living, wanted, random);
                }
            }
        }
    }
}

/// Reservoir sampling (Vitter 1985, algorithm R): after `seen` of them, each is in the sample with the same chance.
fn draw(sample: &mut Vec<SubjectId>, subject: SubjectId, seen: u64, wanted: usize, random: &dyn Random) {
    if sample.len() < wanted {
        return sample.push(subject);
    }
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    let place = usize::try_from(u64::from_be_bytes(bytes) % seen).unwrap_or(usize::MAX);
    if let Some(drawn) = sample.get_mut(place) {
        *drawn = subject;
    }
}

/// What was tried on some people's values, and what came of it.
#[derive(Debug, Default)]
pub struct Tried {
    /// How many people.
    pub subjects: u64,
    /// How many values they have.
    pub values: u64,
    /// How many of those opened and made sense.
    pub opened: u64,
    /// How many more they have that outlast their erasure, because a law demands them.
    pub kept: u64,
    /// Who has a value or a key that opened.
    pub open: BTreeSet<SubjectId>,
    /// Who has a value that did not.
    pub closed: BTreeSet<SubjectId>,
    /// The rows of the values.
    rows: HashSet<TokenRow>,
}

impl Tried {
    fn note(&mut self, subject: SubjectId, opened: bool) {
        self.values += 1;
        self.opened += u64::from(opened);
        if opened { &mut self.open } else { &mut self.closed }.insert(subject);
    }
}

/// Takes every node out of a copy, whose nodes all serve another database: none is to be waited for.
pub async fn forget_nodes(copy: &dyn Store) -> Result<()> {
    let mut tx = copy.write().await?;
    for node in tx.nodes().await? {
        tx.leave_node(&node.id).await?;
    }
    tx.commit().await
}

/// Gives the adversary every page there is and every key that the slot opens.
pub async fn plunder(moment: &Moment, copy: &dyn Store, running: Option<&dyn Store>) -> Result<Spoils> {
    let mut tx = copy.read().await?;
    let (mut pages, generations) = (tx.key_pages().await?, tx.generations().await?);
    drop(tx);
    if let Some(checkpoint) = &moment.checkpoint {
        pages.extend(checkpoint.pages());
    }
    if let Some(running) = running {
        pages.extend(running.read().await?.key_pages().await?);
    }
    let content = moment.content.copy();
    let keys = std::iter::once(content.current).chain(content.next).map(|root| root.key).collect();
    Ok(Loot { tree: content.tree, pages, keys, generations, ..Loot::default() }.closure())
}

/// Has the adversary try everything they have on every value of these people, but for what is `kept`: under these leaves.
pub async fn attack(
    spoils: &mut Spoils,
    copy: &dyn Store,
    subjects: &[SubjectId],
    kept: &BTreeSet<u32>,
) -> Result<Tried> {
    let mut tried = Tried { subjects: subjects.len() as u64, ..Tried::default() };
    let mut tx = copy.read().await?;
    for some in subjects.chunks(BATCH) {
        let mut keys = tx.subject_keys(some).await?;
        keys.retain(|key| !kept.contains(&key.leaf));
        let reachable = keys.iter().filter(|key| spoils.leaf_seed(key.leaf).is_some());
        tried.open.extend(reachable.map(|key| key.subject));
        spoils.tell_keys(keys);
        let copies = tx.held_of(some).await?;
        for token in tx.sealed_tokens(some).await?.into_iter().chain(copies) {
            tried.rows.insert(token.row);
            if kept.contains(&token.leaf) {
                tried.kept += 1;
                continue;
            }
            tried.note(token.subject, spoils.value(&token).is_some());
        }
    }
    Ok(tried)
}

/// How many entries of these people the adversary finds in the search index of the copy.
pub async fn listed(spoils: &Spoils, copy: &dyn Store, tried: &Tried) -> Result<u64> {
    let (mut tx, mut listed) = (copy.read().await?, 0);
    let numbers: Vec<u32> = tx.generations().await?.iter().flat_map(Generation::numbers).collect();
    for some in numbers.chunks(BATCH) {
        for chunk in tx.chunks(some).await? {
            let entries = spoils.entries(&chunk).unwrap_or_default();
            listed += entries.iter().filter(|entry| tried.rows.contains(&entry.row)).count() as u64;
        }
    }
    Ok(listed)
}

impl Custody {
    /// Opens every value of these people, in a copy of the vault.
    pub async fn open_values_of(&self, subjects: &[SubjectId]) -> Result<Tried> {
        let mut tried = Tried { subjects: subjects.len() as u64, ..Tried::default() };
        let mut tx = self.store().read().await?;
        for some in subjects.chunks(BATCH) {
            for token in tx.sealed_tokens(some).await? {
                let opened = self.ring.open(&policy::for_upkeep(token.row, Upkeep::Drill), &token).is_ok();
                tried.note(token.subject, opened);
            }
        }
        Ok(tried)
    }

    /// Those of the people who are not marked as erased, or of whom a ciphertext is still there that is not under a leaf which is
    /// `kept`.
    pub async fn not_erased(&self, subjects: &[SubjectId], kept: &BTreeSet<u32>) -> Result<BTreeSet<SubjectId>> {
        let mut left = BTreeSet::new();
        let mut tx = self.store().read().await?;
        for some in subjects.chunks(BATCH) {
            let found = tx.subjects(some).await?;
            let shredded: HashSet<_> =
                found.iter().filter(|found| found.state == SubjectState::Shredded).map(|found| found.id).collect();
            left.extend(some.iter().filter(|subject| !shredded.contains(subject)));
            let sealed = tx.sealed_tokens(some).await?;
            left.extend(sealed.iter().filter(|token| !kept.contains(&token.leaf)).map(|token| token.subject));
        }
        Ok(left)
    }
}

/// A slot as it was. It can be advanced as recovery may have to, and forgets that with the drill.
struct StillSlot {
    content: Mutex<Content>,
    assurance: Assurance,
    kind: &'static str,
    place: String,
}

impl StillSlot {
    fn of(slot: &dyn RootSlot, content: &Content) -> Self {
        let (assurance, kind, place) = (slot.assurance(), slot.kind(), slot.describe());
        Self { content: Mutex::new(content.copy()), assurance, kind, place }
    }
}

fn refused() -> Error {
    Error::internal("a drill changes nothing")
}

#[async_trait]
impl RootSlot for StillSlot {
    async fn load(&self) -> Result<Option<Content>> {
        Ok(Some(self.content.lock().unwrap_or_else(PoisonError::into_inner).copy()))
    }

    async fn create(&self, _: &Content) -> Result<()> {
        Err(refused())
    }

    async fn prepare(&self, _: &[u8; 16], _: &super::slot::Root) -> Result<()> {
        Err(refused())
    }

    async fn advance(&self, _: &[u8; 16], next: &[u8; 16]) -> Result<()> {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        match content.next.take() {
            Some(prepared) if prepared.id == *next => content.current = prepared,
            other => {
                content.next = other;
                return Err(refused());
            }
        }
        Ok(())
    }

    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn assurance(&self) -> Assurance {
        self.assurance
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn describe(&self) -> String {
        self.place.clone()
    }

    async fn status(&self) -> Vec<CopyStatus> {
        Vec::new()
    }
}

/// A sink as it was when it was looked at first: what it answers once it always answers, though the running vault
/// writes to it and tidies it up meanwhile.
struct StillSink {
    sink: Arc<dyn CheckpointSink>,
    names: tokio::sync::Mutex<HashMap<String, Vec<String>>>,
    read: Mutex<HashMap<String, Option<Vec<u8>>>>,
}

impl StillSink {
    fn of(sink: Arc<dyn CheckpointSink>) -> Self {
        Self { sink, names: tokio::sync::Mutex::default(), read: Mutex::default() }
    }
}

#[async_trait]
impl CheckpointSink for StillSink {
    async fn make(&self) -> Result<()> {
        Err(refused())
    }

    async fn put(&self, _: &str, _: &[u8]) -> Result<()> {
        Err(refused())
    }

    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let bytes = self.sink.get(name).await?;
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), bytes.clone());
        Ok(bytes)
    }

    async fn is_there(&self) -> Result<()> {
        self.sink.is_there().await
    }

    async fn list(&self, kind: &str) -> Result<Vec<String>> {
        let mut known = self.names.lock().await;
        if let Some(names) = known.get(kind) {
            return Ok(names.clone());
        }
        let names = self.sink.list(kind).await?;
        known.insert(kind.to_owned(), names.clone());
        Ok(names)
    }

    async fn remove(&self, _: &str) -> Result<()> {
        Err(refused())
    }

    fn describe(&self) -> String {
        self.sink.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::Seeded;

    #[test]
    fn everybody_has_the_same_chance_to_be_drawn() {
        let random = Seeded::new(5);
        let people: Vec<_> = (0..20_u8).map(|number| SubjectId::from_bytes([number; 16])).collect();
        let mut drawn = HashMap::<SubjectId, u32>::new();
        for _ in 0..2000 {
            let mut sample = Vec::new();
            for (seen, person) in (1..).zip(&people) {
                draw(&mut sample, *person, seen, 5, &random);
            }
            assert_eq!(sample.iter().collect::<BTreeSet<_>>().len(), 5);
            for person in sample {
                *drawn.entry(person).or_default() += 1;
            }
        }
        assert!(people.iter().all(|person| (400..600).contains(&drawn[person])), "{drawn:?}");
    }
}
