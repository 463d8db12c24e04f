//! The promise, tested as it is stated: an adversary has a copy of everything from every moment and every key that
//! still exists. Before the erasure they read all of it, afterwards nothing of whoever was erased, and everybody else.

use std::collections::{BTreeMap, BTreeSet};

use lacuna::keys::adversary::Spoils;
use lacuna::model::{Content, FieldType, SubjectId, TokenRow, Value};
use lacuna::proto::v1;
use sqlx::Connection as _;

use crate::base_backup::BaseBackup;
use crate::hoard::{Hoard, copy_tree, keys_now};
use crate::house::{House, field, on_both_stores};
use crate::process::{allow, forbid};

/// A value by its type's number.
type Given = (i16, Vec<u8>);

/// A person and every value that the vault was ever given of them.
struct Person {
    subject: String,
    /// What their tokens stand for now.
    present: BTreeMap<String, Given>,
    /// What was replaced or deleted.
    former: BTreeSet<Given>,
}

impl Person {
    fn id(&self) -> SubjectId {
        SubjectId::parse(&self.subject).unwrap()
    }

    fn all(&self) -> BTreeSet<Given> {
        self.present.values().cloned().chain(self.former.iter().cloned()).collect()
    }

    async fn arrives(house: &mut House, fields: Vec<v1::FieldInput>) -> Self {
        let given: Vec<Given> = fields.iter().map(given).collect();
        let (subject, tokens) = house.tokenize("", fields).await;
        Self { subject, present: tokens.into_iter().zip(given).collect(), former: BTreeSet::new() }
    }

    async fn gives(&mut self, house: &mut House, fields: Vec<v1::FieldInput>) -> Vec<String> {
        let given: Vec<Given> = fields.iter().map(given).collect();
        let (_, tokens) = house.tokenize(&self.subject, fields).await;
        self.present.extend(tokens.iter().cloned().zip(given));
        tokens
    }

    /// The opaque token for a value of this type.
    fn token_of(&self, kind: v1::FieldType) -> String {
        let kind = i16::try_from(i32::from(kind)).unwrap();
        let fits = |(token, given): &(&String, &Given)| given.0 == kind && token.starts_with("tok_");
        self.present.iter().find(fits).unwrap().0.clone()
    }

    async fn corrects(&mut self, house: &mut House, kind: v1::FieldType, value: &str) {
        let token = self.token_of(kind);
        let request = v1::UpdateTokenRequest {
            token: token.clone(),
            content: Some(v1::update_token_request::Content::Value(value.to_owned())),
            source: "phone:call-centre".to_owned(),
            ..Default::default()
        };
        house.tokens.update_token(request).await.unwrap();
        self.former.extend(self.present.insert(token, given(&field(kind, value))));
    }

    async fn deletes(&mut self, house: &mut House, kind: v1::FieldType) {
        let token = self.token_of(kind);
        let request = v1::DeleteTokenRequest { token: token.clone(), ..Default::default() };
        house.tokens.delete_token(request).await.unwrap();
        self.former.extend(self.present.remove(&token));
    }
}

