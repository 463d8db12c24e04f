//! Who is affected by what somebody did: counted from the audit alone, without a single key.

use std::collections::{BTreeMap, HashMap};

use super::list::{Filter, Search, Told};
use super::{SHOWING, Touched, call, outcome};
use crate::model::{Error, FieldType, Result, SubjectId, Time};
use crate::store::Tx;
use crate::vault::Vault;

/// How many people are asked about at once.
const PEOPLE: usize = 1000;

/// How many more than those that are told apart are noted before they are.
const NOTED: usize = 1 << 16;

/// A person whose value was shown, or who was found by one.
#[derive(Clone, Debug)]
pub struct Person {
    /// The person.
    pub subject: SubjectId,
    /// Under whose law, if that is known.
    pub jurisdiction: String,
    /// The types of the values, a bit for each by its number.
    kinds: u32,
    /// How often a value was shown.
    pub reveals: u64,
    /// How often the person was found by a value.
    pub lookups: u64,
    /// Whether a value is of a special category.
    pub special: bool,
    /// For the first time.
    pub first: Time,
    /// For the last time.
    pub last: Time,
    /// When the person was erased, if they were.
    pub erased_at: Option<Time>,
}

impl Person {
    /// The types of the values.
    pub fn kinds(&self) -> impl Iterator<Item = FieldType> {
        FieldType::ALL.into_iter().filter(|kind| self.kinds & bit(*kind) != 0)
    }
}

const fn bit(kind: FieldType) -> u32 {
    1 << kind.number()
}

/// What of one type is affected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Category {
    /// How many people.
    pub subjects: u64,
    /// How many values, each once.
    pub values: u64,
    /// How often one was shown.
    pub reveals: u64,
    /// How many of the values are of a special category.
    pub special: u64,
}

/// Who is affected.
#[derive(Clone, Debug, Default)]
pub struct Affected {
    /// How many entries were meant.
    pub entries: u64,
    /// How often a value was shown.
    pub reveals: u64,
    /// The people, in the order of their pseudonyms.
    pub people: Vec<Person>,
    /// How many people were described without a value.
    pub described: u64,
    /// How many were changed, or their values, or were about to be.
    pub changed: u64,
    /// What of each type.
    pub categories: BTreeMap<FieldType, Category>,
    /// People by the law that they are under.
    pub jurisdictions: BTreeMap<String, u64>,
    /// People by the purposes for which their values were shown.
    pub purposes: BTreeMap<String, u64>,
    /// People by how much was shown.
    pub redactions: BTreeMap<String, u64>,
    /// For the first time.
    pub first: Option<Time>,
    /// For the last time.
    pub last: Option<Time>,
}

impl Affected {
    /// How many of the people were erased since.
    #[must_use]
    pub fn erased(&self) -> u64 {
        self.people.iter().filter(|person| person.erased_at.is_some()).count() as u64
    }

    /// How many had a value of a special category shown.
    #[must_use]
    pub fn special(&self) -> u64 {
        self.people.iter().filter(|person| person.special).count() as u64
    }
}

/// Each once. What comes again and again is only noted, and told apart by sorting now and then.
struct Distinct<T> {
    noted: Vec<T>,
    /// So many of them were there once each when they were last sorted.
    sorted: usize,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { noted: Vec::new(), sorted: 0 }
    }
}

impl<T: Ord> Distinct<T> {
    fn note(&mut self, one: T) {
        self.noted.push(one);
        if self.noted.len() >= 2 * self.sorted + NOTED {
            self.sort();
        }
    }

    fn sort(&mut self) {
        self.noted.sort_unstable();
        self.noted.dedup();
        self.sorted = self.noted.len();
    }

    /// Each once, in their order.
    fn each(mut self) -> Vec<T> {
        self.sort();
        self.noted
    }
}

/// People by words, each of which is kept once.
#[derive(Default)]
struct ByWord {
    words: HashMap<String, usize>,
    people: Distinct<(usize, SubjectId)>,
}

impl ByWord {
    fn note(&mut self, word: &str, subject: SubjectId) {
        let number = self.words.get(word).copied().unwrap_or_else(|| {
            let number = self.words.len();
            self.words.insert(word.to_owned(), number);
            number
        });
        self.people.note((number, subject));
    }

    /// How many people there are by each word.
    fn count(self) -> BTreeMap<String, u64> {
        let mut counts = vec![0; self.words.len()];
        for (number, _) in self.people.each() {
            counts.get_mut(number).into_iter().for_each(|count| *count += 1);
        }
        let count = |number: usize| counts.get(number).copied().unwrap_or(0);
        self.words.into_iter().map(|(word, number)| (word, count(number))).collect()
    }
}

/// What is gathered on the way.
#[derive(Default)]
struct Gathering {
    affected: Affected,
    people: HashMap<SubjectId, Person>,
    described: Distinct<SubjectId>,
    changed: Distinct<SubjectId>,
    /// Each value, with whether it is of a special category.
    values: Distinct<([u8; 16], FieldType, bool)>,
    purposes: ByWord,
    redactions: ByWord,
}

/// What an entry has done to somebody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Shown,
    Found,
    Described,
    Changed,
}

