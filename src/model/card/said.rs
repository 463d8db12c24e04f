//! Card numbers in words.

use super::{contains_card_number, without};
use crate::model::digits::{Chain, chains, digit};

/// Fewest digits of a card number.
const SHORTEST: usize = 13;
/// Most digits that one word adds to a number.
const MOST: usize = 2;

/// Whether a card number was said, all of it or in part.
pub fn contains(text: &str) -> bool {
    is_long_enough(text) && chains(text).iter().any(is_card)
}

/// The text with `mask` in place of every card number that was said; `None` when there is none.
pub fn mask(text: &str, mask: &str) -> Option<String> {
    let said = chains(text).into_iter().filter(is_card);
    without(text, said.filter_map(|chain| chain.span(0, chain.digits.len())), mask)
}

/// Whether its words and figures could be enough for a card number: names and addresses are let through without a further look.
fn is_long_enough(text: &str) -> bool {
    let (mut digits, mut in_word) = (0, false);
    for c in text.chars() {
        let of_word = c.is_alphabetic();
        digits += if digit(c).is_some() { 1 } else { MOST * usize::from(of_word && !in_word) };
        if digits >= SHORTEST {
            return true;
        }
        in_word = of_word;
    }
    false
}

fn is_card(chain: &Chain) -> bool {
    let digits = &chain.digits;
    let end = |length: usize| digits.len().checked_sub(length).and_then(|at| digits.get(at..));
    let parts = [Some(digits.as_str()), digits.get(..16), digits.get(..15), end(16), end(15)];
    chain.spoken && parts.into_iter().flatten().any(contains_card_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_is_said_is_found() {
        let said = "four one one one one one one one one one one one one one one one";
        assert!(contains(said));
        let text = format!("it is {said}, thanks");
        assert_eq!(mask(&text, "[card]").as_deref(), Some("it is [card], thanks"));
        for said in ["forty-one eleven eleven eleven eleven eleven eleven eleven", "4111 1111 1111 triple one one"] {
            assert!(contains(said), "{said}");
        }
        assert!(contains("vier eins eins eins, eins eins eins eins, eins eins eins eins, eins eins eins eins"));
        assert!(!contains("one two three, four five six, seven eight nine zero"));
    }
}
