//! The one decision: policies, asked with memory.
//!
//! A decision of Cedar's takes some microseconds and there are tens of thousands a second, nearly all alike. So what was
//! decided is remembered, with everything it was decided by; the memory goes with the policies, and where a policy
//! looks at the time it lasts for a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use super::action::{Action, Over};
use super::catalogue::Catalogue;
use super::cedar::Policies;
use crate::model::{Error, Facts, FieldType, Jurisdiction, Reason, Redaction, Result, SubjectState, Time};

/// Someone who has been authenticated: who they are, not what they may do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Their name in the configuration; it stands in the audit log.
    pub name: String,
    /// The groups they are in.
    pub groups: BTreeSet<String>,
    /// The purposes that the configuration limits them to; `None` without a limit.
    pub purposes: Option<BTreeSet<String>>,
}

impl Caller {
    /// A caller in no group and without limits.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), groups: BTreeSet::new(), purposes: None }
    }
}

/// Someone in the configuration, as the register of authorised persons has them.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Who.
    pub caller: Caller,
    /// Whom they stand for.
    pub person: String,
    /// Who authorised them.
    pub granted_by: String,
    /// The first day, `YYYY-MM-DD`, or empty.
    pub from: String,
    /// The last day, `YYYY-MM-DD`, or empty.
    pub until: String,
    /// The day of their training, `YYYY-MM-DD`, or empty.
    pub trained: String,
}

/// What a right is wanted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum About<'a> {
    /// A purpose, by its code.
    Purpose(&'a str),
    /// One value.
    Value {
        /// Its type; `None` of a token that does not exist.
        kind: Option<FieldType>,
        /// Its retention class.
        class: &'a str,
        /// Where its subject is.
        state: SubjectState,
        /// Whose law applies to its subject; empty when not known.
        jurisdiction: &'a str,
    },
    /// Everything else.
    Vault,
}

impl<'a> About<'a> {
    /// The value behind a token; `None` for a token that does not exist.
    #[must_use]
    pub fn value(facts: Option<&'a Facts>) -> Self {
        facts.map_or(Self::Value { kind: None, class: "", state: SubjectState::Active, jurisdiction: "" }, |facts| {
            Self::Value {
                kind: Some(facts.token.kind),
                class: &facts.token.class,
                state: facts.state,
                jurisdiction: facts.jurisdiction.as_ref().map_or("", Jurisdiction::as_str),
            }
        })
    }
}

/// A question to the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inquiry<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// For which right.
    pub action: Action,
    /// To what.
    pub about: About<'a>,
    /// For what purpose; empty where none is named.
    pub purpose: &'a str,
    /// How much they ask to be shown.
    pub redaction: Redaction,
    /// Whether they ask for the token of an equal value, and so whether there is one.
    pub deduplicate: bool,
    /// When, in minutes.
    pub minute: i64,
}

impl<'a> Inquiry<'a> {
    /// A question without a purpose.
    #[must_use]
    pub const fn new(caller: &'a Caller, action: Action, about: About<'a>, now: Time) -> Self {
        let minute = now.micros().div_euclid(60_000_000);
        Self { caller, action, about, purpose: "", redaction: Redaction::PlainText, deduplicate: false, minute }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is permitted.
    pub allowed: bool,
    /// The strongest redaction that any policy demands that applies; of a reveal.
    pub redaction: Redaction,
    /// The policies that made it, by name: those that permit, or those that forbid; none when nothing permits.
    pub policies: Vec<String>,
}

/// A question as it is remembered.
struct Key {
    caller: Caller,
    action: Action,
    about: OwnAbout,
    purpose: String,
    redaction: Redaction,
    deduplicate: bool,
    minute: i64,
}

enum OwnAbout {
    Purpose(String),
    Value { kind: Option<FieldType>, class: String, state: SubjectState, jurisdiction: String },
    Vault,
}

impl Key {
    fn new(inquiry: &Inquiry<'_>) -> Self {
        let about = match inquiry.about {
            About::Purpose(code) => OwnAbout::Purpose(code.to_owned()),
            About::Value { kind, class, state, jurisdiction } => {
                OwnAbout::Value { kind, class: class.to_owned(), state, jurisdiction: jurisdiction.to_owned() }
            }
            About::Vault => OwnAbout::Vault,
        };
        Self {
            caller: inquiry.caller.clone(),
            action: inquiry.action,
            about,
            purpose: inquiry.purpose.to_owned(),
            redaction: inquiry.redaction,
            deduplicate: inquiry.deduplicate,
            minute: inquiry.minute,
        }
    }

