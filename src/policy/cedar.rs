//! Policies as Cedar knows them: parsed, validated against the published schema, asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::str::FromStr as _;

use cedar_policy::{
    ActionConstraint, Authorizer, Context, Decision as Verdict, Effect, Entities, Entity, EntityId, EntityTypeName,
    EntityUid, Policy, PolicyId, PolicySet, PrincipalConstraint, Request, RestrictedExpression, Schema, ValidationMode,
    Validator,
};
use miette::Diagnostic;

use super::Caller;
use super::action::Action;
use super::authority::{About, Decision, Inquiry};
use crate::model::{Error, FieldType, Redaction, Result, Time};

/// The published schema.
pub const SCHEMA: &str = include_str!("../../policies/lacuna.cedarschema");
/// What is always in force.
const BUILT_IN: (&str, &str) = ("built-in.cedar", include_str!("../../policies/built-in.cedar"));
/// What is in force while the operator has configured nothing.
const WITHOUT_POLICIES: (&str, &str) =
    ("without-policies.cedar", include_str!("../../policies/without-policies.cedar"));
/// The annotation that names a policy.
const ID: &str = "id";
/// The annotation that limits how much is shown.
const REDACTION: &str = "redaction";
/// What decisions may depend on that is not known before the value is.
const DETAILS: [&str; 2] = ["class", "jurisdiction"];

/// The type of a token that does not exist.
const UNKNOWN: &str = "UNKNOWN";

/// Why policies cannot be used: the file, the line and the fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// A file of policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its name, for people.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// A policy and where it stands.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its `@id`, or else its place.
    pub name: String,
    /// The file and line.
    pub place: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Policies that fit together and with the schema.
pub struct Policies {
    /// Those that permit or forbid.
    rights: PolicySet,
    /// Those that limit how much is shown.
    limits: PolicySet,
    /// What each demands of redaction.
    demands: HashMap<PolicyId, Redaction>,
    /// The actions and the groups they are in.
    actions: Entities,
    authorizer: Authorizer,
    /// What each is called.
    named: Vec<Named>,
    /// Whether any looks at the time.
    timed: bool,
    /// Whether any looks at details that are not known before the value is.
    detailed: bool,
}

