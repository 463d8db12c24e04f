//! Parts of calls: each belongs to one party, goes with it or with its class, and the call stays.

use std::time::Duration;

use lacuna::proto::v1;
use lacuna::proto::v1::attach_part_request::Body;
use lacuna::proto::v1::call_part::Outcome;
use lacuna::proto::v1::{FieldType, PartKind};
use tonic::{Code, Status};

use crate::asks::{CARE, request_id};
use crate::calls::{agent, customer, leg};
use crate::house::{House, field, fields_at_fault, on_both_stores, reason};
use crate::process::{Place, run, said};
use crate::rotations::rotate_subject;

const ADA: &str = "+49 30 1234567";
const NAME: &str = "prt_aeaqcaibaeaqcaibaeaqcaibae";
const SAID: &str = "Ada said that the parcel is lost.";

/// A part of the first party, who calls.
pub fn part(call: &v1::Call, kind: PartKind, body: Option<Body>) -> v1::AttachPartRequest {
    v1::AttachPartRequest { call: call.call.clone(), party: 1, kind: kind.into(), body, ..Default::default() }
}

/// A text, as it is attached.
#[expect(clippy::unnecessary_wraps, reason = "as a request wants it")]
pub fn written(text: &str) -> Option<Body> {
    Some(Body::Text(text.to_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "as a request wants it")]
fn at(uri: &str) -> Option<Body> {
    Some(Body::Uri(uri.to_owned()))
}

/// What is shown of a part.
fn shown(call: &v1::Call, part: usize) -> Option<Result<String, String>> {
    Some(match call.parts[part].outcome.as_ref()? {
        Outcome::Text(text) | Outcome::Uri(text) => Ok(text.clone()),
        Outcome::Content(bytes) => Ok(data_encoding::HEXLOWER.encode(bytes)),
        Outcome::Error(error) => Err(error.message.clone()),
    })
}

impl House {
    /// A call between somebody and somebody who serves.
    pub async fn a_call(&self, name: &str) -> v1::Call {
        self.upsert(leg(name, 1, vec![customer(ADA, "Ada"), agent("a-7", "Bob")])).await.0
    }

    pub async fn attach(&self, part: v1::AttachPartRequest) -> v1::CallPart {
        self.try_attach(part).await.unwrap().part.unwrap()
    }

    async fn try_attach(&self, part: v1::AttachPartRequest) -> Result<v1::AttachPartResponse, Status> {
        Ok(self.calls().await.attach_part(part).await?.into_inner())
    }
}

on_both_stores! {
    async fn a_part_is_attached_once_and_shown_for_a_purpose(house: House) {
        let mut house = house;
        let call = house.a_call("1.1").await;
        let told = v1::AttachPartRequest {
            part: NAME.to_owned(),
            media_type: "audio/wav".to_owned(),
            sha256: vec![7; 32],
            ..part(&call, PartKind::Recording, at("https://ada:pw@calls.example/1.wav?X-Signature=s3cr3t#t=1"))
        };
        let first = house.try_attach(told.clone()).await.unwrap();
        let kept = first.part.clone().unwrap();
        assert!(first.created && kept.outcome.is_none());
        assert_eq!((kept.part.as_str(), kept.retention_class.as_str()), (NAME, "call.quality"));
        assert_eq!((kept.media_type.as_str(), kept.sha256.as_slice(), kept.gone.as_str()), ("audio/wav", &[7; 32][..], ""));
        let before = house.everything().await;
        let again = house.try_attach(told.clone()).await.unwrap();
        assert_eq!((again.part, again.created), (first.part, false));
        assert_eq!(house.everything().await, before, "nothing is kept twice");

        house.clock.advance(Duration::from_secs(1));
        let note = house.attach(part(&call, PartKind::Note, written("Call back at noon."))).await;
        assert_eq!(note.retention_class, "call.ops");
        house.clock.advance(Duration::from_secs(1));
        let card = v1::AttachPartRequest { party: 2, ..part(&call, PartKind::Scorecard, Some(Body::Content(vec![0, 255]))) };
        assert_eq!(house.attach(card).await.retention_class, "agent.hr");

        let get = v1::GetCallRequest { call: call.call.clone(), ..Default::default() };
        let bare = house.calls().await.get_call(get).await.unwrap().into_inner().call.unwrap();
        assert!(bare.parts.iter().all(|part| part.outcome.is_none()));
        assert_ne!(bare.etag, call.etag, "the call has changed");
        let all = house.call(&call, 0).await;
        let contents: Vec<_> = (0..3).map(|part| shown(&all, part).unwrap().unwrap()).collect();
        assert_eq!(contents, ["https://calls.example/1.wav", "Call back at noon.", "00ff"]);
        let agents = house.call(&call, 2).await;
        assert_eq!((shown(&agents, 0), shown(&agents, 1), shown(&agents, 2).is_some()), (None, None, true), "hidden from others");
        let purpose = CARE.to_owned();
        let notes = v1::GetCallRequest { call: call.call.clone(), purpose, part_kinds: vec![PartKind::Note.into()], ..Default::default() };
        let notes = house.calls().await.get_call(notes).await.unwrap().into_inner().call.unwrap();
        assert_eq!((shown(&notes, 0), shown(&notes, 1).is_some()), (None, true));
        assert!(notes.parties.iter().flat_map(|party| &party.values).all(|value| value.outcome.is_none()));
        // A content is a value as any other.
        assert_eq!(house.reveal(&[note.token], CARE).await, [Ok("Call back at noon.".to_owned())]);
        let listed = house.calls().await.list_calls(v1::ListCallsRequest::default()).await.unwrap().into_inner().calls;
        assert_eq!(listed, [bare], "never what is kept of them");
    }

    async fn another_part_of_the_name_is_refused(house: House) {
        let (call, other) = (house.a_call("2.1").await, house.a_call("2.2").await);
        let told = v1::AttachPartRequest { part: NAME.to_owned(), ..part(&call, PartKind::Transcript, written(SAID)) };
        house.attach(told.clone()).await;
        let others = [
            v1::AttachPartRequest { call: other.call.clone(), ..told.clone() },
            v1::AttachPartRequest { party: 2, ..told.clone() },
            v1::AttachPartRequest { kind: PartKind::Summary.into(), ..told.clone() },
            v1::AttachPartRequest { body: written("Something else."), ..told.clone() },
            v1::AttachPartRequest { body: None, ..told.clone() },
            v1::AttachPartRequest { media_type: "text/plain".to_owned(), ..told.clone() },
            v1::AttachPartRequest { retention_class: "call.ops".to_owned(), ..told.clone() },
        ];
        for other in others {
            let refused = house.try_attach(other).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "PART_CONFLICT"));
        }
        let named = v1::AttachPartRequest { request_id: request_id(7), part: String::new(), ..told };
        let kept = house.attach(named.clone()).await;
        let again = house.try_attach(named.clone()).await.unwrap();
        assert_eq!((again.part.unwrap(), again.created), (kept, false));
        let refused = house.try_attach(v1::AttachPartRequest { body: written("Something else."), ..named }).await.unwrap_err();
        assert_eq!(reason(&refused), "PART_CONFLICT");
        assert_eq!(house.call(&call, 0).await.parts.len(), 2);
    }

    async fn a_part_from_many_sides_at_once_is_one(house: House) {
        let call = house.a_call("3.1").await;
        let told = v1::AttachPartRequest { part: NAME.to_owned(), ..part(&call, PartKind::Transcript, written(SAID)) };
        let attached = futures_util::future::join_all((0..12).map(|_| house.try_attach(told.clone()))).await;
        assert_eq!(attached.into_iter().filter(|attached| attached.as_ref().unwrap().created).count(), 1);
        let others = (0..12).map(|number| house.attach(part(&call, PartKind::Note, written(&format!("Note {number}")))));
        futures_util::future::join_all(others).await;
        assert_eq!(house.call(&call, 0).await.parts.len(), 13);
    }

    async fn a_part_that_comes_while_its_call_changes_hands_is_of_whom_the_call_is(house: House) {
        let mut house = house;
        let bea = house.somebody("Bea").await.subject;
        for round in 0..8 {
            let number = format!("+49 30 123450{round}");
            let call = house.upsert(leg(&format!("9.{round}"), 1, vec![customer(&number, "Ada"), agent("a-7", "Bob")])).await.0;
            let relink = v1::RelinkCallerRequest {
                call: call.call.clone(),
                from_subject: call.parties[0].subject.clone(),
                to_subject: bea.clone(),
                reason: v1::RelinkReason::NumberReassigned.into(),
                evidence: "ticket 4711".to_owned(),
                ..Default::default()
            };
            let mut calls = house.calls().await;
            let told = part(&call, PartKind::Transcript, written(SAID));
            let (relinked, attached) = futures_util::future::join(calls.relink_caller(relink), house.attach(told)).await;
            relinked.unwrap();
            let now = house.call(&call, 0).await;
            assert_eq!((now.parties[0].subject.as_str(), shown(&now, 0)), (bea.as_str(), Some(Ok(SAID.to_owned()))));
            let token = v1::GetTokenRequest { token: attached.token };
            let token = house.tokens.get_token(token).await.unwrap().into_inner().token.unwrap();
            assert_eq!(token.subject, bea, "round {round}");
        }
    }

    async fn what_is_wrong_with_a_part_is_told_by_name(house: House) {
        let mut house = house;
        let call = house.a_call("4.1").await;
        let good = || part(&call, PartKind::Transcript, written(SAID));
        let spoken = "four one one one one one one one one one one one one one one one";
        let wrong = [
            ("call", v1::AttachPartRequest { call: "call-7".to_owned(), ..good() }),
            ("party", v1::AttachPartRequest { party: 0, ..good() }),
            ("party", v1::AttachPartRequest { party: 3, ..good() }),
            ("party", v1::AttachPartRequest { kind: PartKind::Scorecard.into(), ..good() }),
            ("kind", v1::AttachPartRequest { kind: 0, ..good() }),
            ("part", v1::AttachPartRequest { part: "recording-7".to_owned(), ..good() }),
            ("retention_class", v1::AttachPartRequest { retention_class: "score/calls".to_owned(), ..good() }),
            ("media_type", v1::AttachPartRequest { media_type: "Ada Lovelace".to_owned(), ..good() }),
            ("media_type", v1::AttachPartRequest { media_type: "application/vcon+json".to_owned(), ..good() }),
            ("sha256", v1::AttachPartRequest { sha256: vec![7; 31], ..good() }),
            ("sha256", v1::AttachPartRequest { sha256: vec![7; 32], ..good() }),
            ("uri", v1::AttachPartRequest { body: at("calls/1.wav"), ..good() }),
            ("uri", v1::AttachPartRequest { body: at("data:audio/wav;base64,AAAA"), ..good() }),
            ("text", v1::AttachPartRequest { body: written("My card is 4111 1111 1111 1111."), ..good() }),
            ("text", v1::AttachPartRequest { body: written(spoken), ..good() }),
            ("text", v1::AttachPartRequest { body: written(&"a".repeat((64 << 10) + 1)), ..good() }),
            ("content", v1::AttachPartRequest { body: Some(Body::Content(b"4111111111111111".to_vec())), ..good() }),
            ("request_id", v1::AttachPartRequest { request_id: "7".to_owned(), ..good() }),
        ];
        for (name, told) in wrong {
            let refused = house.try_attach(told).await.unwrap_err();
            assert_eq!((refused.code(), fields_at_fault(&refused)), (Code::InvalidArgument, vec![name.to_owned()]));
        }
        let unknown = v1::AttachPartRequest { call: "call_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(), ..good() };
        assert_eq!(reason(&house.try_attach(unknown).await.unwrap_err()), "CALL_UNKNOWN");
        assert_eq!(house.call(&call, 0).await.parts, []);
        assert_eq!(house.find(FieldType::Text, SAID).await, Vec::<String>::new());
        let restrict = v1::RestrictSubjectRequest { subject: call.parties[0].subject.clone(), ground: "objection_pending".to_owned(), ..Default::default() };
        house.subjects.restrict_subject(restrict).await.unwrap();
        assert_eq!(reason(&house.try_attach(good()).await.unwrap_err()), "SUBJECT_RESTRICTED");
    }

    async fn a_part_goes_with_its_party_and_the_call_stays(house: House) {
        let mut house = house;
        let call = house.a_call("5.1").await;
        let told = v1::AttachPartRequest { part: NAME.to_owned(), ..part(&call, PartKind::Transcript, written(SAID)) };
        house.attach(told.clone()).await;
        house.clock.advance(Duration::from_secs(1));
        house.attach(v1::AttachPartRequest { party: 2, ..part(&call, PartKind::Note, written("Bob was kind.")) }).await;
        house.erase(&call.parties[0].subject).await;
        let left = house.call(&call, 0).await;
        assert_eq!((left.parts[0].gone.as_str(), left.parts[0].part.as_str()), ("SUBJECT_ERASED", NAME));
        assert_eq!(shown(&left, 0), None, "of what is gone nothing is asked");
        assert_eq!((left.parts[1].gone.as_str(), shown(&left, 1)), ("", Some(Ok("Bob was kind.".to_owned()))));
        let again = house.try_attach(told.clone()).await.unwrap();
        assert_eq!((again.created, again.part.unwrap().gone.as_str()), (false, "SUBJECT_ERASED"));
        let late = house.try_attach(v1::AttachPartRequest { part: String::new(), ..told }).await.unwrap_err();
        assert_eq!(reason(&late), "SUBJECT_ERASED");
        assert_eq!(house.find(FieldType::Text, SAID).await, Vec::<String>::new());
    }

    async fn a_part_ends_with_its_class_and_survives_new_keys(house: House) {
        let mut house = house;
        let call = house.a_call("6.1").await;
        let transcript = house.attach(part(&call, PartKind::Transcript, written(SAID))).await;
        house.clock.advance(Duration::from_secs(1));
        house.attach(part(&call, PartKind::Note, written("Call back at noon."))).await;
        let subject = call.parties[0].subject.clone();
        // In the same class and month, and under another key.
        let other = v1::FieldInput { retention_class: "call.quality".to_owned(), ..field(FieldType::Text, "Something else.") };
        let other = house.tokenize(&subject, vec![other]).await.1;
        let rotation = rotate_subject(&mut house.key_service().await, &subject).await;
        assert_eq!(rotation.state(), v1::RotationState::Done, "{rotation:?}");
        let shown_now = house.call(&call, 0).await;
        assert_eq!((shown(&shown_now, 0), shown(&shown_now, 1).unwrap().is_ok()), (Some(Ok(SAID.to_owned())), true));
        // Corrections keep it apart too.
        let correct = v1::UpdateTokenRequest {
            token: transcript.token,
            content: Some(v1::update_token_request::Content::Value("Ada said that it is found.".to_owned())),
            source: "test".to_owned(),
            ..Default::default()
        };
        house.tokens.update_token(correct).await.unwrap();
        house.clock.advance(Duration::from_hours(24 * 100));
        house.end_retention().await;
        let ended = house.call(&call, 0).await;
        assert_eq!((ended.parts[0].gone.as_str(), ended.parts[1].gone.as_str()), ("", "RETENTION_ENDED"));
        assert_eq!(shown(&ended, 0), Some(Ok("Ada said that it is found.".to_owned())));
        house.clock.advance(Duration::from_hours(24 * 120));
        house.end_retention().await;
        assert_eq!(house.call(&call, 0).await.parts[0].gone, "RETENTION_ENDED");
        assert_eq!(house.reveal(&other, CARE).await, [Err("RETENTION_ENDED".to_owned())]);
    }
}

