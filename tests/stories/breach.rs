//! A breach in the night: whom a stolen credential has seen is counted from the log alone, exactly, with no key at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lacuna::model::Time;
use lacuna::proto::v1;
use lacuna::proto::v1::audit_service_client::AuditServiceClient;
use lacuna::proto::v1::token_service_client::TokenServiceClient;
use lacuna::vault::audit::affected::affected;
use lacuna::vault::audit::list::Filter;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use crate::asks::{CARE, detokenize, erase, tokenize};
use crate::house::{House, Link, field, on_both_stores};

const THIEF: &str = "svc-7";
const CALLERS: &str = "
    [[callers]]
    name = 'development'
    token = 'a-token-for-development'
    [[callers]]
    name = 'svc-7'
    token = 'a-token-that-is-stolen'
";
const COUNTRIES: [&str; 3] = ["DE", "FR", "US-CA"];

/// Somebody whose values are there, by the kinds of them.
struct Person {
    subject: String,
    country: &'static str,
    tokens: Vec<(v1::FieldType, String)>,
}

/// What the load generator knows of what the thief was shown.
#[derive(Default)]
struct Truth {
    reveals: u64,
    subjects: BTreeSet<String>,
    by_kind: BTreeMap<i32, (BTreeSet<String>, BTreeSet<String>, u64)>,
    countries: BTreeMap<String, BTreeSet<String>>,
    special: BTreeSet<String>,
}

impl Truth {
    fn note(&mut self, person: &Person, kind: v1::FieldType, token: &str) {
        self.reveals += 1;
        self.subjects.insert(person.subject.clone());
        let of = self.by_kind.entry(kind.into()).or_default();
        of.0.insert(person.subject.clone());
        of.1.insert(token.to_owned());
        of.2 += 1;
        self.countries.entry(person.country.to_owned()).or_default().insert(person.subject.clone());
        if kind == v1::FieldType::Text {
            self.special.insert(person.subject.clone());
        }
    }

