//! Who somebody in a call is: the person whom the index knows by the same number, or the agent by the same name.

use crate::model::{Facts, Subject, SubjectId, SubjectState, Time, TokenState};
use crate::policy;

use super::{AGENT, PROVISIONAL};

/// Most people that a number is said to belong to.
const MOST_CANDIDATES: usize = 10;

/// Somebody whom a value is known of.
#[derive(Clone, Debug)]
pub struct Found {
    subject: SubjectId,
    kind: String,
    tags: Vec<String>,
    active: bool,
}

impl Found {
    /// Whoever the value of a token is of; `None` when the token or its subject does not live any more.
    #[must_use]
    pub fn of(facts: &Facts, subject: &Subject, now: Time) -> Option<Self> {
        let lives = subject.state < SubjectState::Shredding && policy::token_state(facts, now) == TokenState::Active;
        lives.then(|| Self {
            subject: subject.id,
            kind: subject.kind.as_str().to_owned(),
            tags: facts.token.tags.clone(),
            active: subject.state == SubjectState::Active,
        })
    }

    /// Whether something may be kept of them.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.active
    }

    /// Who it is.
    #[must_use]
    pub const fn subject(&self) -> SubjectId {
        self.subject
    }
}

/// Who is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The one; `None` for somebody new.
    pub subject: Option<SubjectId>,
    /// Whether something may be kept of them.
    pub active: bool,
    /// Who else it may be.
    pub candidates: Vec<SubjectId>,
}

/// Chooses among those of whom a value is known. `agent` is the mark of an agent's name; without it a person is looked for.
///
/// A number is no person: it may belong to several. Then nobody is chosen who is known otherwise, and all are candidates.
#[must_use]
pub fn choose(agent: Option<&str>, found: &[Found]) -> Choice {
    let of = |one: &Found, candidates| Choice { subject: Some(one.subject), active: one.active, candidates };
    if let Some(mark) = agent {
        let marked = |one: &&Found| one.kind == AGENT && one.tags.iter().any(|tag| tag == mark);
        let nobody = Choice { active: true, ..Choice::default() };
        return found.iter().filter(marked).min_by_key(|one| one.subject).map_or(nobody, |one| of(one, Vec::new()));
    }
    let mut people: Vec<&Found> = found.iter().filter(|one| one.kind != AGENT && one.kind != PROVISIONAL).collect();
    people.sort_by_key(|one| one.subject);
    people.dedup_by_key(|one| one.subject);
    if let [one] = people.as_slice() {
        return of(one, Vec::new());
    }
    let candidates: Vec<SubjectId> = people.iter().take(MOST_CANDIDATES).map(|one| one.subject).collect();
    // Whoever is known by the number alone may have their processing restricted as well: they do not begin anew.
    let provisional = found.iter().filter(|one| one.kind == PROVISIONAL).min_by_key(|one| (!one.active, one.subject));
    match provisional {
        Some(one) => of(one, candidates),
        None => Choice { subject: None, active: true, candidates },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(number: u8, kind: &str, active: bool) -> Found {
        let tags = vec!["agent_id:pbx".to_owned()];
        Found { subject: SubjectId::from_bytes([number; 16]), kind: kind.to_owned(), tags, active }
    }

    fn chosen(agent: Option<&str>, all: &[Found]) -> (Option<u8>, bool, Vec<u8>) {
        let choice = choose(agent, all);
        let number = |id: &SubjectId| id.as_bytes()[0];
        (choice.subject.as_ref().map(number), choice.active, choice.candidates.iter().map(number).collect())
    }

    #[test]
    fn a_number_of_one_person_means_them() {
        assert_eq!(chosen(None, &[found(1, "customer", true), found(1, "customer", true)]), (Some(1), true, vec![]));
        assert_eq!(
            chosen(None, &[found(1, "customer", false), found(2, "provisional", true)]),
            (Some(1), false, vec![])
        );
    }

    #[test]
    fn a_number_of_several_means_nobody_whom_one_knows() {
        let two = [found(2, "customer", true), found(1, "prospect", false)];
        assert_eq!(chosen(None, &two), (None, true, vec![1, 2]));
        let met = [&two[..], &[found(3, "provisional", true)]].concat();
        assert_eq!(chosen(None, &met), (Some(3), true, vec![1, 2]));
    }

    #[test]
    fn a_number_of_nobody_means_whoever_called_with_it_before() {
        assert_eq!(chosen(None, &[]), (None, true, vec![]));
        assert_eq!(chosen(None, &[found(9, "agent", true)]), (None, true, vec![]), "an agent's own number");
        assert_eq!(
            chosen(None, &[found(4, "provisional", true), found(3, "provisional", true)]),
            (Some(3), true, vec![])
        );
        let rests = found(3, "provisional", false);
        assert_eq!(chosen(None, std::slice::from_ref(&rests)), (Some(3), false, vec![]), "nobody new");
        assert_eq!(chosen(None, &[rests, found(4, "provisional", true)]), (Some(4), true, vec![]));
    }

    #[test]
    fn an_agent_is_told_by_the_name_in_one_system() {
        let all = [found(1, "customer", true), found(2, "agent", true)];
        assert_eq!(chosen(Some("agent_id:pbx"), &all), (Some(2), true, vec![]));
        assert_eq!(chosen(Some("agent_id:other"), &all).0, None);
    }
}
