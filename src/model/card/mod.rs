//! Finds card data wherever it hides, because the vault must not hold it: whole card numbers, and the security codes that nobody may
//! keep once a payment is authorised (PCI DSS v4.0, 3.3.1.2), not even sealed.
//!
//! A text may tell a number in figures or in words, as a machine writes down what somebody said. A security code is three or four
//! figures like any others: it is known by what stands beside it.

mod code;
mod said;
mod written;

pub use code::{is_security_code, names_security_code};
pub use written::{contains_card_number, luhn_valid};

/// Whether a text tells a card number, written or said, or a security code.
#[must_use]
pub fn contains_card_data(text: &str) -> bool {
    contains_card_number(text) || said::contains(text) || code::contains(text)
}

/// How often a text is gone through: beside what is masked there may be another number, which it hid.
const PASSES: usize = 8;

/// The text with `mask` in place of every card number and security code; `None` when there is none. A text in which there are
/// always more is the mask as a whole.
#[must_use]
pub fn mask_card_data(text: &str, mask: &str) -> Option<String> {
    let pass =
        |text: &str| written::mask(text, mask).or_else(|| said::mask(text, mask)).or_else(|| code::mask(text, mask));
    let mut masked = pass(text)?;
    for _ in 0..PASSES {
        let Some(next) = pass(&masked) else { return Some(masked) };
        masked = next;
    }
    Some(mask.to_owned())
}

/// The text with `mask` in place of what is from one byte to before another; `None` when that is nothing.
fn without(text: &str, spans: impl IntoIterator<Item = (usize, usize)>, mask: &str) -> Option<String> {
    let (mut masked, mut done) = (String::new(), 0);
    for (from, to) in spans.into_iter().filter(|(from, to)| from < to) {
        if from >= done {
            masked.push_str(text.get(done..from)?);
            masked.push_str(mask);
            done = to;
        }
    }
    masked.push_str(text.get(done..)?);
    (done > 0).then_some(masked)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn everything_that_is_found_is_masked() {
        let said = "four one one one, one one one one, one one one one, one one one one";
        let text = format!("4111 1111 1111 1111 or {said}, expires 12/27, CVV: 123.");
        let masked = mask_card_data(&text, "[card]").unwrap();
        assert_eq!(masked, "[card] or [card], expires 12/27, CVV: [card].");
        assert!(!contains_card_data(&masked) && mask_card_data(&masked, "[card]").is_none());
    }

    #[test]
    fn a_text_in_which_there_is_always_another_is_masked_as_a_whole() {
        let numbers = "4111111111111111.".repeat(10_000);
        assert_eq!(mask_card_data(&numbers, "[card]").as_deref(), Some("[card]"));
    }

    proptest! {
        #[test]
        fn what_is_masked_is_found_no_more(words in proptest::collection::vec(
            prop_oneof![
                Just("4111"), Just("1111"), Just("one"), Just("double"), Just("four"), Just("cvv"), Just("123"), Just("is"),
                Just("security"), Just("code"), Just("4111111111111111"), Just("forty"), Just("+"), Just(","), Just("12/27"),
            ],
            0..24,
        )) {
            let text = words.join(" ");
            let masked = mask_card_data(&text, "[card]");
            prop_assert_eq!(masked.is_some(), contains_card_data(&text));
            prop_assert!(masked.is_none_or(|masked| !contains_card_data(&masked)));
        }
    }
}