impl Policies {
    /// Reads policies and checks them against the schema; without any, the built-in ones.
    ///
    /// # Errors
    /// Naming the file and the line.
    pub fn parse(files: Option<&[PolicyFile]>) -> Result<Self, Unusable> {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| refused(error.to_string()))?;
        let built_in = |(name, text): (&str, &str)| PolicyFile { name: name.to_owned(), text: text.to_owned() };
        let mut all = vec![built_in(BUILT_IN)];
        match files {
            Some(files) => all.extend_from_slice(files),
            None => all.push(built_in(WITHOUT_POLICIES)),
        }
        let mut policies = Self {
            rights: PolicySet::new(),
            limits: PolicySet::new(),
            demands: HashMap::new(),
            actions: schema.action_entities().map_err(|error| refused(error.to_string()))?,
            authorizer: Authorizer::new(),
            named: Vec::new(),
            timed: false,
            detailed: false,
        };
        let validator = Validator::new(schema);
        for file in &all {
            policies.read(file, &validator)?;
        }
        Ok(policies)
    }

    /// The policies, those that are built in first.
    #[must_use]
    pub fn named(&self) -> &[Named] {
        &self.named
    }

    /// Whether decisions may change with the time alone.
    #[must_use]
    pub const fn timed(&self) -> bool {
        self.timed
    }

    /// Whether decisions may depend on a retention class or a jurisdiction.
    #[must_use]
    pub const fn detailed(&self) -> bool {
        self.detailed
    }

    fn read(&mut self, file: &PolicyFile, validator: &Validator) -> Result<(), Unusable> {
        let set: PolicySet = file.text.parse().map_err(|errors: cedar_policy::ParseErrors| {
            let all: Vec<String> = errors.iter().map(|error| told(file, error, &error.to_string(), None)).collect();
            refused(all.join("; "))
        })?;
        if let Some(template) = set.templates().next() {
            let line = line_of(file, &template.to_cedar());
            return Err(refused(format!("{}:{line}: has a slot; name a caller or a group instead", file.name)));
        }
        let lines: HashMap<PolicyId, usize> = set
            .policies()
            .map(|policy| (policy.id().clone(), line_of(file, &policy.to_cedar().unwrap_or_default())))
            .collect();
        let validation = validator.validate(&set, ValidationMode::default());
        let line = |id: &PolicyId| lines.get(id).copied();
        let mut faults: Vec<String> = validation
            .validation_errors()
            .map(|error| told(file, error, &error.to_string(), line(error.policy_id())))
            .collect();
        // A policy that can never apply is a mistake, and a look-alike letter may be worse.
        faults.extend(
            validation
                .validation_warnings()
                .map(|warning| told(file, warning, &warning.to_string(), line(warning.policy_id()))),
        );
        if !faults.is_empty() {
            faults.sort();
            return Err(refused(faults.join("; ")));
        }
        let mut ordered: Vec<&Policy> = set.policies().collect();
        ordered.sort_by_key(|policy| lines.get(policy.id()));
        for policy in ordered {
            let line = lines.get(policy.id()).copied().unwrap_or(1);
            self.add(policy, format!("{}:{line}", file.name))?;
        }
        Ok(())
    }

    fn add(&mut self, policy: &Policy, place: String) -> Result<(), Unusable> {
        let name = policy.annotation(ID).filter(|name| !name.is_empty()).unwrap_or(&place).to_owned();
        if self.named.iter().any(|known| known.name == name) {
            return Err(refused(format!("{place}: another policy has the id {name:?}")));
        }
        let json = policy.to_json().map_err(|error| refused(format!("{place}: {error}")))?.to_string();
        self.timed |= json.contains("\"time\"");
        self.detailed |= DETAILS.iter().any(|detail| json.contains(&format!("\"{detail}\"")));
        let id = PolicyId::new(&name);
        let policy = policy.new_id(id.clone());
        let demand = policy.annotation(REDACTION).map(|demand| {
            Redaction::ALL.into_iter().find(|redaction| redaction.name() == demand).ok_or_else(|| {
                refused(format!("{place}: @redaction is PLAIN_TEXT, MASKED, LAST_FOUR or REDACTED, not {demand:?}"))
            })
        });
        let demand = demand.transpose()?;
        let annotations = policy.annotations().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let limits = demand.is_some() && policy.effect() == Effect::Forbid;
        if let Some(demand) = demand {
            self.demands.insert(id, demand);
        }
        let set = if limits { &mut self.limits } else { &mut self.rights };
        set.add(policy).map_err(|error| refused(format!("{place}: {error}")))?;
        self.named.push(Named { name, place, annotations });
        Ok(())
    }

    /// Asks the policies.
    ///
    /// # Errors
    /// `Internal` when the question cannot be put.
    pub fn decide(&self, inquiry: &Inquiry<'_>) -> Result<Decision> {
        let entities = self.entities(inquiry)?;
        let request = request(inquiry)?;
        let response = self.authorizer.is_authorized(&request, &self.rights, &entities);
        let mut policies: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        let mut failed: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
        let mut redaction = Redaction::PlainText;
        if inquiry.action == Action::Reveal && response.decision() == Verdict::Allow {
            let limits = self.authorizer.is_authorized(&request, &self.limits, &entities);
            let demands = response.diagnostics().reason().chain(limits.diagnostics().reason());
            redaction = demands.filter_map(|id| self.demands.get(id)).copied().max().unwrap_or(redaction);
            policies.extend(limits.diagnostics().reason().map(ToString::to_string));
            failed.extend(limits.diagnostics().errors().map(ToString::to_string));
        }
        policies.sort_unstable();
        // What could not be evaluated might have forbidden it.
        for error in &failed {
            tracing::error!(caller = inquiry.caller.name, action = inquiry.action.name(), error, "a policy failed");
        }
        let allowed = response.decision() == Verdict::Allow && failed.is_empty();
        Ok(Decision { allowed, redaction, policies })
    }

    /// Whether any policy could permit an action to a caller, whatever it is about.
    #[must_use]
    pub fn could(&self, caller: &Caller, action: Action) -> bool {
        let (Ok(principal), Ok(action)) = (uid("Caller", &caller.name), uid("Action", action.name())) else {
            return false;
        };
        let member = |group: &EntityUid| {
            *group == principal
                || (group.type_name().to_string() == "Lacuna::Group" && caller.groups.contains(group.id().unescaped()))
        };
        let acts = |of: &EntityUid| *of == action || self.actions.is_ancestor_of(of, &action);
        self.rights.policies().filter(|policy| policy.effect() == Effect::Permit).any(|policy| {
            let principal = match policy.principal_constraint() {
                PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
                PrincipalConstraint::Eq(of) => of == principal,
                PrincipalConstraint::In(of) | PrincipalConstraint::IsIn(_, of) => member(&of),
            };
            principal
                && match policy.action_constraint() {
                    ActionConstraint::Any => true,
                    ActionConstraint::Eq(of) => of == action,
                    ActionConstraint::In(of) => of.iter().any(acts),
                }
        })
    }

    fn entities(&self, inquiry: &Inquiry<'_>) -> Result<Entities> {
        let mut new = vec![caller_entity(inquiry.caller)?];
        match inquiry.about {
            About::Purpose(code) => new.extend(purposes(code)?),
            About::Vault => {}
            About::Value { kind, class, state, .. } => {
                let attributes = HashMap::from([
                    ("type".to_owned(), entity("FieldType", kind.map_or(UNKNOWN, FieldType::name))?),
                    ("class".to_owned(), RestrictedExpression::new_string(class.to_owned())),
                    ("state".to_owned(), entity("SubjectState", state.name())?),
                ]);
                let value = Entity::new(uid("Value", "value")?, attributes, HashSet::new());
                new.push(value.map_err(Error::internal)?);
                new.extend(purposes(inquiry.purpose)?);
            }
        }
        self.actions.clone().add_entities(new, None).map_err(Error::internal)
    }
}

