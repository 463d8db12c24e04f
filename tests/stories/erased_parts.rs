//! Parts of a call that are destroyed alone: noise in every copy, and everything else of their parties stays.

use std::collections::BTreeSet;
use std::fs;

use lacuna::keys::receipt::{self, Kind};
use lacuna::proto::v1;
use lacuna::proto::v1::PartKind;
use tonic::Code;

use crate::asks::{CARE, request_id};
use crate::calls::{customer, leg};
use crate::hoard::{Hoard, keys_now};
use crate::house::{House, fields_at_fault, on_both_stores, reason};
use crate::media_keys::opened_by;
use crate::parts::{part, written};
use crate::process::{Place, run, said};
use crate::restore::Yesterday;

fn erase(call: &v1::Call, parts: &[&v1::CallPart]) -> v1::ErasePartsRequest {
    v1::ErasePartsRequest {
        call: call.call.clone(),
        parts: parts.iter().map(|part| part.part.clone()).collect(),
        reason: "ticket 4711".to_owned(),
        ..Default::default()
    }
}

impl House {
    async fn try_erase_parts(&self, ask: v1::ErasePartsRequest) -> Result<v1::ErasePartsResponse, tonic::Status> {
        Ok(self.calls().await.erase_parts(ask).await?.into_inner())
    }
}

on_both_stores! {
    async fn a_part_is_noise_in_every_copy_and_the_rest_of_its_party_is_not(house: House) {
        let mut house = house;
        let (call, recording) = house.a_recording("1.1").await;
        let transcript = house.attach(part(&call, PartKind::Transcript, written("Ada said too much."))).await;
        let note = house.attach(part(&call, PartKind::Note, written("Call back at noon."))).await;
        let key = house.media_key(&recording.part, CARE).await.unwrap().media_key;
        let envelope = crate::media_keys::sealed(&key, &recording.part);
        let mut hoard = Hoard::default();
        hoard.collect(&house, "before").await;
        let yesterday = Yesterday::of(&house);
        let (keys, spoils) = (hoard.keys_of(&house, "before").await, hoard.spoils(hoard.keys_of(&house, "before").await));
        assert!(opened_by(&spoils, &keys, &envelope), "whoever has copied everything opens it");
        let before = spoils.values().count();

        let planned = v1::ErasePartsRequest { validate_only: true, ..erase(&call, &[&recording, &transcript]) };
        let planned = house.try_erase_parts(planned).await.unwrap();
        assert!(planned.run.is_empty() && planned.parts.iter().all(|part| part.gone.is_empty()));
        assert!(house.media_key(&recording.part, CARE).await.is_ok(), "nothing was changed");

        let ask = v1::ErasePartsRequest { request_id: request_id(4), ..erase(&call, &[&recording, &transcript]) };
        let erased = house.try_erase_parts(ask.clone()).await.unwrap();
        assert_eq!(erased.pending_reason, "");
        assert!(erased.parts.iter().all(|part| part.gone == "PART_ERASED"), "{:?}", erased.parts);
        let said = receipt::verify(&erased.receipt, None).unwrap().statement;
        assert_eq!((said.kind, said.call.as_str(), said.reason.as_str()), (Kind::Parts, call.call.as_str(), "ticket 4711"));
        assert_eq!(said.plan.iter().map(|item| item.count).sum::<u64>(), 3, "two values of the one, one of the other");
        assert_eq!(house.try_erase_parts(ask.clone()).await.unwrap(), erased, "and as often as it is asked");
        let others = v1::ErasePartsRequest { request_id: ask.request_id, ..erase(&call, &[&recording, &note]) };
        let refused = house.try_erase_parts(others).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_MISMATCH", "what it did not name is not passed over in silence");
        let refused = house.media_key(&recording.part, CARE).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "PART_ERASED"));
        let shown = house.call(&call, 0).await;
        assert_eq!(shown.parts.iter().map(|part| part.gone.as_str()).collect::<Vec<_>>(), ["PART_ERASED", "PART_ERASED", ""]);
        assert!(shown.parts.iter().any(|part| part.part == note.part && part.outcome.is_some()));
        let again = house.try_erase_parts(erase(&call, &[&recording])).await.unwrap();
        assert!(again.run.is_empty() && again.parts[0].gone == "PART_ERASED", "there is nothing left to destroy");

        hoard.collect(&house, "after").await;
        let (keys, spoils) = (keys_now(&house).await, hoard.spoils(keys_now(&house).await));
        assert!(!opened_by(&spoils, &keys, &envelope), "noise, with every copy and every key that exists");
        assert_eq!(spoils.values().count(), before - 3, "and nothing else is");
        assert!(hoard.occurrences(&[b"Ada said too much.".to_vec()].into()).is_empty());

        house.go_back(&yesterday).await;
        let refused = house.media_key(&recording.part, CARE).await.unwrap_err();
        assert_eq!(reason(&refused), "KEY_RETIRED", "after yesterday's backup as well");
        assert!(house.call(&call, 0).await.parts.iter().any(|part| part.part == note.part && part.gone.is_empty()));
    }

    async fn what_may_not_go_stays(house: House) {
        let mut house = house;
        let (call, recording) = house.a_recording("1.1").await;
        let open = v1::UpsertCallRequest { end_time: None, ..leg("2.1", 1, vec![customer("+49 30 7654321", "Bob")]) };
        let open = house.upsert(open).await.0;
        let note = house.attach(part(&open, PartKind::Note, written("Hangs in the queue."))).await;
        let before = house.everything().await;
        let refused = house.try_erase_parts(erase(&open, &[&note])).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "CALL_ACTIVE"));
        let other = house.try_erase_parts(erase(&call, &[&recording, &note])).await.unwrap_err();
        assert_eq!((reason(&other), fields_at_fault(&other)), ("PART_UNKNOWN".to_owned(), vec!["parts[1]".to_owned()]));
        for (field, wrong) in [
            ("call", v1::ErasePartsRequest { call: "call".to_owned(), ..erase(&call, &[&recording]) }),
            ("parts", erase(&call, &[])),
            ("parts", v1::ErasePartsRequest { parts: vec![recording.part.clone(); 51], ..erase(&call, &[]) }),
            ("parts[0]", v1::ErasePartsRequest { parts: vec!["prt".to_owned()], ..erase(&call, &[]) }),
            ("reason", v1::ErasePartsRequest { reason: String::new(), ..erase(&call, &[&recording]) }),
            ("request_id", v1::ErasePartsRequest { request_id: "1".to_owned(), ..erase(&call, &[&recording]) }),
        ] {
            let refused = house.try_erase_parts(wrong).await.unwrap_err();
            assert_eq!(fields_at_fault(&refused), [field], "{refused:?}");
        }
        assert_eq!(house.everything().await, before);

        let (subject, ground) = (call.parties[0].subject.clone(), "objection_pending".to_owned());
        let restrict = v1::RestrictSubjectRequest { subject, ground, ..Default::default() };
        house.subjects.restrict_subject(restrict).await.unwrap();
        let refused = house.try_erase_parts(erase(&call, &[&recording])).await.unwrap_err();
        assert_eq!(reason(&refused), "SUBJECT_RESTRICTED");
        assert_eq!(house.call(&call, 0).await.parts[0].gone, "");
    }

    async fn a_part_that_two_destroy_at_once_is_destroyed_once(house: House) {
        let (call, recording) = house.a_recording("1.1").await;
        let asks = (0..4).map(|_| house.try_erase_parts(erase(&call, &[&recording])));
        let answers = futures_util::future::join_all(asks).await;
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().parts[0].gone == "PART_ERASED"), "{answers:?}");
        let runs: BTreeSet<&str> = answers.iter().flatten().map(|answer| answer.run.as_str()).collect();
        assert_eq!(runs.iter().filter(|run| !run.is_empty()).count(), 1, "{answers:?}");
        assert!(answers.iter().flatten().all(|answer| answer.pending_reason.is_empty()));
    }
}