#[test]
fn a_part_is_attached_and_shown_from_a_shell() {
    let place = Place::new();
    let server = place.start(None);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let parties = file("parties", "{\"role\":\"customer\",\"number\":\"+49301234567\"}\n");
    let transcript = file("transcript", "Marked words.");
    let ask = |arguments: &[&str]| {
        let output = run(server.client(&place).args(arguments));
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let start = "2026-11-21T12:00:00Z";
    let told =
        ask(&["call", "upsert", "1.1", "--system", "pbx", "--start", start, "--parties", &parties, "--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let call = told["call"]["call"].as_str().unwrap();
    let attach =
        ["call", "attach", call, "--party", "1", "--kind", "transcript", "--part", NAME, "--text-file", &transcript];
    assert_eq!(ask(&attach).trim(), NAME);
    assert!(ask(&attach).contains("was there already"));
    let shown = ask(&["call", "show", call]);
    assert!(shown.contains(NAME) && !shown.contains("Marked"), "{shown}");
    assert!(ask(&["call", "show", call, "--purpose", CARE]).contains("Marked words."));
    let json: serde_json::Value =
        serde_json::from_str(&ask(&["call", "show", call, "--purpose", CARE, "--output", "json"])).unwrap();
    assert_eq!(json["call"]["parts"][0]["text"], "Marked words.");
    let uri = ["call", "attach", call, "--party", "1", "--kind", "recording", "--uri", "s3://calls/1.wav"];
    let wrong = run(server.client(&place).args(uri).args(["--sha256", "xyz"]));
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
    ask(&uri);
    assert!(ask(&["call", "show", call, "--purpose", CARE]).contains("s3://calls/1.wav"));
    assert!(server.stop().success());
}
