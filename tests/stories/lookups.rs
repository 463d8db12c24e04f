//! Who calls: an agent is told while the telephone rings, as much as the number is worth.

use std::time::Duration;

use lacuna::config::Misses;
use lacuna::proto::v1;
use lacuna::proto::v1::call_service_client::CallServiceClient;
use lacuna::proto::v1::{CallerAssurance as Assurance, CallerMatch as Match, EventKind, FieldType};
use serde_json::Value;
use sqlx::Connection as _;
use tonic::{Code, Status};

use crate::asks::CARE;
use crate::house::{Bearer, House, Link, Somebody, field, fields_at_fault, on_both_stores, outcome, reason};
use crate::parts::{part, written};
use crate::policies::{as_member, entries, with_roles};

const NUMBER: &str = "+49301234567";

/// Slow machines are no story of their own.
pub const PATIENT: u32 = 10_000;

async fn door(house: &House) -> CallServiceClient<Link> {
    CallServiceClient::with_interceptor(house.channel().await, Bearer(house.bearer()))
}

fn ask(number: &str, assurance: Assurance) -> v1::LookupByCallerRequest {
    v1::LookupByCallerRequest {
        number: number.to_owned(),
        region_hint: "DE".to_owned(),
        assurance: assurance.into(),
        purpose: CARE.to_owned(),
        ..Default::default()
    }
}

async fn look(house: &House, ask: v1::LookupByCallerRequest) -> Result<v1::LookupByCallerResponse, Status> {
    Ok(door(house).await.lookup_by_caller(ask).await?.into_inner())
}

async fn who(house: &House, number: &str) -> v1::LookupByCallerResponse {
    look(house, ask(number, Assurance::NumberOnly)).await.unwrap()
}

fn values(answer: &v1::LookupByCallerResponse) -> Vec<Result<String, String>> {
    answer.values.iter().map(outcome).collect()
}

/// A house that is not in a hurry, with somebody of whom more is kept than an agent can take in.
async fn with_ada(house: &mut House) -> Somebody {
    house.config.limits.lookup_milliseconds = PATIENT;
    house.reopen().await;
    let salutation = v1::FieldInput { tags: vec!["salutation".to_owned()], ..field(FieldType::Text, "Frau Dr.") };
    let fields = vec![
        field(FieldType::Text, "likes the phone to ring twice"),
        field(FieldType::Email, "old@example.com"),
        field(FieldType::Phone, NUMBER),
        field(FieldType::PersonName, "Ada Lovelace"),
        field(FieldType::PostalAddress, "1 High St"),
        field(FieldType::DateOfBirth, "1980-12-10"),
        field(FieldType::Iban, "DE89370400440532013000"),
        salutation,
        v1::FieldInput { single_use: true, ..field(FieldType::NationalId, "12 345 678") },
    ];
    let (subject, tokens) = house.tokenize("", fields).await;
    house.clock.advance(Duration::from_secs(1));
    house.tokenize(&subject, vec![field(FieldType::Email, "ada@example.com")]).await;
    Somebody { subject, tokens, phone: NUMBER.to_owned(), ..Somebody::default() }
}