#[test]
fn parts_are_destroyed_from_a_shell() {
    let place = Place::new();
    let server = place.start(None);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("parties"), "{\"role\":\"customer\",\"number\":\"+49301234567\"}\n").unwrap();
    fs::write(path("note"), "Marked words.").unwrap();
    let try_to = |arguments: &[&str]| run(server.client(&place).args(arguments).current_dir(folder.path()));
    let ask = |arguments: &[&str]| {
        let output = try_to(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json
    };
    let (start, end) = ("2026-11-21T12:00:00Z", "2026-11-21T12:05:00Z");
    let upsert = ["call", "upsert", "1.1", "--system", "pbx", "--start", start, "--end", end, "--parties", "parties"];
    let told = ask(&upsert);
    let call = told["call"]["call"].as_str().unwrap();
    let attached = ask(&["call", "attach", call, "--party", "1", "--kind", "note", "--text-file", "note"]);
    let part = attached["part"]["part"].as_str().unwrap();
    let erase = ["call", "erase-parts", call, "--part", part, "--reason", "ticket 4711"];
    let unsure = try_to(&erase);
    assert!(!unsure.status.success() && said(&unsure).contains("--yes"), "{}", said(&unsure));
    assert_eq!(ask(&[&erase[..], &["--dry-run"]].concat())["parts"][0]["gone"], "");
    let looked = said(&try_to(&[&erase[..], &["--dry-run"]].concat()));
    assert!(looked.contains("Nothing was changed."), "{looked}");
    let repeated = request_id(1);
    let sure = [&erase[..], &["--yes", "--request-id", &repeated]].concat();
    let shown = said(&try_to(&sure));
    assert!(shown.contains("lacuna retention receipt rtn_") && !shown.contains("Nothing was changed."), "{shown}");
    let erased = ask(&sure);
    assert_eq!(erased["parts"][0]["gone"], "PART_ERASED");
    let receipt = data_encoding::BASE64.decode(erased["receipt"].as_str().unwrap().as_bytes()).unwrap();
    fs::write(path("receipt"), receipt).unwrap();
    let verified = try_to(&["receipt", "verify", "receipt"]);
    for told in [call, "call.ops", "DESTROY", "--public-key FILE"] {
        assert!(said(&verified).contains(told), "{told}: {}", said(&verified));
    }
    let fetch = shown.lines().find_map(|line| line.split_once("lacuna ")).unwrap().1;
    let fetched = try_to(&[&fetch.split(' ').collect::<Vec<_>>()[..], &["--file", "fetched"]].concat());
    assert!(fetched.status.success(), "{}", said(&fetched));
    assert_eq!(fs::read(path("fetched")).unwrap(), fs::read(path("receipt")).unwrap());
    assert!(server.stop().success());
}
