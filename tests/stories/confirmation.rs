//! The confirmation attack: somebody who has every copy, every key that still exists and the right guess learns nothing
//! from it. To them the right value looks like any wrong one.

use std::collections::{BTreeMap, BTreeSet};

use lacuna::keys::adversary::Spoils;
use lacuna::model::{Content, FieldType, SubjectId, TokenRow, Value};
use lacuna::proto::v1;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Column as _, Connection as _, Row as _, SqliteConnection, TypeInfo as _, ValueRef as _};

use crate::hoard::{Hoard, keys_now};
use crate::house::{House, field, on_both_stores};

/// Values that a person might have, all of one kind.
struct Guesses {
    kind: v1::FieldType,
    values: Vec<String>,
}

/// Which of the guesses is right.
const RIGHT: usize = 11;

impl Guesses {
    fn all() -> Vec<Self> {
        let of = |kind, value: fn(u32) -> String| Self { kind, values: (0..24).map(value).collect() };
        vec![
            of(v1::FieldType::Email, |number| format!("person.{number}@example.com")),
            of(v1::FieldType::Phone, |number| format!("+49 30 9018{:04}", 20 + number * 7)),
            of(v1::FieldType::PersonName, |number| {
                format!("Ada Lovelace-{}", ["King", "Byron", "Milbanke"][number as usize % 3])
                    + &"I".repeat(1 + number as usize / 3)
            }),
            of(v1::FieldType::NationalId, |number| format!("ZX-{}-Q", 40_000_000 + number)),
        ]
    }

    fn right(&self) -> &str {
        &self.values[RIGHT]
    }

    /// What the index knows each of them by.
    fn normal(&self) -> Vec<(FieldType, Vec<u8>)> {
        let kind = FieldType::from_number(i16::try_from(i32::from(self.kind)).unwrap()).unwrap();
        let normal = |value: &String| {
            let value = Value::parse(kind, Content::Text(value.as_bytes().into())).unwrap();
            (kind, value.normal().unwrap().to_vec())
        };
        self.values.iter().map(normal).collect()
    }
}

/// What the adversary sees who looks a guess up.
#[derive(Clone, Debug, PartialEq)]
struct View {
    confirmed: Option<bool>,
    listed: Option<BTreeSet<TokenRow>>,
    /// Whether what the index key makes of it stands anywhere in any file, whole or in halves.
    digest_found: bool,
}

fn view(spoils: &Spoils, hoard: &Hoard, (kind, normal): &(FieldType, Vec<u8>)) -> View {
    let digests: BTreeSet<Vec<u8>> =
        spoils.digests(*kind, normal).flat_map(|(_, digest)| [digest[..16].to_vec(), digest[16..].to_vec()]).collect();
    View {
        confirmed: spoils.index_confirms(*kind, normal),
        listed: spoils.listed_under(*kind, normal),
        digest_found: !digests.is_empty() && !hoard.occurrences(&digests).is_empty(),
    }
}

