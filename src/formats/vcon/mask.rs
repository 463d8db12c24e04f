//! Finds the other people of a conversation in what was said and written, and puts a mask in their place.
//!
//! Whatever is known of the others is looked for: their names and parts of names, also those that their addresses tell; their
//! numbers, in any spelling and without country code; their addresses, also spoken; whatever a system noted of them. What
//! belongs to the one for whom it is made stays, even where another has it too. Not promised: a nickname that nobody wrote
//! down, and people who are spoken of and took no part.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::known::{Known, TELLING, literal};
use super::model::Party;
use super::names::{Word, folded, follow, runs_on, words};
use crate::formats::{Json, Plain};
use crate::model::digits::{Chain, chains};

/// Stands for what is not shown.
pub const MASK: &str = "[redacted]";

/// Words that follow each other, with the literal that they must be if they must be one.
type Phrase = (Vec<String>, Option<String>);

/// Whom to look for, by what finds them fast.
#[derive(Default)]
struct Sought {
    /// Phrases by their first word.
    phrases: HashMap<String, Vec<Phrase>>,
    /// Numbers by their last digits.
    numbers: HashMap<Vec<u8>, Vec<Vec<u8>>>,
}

/// So many digits at the end are what numbers are found by; no other number is shorter, but one that stands alone.
const LAST: usize = 4;

impl Sought {
    fn new(known: &Known) -> Self {
        let mut sought = Self::default();
        let literals = known.literals.iter().map(|id| (folded(id), Some(id.clone())));
        for (words, literal) in known.phrases.iter().map(|words| (words.clone(), None)).chain(literals) {
            if let Some(first) = words.first() {
                sought.phrases.entry(first.clone()).or_default().push((words, literal));
            }
        }
        for number in known.numbers.iter().map(String::as_bytes) {
            let last = number.get(number.len().saturating_sub(LAST)..).unwrap_or_default();
            sought.numbers.entry(last.to_vec()).or_default().push(number.to_vec());
        }
        sought
    }

    /// Where what is sought stands in a text; of what begins at one place the longest.
    fn spans(&self, text: &str, words: &[Word], chains: &[Chain]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (at, first) in words.iter().enumerate() {
            let rest = words.get(at..).unwrap_or_default();
            let genitive = first.text.strip_suffix('s').filter(|word| word.len() >= 3);
            let phrases = [Some(first.text.as_str()), genitive].into_iter().flatten();
            let phrases = phrases.filter_map(|word| self.phrases.get(word)).flatten();
            let ends = phrases.filter_map(|(phrase, wanted)| {
                let last = follow(text, rest, phrase).and_then(|taken| rest.get(taken.checked_sub(1)?))?;
                let said = || text.get(first.from..last.to).map(literal);
                wanted.as_ref().is_none_or(|wanted| said().is_some_and(|said| said == bare(wanted))).then_some(last.to)
            });
            found.extend(ends.max().map(|end| (first.from, end)));
        }
        for chain in chains {
            self.numbers(chain, &mut found);
        }
        found
    }

    /// Where these numbers stand in a chain of digits. The end of a number is enough; what stands before it is its beginning.
    fn numbers(&self, chain: &Chain, found: &mut Vec<(usize, usize)>) {
        let digits = chain.digits.as_bytes();
        for end in LAST.min(digits.len()).max(1)..=digits.len() {
            let last = digits.get(end.saturating_sub(LAST)..end).unwrap_or_default();
            let from = self.numbers.get(last).into_iter().flatten().filter_map(|number| {
                let said = digits.get(..end).unwrap_or_default().iter().rev();
                let same = said.zip(number.iter().rev()).take_while(|(one, other)| one == other).count();
                let whole = same == number.len() && (same >= LAST || same == digits.len());
                let tail = same == digits.len() && same >= LAST;
                let before = end - same;
                (same >= TELLING || whole || tail).then_some(if before <= 6 { 0 } else { before })
            });
            found.extend(from.min().and_then(|from| chain.span(from, end)));
        }
    }
}

/// An id without the signs around it, which are no words.
fn bare(literal: &str) -> &str {
    literal.trim_matches(|c: char| !c.is_alphanumeric())
}

/// Spans by where they begin, each with the farthest end of those so far.
struct Spans(Vec<(usize, usize)>);

impl Spans {
    fn new(mut spans: Vec<(usize, usize)>) -> Self {
        spans.sort_unstable();
        let mut farthest = 0;
        for (_, end) in &mut spans {
            farthest = farthest.max(*end);
            *end = farthest;
        }
        Self(spans)
    }

    /// The farthest end of those that begin before it.
    fn end(&self, before: usize) -> usize {
        let count = self.0.partition_point(|(from, _)| *from < before);
        count.checked_sub(1).and_then(|last| self.0.get(last)).map_or(0, |(_, end)| *end)
    }
}

/// Puts masks in the place of other people.
pub struct Masker {
    own: Known,
    theirs: Sought,
    others: Known,
    sought: Sought,
    /// What is found within a word as well.
    within: Vec<String>,
}

