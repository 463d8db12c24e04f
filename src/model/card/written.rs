//! Card numbers in figures.
//!
//! A card number (PAN, ISO/IEC 7812-1) is 13 to 19 digits with a known issuer's beginning and length and a right check
//! digit. People write it in groups, paste it with the expiry behind it, or type it in full-width digits. What is
//! found is refused, so a false alarm costs a caller a value: numbers that merely look alike are let through where
//! their own shape gives them away (UUIDs, IBANs, phone numbers with `+`, decimal fractions).
//!
//! Not promised: a number spread over lines, or disguised on purpose, is not found.

use iban::Iban;

use crate::crypto::SecretBytes;
use crate::model::digits::{digit, is_invisible};

/// Shortest and longest card number.
const SHORTEST: usize = 13;
const LONGEST: usize = 19;

/// Most digits that a telephone number may have (ITU-T E.164).
const PHONE: usize = 15;

/// A run of digits and what stands before it.
struct Group {
    /// Where it begins and ends, in bytes.
    from: usize,
    to: usize,
    digits: usize,
    before: Before,
}

/// What joins a group to the one before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Something else: a new chain begins.
    Other,
    /// Something else, ending in a plus sign.
    Plus,
    /// One space or dash.
    Gap,
    /// One dot.
    Dot,
}

/// Whether a payment card number stands anywhere in the text, written in one run or in groups.
#[must_use]
pub fn contains_card_number(text: &str) -> bool {
    if text.chars().filter(|&c| digit(c).is_some()).take(SHORTEST).count() < SHORTEST {
        return false;
    }
    let groups = groups(text);
    (0..groups.len()).any(|first| groups.get(first..).is_some_and(|groups| card_end(text, groups).is_some()))
}

/// The text with `mask` in place of every card number; `None` when there is none.
#[must_use]
pub fn mask(text: &str, mask: &str) -> Option<String> {
    if !contains_card_number(text) {
        return None;
    }
    let groups = groups(text);
    let (mut masked, mut done) = (String::with_capacity(text.len()), 0);
    for first in 0..groups.len() {
        let Some(chain @ [group, ..]) =
            groups.get(first..).filter(|chain| chain.first().is_some_and(|g| g.from >= done))
        else {
            continue;
        };
        let Some(end) = card_end(text, chain) else { continue };
        masked.push_str(text.get(done..group.from)?);
        masked.push_str(mask);
        done = end;
    }
    masked.push_str(text.get(done..)?);
    Some(masked)
}

/// Whether the check digit is right (Luhn, ISO/IEC 7812-1 annex B). Each byte is a digit's value, 0 to 9.
#[must_use]
pub fn luhn_valid(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| match u32::from(digit) * (1 + u32::from(place % 2 == 1)) {
            twice @ 10.. => twice - 9,
            once => once,
        })
        .sum();
    !digits.is_empty() && sum.is_multiple_of(10)
}

/// Splits the text into runs of digits, passing over UUIDs and IBANs.
fn groups(text: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut scan = Scan::default();
    let mut resume = 0;
    for (at, c) in text.char_indices() {
        if at < resume || is_invisible(c) {
            continue;
        }
        if !scan.in_word
            && let Some(length) = text.get(at..).and_then(known_length)
        {
            resume = at + length;
            scan = Scan { in_word: true, ..Scan::default() };
        } else if digit(c).is_some() {
            scan.digit(&mut groups, at, c);
        } else {
            scan.other(c);
        }
    }
    groups
}

/// Where the scan stands.
struct Scan {
    in_digits: bool,
    in_word: bool,
    before: Before,
}

impl Default for Scan {
    fn default() -> Self {
        Self { in_digits: false, in_word: false, before: Before::Other }
    }
}

impl Scan {
    fn digit(&mut self, groups: &mut Vec<Group>, at: usize, c: char) {
        let to = at + c.len_utf8();
        match groups.last_mut() {
            Some(group) if self.in_digits => {
                group.to = to;
                group.digits += 1;
            }
            _ => groups.push(Group { from: at, to, digits: 1, before: self.before }),
        }
        (self.in_digits, self.in_word) = (true, true);
    }

    fn other(&mut self, c: char) {
        self.before = match c {
            '+' | '\u{ff0b}' => Before::Plus,
            '.' if self.in_digits => Before::Dot,
            _ if self.in_digits && is_gap(c) => Before::Gap,
            _ => Before::Other,
        };
        (self.in_digits, self.in_word) = (false, c.is_alphanumeric());
    }
}