fn given(field: &v1::FieldInput) -> Given {
    let bytes = match field.content.clone().unwrap() {
        v1::field_input::Content::Value(text) => text.into_bytes(),
        v1::field_input::Content::BytesValue(bytes) => bytes,
    };
    (i16::try_from(field.r#type).unwrap(), bytes)
}

/// What the index knows a value by; `None` when it is not searchable.
fn normal((kind, bytes): &Given) -> Option<(FieldType, Vec<u8>)> {
    let kind = FieldType::from_number(*kind).unwrap();
    let content = match kind {
        FieldType::Bytes => Content::Bytes(bytes.clone().as_slice().into()),
        _ => Content::Text(bytes.as_slice().into()),
    };
    let value = Value::parse(kind, content).unwrap();
    value.normal().map(|normal| (kind, normal.to_vec()))
}

const SHARED_PHONE: &str = "+49 30 901820";
const SHARED_BIRTHDAY: &str = "1990-02-28";

/// Values of every type, in several retention classes and forms. The name tells all of them apart but those shared.
fn everything_about(name: &str, number: u32) -> Vec<v1::FieldInput> {
    use v1::FieldType as Kind;
    let handle = name.to_lowercase().replace(' ', ".");
    let in_class =
        |class: &str, kind, value: String| v1::FieldInput { retention_class: class.to_owned(), ..field(kind, &value) };
    let shaped = |kind, value: String| v1::FieldInput { format: v1::TokenFormat::Shaped.into(), ..field(kind, &value) };
    vec![
        field(Kind::Email, &format!("{handle}@example.com")),
        field(Kind::Phone, SHARED_PHONE),
        field(Kind::PersonName, &format!("{name} Müller-Çelik")),
        field(Kind::DateOfBirth, SHARED_BIRTHDAY),
        v1::FieldInput { single_use: true, ..field(Kind::IpAddress, &format!("203.0.113.{number}")) },
        shaped(Kind::Email, format!("{handle}.private@example.org")),
        shaped(Kind::Phone, format!("+49 170 {}", 5_550_000 + number)),
        shaped(Kind::NationalId, format!("ZX-{}-Q", 40_000_000 + number)),
        in_class("orders", Kind::PostalAddress, format!("{number} Rue de la Paix\n75002 Paris, {handle}")),
        in_class("orders", Kind::Text, format!("{handle} asks for parcels at the \"back door\"")),
        in_class("calls", Kind::Json, format!("{{\"note\": \"{handle} was \\u00e9tonné\"}}")),
        in_class("calls", Kind::DeviceId, format!("{handle}-handset-{number}")),
        v1::FieldInput {
            content: Some(v1::field_input::Content::BytesValue(format!("\0\u{1}{handle} as bytes").into_bytes())),
            ..in_class("calls", Kind::Bytes, String::new())
        },
    ]
}

/// What the adversary reads of a person.
fn read_of(spoils: &Spoils, person: &Person) -> BTreeSet<Given> {
    let own = spoils.values().filter(|(token, _)| token.subject == person.id());
    own.map(|(token, value)| (token.kind.number(), value.raw().to_vec())).collect()
}

/// The person's tokens that the index lists under a value, when the adversary guesses it.
fn confirmed(spoils: &Spoils, hoard: &Hoard, person: &Person, guess: &Given) -> BTreeSet<TokenRow> {
    let Some((kind, normal)) = normal(guess) else { return BTreeSet::new() };
    let listed = spoils.listed_under(kind, &normal).unwrap();
    listed.intersection(&hoard.rows_of(person.id())).copied().collect()
}

fn assert_open(spoils: &Spoils, hoard: &Hoard, person: &Person, when: &str) {
    assert_eq!(read_of(spoils, person), person.all(), "{when}");
    for guess in person.present.values().filter(|given| normal(given).is_some()) {
        assert!(!confirmed(spoils, hoard, person, guess).is_empty(), "{when}: the index lists {guess:?}");
    }
}

fn assert_forgotten(spoils: &Spoils, hoard: &Hoard, person: &Person, when: &str) {
    assert_eq!(read_of(spoils, person), BTreeSet::new(), "{when}");
    let rows = hoard.rows_of(person.id());
    assert!(!rows.is_empty(), "{when}: the copies hold their tokens");
    let listed: Vec<_> = spoils.listed().intersection(&rows).copied().collect();
    assert_eq!(listed, [], "{when}: no bucket of any age lists them");
    for guess in person.all() {
        assert_eq!(confirmed(spoils, hoard, person, &guess), BTreeSet::new(), "{when}: {guess:?}");
        let shared = [SHARED_PHONE, SHARED_BIRTHDAY].iter().any(|shared| shared.as_bytes() == guess.1);
        if let Some((kind, normal)) = normal(&guess).filter(|_| !shared) {
            assert_eq!(spoils.index_confirms(kind, &normal), Some(false), "{when}: {guess:?}");
        }
    }
}

/// Every value in every form in which it may stand in a file.
fn texts<'p>(people: impl IntoIterator<Item = &'p Person>) -> BTreeSet<Vec<u8>> {
    let mut texts = BTreeSet::new();
    for given in people.into_iter().flat_map(Person::all) {
        texts.extend(normal(&given).map(|(_, normal)| normal));
        texts.insert(given.1);
    }
    texts
}

/// The erasure is asked for and cannot be completed: a checkpoint cannot be written, then the database refuses the
/// next key state, then the slot has advanced and the database refuses to say so. Copies are made at each step.
async fn erase_with_obstacles(house: &mut House, hoard: &mut Hoard, person: &Person) {
    let sink = house.config.sink_directories()[1].clone();
    let away = sink.with_extension("away");
    std::fs::rename(&sink, &away).unwrap();
    std::fs::write(&sink, "a file where a directory should be").unwrap();
    let erasure = house.erase(&person.subject).await;
    assert_eq!(erasure.state(), v1::ErasureState::Pending);
    assert!(erasure.pending_reason.contains("sink"), "{}", erasure.pending_reason);
    hoard.collect(house, "no checkpoint").await;
    // In this order: the vault tries again by itself.
    forbid(&house.url(), "INSERT", "key_page");
    std::fs::remove_file(&sink).unwrap();
    std::fs::rename(&away, &sink).unwrap();

    assert_eq!(house.erase(&person.subject).await.state(), v1::ErasureState::Pending);
    hoard.collect(house, "no pages").await;
    let spoils = hoard.spoils(hoard.keys_of(house, "no pages").await);
    assert_open(&spoils, hoard, person, "while the slot has not advanced");
    allow(&house.url(), "key_page");

    forbid(&house.url(), "UPDATE OF root_id", "key_tree");
    assert_eq!(house.erase(&person.subject).await.state(), v1::ErasureState::Pending);
    hoard.collect(house, "no receipt").await;
    let spoils = hoard.spoils(hoard.keys_of(house, "no receipt").await);
    assert_forgotten(&spoils, hoard, person, "once the slot has advanced");
    allow(&house.url(), "key_tree");

    assert_eq!(house.erase(&person.subject).await.state(), v1::ErasureState::Shredded);
    hoard.collect(house, "shredded").await;
}

/// Checks that looking for texts finds what is known to stand in the clear.
fn assert_search_works(hoard: &mut Hoard) {
    let clear = BTreeSet::from([b"web_form:checkout".to_vec()]);
    assert!(!hoard.occurrences(&clear).is_empty(), "the source of a value stands in the clear in every copy");
    let secret = BTreeSet::from(["Zoë \"Z\" Ångström".as_bytes().to_vec()]);
    let spelt = [
        "Zoë \"Z\" Ångström".to_owned(),
        r#"Zoë \"Z\" Ångström"#.to_owned(),
        data_encoding::HEXLOWER.encode("Zoë \"Z\" Ångström".as_bytes()),
        data_encoding::BASE64.encode("1Zoë \"Z\" Ångström.".as_bytes()),
        data_encoding::BASE64.encode("12Zoë \"Z\" Ångström..".as_bytes()),
    ];
    for (at, spelling) in spelt.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), format!("before {spelling} after")).unwrap();
        let mut hoard = Hoard::default();
        hoard.take_files(folder.path(), "made up");
        assert_eq!(hoard.occurrences(&secret).len(), 1, "spelling {at}");
    }
}

