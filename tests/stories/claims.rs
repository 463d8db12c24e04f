//! Whose a call is: an unknown caller turns out to be somebody, and a caller turns out to be somebody else. Whoever is erased then takes
//! with them what is theirs, out of every copy, and nothing else.

use std::time::Duration;

use lacuna::crypto::Secret;
use lacuna::model::FieldType as Kind;
use lacuna::proto::v1;
use lacuna::proto::v1::ConsentEventKind::{Give, Object};
use lacuna::proto::v1::call_value::Outcome;
use lacuna::proto::v1::{
    CallerAssurance, ErasureState, FieldType, PartKind, RelinkReason, SubjectState, UpsertOutcome,
};
use tonic::{Code, Status};

use crate::asks::{erase, request_id, text};
use crate::calls::{agent, customer, leg};
use crate::consents::{NEWS, Office, allowed, denied};
use crate::hoard::{Hoard, keys_now};
use crate::house::{House, field, fields_at_fault, item_status, on_both_stores, reason};
use crate::parts::{part, written};
use crate::process::{Place, run, said};
use crate::restore::Yesterday;

pub const NUMBER: &str = "+49 30 1234567";
const NAME: &str = "Bea As She Called";
const SAID: &str = "Bea wants her parcel.";

pub fn claim(subject: &str, claimant: &str) -> v1::ClaimSubjectRequest {
    v1::ClaimSubjectRequest {
        subject: subject.to_owned(),
        claimant: claimant.to_owned(),
        assurance: CallerAssurance::Verified.into(),
        evidence: "ticket 4711".to_owned(),
        ..Default::default()
    }
}

fn relink(call: &v1::Call, from: &str, to: &str) -> v1::RelinkCallerRequest {
    v1::RelinkCallerRequest {
        call: call.call.clone(),
        from_subject: from.to_owned(),
        to_subject: to.to_owned(),
        reason: RelinkReason::NumberReassigned.into(),
        evidence: "ticket 4711".to_owned(),
        ..Default::default()
    }
}

/// What is shown of the first party's values and of the parts, or why not.
fn shown(call: &v1::Call) -> Vec<String> {
    let values = call.parties[0].values.iter().map(|value| match value.outcome.as_ref().unwrap() {
        Outcome::Value(value) => value.clone(),
        Outcome::Error(error) => reason(&item_status(error)),
    });
    let parts = call.parts.iter().map(|part| match &part.outcome {
        None => part.gone.clone(),
        Some(v1::call_part::Outcome::Text(text)) => text.clone(),
        Some(v1::call_part::Outcome::Error(error)) => reason(&item_status(error)),
        Some(other) => panic!("{other:?}"),
    });
    values.chain(parts).collect()
}

/// How often each of some texts stands in what somebody reads who has copied everything and has these keys.
fn read(hoard: &Hoard, keys: Vec<Secret<32>>, texts: &[&str]) -> Vec<usize> {
    let spoils = hoard.spoils(keys);
    let values: Vec<_> =
        spoils.values().filter(|(token, _)| token.kind != Kind::Bytes).map(|(_, value)| value.raw().to_vec()).collect();
    texts.iter().map(|text| values.iter().filter(|value| **value == text.as_bytes()).count().min(1)).collect()
}

impl House {
    pub async fn try_claim(&mut self, ask: v1::ClaimSubjectRequest) -> Result<v1::ClaimSubjectResponse, Status> {
        Ok(self.subjects.claim_subject(ask).await?.into_inner())
    }

    async fn try_relink(&self, ask: v1::RelinkCallerRequest) -> Result<v1::RelinkCallerResponse, Status> {
        Ok(self.calls().await.relink_caller(ask).await?.into_inner())
    }

    /// A call of somebody, with a note.
    pub async fn a_noted_call(&self, name: &str) -> v1::Call {
        let call = self.upsert(leg(name, 1, vec![customer(NUMBER, NAME), agent("a-7", "Xaver")])).await.0;
        self.attach(part(&call, PartKind::Note, written(SAID))).await;
        call
    }

    async fn calls_of(&self, subject: &str) -> Vec<String> {
        let ask = v1::ListCallsRequest { subject: subject.to_owned(), ..Default::default() };
        self.calls().await.list_calls(ask).await.unwrap().into_inner().calls.into_iter().map(|call| call.call).collect()
    }
}