/// Where a card number ends that begins with the first of these groups.
fn card_end(text: &str, groups: &[Group]) -> Option<usize> {
    let first = groups.first()?;
    let fraction = first.before == Before::Dot && first.digits >= SHORTEST;
    if fraction {
        return None;
    }
    let mut length = 0;
    for (place, group) in groups.iter().enumerate() {
        let joined = place == 0 || matches!(group.before, Before::Gap | Before::Dot);
        length += group.digits;
        if !joined || (place > 0 && length > LONGEST) {
            return None;
        }
        if place > 0 && group.before == Before::Dot && !dotted(groups, place) {
            return None;
        }
        if text.get(first.from..group.to).is_some_and(|span| is_card(span, length, place == 0, first.before)) {
            return Some(group.to);
        }
    }
    None
}

/// Whether a dot before this group can be one that sets groups of a card number apart, and not a decimal point.
fn dotted(groups: &[Group], place: usize) -> bool {
    let of_card_width = |place: usize| groups.get(place).is_some_and(|group| (3..=7).contains(&group.digits));
    of_card_width(place) && of_card_width(place.saturating_sub(1))
}

/// Whether the digits of `span` are a card number, or one run of a card number (of 15 digits or more, which all but a
/// few have) and its security code.
fn is_card(span: &str, length: usize, one_run: bool, before: Before) -> bool {
    if !(SHORTEST..=LONGEST + 4).contains(&length) || (before == Before::Plus && length <= PHONE) {
        return false;
    }
    let digits = SecretBytes::new(span.chars().filter_map(digit).collect());
    let digits = digits.expose();
    let tails = if one_run { 0..=4 } else { 0..=0 };
    tails
        .filter(|tail| matches!(tail, 0 | 3 | 4))
        .filter_map(|tail| digits.get(..digits.len().checked_sub(tail)?).filter(|card| tail == 0 || card.len() >= 15))
        .any(|digits| issued(digits) && luhn_valid(digits))
}

/// Whether an issuer gives out numbers of this length with this beginning.
///
/// A thirteen-digit Visa number, of which hardly any are left, is not told from a national id that begins with a date
/// of birth (`YYMMDD`) and also ends in a Luhn digit, as South Africa's does: the id is assumed.
fn issued(digits: &[u8]) -> bool {
    let length = digits.len();
    let Some(begin) = digits.get(..6) else { return false };
    let begin = begin.iter().fold(0_u32, |number, &digit| number * 10 + u32::from(digit));
    match begin {
        400_000..=499_999 => matches!(length, 16 | 19) || (length == 13 && !reads_as_date(begin)),
        510_000..=559_999 | 222_100..=272_099 => length == 16,
        340_000..=349_999 | 370_000..=379_999 => length == 15,
        300_000..=305_999 | 309_500..=309_599 | 360_000..=369_999 | 380_000..=399_999 => {
            length == 14 || (16..=19).contains(&length)
        }
        352_800..=358_999 | 601_100..=601_199 | 644_000..=659_999 | 620_000..=629_999 | 810_000..=817_199 => {
            (16..=19).contains(&length)
        }
        501_800..=501_899
        | 502_000..=502_099
        | 503_800..=503_899
        | 589_300..=589_399
        | 630_400..=630_499
        | 639_000..=639_099
        | 670_000..=679_999 => (SHORTEST..=LONGEST).contains(&length),
        _ => false,
    }
}

/// Whether six digits read as YYMMDD.
fn reads_as_date(digits: u32) -> bool {
    (1..=12).contains(&(digits / 100 % 100)) && (1..=31).contains(&(digits % 100))
}

/// The length of the UUID or IBAN that the text begins with.
fn known_length(text: &str) -> Option<usize> {
    uuid_length(text).or_else(|| iban_length(text))
}

