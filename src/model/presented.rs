//! Who calls, as an exchange presents it: a number in one of many spellings, a name that is none, or nothing.

use super::field::Region;
use super::{Content, Error, FieldType, Result, Value};

/// The longest text that an exchange presents.
const LONGEST: usize = 256;

/// What exchanges write in place of a number that is withheld.
const WITHHELD: [&str; 9] = [
    "anonymous",
    "blocked",
    "no caller id",
    "private",
    "restricted",
    "unavailable",
    "unknown",
    "unknown caller",
    "withheld",
];

/// The domain of those who withhold who they are (RFC 3323).
const NOBODY: &str = "anonymous.invalid";

/// How sure it is that the number is that of whoever calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assurance {
    /// A number was presented. Anybody can present any.
    NumberOnly,
    /// Their operator vouches for the number: full attestation of SHAKEN.
    StirA,
    /// The person was asked what they alone know.
    Verified,
}

/// Who calls.
#[derive(Debug)]
pub enum Presented {
    /// Nobody in particular.
    Withheld,
    /// A name of SIP, or what else is no telephone number.
    Name,
    /// A telephone number, in the forms in which it may have been kept: the surest first, none of them twice.
    Number(Vec<Value>),
}

impl Presented {
    /// Reads what is presented: a number, a `tel:` or a `sip:` URI, also with a name to show before it. A number without
    /// a country code is one of `region`. The user of a SIP URI is a number only if it says so (`+…`, `;user=phone`): all others
    /// are names, and digits among them are taken as they stand.
    ///
    /// # Errors
    /// `ValueInvalid` at `number` for what is too long for any.
    pub fn parse(text: &str, region: Option<Region>) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(Error::invalid("number", "is longer than the 256 bytes that an exchange presents"));
        }
        let Some((user, dialled)) = user(text) else { return Ok(Self::Withheld) };
        let mut forms: Vec<String> = Vec::new();
        let written = phone(&user);
        let normal = written.as_ref().map(Value::normal_text).unwrap_or_default();
        if normal.starts_with('+') {
            forms.push(normal.to_owned());
            forms.extend(region.and_then(|region| region.national(normal)));
        } else if !normal.is_empty() {
            forms.extend(region.filter(|_| dialled).and_then(|region| region.international(normal)));
            forms.push(normal.to_owned());
        }
        let mut seen = std::collections::BTreeSet::new();
        forms.retain(|form| seen.insert(form.clone()));
        let numbers: Vec<Value> = forms.iter().filter_map(|form| phone(form)).collect();
        Ok(if numbers.is_empty() { Self::Name } else { Self::Number(numbers) })
    }
}

/// A telephone number, if it is one.
fn phone(text: &str) -> Option<Value> {
    Value::parse(FieldType::Phone, Content::Text(text.to_owned().into())).ok()
}

/// The user part of what is presented, and whether it is written as people dial; `None` when it is withheld.
fn user(text: &str) -> Option<(String, bool)> {
    let text = text.trim();
    // A name to be shown stands before it, and parameters of the header behind.
    let address =
        text.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(text, |(inner, _)| inner).trim();
    let lower = address.to_ascii_lowercase();
    let scheme = ["sips:", "sip:", "tel:"].into_iter().find(|scheme| lower.starts_with(scheme)).unwrap_or_default();
    let rest = address.get(scheme.len()..).unwrap_or_default();
    let (user, host) = rest.split_once('@').unwrap_or(if scheme.starts_with("sip") { ("", rest) } else { (rest, "") });
    let sip = scheme.starts_with("sip") || !host.is_empty();
    let host = host.to_ascii_lowercase();
    let named_phone = host.split(';').skip(1).any(|parameter| parameter.trim() == "user=phone");
    let user = if sip || scheme == "tel:" { user.split(';').next().unwrap_or_default() } else { user };
    // A plus may be written as an escape in a URI.
    let user = user.replace("%2B", "+").replace("%2b", "+");
    let user = user.trim();
    if user.is_empty() || is_withheld(user) || host.split([';', ':', '>']).next() == Some(NOBODY) {
        return None;
    }
    Some((user.to_owned(), !sip || named_phone || user.starts_with('+')))
}

