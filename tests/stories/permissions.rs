//! The permission matrix: caller, action, type, purpose and state of the subject, asked of a whole vault and compared
//! with a table that people read. `LACUNA_TEST_WRITE=1` writes the table anew.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use lacuna::model::{Content, FieldType as Kind, Redaction, Value, redact};
use lacuna::policy::{Action, Over};
use lacuna::proto::v1;
use tonic::Code;

use crate::asks::{HOUR, detokenize, erase, tokenize};
use crate::doors::{call, rpcs};
use crate::house::{House, on_both_stores, outcome, reason};
use crate::policies::{credential, with_roles};
use crate::process::setting;

const TABLE: &str = "tests/data/permissions.txt";

const LEGEND: &str = "\
Who may do what, by the policies in policies/roles, each caller in the one group of their name. A vault is asked; see
tests/stories/permissions.rs.

P plain text   M masked   4 last four   X redacted     + yes   . nothing found   - not searchable
n NOT_PERMITTED         g PURPOSE_NOT_GRANTED   c NO_CONSENT
r SUBJECT_RESTRICTED    s SUBJECT_SCHEDULED     e SUBJECT_ERASED
";

/// The usual roles, one that no policy speaks of, and whoever may do everything.
const CALLERS: [&str; 11] = [
    "ordering-service",
    "mailer",
    "analytics",
    "contact-centre-agent",
    "supervisor",
    "data-protection-officer",
    "security-officer",
    "auditor",
    "telephone-system",
    "nobody",
    "owner",
];

const PURPOSES: [&str; 6] =
    ["breach_notice", "customer_care", "legal_claims", "marketing.email", "order_confirmation", "regulator_request"];

const STATES: [&str; 4] = ["ACTIVE", "RESTRICTED", "SCHEDULED", "SHREDDED"];

/// A value of each type, in the order of their numbers; `N` is a digit that tells subjects apart.
const VALUES: [&str; 15] = [
    "a note N",
    "Ada Lovelace N",
    "adaN@example.com",
    "+4930123456N",
    "1 Main Street N",
    "1990-01-0N",
    "12 345 67N",
    "DE89370400440532013000",
    r#"{"holder":"Ada N","expiry":"07/29","last_four":"424N"}"#,
    "192.0.2.N",
    "device-number-N",
    "52.5N,13.4",
    "0.N",
    r#"{"a":N}"#,
    "bytes N",
];

/// A subject of every state, with a token of every type.
struct People {
    subjects: Vec<String>,
    tokens: Vec<Vec<String>>,
}

fn value(kind: usize, person: usize) -> String {
    VALUES[kind].replace('N', &(person + 1).to_string())
}