fn unknown(masked: &str) -> v1::LookupByCallerResponse {
    let masked_number = masked.to_owned();
    v1::LookupByCallerResponse { r#match: Match::Unknown.into(), masked_number, ..Default::default() }
}

on_both_stores! {
    async fn an_agent_is_told_as_much_as_the_number_is_worth(house: House) {
        let mut house = house;
        let ada = with_ada(&mut house).await;
        let addressed = [Ok("Frau Dr.".to_owned()), Ok("Ada Lovelace".to_owned())];
        for number in ["0049 30 1234567", NUMBER, "030/1234567", "sip:0301234567@gw.example;user=phone"] {
            let told = who(&house, number).await;
            assert_eq!((told.r#match(), told.subject.as_str()), (Match::One, ada.subject.as_str()), "{number}");
            assert_eq!(values(&told), addressed);
            assert_eq!((told.masked_number.as_str(), told.degraded), ("+49\u{2022}\u{2022}\u{2022}67", false));
            assert_eq!((told.candidates.len(), &told.candidates[0].token), (1, &ada.tokens[2]));
        }
        // The country of what was dialled does as well; without any, the number is looked for as it stands.
        let dialled = |number: &str, dialled: &str| v1::LookupByCallerRequest {
            region_hint: String::new(),
            dialled_number: dialled.to_owned(),
            ..ask(number, Assurance::NumberOnly)
        };
        assert_eq!(look(&house, dialled("030 1234567", "+49 800 1234567")).await.unwrap().r#match(), Match::One);
        assert_eq!(look(&house, dialled("030 1234567", "")).await.unwrap().r#match(), Match::Unknown);
        for assurance in [Assurance::StirA, Assurance::Verified] {
            let told = look(&house, ask(NUMBER, assurance)).await.unwrap();
            let rest = ["ada@example.com", "1 High St", "1980-12-10", "DE89370400440532013000"];
            let shown: Vec<_> = addressed.iter().cloned().chain(rest.map(|text| Ok(text.to_owned()))).collect();
            assert_eq!(values(&told), shown, "six, of each type the newest, and nothing that can be shown only once");
        }
    }

    async fn a_number_that_was_kept_as_it_was_written_is_found(house: House) {
        let mut house = house;
        house.config.limits.lookup_milliseconds = PATIENT;
        house.reopen().await;
        let (raw, _) = house.tokenize("", vec![field(FieldType::Phone, "030/1234567")]).await;
        for number in [NUMBER, "030 1234567", "sip:0301234567@pbx.example"] {
            assert_eq!(who(&house, number).await.subject, raw, "{number}");
        }
        // What is kept with its country code is surer.
        let (sure, _) = house.tokenize("", vec![field(FieldType::Phone, NUMBER)]).await;
        assert_eq!(who(&house, "030 1234567").await.subject, sure);
        assert_eq!(who(&house, "sip:0301234567@pbx.example").await.subject, raw, "a name of SIP is no number in Germany");
    }

    async fn who_withholds_the_number_is_not_looked_for(house: House) {
        let mut house = house;
        with_ada(&mut house).await;
        house.config.brakes.lookups = Misses { count: 1, seconds: 60 };
        house.reopen().await;
        for number in ["", "anonymous", "sip:anonymous@anonymous.invalid", "sip:ada@pbx.example", "+266696687"] {
            assert_eq!(who(&house, number).await, unknown(""), "{number}");
        }
        assert_eq!(who(&house, "+49309999999").await, unknown("+49\u{2022}\u{2022}\u{2022}99"));
    }

    async fn of_several_people_no_personal_data_is_told(house: House) {
        let mut house = house;
        let ada = with_ada(&mut house).await;
        house.clock.advance(Duration::from_mins(1));
        let fields = || vec![field(FieldType::Phone, "0049 30 1234567"), field(FieldType::PersonName, "Bob")];
        let (bob, tokens) = house.tokenize("", fields()).await;
        let told = look(&house, ask(NUMBER, Assurance::Verified)).await.unwrap();
        assert_eq!((told.r#match(), told.subject.as_str(), told.values.len()), (Match::Several, "", 0));
        let named: Vec<_> = told.candidates.iter().map(|one| (one.subject.as_str(), one.token.as_str())).collect();
        assert_eq!(named, [(bob.as_str(), tokens[0].as_str()), (ada.subject.as_str(), ada.tokens[2].as_str())]);
        let times: Vec<_> = told.candidates.iter().map(|one| one.last_activity_time.unwrap().seconds).collect();
        assert_eq!(times[0] - times[1], 60);
    }

    async fn a_name_that_is_presented_with_a_number_is_not_taken_for_that_of_its_owner(house: House) {
        let mut house = house;
        let ada = with_ada(&mut house).await;
        for day in 0..8 {
            let name = format!("Your bank {day}");
            let caller = crate::calls::customer(&ada.phone, &name);
            house.calls().await.upsert_call(crate::calls::leg(&day.to_string(), 1, vec![caller])).await.unwrap();
        }
        let told = values(&who(&house, &ada.phone).await);
        assert!(told.contains(&Ok("Ada Lovelace".to_owned())), "{told:?}");
        assert!(told.iter().flatten().all(|value| !value.contains("bank")), "{told:?}");
        let told = values(&look(&house, ask(&ada.phone, Assurance::Verified)).await.unwrap());
        assert_eq!(told[..2], [Ok("Frau Dr.".to_owned()), Ok("Ada Lovelace".to_owned())]);
        assert!(told.iter().flatten().all(|value| !value.contains("bank")), "there is a name of hers: {told:?}");
    }

    async fn whoever_called_last_is_the_most_recently_active(house: House) {
        let mut house = house;
        let ada = with_ada(&mut house).await;
        house.clock.advance(Duration::from_mins(1));
        let (bob, _) = house.tokenize("", vec![field(FieldType::Phone, NUMBER)]).await;
        assert_eq!(who(&house, NUMBER).await.candidates[0].subject, bob);
        house.clock.advance(Duration::from_mins(1));
        // Nothing of hers that is new comes with it.
        let party = v1::PartyInput { subject: ada.subject.clone(), ..crate::calls::customer("", "") };
        let parties = vec![crate::calls::agent("a-7", "Cy"), party];
        house.calls().await.upsert_call(crate::calls::leg("1.1", 1, parties)).await.unwrap();
        let told = who(&house, NUMBER).await.candidates;
        let times: Vec<_> = told.iter().map(|one| one.last_activity_time.unwrap().seconds).collect();
        assert_eq!((told[0].subject.as_str(), told[1].subject.as_str()), (ada.subject.as_str(), bob.as_str()));
        assert_eq!(times[0] - times[1], 60);
    }

    async fn what_calls_have_of_somebody_is_shown_with_the_calls(house: House) {
        let mut house = house;
        house.config.limits.lookup_milliseconds = PATIENT;
        house.reopen().await;
        house.tokenize("", vec![field(FieldType::Phone, NUMBER), field(FieldType::Email, "ada@example.com")]).await;
        house.clock.advance(Duration::from_secs(1));
        let call = house.a_call("1.1").await;
        let said = part(&call, v1::PartKind::Transcript, written("Ada said too much."));
        house.attach(said).await;
        let told = look(&house, ask(NUMBER, Assurance::Verified)).await.unwrap();
        assert_eq!(told.candidates[0].subject, call.parties[0].subject);
        assert_eq!(values(&told), [Ok("Ada".to_owned()), Ok("ada@example.com".to_owned())]);
    }

    async fn who_is_erased_calls_as_a_stranger(house: House) {
        let mut house = house;
        let ada = with_ada(&mut house).await;
        assert_eq!(who(&house, NUMBER).await.subject, ada.subject);
        house.erase(&ada.subject).await;
        assert_eq!(who(&house, NUMBER).await, unknown("+49\u{2022}\u{2022}\u{2022}67"));
        // They call again, and are somebody new.
        let (again, _) = house.tokenize("", vec![field(FieldType::Phone, NUMBER)]).await;
        let told = who(&house, NUMBER).await;
        assert_eq!((told.subject, told.candidates.len()), (again.clone(), 1));
        assert_ne!(again, ada.subject);
    }

    async fn who_is_restricted_is_unknown_but_for_purposes_that_a_restriction_spares(house: House) {
        let mut house = house;
        let ada = with_ada(&mut house).await;
        let request = v1::RestrictSubjectRequest {
            subject: ada.subject.clone(),
            ground: "art18_1_a".to_owned(),
            ..Default::default()
        };
        house.subjects.restrict_subject(request).await.unwrap();
        assert_eq!(who(&house, NUMBER).await.r#match(), Match::Unknown);
        let claims = v1::LookupByCallerRequest { purpose: "legal_claims".to_owned(), ..ask(NUMBER, Assurance::NumberOnly) };
        assert_eq!(look(&house, claims).await.unwrap().subject, ada.subject);
    }

    async fn an_agent_sees_what_their_policies_let_them(house: House) {
        let mut house = house;
        house.config.limits.lookup_milliseconds = PATIENT;
        with_roles(&mut house, &["contact-centre-agent", "mailer", "security-officer", "auditor"]).await;
        let ada = house.somebody("Ada Lovelace").await;
        as_member(&mut house, "contact-centre-agent").await;
        let as_agent = |token: &str| Bearer(format!("the-token-of-{token}"));
        let mut agent = CallServiceClient::with_interceptor(house.channel().await, as_agent("contact-centre-agent"));
        let told = agent.lookup_by_caller(ask(&ada.phone, Assurance::Verified)).await.unwrap().into_inner();
        let dots = "\u{2022}\u{2022}\u{2022}";
        assert_eq!(values(&told), [Ok(format!("A{dots} L{dots}")), Ok(format!("a{dots}@e{dots}.com"))]);
        let mut mailer = CallServiceClient::with_interceptor(house.channel().await, as_agent("mailer"));
        let refused = mailer.lookup_by_caller(ask(&ada.phone, Assurance::Verified)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "NOT_PERMITTED"));
        for (wrong, field) in [
            (v1::LookupByCallerRequest { purpose: String::new(), ..ask(NUMBER, Assurance::NumberOnly) }, "purpose"),
            (v1::LookupByCallerRequest { region_hint: "Germany".to_owned(), ..ask(NUMBER, Assurance::NumberOnly) }, "region_hint"),
            (v1::LookupByCallerRequest { agent: "joe".to_owned(), ..ask(NUMBER, Assurance::NumberOnly) }, "agent"),
            (v1::LookupByCallerRequest { assurance: 9, ..ask(NUMBER, Assurance::NumberOnly) }, "assurance"),
            (ask(&"1".repeat(300), Assurance::NumberOnly), "number"),
        ] {
            assert_eq!(fields_at_fault(&agent.lookup_by_caller(wrong).await.unwrap_err()), [field]);
        }
    }

    async fn a_look_up_is_on_record_once_with_all_that_was_shown(house: House) {
        let mut house = house;
        let ada = with_ada(&mut house).await;
        let asked = v1::LookupByCallerRequest { justification: "CALL-7".to_owned(), ..ask(NUMBER, Assurance::NumberOnly) };
        look(&house, asked).await.unwrap();
        who(&house, "+49309999999").await;
        let entries: Vec<Value> =
            entries(&house).await.into_iter().filter(|entry| entry["deed"] == "LookupByCaller").collect();
        let [found, missed] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!((found["purpose"].as_str(), found["justification"].as_str()), (Some(CARE), Some("CALL-7")));
        let touched: Vec<_> = found["touched"].as_array().unwrap().iter().map(|one| (one["type"].as_str().unwrap(), one["outcome"].as_str().unwrap())).collect();
        assert_eq!(touched, [("PHONE", "FOUND"), ("TEXT", "OK"), ("PERSON_NAME", "OK")]);
        assert!(found["touched"].as_array().unwrap().iter().all(|one| one["subject"] == ada.subject.as_str()));
        assert_eq!((missed["unknown"].as_u64(), missed["touched"].as_array()), (Some(1), None));
        assert!(!format!("{entries:?}").contains("1234567"));
    }

    async fn a_budget_of_reveals_counts_what_look_ups_show(house: House) {
        let mut house = house;
        house.config.brakes.reveal_budget = Some(lacuna::config::Budget { values: 3, seconds: 600 });
        with_ada(&mut house).await;
        assert_eq!(values(&who(&house, NUMBER).await).len(), 2);
        let refused = look(&house, ask(NUMBER, Assurance::NumberOnly)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "REVEAL_BUDGET"));
    }

    async fn whoever_tries_one_number_after_the_other_is_stopped_and_told_of(house: House) {
        let mut house = house;
        house.config.brakes.lookups = Misses { count: 5, seconds: 60 };
        with_ada(&mut house).await;
        let (agent, other) = (house.somebody("Joe").await.subject, house.somebody("Jane").await.subject);
        let by = |agent: &str, number: &str| v1::LookupByCallerRequest {
            agent: agent.to_owned(),
            ..ask(number, Assurance::NumberOnly)
        };
        for at in 0..5 {
            look(&house, by(&agent, &format!("+4930999990{at}"))).await.unwrap();
        }
        // Also of a number that is there.
        let refused = look(&house, by(&agent, NUMBER)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "LOOKUP_LIMIT"));
        assert!(look(&house, by(&agent, NUMBER)).await.is_err());
        assert_eq!(look(&house, by(&other, NUMBER)).await.unwrap().r#match(), Match::One, "others go on");
        let mut stream = house.events().await.watch_events(crate::events::oldest()).await.unwrap().into_inner();
        let mut alarms = 0;
        while let Some(event) = stream.message().await.unwrap().unwrap().event {
            alarms += usize::from(event.kind() == EventKind::EnumerationSuspected);
        }
        assert_eq!(alarms, 1, "told once");
        house.reopen().await;
        assert!(look(&house, by(&agent, NUMBER)).await.is_err(), "a restart forgets nothing");
        house.clock.advance(Duration::from_secs(62));
        assert_eq!(look(&house, by(&agent, NUMBER)).await.unwrap().r#match(), Match::One);
    }

    async fn an_agent_does_not_wait_for_a_store_that_hangs(house: House) {
        let mut house = house;
        let ada = with_ada(&mut house).await;
        house.config.limits.lookup_milliseconds = 80;
        house.reopen().await;
        let held = Held::begin(&house).await;
        let told = who(&house, "030 1234567").await;
        let expected = v1::LookupByCallerResponse { degraded: true, ..unknown("+49\u{2022}\u{2022}\u{2022}67") };
        assert_eq!(told, expected, "nothing is shown that is not on record");
        held.end().await;
        house.config.limits.lookup_milliseconds = PATIENT;
        house.reopen().await;
        let recorded = entries(&house).await;
        let told_nothing = |entry: &&Value| entry["deed"] == "LookupByCaller" && entry.get("touched").is_none();
        assert_eq!(recorded.iter().filter(told_nothing).count(), 1, "it is on record, if late: {recorded:?}");
        assert_eq!(who(&house, NUMBER).await.subject, ada.subject);
    }

    async fn the_command_line_tells_who_calls(house: House) {
        let mut house = house;
        let ada = with_ada(&mut house).await;
        let told = house.told(&["call", "lookup", "030/1234567", "--region", "DE", "--purpose", CARE]);
        assert_eq!((told["match"].as_str(), told["subject"].as_str()), (Some("CALLER_MATCH_ONE"), Some(ada.subject.as_str())));
        assert_eq!(told["values"][1]["value"], "Ada Lovelace");
        let shown = house.shown(&["call", "lookup", NUMBER, "--purpose", CARE, "--assurance", "verified"]);
        assert!(shown.contains("ada@example.com") && !shown.contains("1234567"), "{shown}");
        assert!(house.shown(&["call", "lookup", "--purpose", CARE]).contains("unknown"));
        house.tokenize("", vec![field(FieldType::Phone, NUMBER)]).await;
        assert!(house.shown(&["call", "lookup", NUMBER, "--purpose", CARE]).contains("several people"));
    }
}

/// Somebody who holds on to what the record of a call is written into.
enum Held {
    Sqlite(sqlx::SqliteConnection),
    Postgres(sqlx::PgConnection),
}

impl Held {
    async fn begin(house: &House) -> Self {
        let url = house.url();
        if url.starts_with("postgres") {
            let mut other = sqlx::PgConnection::connect(&url).await.unwrap();
            sqlx::query("BEGIN").execute(&mut other).await.unwrap();
            sqlx::query("LOCK TABLE audit_batch IN ACCESS EXCLUSIVE MODE").execute(&mut other).await.unwrap();
            return Self::Postgres(other);
        }
        let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
        Self::Sqlite(other)
    }

    async fn end(self) {
        match self {
            Self::Sqlite(mut other) => drop(sqlx::query("ROLLBACK").execute(&mut other).await.unwrap()),
            Self::Postgres(mut other) => drop(sqlx::query("ROLLBACK").execute(&mut other).await.unwrap()),
        }
    }
}