on_both_stores! {
    async fn a_right_guess_looks_like_a_wrong_one_after_the_erasure(house: House) {
        let mut house = house;
        let all = Guesses::all();
        let mut hoard = Hoard::default();
        let crowd = (0..60).map(|number| field(v1::FieldType::Email, &format!("crowd.{number}@example.org"))).collect();
        house.tokenize("", crowd).await;
        hoard.collect(&house, "before").await;
        let fields = all.iter().map(|guesses| field(guesses.kind, guesses.right())).collect();
        let (ada, tokens) = house.tokenize("", fields).await;
        // Somebody else has a value that might have been Ada's.
        let (bob, _) = house.tokenize("", vec![field(all[0].kind, &all[0].values[3])]).await;
        hoard.collect(&house, "tokenized").await;
        let update = v1::UpdateTokenRequest {
            token: tokens[1].clone(),
            content: Some(v1::update_token_request::Content::Value(all[1].right().to_owned())),
            source: "call:2026".to_owned(),
            ..Default::default()
        };
        house.tokens.update_token(update).await.unwrap();
        hoard.collect(&house, "written again").await;
        let (ada, bob) = (SubjectId::parse(&ada).unwrap(), SubjectId::parse(&bob).unwrap());

        // The attack works: of all guesses it is the right one that is confirmed, and for the right person.
        let spoils = hoard.spoils(keys_now(&house).await);
        let rows = hoard.rows_of(ada);
        for guesses in &all {
            let views: Vec<_> = guesses.normal().iter().map(|normal| view(&spoils, &hoard, normal)).collect();
            let hers = |view: &View| view.listed.as_ref().unwrap().iter().any(|row| rows.contains(row));
            let confirmed: Vec<_> = (0..views.len()).filter(|at| hers(&views[*at])).collect();
            assert_eq!(confirmed, [RIGHT], "{:?}", guesses.kind);
            assert!(views.iter().all(|view| !view.digest_found), "no digest stands in the clear");
        }
        // Looking for bytes works: row ids do stand in the clear.
        let ids = rows.iter().map(|row| row.as_bytes().to_vec()).collect();
        assert!(!hoard.occurrences(&ids).is_empty());

        house.erase(&ada.to_string()).await;
        hoard.collect(&house, "erased").await;
        house.tokenize("", vec![field(v1::FieldType::Email, "later@example.org")]).await;
        house.reopen().await;
        hoard.collect(&house, "later").await;

        let spoils = hoard.spoils(keys_now(&house).await);
        assert!(hoard.rows_of(ada).is_superset(&rows), "the copies still have her tokens");
        for (at, guesses) in all.iter().enumerate() {
            let normal = guesses.normal();
            let right = view(&spoils, &hoard, &normal[RIGHT]);
            assert_eq!(right.confirmed, Some(false), "the live index key is there, and confirms nothing");
            for (wrong, normal) in normal.iter().enumerate().filter(|(wrong, _)| (at, *wrong) != (0, 3)) {
                let view = view(&spoils, &hoard, normal);
                assert_eq!(view, right, "{:?}: guess {wrong} looks like the right one", guesses.kind);
            }
        }
        // Bob's value is confirmed as ever, and not for her.
        let other = view(&spoils, &hoard, &all[0].normal()[3]);
        assert_eq!(other.listed, Some(hoard.rows_of(bob)));

        // Her tokens are as long as anybody's of their type, so that a length speaks for no guess.
        let mut lengths: BTreeMap<i16, BTreeSet<usize>> = BTreeMap::new();
        for token in spoils.tokens().iter().filter(|token| token.sealed.is_some()) {
            lengths.entry(token.kind.number()).or_default().insert(token.sealed.as_ref().unwrap().len());
        }
        assert!(lengths.len() >= 4 && lengths.values().all(|lengths| lengths.len() == 1), "{lengths:?}");
    }
}

/// Every cell of the tables that know of values, but for what is drawn at random or counts time.
async fn seen_in_the_clear(house: &House) -> Vec<String> {
    let url = house.config.database_url().unwrap().expose().to_owned();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let mut seen = Vec::new();
    for table in ["token", "subject", "subject_key", "index_chunk", "index_bucket", "erasure", "request", "audit_batch"]
    {
        let rows =
            sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(&mut connection).await.unwrap();
        // Which bucket and which leaf a value has, and so how many leaves die with it, is what the documentation says is
        // left to see: a few bits. It differs between vaults with the same values too.
        seen.extend(rows.iter().map(|row| format!("{table}: {}", cells(row))));
    }
    connection.close().await.unwrap();
    seen.sort();
    seen
}

fn cells(row: &SqliteRow) -> String {
    let cell = |column: &sqlx::sqlite::SqliteColumn| {
        let name = column.name();
        let raw = row.try_get_raw(name).unwrap();
        if raw.is_null() {
            return format!("{name}=null");
        }
        match raw.type_info().name() {
            "BLOB" => format!("{name}={} bytes", row.get::<Vec<u8>, _>(name).len()),
            "TEXT" => {
                let text: String = row.get(name);
                // Ids and times in these have one length each.
                let long = ["body", "answer", "plan", "shaped"].contains(&name);
                if long { format!("{name}={} characters", text.len()) } else { format!("{name}={text}") }
            }
            _ if name.ends_with("_at") || ["leaf", "bucket", "first", "last", "dirty"].contains(&name) => {
                name.to_owned()
            }
            _ => format!("{name}={}", row.get::<i64, _>(name)),
        }
    };
    row.columns().iter().map(cell).collect::<Vec<_>>().join(" ")
}

