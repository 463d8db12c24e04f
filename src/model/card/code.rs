//! Security codes of cards (CVV2, CVC2, CAV2), known by the words beside them.
//!
//! Three or four figures beside the name of such a code are one, written or said. Names that other codes have as well ("security
//! code") count with exactly three figures behind them: a password for one use has more. Not promised: names in other languages, and
//! a code that is told without its name.

use super::without;
use crate::model::digits::{chains, digit};

/// Names of these codes, word by word, in small letters; and whether nothing else is called so.
const NAMES: [(&[&str], bool); 18] = [
    (&["cav2"], true),
    (&["card", "verification"], true),
    (&["codice", "di", "sicurezza"], false),
    (&["código", "de", "seguridad"], false),
    (&["cryptogramme"], false),
    (&["csc"], false),
    (&["cvc"], true),
    (&["cvc2"], true),
    (&["cvn"], true),
    (&["cvv"], true),
    (&["cvv2"], true),
    (&["kartenprüfnummer"], true),
    (&["kartenprüfziffer"], true),
    (&["kartenpruefnummer"], true),
    (&["security", "code"], false),
    (&["securitycode"], false),
    (&["sicherheitscode"], false),
    (&["verification", "value"], true),
];

/// Words that stand between a name and its code.
const FILLERS: [&str; 25] = [
    "a", "and", "code", "das", "der", "die", "for", "her", "is", "ist", "it", "its", "lautet", "mein", "meine", "my",
    "no", "nr", "number", "nummer", "of", "s", "the", "value", "visuel",
];

/// How far a code may stand from its name, in bytes.
const REACH: usize = 48;

/// Whether a field of this name holds a security code.
#[must_use]
pub fn names_security_code(name: &str) -> bool {
    let words: Vec<_> = words(name).collect();
    names(name, &words).next().is_some()
}

/// Whether this could be a security code: three or four figures and nothing else.
#[must_use]
pub fn is_security_code(text: &str) -> bool {
    let text = text.trim();
    matches!(text.chars().count(), 3 | 4) && text.chars().all(|c| digit(c).is_some())
}

/// Whether a security code is told.
pub fn contains(text: &str) -> bool {
    codes(text).next().is_some()
}

/// The text with `mask` in place of every security code; `None` when there is none.
pub fn mask(text: &str, mask: &str) -> Option<String> {
    let mut codes: Vec<_> = codes(text).collect();
    codes.sort_unstable();
    without(text, codes, mask)
}

/// Where security codes stand.
fn codes(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let words: Vec<_> = if text.len() > 5 { words(text).collect() } else { Vec::new() };
    let names: Vec<_> = names(text, &words).collect();
    names.into_iter().flat_map(|(from, to, sure)| {
        let before = if sure { before(text, from) } else { None };
        before.into_iter().chain(behind(text, to, sure))
    })
}

/// The code behind a name that ends there.
fn behind(text: &str, name: usize, sure: bool) -> Option<(usize, usize)> {
    let rest = text.get(name..)?;
    let near = (0..=REACH.min(rest.len())).rev().find_map(|end| rest.get(..end))?;
    let chain = chains(near).into_iter().next()?;
    let length = [chain.run(), chain.digits.len()].into_iter().find(|length| is_code(*length, sure))?;
    let (from, to) = chain.span(0, length)?;
    // What is cut off at the end of the reach may go on.
    let goes_on = rest.get(to..)?.chars().next().is_some_and(|c| digit(c).is_some());
    (!goes_on && is_filled(near.get(..from)?)).then_some((name + from, name + to))
}

/// The code before a name that begins there: "123 is the CVV".
fn before(text: &str, name: usize) -> Option<(usize, usize)> {
    let rest = text.get(..name)?;
    let begin = (rest.len().saturating_sub(REACH)..=rest.len()).find(|at| rest.is_char_boundary(*at))?;
    let near = rest.get(begin..)?;
    let chain = chains(near).into_iter().next_back()?;
    // Figures in groups are a date as well.
    let one = chain.spoken || chain.run() == chain.digits.len();
    let (from, to) = chain.span(0, chain.digits.len()).filter(|_| one && is_code(chain.digits.len(), true))?;
    let goes_on = rest.get(..begin + from)?.chars().next_back().is_some_and(|c| digit(c).is_some());
    let joins = near.get(to..)?;
    (!goes_on && is_filled(joins) && !joins.contains([';', '\n'])).then_some((begin + from, begin + to))
}

