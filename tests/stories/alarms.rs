//! Alarms: whoever touches people who do not exist, or tries out what is there, is told of, and is not told.

use std::sync::Arc;
use std::time::Duration;

use lacuna::cli::serve::Running;
use lacuna::config::Misses;
use lacuna::model::Clock;
use lacuna::proto::v1;
use lacuna::proto::v1::access_service_client::AccessServiceClient;
use lacuna::proto::v1::{EventKind, FieldType};
use serde_json::Value;
use tonic::{Code, Status};

use crate::asks::{CARE, HOUR, all_refused, correct, detokenize, shared, tokenize};
use crate::events::oldest;
use crate::house::{House, Link, Somebody, connect, fields_at_fault, on_both_stores, outcome, reason};
use crate::policies::{as_member, entries, with_roles};

const MAIL: &str = "order_confirmation";

/// How long another node may take to learn of honey, on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(1);

const UNKNOWN: &str = "tok_aaaaaaaaaaaaaaaaaaaaaaaaaa";

async fn officer(house: &House) -> AccessServiceClient<Link> {
    house.access_as("the-token-of-security-officer").await
}

async fn place(house: &House, subject: &str) -> Result<v1::Honey, Status> {
    let request = v1::PlaceHoneyRequest { subject: subject.to_owned(), label: "TRAP-1".to_owned() };
    Ok(officer(house).await.place_honey(request).await?.into_inner().honey.unwrap())
}

/// Every event that a caller is told of up to now.
async fn told(house: &House, caller: &str) -> Vec<v1::Event> {
    let mut door = house.events_as(&format!("the-token-of-{caller}")).await;
    let mut stream = door.watch_events(oldest()).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.message().await.unwrap().unwrap().event {
        events.push(event);
    }
    events
}

/// Alarms as an officer is told of them: whom each is about, and by which rpc.
async fn alarms(house: &House, kind: EventKind) -> Vec<(String, String)> {
    let told = told(house, "security-officer").await;
    told.into_iter().filter(|event| event.kind() == kind).map(|event| (event.caller, event.rpc)).collect()
}

/// What stands in the audit beside the calls that were alarming.
async fn marks(house: &House, deed: &str) -> Vec<Value> {
    entries(house).await.into_iter().filter(|entry| entry["deed"] == deed).collect()
}

async fn with_honey(house: &mut House) -> (Somebody, Somebody) {
    with_roles(house, &["mailer", "contact-centre-agent", "security-officer", "auditor", "data-protection-officer"])
        .await;
    let (ada, honey) = (house.somebody("Ada").await, house.somebody("Grace").await);
    (ada, honey)
}

