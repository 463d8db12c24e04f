//! What rows of every format have in common: codes, counts, words, and who took part.

use super::{Mapping, Party, Told};
use crate::formats::vcon::without_secrets;
use crate::formats::{Json, Plain};
use crate::model::{Direction, Disposition, Error, LegFacts, PartyRole, Result, Time};

/// Most characters of a code.
const LONGEST_CODE: usize = 64;
/// Most characters of a number that is kept in clear.
const LONGEST_DIALLED: usize = 32;

/// What a row says, before it is known who is who.
#[derive(Default)]
pub struct Draft {
    pub source_call_id: String,
    pub revision: u64,
    pub group: String,
    /// Which way it goes, with the name of what says so.
    pub direction: Option<Direction>,
    pub direction_field: &'static str,
    pub caller: Plain,
    pub called: Plain,
    pub queue: String,
    pub skill: String,
    pub campaign: String,
    pub contact_list: String,
    pub started_at: Option<Time>,
    pub start_field: &'static str,
    pub rung_at: Option<Time>,
    pub answered_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub holds: u32,
    pub held_for: u32,
    pub disposition: Option<Disposition>,
    pub name: Plain,
    pub place: Plain,
    pub note: Plain,
    pub agent_id: Plain,
    pub agent_name: Plain,
}

impl Draft {
    /// What the row tells of.
    pub fn told(self, mapping: &Mapping) -> Result<Told> {
        let direction = self.direction.or(mapping.direction).ok_or_else(|| {
            let message =
                "does not say which way the call goes: name a direction for its word, or one for all, in the mapping";
            Error::invalid(self.direction_field, message)
        })?;
        let started_at = self.started_at.ok_or_else(|| Error::invalid(self.start_field, "is missing"))?;
        let mut parties = Vec::new();
        let mut dialled = String::new();
        if direction == Direction::Internal {
            parties.extend([self.caller, self.called].into_iter().filter(|name| !name.is_empty()).map(serving));
        } else {
            let number = if direction == Direction::Inbound {
                dialled = company_number(self.called.expose());
                self.caller
            } else {
                self.called
            };
            let note = without_secrets(self.note.expose()).map_or(self.note, Plain::from);
            let (name, place, agent_id) = (self.name, self.place, Plain::default());
            parties.push(Party { role: PartyRole::Customer, agent_id, number, name, place, note });
            if !self.agent_id.is_empty() {
                parties.push(Party { name: self.agent_name, ..serving(self.agent_id) });
            }
        }
        Ok(Told {
            source_call_id: self.source_call_id,
            revision: self.revision.max(1),
            group: self.group,
            facts: LegFacts {
                direction,
                dialled,
                queue: code(&self.queue),
                skill: code(&self.skill),
                campaign: code(&self.campaign),
                contact_list: code(&self.contact_list),
                started_at,
                rung_at: self.rung_at,
                answered_at: self.answered_at,
                ended_at: self.ended_at,
                holds: self.holds,
                held_for: self.held_for,
                disposition: self.disposition,
            },
            parties,
        })
    }
}

fn serving(agent_id: Plain) -> Party {
    let [number, name, place, note] = std::array::from_fn(|_| Plain::default());
    Party { role: PartyRole::Agent, agent_id, number, name, place, note }
}

/// The number of the company as it may be kept in clear; nothing for what nobody dials, as `s` or `client:desk`.
fn company_number(text: &str) -> String {
    let number: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')')).collect();
    let dials =
        number.len() <= LONGEST_DIALLED && number.bytes().all(|byte| byte.is_ascii_digit() || b"+*#".contains(&byte));
    if dials { number } else { String::new() }
}

/// A name as a code: in lower case, with a hyphen for whatever a code has not.
pub fn code(name: &str) -> String {
    let mut code = String::with_capacity(name.len().min(LONGEST_CODE));
    for c in name.trim().chars().map(|c| c.to_ascii_lowercase()) {
        let kept = c.is_ascii_alphanumeric() || "._:/-".contains(c);
        match (kept, code.ends_with('-')) {
            (true, _) => code.push(c),
            (false, false) => code.push('-'),
            (false, true) => {}
        }
        if code.len() == LONGEST_CODE {
            break;
        }
    }
    code.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// The number that stands in a field; none is nought.
pub fn count<N: std::str::FromStr + Default>(field: &str, text: &str) -> Result<N> {
    if text.trim().is_empty() {
        return Ok(N::default());
    }
    text.trim().parse().map_err(|_| Error::invalid(field, "is no whole number that fits"))
}

/// Compares words as people write them.
pub fn word(text: &str) -> String {
    text.trim().to_ascii_lowercase().replace(['_', '-'], " ")
}

/// Which way a call goes that has this word, by the mapping.
pub fn mapped_direction(text: &str, mapping: &Mapping) -> Option<Direction> {
    let wanted = word(text);
    mapping.directions.iter().find(|(known, _)| word(known) == wanted).map(|(_, direction)| *direction)
}

/// What stands at the end of a path of names; nothing when there is none of it.
pub fn at<'j>(json: &'j Json, path: &str) -> Option<&'j Json> {
    path.split('.').try_fold(json, |json, name| json.get(name))
}

/// The text at the end of a path; that of a number too.
pub fn text(json: &Json, path: &str) -> String {
    match at(json, path) {
        Some(Json::Text(text)) => text.expose().to_owned(),
        Some(Json::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}
