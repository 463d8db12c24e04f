//! Digits wherever they stand in a text: in groups, in full-width, in words, in letters of a keypad.
//!
//! A machine writes down what was said: "five five five, oh one, double two". Words are known in English and German. Not
//! promised: other languages, and hundreds and thousands.

/// Most characters between two digits of one number.
const WIDEST_GAP: usize = 4;

/// Words that people say between digits.
const FILLERS: [&str; 10] = ["and", "uh", "um", "dash", "hyphen", "minus", "strich", "und", "plus", "then"];

/// Digits that belong together, and where in the text each stands.
#[derive(Default)]
pub struct Chain {
    /// The digits, as ASCII.
    pub digits: String,
    spans: Vec<(usize, usize)>,
    /// Whether one of them at least was written as a word.
    pub spoken: bool,
}

impl Chain {
    /// How many digits at its beginning stand without anything between them.
    pub fn run(&self) -> usize {
        let pairs = self.spans.iter().zip(self.spans.iter().skip(1));
        usize::from(!self.spans.is_empty()) + pairs.take_while(|(one, next)| one.1 == next.0).count()
    }

    /// From where to where in the text these digits are: from one, to before another.
    pub fn span(&self, from: usize, to: usize) -> Option<(usize, usize)> {
        let (from, to) = (self.spans.get(from)?, self.spans.get(to.checked_sub(1)?)?);
        Some((from.0, to.1))
    }

    fn push(&mut self, digits: &str, span: (usize, usize)) {
        for digit in digits.chars() {
            self.digits.push(digit);
            self.spans.push(span);
        }
    }
}

/// The value of a digit in the scripts that keyboards offer: ASCII, full-width, Arabic and Persian.
pub fn digit(c: char) -> Option<u8> {
    let zero = match c {
        '0'..='9' => '0',
        '\u{660}'..='\u{669}' => '\u{660}',
        '\u{6f0}'..='\u{6f9}' => '\u{6f0}',
        '\u{ff10}'..='\u{ff19}' => '\u{ff10}',
        _ => return None,
    };
    u8::try_from(u32::from(c) - u32::from(zero)).ok()
}