async fn find(house: &mut House, value: &str) -> usize {
    let ask =
        v1::FindTokensRequest { r#type: FieldType::Email.into(), value: value.to_owned(), purpose: CARE.to_owned() };
    house.tokens.find_tokens(ask).await.unwrap().into_inner().tokens.len()
}

/// A house that tells of whoever misses more than five times within ten minutes.
async fn that_counts_misses(house: &mut House) -> Somebody {
    house.config.brakes.lookup_misses = Some(Misses { count: 5, seconds: 600 });
    with_roles(house, &["contact-centre-agent", "mailer", "security-officer"]).await;
    let ada = house.somebody("Ada").await;
    as_member(house, "contact-centre-agent").await;
    ada
}

on_both_stores! {
    async fn whoever_touches_honey_is_answered_as_ever_and_told_of(house: House) {
        let mut house = house;
        let (ada, honey) = with_honey(&mut house).await;
        as_member(&mut house, "mailer").await;
        let before = house.reveal(&honey.tokens, MAIL).await;
        place(&house, &honey.subject).await.unwrap();
        assert!(alarms(&house, EventKind::HoneyTouched).await.is_empty(), "placing it is no touch");
        // As before, and as about anybody else.
        assert_eq!(house.reveal(&honey.tokens, MAIL).await, before);
        assert_eq!(house.reveal(&ada.tokens, MAIL).await[0], Ok(ada.email.clone()));
        assert_eq!(alarms(&house, EventKind::HoneyTouched).await, [("mailer".to_owned(), "Detokenize".to_owned())]);
        let marks = marks(&house, "HoneyTouched").await;
        assert_eq!(marks.len(), 1);
        assert_eq!((marks[0]["caller"].as_str(), marks[0]["justification"].as_str()), (Some("mailer"), Some("Detokenize")));
        assert_eq!(marks[0]["touched"].as_array().unwrap().len(), 3);
        assert!(marks[0]["touched"].as_array().unwrap().iter().all(|one| one["subject"] == honey.subject.as_str()));
        // The mark names the call that was told to the caller.
        let entries = entries(&house).await;
        let call = entries.iter().find(|entry| entry["deed"] == "Detokenize" && entry["request"] == marks[0]["request"]);
        assert!(call.is_some());
        assert!(!format!("{entries:?}").contains(&honey.email));
    }

    async fn every_way_to_touch_honey_is_found_out(house: House) {
        let mut house = house;
        let (ada, honey) = with_honey(&mut house).await;
        place(&house, &honey.subject).await.unwrap();
        let (mut tokens, mut subjects) = house.connect_as("the-token-of-owner").await;
        let subject = honey.subject.clone();
        tokens.get_token(v1::GetTokenRequest { token: honey.tokens[0].clone() }).await.unwrap();
        tokens.list_tokens(v1::ListTokensRequest { subject: subject.clone(), ..Default::default() }).await.unwrap();
        subjects.get_subject(v1::GetSubjectRequest { subject: subject.clone() }).await.unwrap();
        let find = v1::FindTokensRequest { r#type: FieldType::Email.into(), value: honey.email.clone(), purpose: CARE.to_owned() };
        assert_eq!(tokens.find_tokens(find).await.unwrap().into_inner().tokens.len(), 1);
        tokens.tokenize(tokenize("", vec![shared(FieldType::Email, &honey.email)])).await.unwrap();
        tokens.tokenize(tokenize(&subject, vec![shared(FieldType::Phone, "+4930555666")])).await.unwrap();
        tokens.update_token(correct(&honey.tokens[2], "Grace H.")).await.unwrap();
        tokens.delete_token(v1::DeleteTokenRequest { token: honey.tokens[1].clone(), ..Default::default() }).await.unwrap();
        // What is gone is answered as gone, and was touched all the same.
        let gone = tokens.detokenize(detokenize(&honey.tokens[1..2], CARE)).await.unwrap().into_inner();
        assert_eq!(outcome(&gone.results[0]), Err("TOKEN_UNKNOWN".to_owned()));
        // Nobody in particular.
        subjects.list_subjects(v1::ListSubjectsRequest::default()).await.unwrap();
        tokens.detokenize(detokenize(&ada.tokens, CARE)).await.unwrap();
        let by: Vec<String> = alarms(&house, EventKind::HoneyTouched).await.into_iter().map(|(_, rpc)| rpc).collect();
        let ways = ["GetToken", "ListTokens", "GetSubject", "FindTokens", "Tokenize", "Tokenize", "UpdateToken", "DeleteToken", "Detokenize"];
        assert_eq!(by, ways);
    }

    async fn whoever_is_refused_as_a_whole_has_touched_honey_all_the_same(house: House) {
        let mut house = house;
        house.config.brakes.approval_above = Some(2);
        let (_, honey) = with_honey(&mut house).await;
        place(&house, &honey.subject).await.unwrap();
        as_member(&mut house, "mailer").await;
        assert_eq!(honey.tokens.len(), 3);
        let refused = house.tokens.detokenize(detokenize(&honey.tokens, MAIL)).await.unwrap_err();
        assert_eq!(reason(&refused), "APPROVAL_REQUIRED");
        let by: Vec<String> = alarms(&house, EventKind::HoneyTouched).await.into_iter().map(|(_, rpc)| rpc).collect();
        assert_eq!(by, ["Detokenize"]);
    }

    async fn only_those_who_are_to_know_learn_of_honey(house: House) {
        let mut house = house;
        let (_, honey) = with_honey(&mut house).await;
        place(&house, &honey.subject).await.unwrap();
        as_member(&mut house, "mailer").await;
        house.reveal(&honey.tokens, MAIL).await;
        for caller in ["mailer", "auditor", "data-protection-officer", "contact-centre-agent"] {
            let mut door = house.access_as(&format!("the-token-of-{caller}")).await;
            let refused = door.list_honey(v1::ListHoneyRequest::default()).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "NOT_PERMITTED"), "{caller}");
            let lift = v1::LiftHoneyRequest { subject: honey.subject.clone() };
            assert_eq!(reason(&door.lift_honey(lift).await.unwrap_err()), "NOT_PERMITTED", "{caller}");
        }
        // The mailer follows events, and does not see itself in them.
        assert!(told(&house, "mailer").await.iter().all(|event| event.kind() != EventKind::HoneyTouched));
        let about = v1::ListDeliveriesRequest { subject: honey.subject.clone(), ..Default::default() };
        let mut auditor = house.events_as("the-token-of-auditor").await;
        assert!(auditor.list_deliveries(about).await.unwrap().into_inner().deliveries.is_empty());
        // The officer is told of the mailer, and by now of the auditor.
        let by: Vec<String> = alarms(&house, EventKind::HoneyTouched).await.into_iter().map(|(caller, _)| caller).collect();
        assert_eq!(by, ["mailer", "auditor"]);
        let listed = officer(&house).await.list_honey(v1::ListHoneyRequest::default()).await.unwrap().into_inner().honey;
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].subject.as_str(), listed[0].label.as_str(), listed[0].placed_by.as_str()), (honey.subject.as_str(), "TRAP-1", "security-officer"));
    }

    async fn honey_outlives_a_restart_and_ends_when_it_is_lifted(house: House) {
        let mut house = house;
        let (ada, honey) = with_honey(&mut house).await;
        let first = place(&house, &honey.subject).await.unwrap();
        assert_eq!(place(&house, &honey.subject).await.unwrap(), first, "it is honey already");
        house.reopen().await;
        as_member(&mut house, "mailer").await;
        house.reveal(&honey.tokens[..1], MAIL).await;
        // That somebody asked whose deliveries these are is no alarm of a second kind.
        assert_eq!(alarms(&house, EventKind::HoneyTouched).await.len(), 1);
        let lift = |subject: &str| v1::LiftHoneyRequest { subject: subject.to_owned() };
        officer(&house).await.lift_honey(lift(&honey.subject)).await.unwrap();
        house.reveal(&honey.tokens[..1], MAIL).await;
        assert_eq!(alarms(&house, EventKind::HoneyTouched).await.len(), 1);
        let unknown = officer(&house).await.lift_honey(lift(&ada.subject)).await.unwrap_err();
        assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "SUBJECT_UNKNOWN"));
        assert_eq!(fields_at_fault(&place(&house, "MARKED").await.unwrap_err()), ["subject"]);
        let nobody = lacuna::model::SubjectId::from_bytes([0; 16]).to_string();
        assert_eq!(reason(&place(&house, &nobody).await.unwrap_err()), "SUBJECT_UNKNOWN");
    }

    async fn the_command_line_makes_honey_of_values_that_are_made_up(house: House) {
        let mut house = house;
        let made = house.told(&["honey", "create", "--source", "web_form:checkout", "--label", "TRAP-2", "email=grace@example.com"]);
        let tokens = |made: &Value| vec![made["tokens"][0].as_str().unwrap().to_owned()];
        assert_eq!(house.reveal(&tokens(&made), CARE).await, [Ok("grace@example.com".to_owned())]);
        let gone = house.told(&["honey", "create", "--source", "web_form:checkout", "--not-found", "phone=+4930111222"]);
        assert_eq!(house.reveal(&tokens(&gone), CARE).await, all_refused(1, "TOKEN_UNKNOWN"));
        assert_eq!(marks(&house, "HoneyTouched").await.len(), 2);
        assert_eq!(house.told(&["honey", "list"])["honey"].as_array().unwrap().len(), 2);
        assert!(house.shown(&["honey", "list"]).contains("TRAP-2"));
        let events = house.shown(&["events", "watch", "--oldest", "--until-now", "--kind", "honey-touched"]);
        assert_eq!(events.matches("honey_touched").count(), 2, "{events}");
        let subject = made["honey"]["subject"].as_str().unwrap();
        assert!(house.shown(&["honey", "lift", subject]).contains("like any other"));
        assert!(house.shown(&["honey", "place", subject]).contains("is honey"));
    }

    async fn whoever_looks_for_what_is_not_there_again_and_again_is_told_of(house: House) {
        let mut house = house;
        let ada = that_counts_misses(&mut house).await;
        let suspected = async |house: &House| alarms(house, EventKind::EnumerationSuspected).await;
        for at in 0..5 {
            assert_eq!(find(&mut house, &format!("nobody.{at}@example.com")).await, 0);
            assert_eq!(find(&mut house, &ada.email).await, 1, "what is found does not count");
        }
        assert!(suspected(&house).await.is_empty());
        // Whatever it is asked by.
        let unknown = v1::GetTokenRequest { token: UNKNOWN.to_owned() };
        assert_eq!(reason(&house.tokens.get_token(unknown).await.unwrap_err()), "TOKEN_UNKNOWN");
        assert_eq!(suspected(&house).await, [("contact-centre-agent".to_owned(), String::new())]);
        let marks = marks(&house, "EnumerationSuspected").await;
        assert_eq!(marks.len(), 1);
        assert_eq!((marks[0]["caller"].as_str(), marks[0]["justification"].as_str()), (Some("contact-centre-agent"), Some("6 in 600s")));
        // Nothing is refused, and it is not said again until the time is over.
        for at in 0..20 {
            assert_eq!(find(&mut house, &format!("nobody.{at}@example.com")).await, 0);
        }
        assert_eq!(suspected(&house).await.len(), 1);
        house.clock.advance(Duration::from_mins(11));
        assert_eq!(house.reveal(&vec![UNKNOWN.to_owned(); 6], CARE).await.len(), 6);
        assert_eq!(suspected(&house).await.len(), 2);
        // Nobody else is told, nor suspected.
        assert!(told(&house, "mailer").await.iter().all(|event| event.kind() != EventKind::EnumerationSuspected));
        as_member(&mut house, "owner").await;
        assert_eq!(find(&mut house, "nobody@example.com").await, 0);
        assert_eq!(suspected(&house).await.len(), 2);
    }

    async fn misses_are_remembered_over_a_restart(house: House) {
        let mut house = house;
        that_counts_misses(&mut house).await;
        for at in 0..5 {
            find(&mut house, &format!("nobody.{at}@example.com")).await;
        }
        house.reopen().await;
        as_member(&mut house, "contact-centre-agent").await;
        assert!(alarms(&house, EventKind::EnumerationSuspected).await.is_empty());
        find(&mut house, "nobody@example.com").await;
        assert_eq!(alarms(&house, EventKind::EnumerationSuspected).await.len(), 1);
        house.clock.advance(HOUR);
        find(&mut house, "nobody@example.com").await;
        assert_eq!(alarms(&house, EventKind::EnumerationSuspected).await.len(), 1, "what is old is forgotten");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honey_that_was_placed_on_one_node_is_honey_on_the_others() {
    let Some(mut house) = House::on_postgres().await else { return };
    let (_, honey) = with_honey(&mut house).await;
    let other = Running::start(&house.config, Arc::clone(&house.clock) as Arc<dyn Clock>).await.unwrap();
    place(&house, &honey.subject).await.unwrap();
    let (mut there, _) = connect(&other, "the-token-of-mailer".to_owned()).await;
    let found_out = async {
        while alarms(&house, EventKind::HoneyTouched).await.is_empty() {
            there.detokenize(detokenize(&honey.tokens[..1], MAIL)).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, found_out).await.unwrap();
    other.stop().await.unwrap();
}