    fn inquiry(&self) -> Inquiry<'_> {
        let about = match &self.about {
            OwnAbout::Purpose(code) => About::Purpose(code),
            OwnAbout::Value { kind, class, state, jurisdiction } => {
                About::Value { kind: *kind, class, state: *state, jurisdiction }
            }
            OwnAbout::Vault => About::Vault,
        };
        Inquiry {
            caller: &self.caller,
            action: self.action,
            about,
            purpose: &self.purpose,
            redaction: self.redaction,
            deduplicate: self.deduplicate,
            minute: self.minute,
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inquiry().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.inquiry() == other.inquiry()
    }
}

impl Eq for Key {}

impl Equivalent<Key> for Inquiry<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self == key.inquiry()
    }
}

/// How many decisions are remembered.
const REMEMBERED: usize = 16_384;

/// Policies with the memory of what they decided.
struct InForce {
    policies: Policies,
    decided: Cache<Key, Arc<Decision>>,
}

impl InForce {
    fn remembered(
        &self,
        inquiry: &Inquiry<'_>,
        decide: impl FnOnce(&Policies) -> Result<Decision>,
    ) -> Result<Arc<Decision>> {
        if let Some(known) = self.decided.get(inquiry) {
            return Ok(known);
        }
        let decision = Arc::new(decide(&self.policies)?);
        self.decided.insert(Key::new(inquiry), Arc::clone(&decision));
        Ok(decision)
    }
}

/// From when until when somebody is authorised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// Not before; `None` for always.
    pub begins: Option<Time>,
    /// No longer than; `None` for ever.
    pub ends: Option<Time>,
}

/// Callers who are refused everything.
#[derive(Default)]
struct Shut {
    /// How many changes this comes from.
    generation: i64,
    disabled: BTreeSet<String>,
}

/// Whoever is asked. The policies in force can be replaced under it, and callers be shut out.
pub struct Authority {
    in_force: RwLock<Arc<InForce>>,
    shut: RwLock<Arc<Shut>>,
    /// From when until when callers are authorised; those who are not in it, always.
    terms: BTreeMap<String, Term>,
}

impl Authority {
    /// An authority that goes by these policies.
    #[must_use]
    pub fn new(policies: Policies) -> Self {
        let in_force = RwLock::new(Arc::new(InForce { policies, decided: Cache::new(REMEMBERED) }));
        Self { in_force, shut: RwLock::default(), terms: BTreeMap::new() }
    }

    /// The same, where some callers are authorised for a time only.
    #[must_use]
    pub fn with_terms(self, terms: BTreeMap<String, Term>) -> Self {
        Self { terms, ..self }
    }

