//! Who calls: whose a number is and, in one call, what an agent may see of them. It has to be there before the agent says
//! hello, so it is answered in time or without an answer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Vault;
use super::audit::{Entry, Touched, call, outcome};
use super::reveal::{By, Detokenize, Revealed};
use super::search::Search;
use super::write::Record;
use crate::keys::flight::Flight;
use crate::model::{
    Assurance, Channel, Facts, FieldType, Presented, Redaction, Reference, Result, SubjectId, Time, TokenState, Value,
};
use crate::policy::{self, Action, Caller, Claim};
use crate::store::brake::Used;
use crate::trace;

/// The rpc.
const DEED: &str = "LookupByCaller";

/// The most values that are shown of one person.
const MOST_SHOWN: usize = 6;

/// The most people that are named whose number it is.
const MOST_CANDIDATES: usize = 20;

/// What a text is tagged with that says how to address a person.
const SALUTATION: &str = "salutation";

/// A caller of a contact centre to be looked up.
pub struct Lookup {
    /// Who calls, as the exchange presents it.
    pub presented: Presented,
    /// How sure that is.
    pub assurance: Assurance,
    /// The code of a purpose.
    pub purpose: String,
    /// The agent who is shown the answer.
    pub agent: Option<SubjectId>,
    /// A ticket.
    pub justification: Option<Reference>,
}

/// Somebody whose number it is.
pub struct Candidate {
    /// Who.
    pub subject: SubjectId,
    /// The token of the number.
    pub token: String,
    /// When a value of theirs was last added, or a call recorded in which they took part.
    pub active_at: Time,
}

/// Who calls.
#[derive(Default)]
pub struct Looked {
    /// Those whose number it is, the most recently active first.
    pub candidates: Vec<Candidate>,
    /// Of one person: what the agent may see, by token.
    pub values: Vec<(String, Revealed)>,
    /// Whether there was no time to look, or none to finish.
    pub degraded: bool,
    /// What the answer may leave with; none where nothing in it is about anybody.
    pub flight: Option<Flight>,
}

impl Vault {
    /// Tells who calls. A number that is withheld is nobody's, and is not looked for.
    ///
    /// When that takes too long it is given up. That nothing was told is recorded as soon as it can be, and the record of an
    /// answer that nobody got may be left beside it.
    pub async fn look_up(&self, caller: &Caller, ask: Lookup) -> Result<Looked> {
        let claim = self.claim(caller, Action::Find);
        let catalogue = self.admit_search(&claim, DEED, FieldType::Phone, &ask.purpose).await?;
        let Presented::Number(forms) = &ask.presented else {
            count("withheld");
            return Ok(Looked::default());
        };
        let looking = async {
            let used = self.take_lookup(caller, ask.agent).await?;
            Box::pin(self.look_for(&claim, &ask, forms, catalogue, used)).await
        };
        if let Ok(looked) = tokio::time::timeout(self.lookup_for, looking).await {
            let looked = looked?;
            count(match looked.candidates.len() {
                0 => "unknown",
                1 => "one",
                _ => "several",
            });
            return Ok(looked);
        }
        // Nothing is told of anybody. Waiting for a record of that would be waiting for what was too slow just now.
        call::note(false);
        self.record_later(Entry {
            purpose: ask.purpose.clone(),
            justification: justification(&ask),
            ..Entry::new(&caller.name, DEED, self.clock.now())
        });
        count("degraded");
        tracing::warn!(caller = caller.name, "the number of a caller was not looked up in time");
        Ok(Looked { degraded: true, ..Looked::default() })
    }

    async fn look_for(
        &self,
        claim: &Claim<'_>,
        ask: &Lookup,
        forms: &[Value],
        catalogue: Arc<policy::Catalogue>,
        used: Option<Used>,
    ) -> Result<Looked> {
        let normals: Vec<&[u8]> = forms.iter().filter_map(Value::normal).collect();
        let flight = self.custody.flights.begin();
        let search = Search { claim, deed: DEED, kind: FieldType::Phone, normals: &normals, purpose: &ask.purpose };
        let searched = self.search(&search, catalogue).await?;
        // The surest form decides; what was kept in another one is looked at when there is nothing under it.
        let matched = searched.found.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
        let mut people: BTreeMap<SubjectId, &Facts> = BTreeMap::new();
        for facts in &matched {
            people.entry(facts.token.subject).or_insert(facts);
        }
        let subjects: Vec<SubjectId> = people.keys().copied().collect();
        let (mut active, mut values) = (HashMap::new(), Vec::new());
        if !subjects.is_empty() {
            let _reading = trace::stage("store.read");
            let mut tx = self.custody.store().read().await?;
            active.extend(tx.last_added(&subjects).await?);
            if let [one] = subjects.as_slice() {
                values = tx.newest_facts(*one, &ask.purpose, u32::try_from(MOST_SHOWN).unwrap_or(u32::MAX)).await?;
            }
        }
        let candidate = |(subject, facts): (SubjectId, &Facts)| Candidate {
            subject,
            token: self.describe(facts.token.clone(), TokenState::Active).name,
            active_at: active.get(&subject).copied().unwrap_or(facts.token.created_at),
        };
        let mut candidates: Vec<Candidate> = people.into_iter().map(candidate).collect();
        candidates.sort_by_key(|one| (Reverse(one.active_at), one.subject));
        candidates.truncate(MOST_CANDIDATES);
        let by = By {
            deed: DEED,
            found: matched.iter().map(|facts| Touched::facts(facts, outcome::FOUND)).collect(),
            used: used.into_iter().collect(),
        };
        let admission = policy::admit(claim, &ask.purpose, &searched.catalogue, searched.now)?;
        let chosen = choose(values, &matched, ask.assurance, |kind| admission.may_read(kind), searched.now);
        let values = if chosen.is_empty() {
            self.record_found_only(claim.caller, ask, by, candidates.is_empty()).await?;
            Vec::new()
        } else {
            self.show(claim, ask, by, chosen, &flight, &searched.catalogue).await?
        };
        flight.may_land()?;
        Ok(Looked { candidates, values, degraded: false, flight: Some(flight) })
    }

