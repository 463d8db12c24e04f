//! Calls of a contact centre: told at least once, in any order, amended later; and what is left of them when somebody is
//! erased.

use std::time::Duration;

use lacuna::proto::v1;
use lacuna::proto::v1::call_value::Outcome;
use lacuna::proto::v1::{CallField, CallState, FieldType, PartyRole, UpsertOutcome};
use prost_types::Timestamp;
use tonic::Code;

use crate::asks::{CARE, request_id};
use crate::house::{House, NOON, field, fields_at_fault, item_status, on_both_stores, reason};
use crate::process::{Place, run, said};

const ADA: &str = "+49 30 1234567";

/// So many minutes past noon.
pub fn at(minute: i64) -> Timestamp {
    Timestamp { seconds: NOON / 1_000_000 + minute * 60, nanos: 0 }
}

/// Somebody who calls.
pub fn customer(number: &str, name: &str) -> v1::PartyInput {
    let (number, name) = (number.to_owned(), name.to_owned());
    v1::PartyInput { role: PartyRole::Customer.into(), number, name, ..Default::default() }
}

/// Somebody who serves.
pub fn agent(id: &str, name: &str) -> v1::PartyInput {
    let (agent_id, name) = (id.to_owned(), name.to_owned());
    v1::PartyInput { role: PartyRole::Agent.into(), agent_id, name, ..Default::default() }
}

/// A leg of an inbound call that lasted five minutes.
pub fn leg(name: &str, revision: u64, parties: Vec<v1::PartyInput>) -> v1::UpsertCallRequest {
    v1::UpsertCallRequest {
        source_system: "pbx".to_owned(),
        source_call_id: name.to_owned(),
        revision,
        direction: v1::CallDirection::Inbound.into(),
        dialled: "+498001234".to_owned(),
        queue: "billing".to_owned(),
        start_time: Some(at(0)),
        end_time: Some(at(5)),
        parties,
        ..Default::default()
    }
}

impl House {
    pub async fn upsert(&self, leg: v1::UpsertCallRequest) -> (v1::Call, UpsertOutcome) {
        let response = self.calls().await.upsert_call(leg).await.unwrap().into_inner();
        assert_eq!(response.stale, response.outcome() == UpsertOutcome::Stale);
        let outcome = response.outcome();
        (response.call.unwrap(), outcome)
    }

    async fn not_taken(&self, leg: v1::UpsertCallRequest) -> tonic::Status {
        self.calls().await.upsert_call(leg).await.unwrap_err()
    }

    pub async fn call(&self, call: &v1::Call, viewer_party: u32) -> v1::Call {
        let purpose = CARE.to_owned();
        let request = v1::GetCallRequest { call: call.call.clone(), purpose, viewer_party, ..Default::default() };
        self.calls().await.get_call(request).await.unwrap().into_inner().call.unwrap()
    }

    async fn listed(&self, ask: v1::ListCallsRequest) -> Vec<String> {
        let response = self.calls().await.list_calls(ask).await.unwrap().into_inner();
        response.calls.into_iter().map(|call| call.call).collect()
    }
}

/// A value as it is shown; `None` when nothing is, and of a refusal its reason.
fn value(call: &v1::Call, party: usize, field: CallField) -> Option<String> {
    let value = call.parties[party].values.iter().find(|value| value.field() == field)?;
    Some(match value.outcome.as_ref()? {
        Outcome::Value(text) => text.clone(),
        Outcome::Error(error) => reason(&item_status(error)),
    })
}

