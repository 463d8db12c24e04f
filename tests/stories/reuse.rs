//! The same value, the same token: where that is asked for, and never where it would tell or undo something.

use std::collections::HashSet;

use lacuna::proto::v1;
use lacuna::proto::v1::FieldType;

use crate::asks::{CARE, HOUR, shaped, shared, tokenize};
use crate::house::{field, on_both_stores};

const MAIL: FieldType = FieldType::Email;

on_both_stores! {
    async fn a_shared_value_has_one_token_across_the_vault(house: House) {
        let mut house = house;
        let first = house.one("", shared(MAIL, "ada@example.com")).await;
        let asked = tokenize("", vec![shared(MAIL, " ADA@Example.COM ")]);
        let again = house.tokens.tokenize(asked).await.unwrap().into_inner();
        assert_eq!(again.tokens, std::slice::from_ref(&first));
        assert_eq!(again.subject, "", "nobody new was needed");
        assert_eq!(house.reveal(&[first.token], CARE).await, [Ok("ada@example.com".to_owned())]);
        let people = house.subjects.list_subjects(v1::ListSubjectsRequest::default()).await.unwrap().into_inner();
        assert_eq!(people.subjects.len(), 1);
    }

    async fn one_new_value_among_shared_ones_opens_a_subject(house: House) {
        let mut house = house;
        let first = house.one("", shared(MAIL, "ada@example.com")).await;
        let fields = vec![shared(MAIL, "ada@example.com"), shared(MAIL, "bob@example.com")];
        let response = house.tokens.tokenize(tokenize("", fields)).await.unwrap().into_inner();
        assert_eq!(response.tokens[0], first);
        assert_eq!(response.tokens[1].subject, response.subject);
        assert_ne!(response.subject, first.subject);
        assert_eq!(house.tokens_of(&response.subject).await, response.tokens[1..]);
    }

    async fn for_a_known_subject_only_its_own_tokens_are_shared(house: House) {
        let mut house = house;
        let ada = house.one("", field(MAIL, "family@example.com")).await;
        let bob = house.one("", field(FieldType::Text, "bob")).await;
        let again = house.one(&ada.subject, shared(MAIL, "family@example.com")).await;
        assert_eq!(again, ada);
        let other = house.one(&bob.subject, shared(MAIL, "family@example.com")).await;
        assert_ne!(other.token, ada.token);
        assert_eq!(other.subject, bob.subject);
        assert_eq!(house.one(&bob.subject, shared(MAIL, "family@example.com")).await, other);
    }

    async fn a_value_twice_in_a_request_has_one_token(house: House) {
        let mut house = house;
        let fields =
            vec![shared(MAIL, "ada@example.com"), field(MAIL, "ada@example.com"), shared(MAIL, "Ada@Example.com")];
        let (subject, tokens) = house.tokenize("", fields).await;
        assert_eq!(tokens[0], tokens[2]);
        assert_ne!(tokens[0], tokens[1], "this one did not ask to share");
        assert_eq!(house.tokens_of(&subject).await.len(), 2);
    }

    async fn other_types_classes_and_formats_are_not_the_same(house: House) {
        let mut house = house;
        let number = "49301234567";
        let other_class = v1::FieldInput { retention_class: "invoices".to_owned(), ..shared(FieldType::Phone, number) };
        let shape = v1::FieldInput { deduplicate: true, ..shaped(FieldType::Phone, number) };
        let fields = vec![shared(FieldType::Phone, number), shared(FieldType::Text, number), other_class, shape];
        let (subject, tokens) = house.tokenize("", fields.clone()).await;
        assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), 4);
        assert_eq!(house.tokenize(&subject, fields).await.1, tokens, "each is the same as itself");
    }

    async fn many_who_come_at_once_with_a_value_get_one_token(house: House) {
        let mut house = house;
        let calls = (0..40).map(|number| {
            let mut tokens = house.tokens.clone();
            let written = if number % 2 == 0 { "ada@example.com" } else { "ADA@example.com" };
            tokio::spawn(async move {
                tokens.tokenize(tokenize("", vec![shared(MAIL, written)])).await.unwrap().into_inner()
            })
        });
        let mut tokens = HashSet::new();
        for call in calls.collect::<Vec<_>>() {
            tokens.insert(call.await.unwrap().tokens[0].token.clone());
        }
        assert_eq!(tokens.len(), 1);
        assert_eq!(house.find(MAIL, "ada@example.com").await.len(), 1);
    }

    async fn many_who_come_at_once_for_a_subject_get_one_token(house: House) {
        let mut house = house;
        let subject = house.one("", field(FieldType::Text, "somebody")).await.subject;
        let calls = (0..20).map(|_| {
            let mut tokens = house.tokens.clone();
            let class = "invoices".to_owned();
            let field = v1::FieldInput { retention_class: class, ..shared(MAIL, "ada@example.com") };
            let request = tokenize(&subject, vec![field]);
            tokio::spawn(async move { tokens.tokenize(request).await.unwrap().into_inner() })
        });
        let mut tokens = HashSet::new();
        for call in calls.collect::<Vec<_>>() {
            tokens.insert(call.await.unwrap().tokens[0].token.clone());
        }
        assert_eq!(tokens.len(), 1);
        assert_eq!(house.tokens_of(&subject).await.len(), 2);
    }

    async fn tokens_that_end_are_never_shared(house: House) {
        let mut house = house;
        let expire_time = Some(house.in_time(HOUR));
        let expiring = v1::FieldInput { expire_time, ..shared(MAIL, "ada@example.com") };
        let once = v1::FieldInput { single_use: true, ..shared(MAIL, "ada@example.com") };
        let mut tokens = HashSet::new();
        for field in [expiring.clone(), expiring, once.clone(), once, shared(MAIL, "ada@example.com")] {
            tokens.insert(house.one("", field).await.token);
        }
        assert_eq!(tokens.len(), 5, "not with each other, nor with one that stays");
    }

    async fn deleted_and_corrected_tokens_are_not_shared(house: House) {
        let mut house = house;
        let deleted = house.one("", shared(MAIL, "ada@example.com")).await.token;
        house
            .tokens
            .delete_token(v1::DeleteTokenRequest { token: deleted.clone(), ..Default::default() })
            .await
            .unwrap();
        let corrected = house.one("", shared(MAIL, "ada@example.com")).await.token;
        assert_ne!(corrected, deleted);
        house.tokens.update_token(crate::asks::correct(&corrected, "ada@example.org")).await.unwrap();
        let third = house.one("", shared(MAIL, "ada@example.com")).await.token;
        assert!(third != deleted && third != corrected);
        assert_eq!(house.one("", shared(MAIL, "ada@example.org")).await.token, corrected, "under its new value");
    }

    async fn whoever_comes_back_after_erasure_is_somebody_new(house: House) {
        let mut house = house;
        let before = house.one("", shared(MAIL, "ada@example.com")).await;
        house.erase(&before.subject).await;
        let after = house.one("", shared(MAIL, "ada@example.com")).await;
        assert_ne!((&after.token, &after.subject), (&before.token, &before.subject));
        assert_eq!(
            house.reveal(&[before.token, after.token], CARE).await,
            [Err("SUBJECT_ERASED".to_owned()), Ok("ada@example.com".to_owned())]
        );
    }

    async fn values_that_cannot_be_searched_are_not_shared(house: House) {
        let mut house = house;
        let fields = vec![shared(FieldType::Json, "{}"), shared(FieldType::Json, "{}")];
        let (_, tokens) = house.tokenize("", fields).await;
        assert_ne!(tokens[0], tokens[1]);
    }
}
