//! People: opening, listing, restricting, and their say in being profiled.

use lacuna::proto::v1;
use lacuna::proto::v1::{FieldType, SubjectState};
use tonic::{Code, Status};

use crate::asks::{CARE, HOUR, all_refused, correct, erase, metadata, moment, refusal, text, tokenize};
use crate::house::{House, field, on_both_stores, reason};

/// Purposes that a restriction spares.
const SPARED: [&str; 3] = ["legal_claims", "regulator_request", "breach_notice"];

fn restrict(subject: &str) -> v1::RestrictSubjectRequest {
    let ground = "accuracy_contested".to_owned();
    v1::RestrictSubjectRequest { subject: subject.to_owned(), ground, ..Default::default() }
}

fn profiling(subject: &str, enabled: bool) -> v1::SetProfilingRequest {
    v1::SetProfilingRequest { subject: subject.to_owned(), enabled, ..Default::default() }
}

fn assert_precondition(refused: &Status, expected: &str) {
    assert_eq!((refused.code(), reason(refused).as_str()), (Code::FailedPrecondition, expected));
}

/// Every page of subjects, put together.
async fn list(house: &mut House, state: SubjectState, kind: &str, page_size: i32) -> Vec<String> {
    let filter = Some(v1::SubjectFilter { state: state.into(), kind: kind.to_owned() });
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListSubjectsRequest { filter: filter.clone(), page_size, page_token };
        let page = house.subjects.list_subjects(request).await.unwrap().into_inner();
        let full = usize::try_from(page_size).unwrap_or(0);
        assert!(page_size == 0 || page.subjects.len() <= full);
        listed.extend(page.subjects.into_iter().map(|subject| subject.subject));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return listed;
        }
    }
}

