//! A request that is sent twice is carried out once.

use lacuna::proto::v1;
use lacuna::proto::v1::FieldType;
use tonic::{Code, Status};

use crate::asks::{CARE, HOUR, correct, erase, metadata, request_id, text, tokenize};
use crate::house::{field, on_both_stores, reason};

const KEY: u128 = 0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8;

fn create() -> v1::CreateSubjectRequest {
    v1::CreateSubjectRequest { source: "import:a".to_owned(), request_id: request_id(KEY), ..Default::default() }
}

fn assert_mismatch(refused: &Status) {
    assert_eq!((refused.code(), reason(refused).as_str()), (Code::AlreadyExists, "REQUEST_MISMATCH"));
    assert_eq!(metadata(refused)["request_id"], request_id(KEY));
}

on_both_stores! {
    async fn tokenizing_twice_answers_the_first_tokens(house: House) {
        let mut house = house;
        let fields = vec![field(FieldType::Email, "ada@example.com"), text("x")];
        let request = v1::TokenizeRequest { request_id: request_id(KEY), ..tokenize("", fields) };
        let first = house.tokens.tokenize(request.clone()).await.unwrap().into_inner();
        let kept = house.everything().await;
        let other_spelling =
            v1::TokenizeRequest { request_id: request_id(KEY).to_uppercase().replace('-', ""), ..request };
        assert_eq!(house.tokens.tokenize(other_spelling).await.unwrap().into_inner(), first);
        assert_eq!(house.everything().await, kept, "nothing new");
    }

    async fn tokenizing_twice_answers_the_first_tokens_even_once_they_have_expired(house: House) {
        let mut house = house;
        let expiring = v1::FieldInput { expire_time: Some(house.in_time(HOUR)), ..text("x") };
        let request = v1::TokenizeRequest { request_id: request_id(KEY), ..tokenize("", vec![expiring]) };
        let first = house.tokens.tokenize(request.clone()).await.unwrap().into_inner();
        house.clock.advance(HOUR);
        let again = house.tokens.tokenize(request).await.unwrap().into_inner();
        assert_eq!(again.tokens[0].token, first.tokens[0].token);
        assert_eq!(again.tokens[0].state(), v1::TokenState::Expired);
    }

    async fn a_request_id_belongs_to_its_caller(house: House) {
        let mut house = house;
        let caller = |name: &str| lacuna::config::Caller {
            name: name.to_owned(),
            token: Some(format!("the-token-of-{name}").into()),
            ..lacuna::config::Caller::default()
        };
        house.config.callers = vec![caller("one"), caller("two")];
        house.reopen().await;
        let request = v1::TokenizeRequest { request_id: request_id(KEY), ..tokenize("", vec![text("x")]) };
        let first = house.tokens.tokenize(request.clone()).await.unwrap().into_inner();
        let (mut other, _) = house.connect_as("the-token-of-two").await;
        assert_ne!(other.tokenize(request).await.unwrap().into_inner(), first);
    }

    async fn the_same_request_from_many_sides_at_once_is_carried_out_once(house: House) {
        let house = house;
        let request = v1::TokenizeRequest { request_id: request_id(KEY), ..tokenize("", vec![text("x"), text("y")]) };
        let calls = (0..20).map(|_| {
            let (mut tokens, request) = (house.tokens.clone(), request.clone());
            tokio::spawn(async move { tokens.tokenize(request).await.unwrap().into_inner() })
        });
        let mut answers = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            answers.push(call.await.unwrap());
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        let mut tx = house.running().vault.custody().store().read().await.unwrap();
        assert_eq!(tx.scan_tokens(None, 100).await.unwrap().len(), 2);
    }

    async fn the_same_correction_from_many_sides_at_once_is_carried_out_once(house: House) {
        let mut house = house;
        let before = house.one("", field(FieldType::Email, "ada@example.com")).await;
        let correction = correct(&before.token, "ada@example.org");
        let request = v1::UpdateTokenRequest { request_id: request_id(KEY), etag: before.etag.clone(), ..correction };
        let calls = (0..12).map(|_| {
            let (mut tokens, request) = (house.tokens.clone(), request.clone());
            tokio::spawn(async move { tokens.update_token(request).await })
        });
        for call in calls.collect::<Vec<_>>() {
            let token = call.await.unwrap().unwrap().into_inner().token.unwrap();
            assert_eq!(token, house.token(&before.token).await);
        }
        assert_eq!(house.find(FieldType::Email, "ada@example.org").await, [before.token]);
    }

    async fn correcting_twice_answers_the_first_correction(house: House) {
        let mut house = house;
        let token = house.one("", text("before")).await.token;
        let request = v1::UpdateTokenRequest { request_id: request_id(KEY), ..correct(&token, "after") };
        let first = house.tokens.update_token(request.clone()).await.unwrap().into_inner();
        assert_eq!(house.tokens.update_token(request).await.unwrap().into_inner(), first);
        assert_eq!(house.reveal(&[token], CARE).await, [Ok("after".to_owned())]);
    }

    async fn deleting_twice_is_fine(house: House) {
        let mut house = house;
        let token = house.one("", text("x")).await.token;
        let request = v1::DeleteTokenRequest { token, request_id: request_id(KEY) };
        let calls = (0..8).map(|_| {
            let (mut tokens, request) = (house.tokens.clone(), request.clone());
            tokio::spawn(async move { tokens.delete_token(request).await })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap().unwrap();
        }
        house.tokens.delete_token(request).await.unwrap();
    }

    async fn opening_twice_answers_the_first_subject(house: House) {
        let mut house = house;
        let first = house.subjects.create_subject(create()).await.unwrap().into_inner();
        let kept = house.everything().await;
        assert_eq!(house.subjects.create_subject(create()).await.unwrap().into_inner(), first);
        assert_eq!(house.everything().await, kept);
    }

    async fn erasing_twice_answers_the_first_erasure(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let request = v1::EraseSubjectRequest { request_id: request_id(KEY), ..erase(&ada.subject) };
        let calls = (0..8).map(|_| {
            let (mut subjects, request) = (house.subjects.clone(), request.clone());
            tokio::spawn(async move { subjects.erase_subject(request).await.unwrap().into_inner() })
        });
        let mut answers = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            answers.push(call.await.unwrap());
        }
        answers.push(house.subjects.erase_subject(request).await.unwrap().into_inner());
        assert!(answers.iter().all(|answer| *answer == answers[0]));
    }

    async fn a_request_id_is_not_for_another_deed(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        house.subjects.create_subject(create()).await.unwrap();
        let kept = house.everything().await;
        let id = request_id(KEY);
        let tokenize = v1::TokenizeRequest { request_id: id.clone(), ..tokenize("", vec![text("x")]) };
        assert_mismatch(&house.tokens.tokenize(tokenize).await.unwrap_err());
        let update = v1::UpdateTokenRequest { request_id: id.clone(), ..correct(&ada.tokens[0], "x@example.com") };
        assert_mismatch(&house.tokens.update_token(update).await.unwrap_err());
        let delete = v1::DeleteTokenRequest { request_id: id.clone(), token: ada.tokens[0].clone() };
        assert_mismatch(&house.tokens.delete_token(delete).await.unwrap_err());
        let erase = v1::EraseSubjectRequest { request_id: id, ..erase(&ada.subject) };
        assert_mismatch(&house.subjects.erase_subject(erase).await.unwrap_err());
        assert_eq!(house.everything().await, kept);
    }

    async fn a_request_id_is_not_for_another_subject_or_token(house: House) {
        let mut house = house;
        let (ada, bob) = (house.somebody("Ada").await, house.somebody("Bob").await);
        let id = |number| request_id(KEY + number);
        let add = |subject: &str| v1::TokenizeRequest { request_id: id(0), ..tokenize(subject, vec![text("x")]) };
        house.tokens.tokenize(add(&ada.subject)).await.unwrap();
        assert_mismatch(&house.tokens.tokenize(add(&bob.subject)).await.unwrap_err());

        let update = |token: &str| v1::UpdateTokenRequest { request_id: id(1), ..correct(token, "x@example.com") };
        house.tokens.update_token(update(&ada.tokens[0])).await.unwrap();
        let delete = |token: &str| v1::DeleteTokenRequest { request_id: id(2), token: token.to_owned() };
        house.tokens.delete_token(delete(&ada.tokens[1])).await.unwrap();
        for other in [&bob.tokens[0], &ada.tokens[2]] {
            let refused = house.tokens.update_token(update(other)).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "REQUEST_MISMATCH"));
            let refused = house.tokens.delete_token(delete(other)).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "REQUEST_MISMATCH"));
        }
        assert_eq!(house.reveal(&bob.tokens, CARE).await, bob.values());

        let erase = |subject: &str| v1::EraseSubjectRequest { request_id: id(3), ..erase(subject) };
        house.subjects.erase_subject(erase(&ada.subject)).await.unwrap();
        let refused = house.subjects.erase_subject(erase(&bob.subject)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "REQUEST_MISMATCH"));
        assert_eq!(house.subject(&bob.subject).await.state(), v1::SubjectState::Active);
    }
}
