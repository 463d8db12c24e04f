//! What happens during calls: told in any order, kept once, and no recording that nobody permits.

use std::collections::BTreeSet;

use lacuna::model::Span;
use lacuna::proto::v1;
use lacuna::proto::v1::append_call_event_response::Outcome;
use lacuna::proto::v1::{
    CallEventKind as Kind, CardPauseCause, ConsentEventKind, RecordingDecision, RecordingInstruction as Instruction,
};

use crate::calls::{agent, at, customer, leg};
use crate::house::{House, fields_at_fault, item_status, on_both_stores, reason};
use crate::process::{Place, run, said};
use crate::recordings::{DUTY, QUALITY, centre, says};

/// Something that happens some minutes into a leg.
pub fn event(leg: &str, name: &str, kind: Kind, minute: i64) -> v1::AppendCallEventRequest {
    v1::AppendCallEventRequest {
        source_system: "pbx".to_owned(),
        source_call_id: leg.to_owned(),
        event_id: name.to_owned(),
        kind: kind.into(),
        event_time: Some(at(minute)),
        ..Default::default()
    }
}

fn pause(leg: &str, name: &str, minute: i64) -> v1::AppendCallEventRequest {
    v1::AppendCallEventRequest { cause: CardPauseCause::Automatic.into(), ..event(leg, name, Kind::CardPause, minute) }
}

/// A recording that begins, of a customer in Germany and an agent in Poland.
fn start(leg: &str, name: &str, purpose: &str, announced: bool) -> v1::AppendCallEventRequest {
    let place = |party, code: &str| v1::PartyJurisdiction { party, jurisdiction: code.to_owned() };
    let jurisdictions = vec![place(1, "DE"), place(2, "PL")];
    let recording = Some(v1::RecordingTerms { purposes: vec![purpose.to_owned()], jurisdictions, announced });
    v1::AppendCallEventRequest { recording, ..event(leg, name, Kind::RecordingStart, 1) }
}

fn objection(leg: &str, name: &str, minute: i64) -> v1::AppendCallEventRequest {
    v1::AppendCallEventRequest { party: 1, ..event(leg, name, Kind::Objection, minute) }
}

/// The reason, and the fields that are wrong.
fn fault(error: &lacuna::proto::google::rpc::Status) -> (String, String) {
    let status = item_status(error);
    (reason(&status), fields_at_fault(&status).join(", "))
}

