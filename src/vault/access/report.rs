//! What policies come to: for one question, and for one person.

use std::collections::{BTreeSet, HashMap};

use super::super::Vault;
use super::super::subject::unknown;
use crate::model::{
    Channel, Error, FieldType, Jurisdiction, Reason, Redaction, Result, Standing, SubjectId, SubjectState, Time,
};
use crate::policy::{About, Action, Caller, Inquiry, Named, Over, Question, permission};

/// How many tokens of a person are read at once.
const PAGE: u32 = 1000;

/// A question that nobody has asked.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Who would ask.
    pub caller: String,
    /// In which groups; in those of the configuration when there are none.
    pub groups: Vec<String>,
    /// For which right.
    pub action: Action,
    /// For what purpose; empty for none.
    pub purpose: String,
    /// To a value of which type.
    pub kind: Option<FieldType>,
    /// Of which retention class.
    pub class: String,
    /// Where its subject would be.
    pub state: SubjectState,
    /// Whose law would apply to them; empty for none.
    pub jurisdiction: String,
    /// How much would be asked for.
    pub redaction: Redaction,
    /// Whether the token of an equal value would be.
    pub deduplicate: bool,
    /// When; now for none.
    pub at: Option<Time>,
}

/// What the answer would be.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Why not; `None` when it is permitted.
    pub refusal: Option<Reason>,
    /// How much would be shown at most.
    pub redaction: Redaction,
    /// The policies that made the decision.
    pub policies: Vec<Named>,
}

/// That a caller may see values of a person.
#[derive(Clone, Debug)]
pub struct Access {
    /// Who.
    pub caller: String,
    /// For what.
    pub purpose: String,
    /// Of which type.
    pub kind: FieldType,
    /// Of which retention class.
    pub class: String,
    /// How much at most.
    pub redaction: Redaction,
    /// The policies that made the decision.
    pub policies: Vec<String>,
    /// Why the law or the person forbids it now.
    pub refusal: Option<Reason>,
}

impl Vault {
    /// What the policies in force would decide.
    pub async fn simulate_access(&self, ask: &Simulation) -> Result<Simulated> {
        self.refresh_callers().await?;
        let now = ask.at.unwrap_or_else(|| self.clock.now());
        let configured = self.roll.registered().iter().find(|registered| registered.caller.name == ask.caller);
        let mut caller = configured.map_or_else(|| Caller::named(&ask.caller), |known| known.caller.clone());
        if !ask.groups.is_empty() {
            caller.groups = ask.groups.iter().cloned().collect();
        }
        let shut = self.authority.check_caller(&caller, now).err();
        let purposeful = matches!(ask.action, Action::Reveal | Action::Find | Action::NamePurpose);
        if purposeful && ask.purpose.is_empty() {
            return Err(Error::new(Reason::PurposeRequired, "this right is for a purpose; name one").at("purpose"));
        }
        let about = match ask.action.over() {
            Over::Purpose => About::Purpose(&ask.purpose),
            Over::Vault => About::Vault,
            Over::Value => About::Value {
                kind: Some(ask.kind.ok_or_else(|| Error::invalid("type", "is missing: the right is to a value"))?),
                class: &ask.class,
                state: ask.state,
                jurisdiction: &ask.jurisdiction,
            },
        };
        let purpose = if ask.action.over() == Over::Value { ask.purpose.as_str() } else { "" };
        let inquiry = Inquiry::new(&caller, ask.action, about, now);
        let inquiry = Inquiry { purpose, redaction: ask.redaction, deduplicate: ask.deduplicate, ..inquiry };
        let mut decision = self.authority.decide(&inquiry)?;
        let mut refusal = (!decision.allowed).then_some(Reason::NotPermitted);
        if purposeful {
            let naming = Inquiry::new(&caller, Action::NamePurpose, About::Purpose(&ask.purpose), now);
            let named = self.authority.decide(&naming)?;
            if !named.allowed {
                (decision, refusal) = (named, Some(Reason::PurposeNotGranted));
            }
        }
        let all = self.authority.policies();
        let policies = all.into_iter().filter(|named| decision.policies.contains(&named.name)).collect();
        let refusal = shut.map(|error| error.reason).or(refusal);
        Ok(Simulated { refusal, redaction: decision.redaction.max(ask.redaction), policies })
    }