impl Masker {
    /// For somebody in a conversation with others.
    pub fn new<'p>(own: &Party, others: impl Iterator<Item = &'p Party>) -> Self {
        let own = Known::told(own);
        let mut known = Known::default();
        others.for_each(|party| known.join(Known::of(party)));
        // What both have is theirs as well.
        known
            .phrases
            .retain(|phrase| !own.phrases.contains(phrase) && !phrase.iter().all(|word| own.parts.contains(word)));
        known.parts.retain(|part| !own.parts.contains(part));
        known.joined.retain(|joined| !own.joined.contains(joined));
        known.numbers.retain(|number| !own.numbers.contains(number));
        known.literals.retain(|literal| !own.literals.contains(literal));
        let long = known.parts.iter().filter(|part| part.chars().count() >= 6);
        let within = long.chain(known.joined.iter().filter(|joined| joined.len() >= 5)).cloned().collect();
        Self { theirs: Sought::new(&own), sought: Sought::new(&known), own, others: known, within }
    }

    /// The text without the others; `None` when none of them is in it.
    pub fn without(&self, text: &str) -> Option<Plain> {
        // A name may be written with escapes in what cannot be read as a whole, or with noughts between its letters.
        if self.others.is_too_much() || is_escaped(text) || text.contains('\0') {
            return Some(MASK.into());
        }
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
        let (mut names, mut counts) = (HashSet::new(), HashMap::<String, usize>::new());
        for (name, value) in members {
            let mut name = self.text(name);
            if names.contains(name.expose()) {
                let count = counts.entry(name.expose().to_owned()).or_default();
                let mut other = String::new();
                while other.is_empty() || names.contains(&other) {
                    *count += 1;
                    other = format!("{}_{count}", name.expose());
                }
                name = other.into();
            }
            names.insert(name.expose().to_owned());
            kept.push((name, self.json(value)));
        }
        kept
    }

    /// A document within a text, where a name may be written with escapes.
    pub fn embedded(&self, text: &str) -> Option<Json> {
        let inner = Json::within(text)?;
        Some(Json::Text(self.json(&inner).write().unwrap_or_else(|_| MASK.into())))
    }

    /// Items one by one, and what they say together: a transcript may have an item for each word.
    fn list(&self, items: &[Json]) -> Json {
        let mut leaves: BTreeMap<Option<&str>, Vec<(usize, &str)>> = BTreeMap::new();
        for (at, item) in items.iter().enumerate() {
            let members = if let Json::Object(members) = item { members.as_slice() } else { &[] };
            let members = members.iter().map(|(name, value)| (Some(name.expose()), value.text()));
            for (name, leaf) in members.chain([(None, item.text())]) {
                if let Some(leaf) = leaf.filter(|leaf| leaf.len() <= 64) {
                    leaves.entry(name).or_default().push((at, leaf));
                }
            }
        }
        let mut hidden: BTreeSet<(usize, Option<&str>)> = BTreeSet::new();
        for (name, leaves) in leaves.into_iter().filter(|(_, leaves)| leaves.len() > 1) {
            let (mut said, mut places) = (String::new(), Vec::with_capacity(leaves.len()));
            for (at, leaf) in leaves {
                places.push((at, said.len(), said.len() + leaf.len()));
                said.push_str(leaf);
                said.push(' ');
            }
            for (from, to) in self.spans(&said) {
                let first = places.partition_point(|(_, _, end)| *end <= from);
                let across = places.iter().skip(first).take_while(|(_, begin, _)| *begin < to);
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
        let own = Spans::new(self.theirs.spans(text, &words, &chains));
        let mut found = self.sought.spans(text, &words, &chains);
        found.extend(words.iter().filter(|word| self.names(&word.text)).map(|word| (word.from, word.to)));
        found.extend(self.run_on(text));
        found.retain(|(from, to)| own.end(from + 1) < *to);
        let mut tokens = tokens(text);
        tokens.retain(|(begin, end)| own.end(*end) <= *begin);
        for (from, to) in &mut found {
            let (begun, ended) = (*from, *to);
            let first = tokens.partition_point(|(_, end)| *end <= begun);
            let behind = tokens.partition_point(|(begin, _)| *begin < ended);
            if let Some([(begin, _), ..]) = tokens.get(first..behind) {
                *from = begun.min(*begin);
            }
            if let Some([.., (_, end)]) = tokens.get(first..behind) {
                *to = ended.max(*end);
            }
        }
        joined(text, found)
    }

    /// Whether a word is a name of another.
    fn names(&self, word: &str) -> bool {
        let others = &self.others;
        let own = self.own.parts.contains(word) || self.own.joined.contains(word);
        let genitive = word.strip_suffix('s').filter(|word| word.len() >= 3);
        let one = |word| others.parts.contains(word);
        !own && (one(word) || genitive.is_some_and(one) || self.within.iter().any(|part| word.contains(part.as_str())))
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

/// Whether characters are written as escapes of JSON.
fn is_escaped(text: &str) -> bool {
    text.match_indices("\\u").any(|(at, _)| {
        let rest = text.get(at + 2..).unwrap_or_default();
        rest.starts_with('{') || (rest.len() >= 4 && rest.bytes().take(4).all(|byte| byte.is_ascii_hexdigit()))
    })
}