fn is_code(length: usize, sure: bool) -> bool {
    length == 3 || (sure && length == 4)
}

/// Whether nothing stands there but what joins a name and its code, within one sentence.
fn is_filled(text: &str) -> bool {
    let filler = |(from, to)| text.get(from..to).is_some_and(|word| FILLERS.iter().any(|filler| reads(word, filler)));
    words(text).all(filler) && !text.contains(['.', '?', '!'])
}

/// Where names of these codes stand, and whether nothing else is called so.
fn names<'t>(text: &'t str, words: &'t [(usize, usize)]) -> impl Iterator<Item = (usize, usize, bool)> + 't {
    words.iter().enumerate().filter_map(move |(at, (from, _))| {
        let here = |name: &[&str]| {
            let of_text = words.iter().skip(at).map(|(from, to)| text.get(*from..*to).unwrap_or_default());
            let mut both = of_text.zip(name);
            (words.len() - at >= name.len()).then_some(()).filter(|()| both.all(|(word, name)| reads(word, name)))
        };
        let (name, sure) = NAMES.iter().rev().find(|(name, _)| here(name).is_some())?;
        words.get(at + name.len() - 1).map(|(_, to)| (*from, *to, *sure))
    })
}

/// The words of a text: letters and figures without anything between them.
fn words(text: &str) -> impl Iterator<Item = (usize, usize)> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(move |word| {
        let from = word.as_ptr().addr() - text.as_ptr().addr();
        (from, from + word.len())
    })
}

/// Whether a word is this one, in letters of any case.
fn reads(word: &str, known: &str) -> bool {
    word.chars().flat_map(char::to_lowercase).eq(known.chars())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_by_its_name() {
        for (text, masked) in [
            ("CVV 123", "CVV #"),
            ("cvc: 1234", "cvc: #"),
            ("cvv2=123, 12/27", "cvv2=#, 12/27"),
            ("Kartenprüfnummer ist 123.", "Kartenprüfnummer ist #."),
            ("KARTENPRÜFNUMMER 123", "KARTENPRÜFNUMMER #"),
            ("my security code is 123", "my security code is #"),
            ("the cvv is one two three", "the cvv is #"),
            ("card verification value 999 and thanks", "card verification value # and thanks"),
            ("it is 123, the CVV", "it is #, the CVV"),
            ("cvv 123 or cvv 456", "cvv # or cvv #"),
            ("123 is the cvv, not 456", "# is the cvv, not 456"),
            ("123 cvv 456", "# cvv #"),
        ] {
            assert!(contains(text), "{text}");
            assert_eq!(mask(text, "#").as_deref(), Some(masked), "{text}");
        }
    }

    #[test]
    fn what_is_no_code_is_let_through() {
        for text in [
            "",
            "cvv",
            "123",
            "the security code is 123456",
            "the security code is 1234",
            "no cvv was taken. Room 123",
            "cvv please, then the 1999 invoice",
            "cvvs 123",
            "cvv 12345",
            "we never ask for a cvv",
            "order 123; cvv not taken",
        ] {
            assert!(!contains(text), "{text}");
        }
    }

    #[test]
    fn fields_are_known_by_their_names() {
        assert!(
            ["cvv", "card_cvc", "CVV2", "security code", "card-verification"]
                .iter()
                .all(|name| names_security_code(name))
        );
        assert!(!["code", "cv", "note", "security"].iter().any(|name| names_security_code(name)));
        assert!(["123", " 1234 "].iter().all(|text| is_security_code(text)));
        assert!(!["12", "12345", "12a", ""].iter().any(|text| is_security_code(text)));
    }
}