    /// How many changes of callers are known.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.shut().generation
    }

    /// Takes note of who is disabled after so many changes.
    pub fn learn(&self, generation: i64, disabled: BTreeSet<String>) {
        *self.shut.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Shut { generation, disabled });
    }

    fn shut(&self) -> Arc<Shut> {
        Arc::clone(&self.shut.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Refuses a caller who is disabled, or not authorised now, everything.
    ///
    /// # Errors
    /// `CallerDisabled`.
    pub fn check_caller(&self, caller: &Caller, now: Time) -> Result<()> {
        let term = self.terms.get(&caller.name).copied().unwrap_or_default();
        let message = if term.ends.is_some_and(|end| end <= now) {
            "the caller's authorisation has ended"
        } else if term.begins.is_some_and(|begin| now < begin) {
            "the caller's authorisation has not begun yet"
        } else if self.shut().disabled.contains(&caller.name) {
            "the caller was disabled"
        } else {
            return Ok(());
        };
        Err(Error::new(Reason::CallerDisabled, message).with("caller", &caller.name))
    }

    /// Puts other policies in force. Whatever is decided when this returns is decided by them.
    pub fn replace(&self, policies: Policies) {
        let new = Arc::new(InForce { policies, decided: Cache::new(REMEMBERED) });
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The names and places of the policies in force.
    #[must_use]
    pub fn policies(&self) -> Vec<super::cedar::Named> {
        self.in_force().policies.named().to_vec()
    }

    /// Decides.
    ///
    /// # Errors
    /// `Internal` when the question cannot be put.
    pub fn decide(&self, inquiry: &Inquiry<'_>) -> Result<Arc<Decision>> {
        let in_force = self.in_force();
        let minute = if in_force.policies.timed() { inquiry.minute } else { 0 };
        let inquiry = Inquiry { minute, ..*inquiry };
        in_force.remembered(&inquiry, |policies| policies.decide(&inquiry))
    }

    /// Whether a caller may begin an rpc. What one is about that is about values is not known yet: it is enough here that
    /// some policy could permit it, and each value is decided about later.
    ///
    /// # Errors
    /// `CallerDisabled` or `NotPermitted`.
    pub fn enter(&self, caller: &Caller, action: Action, now: Time) -> Result<()> {
        self.check_caller(caller, now)?;
        if self.could(caller, action, now)? { Ok(()) } else { Err(not_permitted(caller, action)) }
    }

    /// Whether the policies permit a right, or could where it depends on what it is about.
    ///
    /// # Errors
    /// `Internal` when the question cannot be put.
    pub fn could(&self, caller: &Caller, action: Action, now: Time) -> Result<bool> {
        let inquiry = Inquiry::new(caller, action, About::Vault, now);
        let decision = match action.over() {
            Over::Vault => self.decide(&inquiry)?,
            Over::Purpose | Over::Value => {
                let could = |policies: &Policies| {
                    let allowed = policies.could(caller, action);
                    Ok(Decision { allowed, redaction: Redaction::PlainText, policies: Vec::new() })
                };
                self.in_force().remembered(&Inquiry { minute: 0, ..inquiry }, could)?
            }
        };
        Ok(decision.allowed)
    }

    /// Whether a caller may do something to a value. Answers the redaction that is demanded.
    ///
    /// # Errors
    /// `CallerDisabled` or `NotPermitted`.
    pub fn check(&self, inquiry: &Inquiry<'_>, now: Time) -> Result<Redaction> {
        self.check_caller(inquiry.caller, now)?;
        let decision = self.decide(inquiry)?;
        if decision.allowed { Ok(decision.redaction) } else { Err(not_permitted(inquiry.caller, inquiry.action)) }
    }

    /// Whether a caller may search values of a type for a purpose, as far as that can be told before any is found.
    ///
    /// # Errors
    /// `NotPermitted`.
    pub fn check_search(&self, caller: &Caller, kind: FieldType, purpose: &str, now: Time) -> Result<()> {
        if self.in_force().policies.detailed() {
            return Ok(());
        }
        for state in SubjectState::ALL {
            let about = About::Value { kind: Some(kind), class: "", state, jurisdiction: "" };
            if self.decide(&Inquiry { purpose, ..Inquiry::new(caller, Action::Find, about, now) })?.allowed {
                return Ok(());
            }
        }
        Err(not_permitted(caller, Action::Find))
    }

    /// Whether a caller may name a purpose.
    ///
    /// # Errors
    /// `Internal` when the question cannot be put.
    pub fn may_name(&self, caller: &Caller, code: &str, now: Time) -> Result<bool> {
        Ok(self.decide(&Inquiry::new(caller, Action::NamePurpose, About::Purpose(code), now))?.allowed)
    }

    /// Refuses a purpose of the catalogue that a caller may not name.
    ///
    /// # Errors
    /// `CallerDisabled` or `PurposeNotGranted`.
    pub fn check_purpose(&self, caller: &Caller, code: &str, now: Time) -> Result<()> {
        self.check_caller(caller, now)?;
        if self.may_name(caller, code, now)? {
            return Ok(());
        }
        let error = Error::new(Reason::PurposeNotGranted, "the caller holds no grant for this purpose");
        Err(error.with("caller", &caller.name).with("purpose", code))
    }

    /// Whether a caller is told who objects to direct marketing: by right, or because they may name a purpose of it.
    /// Nobody else is: the answer would tell that somebody with this identifier once objected.
    ///
    /// # Errors
    /// `Internal` when the question cannot be put.
    pub fn may_market(&self, caller: &Caller, catalogue: &Catalogue, now: Time) -> Result<bool> {
        if self.decide(&Inquiry::new(caller, Action::ReadSuppression, About::Vault, now))?.allowed {
            return Ok(true);
        }
        for purpose in catalogue.purposes().filter(|purpose| purpose.direct_marketing) {
            if self.may_name(caller, &purpose.code, now)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The refusal for a right that a caller does not have.
#[must_use]
pub fn not_permitted(caller: &Caller, action: Action) -> Error {
    let error = Error::new(Reason::NotPermitted, "no policy permits the caller to do this");
    error.with("caller", &caller.name).with("action", action.name())
}