on_both_stores! {
    async fn what_is_told_thrice_is_one_call_and_late_legs_come_to_it(house: House) {
        let first = leg("1.1", 1, vec![customer(ADA, "Ada")]);
        let (call, outcome) = house.upsert(first.clone()).await;
        assert_eq!((outcome, call.state(), call.parties.len()), (UpsertOutcome::Created, CallState::Ended, 1));
        let before = house.everything().await;
        for _ in 0..2 {
            let (again, outcome) = house.upsert(first.clone()).await;
            assert_eq!((&again, outcome), (&call, UpsertOutcome::Same));
        }
        assert_eq!(house.everything().await, before, "nothing is kept twice");

        let group_id = "linked-1".to_owned();
        let second = v1::UpsertCallRequest {
            group_id: group_id.clone(),
            ..leg("1.1", 2, vec![customer(ADA, "Ada"), agent("a-7", "Bob")])
        };
        let (merged, outcome) = house.upsert(second.clone()).await;
        assert_eq!((outcome, &merged.call, merged.parties.len()), (UpsertOutcome::Merged, &call.call, 2));
        assert_eq!(merged.parties[0], call.parties[0], "whoever was in it stays as they were");
        let transfer = v1::UpsertCallRequest {
            group_id,
            start_time: Some(at(5)),
            end_time: None,
            ..leg("1.2", 1, vec![customer("0049 30 / 1234567", "Ada"), agent("a-8", "Cy")])
        };
        let (whole, outcome) = house.upsert(transfer).await;
        assert_eq!((outcome, &whole.call, whole.legs.len()), (UpsertOutcome::Merged, &call.call, 2));
        assert_eq!((whole.parties.len(), whole.state()), (3, CallState::Active));
        assert_eq!(whole.legs[1].parties, [1, 3]);

        let (stale, outcome) = house.upsert(first).await;
        assert_eq!((&stale, outcome), (&whole, UpsertOutcome::Stale));
        let other = leg("1.1", 2, vec![customer(ADA, "Eve"), agent("a-7", "Bob")]);
        let refused = house.not_taken(v1::UpsertCallRequest { group_id: "linked-1".to_owned(), ..other }).await;
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "CALL_CONFLICT"));
        let elsewhere = v1::UpsertCallRequest { group_id: "linked-2".to_owned(), ..leg("1.1", 3, second.parties) };
        let refused = house.not_taken(elsewhere).await;
        assert_eq!(fields_at_fault(&refused), ["group_id"]);
        assert_eq!(house.listed(v1::ListCallsRequest::default()).await, [call.call]);
    }

    async fn a_higher_revision_corrects_and_what_it_replaces_is_gone(house: House) {
        let mut house = house;
        let (call, _) = house.upsert(leg("2.1", 1, vec![customer(ADA, "Ada Lovelac")])).await;
        let old = call.parties[0].values.iter().find(|value| value.field() == CallField::Name).unwrap().token.clone();
        assert_eq!(house.reveal(std::slice::from_ref(&old), CARE).await, [Ok("Ada Lovelac".to_owned())]);
        house.upsert(leg("2.1", 2, vec![customer(ADA, "Ada Lovelace")])).await;
        let shown = house.call(&call, 0).await;
        assert_eq!(value(&shown, 0, CallField::Name).as_deref(), Some("Ada Lovelace"));
        assert_eq!(value(&shown, 0, CallField::Number).as_deref(), Some(ADA));
        assert_eq!(house.reveal(&[old], CARE).await, [Err("TOKEN_UNKNOWN".to_owned())]);
        assert_eq!(house.find(FieldType::PersonName, "Ada Lovelac").await, Vec::<String>::new());
    }

    async fn a_caller_is_found_by_their_number_and_a_shared_one_is_nobodys(house: House) {
        let mut house = house;
        let (ada, _) = house.tokenize("", vec![field(FieldType::Phone, ADA)]).await;
        let (known, _) = house.upsert(leg("3.1", 1, vec![customer("0049301234567", "")])).await;
        assert_eq!(known.parties[0].subject, ada);
        house.clock.advance(Duration::from_secs(1));
        let (bea, _) = house.tokenize("", vec![field(FieldType::Phone, ADA)]).await;
        let (shared, _) = house.upsert(leg("3.2", 1, vec![customer(ADA, "")])).await;
        let party = &shared.parties[0];
        assert!(party.subject != ada && party.subject != bea);
        assert_eq!(party.candidates, [ada.clone(), bea]);
        assert_eq!(house.subject(&party.subject).await.kind, "provisional");
        let (unknown, _) = house.upsert(leg("3.3", 1, vec![customer("+49 89 7654321", "")])).await;
        let (again, _) = house.upsert(leg("3.4", 1, vec![customer("+49897654321", "")])).await;
        assert_eq!(unknown.parties[0].subject, again.parties[0].subject, "whoever called before");
        let (one, _) = house.upsert(leg("3.5", 1, vec![customer("anonymous", "")])).await;
        let (two, _) = house.upsert(leg("3.6", 1, vec![customer("Anonymous", "")])).await;
        assert_ne!(one.parties[0].subject, two.parties[0].subject, "no number is no person");
        let of_ada = v1::ListCallsRequest { subject: ada, ..Default::default() };
        assert_eq!(house.listed(of_ada).await, [known.call]);
    }

    async fn nothing_is_kept_of_a_caller_whose_processing_is_restricted_until_that_is_lifted(house: House) {
        let mut house = house;
        let (ada, _) = house.tokenize("", vec![field(FieldType::Phone, ADA)]).await;
        let unknown = house.upsert(leg("3.1", 1, vec![customer("+49 89 7654321", "Bob")])).await.0.parties[0].subject.clone();
        for subject in [&ada, &unknown] {
            let (subject, ground) = (subject.clone(), "objection_pending".to_owned());
            house.subjects.restrict_subject(v1::RestrictSubjectRequest { subject, ground, ..Default::default() }).await.unwrap();
        }
        let parties = || vec![customer(ADA, "Ada Lovelace"), customer("+49897654321", "Bob Marked"), agent("17", "Grace")];
        let (call, outcome) = house.upsert(leg("3.2", 1, parties())).await;
        assert_eq!(outcome, UpsertOutcome::Created);
        let whose: Vec<&str> = call.parties.iter().map(|party| party.subject.as_str()).collect();
        assert_eq!(whose[..2], [ada.as_str(), unknown.as_str()], "nobody begins anew");
        assert!(call.parties[..2].iter().all(|party| party.values.is_empty()) && !call.parties[2].values.is_empty());
        assert_eq!(house.find(FieldType::PersonName, "Bob Marked").await, Vec::<String>::new());

        let informed = Some(at(0));
        for subject in [&ada, &unknown] {
            let lift = v1::LiftRestrictionRequest { subject: subject.clone(), subject_informed_time: informed, ..Default::default() };
            house.subjects.lift_restriction(lift).await.unwrap();
        }
        let (call, _) = house.upsert(leg("3.3", 1, parties())).await;
        assert_eq!(call.parties[1].subject, unknown);
        assert!(call.parties.iter().all(|party| !party.values.is_empty()), "and what comes then is");
    }

    async fn an_agent_is_one_subject_in_every_call_and_sees_nothing_of_others(house: House) {
        let mut house = house;
        let (one, _) = house.upsert(leg("4.1", 1, vec![customer(ADA, "Ada"), agent("a-7", "Bob")])).await;
        house.clock.advance(Duration::from_secs(1));
        let (two, _) = house.upsert(leg("4.2", 1, vec![customer("+4989111222", "Bea"), agent("a-7", "Bob")])).await;
        let bob = one.parties[1].subject.clone();
        assert_eq!(two.parties[1].subject, bob);
        assert_eq!(house.subject(&bob).await.kind, "agent");
        let served = v1::ListCallsRequest { agent: bob.clone(), ..Default::default() };
        assert_eq!(house.listed(served).await, [one.call.clone(), two.call.clone()]);
        let shown = house.call(&one, 1).await;
        assert_eq!(value(&shown, 0, CallField::Name).as_deref(), Some("Ada"));
        assert_eq!(value(&shown, 1, CallField::Name), None, "hidden from the viewer");
        assert_eq!(house.call(&one, 2).await.parties[0].values[0].outcome, None);

        house.erase(&bob).await;
        let shown = house.call(&one, 0).await;
        assert_eq!((shown.parties[1].label.as_str(), shown.parties[1].erased), ("former agent", true));
        assert_eq!(value(&shown, 1, CallField::Name).as_deref(), Some("SUBJECT_ERASED"));
        assert_eq!(value(&shown, 0, CallField::Name).as_deref(), Some("Ada"), "the caller's data stay");
    }

    async fn a_number_is_read_as_that_of_whoever_is_looked_up(house: House) {
        let first = house.upsert(leg("1", 1, vec![customer(ADA, "Ada")])).await.0;
        let ada = first.parties[0].subject.as_str();
        let spellings = ["030/1234567", "tel:+49-30-1234567", "\"Ada\" <sip:+49301234567@gw.example;user=phone>"];
        for (at, spelling) in spellings.into_iter().enumerate() {
            let told = v1::UpsertCallRequest {
                dialled: "+4989123456".to_owned(),
                ..leg(&format!("s{at}"), 1, vec![customer(spelling, "")])
            };
            assert_eq!(house.upsert(told).await.0.parties[0].subject, ada, "{spelling}");
        }
        for spelling in ["sip:anonymous@anonymous.invalid", "anonymous", ""] {
            let told = house.upsert(leg(&format!("w{}", spelling.len()), 1, vec![customer(spelling, "Ada")])).await.0;
            let values = &told.parties[0].values;
            assert!(values.iter().all(|value| value.field() != CallField::Number), "{spelling}: {values:?}");
        }
    }

    async fn two_agents_of_one_name_have_nothing_in_common(house: House) {
        let mut house = house;
        let told = |name: &str, id: &str| leg(name, 1, vec![customer("", ""), agent(id, "Bob")]);
        let one = house.upsert(told("1", "a-7")).await.0;
        let other = house.upsert(told("2", "a-8")).await.0;
        // Another system calls somebody the same.
        let crm = v1::UpsertCallRequest { source_system: "crm".to_owned(), ..told("3", "a-7") };
        let third = house.upsert(crm.clone()).await.0;
        let again = house.upsert(v1::UpsertCallRequest { source_call_id: "4".to_owned(), ..crm }).await.0;
        let agents: Vec<&str> = [&one, &other, &third, &again].map(|call| call.parties[1].subject.as_str()).to_vec();
        assert!(agents[0] != agents[1] && agents[0] != agents[2] && agents[1] != agents[2], "{agents:?}");
        assert_eq!(agents[2], agents[3], "the same one in every call of the system");
        house.erase(agents[0]).await;
        for call in [&other, &third] {
            assert_eq!(value(&house.call(call, 0).await, 1, CallField::Name).as_deref(), Some("Bob"));
        }
        assert!(house.call(&one, 0).await.parties[1].erased);
    }

    async fn who_calls_every_day_is_kept_once_a_month_and_a_correction_takes_nothing_from_another_call(house: House) {
        let told = |name: &str, revision, called: &str| leg(name, revision, vec![customer(ADA, called)]);
        let monday = house.upsert(told("1", 1, "Ada")).await.0;
        let tuesday = house.upsert(told("2", 1, "Ada")).await.0;
        let token = |call: &v1::Call, of| {
            call.parties[0].values.iter().find(|value| value.field() == of).unwrap().token.clone()
        };
        for field in [CallField::Number, CallField::Name] {
            assert_eq!(token(&monday, field), token(&tuesday, field));
        }
        let corrected = house.upsert(told("2", 2, "Ada L.")).await.0;
        assert_eq!(token(&corrected, CallField::Number), token(&monday, CallField::Number));
        assert_eq!(value(&house.call(&corrected, 0).await, 0, CallField::Name).as_deref(), Some("Ada L."));
        assert_eq!(value(&house.call(&monday, 0).await, 0, CallField::Name).as_deref(), Some("Ada"));
        let first = token(&monday, CallField::Name);
        house.upsert(told("1", 2, "Ada L.")).await;
        assert!(house.tokens.clone().get_token(v1::GetTokenRequest { token: first }).await.is_err(), "nobody has it");
        house.clock.advance(Duration::from_hours(24 * 31));
        let later = house.upsert(told("3", 1, "Ada L.")).await.0;
        assert_ne!(token(&later, CallField::Number), token(&monday, CallField::Number), "it ends a month later");
    }

    async fn a_transfer_to_somebody_who_is_named_is_not_taken_for_whoever_was_erased(house: House) {
        let mut house = house;
        let bob = house.somebody("Bob").await;
        let call = house.upsert(leg("1", 1, vec![customer(ADA, "Ada")])).await.0;
        house.erase(&call.parties[0].subject).await;
        let named = v1::PartyInput { subject: bob.subject.clone(), ..customer("", "Bob") };
        let told = house.upsert(leg("1", 2, vec![customer(ADA, "Ada"), named])).await.0;
        assert_eq!(told.parties.iter().map(|party| party.erased).collect::<Vec<_>>(), [true, false]);
        assert_eq!(told.parties[1].subject, bob.subject);
        assert_eq!(value(&house.call(&told, 0).await, 1, CallField::Name).as_deref(), Some("Bob"));
    }

    async fn an_erased_caller_stays_erased_however_late_the_call_is_told_again(house: House) {
        let mut house = house;
        let told = leg("5.1", 1, vec![customer(ADA, "Ada"), agent("a-7", "Bob")]);
        let (call, _) = house.upsert(told.clone()).await;
        let ada = call.parties[0].subject.clone();
        house.erase(&ada).await;
        assert_eq!(house.upsert(told.clone()).await.1, UpsertOutcome::Same, "what it was nobody can tell any more");
        let late = v1::UpsertCallRequest { revision: 2, queue: "complaints".to_owned(), ..told };
        let (merged, outcome) = house.upsert(late).await;
        assert_eq!((outcome, merged.parties.len()), (UpsertOutcome::Merged, 2));
        assert_eq!(merged.parties[0].subject, ada);
        assert!(merged.parties[0].erased);
        assert_eq!(house.find(FieldType::Phone, ADA).await, Vec::<String>::new());
        let shown = house.call(&call, 0).await;
        assert_eq!(value(&shown, 0, CallField::Number).as_deref(), Some("SUBJECT_ERASED"));
        assert_eq!(value(&shown, 1, CallField::Name).as_deref(), Some("Bob"));
        let (next, _) = house.upsert(leg("5.2", 1, vec![customer(ADA, "")])).await;
        assert_ne!(next.parties[0].subject, ada, "another call with the number is somebody new");
    }

    async fn what_was_said_ends_with_its_class_and_the_call_stays(house: House) {
        let told = leg("10.1", 1, vec![customer(ADA, "Ada"), agent("a-7", "Bob")]);
        let (call, _) = house.upsert(told.clone()).await;
        let ada = call.parties[0].subject.clone();
        // In the next month Ada calls again: that is kept longer, under a key of its own.
        house.clock.advance(Duration::from_hours(24 * 10));
        let (later, _) = house.upsert(leg("10.2", 1, vec![customer(ADA, "Ada Lovelace")])).await;
        assert_eq!(later.parties[0].subject, ada);
        house.clock.advance(Duration::from_hours(24 * 90));
        let ended = house.end_retention().await;
        let [(class, month, keys, values)] = ended.as_slice() else { panic!("{ended:?}") };
        // Her number, her name, and what tells whether the call was told before.
        assert_eq!((class.as_str(), month.as_str(), *keys, *values), ("call.ops", "2026-11", 1, 3));
        let shown = house.call(&call, 0).await;
        assert_eq!(value(&shown, 0, CallField::Name).as_deref(), Some("RETENTION_ENDED"));
        assert_eq!(value(&shown, 1, CallField::Name).as_deref(), Some("Bob"), "of another class");
        assert!(!shown.parties[0].erased);
        assert_eq!(value(&house.call(&later, 0).await, 0, CallField::Name).as_deref(), Some("Ada Lovelace"));
        // Told once more it does not come back.
        assert_eq!(house.upsert(told.clone()).await.1, UpsertOutcome::Same);
        let again = v1::UpsertCallRequest { revision: 2, ..told };
        assert_eq!(house.upsert(again).await.1, UpsertOutcome::Merged);
        assert_eq!(value(&house.call(&call, 0).await, 0, CallField::Name).as_deref(), Some("RETENTION_ENDED"));
    }

    async fn the_same_call_from_many_sides_at_once_is_one(house: House) {
        let tell = |number: usize| {
            let calls = house.calls();
            let group_id = "one".to_owned();
            let told = v1::UpsertCallRequest { group_id, ..leg(&format!("6.{}", number % 4), 1, vec![customer(ADA, "Ada")]) };
            async move { calls.await.upsert_call(told).await.unwrap().into_inner().call.unwrap().call }
        };
        let mut told = futures_util::future::join_all((0..16).map(tell)).await;
        told.dedup();
        assert_eq!(told.len(), 1);
        let calls = house.calls().await.list_calls(v1::ListCallsRequest::default()).await.unwrap().into_inner().calls;
        assert_eq!((calls.len(), calls[0].legs.len(), calls[0].parties.len()), (1, 4, 1));
    }

    async fn two_who_tell_of_one_leg_at_once_agree_and_the_higher_revision_stands(house: House) {
        for round in 0..8 {
            let name = format!("11.{round}");
            let same = || leg(&name, 1, vec![customer(ADA, "Ada")]);
            let ((one, first), (two, second)) = tokio::join!(house.upsert(same()), house.upsert(same()));
            assert_eq!(one, two);
            let mut outcomes = [first, second];
            outcomes.sort();
            assert_eq!(outcomes, [UpsertOutcome::Created, UpsertOutcome::Same], "one of them was first");
            let told = |revision, name: &'static str| leg(&format!("11.{round}"), revision, vec![customer(ADA, name)]);
            tokio::join!(house.upsert(told(3, "Ada King")), house.upsert(told(2, "Ada Byron")));
            let shown = house.call(&one, 0).await;
            assert_eq!((shown.legs[0].revision, shown.parties.len()), (3, 1));
            assert_eq!(value(&shown, 0, CallField::Name).as_deref(), Some("Ada King"), "whichever came first");
        }
    }

    async fn a_request_is_answered_as_the_first_time(house: House) {
        let told = v1::UpsertCallRequest { request_id: request_id(7), ..leg("7.1", 1, vec![customer(ADA, "Ada")]) };
        let (call, _) = house.upsert(told.clone()).await;
        assert_eq!(house.upsert(told.clone()).await.0, call);
        let other = v1::UpsertCallRequest { source_call_id: "7.2".to_owned(), ..told };
        assert_eq!(reason(&house.not_taken(other).await), "REQUEST_MISMATCH");
    }

    async fn what_makes_no_sense_is_refused_by_name(house: House) {
        let good = || leg("8.1", 1, vec![customer(ADA, "Ada")]);
        let outbound = v1::CallDirection::Outbound.into();
        let among_scores = v1::PartyInput { retention_class: "score/calls".to_owned(), ..customer(ADA, "Ada") };
        let wrong = [
            ("source_system", v1::UpsertCallRequest { source_system: "PBX 1".to_owned(), ..good() }),
            ("source_call_id", v1::UpsertCallRequest { source_call_id: "+4930".to_owned(), ..good() }),
            ("revision", v1::UpsertCallRequest { revision: 0, ..good() }),
            ("dialled", v1::UpsertCallRequest { direction: outbound, ..good() }),
            ("start_time", v1::UpsertCallRequest { start_time: None, ..good() }),
            ("end_time", v1::UpsertCallRequest { end_time: Some(at(-1)), ..good() }),
            ("parties", v1::UpsertCallRequest { parties: Vec::new(), ..good() }),
            ("parties", v1::UpsertCallRequest { parties: vec![customer("", ""); 51], ..good() }),
            ("parties[0].agent_id", v1::UpsertCallRequest { parties: vec![agent("", "Bob")], ..good() }),
            ("parties[0].number", v1::UpsertCallRequest { parties: vec![customer("4111 1111 1111 1111", "")], ..good() }),
            ("parties[0].retention_class", v1::UpsertCallRequest { parties: vec![among_scores], ..good() }),
            ("parties[0].name", v1::UpsertCallRequest { parties: vec![customer(ADA, &"a".repeat(300))], ..good() }),
        ];
        for (name, told) in wrong {
            let refused = house.not_taken(told).await;
            assert_eq!((refused.code(), fields_at_fault(&refused)), (Code::InvalidArgument, vec![name.to_owned()]));
        }
        let unknown = v1::GetCallRequest { call: "call_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(), ..Default::default() };
        let refused = house.calls().await.get_call(unknown).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "CALL_UNKNOWN"));
        assert_eq!(house.listed(v1::ListCallsRequest::default()).await, Vec::<String>::new());
    }

    async fn calls_are_listed_by_queue_and_time_in_pages(house: House) {
        for minute in 0..5 {
            let told = leg(&format!("9.{minute}"), 1, vec![customer(ADA, "")]);
            house.upsert(v1::UpsertCallRequest { start_time: Some(at(minute)), end_time: Some(at(10)), ..told }).await;
            house.clock.advance(Duration::from_secs(1));
        }
        let other = v1::UpsertCallRequest { queue: "sales".to_owned(), ..leg("9.9", 1, vec![customer(ADA, "")]) };
        house.upsert(other).await;
        let billing = v1::ListCallsRequest { queue: "billing".to_owned(), page_size: 2, ..Default::default() };
        let (mut ask, mut seen) = (billing, Vec::new());
        loop {
            let page = house.calls().await.list_calls(ask.clone()).await.unwrap().into_inner();
            assert!(page.calls.iter().flat_map(|call| &call.parties).flat_map(|party| &party.values).all(|one| one.outcome.is_none()));
            seen.extend(page.calls.into_iter().map(|call| call.call));
            ask.page_token = page.next_page_token;
            if ask.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen.len(), 5);
        let window = v1::ListCallsRequest { start_time: Some(at(1)), end_time: Some(at(3)), ..Default::default() };
        assert_eq!(house.listed(window).await, seen[1..3]);

        let told = |system: &str, id: &str| {
            let (source_system, source_call_id) = (system.to_owned(), id.to_owned());
            v1::ListCallsRequest { source_system, source_call_id, ..Default::default() }
        };
        assert_eq!(house.listed(told("pbx", "9.2")).await, seen[2..3], "by what the system calls it");
        assert_eq!(house.listed(told("pbx", "9.7")).await, Vec::<String>::new());
        assert_eq!(house.listed(told("crm", "9.2")).await, Vec::<String>::new());
        for (ask, field) in [
            (told("", "9.2"), "source_system"),
            (told("pbx", ""), "source_call_id"),
            (v1::ListCallsRequest { queue: "billing".to_owned(), ..told("pbx", "9.2") }, "source_call_id"),
        ] {
            let refused = house.calls().await.list_calls(ask).await.unwrap_err();
            assert_eq!((refused.code(), fields_at_fault(&refused)), (Code::InvalidArgument, vec![field.to_owned()]));
        }
    }
}