fn refused(message: String) -> Unusable {
    Unusable(message)
}

/// A fault with the place where it is, as far as that is known, and what helps.
fn told(file: &PolicyFile, fault: &dyn Diagnostic, message: &str, line: Option<usize>) -> String {
    let at = fault.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
    let line = at.and_then(|at| file.text.get(..at)).map(|before| before.matches('\n').count() + 1).or(line);
    let help = fault.help().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{}:{}: {message}{help}", file.name, line.unwrap_or(1))
}

fn line_of(file: &PolicyFile, text: &str) -> usize {
    let before = file.text.find(text).and_then(|at| file.text.get(..at)).unwrap_or_default();
    before.matches('\n').count() + 1
}

fn uid(kind: &str, id: &str) -> Result<EntityUid> {
    let kind = EntityTypeName::from_str(&format!("Lacuna::{kind}")).map_err(Error::internal)?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn entity(kind: &str, id: &str) -> Result<RestrictedExpression> {
    Ok(RestrictedExpression::new_entity_uid(uid(kind, id)?))
}

fn caller_entity(caller: &Caller) -> Result<Entity> {
    let groups = caller.groups.iter().map(|group| uid("Group", group)).collect::<Result<HashSet<_>>>()?;
    let mut attributes = HashMap::new();
    if let Some(codes) = &caller.purposes {
        let codes = codes.iter().map(|code| entity("Purpose", code)).collect::<Result<Vec<_>>>()?;
        attributes.insert("purposes".to_owned(), RestrictedExpression::new_set(codes));
    }
    Entity::new(uid("Caller", &caller.name)?, attributes, groups).map_err(Error::internal)
}

/// A purpose and those above it.
fn purposes(code: &str) -> Result<Vec<Entity>> {
    let mut all = Vec::new();
    let mut below = code;
    loop {
        let above = below.rsplit_once('.').map(|(above, _)| above);
        let parents = above.map(|above| uid("Purpose", above)).transpose()?.into_iter().collect();
        all.push(Entity::new_no_attrs(uid("Purpose", below)?, parents));
        let Some(above) = above else { return Ok(all) };
        below = above;
    }
}

fn request(inquiry: &Inquiry<'_>) -> Result<Request> {
    let minute = inquiry.minute.saturating_mul(60_000_000);
    let time = Time::from_micros(minute).to_string();
    let time = format!("{}Z", time.split(['.', 'Z']).next().unwrap_or_default());
    let mut context = vec![("time".to_owned(), RestrictedExpression::new_datetime(time))];
    let resource = match inquiry.about {
        About::Purpose(code) => uid("Purpose", code)?,
        About::Vault => uid("Vault", "vault")?,
        About::Value { jurisdiction, .. } => {
            let jurisdiction = RestrictedExpression::new_string(jurisdiction.to_owned());
            context.push(("jurisdiction".to_owned(), jurisdiction));
            if matches!(inquiry.action, Action::Reveal | Action::Find) {
                context.push(("purpose".to_owned(), entity("Purpose", inquiry.purpose)?));
            }
            if inquiry.action == Action::Tokenize {
                context.push(("deduplicate".to_owned(), RestrictedExpression::new_bool(inquiry.deduplicate)));
            }
            if inquiry.action == Action::Reveal {
                context.push(("redaction".to_owned(), entity("Redaction", inquiry.redaction.name())?));
            }
            uid("Value", "value")?
        }
    };
    let context = Context::from_pairs(context).map_err(Error::internal)?;
    let (principal, action) = (uid("Caller", &inquiry.caller.name)?, uid("Action", inquiry.action.name())?);
    Request::new(principal, action, resource, context, None).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::super::action::Over;
    use super::*;
    use crate::model::SubjectState;

    #[test]
    fn the_schema_knows_every_action_type_and_state() {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).unwrap();
        let known: HashSet<String> = schema.actions().map(|action| action.id().unescaped().to_owned()).collect();
        let groups: HashSet<String> = schema.action_groups().map(|action| action.id().unescaped().to_owned()).collect();
        let ours: HashSet<String> = Action::ALL.iter().map(|action| action.name().to_owned()).collect();
        assert_eq!(known.difference(&groups).cloned().collect::<HashSet<_>>(), ours);
        for action in Action::ALL {
            let over = match action.over() {
                Over::Purpose => "Lacuna::Purpose",
                Over::Value => "Lacuna::Value",
                Over::Vault => "Lacuna::Vault",
            };
            let resources = schema.resources_for_action(&uid("Action", action.name()).unwrap()).unwrap();
            assert_eq!(resources.map(ToString::to_string).collect::<Vec<_>>(), [over], "{action:?}");
        }
        for kind in FieldType::ALL {
            assert!(SCHEMA.contains(&format!("\"{}\"", kind.name())));
        }
    }

    #[test]
    fn questions_are_put_as_the_schema_says() {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).unwrap();
        let caller = Caller { groups: ["a".to_owned()].into(), ..Caller::named("ada") };
        let policies = Policies::parse(None).unwrap();
        for action in Action::ALL {
            let about = match action.over() {
                Over::Purpose => About::Purpose("marketing.email"),
                Over::Value => {
                    About::Value { kind: None, class: "default", state: SubjectState::Active, jurisdiction: "DE" }
                }
                Over::Vault => About::Vault,
            };
            let inquiry = Inquiry {
                purpose: "marketing.email",
                ..Inquiry::new(&caller, *action, about, Time::from_micros(1_795_262_400_000_000))
            };
            let asked = request(&inquiry).unwrap();
            asked.context().unwrap().validate(&schema, &uid("Action", action.name()).unwrap()).unwrap();
            let entities: Vec<Entity> = policies.entities(&inquiry).unwrap().iter().cloned().collect();
            Entities::from_entities(entities, Some(&schema)).unwrap();
            assert!(policies.decide(&inquiry).unwrap().allowed, "{action:?}");
            assert!(policies.could(&caller, *action), "{action:?}");
        }
    }
}