fn field(kind: usize, person: usize) -> v1::FieldInput {
    let text = value(kind, person);
    let content = if Kind::ALL[kind] == Kind::Bytes {
        v1::field_input::Content::BytesValue(text.into_bytes())
    } else {
        v1::field_input::Content::Value(text)
    };
    v1::FieldInput { r#type: Kind::ALL[kind].number().into(), content: Some(content), ..Default::default() }
}

impl People {
    async fn of(house: &mut House) -> Self {
        let mut people = Self { subjects: Vec::new(), tokens: Vec::new() };
        for person in 0..STATES.len() {
            let fields = (0..VALUES.len()).map(|kind| field(kind, person)).collect();
            let (subject, tokens) = house.tokenize("", fields).await;
            people.subjects.push(subject);
            people.tokens.push(tokens);
        }
        let restrict = v1::RestrictSubjectRequest {
            subject: people.subjects[1].clone(),
            ground: "art18_1_a".to_owned(),
            ..Default::default()
        };
        house.subjects.restrict_subject(restrict).await.unwrap();
        let execute_time = Some(house.in_time(HOUR * 24 * 365));
        let later = v1::EraseSubjectRequest { execute_time, ..erase(&people.subjects[2]) };
        house.subjects.erase_subject(later).await.unwrap();
        house.erase(&people.subjects[3]).await;
        people
    }
}

/// The letter of a refusal.
fn letter(reason: &str) -> char {
    match reason {
        "NOT_PERMITTED" => 'n',
        "PURPOSE_NOT_GRANTED" => 'g',
        "NO_CONSENT" => 'c',
        "SUBJECT_RESTRICTED" => 'r',
        "SUBJECT_SCHEDULED" => 's',
        "SUBJECT_ERASED" => 'e',
        other => panic!("{other} has no letter in the table"),
    }
}

/// The letter of what is shown of a value.
fn shown(kind: usize, person: usize, text: &str) -> char {
    let content = match Kind::ALL[kind] {
        Kind::Bytes => Content::Bytes(value(kind, person).into()),
        _ => Content::Text(value(kind, person).into()),
    };
    let value = Value::parse(Kind::ALL[kind], content).unwrap();
    let letters =
        [('P', Redaction::PlainText), ('X', Redaction::Redacted), ('M', Redaction::Masked), ('4', Redaction::LastFour)];
    let is = |redaction| match redact(&value, redaction) {
        Content::Text(shown) | Content::Bytes(shown) => shown.expose() == text.as_bytes(),
    };
    letters.into_iter().find(|(_, redaction)| is(*redaction)).map_or_else(|| panic!("{text:?}"), |(letter, _)| letter)
}

async fn reveal(house: &mut House, people: &People, person: usize, purpose: &str) -> String {
    match house.tokens.detokenize(detokenize(&people.tokens[person], purpose)).await {
        Err(refused) => letter(&reason(&refused)).to_string().repeat(VALUES.len()),
        Ok(response) => {
            let results = response.into_inner().results;
            let cell = |(kind, result)| match outcome(result) {
                Ok(text) => shown(kind, person, &text),
                Err(reason) => letter(&reason),
            };
            results.iter().enumerate().map(cell).collect()
        }
    }
}

async fn find(house: &mut House, people: &People, person: usize, purpose: &str) -> String {
    let mut cells = String::new();
    for kind in 0..VALUES.len() {
        let request = v1::FindTokensRequest {
            r#type: Kind::ALL[kind].number().into(),
            value: value(kind, person),
            purpose: purpose.to_owned(),
        };
        cells.push(match house.tokens.find_tokens(request).await {
            Ok(found) if found.get_ref().tokens.iter().any(|token| token.token == people.tokens[person][kind]) => '+',
            Ok(_) => '.',
            Err(refused) if reason(&refused) == "VALUE_INVALID" => '-',
            Err(refused) => letter(&reason(&refused)),
        });
    }
    cells
}

async fn update(house: &mut House, people: &People, person: usize) -> String {
    let mut cells = String::new();
    for kind in 0..VALUES.len() {
        let content = match field(kind, person).content.unwrap() {
            v1::field_input::Content::Value(text) => v1::update_token_request::Content::Value(text),
            v1::field_input::Content::BytesValue(bytes) => v1::update_token_request::Content::BytesValue(bytes),
        };
        let request = v1::UpdateTokenRequest {
            token: people.tokens[person][kind].clone(),
            content: Some(content),
            source: "test".to_owned(),
            ..Default::default()
        };
        let updated = house.tokens.update_token(request).await;
        cells.push(updated.map_or_else(|refused| letter(&reason(&refused)), |_| '+'));
    }
    cells
}

/// Tokenizes a value of each type for a subject, and deletes it again if that is permitted too.
async fn keep(house: &mut House, caller: &str, people: &People, person: usize) -> (String, String) {
    let (mut kept, mut deleted) = (String::new(), String::new());
    for kind in 0..VALUES.len() {
        as_caller(house, caller).await;
        let request = tokenize(&people.subjects[person], vec![field(kind, person)]);
        kept.push(
            house.tokens.tokenize(request.clone()).await.map_or_else(|refused| letter(&reason(&refused)), |_| '+'),
        );
        as_caller(house, "owner").await;
        let Ok(spare) = house.tokens.tokenize(request).await else {
            // Nobody may add anything to this subject, so what there is has to do.
            as_caller(house, caller).await;
            deleted.push(delete(house, &people.tokens[person][kind]).await);
            continue;
        };
        as_caller(house, caller).await;
        deleted.push(delete(house, &spare.into_inner().tokens[0].token).await);
    }
    (kept, deleted)
}

async fn delete(house: &mut House, token: &str) -> char {
    let request = v1::DeleteTokenRequest { token: token.to_owned(), ..Default::default() };
    house.tokens.delete_token(request).await.map_or_else(|refused| letter(&reason(&refused)), |_| '+')
}

async fn as_caller(house: &mut House, caller: &str) {
    (house.tokens, house.subjects) = house.connect_as(&format!("the-token-of-{caller}")).await;
}

/// Each right, and which callers get past the gate of its rpcs.
async fn rights(house: &House) -> String {
    let paths: HashMap<String, String> =
        rpcs().into_iter().map(|rpc| (rpc.path.rsplit('/').next().unwrap().to_owned(), rpc.path)).collect();
    let mut table = String::new();
    for action in Action::ALL.iter().filter(|action| action.over() == Over::Vault) {
        let mut cells = String::new();
        for caller in CALLERS {
            let mut letters: Vec<char> = Vec::new();
            // What is asked is not what is meant: an empty request is refused for its fields, behind the gate.
            for rpc in action.rpcs() {
                let Some(path) = paths.get(*rpc) else { continue };
                // A rotation that is only planned; its flag is the first or the second field.
                let message = if rpc.starts_with("Rotate") {
                    vec![8 + 8 * u8::from(*rpc == "RotateIndexKey"), 1]
                } else {
                    Vec::new()
                };
                let answer = call(house, path, message, Some(&credential(caller))).await;
                let refused = answer.err().is_some_and(|refused| refused.code() == Code::PermissionDenied);
                letters.push(if refused { 'n' } else { '+' });
            }
            letters.dedup();
            cells.push(if letters.len() == 1 { letters[0] } else { ' ' });
        }
        writeln!(table, "{:<22}{cells}", action.name()).unwrap();
    }
    table
}

on_both_stores! {
    async fn who_may_do_what_is_as_the_table_says(house: House) {
        let mut house = house;
        with_roles(&mut house, &CALLERS[..CALLERS.len() - 1]).await;
        let people = People::of(&mut house).await;
        let mut table = format!("{LEGEND}\nRights to the vault as a whole, for callers in this order:\n");
        for (at, caller) in CALLERS.iter().enumerate() {
            writeln!(table, "{:<22}{:at$}|{caller}", "", "").unwrap();
        }
        table.push_str(&rights(&house).await);
        table.push_str("\nRights to values, by state of the subject. Types in each column, from left to right:\n");
        let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        writeln!(table, "{}\n", kinds.join(" ")).unwrap();
        let header = STATES.map(|state| format!("{state:<16}")).concat();
        writeln!(table, "{:<24}{:<10}{:<20}{}", "caller", "right", "purpose", header.trim_end()).unwrap();
        let mut line = |caller: &str, right: &str, purpose: &str, cells: [String; 4]| {
            writeln!(table, "{caller:<24}{right:<10}{purpose:<20}{}", cells.join(" ")).unwrap();
        };
        for caller in CALLERS {
            as_caller(&mut house, caller).await;
            for purpose in PURPOSES {
                let mut cells = [const { String::new() }; 4];
                for (person, cell) in cells.iter_mut().enumerate() {
                    *cell = reveal(&mut house, &people, person, purpose).await;
                }
                line(caller, "reveal", purpose, cells);
            }
            for purpose in PURPOSES {
                let mut cells = [const { String::new() }; 4];
                for (person, cell) in cells.iter_mut().enumerate() {
                    *cell = find(&mut house, &people, person, purpose).await;
                }
                line(caller, "find", purpose, cells);
            }
            let mut updated = [const { String::new() }; 4];
            for (person, cell) in updated.iter_mut().enumerate() {
                *cell = update(&mut house, &people, person).await;
            }
            line(caller, "update", "", updated);
            let (mut kept, mut deleted) = ([const { String::new() }; 4], [const { String::new() }; 4]);
            for person in 0..STATES.len() {
                (kept[person], deleted[person]) = keep(&mut house, caller, &people, person).await;
            }
            line(caller, "tokenize", "", kept);
            line(caller, "delete", "", deleted);
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
        if setting("LACUNA_TEST_WRITE").is_some() {
            fs::write(&path, &table).unwrap();
        }
        let known = fs::read_to_string(&path).unwrap();
        for (at, (known, found)) in known.lines().zip(table.lines()).enumerate() {
            assert_eq!(known, found, "{TABLE}:{}", at + 1);
        }
        assert_eq!(known.lines().count(), table.lines().count());
    }
}