#[test]
fn a_call_is_recorded_and_shown_from_a_shell() {
    let place = Place::new();
    let server = place.start(None);
    let parties = tempfile::NamedTempFile::new().unwrap();
    let lines = "{\"role\":\"customer\",\"number\":\"+49301234567\",\"name\":\"Marked\"}\n{\"role\":\"agent\",\"agent_id\":\"a-7\"}\n";
    std::fs::write(parties.path(), lines).unwrap();
    let ask = |arguments: &[&str]| {
        let output = run(server.client(&place).args(arguments));
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let path = parties.path().to_str().unwrap();
    let start = "2026-11-21T12:00:00Z";
    let leg = ["call", "upsert", "1.1", "--system", "pbx", "--start", start, "--parties", path, "--queue", "billing"];
    let upsert = [&leg[..], &["--disposition", "answered", "--answer", "2026-11-21T12:00:09Z"]].concat();
    let told: serde_json::Value = serde_json::from_str(&ask(&[&upsert[..], &["--output", "json"]].concat())).unwrap();
    assert_eq!(told["outcome"], "UPSERT_OUTCOME_CREATED");
    let call = told["call"]["call"].as_str().unwrap();
    assert!(ask(&upsert).contains("same."));
    assert!(!ask(&["call", "show", call]).contains("Marked"));
    let shown = ask(&["call", "show", call, "--purpose", "customer_care"]);
    let clear =
        ["Marked", "direction", "inbound", "queue", "billing", "disposition", "answered", "2026-11-21T12:00:09Z"];
    assert!(clear.iter().all(|word| shown.contains(word)) && !shown.contains("withheld"), "{shown}");
    let seen = ask(&["call", "show", call, "--purpose", "customer_care", "--viewer", "2"]);
    assert!(seen.contains("withheld") && !seen.contains("Marked") && !seen.contains("tok_"), "{seen}");
    let listed = ask(&["call", "list", "--queue", "billing"]);
    assert!(listed.contains(call) && listed.contains("active") && !listed.contains("Marked"), "{listed}");
    assert!(listed.contains("pbx") && listed.contains("1.1"), "the name by which the exchange knows it: {listed}");
    let decide = run(server.client(&place).args(["call", "decide", "--party", "customer:DE"]));
    assert_eq!(decide.status.code(), Some(2), "{}", said(&decide));
    assert!(said(&decide).contains("expected one of caller, agent, other"), "{}", said(&decide));
    std::fs::write(parties.path(), "\n{\"role\":\"Marked\"}").unwrap();
    let refused = run(server.client(&place).args(&upsert));
    let roles = "line 2: role: expected one of customer, agent, supervisor, sme, third-party";
    assert!(said(&refused).contains(roles) && !said(&refused).contains("Marked"), "{}", said(&refused));
    std::fs::write(parties.path(), "{\"role\":\"customer\",\"numbr\":\"Marked\"}").unwrap();
    let refused = run(server.client(&place).args(&upsert));
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("line 1") && !said(&refused).contains("Marked"), "{}", said(&refused));
    assert!(server.stop().success());
}
