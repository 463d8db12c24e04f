//! Forgetting a person: at once, later, held up, or not after all.

use std::fs;
use std::path::PathBuf;

use lacuna::config::Sink;
use lacuna::keys::receipt;
use lacuna::proto::v1;
use lacuna::proto::v1::{ErasureState, FieldType, SubjectState};
use tonic::{Code, Status};

use crate::asks::{CARE, HOUR, all_refused, correct, erase, metadata, moment, refusal, text, tokenize};
use crate::house::{House, field, fields_at_fault, on_both_stores, reason};

impl House {
    pub async fn erasure(&mut self, erasure: &str) -> v1::Erasure {
        let request = v1::GetErasureRequest { erasure: erasure.to_owned() };
        self.subjects.get_erasure(request).await.unwrap().into_inner().erasure.unwrap()
    }

    async fn ask_to_erase(&mut self, request: v1::EraseSubjectRequest) -> v1::Erasure {
        self.subjects.erase_subject(request).await.unwrap().into_inner().erasure.unwrap()
    }

    /// Lets somebody be erased in an hour.
    async fn schedule(&mut self, subject: &str) -> v1::Erasure {
        let execute_time = Some(self.in_time(HOUR));
        self.ask_to_erase(v1::EraseSubjectRequest { execute_time, ..erase(subject) }).await
    }

    async fn cancel(&mut self, erasure: &str) -> Result<v1::Erasure, Status> {
        let request = v1::CancelErasureRequest { erasure: erasure.to_owned() };
        self.subjects.cancel_erasure(request).await.map(|response| response.into_inner().erasure.unwrap())
    }

    async fn receipt(&mut self, erasure: &str) -> Result<v1::GetReceiptResponse, Status> {
        let request = v1::GetReceiptRequest { erasure: erasure.to_owned() };
        self.subjects.get_receipt(request).await.map(tonic::Response::into_inner)
    }

    pub async fn upkeep(&self) {
        self.running().vault.upkeep().await.unwrap();
    }

    /// Takes a directory away and puts a file in its place, so that not even root can write there.
    fn block(&self, name: &str) -> PathBuf {
        let place = self.home().join(name);
        fs::rename(&place, self.home().join("away")).unwrap();
        fs::write(&place, "no directory").unwrap();
        place
    }

    fn unblock(&self, name: &str) {
        fs::remove_file(self.home().join(name)).unwrap();
        fs::rename(self.home().join("away"), self.home().join(name)).unwrap();
    }
}

/// What holds while an erasure of Ada waits for something, and once it does not any more.
async fn waits_and_is_carried_out(house: &mut House, named: &str, repair: impl FnOnce(&House)) {
    let (ada, bob) = (house.somebody("Ada").await, house.somebody("Bob").await);
    house.block("elsewhere");
    let pending = house.erase(&ada.subject).await;
    assert_eq!(pending.state(), ErasureState::Pending);
    assert!(pending.pending_reason.contains(named), "{}", pending.pending_reason);
    assert_eq!((pending.receipt.len(), pending.assurance, pending.erase_time), (0, 0, None));
    assert_eq!(house.subject(&ada.subject).await.state(), SubjectState::Shredding);
    for purpose in [CARE, "legal_claims"] {
        assert_eq!(house.reveal(&ada.tokens, purpose).await, all_refused(3, "ERASURE_PENDING"));
    }
    assert_eq!(house.find(FieldType::Email, &ada.email).await, Vec::<String>::new());
    let results = house.results(&ada.tokens, CARE).await;
    let receipt = house.receipt(&pending.erasure).await.unwrap_err();
    assert_eq!(metadata(&receipt)["waiting_for"], pending.pending_reason);
    for refused in [
        refusal(&results[0]),
        receipt,
        house.cancel(&pending.erasure).await.unwrap_err(),
        house.tokens.tokenize(tokenize(&ada.subject, vec![text("x")])).await.unwrap_err(),
        house.tokens.update_token(correct(&ada.tokens[0], "x@example.com")).await.unwrap_err(),
    ] {
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::FailedPrecondition, "ERASURE_PENDING"),
            "{refused:?}"
        );
        assert_eq!(metadata(&refused)["erasure"], pending.erasure);
    }
    house.upkeep().await;
    assert_eq!(house.erase(&ada.subject).await.state(), ErasureState::Pending, "asking again does not help");
    // Everyone else is served throughout.
    assert_eq!(house.reveal(&bob.tokens, CARE).await, bob.values());
    house.one(&bob.subject, text("more")).await;
    assert_eq!(house.find(FieldType::Email, &bob.email).await, bob.tokens[..1]);

    repair(house);
    house.upkeep().await;
    let done = house.erasure(&pending.erasure).await;
    assert_eq!((done.state(), done.pending_reason.as_str()), (ErasureState::Shredded, ""));
    assert!(receipt::verify(&done.receipt, None).is_ok());
    assert_eq!(house.reveal(&ada.tokens, CARE).await, all_refused(3, "SUBJECT_ERASED"));
    assert_eq!(house.reveal(&bob.tokens, CARE).await, bob.values());
    let keys = house.keys().await;
    let lagging = keys.copies.iter().chain(&keys.sinks).filter(|copy| copy.epoch != Some(keys.epoch));
    assert_eq!(lagging.count(), 0, "{keys:?}");
}