fn uuid_length(text: &str) -> Option<usize> {
    const LENGTH: usize = 36;
    let bytes = text.as_bytes().get(..LENGTH)?;
    let shaped = bytes.iter().enumerate().all(|(place, byte)| match place {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let ends = text.get(LENGTH..)?.chars().next().is_none_or(|c| !c.is_alphanumeric() && !is_gap(c));
    (shaped && (ends || bytes.iter().any(u8::is_ascii_alphabetic))).then_some(LENGTH)
}

/// An IBAN, in one run or in groups of four, that is right down to its country's length and check digits.
fn iban_length(text: &str) -> Option<usize> {
    let mut start = text.bytes();
    let country = start.by_ref().take(2).all(|c| c.is_ascii_alphabetic());
    if !country || !start.by_ref().take(2).all(|c| c.is_ascii_digit()) {
        return None;
    }
    let mut plain = word_ends(text);
    let found = plain.iter().rev().find(|(run, _)| run.parse::<Iban>().is_ok()).map(|(_, end)| *end);
    plain.drain(..).for_each(|(run, _)| drop(SecretBytes::from(run)));
    found
}

/// The runs that end at a word's end within the longest IBAN, in capitals without spaces, each with its length in `text`.
fn word_ends(text: &str) -> Vec<(String, usize)> {
    let mut runs = Vec::new();
    let mut run = String::with_capacity(34);
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        let next = bytes.peek().map(|&(_, next)| next);
        match byte {
            b' ' if next.is_some_and(|next| next.is_ascii_alphanumeric()) => {}
            _ if byte.is_ascii_alphanumeric() && run.len() < 34 => run.push(char::from(byte.to_ascii_uppercase())),
            _ => break,
        }
        if run.len() >= 15 && next.is_none_or(|next| !next.is_ascii_alphanumeric()) {
            runs.push((run.clone(), at + 1));
        }
    }
    drop(SecretBytes::from(run));
    runs
}

/// One space or dash of any width.
fn is_gap(c: char) -> bool {
    matches!(
        c,
        ' ' | '-' | '\u{a0}' | '\u{2007}' | '\u{2009}' | '\u{202f}' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{3000}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_networks_test_numbers_are_found() {
        let numbers = [
            "4111111111111111",
            "4222222222222",
            "4012888888881881",
            "5555555555554444",
            "5105105105105100",
            "2223003122003222",
            "2720992593319364",
            "378282246310005",
            "371449635398431",
            "6011111111111117",
            "6011000990139424",
            "30569309025904",
            "38520000023237",
            "36227206271667",
            "3530111333300000",
            "3566002020360505",
            "6200000000000005",
            "6205500000000000004",
            "6759649826438453",
            "6799990100000000019",
        ];
        for number in numbers {
            assert!(contains_card_number(number), "{number}");
            assert!(contains_card_number(&format!("please charge {number}, thanks")), "{number}");
            assert!(contains_card_number(&format!("card{number}cvv")), "{number}");
            let (head, last) = number.split_at(number.len() - 1);
            let other = (last.parse::<u8>().unwrap() + 1) % 10;
            assert!(!contains_card_number(&format!("{head}{other}")), "{number}");
        }
    }

    #[test]
    fn however_a_number_is_written_it_is_found() {
        let texts = [
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "4111.1111.1111.1111",
            "4111\u{a0}1111\u{a0}1111\u{a0}1111",
            "4111\u{2013}1111\u{2013}1111\u{2013}1111",
            "41\u{200b}11 1111 1111 1111",
            "3782 822463 10005",
            "4111 1111 1111 1111 12/27 123",
            "4111 1111 1111 1111 123",
            "5 4111 1111 1111 1111",
            "room 12 4111 1111 1111 1111",
            "4111111111111111123",
            "41111111111111111234",
            "no.4111111111111111",
            "+4111111111111111",
            "\u{ff14}\u{ff11}\u{ff11}\u{ff11} 1111 1111 \u{ff11}\u{ff11}\u{ff11}\u{ff11}",
            "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
            "DE00 4111 1111 1111 1111",
        ];
        for text in texts {
            assert!(contains_card_number(text), "{text}");
        }
    }

    #[test]
    fn numbers_that_look_alike_are_let_through() {
        let texts = [
            "",
            "490154203237518",
            "352099001761481",
            "35-209900-176148-1",
            "356938035643809",
            "DE89370400440532013000",
            "DE89 3704 0044 0532 0130 00",
            "AT61 1904 3002 3457 3201",
            "AT70 4111 1111 1111 1111",
            "ES91 2100 0418 4502 0005 1332",
            "+4915123456785",
            "+49 151 23456785",
            "+1 (415) 555-0100, +1 (415) 555-0101",
            "550e8400-e29b-41d4-a716-446655440000",
            "41111111-1111-4111-8111-111111111111",
            "2026-11-21T20:53:39.123456Z",
            "2026-11-21 20:53:39",
            "1732212345678",
            "0.4111111111111111",
            "4.111111111111111",
            "48.85837012345 2.29448112345",
            "4906153456089",
            "1234 5678 9012 3456",
            "192.168.100.200 192.168.100.201",
            "4111  1111",
            "4012888888881882",
        ];
        for text in texts {
            assert!(!contains_card_number(text), "{text}");
        }
    }

    #[test]
    fn the_check_digit_of_nothing_is_wrong() {
        assert!(!luhn_valid(&[]));
        assert!(luhn_valid(&[0]));
        assert!(luhn_valid(&[7, 9, 9, 2, 7, 3, 9, 8, 7, 1, 3]));
        assert!(!luhn_valid(&[7, 9, 9, 2, 7, 3, 9, 8, 7, 1, 4]));
    }

    proptest! {
        #[test]
        fn any_text_is_scanned(text in ".*") {
            let _ = contains_card_number(&text);
        }

        #[test]
        fn any_visa_number_is_found_in_any_prose(digits in "4[0-9]{14}", before in "[a-z ,;(]{0,9}", after in "[a-z ,;)]{0,9}") {
            let check = (0..10).find(|check| {
                let mut all: Vec<u8> = digits.bytes().map(|b| b - b'0').collect();
                all.push(*check);
                luhn_valid(&all)
            }).unwrap();
            let text = format!("{before}{digits}{check}{after}");
            prop_assert!(contains_card_number(&text));
        }
    }
}