/// A life of a vault in which one person has these values.
async fn world(values: &[(v1::FieldType, &str)], erased: bool) -> Vec<String> {
    let mut house = House::on_sqlite().await;
    house.somebody("Bob Noyce").await;
    let shaped = |kind, value: &str| v1::FieldInput { format: v1::TokenFormat::Shaped.into(), ..field(kind, value) };
    let plain = values.iter().map(|(kind, value)| field(*kind, value));
    let shaped =
        values.iter().filter(|(kind, _)| *kind == v1::FieldType::Phone).map(|(kind, value)| shaped(*kind, value));
    let (subject, tokens) = house.tokenize("", plain.chain(shaped).collect()).await;
    house.reveal(&tokens, "customer_care").await;
    house.find(values[0].0, values[0].1).await;
    if erased {
        house.erase(&subject).await;
    }
    let seen = seen_in_the_clear(&house).await;
    house.stop().await;
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_vaults_that_differ_in_the_values_look_the_same() {
    use v1::FieldType as Kind;
    let one = [
        (Kind::Email, "ada@example.com"),
        (Kind::Phone, "+49 30 901820"),
        (Kind::PersonName, "Ada Lovelace"),
        (Kind::DateOfBirth, "1915-12-10"),
        (Kind::Text, "asks for parcels at the back door"),
    ];
    let other = [
        (Kind::Email, "the.right.honourable.ada.king.countess.of.lovelace@somewhere.example.org"),
        (Kind::Phone, "+49 30 555821"),
        (Kind::PersonName, "Æthelred"),
        (Kind::DateOfBirth, "1990-02-28"),
        (Kind::Text, "never asks for anything at all!!!"),
    ];
    for erased in [false, true] {
        let (one, again, other) = (world(&one, erased).await, world(&one, erased).await, world(&other, erased).await);
        assert!(one.len() > 100, "{} rows are seen", one.len());
        assert_eq!(differences(&one, &again), [""; 0], "nothing but the values differs, erased: {erased}");
        assert_eq!(differences(&one, &other), [""; 0], "and they do not show, erased: {erased}");
    }
    // The comparison bites: a value of another length class shows, as the documentation says.
    let long = [(Kind::Email, "ada@example.com"), (Kind::Text, &*"a".repeat(600))];
    let short = [(Kind::Email, "ada@example.com"), (Kind::Text, "a")];
    assert_ne!(differences(&world(&long, false).await, &world(&short, false).await), [""; 0]);
}

/// The rows that one has and the other has not, in order.
fn differences<'s>(one: &'s [String], other: &'s [String]) -> Vec<&'s str> {
    let mut count: BTreeMap<&str, i32> = BTreeMap::new();
    for (rows, step) in [(one, 1), (other, -1)] {
        for row in rows {
            *count.entry(row).or_default() += step;
        }
    }
    count.into_iter().filter(|(_, count)| *count != 0).map(|(row, _)| row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_has_nothing_of_its_value() {
    const MANY: usize = 1000;
    let mut house = House::on_sqlite().await;
    let number = |at: usize| format!("+4930{:08}", (at * 7_919 + 13) % 100_000_000);
    let shaped =
        |value: &str| v1::FieldInput { format: v1::TokenFormat::Shaped.into(), ..field(v1::FieldType::Phone, value) };
    let (_, same) = house.tokenize("", (0..MANY).map(|_| shaped(&number(0))).collect()).await;
    let (_, different) = house.tokenize("", (0..MANY).map(|at| shaped(&number(at))).collect()).await;
    let all: BTreeSet<_> = same.iter().chain(&different).collect();
    assert_eq!(all.len(), 2 * MANY, "one value, a thousand tokens");

    // How many digits a token shares with a number, place by place from the end.
    let agreement = |tokens: &[String], value: &dyn Fn(usize) -> String| -> usize {
        let agree = |(at, token): (usize, &String)| {
            let (token, value) = (digits(token), digits(&value(at)));
            token.iter().rev().zip(value.iter().rev()).filter(|(one, other)| one == other).count()
        };
        tokens.iter().enumerate().map(agree).sum()
    };
    let right = agreement(&different, &number);
    let wrong = agreement(&different, &|at| number((at + MANY / 2) % MANY));
    // Twelve random digits each, of which one in ten is the same by chance: six standard deviations of the difference.
    let apart = right.abs_diff(wrong);
    assert!(apart < 6 * 47, "a token shares {right} digits with its own number and {wrong} with another");
    // And it bites: with itself a token shares them all.
    assert!(agreement(&different, &|at| different[at].clone()) > right + MANY);

    // Opaque tokens of one value are as far from each other as those of different values.
    let opaque = |value: &str| field(v1::FieldType::Phone, value);
    let (_, same) = house.tokenize("", (0..MANY).map(|_| opaque(&number(0))).collect()).await;
    let (_, different) = house.tokenize("", (0..MANY).map(|at| opaque(&number(at))).collect()).await;
    let distance = |tokens: &[String]| -> usize {
        let differ = |pair: &[String]| pair[0].bytes().zip(pair[1].bytes()).filter(|(one, other)| one != other).count();
        tokens.windows(2).map(differ).sum()
    };
    // Some 26 letters of 32 each, of which one in 32 is the same by chance.
    let (one, other) = (distance(&same), distance(&different));
    assert!(one.abs_diff(other) < 6 * 40, "{one} letters differ between tokens of one value, {other} otherwise");
}

fn digits(text: &str) -> Vec<u8> {
    text.bytes().filter(u8::is_ascii_digit).collect()
}
