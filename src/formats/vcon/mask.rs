//! Finds the other people of a conversation in what was said and written, and puts a mask in their place.
//!
//! Whatever is known of the others is looked for: their names and parts of names, also those that their addresses tell; their
//! numbers, in any spelling and without country code; their addresses, also spoken; whatever a system noted of them. What
//! belongs to the one for whom it is made stays, even where another has it too. Not promised: a nickname that nobody wrote
//! down, and people who are spoken of and took no part.

use std::collections::BTreeSet;

use super::model::Party;
use super::names::{Word, folded, follow, is_same, runs_on, words};
use crate::formats::{Json, Plain};
use crate::model::digits::{Chain, chains, dialled};

/// Stands for what is not shown.
pub const MASK: &str = "[redacted]";

/// So many digits at the end of a number tell whose it is.
const TELLING: usize = 7;

/// Words of names and addresses that say nothing about who somebody is.
const COMMON: [&str; 46] = [
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
    "sales",
    "service",
    "support",
    "team",
    "test",
    "the",
    "unknown",
    "user",
    "von",
];

/// What is known of somebody.
#[derive(Default)]
struct Known {
    /// Words that stand one after the other.
    phrases: BTreeSet<Vec<String>>,
    /// Words each of which is telling.
    parts: BTreeSet<String>,
    /// What parts are run together, as in a user name.
    joined: BTreeSet<String>,
    /// Numbers, as digits.
    numbers: BTreeSet<String>,
}