impl House {
    /// What came of each event of a stream: what is kept, or the reason and the field at fault.
    async fn append(
        &self,
        events: Vec<v1::AppendCallEventRequest>,
    ) -> Vec<Result<v1::AppendedCallEvent, (String, String)>> {
        let many = events.len();
        let stream = tokio_stream::iter(events);
        let mut answers = self.calls().await.append_call_event(stream).await.unwrap().into_inner();
        let mut outcomes = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            outcomes.push(match answer.outcome.unwrap() {
                Outcome::Event(kept) => Ok(kept),
                Outcome::Error(error) => Err(fault(&error)),
            });
        }
        assert_eq!(outcomes.len(), many, "one answer for each");
        outcomes
    }

    async fn append_one(&self, event: v1::AppendCallEventRequest) -> Result<v1::AppendedCallEvent, (String, String)> {
        self.append(vec![event]).await.remove(0)
    }

    async fn happened(&self, call: &str) -> Vec<v1::CallEvent> {
        let request = v1::GetCallRequest { call: call.to_owned(), ..Default::default() };
        self.calls().await.get_call(request).await.unwrap().into_inner().call.unwrap().events
    }

    async fn found(&self, ask: v1::ListCallsRequest) -> BTreeSet<String> {
        let listed = self.calls().await.list_calls(ask).await.unwrap().into_inner();
        assert!(listed.calls.iter().all(|call| call.events.is_empty()));
        listed.calls.into_iter().map(|call| call.legs[0].source_call_id.clone()).collect()
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn refused(reason: &str, field: &str) -> Result<(), (String, String)> {
    Err((reason.to_owned(), field.to_owned()))
}

on_both_stores! {
    async fn what_happens_is_kept_once_and_shown_in_order(house: House) {
        let mut house = house;
        let call = house.upsert(leg("1", 1, vec![customer("+49 30 1234567", "Ada"), agent("7", "Bob")])).await.0.call;
        let told = vec![
            event("1", "e1", Kind::Ring, 0),
            event("1", "e3", Kind::Hold, 2),
            v1::AppendCallEventRequest { party: 2, ..event("1", "e2", Kind::Answer, 1) },
            event("9", "e1", Kind::Ring, 0),
            pause("1", "e4", 3),
        ];
        let answers = house.append(told.clone()).await;
        let kept = |answer: &Result<v1::AppendedCallEvent, _>| answer.as_ref().ok().map(|kept| (kept.call.clone(), kept.repeated));
        let new = Some((call.clone(), false));
        assert_eq!(answers.iter().map(kept).collect::<Vec<_>>(), [new.clone(), new.clone(), new.clone(), None, new]);
        assert_eq!(answers[3].clone().map(drop), refused("CALL_UNKNOWN", "source_call_id"));

        let before = house.everything().await;
        let again = house.append(told.clone()).await;
        assert_eq!(again.iter().flatten().filter(|kept| kept.repeated).count(), 4);
        assert_eq!(house.everything().await, before, "nothing is kept twice");
        let other = v1::AppendCallEventRequest { party: 1, ..told[2].clone() };
        assert_eq!(house.append_one(other).await.map(drop), refused("CALL_CONFLICT", "event_id"));

        house.reopen().await;
        let shown = house.happened(&call).await;
        let kinds: Vec<_> = shown.iter().map(|event| (event.event_id.as_str(), event.kind(), event.party)).collect();
        assert_eq!(kinds, [("e1", Kind::Ring, 0), ("e2", Kind::Answer, 2), ("e3", Kind::Hold, 0), ("e4", Kind::CardPause, 0)]);
        assert_eq!(shown[3].cause(), CardPauseCause::Automatic);
    }

    async fn what_many_tell_at_once_is_kept_once(house: House) {
        let call = house.upsert(leg("1", 1, vec![customer("+49 30 1234567", "Ada")])).await.0.call;
        let told: Vec<_> = (0..40).map(|at| event("1", &format!("e{at}"), Kind::Hold, at)).collect();
        let together = (0..4).map(|_| house.append(told.clone()));
        let answers = futures_util::future::join_all(together).await;
        let new = answers.iter().flatten().flatten().filter(|kept| !kept.repeated).count();
        assert_eq!((new, house.happened(&call).await.len()), (40, 40));
    }

    async fn a_recording_begins_when_it_is_permitted_and_ends_when_somebody_objects(house: House) {
        let mut office = Box::pin(centre(house)).await;
        let parties = || vec![customer("+49 30 1234567", "Ada"), agent("7", "Bob")];
        let call = office.house.upsert(leg("1", 1, parties())).await.0;
        let ada = call.parties[0].subject.clone();
        assert_eq!(office.house.append_one(start("1", "e1", QUALITY, true)).await.map(drop), refused("NO_RECORDING_PERMISSION", ""));
        assert_eq!(office.house.happened(&call.call).await, [], "what was refused has not happened");

        let decide = v1::DecideRecordingRequest {
            parties: vec![v1::RecordingParty {
                subject: ada.clone(),
                jurisdiction: "DE".to_owned(),
                role: v1::RecordingRole::Caller.into(),
            }],
            purposes: vec![QUALITY.to_owned()],
            ..Default::default()
        };
        let notice = office.house.calls().await.decide_recording(decide).await.unwrap().into_inner().notices.remove(0);
        says(&mut office, &ada, QUALITY, ConsentEventKind::Give, &notice).await;
        let begun = office.house.append_one(start("1", "e1", QUALITY, true)).await.unwrap();
        assert!(matches!(begun.decision(), RecordingDecision::Record | RecordingDecision::AnnounceThenRecord), "{begun:?}");
        assert_eq!(begun.instruction(), Instruction::Unspecified);

        // In one stream, without waiting for an answer: the objection counts for what comes after it.
        let told = vec![objection("1", "e2", 2), start("1", "e3", QUALITY, true), start("1", "e4", DUTY, true)];
        let answers = office.house.append(told).await;
        assert_eq!(answers[0].clone().unwrap().instruction(), Instruction::StopAndDestroy);
        assert_eq!(answers[1].clone().map(drop), refused("NO_RECORDING_PERMISSION", ""));
        assert_eq!(answers[2].clone().unwrap().decision(), RecordingDecision::MustRecord, "a law demands it");
        let again = office.house.append_one(objection("1", "e2", 2)).await.unwrap();
        assert!(again.repeated);

        // Of what a law demands nobody stops the recording, and what the policy keeps is kept.
        office.house.upsert(leg("2", 1, parties())).await;
        office.house.append_one(start("2", "e1", DUTY, false)).await.unwrap();
        let told = office.house.append_one(objection("2", "e2", 2)).await.unwrap();
        assert_eq!(told.instruction(), Instruction::Continue);
        office.house.config.recording.after_objection = Span::Kept;
        office.house.reopen().await;
        office.house.upsert(leg("3", 1, parties())).await;
        office.house.append_one(start("3", "e1", QUALITY, true)).await.unwrap();
        let told = office.house.append_one(objection("3", "e2", 2)).await.unwrap();
        assert_eq!(told.instruction(), Instruction::StopAndKeep);
        office.house.upsert(leg("4", 1, parties())).await;
        let told = office.house.append_one(objection("4", "e1", 2)).await.unwrap();
        assert_eq!(told.instruction(), Instruction::Unspecified, "nothing is recorded");
    }

    async fn payments_without_a_pause_are_found(house: House) {
        let resume = |leg: &str, name: &str, minute| event(leg, name, Kind::CardResume, minute);
        let pay = |leg: &str, minute| event(leg, "paid", Kind::Payment, minute);
        for name in ["none", "good", "late", "long", "over", "ended-before"] {
            house.upsert(leg(name, 1, vec![customer("", "")])).await;
        }
        let told = vec![
            pay("late", 2), pause("late", "p", 3), resume("late", "r", 4),
            pause("good", "p", 1), pay("good", 2), resume("good", "r", 3),
            pause("long", "p", 1), pay("long", 2), resume("long", "r", 20),
            pause("over", "p", 1), pay("over", 2),
            pause("ended-before", "p", 1), resume("ended-before", "r", 2), pay("ended-before", 3),
        ];
        assert!(house.append(told).await.iter().all(Result::is_ok));
        let unpaused = v1::ListCallsRequest { payment_without_pause: true, ..Default::default() };
        assert_eq!(house.found(unpaused.clone()).await, names(&["late", "ended-before"]));
        let queue = "billing".to_owned();
        assert_eq!(house.found(v1::ListCallsRequest { queue, ..unpaused.clone() }).await, names(&["late", "ended-before"]));
        assert_eq!(house.found(v1::ListCallsRequest { queue: "other".to_owned(), ..unpaused }).await, names(&[]));
        let longer = |seconds| v1::ListCallsRequest { pause_longer_than_seconds: seconds, ..Default::default() };
        assert_eq!(house.found(longer(600)).await, names(&["long", "over"]));
        assert_eq!(house.found(longer(60)).await, names(&["good", "long", "over"]));
        assert_eq!(house.found(v1::ListCallsRequest::default()).await.len(), 6);
    }

    async fn what_makes_no_sense_changes_nothing(house: House) {
        house.upsert(leg("1", 1, vec![customer("", "Ada")])).await;
        let before = house.everything().await;
        let ring = || event("1", "e1", Kind::Ring, 0);
        let terms = || start("1", "e1", QUALITY, true);
        let within = |change: fn(&mut v1::RecordingTerms)| {
            let mut ask = terms();
            change(ask.recording.as_mut().unwrap());
            ask
        };
        let wrong = [
            ("source_system", v1::AppendCallEventRequest { source_system: "Über".to_owned(), ..ring() }),
            ("source_call_id", v1::AppendCallEventRequest { source_call_id: String::new(), ..ring() }),
            ("event_id", v1::AppendCallEventRequest { event_id: "x".repeat(129), ..ring() }),
            ("kind", v1::AppendCallEventRequest { kind: 99, ..ring() }),
            ("event_time", v1::AppendCallEventRequest { event_time: None, ..ring() }),
            ("party", v1::AppendCallEventRequest { party: 2, ..ring() }),
            ("party", v1::AppendCallEventRequest { party: 256, ..ring() }),
            ("party", event("1", "e1", Kind::Objection, 0)),
            ("cause", v1::AppendCallEventRequest { cause: 1, ..ring() }),
            ("cause", event("1", "e1", Kind::CardPause, 0)),
            ("recording", v1::AppendCallEventRequest { recording: terms().recording, ..ring() }),
            ("recording", event("1", "e1", Kind::RecordingStart, 0)),
            ("recording.purposes[0]", within(|terms| terms.purposes = vec!["Ü".to_owned()])),
            ("recording.purposes", within(|terms| (terms.purposes, terms.jurisdictions) = (Vec::new(), Vec::new()))),
            ("recording.jurisdictions[0].party", within(|terms| terms.jurisdictions[0].party = 0)),
            ("recording.jurisdictions[1].jurisdiction", within(|terms| terms.jurisdictions[1].jurisdiction = "x".into())),
            ("recording.jurisdictions", within(|_| ())),
        ];
        let (fields, asks): (Vec<_>, Vec<_>) = wrong.into_iter().unzip();
        for (field, answer) in fields.iter().zip(house.append(asks).await) {
            let (reason, at) = answer.unwrap_err();
            assert_eq!((at.as_str(), reason.as_str()), (*field, "VALUE_INVALID"));
        }
        assert_eq!(house.everything().await, before);
    }
}

#[test]
fn events_are_told_from_a_shell() {
    let place = Place::new();
    let server = place.start(None);
    let (parties, events) = (place.path().join("parties"), place.path().join("events"));
    std::fs::write(&parties, "{\"role\":\"customer\",\"name\":\"Ada\"}").unwrap();
    let ask = |arguments: &[&str]| run(server.client(&place).args(arguments));
    let start = "2026-11-21T12:00:00Z";
    let told =
        ask(&["call", "upsert", "1", "--system", "pbx", "--start", start, "--parties", parties.to_str().unwrap()]);
    assert!(told.status.success(), "{}", said(&told));
    let line = |name: &str, kind: &str, more: &str| {
        let leg = r#""source_system": "pbx", "source_call_id": "1""#;
        format!(r#"{{{leg}, "event_id": "{name}", "kind": "{kind}", "event_time": "2026-11-21T12:01:00Z"{more}}}"#)
    };
    let pause = line("a", "card-pause", r#", "cause": "dtmf-masking""#);
    let lines = [line("c", "payment", ""), line("b", "objection", "")];
    std::fs::write(&events, lines.join("\n")).unwrap();
    let told = ask(&["call", "event", events.to_str().unwrap()]);
    assert_eq!(told.status.code(), Some(1), "one is refused: {}", said(&told));
    assert!(said(&told).contains("line 2") && said(&told).contains("party"), "{}", said(&told));
    let report = ["call", "list", "--payment-without-pause"];
    assert!(said(&ask(&report)).contains("call_"), "{}", said(&ask(&report)));
    std::fs::write(&events, pause).unwrap();
    let told = ask(&["call", "event", events.to_str().unwrap()]);
    assert!(told.status.success(), "{}", said(&told));
    assert!(!said(&ask(&report)).contains("call_"), "{}", said(&ask(&report)));
    std::fs::write(&events, line("d", "marked", "")).unwrap();
    let told = ask(&["call", "event", events.to_str().unwrap()]);
    let kinds = "ring, answer, hold, retrieve, transfer, join, leave, recording-start, recording-stop, objection";
    assert!(said(&told).contains(&format!("line 1: kind: expected one of {kinds}")), "{}", said(&told));
    assert!(!said(&told).contains("marked") && !said(&told).contains("--help"), "{}", said(&told));
    assert!(said(&ask(&["call", "event", "--help"])).contains(kinds));
    std::fs::write(&events, "{\"marked\": 1}").unwrap();
    let told = ask(&["call", "event", events.to_str().unwrap()]);
    assert!(
        !told.status.success() && said(&told).contains("line 1") && !said(&told).contains("marked"),
        "{}",
        said(&told)
    );
    assert!(server.stop().success());
}