    fn check(&self, told: &v1::ListAffectedSubjectsResponse, erased: u64) {
        assert_eq!((told.reveals, told.subjects), (self.reveals, self.subjects.len() as u64));
        assert_eq!((told.erased, told.special_category_subjects), (erased, self.special.len() as u64));
        let counts = |of: &v1::AffectedCategory| (of.r#type, (of.subjects, of.values, of.reveals));
        let truth = |(kind, of): (&i32, &(BTreeSet<String>, BTreeSet<String>, u64))| {
            (*kind, (of.0.len() as u64, of.1.len() as u64, of.2))
        };
        let told_by_kind: BTreeMap<_, _> = told.categories.iter().map(counts).collect();
        assert_eq!(told_by_kind, self.by_kind.iter().map(truth).collect());
        let countries: BTreeMap<_, _> = told.jurisdictions.iter().map(|of| (of.key.clone(), of.subjects)).collect();
        assert_eq!(countries, self.countries.iter().map(|(key, of)| (key.clone(), of.len() as u64)).collect());
        let people: BTreeSet<_> = told.affected_subjects.iter().map(|person| person.subject.clone()).collect();
        assert_eq!(people, self.subjects);
    }
}

async fn people(house: &mut House, count: usize) -> Vec<Person> {
    let mut people = Vec::new();
    for number in 0..count {
        let country = COUNTRIES[number % COUNTRIES.len()];
        let (source, jurisdiction) = ("import:crm".to_owned(), country.to_owned());
        let ask = v1::CreateSubjectRequest { source, jurisdiction, ..Default::default() };
        let subject = house.subjects.create_subject(ask).await.unwrap().into_inner().subject.unwrap().subject;
        let special =
            v1::FieldInput { tags: vec!["special_category:health".to_owned()], ..field(v1::FieldType::Text, "asthma") };
        let fields = vec![
            field(v1::FieldType::Email, &format!("p{number}@example.com")),
            field(v1::FieldType::PersonName, "P"),
            special,
        ];
        let kept = house.tokens.tokenize(tokenize(&subject, fields)).await.unwrap().into_inner().tokens;
        let tokens = kept.into_iter().map(|token| (token.r#type(), token.token)).collect();
        people.push(Person { subject, country, tokens });
    }
    people
}

/// Reveals at random, in requests of several tokens; notes what was shown if it counts.
async fn reveals(
    door: &mut TokenServiceClient<Link>,
    people: &[Person],
    random: &mut ChaCha8Rng,
    mut truth: Option<&mut Truth>,
) {
    for _ in 0..40 {
        let mut asked = Vec::new();
        for _ in 0..=random.next_u32() % 4 {
            let person = &people[random.next_u32() as usize % people.len()];
            asked.push((person, &person.tokens[random.next_u32() as usize % person.tokens.len()]));
        }
        let tokens: Vec<String> = asked.iter().map(|(_, (_, token))| token.clone()).collect();
        door.detokenize(detokenize(&tokens, CARE)).await.unwrap();
        for (person, (kind, token)) in asked {
            if let Some(truth) = &mut truth {
                truth.note(person, *kind, token);
            }
        }
    }
}

on_both_stores! {
    async fn whom_a_stolen_credential_has_seen_is_counted_exactly_with_no_key_at_hand(house: House) {
        let mut house = house;
        house.config.callers = lacuna::config::parse(CALLERS).unwrap().callers;
        house.stop().await;
        house.reopen().await;
        (house.tokens, house.subjects) = house.connect_as("a-token-for-development").await;
        let (mut thief, _) = house.connect_as("a-token-that-is-stolen").await;
        let everybody = people(&mut house, 30).await;
        let (mut random, mut truth) = (ChaCha8Rng::seed_from_u64(7), Truth::default());
        let hour = Duration::from_hours(1);

        reveals(&mut thief, &everybody, &mut random, None).await;
        house.clock.advance(hour);
        let start = house.in_time(Duration::ZERO);
        reveals(&mut house.tokens.clone(), &everybody, &mut random, None).await;
        reveals(&mut thief, &everybody[..20], &mut random, Some(&mut truth)).await;
        house.clock.advance(hour);
        reveals(&mut thief, &everybody[..20], &mut random, Some(&mut truth)).await;
        house.clock.advance(hour);
        let end = house.in_time(Duration::ZERO);
        reveals(&mut thief, &everybody, &mut random, None).await;
        let seen: Vec<&String> = truth.subjects.iter().take(2).collect();
        for subject in &seen {
            house.subjects.erase_subject(erase(subject)).await.unwrap();
        }

        let filter = v1::AuditFilter {
            caller: THIEF.to_owned(),
            start_time: Some(start),
            end_time: Some(end),
            ..Default::default()
        };
        let ask = v1::ListAffectedSubjectsRequest { filter: Some(filter.clone()), ..Default::default() };
        let channel = tonic::transport::Channel::from_shared(format!("http://{}", house.running().address)).unwrap();
        let bearer = crate::house::Bearer("a-token-for-development".to_owned());
        let mut audits = AuditServiceClient::with_interceptor(channel.connect().await.unwrap(), bearer);
        let told = audits.list_affected_subjects(ask.clone()).await.unwrap().into_inner();
        truth.check(&told, 2);
        let first = truth.subjects.len() / 2;
        let page = v1::ListAffectedSubjectsRequest { page_size: i32::try_from(first).unwrap(), ..ask.clone() };
        let page = audits.list_affected_subjects(page).await.unwrap().into_inner();
        assert_eq!(page.affected_subjects, told.affected_subjects[..first]);
        let rest = v1::ListAffectedSubjectsRequest { page_token: page.next_page_token, ..ask };
        let rest = audits.list_affected_subjects(rest).await.unwrap().into_inner();
        assert_eq!(rest.affected_subjects, told.affected_subjects[first..]);
        let listed = v1::ListAuditEntriesRequest { filter: Some(filter), page_size: 1000, ..Default::default() };
        let listed = audits.list_audit_entries(listed).await.unwrap().into_inner().entries;
        assert_eq!(listed.len() as u64, told.entries);
        assert!(listed.iter().all(|entry| entry.caller == THIEF && entry.rpc == "Detokenize"));

        // The same of the database alone: the vault is down, and its slot out of reach.
        let url = house.config.database_url().unwrap().expose().to_owned();
        house.stop().await;
        let (slot, away) = (house.config.slot_dir(), house.home().join("away"));
        std::fs::rename(&slot, &away).unwrap();
        let store = lacuna::store::open(&url).await.unwrap();
        let filter = Filter {
            caller: Some(THIEF.to_owned()),
            start: Some(moment(start)),
            end: Some(moment(end)),
            ..Filter::default()
        };
        let found = affected(&mut *store.read().await.unwrap(), &filter).await.unwrap();
        let people = found.people.iter().map(lacuna::grpc::audit::wire_person).collect();
        truth.check(&v1::ListAffectedSubjectsResponse { affected_subjects: people, ..lacuna::grpc::audit::wire_affected(&found) }, 2);
        store.close().await;
        std::fs::rename(&away, &slot).unwrap();
    }
}

fn moment(time: prost_types::Timestamp) -> Time {
    Time::from_micros(time.seconds * 1_000_000 + i64::from(time.nanos / 1_000))
}