/// What a word says: its digits, or that the next one counts so often.
enum Word {
    Digits(&'static str),
    /// Twenty: with a digit behind it that takes the place of the nought.
    Tens(&'static str),
    Times(usize),
}

fn word(text: &str) -> Option<Word> {
    Some(match text {
        "zero" | "oh" | "o" | "nought" | "null" => Word::Digits("0"),
        "one" | "eins" | "ein" => Word::Digits("1"),
        "two" | "zwei" | "zwo" => Word::Digits("2"),
        "three" | "drei" => Word::Digits("3"),
        "four" | "vier" => Word::Digits("4"),
        "five" | "fünf" | "fuenf" => Word::Digits("5"),
        "six" | "sechs" => Word::Digits("6"),
        "seven" | "sieben" => Word::Digits("7"),
        "eight" | "acht" => Word::Digits("8"),
        "nine" | "neun" => Word::Digits("9"),
        "ten" | "zehn" => Word::Digits("10"),
        "eleven" | "elf" => Word::Digits("11"),
        "twelve" | "zwölf" => Word::Digits("12"),
        "thirteen" => Word::Digits("13"),
        "fourteen" => Word::Digits("14"),
        "fifteen" => Word::Digits("15"),
        "sixteen" => Word::Digits("16"),
        "seventeen" => Word::Digits("17"),
        "eighteen" => Word::Digits("18"),
        "nineteen" => Word::Digits("19"),
        "twenty" => Word::Tens("2"),
        "thirty" => Word::Tens("3"),
        "forty" => Word::Tens("4"),
        "fifty" => Word::Tens("5"),
        "sixty" => Word::Tens("6"),
        "seventy" => Word::Tens("7"),
        "eighty" => Word::Tens("8"),
        "ninety" => Word::Tens("9"),
        "double" | "doppel" => Word::Times(2),
        "triple" | "treble" => Word::Times(3),
        _ => return None,
    })
}

/// Whether a word is the null of JSON, which nobody has said: without a space between it and the signs around it.
fn is_null(text: &str, from: usize, to: usize) -> bool {
    let before = text.get(..from).is_some_and(|before| before.ends_with(['[', ',', ':']));
    let behind = text.get(to..).is_some_and(|behind| behind.starts_with([',', ']', '}']));
    before && behind && text.get(from..to) == Some("null")
}

/// The digit under a letter of a telephone.
fn key(letter: char) -> Option<char> {
    Some(match letter.to_ascii_uppercase() {
        'A'..='C' => '2',
        'D'..='F' => '3',
        'G'..='I' => '4',
        'J'..='L' => '5',
        'M'..='O' => '6',
        'P'..='S' => '7',
        'T'..='V' => '8',
        'W'..='Z' => '9',
        _ => return None,
    })
}

/// The digits of what is a number, letters of the keypad included.
pub fn dialled(number: &str) -> String {
    let number = number.split([';', '@']).next().unwrap_or_default();
    let number = number.rsplit(':').next().unwrap_or_default();
    number.chars().filter_map(|c| digit(c).map(|value| char::from(b'0' + value)).or_else(|| key(c))).collect()
}

/// The chains of digits in a text.
pub fn chains(text: &str) -> Vec<Chain> {
    let mut scan = Scan::default();
    let mut from = None;
    for (at, c) in text.char_indices() {
        let value = digit(c);
        if c.is_alphabetic() && value.is_none() {
            from.get_or_insert(at);
            continue;
        }
        if let Some(from) = from.take() {
            scan.word(text, from, at);
        }
        match value {
            Some(value) => scan.digits(&char::from(b'0' + value).to_string(), (at, at + c.len_utf8()), false),
            None if is_invisible(c) => {}
            None => scan.gap(c),
        }
    }
    if let Some(from) = from {
        scan.word(text, from, text.len());
    }
    scan.end();
    scan.chains
}

#[derive(Default)]
struct Scan {
    chains: Vec<Chain>,
    chain: Chain,
    gap: usize,
    hyphen: bool,
    times: Option<(usize, usize)>,
    /// Whether the last was a ten that a unit may follow.
    tens: bool,
}

impl Scan {
    fn digits(&mut self, digits: &str, mut span: (usize, usize), spoken: bool) {
        let mut digits = digits.to_owned();
        if let Some((times, from)) = self.times.take() {
            digits = digits.repeat(times);
            span.0 = from;
        }
        if std::mem::take(&mut self.tens) && digits.len() == 1 && digits != "0" {
            self.chain.digits.pop();
            self.chain.spans.pop();
        }
        self.chain.push(&digits, span);
        self.chain.spoken |= spoken;
        (self.gap, self.hyphen) = (0, false);
    }

    fn word(&mut self, text: &str, from: usize, to: usize) {
        let said = text.get(from..to).unwrap_or_default();
        let lower = said.to_lowercase();
        match word(&lower) {
            Some(Word::Digits(digits)) => {
                let spoken = !is_null(text, from, to);
                return self.digits(digits, (from, to), spoken);
            }
            Some(Word::Tens(ten)) => {
                self.digits(&format!("{ten}0"), (from, to), true);
                self.tens = true;
                return;
            }
            Some(Word::Times(times)) => {
                self.times = Some((times, from));
                return;
            }
            None => {}
        }
        if FILLERS.contains(&lower.as_str()) && !self.chain.digits.is_empty() {
            self.gap = 0;
            return;
        }
        let joined = !self.chain.digits.is_empty() && (self.gap == 0 || self.hyphen);
        if joined && said.len() >= 2 && said.chars().all(|c| c.is_ascii_uppercase()) {
            for (at, c) in said.char_indices() {
                let at = from + at;
                self.digits(&key(c).map(String::from).unwrap_or_default(), (at, at + 1), false);
            }
            return;
        }
        self.end();
    }

    fn gap(&mut self, c: char) {
        let joins =
            c.is_whitespace() || matches!(c, '-' | '.' | '/' | '(' | ')' | '+' | ',' | '_' | '\u{2010}'..='\u{2015}');
        self.gap += 1;
        self.hyphen = self.gap == 1 && matches!(c, '-' | '.');
        if !joins || self.gap > WIDEST_GAP {
            self.end();
        }
    }

    fn end(&mut self) {
        (self.gap, self.hyphen, self.times, self.tens) = (0, false, None, false);
        let chain = std::mem::take(&mut self.chain);
        if !chain.digits.is_empty() {
            self.chains.push(chain);
        }
    }
}

/// Characters that take no room on a screen.
pub const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_found_however_they_are_told() {
        let read = |text: &str| chains(text).into_iter().map(|chain| chain.digits).collect::<Vec<_>>();
        for (text, digits) in [
            ("+1 (599) 639-3222", "15996393222"),
            ("five five five, oh one double two", "5550122"),
            ("fifty five twenty, nineteen", "552019"),
            ("1-800-FLOWERS", "18003569377"),
            ("555-O123", "5550123"),
            ("５５５ ０１２３", "5550123"),
            ("null eins sieben und fünf", "0175"),
            ("5\u{200b}55", "555"),
        ] {
            assert_eq!(read(text), [digits], "{text}");
        }
        assert_eq!(read("room 12 at 5 o'clock"), ["12", "50"]);
        let spoken = |text: &str| chains(text).iter().any(|chain| chain.spoken);
        assert!(spoken("4111, null") && spoken("4111 null, 1") && spoken("null"));
        assert!(!spoken("[4111,null]") && !spoken("{\"a\":null,\"b\":4111}"), "nobody says null in JSON");
        assert_eq!(dialled("tel:+1-599-639-3222;ext=5"), "15996393222");
        assert_eq!(dialled("sip:+15996393222@example.com"), "15996393222");
    }
}
