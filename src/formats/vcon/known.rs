//! What is known of the people of a conversation, as words and numbers that can be looked for.

use std::collections::BTreeSet;

use super::model::Party;
use super::names::{folded, runs_on};
use crate::formats::Json;
use crate::model::digits::{dialled, digit, is_invisible};

/// So many digits at the end of a number tell whose it is.
pub const TELLING: usize = 7;

/// Most words of one phrase out of a note; a longer one is looked for piece by piece.
const MOST_WORDS: usize = 16;

/// Most digits of a number, of which the last ones tell.
const MOST_DIGITS: usize = 20;

/// Longest note that is taken for an id, in bytes.
const LONGEST_ID: usize = 64;

/// Most that is looked for of what systems noted of people. Where there is more, nothing can be shown.
const MOST_NOTED: usize = 1024;

/// Words of names and addresses that say nothing about who somebody is.
const COMMON: [&str; 50] = [
    "account",
    "admin",
    "agent",
    "and",
    "anonymous",
    "billing",
    "business",
    "caller",
    "com",
    "contact",
    "contacts",
    "customer",
    "da",
    "de",
    "del",
    "der",
    "desk",
    "di",
    "dr",
    "du",
    "el",
    "ext",
    "hello",
    "help",
    "in",
    "info",
    "inbound",
    "la",
    "le",
    "mail",
    "mr",
    "mrs",
    "ms",
    "noreply",
    "of",
    "office",
    "out",
    "outbound",
    "phone",
    "sales",
    "service",
    "sip",
    "support",
    "team",
    "tel",
    "test",
    "the",
    "unknown",
    "user",
    "von",
];

/// What is known of somebody.
#[derive(Default)]
pub struct Known {
    /// Words that stand one after the other.
    pub phrases: BTreeSet<Vec<String>>,
    /// Words each of which is telling.
    pub parts: BTreeSet<String>,
    /// What parts are run together, as in a user name.
    pub joined: BTreeSet<String>,
    /// Numbers, as digits.
    pub numbers: BTreeSet<String>,
    /// Ids as they are written, of which no word is telling.
    pub literals: BTreeSet<String>,
    /// How much was noted, beside what the format tells.
    noted: usize,
}

impl Known {
    /// What the format tells of somebody.
    pub fn told(party: &Party) -> Self {
        let mut known = Self::default();
        for (name, text) in &party.told {
            let text = text.expose();
            match *name {
                "name" => known.name(text),
                "mailto" => known.address(text),
                "tel" => known.number(text),
                "sip" => {
                    known.number(text.split('@').next().unwrap_or_default());
                    known.address(text);
                }
                "did" | "uuid" => {
                    known.phrase(text);
                    known.literal(text);
                }
                "stir" | "gmlpos" => known.phrase(text),
                _ => {}
            }
        }
        for (name, text) in &party.civic {
            if !matches!(name.expose(), "country" | "a1") {
                known.phrase(text.expose());
            }
        }
        known
    }

    /// All that is known of somebody, with what a system noted of them. That is never enough to say what is theirs: in the note of one
    /// may stand the name of another.
    pub fn of(party: &Party) -> Self {
        let mut known = Self::told(party);
        for (_, other) in &party.others {
            known.note(other);
        }
        known
    }

    /// Whether there is more than can be looked for.
    pub const fn is_too_much(&self) -> bool {
        self.noted > MOST_NOTED
    }

    fn name(&mut self, text: &str) {
        if text.contains('@') {
            return self.address(text);
        }
        let digits: String = text.chars().filter_map(digit).map(|digit| char::from(b'0' + digit)).collect();
        if digits.len() >= TELLING {
            self.number(text);
            self.number(&digits);
        }
        let parts: Vec<String> = folded(text).into_iter().filter(|part| is_telling(part)).collect();
        for part in &parts {
            self.parts.insert(part.clone());
        }
        if let ([first, .., last], Some(initial)) =
            (parts.as_slice(), parts.first().and_then(|part| part.chars().next()))
        {
            self.joined.extend([parts.concat(), format!("{last}{first}"), format!("{first}{last}")]);
            self.parts.extend([format!("{initial}{last}"), format!("{last}{initial}")]);
        }
        self.phrase(text);
    }

    /// An address of e-mail or SIP, of which the part before the sign is often a name.
    fn address(&mut self, text: &str) {
        let bare = text.rsplit_once(':').map_or(text, |(_, bare)| bare);
        let (user, _) = bare.split_once('@').unwrap_or((bare, ""));
        self.phrase(bare);
        let parts: Vec<String> = folded(user).into_iter().filter(|part| part.len() >= 3 && is_telling(part)).collect();
        if let [first, .., last] = parts.as_slice() {
            self.joined.extend([parts.concat(), format!("{last}{first}")]);
        }
        self.parts.extend(parts);
    }

    fn number(&mut self, text: &str) {
        let digits = dialled(text);
        if digits.len() >= 3 {
            self.numbers.insert(digits.get(digits.len().saturating_sub(MOST_DIGITS)..).unwrap_or_default().to_owned());
        }
    }

    fn phrase(&mut self, text: &str) {
        let words = folded(text);
        for (at, words) in words.chunks(MOST_WORDS).enumerate() {
            let says = words.iter().any(|word| is_telling(word)) && words.iter().map(String::len).sum::<usize>() >= 3;
            // What a long text ends with may be a word like any other.
            if says && (at == 0 || words.len() >= 4) {
                self.phrases.insert(words.to_vec());
            }
        }
    }

    /// An id of which no word is telling by itself: `4711`, `a-7`.
    fn literal(&mut self, text: &str) {
        let literal = literal(text);
        if literal.chars().count() >= 2 && literal.chars().any(char::is_alphanumeric) {
            self.literals.insert(literal);
        }
    }

    /// What a system noted of somebody beside the format: ids, extensions, addresses.
    fn note(&mut self, json: &Json) {
        if self.is_too_much() {
            return;
        }
        match json {
            Json::Bool(_) | Json::Null => {}
            Json::List(items) => items.iter().for_each(|item| self.note(item)),
            Json::Number(number) => self.note(&number.to_string().as_str().into()),
            Json::Object(members) => members.iter().for_each(|(_, value)| self.note(value)),
            Json::Text(text) => {
                let text = text.expose();
                self.noted += 1 + text.len() / 128;
                if text.len() <= LONGEST_ID && !text.contains(char::is_whitespace) && text.contains(char::is_numeric) {
                    self.literal(text);
                }
                let digits = text.chars().filter(char::is_ascii_digit).count();
                if !text.is_empty() && digits * 2 > text.len() && !text.contains('@') {
                    self.number(text);
                } else if text.contains('@') {
                    self.address(text);
                } else if text.len() >= 4 {
                    self.phrase(text);
                }
            }
        }
    }

    /// Adds what is known of somebody else.
    pub fn join(&mut self, other: Self) {
        self.phrases.extend(other.phrases);
        self.parts.extend(other.parts);
        self.joined.extend(other.joined);
        self.numbers.extend(other.numbers);
        self.literals.extend(other.literals);
        self.noted = self.noted.saturating_add(other.noted);
    }
}

/// An id as it is compared: without what cannot be seen, in lower case.
pub fn literal(text: &str) -> String {
    text.trim().chars().filter(|c| !is_invisible(*c)).flat_map(char::to_lowercase).collect()
}

fn is_telling(part: &str) -> bool {
    (part.chars().count() >= 2 || runs_on(part)) && !COMMON.contains(&part) && !part.chars().all(|c| c.is_ascii_digit())
}