/// Whether it says that nothing is said, in a word or in the word's keys on a telephone.
#[must_use]
pub fn is_withheld(user: &str) -> bool {
    let lower = user.to_ascii_lowercase();
    WITHHELD.contains(&lower.as_str())
        || user.strip_prefix('+').is_some_and(|digits| WITHHELD.iter().any(|word| keys(word) == digits))
}

/// The keys of a telephone that spell a word.
fn keys(word: &str) -> String {
    let key = |letter| match letter {
        'a'..='c' => '2',
        'd'..='f' => '3',
        'g'..='i' => '4',
        'j'..='l' => '5',
        'm'..='o' => '6',
        'p'..='s' => '7',
        't'..='v' => '8',
        _ => '9',
    };
    word.chars().filter(char::is_ascii_lowercase).map(key).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn forms(text: &str, region: &str) -> Vec<String> {
        match Presented::parse(text, Region::named(region)).unwrap() {
            Presented::Withheld => vec!["withheld".to_owned()],
            Presented::Name => vec!["name".to_owned()],
            Presented::Number(forms) => forms.iter().map(|form| form.normal_text().to_owned()).collect(),
        }
    }

    #[test]
    fn one_number_in_many_spellings_is_looked_for_in_the_same_forms() {
        let both = ["+49301234567", "0301234567"];
        for text in [
            "0049 30 1234567",
            "+49301234567",
            "030/1234567",
            "tel:+49-30-1234567",
            "tel:030-1234567;phone-context=+49",
            "sip:+49301234567@gw.example;user=phone",
            "sip:030%201234567@gw.example",
            "\"Ada\" <sip:0301234567@gw.example;user=phone>;tag=1",
            "sips:%2B49301234567@gw.example:5061",
        ] {
            if text.contains("%20") {
                assert_eq!(forms(text, "DE"), ["name"], "{text}");
            } else {
                assert_eq!(forms(text, "DE"), both, "{text}");
            }
        }
        assert_eq!(forms("+49301234567", ""), both[..1]);
        assert_eq!(forms("+49301234567", "FR"), both[..1], "dialled otherwise there");
        assert_eq!(forms("030/1234567", ""), both[1..]);
        assert_eq!(forms("(201) 555-0123", "US"), ["+12015550123", "2015550123"]);
    }

    #[test]
    fn users_of_sip_are_not_taken_for_numbers() {
        assert_eq!(forms("sip:0301234567@pbx.example", "DE"), ["0301234567"], "as it stands");
        assert_eq!(forms("sip:1001@pbx.example", "DE"), ["1001"]);
        assert_eq!(forms("sip:ada@pbx.example", "DE"), ["name"]);
        assert_eq!(forms("ada@pbx.example", "DE"), ["name"]);
        assert_eq!(forms("110", "DE"), ["110"], "no operator gives that to anybody");
        assert_eq!(forms("4111 1111 1111 1111", "DE"), ["name"]);
    }

    #[test]
    fn who_withholds_the_number_is_nobody() {
        for text in [
            "",
            "  ",
            "Anonymous",
            "sip:anonymous@anonymous.invalid",
            "sip:a.b@anonymous.invalid:5060;lr",
            "\"Anonymous\" <sip:anonymous@gw.example>",
            "restricted",
            "+266696687",
            "+7378742833",
            "sip:gw.example",
        ] {
            assert_eq!(forms(text, "DE"), ["withheld"], "{text}");
        }
        assert!(Presented::parse(&"1".repeat(257), None).is_err());
    }

    #[test]
    fn regions_are_countries_in_capitals() {
        assert!(Region::named("DE").is_some() && Region::named("de").is_none() && Region::named("XX").is_none());
        assert_eq!(Region::of("+49 30 999"), Region::named("DE"));
        assert_eq!(Region::of("030 999"), None);
    }

    proptest! {
        #[test]
        fn whatever_is_presented_its_forms_are_normal(text in ".{0,40}", region in "[A-Z]{2}") {
            if let Ok(Presented::Number(forms)) = Presented::parse(&text, Region::named(&region)) {
                for form in forms {
                    let again = phone(form.normal_text()).unwrap();
                    prop_assert_eq!(again.normal_text(), form.normal_text());
                }
            }
        }
    }
}