impl Known {
    fn of(party: &Party) -> Self {
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
                "stir" | "did" | "uuid" | "gmlpos" => known.phrase(text),
                _ => {}
            }
        }
        for (name, text) in &party.civic {
            if !matches!(name.expose(), "country" | "a1") {
                known.phrase(text.expose());
            }
        }
        for (_, other) in &party.others {
            known.noted(other);
        }
        known
    }

    fn name(&mut self, text: &str) {
        if text.contains('@') {
            return self.address(text);
        }
        if text.chars().filter(char::is_ascii_digit).count() >= TELLING {
            return self.number(text);
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
            self.numbers.insert(digits);
        }
    }

    fn phrase(&mut self, text: &str) {
        let words = folded(text);
        if words.iter().any(|word| is_telling(word)) && words.iter().map(String::len).sum::<usize>() >= 3 {
            self.phrases.insert(words);
        }
    }

    /// What a system noted of somebody beside the format: ids, extensions, addresses.
    fn noted(&mut self, json: &Json) {
        match json {
            Json::Bool(_) | Json::Null => {}
            Json::List(items) => items.iter().for_each(|item| self.noted(item)),
            Json::Number(number) => self.noted(&number.to_string().as_str().into()),
            Json::Object(members) => members.iter().for_each(|(_, value)| self.noted(value)),
            Json::Text(text) => {
                let text = text.expose();
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
    fn join(&mut self, other: Self) {
        self.phrases.extend(other.phrases);
        self.parts.extend(other.parts);
        self.joined.extend(other.joined);
        self.numbers.extend(other.numbers);
    }
}

fn is_telling(part: &str) -> bool {
    (part.chars().count() >= 2 || runs_on(part)) && !COMMON.contains(&part) && !part.chars().all(|c| c.is_ascii_digit())
}

/// Puts masks in the place of other people.
pub struct Masker {
    own: Known,
    others: Known,
}

impl Masker {
    /// For somebody in a conversation with others.
    pub fn new<'p>(own: &Party, others: impl Iterator<Item = &'p Party>) -> Self {
        let own = Known::of(own);
        let mut known = Known::default();
        others.for_each(|party| known.join(Known::of(party)));
        // What both have is theirs as well.
        known
            .phrases
            .retain(|phrase| !own.phrases.contains(phrase) && !phrase.iter().all(|word| own.parts.contains(word)));
        known.parts.retain(|part| !own.parts.contains(part));
        known.joined.retain(|joined| !own.joined.contains(joined));
        known.numbers.retain(|number| !own.numbers.contains(number));
        Self { own, others: known }
    }

    /// The text without the others; `None` when none of them is in it.
    pub fn without(&self, text: &str) -> Option<Plain> {
        let spans = self.spans(text);
        if spans.is_empty() {
            return None;
        }
        let (mut masked, mut done) = (String::with_capacity(text.len()), 0);
        for (from, to) in spans {
            masked.push_str(text.get(done..from).unwrap_or_default());
            masked.push_str(MASK);
            done = to;
        }
        masked.push_str(text.get(done..).unwrap_or_default());
        // What stood apart may have come together.
        Some(if self.spans(&masked).is_empty() { masked.into() } else { MASK.into() })
    }

    /// The text without the others.
    pub fn text(&self, text: &Plain) -> Plain {
        self.without(text.expose()).unwrap_or_else(|| text.copy())
    }

    /// A document without the others, names of its members included.
    pub fn json(&self, json: &Json) -> Json {
        match json {
            Json::Bool(_) | Json::Null => json.copy(),
            Json::List(items) => self.list(items),
            Json::Number(number) => match self.without(&number.to_string()) {
                Some(masked) => Json::Text(masked),
                None => json.copy(),
            },
            Json::Object(members) => Json::Object(self.members(members)),
            Json::Text(text) => self.embedded(text.expose()).unwrap_or_else(|| Json::Text(self.text(text))),
        }
    }

    fn members(&self, members: &[(Plain, Json)]) -> Vec<(Plain, Json)> {
        let mut kept: Vec<(Plain, Json)> = Vec::with_capacity(members.len());
        for (name, value) in members {
            let mut name = self.text(name);
            while kept.iter().any(|(other, _)| other.expose() == name.expose()) {
                name = format!("{}_", name.expose()).into();
            }
            kept.push((name, self.json(value)));
        }
        kept
    }

    /// A document within a text, where a name may be written with escapes.
    pub fn embedded(&self, text: &str) -> Option<Json> {
        let begins = text.trim_start().starts_with(['{', '[']);
        let inner = begins.then(|| Json::parse(text.as_bytes(), "").ok()).flatten()?;
        Some(Json::Text(self.json(&inner).write().unwrap_or_else(|_| MASK.into())))
    }

    /// Items one by one, and what they say together: a transcript may have an item for each word.
    fn list(&self, items: &[Json]) -> Json {
        let mut names: BTreeSet<Option<&str>> = BTreeSet::new();
        for item in items {
            match item {
                Json::Object(members) => names.extend(members.iter().map(|(name, _)| Some(name.expose()))),
                Json::Text(_) => drop(names.insert(None)),
                _ => {}
            }
        }
        let mut hidden: BTreeSet<(usize, Option<&str>)> = BTreeSet::new();
        for name in names {
            let (mut said, mut places) = (String::new(), Vec::new());
            for (at, item) in items.iter().enumerate() {
                let leaf = name.map_or(Some(item), |name| item.get(name)).and_then(Json::text);
                let Some(leaf) = leaf.filter(|leaf| leaf.len() <= 64) else { continue };
                places.push((at, said.len(), said.len() + leaf.len()));
                said.push_str(leaf);
                said.push(' ');
            }
            for (from, to) in self.spans(&said) {
                let across = places.iter().filter(|(_, begin, end)| *begin < to && *end > from);
                if across.clone().count() > 1 {
                    hidden.extend(across.map(|(at, ..)| (*at, name)));
                }
            }
        }
        let shown = |(at, item): (usize, &Json)| match item {
            Json::Text(_) if hidden.contains(&(at, None)) => MASK.into(),
            Json::Object(members) => {
                let mut kept = self.members(members);
                for ((name, _), (_, value)) in members.iter().zip(&mut kept) {
                    if hidden.contains(&(at, Some(name.expose()))) {
                        *value = MASK.into();
                    }
                }
                Json::Object(kept)
            }
            other => self.json(other),
        };
        Json::List(items.iter().enumerate().map(shown).collect())
    }

    /// Where others stand in a text, in order and apart from each other.
    fn spans(&self, text: &str) -> Vec<(usize, usize)> {
        let words = words(text);
        let chains = chains(text);
        let own = phrases(text, &words, &self.own.phrases)
            .into_iter()
            .chain(chains.iter().flat_map(|chain| numbers(chain, &self.own.numbers)));
        let own: Vec<_> = own.collect();
        let mut found = phrases(text, &words, &self.others.phrases);
        found.extend(words.iter().filter(|word| self.names(&word.text)).map(|word| (word.from, word.to)));
        found.extend(self.run_on(text));
        found.extend(chains.iter().flat_map(|chain| numbers(chain, &self.others.numbers)));
        found.retain(|(from, to)| !own.iter().any(|(begin, end)| begin <= from && to <= end));
        let tokens = tokens(text);
        for span in &mut found {
            for (begin, end) in &tokens {
                let theirs = own.iter().any(|(from, to)| from < end && begin < to);
                if *begin < span.1 && span.0 < *end && !theirs {
                    *span = (span.0.min(*begin), span.1.max(*end));
                }
            }
        }
        joined(text, found)
    }

    /// Whether a word is a name of another.
    fn names(&self, word: &str) -> bool {
        let others = &self.others;
        let own = self.own.parts.contains(word) || self.own.joined.contains(word);
        !own && (others
            .parts
            .iter()
            .any(|part| is_same(word, part) || (part.chars().count() >= 6 && word.contains(part.as_str())))
            || others.joined.iter().any(|joined| joined.len() >= 5 && word.contains(joined.as_str())))
    }

    /// Names in scripts that put no spaces between words.
    fn run_on(&self, text: &str) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for part in self.others.parts.iter().filter(|part| runs_on(part)) {
            found.extend(text.match_indices(part.as_str()).map(|(at, part)| (at, at + part.len())));
        }
        found
    }
}