on_both_stores! {
    async fn a_verified_caller_takes_over_what_was_kept_and_takes_it_along_when_erased(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let call = house.a_noted_call("1.1").await;
        let unknown = call.parties[0].subject.clone();
        assert_eq!(house.subject(&unknown).await.kind, "provisional");
        house.clock.advance(Duration::from_secs(1));
        let later = house.upsert(leg("1.2", 1, vec![customer(NUMBER, NAME)])).await.0;
        let before = shown(&house.call(&call, 0).await);
        assert_eq!(before, [NUMBER, NAME, SAID]);
        let mut hoard = Hoard::default();
        hoard.collect(&house, "before").await;

        let ask = v1::ClaimSubjectRequest { request_id: request_id(7), ..claim(&unknown, &ada.subject) };
        let claimed = house.try_claim(ask.clone()).await.unwrap();
        let erasure = claimed.erasure.clone().unwrap();
        assert_eq!((claimed.claimant.as_ref().unwrap().subject.as_str(), erasure.state()), (ada.subject.as_str(), ErasureState::Shredded));
        assert_eq!(erasure.reason, format!("claimed by {}", ada.subject));
        assert_eq!(house.try_claim(ask).await.unwrap(), claimed, "and as often as it is asked");
        assert_eq!(house.subject(&unknown).await.state(), SubjectState::Shredded);
        let refused = house.try_claim(claim(&unknown, &ada.subject)).await.unwrap_err();
        assert_eq!(reason(&refused), "SUBJECT_ERASED");

        let now = house.call(&call, 0).await;
        assert_eq!((shown(&now), now.parties[0].subject.as_str()), (before, ada.subject.as_str()));
        assert_eq!(house.calls_of(&ada.subject).await, [call.call.clone(), later.call]);
        let next = house.upsert(leg("1.3", 1, vec![customer("030/1234567", "")])).await.0;
        assert_eq!(next.parties[0].subject, ada.subject, "known by the number from now on");
        assert_eq!(house.upsert(leg("1.1", 1, vec![customer(NUMBER, NAME), agent("a-7", "Xaver")])).await.1, UpsertOutcome::Same);
        assert_eq!(house.find(FieldType::PersonName, NAME).await.len(), 1);

        hoard.collect(&house, "claimed").await;
        assert_eq!(read(&hoard, keys_now(&house).await, &[NUMBER, NAME, SAID]), [1, 1, 1], "whoever has copied everything reads it");
        assert_eq!(house.erase(&ada.subject).await.state(), ErasureState::Shredded);
        hoard.collect(&house, "after").await;
        assert_eq!(read(&hoard, keys_now(&house).await, &[NUMBER, NAME, SAID, "Xaver"]), [0, 0, 0, 1], "noise, whoever's it once was");
        let gone = house.call(&call, 0).await;
        assert!(gone.parties[0].erased && shown(&gone).iter().all(|one| one == "SUBJECT_ERASED"));
        assert_eq!(house.find(FieldType::Phone, NUMBER).await, Vec::<String>::new());
    }

    async fn a_backup_from_before_a_claim_gives_nobody_back_who_was_erased(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let call = house.a_noted_call("1.1").await;
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.reopen().await;
        let claimed = house.try_claim(claim(&call.parties[0].subject, &ada.subject)).await.unwrap();
        assert_eq!(claimed.erasure.unwrap().state(), ErasureState::Shredded);
        house.erase(&ada.subject).await;
        house.go_back(&yesterday).await;
        assert_eq!(house.running().report.erasures_reapplied, 2);
        let gone = house.call(&call, 0).await;
        assert!(gone.parties[0].erased && shown(&gone).iter().all(|one| one == "SUBJECT_ERASED"), "{gone:?}");
        let mut hoard = Hoard::default();
        hoard.collect(&house, "restored").await;
        assert_eq!(read(&hoard, keys_now(&house).await, &[NUMBER, NAME, SAID, "Xaver"]), [0, 0, 0, 1]);
    }

    async fn whoever_is_new_is_opened_by_a_claim_and_what_they_decided_counts(house: House) {
        let mut office = Office::open(house).await;
        let call = office.house.a_noted_call("1.1").await;
        let unknown = &call.parties[0].subject;
        office.say(unknown, NEWS, Give).await;
        let claimed = office.house.try_claim(claim(unknown, "")).await.unwrap().claimant.unwrap();
        assert_eq!((claimed.kind.as_str(), claimed.state()), ("customer", SubjectState::Active));
        assert_eq!(office.answer(&claimed.subject, NEWS).await, allowed());
        assert_eq!(office.house.call(&call, 0).await.parties[0].subject, claimed.subject);

        // Who said no says no, also of what they say yes to elsewhere.
        let other = office.house.upsert(leg("2.1", 1, vec![customer("+49 89 7654321", "")])).await.0;
        let other = &other.parties[0].subject;
        office.say(other, NEWS, Object).await;
        office.house.try_claim(claim(other, &claimed.subject)).await.unwrap();
        assert_eq!(office.answer(&claimed.subject, NEWS).await, denied("SUPPRESSED"));
        let proof = v1::AuditConsentsRequest::default();
        office.door.audit_consents(proof).await.unwrap();
    }

    async fn who_objects_is_not_advertised_to_by_way_of_a_call_that_changes_hands(house: House) {
        let mut office = Office::open(house).await;
        let call = office.house.a_noted_call("1.1").await;
        let from = call.parties[0].subject.clone();
        office.say(&from, NEWS, Object).await;
        let relinked = office.house.try_relink(relink(&call, &from, "")).await.unwrap();
        assert_ne!(relinked.to_subject, from);
        assert_eq!(office.answer(&relinked.to_subject, NEWS).await, denied("SUPPRESSED"));
    }

    async fn nobody_is_claimed_who_is_not_verified_or_not_provisional(house: House) {
        let mut house = house;
        let (ada, bob) = (house.somebody("Ada").await, house.somebody("Bob").await);
        let call = house.a_noted_call("1.1").await;
        let (unknown, xaver) = (call.parties[0].subject.clone(), call.parties[1].subject.clone());
        let other = house.upsert(leg("2.1", 1, vec![customer("+49 89 7654321", "")])).await.0.parties[0].subject.clone();
        house.erase(&bob.subject).await;
        let before = house.everything().await;
        let nobody = "sub_aaaaaaaaaaaaaaaaaaaaaaaaaa";
        for (ask, wanted, at) in [
            (v1::ClaimSubjectRequest { assurance: 0, ..claim(&unknown, &ada.subject) }, "NOT_VERIFIED", ""),
            (v1::ClaimSubjectRequest { assurance: CallerAssurance::StirA.into(), ..claim(&unknown, &ada.subject) }, "NOT_VERIFIED", ""),
            (v1::ClaimSubjectRequest { assurance: 9, ..claim(&unknown, &ada.subject) }, "VALUE_INVALID", "assurance"),
            (v1::ClaimSubjectRequest { evidence: String::new(), ..claim(&unknown, &ada.subject) }, "VALUE_INVALID", "evidence"),
            (v1::ClaimSubjectRequest { request_id: "1".to_owned(), ..claim(&unknown, "") }, "VALUE_INVALID", "request_id"),
            (claim("sub", ""), "VALUE_INVALID", "subject"),
            (claim(&unknown, "sub"), "VALUE_INVALID", "claimant"),
            (claim(&unknown, &unknown), "VALUE_INVALID", "claimant"),
            (claim(&unknown, &other), "VALUE_INVALID", "claimant"),
            (claim(nobody, ""), "SUBJECT_UNKNOWN", ""),
            (claim(&unknown, nobody), "SUBJECT_UNKNOWN", "claimant"),
            (claim(&unknown, &bob.subject), "SUBJECT_ERASED", "claimant"),
            (claim(&xaver, ""), "NOT_PROVISIONAL", ""),
            (claim(&ada.subject, ""), "NOT_PROVISIONAL", ""),
        ] {
            let refused = house.try_claim(ask).await.unwrap_err();
            let fields = fields_at_fault(&refused);
            assert_eq!(reason(&refused), wanted, "{refused:?}");
            assert!(at.is_empty() || fields.is_empty() || fields == [at], "{wanted}: {fields:?}");
        }
        assert_eq!(house.everything().await, before, "nothing was changed");
        let ground = "accuracy_contested".to_owned();
        let restrict = v1::RestrictSubjectRequest { subject: ada.subject.clone(), ground, ..Default::default() };
        house.subjects.restrict_subject(restrict).await.unwrap();
        let refused = house.try_claim(claim(&unknown, &ada.subject)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "SUBJECT_RESTRICTED"));
        let execute_time = Some(house.in_time(crate::asks::HOUR));
        let later = v1::EraseSubjectRequest { execute_time, ..erase(&unknown) };
        house.subjects.erase_subject(later).await.unwrap();
        let refused = house.try_claim(claim(&unknown, "")).await.unwrap_err();
        assert_eq!(reason(&refused), "SUBJECT_SCHEDULED");
    }

    async fn a_relinked_call_is_erased_with_whom_it_is_of(house: House) {
        let mut house = house;
        let bea = house.somebody("Bea").await;
        let (ada, _) = house.tokenize("", vec![field(FieldType::Phone, NUMBER), text("Ada's own")]).await;
        let call = house.a_noted_call("1.1").await;
        let own = house.upsert(leg("1.2", 1, vec![customer(NUMBER, "Ada")])).await.0;
        assert_eq!((&call.parties[0].subject, &own.parties[0].subject), (&ada, &ada));
        let name = call.parties[0].values[1].token.clone();
        let mut hoard = Hoard::default();
        hoard.collect(&house, "before").await;
        assert_eq!(read(&hoard, keys_now(&house).await, &[NAME, SAID, "Ada", "Ada's own"]), [1; 4], "the attack works");

        let ask = v1::RelinkCallerRequest { request_id: request_id(8), ..relink(&call, &ada, &bea.subject) };
        let relinked = house.try_relink(ask.clone()).await.unwrap();
        assert_eq!((relinked.to_subject.as_str(), relinked.pending_reason.as_str()), (bea.subject.as_str(), ""));
        assert_eq!(house.try_relink(ask).await.unwrap(), relinked, "and as often as it is asked");
        let now = house.call(&call, 0).await;
        assert_eq!((shown(&now), &now.parties[0].subject), ([NUMBER, NAME, SAID].map(str::to_owned).to_vec(), &bea.subject));
        assert_eq!((house.calls_of(&bea.subject).await, house.calls_of(&ada).await), (vec![call.call.clone()], vec![own.call.clone()]));
        assert_eq!(house.token(&name).await.subject, bea.subject);
        assert_eq!(shown(&house.call(&own, 0).await), [NUMBER, "Ada"], "what she told in other calls is hers");
        // Told again, and corrected, it stays whose it is.
        let again = house.upsert(leg("1.1", 1, vec![customer(NUMBER, NAME), agent("a-7", "Xaver")])).await;
        assert_eq!((again.1, &again.0.parties[0].subject), (UpsertOutcome::Same, &bea.subject));
        let corrected = house.upsert(leg("1.1", 2, vec![customer(NUMBER, NAME), agent("a-7", "Xaver")])).await.0;
        assert_eq!((corrected.parties.len(), &corrected.parties[0].subject), (2, &bea.subject));

        hoard.collect(&house, "relinked").await;
        assert_eq!(house.erase(&bea.subject).await.state(), ErasureState::Shredded);
        hoard.collect(&house, "after").await;
        let texts = [NAME, SAID, "Ada", "Ada's own", NUMBER];
        assert_eq!(read(&hoard, keys_now(&house).await, &texts), [0, 0, 1, 1, 1], "of every copy, with the keys of whom it was recorded under");
        assert!(shown(&house.call(&call, 0).await).iter().all(|one| one == "SUBJECT_ERASED"));
        assert_eq!(shown(&house.call(&own, 0).await), [NUMBER, "Ada"]);
    }

    async fn the_erasure_of_whom_a_call_was_recorded_under_leaves_it(house: House) {
        let mut house = house;
        let bea = house.somebody("Bea").await;
        let (ada, _) = house.tokenize("", vec![field(FieldType::Phone, NUMBER)]).await;
        let call = house.a_noted_call("1.1").await;
        let own = house.upsert(leg("1.2", 1, vec![customer(NUMBER, "Ada")])).await.0;
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.reopen().await;
        house.try_relink(relink(&call, &ada, &bea.subject)).await.unwrap();
        assert_eq!(house.erase(&ada).await.state(), ErasureState::Shredded);
        assert_eq!(shown(&house.call(&call, 0).await), [NUMBER, NAME, SAID]);
        assert!(shown(&house.call(&own, 0).await).iter().all(|one| one == "SUBJECT_ERASED"));
        let found = house.find(FieldType::Phone, NUMBER).await;
        assert_eq!(found.len(), 1, "hers, as she told it");
        assert_eq!(house.token(&found[0]).await.subject, bea.subject);
        house.erase(&bea.subject).await;
        house.go_back(&yesterday).await;
        let mut hoard = Hoard::default();
        hoard.collect(&house, "restored").await;
        assert_eq!(read(&hoard, keys_now(&house).await, &[NAME, SAID, "Ada", NUMBER, "Xaver"]), [0, 0, 0, 0, 1]);
    }

    async fn a_call_that_turns_out_to_be_of_nobody_known_is_of_somebody_provisional(house: House) {
        let mut house = house;
        let (ada, _) = house.tokenize("", vec![field(FieldType::Phone, NUMBER)]).await;
        let call = house.a_noted_call("1.1").await;
        let relinked = house.try_relink(relink(&call, &ada, "")).await.unwrap();
        let unknown = house.subject(&relinked.to_subject).await;
        assert_eq!((unknown.kind.as_str(), relinked.call.unwrap().parties[0].subject == unknown.subject), ("provisional", true));
        assert_eq!(shown(&house.call(&call, 0).await), [NUMBER, NAME, SAID]);
        assert_eq!(house.calls_of(&ada).await, Vec::<String>::new());
        let bob = house.somebody("Bob").await;
        house.try_claim(claim(&unknown.subject, &bob.subject)).await.unwrap();
        assert_eq!(house.calls_of(&bob.subject).await, [call.call]);
    }

    async fn a_relink_that_makes_no_sense_changes_nothing(house: House) {
        let mut house = house;
        let (ada, bea) = (house.somebody("Ada").await, house.somebody("Bea").await);
        let call = house.a_noted_call("1.1").await;
        let from = call.parties[0].subject.clone();
        let xaver = call.parties[1].subject.clone();
        house.erase(&bea.subject).await;
        let before = house.everything().await;
        let nobody = "sub_aaaaaaaaaaaaaaaaaaaaaaaaaa";
        let good = || relink(&call, &from, &ada.subject);
        for (ask, wanted, at) in [
            (v1::RelinkCallerRequest { call: "call".to_owned(), ..good() }, "VALUE_INVALID", "call"),
            (v1::RelinkCallerRequest { call: "call_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(), ..good() }, "CALL_UNKNOWN", ""),
            (v1::RelinkCallerRequest { reason: 0, ..good() }, "VALUE_INVALID", "reason"),
            (v1::RelinkCallerRequest { evidence: String::new(), ..good() }, "VALUE_INVALID", "evidence"),
            (v1::RelinkCallerRequest { request_id: "1".to_owned(), ..good() }, "VALUE_INVALID", "request_id"),
            (relink(&call, "", &ada.subject), "VALUE_INVALID", "from_subject"),
            (relink(&call, &from, "sub"), "VALUE_INVALID", "to_subject"),
            (relink(&call, &from, &from), "VALUE_INVALID", "to_subject"),
            (relink(&call, &ada.subject, ""), "CALLER_MISMATCH", ""),
            (relink(&call, &xaver, &ada.subject), "CALLER_MISMATCH", ""),
            (relink(&call, &from, nobody), "SUBJECT_UNKNOWN", "to_subject"),
            (relink(&call, &from, &bea.subject), "SUBJECT_ERASED", "to_subject"),
        ] {
            let refused = house.try_relink(ask).await.unwrap_err();
            let fields = fields_at_fault(&refused);
            assert_eq!(reason(&refused), wanted, "{refused:?}");
            assert!(at.is_empty() || fields.is_empty() || fields == [at], "{wanted}: {fields:?}");
        }
        assert_eq!(house.everything().await, before, "nothing was changed");
        house.erase(&from).await;
        let refused = house.try_relink(good()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "SUBJECT_ERASED"));
    }
}