on_both_stores! {
    async fn an_erasure_tells_what_it_destroyed_and_proves_it(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let invoice = v1::FieldInput { retention_class: "invoices".to_owned(), ..text("invoice") };
        house.one(&ada.subject, invoice).await;
        let epoch = house.keys().await.epoch;
        let done = house.erase(&ada.subject).await;
        assert_eq!(
            (done.state(), &done.subject, done.reason.as_str()),
            (ErasureState::Shredded, &ada.subject, "art17_1_b")
        );
        assert!(done.erasure.starts_with("ers_") && moment(done.erase_time) > moment(done.create_time));
        assert_eq!((done.execute_time, done.pending_reason.as_str()), (None, ""));
        assert_eq!(done.assurance(), v1::ErasureAssurance::ImmediateLogical);
        let item = |element: &str, class: &str, verdict: &str, count| v1::ErasurePlanItem {
            element: element.to_owned(),
            retention_class: class.to_owned(),
            verdict: verdict.to_owned(),
            count,
            end_time: None,
            reason: String::new(),
        };
        assert_eq!(
            done.plan,
            [
                item("fields", "default", "DESTROY", 3),
                item("fields", "invoices", "DESTROY", 1),
                item("tokens", "", "KEEP_PSEUDONYM", 4),
            ]
        );
        assert_eq!(house.erasure(&done.erasure).await, done);
        assert!(house.tokens_of(&ada.subject).await.iter().all(|token| token.state() == v1::TokenState::Erased));
        let keys = house.keys().await;
        assert_eq!((keys.epoch, keys.database_epoch), (epoch + 1, epoch + 1));
        assert!(keys.punctured_leaves >= 2, "the keys of both classes");
    }

    async fn a_receipt_is_verified_offline_and_a_flipped_byte_is_noticed(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let done = house.erase(&ada.subject).await;
        let got = house.receipt(&done.erasure).await.unwrap();
        assert_eq!(got.receipt, done.receipt);
        let public = house.config.slot_dir().join("receipt-signing.pub");
        let keys = receipt::public_keys(&fs::read_to_string(public).unwrap()).unwrap();
        let verified = receipt::verify(&got.receipt, Some(&keys)).unwrap();
        assert!(verified.signed_by == Some(0) && verified.json == got.json);
        let statement: serde_json::Value = serde_json::from_str(&got.json).unwrap();
        assert_eq!(
            (&statement["subject"], &statement["erasure"]),
            (&ada.subject.clone().into(), &done.erasure.clone().into())
        );
        assert_eq!(statement["reason"], "art17_1_b");
        assert!(!got.json.contains(&ada.email) && !got.json.contains(&ada.name));
        assert!(!got.json.to_lowercase().contains("anonym"));

        let envelope = String::from_utf8(got.receipt.clone()).unwrap();
        for part in ["\"payload\":\"", "\"sig\":\""] {
            let at = envelope.find(part).unwrap() + part.len() + 20;
            let mut flipped = got.receipt.clone();
            flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
            assert!(receipt::verify(&flipped, Some(&keys)).is_err(), "a byte of {part} was changed");
        }
        let other = vec![7; 32];
        assert!(receipt::verify(&got.receipt, Some(std::slice::from_ref(&other))).is_err(), "another key");
        let either = [other, keys[0].clone()];
        assert_eq!(receipt::verify(&got.receipt, Some(&either)).unwrap().signed_by, Some(1));
    }

    async fn asking_twice_answers_the_one_erasure(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let first = house.erase(&ada.subject).await;
        let epoch = house.keys().await.epoch;
        assert_eq!(house.erase(&ada.subject).await, first);
        let later = v1::EraseSubjectRequest { execute_time: Some(house.in_time(HOUR)), ..erase(&ada.subject) };
        assert_eq!(house.ask_to_erase(later).await, first);
        assert_eq!(house.keys().await.epoch, epoch);
        let all = house.subjects.list_erasures(v1::ListErasuresRequest::default()).await.unwrap().into_inner();
        assert_eq!(all.erasures, [first]);
    }

    async fn somebody_without_a_value_can_be_erased(house: House) {
        let mut house = house;
        let request = v1::CreateSubjectRequest { source: "import:a".to_owned(), ..Default::default() };
        let subject = house.subjects.create_subject(request).await.unwrap().into_inner().subject.unwrap().subject;
        let done = house.erase(&subject).await;
        assert_eq!(done.state(), ErasureState::Shredded);
        assert!(receipt::verify(&done.receipt, None).is_ok());
        assert_eq!(done.plan.iter().map(|item| item.count).sum::<u64>(), 0);
    }

    async fn a_question_changes_nothing(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let (before, epoch) = (house.everything().await, house.keys().await.epoch);
        for execute_time in [None, Some(house.in_time(HOUR))] {
            let ask = v1::EraseSubjectRequest { validate_only: true, execute_time, ..erase(&ada.subject) };
            let answer = house.ask_to_erase(ask).await;
            assert_eq!((answer.erasure.as_str(), answer.receipt.len()), ("", 0));
            assert_eq!((answer.plan[0].verdict.as_str(), answer.plan[0].count), ("DESTROY", 3));
        }
        assert_eq!((house.everything().await, house.keys().await.epoch), (before, epoch));
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values());
    }

    async fn until_its_time_a_scheduled_erasure_restricts(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let scheduled = house.schedule(&ada.subject).await;
        assert_eq!(scheduled.state(), ErasureState::Scheduled);
        assert!(scheduled.execute_time.is_some() && scheduled.receipt.is_empty());
        let subject = house.subject(&ada.subject).await;
        assert_eq!((subject.state(), subject.erasure), (SubjectState::Scheduled, scheduled.erasure.clone()));
        assert_eq!(house.reveal(&ada.tokens, CARE).await, all_refused(3, "SUBJECT_SCHEDULED"));
        assert_eq!(house.reveal(&ada.tokens, "legal_claims").await, ada.values());
        let results = house.results(&ada.tokens, CARE).await;
        let informed = Some(house.in_time(std::time::Duration::ZERO));
        let lift = v1::LiftRestrictionRequest {
            subject: ada.subject.clone(),
            subject_informed_time: informed,
            ..Default::default()
        };
        let later = v1::EraseSubjectRequest { execute_time: Some(house.in_time(HOUR)), ..erase(&ada.subject) };
        for refused in [
            refusal(&results[0]),
            house.tokens.tokenize(tokenize(&ada.subject, vec![text("x")])).await.unwrap_err(),
            house.tokens.update_token(correct(&ada.tokens[0], "x@example.com")).await.unwrap_err(),
            house.subjects.lift_restriction(lift).await.unwrap_err(),
            house.subjects.erase_subject(later).await.unwrap_err(),
        ] {
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "SUBJECT_SCHEDULED"));
            let metadata = metadata(&refused);
            assert_eq!((&metadata["subject"], &metadata["erasure"]), (&ada.subject, &scheduled.erasure));
            assert!(metadata.contains_key("execute_time"), "{refused:?}");
        }
        let refused = house.receipt(&scheduled.erasure).await.unwrap_err();
        assert_eq!(reason(&refused), "ERASURE_PENDING");
        house.upkeep().await;
        assert_eq!(house.erasure(&scheduled.erasure).await, scheduled, "its time has not come");
    }

    async fn a_scheduled_erasure_is_carried_out_when_its_time_has_come(house: House) {
        let mut house = house;
        let (ada, bob) = (house.somebody("Ada").await, house.somebody("Bob").await);
        let scheduled = house.schedule(&ada.subject).await;
        house.clock.advance(HOUR);
        assert!(house.reveal(&ada.tokens, "legal_claims").await.iter().all(Result::is_err), "due is too late");
        house.upkeep().await;
        let done = house.erasure(&scheduled.erasure).await;
        assert_eq!(done.state(), ErasureState::Shredded);
        assert!(receipt::verify(&done.receipt, None).is_ok() && moment(done.erase_time) > moment(done.execute_time));
        assert_eq!(house.reveal(&ada.tokens, "legal_claims").await, all_refused(3, "SUBJECT_ERASED"));
        assert_eq!(house.reveal(&bob.tokens, CARE).await, bob.values());
    }

    async fn a_scheduled_erasure_is_hurried_by_asking_for_one_now(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let scheduled = house.schedule(&ada.subject).await;
        let done = house.erase(&ada.subject).await;
        assert_eq!((done.state(), done.erasure), (ErasureState::Shredded, scheduled.erasure));
    }

    async fn a_cancelled_erasure_leaves_everything_as_it_was(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let scheduled = house.schedule(&ada.subject).await;
        let cancelled = house.cancel(&scheduled.erasure).await.unwrap();
        assert_eq!(cancelled.state(), ErasureState::Cancelled);
        assert_eq!(house.erasure(&scheduled.erasure).await, cancelled);
        let subject = house.subject(&ada.subject).await;
        assert_eq!((subject.state(), subject.erasure.as_str()), (SubjectState::Active, ""));
        house.clock.advance(HOUR);
        house.upkeep().await;
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values());
        house.one(&ada.subject, text("more")).await;
        assert!(house.cancel(&scheduled.erasure).await.is_err(), "there is nothing to cancel any more");
        let refused = house.receipt(&scheduled.erasure).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "ERASURE_UNKNOWN"));
        assert_eq!(house.erase(&ada.subject).await.state(), ErasureState::Shredded, "another time");
    }

    async fn whoever_was_restricted_before_is_so_after_a_cancellation(house: House) {
        let mut house = house;
        let (ada, bob) = (house.somebody("Ada").await, house.somebody("Bob").await);
        let restrict = |subject: &str| v1::RestrictSubjectRequest {
            subject: subject.to_owned(),
            ground: "objection_pending".to_owned(),
            ..Default::default()
        };
        house.subjects.restrict_subject(restrict(&ada.subject)).await.unwrap();
        let first = house.schedule(&ada.subject).await;
        let second = house.schedule(&bob.subject).await;
        house.subjects.restrict_subject(restrict(&bob.subject)).await.unwrap();
        assert_eq!(house.subject(&bob.subject).await.state(), SubjectState::Scheduled);
        for (person, erasure) in [(&ada, &first), (&bob, &second)] {
            house.cancel(&erasure.erasure).await.unwrap();
            let subject = house.subject(&person.subject).await;
            assert_eq!(
                (subject.state(), subject.restriction_ground.as_str()),
                (SubjectState::Restricted, "objection_pending")
            );
            assert_eq!(house.reveal(&person.tokens, CARE).await, all_refused(3, "SUBJECT_RESTRICTED"));
        }
    }

    async fn what_is_done_cannot_be_cancelled(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let done = house.erase(&ada.subject).await;
        let refused = house.cancel(&done.erasure).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "SUBJECT_ERASED"));
        assert_eq!(house.erasure(&done.erasure).await, done);
    }

    async fn erasures_are_listed_in_pages_oldest_first(house: House) {
        let mut house = house;
        let mut made = Vec::new();
        for number in 0..5 {
            house.clock.advance(HOUR / 60);
            let subject = house.one("", text(&number.to_string())).await.subject;
            made.push(if number == 2 { house.schedule(&subject).await } else { house.erase(&subject).await });
        }
        for page_size in [0, 1, 2, 5, 5000] {
            let (mut listed, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = v1::ListErasuresRequest { page_size, page_token };
                let page = house.subjects.list_erasures(request).await.unwrap().into_inner();
                listed.extend(page.erasures);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            assert_eq!(listed, made, "pages of {page_size}");
        }
    }

    async fn an_erasure_time_in_the_past_is_refused(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let past = Some(house.in_time(std::time::Duration::ZERO));
        let before = house.everything().await;
        let request = v1::EraseSubjectRequest { execute_time: past, ..erase(&ada.subject) };
        let refused = house.subjects.erase_subject(request).await.unwrap_err();
        assert_eq!(
            (refused.code(), fields_at_fault(&refused)),
            (Code::InvalidArgument, vec!["execute_time".to_owned()])
        );
        assert_eq!(house.everything().await, before);
    }

    async fn an_erasure_waits_for_a_sink_that_cannot_be_written(house: House) {
        let mut house = house;
        let directory = house.home().join("elsewhere/checkpoints");
        // Whoever adds a sink makes its directory: one that is missing may be a disk that is not mounted.
        fs::create_dir_all(&directory).unwrap();
        house.config.sinks = [house.config.data_dir().join("checkpoints"), directory].map(Sink::in_directory).to_vec();
        house.reopen().await;
        // The first erasure puts a checkpoint there.
        let first = house.one("", field(FieldType::Text, "first")).await.subject;
        assert_eq!(house.erase(&first).await.state(), ErasureState::Shredded);
        waits_and_is_carried_out(&mut house, "elsewhere/checkpoints", |house| house.unblock("elsewhere")).await;
    }

    async fn an_erasure_waits_for_a_mirror_that_cannot_be_written(house: House) {
        let mut house = house;
        house.config.slot.mirrors = vec![house.home().join("elsewhere/mirror")];
        house.reopen().await;
        waits_and_is_carried_out(&mut house, "elsewhere/mirror", |house| house.unblock("elsewhere")).await;
    }

    /// A mirror whose disk is not mounted still holds an old root key. Writing a new copy under the mount point, and
    /// calling the erasure done, would leave that key in the world.
    async fn an_erasure_waits_for_a_mirror_that_has_disappeared(house: House) {
        let mut house = house;
        let mirror = house.home().join("elsewhere/mirror");
        house.config.slot.mirrors = vec![mirror.clone()];
        house.reopen().await;
        let ada = house.somebody("Ada").await;
        let away = house.home().join("away");
        fs::rename(house.home().join("elsewhere"), &away).unwrap();
        let pending = house.erase(&ada.subject).await;
        assert_eq!(pending.state(), ErasureState::Pending);
        assert!(pending.pending_reason.contains("elsewhere/mirror"), "{}", pending.pending_reason);
        assert!(!mirror.exists(), "nothing was put in its place");
        fs::rename(&away, house.home().join("elsewhere")).unwrap();
        house.upkeep().await;
        assert_eq!(house.erasure(&pending.erasure).await.state(), ErasureState::Shredded);
        let keys = house.keys().await;
        assert!(keys.copies.iter().all(|copy| copy.epoch == Some(keys.epoch)), "{keys:?}");
    }
}