on_both_stores! {
    async fn a_subject_is_as_it_was_opened(house: House) {
        let mut house = house;
        let request = v1::CreateSubjectRequest {
            kind: "agent".to_owned(),
            jurisdiction: "US-CA".to_owned(),
            source: "import:crm-2026-11".to_owned(),
            ..Default::default()
        };
        let opened = house.subjects.create_subject(request).await.unwrap().into_inner().subject.unwrap();
        let letters = opened.subject.strip_prefix("sub_").unwrap();
        assert_eq!(letters.len(), 26);
        assert_eq!((opened.kind.as_str(), opened.jurisdiction.as_str()), ("agent", "US-CA"));
        assert_eq!((opened.source.as_str(), opened.state()), ("import:crm-2026-11", SubjectState::Active));
        assert_eq!((opened.restriction_ground.as_str(), opened.restrict_time, opened.profiling), ("", None, true));
        assert_eq!((opened.erasure.as_str(), opened.erase_time), ("", None));
        assert!(opened.create_time.is_some() && !opened.etag.is_empty());
        assert_eq!(house.subject(&opened.subject).await, opened);

        let request = v1::CreateSubjectRequest { source: "import:b".to_owned(), ..Default::default() };
        let plain = house.subjects.create_subject(request).await.unwrap().into_inner().subject.unwrap();
        assert_eq!((plain.kind.as_str(), plain.jurisdiction.as_str()), ("customer", ""));
        let token = house.one("", text("x")).await;
        let by_token = house.subject(&token.subject).await;
        assert_eq!((by_token.kind.as_str(), by_token.source.as_str()), ("customer", "web_form:checkout"));
    }

    async fn subjects_are_listed_in_pages_oldest_first_and_by_what_they_are(house: House) {
        let mut house = house;
        let (mut all, mut agents) = (Vec::new(), Vec::new());
        for number in 0..9 {
            house.clock.advance(HOUR);
            let kind = if number % 3 == 0 { "agent" } else { "customer" };
            let (kind, source) = (kind.to_owned(), "import:a".to_owned());
            let request = v1::CreateSubjectRequest { kind: kind.clone(), source, ..Default::default() };
            let subject = house.subjects.create_subject(request).await.unwrap().into_inner().subject.unwrap().subject;
            all.push(subject.clone());
            if kind == "agent" {
                agents.push(subject);
            }
        }
        house.subjects.restrict_subject(restrict(&all[3])).await.unwrap();
        house.subjects.restrict_subject(restrict(&all[4])).await.unwrap();
        house.erase(&all[5]).await;
        for size in [0, 1, 2, 9, 5000] {
            assert_eq!(list(&mut house, SubjectState::Unspecified, "", size).await, all, "pages of {size}");
            assert_eq!(list(&mut house, SubjectState::Unspecified, "agent", size).await, agents);
        }
        assert_eq!(list(&mut house, SubjectState::Restricted, "", 1).await, all[3..5]);
        assert_eq!(list(&mut house, SubjectState::Restricted, "agent", 0).await, all[3..4]);
        assert_eq!(list(&mut house, SubjectState::Shredded, "", 0).await, all[5..6]);
        assert_eq!(list(&mut house, SubjectState::Scheduled, "", 0).await, Vec::<String>::new());
        assert_eq!(list(&mut house, SubjectState::Active, "robot", 0).await, Vec::<String>::new());
        assert_eq!(list(&mut house, SubjectState::Active, "", 4).await.len(), 6);
    }

    async fn a_restricted_person_is_read_only_for_what_the_law_spares(house: House) {
        let mut house = house;
        let (ada, bob) = (house.somebody("Ada").await, house.somebody("Bob").await);
        let before = house.subject(&ada.subject).await;
        let after =
            house.subjects.restrict_subject(restrict(&ada.subject)).await.unwrap().into_inner().subject.unwrap();
        assert_eq!(
            (after.state(), after.restriction_ground.as_str()),
            (SubjectState::Restricted, "accuracy_contested")
        );
        assert!(moment(after.restrict_time) > moment(before.create_time) && after.etag != before.etag);
        assert_eq!(house.subject(&ada.subject).await, after);
        for purpose in [CARE, "order_confirmation"] {
            assert_eq!(house.reveal(&ada.tokens, purpose).await, all_refused(3, "SUBJECT_RESTRICTED"));
        }
        let results = house.results(&ada.tokens, CARE).await;
        let refused = refusal(&results[0]);
        assert_precondition(&refused, "SUBJECT_RESTRICTED");
        assert_eq!(metadata(&refused)["subject"], ada.subject);
        let since: jiff::Timestamp = metadata(&refused)["since"].parse().unwrap();
        assert_eq!(since.as_second(), after.restrict_time.unwrap().seconds);
        assert_eq!(house.find(FieldType::Email, &ada.email).await, Vec::<String>::new());
        for purpose in SPARED {
            assert_eq!(house.reveal(&ada.tokens, purpose).await, ada.values(), "{purpose}");
        }
        assert_eq!(house.reveal(&bob.tokens, CARE).await, bob.values());
        let states: Vec<_> = house.tokens_of(&ada.subject).await.iter().map(v1::Token::state).collect();
        assert_eq!(states, [v1::TokenState::Active; 3], "the values stay");
    }

    async fn a_restricted_persons_values_are_only_corrected(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        house.subjects.restrict_subject(restrict(&ada.subject)).await.unwrap();
        let before = house.everything().await;
        let add = house.tokens.tokenize(tokenize(&ada.subject, vec![text("x")])).await.unwrap_err();
        let delete = v1::DeleteTokenRequest { token: ada.tokens[0].clone(), ..Default::default() };
        let delete = house.tokens.delete_token(delete).await.unwrap_err();
        let again = house.subjects.restrict_subject(restrict(&ada.subject)).await.unwrap_err();
        for refused in [add, delete, again] {
            assert_precondition(&refused, "SUBJECT_RESTRICTED");
            assert_eq!(metadata(&refused)["subject"], ada.subject);
            assert!(metadata(&refused).contains_key("since"), "{refused:?}");
        }
        assert_eq!(house.everything().await, before);
        house.tokens.update_token(correct(&ada.tokens[0], "right@example.com")).await.unwrap();
        assert_eq!(house.reveal(&ada.tokens[..1], "legal_claims").await, [Ok("right@example.com".to_owned())]);
    }

    async fn a_restriction_is_lifted_after_the_person_was_told(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        house.subjects.restrict_subject(restrict(&ada.subject)).await.unwrap();
        let lift = |time| v1::LiftRestrictionRequest {
            subject: ada.subject.clone(),
            subject_informed_time: time,
            ..Default::default()
        };
        let before = house.everything().await;
        for time in [None, Some(house.in_time(HOUR))] {
            let refused = house.subjects.lift_restriction(lift(time)).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "VALUE_INVALID"));
        }
        assert_eq!(house.everything().await, before);
        let told = Some(house.in_time(std::time::Duration::ZERO));
        let lifted = house.subjects.lift_restriction(lift(told)).await.unwrap().into_inner().subject.unwrap();
        assert_eq!(
            (lifted.state(), lifted.restriction_ground.as_str(), lifted.restrict_time),
            (SubjectState::Active, "", None)
        );
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values());
        assert_eq!(house.find(FieldType::Email, &ada.email).await, ada.tokens[..1]);
        house.subjects.restrict_subject(restrict(&ada.subject)).await.unwrap();
        assert_eq!(house.reveal(&ada.tokens, CARE).await, all_refused(3, "SUBJECT_RESTRICTED"));
    }

    async fn scores_are_neither_kept_nor_shown_while_profiling_is_off(house: House) {
        let mut house = house;
        let ada = house.one("", text("ada")).await;
        let score = house.one(&ada.subject, field(FieldType::Score, "0.75")).await;
        let off = house.subjects.set_profiling(profiling(&ada.subject, false)).await.unwrap().into_inner();
        assert!(!off.subject.unwrap().profiling);
        let both = [ada.token.clone(), score.token.clone()];
        let results = house.results(&both, CARE).await;
        let refused = refusal(&results[1]);
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "VALUE_PURGED"));
        assert_eq!((&metadata(&refused)["subject"], &metadata(&refused)["token"]), (&ada.subject, &score.token));
        let add = tokenize(&ada.subject, vec![text("x"), field(FieldType::Score, "0.5")]);
        for refused in [
            house.tokens.tokenize(add).await.unwrap_err(),
            house.tokens.update_token(correct(&score.token, "0.9")).await.unwrap_err(),
        ] {
            assert_precondition(&refused, "PROFILING_OFF");
            assert_eq!(metadata(&refused)["subject"], ada.subject);
        }
        assert_eq!(house.reveal(&both[..1], CARE).await, [Ok("ada".to_owned())]);
        assert_eq!(house.tokens_of(&ada.subject).await.len(), 2, "nothing was added");
        house.subjects.set_profiling(profiling(&ada.subject, true)).await.unwrap();
        assert_eq!(house.reveal(&both, CARE).await, [Ok("ada".to_owned()), Err("VALUE_PURGED".to_owned())]);
    }

    async fn whoever_read_an_older_version_decides_anew(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let old = house.subject(&ada.subject).await.etag;
        let etag = || old.clone();
        let off = v1::SetProfilingRequest { etag: etag(), ..profiling(&ada.subject, false) };
        let new = house.subjects.set_profiling(off.clone()).await.unwrap().into_inner().subject.unwrap().etag;
        assert_ne!(new, old);
        let told = Some(house.in_time(std::time::Duration::ZERO));
        let before = house.everything().await;
        let subject = ada.subject.clone();
        let lift = v1::LiftRestrictionRequest { subject, subject_informed_time: told, etag: etag() };
        for refused in [
            house.subjects.set_profiling(off).await.unwrap_err(),
            house
                .subjects
                .restrict_subject(v1::RestrictSubjectRequest { etag: etag(), ..restrict(&ada.subject) })
                .await
                .unwrap_err(),
            house.subjects.lift_restriction(lift).await.unwrap_err(),
        ] {
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
            assert_eq!(metadata(&refused)["etag"], new);
        }
        assert_eq!(house.everything().await, before);
        house
            .subjects
            .restrict_subject(v1::RestrictSubjectRequest { etag: new, ..restrict(&ada.subject) })
            .await
            .unwrap();
    }

    async fn of_many_who_decide_on_the_same_version_one_succeeds(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let etag = house.subject(&ada.subject).await.etag;
        let calls = (0..10).map(|number| {
            let mut subjects = house.subjects.clone();
            let request = v1::SetProfilingRequest { etag: etag.clone(), ..profiling(&ada.subject, number % 2 == 0) };
            tokio::spawn(async move { subjects.set_profiling(request).await })
        });
        let mut succeeded = 0;
        for call in calls.collect::<Vec<_>>() {
            match call.await.unwrap() {
                Ok(_) => succeeded += 1,
                Err(refused) => assert_eq!(reason(&refused), "ETAG_MISMATCH"),
            }
        }
        assert_eq!(succeeded, 1);
    }

    async fn an_erased_person_is_told_apart_and_left_alone(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let erasure = house.erase(&ada.subject).await;
        let told = house.subject(&ada.subject).await;
        assert_eq!(
            (told.state(), &told.erasure, told.erase_time),
            (SubjectState::Shredded, &erasure.erasure, erasure.erase_time)
        );
        let before = house.everything().await;
        let informed = Some(house.in_time(std::time::Duration::ZERO));
        let subject = ada.subject.clone();
        let lift = v1::LiftRestrictionRequest { subject, subject_informed_time: informed, ..Default::default() };
        let validate = v1::EraseSubjectRequest { validate_only: true, ..erase(&ada.subject) };
        let delete = v1::DeleteTokenRequest { token: ada.tokens[0].clone(), ..Default::default() };
        for refused in [
            house.tokens.tokenize(tokenize(&ada.subject, vec![text("x")])).await.unwrap_err(),
            house.tokens.update_token(correct(&ada.tokens[0], "x@example.com")).await.unwrap_err(),
            house.tokens.delete_token(delete).await.unwrap_err(),
            house.subjects.restrict_subject(restrict(&ada.subject)).await.unwrap_err(),
            house.subjects.lift_restriction(lift).await.unwrap_err(),
            house.subjects.set_profiling(profiling(&ada.subject, false)).await.unwrap_err(),
            house.subjects.erase_subject(validate).await.unwrap_err(),
        ] {
            assert_precondition(&refused, "SUBJECT_ERASED");
            let metadata = metadata(&refused);
            assert_eq!((&metadata["subject"], &metadata["erasure"]), (&ada.subject, &erasure.erasure));
            assert!(metadata.contains_key("erase_time"), "{refused:?}");
        }
        assert_eq!(house.everything().await, before);
    }
}