on_both_stores! {
    async fn no_copy_of_any_time_reveals_who_was_erased(house: House) {
        let mut house = house;
        let second_sink = house.home().join("elsewhere");
        std::fs::create_dir(&second_sink).unwrap();
        house.config.sinks = [house.config.data_dir().join("checkpoints"), second_sink]
            .map(lacuna::config::Sink::in_directory)
            .to_vec();
        house.reopen().await;
        let mut hoard = Hoard::default();

        let mut ada = Person::arrives(&mut house, everything_about("Ada Lovelace", 11)).await;
        let mut bob = Person::arrives(&mut house, everything_about("Bob Noyce", 12)).await;
        let dora = Person::arrives(&mut house, everything_about("Dora Maar", 13)).await;
        // So many under one value that its bucket has several chunks, with Ada's in the first.
        let crowd = (0..70).map(|_| field(v1::FieldType::DateOfBirth, SHARED_BIRTHDAY)).collect();
        bob.gives(&mut house, crowd).await;
        let again = v1::FieldInput { deduplicate: true, ..field(v1::FieldType::Phone, "0049-30-901820") };
        let known = ada.token_of(v1::FieldType::Phone);
        assert_eq!(house.tokenize(&ada.subject, vec![again]).await.1, [known]);
        hoard.collect(&house, "tokenized").await;
        for (person, mail) in [(&mut ada, "ada.byron@example.net"), (&mut bob, "robert.noyce@example.net")] {
            person.corrects(&mut house, v1::FieldType::Email, mail).await;
            person.deletes(&mut house, v1::FieldType::DeviceId).await;
            person.deletes(&mut house, v1::FieldType::Text).await;
        }
        hoard.collect(&house, "changed").await;
        let base = base_backup(&house, &mut hoard).await;

        // The adversary works: before the erasure nothing is hidden from them.
        let spoils = hoard.spoils(hoard.keys_of(&house, "changed").await);
        for person in [&ada, &bob, &dora] {
            assert_open(&spoils, &hoard, person, "before any erasure");
        }
        assert!(hoard.spoils(Vec::new()).values().next().is_none(), "and without a key they read nothing");

        erase_with_obstacles(&mut house, &mut hoard, &ada).await;
        let mut eve = Person::arrives(&mut house, everything_about("Eve Adams", 14)).await;
        hoard.collect(&house, "more people").await;
        let between = keys_now(&house).await;
        let spoils = hoard.spoils(between);
        assert_forgotten(&spoils, &hoard, &ada, "after the first erasure");
        assert_open(&spoils, &hoard, &dora, "after the first erasure");
        eve.corrects(&mut house, v1::FieldType::Email, "eve.kotchever@example.net").await;
        assert_eq!(house.erase(&dora.subject).await.state(), v1::ErasureState::Shredded);
        hoard.collect(&house, "second erasure").await;
        house.reopen().await;
        hoard.collect(&house, "restarted").await;
        if let Some(base) = &base {
            // Brought up again after the erasures: what an operator finds in an old physical backup.
            hoard.read_url(&base.url).await;
        }

        let spoils = hoard.spoils(keys_now(&house).await);
        for person in [&ada, &dora] {
            assert_forgotten(&spoils, &hoard, person, "with every copy and every key that is left");
        }
        for person in [&bob, &eve] {
            assert_open(&spoils, &hoard, person, "everybody else");
        }
        let (opened, sealed) = spoils.pages();
        assert!(opened > 0 && sealed > 0, "{opened} pages opened, {sealed} did not");

        // The limit of the promise: whoever kept an old slot with its wrapping key reads on.
        for moment in ["tokenized", "changed", "no checkpoint", "no pages"] {
            let mut keys = keys_now(&house).await;
            keys.extend(hoard.keys_of(&house, moment).await);
            let spoils = hoard.spoils(keys);
            assert_eq!(read_of(&spoils, &ada), ada.all(), "with the slot of the moment {moment:?}");
        }
        for moment in ["no receipt", "shredded"] {
            let spoils = hoard.spoils(hoard.keys_of(&house, moment).await);
            assert_eq!(read_of(&spoils, &ada), BTreeSet::new(), "with the slot of the moment {moment:?}");
            assert_eq!(read_of(&spoils, &dora), dora.all(), "with the slot of the moment {moment:?}");
        }

        assert_search_works(&mut hoard);
        let found = hoard.occurrences(&texts([&ada, &bob, &dora, &eve]));
        assert!(found.is_empty(), "values stand in the clear:\n{}", found.join("\n"));
    }
}

/// A server with more than so many bytes takes too long to copy.
const LARGEST_SERVER: i64 = 2 << 30;

/// On PostgreSQL: a physical backup, brought up, its rows and its files added to the hoard.
async fn base_backup(house: &House, hoard: &mut Hoard) -> Option<BaseBackup> {
    let url = house.config.database_url().unwrap().expose().to_owned();
    if url.starts_with("sqlite:") {
        return None;
    }
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    let sql = "SELECT oid::text, (SELECT sum(pg_database_size(oid))::bigint FROM pg_database) \
               FROM pg_database WHERE datname = current_database()";
    let (oid, size): (String, i64) = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    if size > LARGEST_SERVER {
        eprintln!("skipped: a base backup of {size} bytes, because the server holds much besides this test");
        return None;
    }
    let base = tokio::task::spawn_blocking(move || BaseBackup::start(&url)).await.unwrap();
    hoard.read_url(&base.url).await;
    for place in base.places(&oid) {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(&place, &copy.path().join("files"));
        hoard.take_files(copy.path(), "base backup");
    }
    Some(base)
}