    /// Shows what the caller may see of one person, as any reveal does.
    async fn show(
        &self,
        claim: &Claim<'_>,
        ask: &Lookup,
        by: By,
        chosen: Vec<Facts>,
        flight: &Flight,
        catalogue: &Arc<policy::Catalogue>,
    ) -> Result<Vec<(String, Revealed)>> {
        let name = |facts: &Facts| self.describe(facts.token.clone(), TokenState::Active).name;
        let reveal = Detokenize {
            tokens: chosen.iter().map(name).collect(),
            purpose: ask.purpose.clone(),
            channel: Channel::Any,
            redaction: Redaction::PlainText,
            justification: ask.justification.clone(),
            by,
        };
        let claim = Claim { action: Action::Reveal, ..*claim };
        let approval = self.check_brakes(claim.caller, &reveal).await?;
        let found = chosen.into_iter().map(|facts| Some(Arc::new(facts))).collect();
        let revealed = Box::pin(self.give(&claim, &reveal, Arc::clone(catalogue), found, approval, flight)).await?;
        Ok(reveal.tokens.into_iter().zip(revealed).collect())
    }

    /// Records a look-up that shows no value.
    async fn record_found_only(&self, caller: &Caller, ask: &Lookup, by: By, nobody: bool) -> Result<()> {
        let entry = Entry {
            purpose: ask.purpose.clone(),
            justification: justification(ask),
            unknown: u64::from(nobody),
            touched: by.found,
            ..Entry::new(&caller.name, DEED, self.clock.now())
        };
        self.record(Record { used: by.used, ..Record::of(entry) }).await.map(drop)
    }
}

fn justification(ask: &Lookup) -> String {
    ask.justification.as_ref().map(|one| one.as_str().to_owned()).unwrap_or_default()
}

/// The values to be shown of one person: how to address them first, then one of each type, the newest first.
fn choose(
    values: Vec<Facts>,
    matched: &[Facts],
    assurance: Assurance,
    may_read: impl Fn(FieldType) -> bool,
    now: Time,
) -> Vec<Facts> {
    let salutes =
        |facts: &Facts| facts.token.kind == FieldType::Text && facts.token.tags.iter().any(|tag| tag == SALUTATION);
    let rank = |facts: &Facts| match facts.token.kind {
        _ if salutes(facts) => 0,
        FieldType::PersonName => 1,
        // What may be long, and says least at a glance.
        FieldType::Text | FieldType::Json | FieldType::Bytes => 1000 + facts.token.kind.number(),
        kind => 1 + kind.number(),
    };
    // Anybody can present any name with a number: what a call has told is not what the vault was told of the person.
    let addresses = |facts: &Facts| rank(facts) <= 1 && !facts.token.is_of_a_call();
    // Notes, transcripts and keys belong to a call, not to how somebody is known.
    let is_of_a_call_alone = |facts: &Facts| {
        facts.token.is_of_a_call() && matches!(facts.token.kind, FieldType::Text | FieldType::Json | FieldType::Bytes)
    };
    let mut chosen: Vec<Facts> = values
        .into_iter()
        .filter(|facts| may_read(facts.token.kind) && policy::token_state(facts, now) == TokenState::Active)
        .filter(|facts| !is_of_a_call_alone(facts))
        .filter(|facts| addresses(facts) || assurance > Assurance::NumberOnly)
        // The agent has the number.
        .filter(|facts| !matched.iter().any(|known| known.token.row == facts.token.row))
        .collect();
    chosen.sort_by_key(|facts| (facts.token.is_of_a_call(), Reverse(facts.token.row)));
    let mut seen: HashMap<i16, usize> = HashMap::new();
    let mut placed: Vec<(usize, i16, Facts)> = chosen
        .into_iter()
        .map(|facts| {
            let place = seen.entry(rank(&facts)).or_default();
            *place += 1;
            (*place, rank(&facts), facts)
        })
        .collect();
    placed.sort_by_key(|(place, rank, _)| (*place, *rank));
    placed.into_iter().map(|(_, _, facts)| facts).take(MOST_SHOWN).collect()
}

/// What came of look-ups, for the metrics.
pub const OUTCOMES: [&str; 5] = ["degraded", "one", "several", "unknown", "withheld"];

fn count(outcome: &'static str) {
    metrics::counter!("lacuna_lookups_total", "outcome" => outcome).increment(1);
}