impl Done {
    /// By the rpc and its outcome; `None` when nothing was told nor changed.
    fn of(deed: &str, outcome: &str) -> Option<Self> {
        match (deed, outcome) {
            (_, outcome::OK) if SHOWING.contains(&deed) => Some(Self::Shown),
            ("FindTokens", outcome::OK) | ("Tokenize", outcome::SAME) | (_, outcome::FOUND | outcome::SUPPRESSED) => {
                Some(Self::Found)
            }
            (_, outcome::OK | outcome::SAME | outcome::REPEATED) => Some(Self::Described),
            (_, outcome::ASKED | outcome::KEPT) => Some(Self::Changed),
            _ => None,
        }
    }
}

impl Gathering {
    fn take(&mut self, filter: &Filter, told: &Told<'_>, time: Time) -> Result<()> {
        self.affected.entries += 1;
        let wanted = filter.subject.map(|id| id.to_string());
        for one in told.touched.iter().filter(|one| filter.means_touched(one, wanted.as_deref())) {
            let Some(done) = Done::of(&told.deed, &one.outcome) else { continue };
            let subject = SubjectId::parse(&one.subject)?;
            match done {
                Done::Described => self.described.note(subject),
                Done::Changed => self.changed.note(subject),
                Done::Shown | Done::Found => self.take_value(subject, told, one, done, time),
            }
        }
        Ok(())
    }

    fn take_value(&mut self, subject: SubjectId, told: &Told<'_>, one: &Touched<'_>, done: Done, time: Time) {
        let kind = FieldType::ALL.into_iter().find(|kind| kind.name() == one.kind);
        let person = self.people.entry(subject).or_insert_with(|| Person {
            subject,
            jurisdiction: String::new(),
            kinds: 0,
            reveals: 0,
            lookups: 0,
            special: false,
            first: time,
            last: time,
            erased_at: None,
        });
        if person.jurisdiction.is_empty() {
            person.jurisdiction = one.jurisdiction.clone().into_owned();
        }
        (person.first, person.last) = (person.first.min(time), person.last.max(time));
        person.special |= one.special;
        person.kinds |= kind.map_or(0, bit);
        if done == Done::Found {
            person.lookups += 1;
            return;
        }
        person.reveals += 1;
        self.affected.reveals += 1;
        let shown = if one.shown.is_empty() { &told.redaction } else { &one.shown };
        self.purposes.note(&told.purpose, subject);
        self.redactions.note(shown, subject);
        if let Some(kind) = kind {
            let category = self.affected.categories.entry(kind).or_default();
            category.reveals += 1;
            if let Some(row) = crate::keys::checkpoint::unhex(&one.row) {
                self.values.note((row, kind, one.special));
            }
        }
    }

    /// Adds what the database says of the people now, and counts.
    async fn finish(self, tx: &mut dyn Tx) -> Result<Affected> {
        let Self { mut affected, mut people, described, changed, values, purposes, redactions } = self;
        let ids: Vec<SubjectId> = people.keys().copied().collect();
        for some in ids.chunks(PEOPLE) {
            for subject in tx.subjects(some).await? {
                let Some(person) = people.get_mut(&subject.id) else { continue };
                person.erased_at = subject.erased_at;
                if let Some(known) = subject.jurisdiction.filter(|_| person.jurisdiction.is_empty()) {
                    known.as_str().clone_into(&mut person.jurisdiction);
                }
            }
        }
        let values = values.each();
        // Of a value that became special meanwhile, that it did comes last.
        for value in values.chunk_by(|one, other| one.0 == other.0) {
            let Some((_, kind, special)) = value.last() else { continue };
            let category = affected.categories.entry(*kind).or_default();
            category.values += 1;
            category.special += u64::from(*special);
        }
        for person in people.values() {
            *affected.jurisdictions.entry(person.jurisdiction.clone()).or_default() += 1;
            for kind in person.kinds() {
                affected.categories.entry(kind).or_default().subjects += 1;
            }
            affected.first = Some(affected.first.map_or(person.first, |first| first.min(person.first)));
            affected.last = affected.last.max(Some(person.last));
        }
        (affected.purposes, affected.redactions) = (purposes.count(), redactions.count());
        affected.described = described.each().len() as u64;
        affected.changed = changed.each().len() as u64;
        affected.people = people.into_values().collect();
        affected.people.sort_by_key(|person| person.subject);
        Ok(affected)
    }
}

/// Who is affected by the entries that are meant.
///
/// # Errors
/// `Internal` when an entry makes no sense.
pub async fn affected(tx: &mut dyn Tx, filter: &Filter) -> Result<Affected> {
    let (mut gathering, mut search) = (Gathering::default(), Search::begin(filter, None));
    loop {
        let page = search.next(tx).await?;
        if page.is_empty() {
            return gathering.finish(tx).await;
        }
        for batch in &page {
            search.entries(batch, |_, _, told, time| gathering.take(filter, told, time))?;
            tokio::task::yield_now().await;
        }
    }
}

impl Vault {
    /// Who is affected by the entries that are meant. Opens no key.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn list_affected_subjects(&self, filter: &Filter) -> Result<Affected> {
        let _one_reader = self.audit.readers.acquire().await.map_err(Error::internal)?;
        call::touch(filter.subject.map(|id| Touched::subject(id, None, outcome::OK)));
        affected(&mut *self.custody.store().read().await?, filter).await
    }
}