    /// How much of a value a caller may be shown at most, and by which policies; `None` when nothing, whatever they ask for:
    /// policies may refuse who asks for much, and not who asks for less.
    fn shown(&self, inquiry: Inquiry<'_>) -> Result<Option<(Redaction, Vec<String>)>> {
        for redaction in Redaction::ALL {
            let decision = self.authority.decide(&Inquiry { redaction, ..inquiry })?;
            if decision.allowed {
                return Ok(Some((decision.redaction.max(redaction), decision.policies.clone())));
            }
        }
        Ok(None)
    }

    /// Who may see what of a person, of so many callers after a name; and the name after which the next page begins.
    pub async fn who_can_access(
        &self,
        by: &Caller,
        subject: SubjectId,
        after: &str,
        size: u32,
    ) -> Result<(Vec<Access>, Option<String>)> {
        let mut tx = self.custody.store().read().await?;
        let person = self.people(&mut *tx, &[subject]).await?.remove(&subject).ok_or_else(|| unknown(subject))?;
        self.record_told(by, "ListWhoCanAccess", subject).await?;
        let (mut values, mut jurisdiction, mut from) = (BTreeSet::new(), None, None);
        loop {
            let page = tx.list_tokens(subject, from, PAGE).await?;
            let Some(last) = page.last() else { break };
            (from, jurisdiction) = (Some(last.token.row), last.jurisdiction.clone());
            let there = page.into_iter().map(|facts| facts.token).filter(|token| token.deleted_at.is_none());
            values.extend(there.map(|token| (token.kind, token.class)));
        }
        let stood: HashMap<String, Standing> =
            tx.standings_of(subject).await?.into_iter().map(|stood| (stood.purpose, stood.standing)).collect();
        drop(tx);
        let catalogue = self.library.refreshed().await?;
        let (callers, next) = self.list_callers(after, size).await?;
        let (nothing, now) = (Standing::default(), self.clock.now());
        let law = jurisdiction.as_ref().map_or("", Jurisdiction::as_str);
        let mut found = Vec::new();
        for caller in callers.into_iter().filter_map(|known| known.registered).map(|known| known.caller) {
            if self.authority.check_caller(&caller, now).is_err() {
                continue;
            }
            for purpose in catalogue.purposes() {
                if !self.authority.may_name(&caller, &purpose.code, now)? {
                    continue;
                }
                for (kind, class) in &values {
                    let (kind, state) = (*kind, person.state);
                    let about = About::Value { kind: Some(kind), class, state, jurisdiction: law };
                    let inquiry = Inquiry::new(&caller, Action::Reveal, about, now);
                    let shown = self.shown(Inquiry { purpose: &purpose.code, ..inquiry })?;
                    let Some((redaction, policies)) = shown.filter(|_| purpose.may_read(kind)) else { continue };
                    let channels = Channel::served_by(kind);
                    let question = Question { catalogue: &catalogue, purpose, channels, at: now };
                    let standing = stood.get(&purpose.code).unwrap_or(&nothing);
                    let lawful = permission(&question, &person, standing).outcome.err().map(|error| error.reason);
                    let unprofiled = kind == FieldType::Score && !person.profiling;
                    found.push(Access {
                        caller: caller.name.clone(),
                        purpose: purpose.code.clone(),
                        kind,
                        class: class.clone(),
                        redaction,
                        policies,
                        refusal: lawful.or(unprofiled.then_some(Reason::ProfilingOff)),
                    });
                }
            }
        }
        Ok((found, next))
    }
}
