//! A reveal needs a purpose: one that exists, that the caller holds, and that the law allows.

use lacuna::config::Caller;
use lacuna::proto::v1;
use lacuna::proto::v1::FieldType;
use tonic::{Code, Status};

use crate::asks::{CARE, all_refused, detokenize, metadata, refusal};
use crate::house::{House, fields_at_fault, on_both_stores, reason};

fn find(value: &str, purpose: &str) -> v1::FindTokensRequest {
    let (value, purpose) = (value.to_owned(), purpose.to_owned());
    v1::FindTokensRequest { r#type: FieldType::Email.into(), value, purpose }
}

/// Asks to reveal and to find for a purpose, and expects both to be refused alike.
async fn refused_for(house: &mut House, tokens: &[String], purpose: &str) -> Status {
    let reveal = house.tokens.detokenize(detokenize(tokens, purpose)).await.unwrap_err();
    let search = house.tokens.find_tokens(find("ada@example.com", purpose)).await.unwrap_err();
    assert_eq!((reveal.code(), reason(&reveal)), (search.code(), reason(&search)));
    assert_eq!(metadata(&reveal), metadata(&search));
    reveal
}

on_both_stores! {
    async fn no_purpose_no_value(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let refused = refused_for(&mut house, &ada.tokens, "").await;
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "PURPOSE_REQUIRED"));
        assert_eq!(fields_at_fault(&refused), ["purpose"]);
    }

    async fn a_purpose_must_be_in_the_registry(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let refused = refused_for(&mut house, &ada.tokens, "curiosity").await;
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "PURPOSE_UNKNOWN"));
        assert_eq!(fields_at_fault(&refused), ["purpose"]);
        assert_eq!(metadata(&refused)["purpose"], "curiosity");
        let refused = refused_for(&mut house, &ada.tokens, "tell MARKED@example.com").await;
        assert_eq!(reason(&refused), "PURPOSE_UNKNOWN");
        assert!(!format!("{refused:?}").contains("MARKED"), "what is no code may be a value");
    }

    async fn the_purposes_of_a_vault_without_configuration_are_these(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        for purpose in ["customer_care", "order_confirmation", "legal_claims", "regulator_request", "breach_notice"] {
            assert_eq!(house.reveal(&ada.tokens, purpose).await, ada.values(), "{purpose}");
        }
        let results = house.results(&ada.tokens, "marketing.email").await;
        for result in &results {
            let refused = refusal(result);
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "NO_CONSENT"));
            assert_eq!(metadata(&refused)["purpose"], "marketing.email");
        }
        let found = house.tokens.find_tokens(find(&ada.email, "marketing.email")).await.unwrap().into_inner();
        assert_eq!(found.tokens, [], "only tokens that the purpose may read");
    }

    async fn a_caller_names_only_the_purposes_that_are_granted_to_them(house: House) {
        let mut house = house;
        let caller = |name: &str, purposes: Option<Vec<String>>| Caller {
            name: name.to_owned(),
            token: Some(format!("the-token-of-{name}").into()),
            purposes,
            ..Caller::default()
        };
        house.config.callers = vec![
            caller("orders", None),
            caller("mailer", Some(vec!["order_confirmation".to_owned()])),
            caller("analytics", Some(Vec::new())),
        ];
        house.reopen().await;
        let ada = house.somebody("Ada").await;
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values());
        (house.tokens, house.subjects) = house.connect_as("the-token-of-mailer").await;
        assert_eq!(house.reveal(&ada.tokens, "order_confirmation").await, ada.values());
        // Refused as a whole, so that it tells not even which tokens exist.
        let unknown = ["tok_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned()];
        for tokens in [&ada.tokens[..], &unknown] {
            let refused = refused_for(&mut house, tokens, CARE).await;
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "PURPOSE_NOT_GRANTED"));
            assert_eq!(
                (metadata(&refused)["caller"].as_str(), metadata(&refused)["purpose"].as_str()),
                ("mailer", CARE)
            );
        }
        (house.tokens, house.subjects) = house.connect_as("the-token-of-analytics").await;
        assert_eq!(reason(&refused_for(&mut house, &ada.tokens, "order_confirmation").await), "PURPOSE_NOT_GRANTED");
        // Tokens without values are for everybody who may call.
        assert_eq!(house.tokens_of(&ada.subject).await.len(), 3);
    }

    async fn a_purpose_that_profiles_heeds_the_persons_switch(house: House) {
        let mut house = house;
        let purpose = v1::Purpose {
            code: "segmentation".to_owned(),
            basis: v1::LawfulBasis::LegitimateInterests.into(),
            assessment: "LIA-7".to_owned(),
            profiling: true,
            ..Default::default()
        };
        let request = v1::DefinePurposeRequest { purpose: Some(purpose), ..Default::default() };
        house.consents().await.define_purpose(request).await.unwrap();
        let ada = house.somebody("Ada").await;
        assert_eq!(house.reveal(&ada.tokens, "segmentation").await, ada.values());
        let off = v1::SetProfilingRequest { subject: ada.subject.clone(), enabled: false, ..Default::default() };
        house.subjects.set_profiling(off).await.unwrap();
        assert_eq!(house.reveal(&ada.tokens, "segmentation").await, all_refused(3, "PROFILING_OFF"));
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values());
    }

    async fn a_justification_points_to_a_ticket_and_holds_no_person(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let with = |justification: &str| v1::DetokenizeRequest {
            justification: justification.to_owned(),
            ..detokenize(&ada.tokens, CARE)
        };
        for good in ["CASE-2026/118", "Ticket #44 (Art. 15)", &"a".repeat(128)] {
            house.tokens.detokenize(with(good)).await.unwrap();
        }
        for bad in ["MARKED@example.com", "call +493012345678", &"a".repeat(129), "a\nb"] {
            let refused = house.tokens.detokenize(with(bad)).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "VALUE_INVALID"), "{bad}");
            assert_eq!(fields_at_fault(&refused), ["justification"]);
            assert!(!format!("{refused:?}").contains(bad));
        }
    }
}
