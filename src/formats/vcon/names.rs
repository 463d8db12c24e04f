//! Words of a text, folded so that a name is found whatever its case, accents and spelling are.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use crate::model::digits::is_invisible;

/// Most characters between two words of one name, as in `Hernandez,  D.` or `diana_._hernandez`.
const WIDEST_GAP: usize = 4;

/// What people say for the signs of an address.
const SIGNS: [&str; 12] = [
    "at",
    "dash",
    "dot",
    "hyphen",
    "minus",
    "period",
    "point",
    "punkt",
    "underscore",
    "unterstrich",
    "bindestrich",
    "strich",
];

/// A word, and where in the text it stands.
pub struct Word {
    /// The word, folded.
    pub text: String,
    /// Where it begins, in bytes.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
}

/// The letters of a character that tell names apart: lower case, without accents.
fn letters(c: char) -> impl Iterator<Item = char> {
    let plain = |c: char| match c {
        // Of those of two letters, the one where others write two.
        'ø' | 'œ' => 'o',
        'ł' => 'l',
        'đ' | 'ð' => 'd',
        'ħ' => 'h',
        'ı' => 'i',
        'þ' => 't',
        'æ' => 'a',
        other => other,
    };
    let upper = c.to_uppercase().flat_map(char::to_lowercase);
    upper.flat_map(|c| std::iter::once(c).nfkd().collect::<Vec<_>>()).filter(|c| !is_combining_mark(*c)).map(plain)
}

/// One spelling for `Müller`, `Mueller` and `Muller`.
fn one_spelling(word: &str) -> String {
    let mut folded = String::with_capacity(word.len());
    let mut last = None;
    for c in word.chars() {
        let second = matches!((last, c), (Some('a' | 'o' | 'u'), 'e') | (Some('a'), 'a'));
        if !second {
            folded.push(c);
        }
        last = Some(c);
    }
    folded
}

/// The words of a text. Letters and digits are apart, so that `diana77` is a name and a number.
pub fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut open: Option<(Word, bool)> = None;
    let mut close = |open: &mut Option<(Word, bool)>| {
        if let Some((mut word, _)) = open.take() {
            word.text = one_spelling(&word.text);
            words.push(word);
        }
    };
    for (at, c) in text.char_indices() {
        let to = at + c.len_utf8();
        if is_invisible(c) || is_combining_mark(c) {
            if let Some((word, _)) = &mut open {
                word.to = to;
            }
        } else if c.is_alphanumeric() {
            let digit = c.is_numeric();
            if open.as_ref().is_some_and(|(_, digits)| *digits != digit) {
                close(&mut open);
            }
            let (word, _) = open.get_or_insert_with(|| (Word { text: String::new(), from: at, to }, digit));
            word.text.extend(letters(c));
            word.to = to;
        } else {
            close(&mut open);
        }
    }
    close(&mut open);
    words
}

/// The folded words alone.
pub fn folded(text: &str) -> Vec<String> {
    words(text).into_iter().map(|word| word.text).collect()
}

/// Whether a script puts no spaces between words, so that a name is found within others.
pub fn runs_on(word: &str) -> bool {
    word.chars().any(|c| matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}'))
}

/// Where these words stand one after the other, beginning with the first of `words`: how many of them that takes.
pub fn follow(text: &str, words: &[Word], pattern: &[String]) -> Option<usize> {
    let mut taken = 0;
    let mut end: Option<usize> = None;
    for wanted in pattern {
        let mut found = None;
        for (at, word) in words.iter().enumerate().skip(taken).take(2) {
            let near =
                end.is_none_or(|end| text.get(end..word.from).is_some_and(|gap| gap.chars().count() <= WIDEST_GAP));
            if !near {
                break;
            }
            if is_same(&word.text, wanted) {
                found = Some((at, word.to));
                break;
            }
            // Of what is said for a sign, one word may be between.
            if end.is_none() || !SIGNS.contains(&word.text.as_str()) {
                break;
            }
            end = Some(word.to);
        }
        let (at, to) = found?;
        (taken, end) = (at + 1, Some(to));
    }
    Some(taken)
}

/// Whether a word is a part of a name, perhaps in the genitive.
pub fn is_same(word: &str, wanted: &str) -> bool {
    word == wanted || (wanted.len() >= 3 && word.strip_suffix('s') == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_name_are_one() {
        for spelling in ["Müller", "MUELLER", "muller", "Mu\u{308}ller", "M\u{200b}üller", "Ｍüller"] {
            assert_eq!(folded(spelling), ["muller"], "{spelling}");
        }
        assert_eq!(folded("Nguyễn Søren Łukasz Weiß"), ["nguyen", "soren", "lukasz", "weiss"]);
        assert_eq!(folded("diana77_x"), ["diana", "77", "x"]);
    }

    #[test]
    fn words_follow_each_other_over_signs() {
        let pattern = folded("diana.hernandez@gmail.com");
        for text in
            ["Diana Hernandez at gmail dot com", "diana dot hernandez at gmail dot com", "DIANA.HERNANDEZ@gmail.com"]
        {
            assert!(follow(text, &words(text), &pattern).is_some(), "{text}");
        }
        assert!(follow("diana and hernandez", &words("diana and hernandez"), &folded("diana hernandez")).is_none());
    }
}