#[test]
fn a_caller_is_claimed_and_a_call_relinked_from_a_shell() {
    let place = Place::new();
    let server = place.start(None);
    let folder = tempfile::tempdir().unwrap();
    let parties = folder.path().join("parties");
    std::fs::write(&parties, "{\"role\":\"customer\",\"number\":\"+49301234567\",\"name\":\"Marked\"}\n").unwrap();
    let try_to = |arguments: &[&str]| run(server.client(&place).args(arguments));
    let ask = |arguments: &[&str]| {
        let output = try_to(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json
    };
    let (start, path) = ("2026-11-21T12:00:00Z", parties.to_str().unwrap());
    let told = ask(&["call", "upsert", "1.1", "--system", "pbx", "--start", start, "--parties", path]);
    let (call, subject) =
        (told["call"]["call"].as_str().unwrap(), told["call"]["parties"][0]["subject"].as_str().unwrap());
    let unsure = try_to(&["subject", "claim", subject, "--evidence", "ticket 1"]);
    assert!(!unsure.status.success() && said(&unsure).contains("--verified"), "{}", said(&unsure));
    let claimed = ask(&["subject", "claim", subject, "--evidence", "ticket 1", "--verified"]);
    let claimant = claimed["claimant"]["subject"].as_str().unwrap();
    assert_eq!(claimed["erasure"]["state"], "ERASURE_STATE_SHREDDED");
    let relink = ["call", "relink", call, "--from", claimant, "--reason", "mistaken", "--evidence", "ticket 2"];
    let relinked = ask(&relink);
    assert!(relinked["to_subject"].as_str().unwrap() != claimant && relinked["pending_reason"] == "");
    let again = try_to(&relink);
    assert!(!again.status.success() && said(&again).contains("CALLER_MISMATCH"), "{}", said(&again));
    assert!(!said(&again).contains("Marked"));
    assert!(server.stop().success());
}