fn phrases(text: &str, words: &[Word], phrases: &BTreeSet<Vec<String>>) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, first) in words.iter().enumerate() {
        let Some(rest) = words.get(at..) else { continue };
        for phrase in phrases.iter().filter(|phrase| phrase.first().is_some_and(|word| is_same(&first.text, word))) {
            let last = follow(text, rest, phrase).and_then(|taken| rest.get(taken.checked_sub(1)?));
            found.extend(last.map(|last| (first.from, last.to)));
        }
    }
    found
}

/// Where these numbers stand in a chain of digits. The end of a number is enough; what stands before it is its beginning.
fn numbers(chain: &Chain, numbers: &BTreeSet<String>) -> Vec<(usize, usize)> {
    let digits = chain.digits.as_bytes();
    let mut found = Vec::new();
    for number in numbers.iter().map(String::as_bytes) {
        for end in 1..=digits.len() {
            let said = digits.get(..end).unwrap_or_default().iter().rev();
            let same = said.zip(number.iter().rev()).take_while(|(one, other)| one == other).count();
            let whole = same == number.len() && (same >= 4 || same == digits.len());
            let tail = same == digits.len() && same >= 4;
            if same >= TELLING || whole || tail {
                let before = end - same;
                found.extend(chain.span(if before <= 6 { 0 } else { before }, end));
            }
        }
    }
    found
}

/// Addresses in a text: what holds the sign, or begins with a scheme.
fn tokens(text: &str) -> Vec<(usize, usize)> {
    let cut = |c: char| {
        c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\'' | '(' | ')' | '[' | ']' | '{' | '}' | ',' | ';')
    };
    let mut tokens = Vec::new();
    let mut from = 0;
    for piece in text.split(cut) {
        let lower = piece.to_ascii_lowercase();
        let scheme =
            ["sip:", "sips:", "tel:", "mailto:", "http:", "https:"].iter().any(|scheme| lower.starts_with(scheme));
        if scheme || piece.contains('@') {
            tokens.push((from, from + piece.trim_end_matches(['.', ':', '!', '?']).len()));
        }
        from += piece.len();
        from += text.get(from..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    }
    tokens
}

/// Spans in order, those that touch as one.
fn joined(text: &str, mut spans: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    spans.sort_unstable();
    let mut joined: Vec<(usize, usize)> = Vec::new();
    for (from, to) in spans {
        match joined.last_mut() {
            Some(last) if from <= last.1 || touches(text.get(last.1..from)) => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

fn touches(between: Option<&str>) -> bool {
    between.is_some_and(|gap| gap.len() <= 2 && gap.chars().all(|c| matches!(c, ' ' | '.' | '-' | '_' | ',')))
}
