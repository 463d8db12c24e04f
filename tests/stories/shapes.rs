//! Tokens in the shape of a value, and how much of a value is shown.

use lacuna::model::luhn_valid;
use lacuna::proto::v1;
use lacuna::proto::v1::{FieldType, Redaction};
use tonic::Code;

use crate::asks::{CARE, detokenize, shaped, tokenize};
use crate::house::{field, fields_at_fault, on_both_stores, outcome, reason};

const CARD: &str = r#"{"holder":"Ann Lee","address":"1 High St","expiry":"07/29","last_four":"4242"}"#;
const IBAN: &str = "DE89 3704 0044 0532 0130 00";

/// Type, value, masked, last four; what is hidden is written `*` here and `•` by the vault.
const SHOWN: [(FieldType, &str, &str, &str); 17] = [
    (FieldType::Text, "please call back", "[redacted]", "[redacted]"),
    (FieldType::PersonName, "Dana van Houten", "D*** v*** H***", "***uten"),
    (FieldType::Email, "ann@example.com", "a***@e***.com", "***n"),
    (FieldType::Phone, "+49 30 1234543", "+49***43", "***4543"),
    (FieldType::Phone, "110", "***0", "***0"),
    (FieldType::PostalAddress, "1 High Street", "[redacted]", "***reet"),
    (FieldType::DateOfBirth, "1980-05-17", "1980-**-**", "***0517"),
    (FieldType::NationalId, "AB 12 34 56 C", "***6C", "***456C"),
    (FieldType::Iban, IBAN, "DE***3000", "***3000"),
    (
        FieldType::PaymentCard,
        CARD,
        r#"{"holder":"A*** L***","address":"***","expiry":"**/**","last_four":"4242"}"#,
        "***4242",
    ),
    (FieldType::IpAddress, "203.0.113.7", "203.0.*.*", "***1137"),
    (FieldType::IpAddress, "2001:db8::1", "2001:db8:*", "***db81"),
    (FieldType::DeviceId, "aa:bb:cc:dd:ee:ff", "***FF", "***eeff"),
    (FieldType::Location, "48.85,2.29", "[redacted]", "[redacted]"),
    (FieldType::Score, "0.75", "[redacted]", "[redacted]"),
    (FieldType::Json, r#"{"a":1}"#, "[redacted]", "[redacted]"),
    (FieldType::Bytes, "abc", "[redacted]", "[redacted]"),
];

fn input(kind: FieldType, value: &str) -> v1::FieldInput {
    if kind != FieldType::Bytes {
        return field(kind, value);
    }
    let content = Some(v1::field_input::Content::BytesValue(value.into()));
    v1::FieldInput { r#type: kind.into(), content, ..Default::default() }
}

fn digits(token: &str) -> Vec<u8> {
    assert!(token.bytes().all(|c| c.is_ascii_digit()), "{token}");
    token.bytes().map(|c| c - b'0').collect()
}

on_both_stores! {
    async fn a_shaped_token_passes_where_its_value_passes(house: House) {
        let mut house = house;
        for (kind, value) in [(FieldType::Email, "ann@example.com"), (FieldType::Phone, "+49 30 1234567")] {
            let token = house.one("", shaped(kind, value)).await;
            assert_eq!(token.format(), v1::TokenFormat::Shaped);
            assert_ne!(token.token, value);
            let again = house.one("", field(kind, &token.token)).await;
            assert_eq!(house.reveal(&[again.token], CARE).await, [Ok(token.token)], "it is a {kind:?} for the vault");
        }
    }

    async fn a_shaped_number_keeps_the_last_four_and_is_no_card(house: House) {
        let mut house = house;
        let national = "123.456.789-09";
        let kinds = [
            (FieldType::PaymentCard, CARD, "4242"),
            (FieldType::Iban, IBAN, "3000"),
            (FieldType::NationalId, national, "8909"),
        ];
        for (kind, value, last_four) in kinds {
            let (_, tokens) = house.tokenize("", vec![shaped(kind, value); 50]).await;
            for token in &tokens {
                let digits = digits(token);
                assert_eq!(digits.len(), 16);
                assert!(!luhn_valid(&digits), "{token} could be a card");
                assert!(token.ends_with(last_four), "{token} of {kind:?}");
            }
            let different: std::collections::HashSet<_> = tokens.iter().collect();
            assert_eq!(different.len(), 50, "they are random");
        }
    }

    async fn a_shaped_token_does_all_that_a_token_does(house: House) {
        let mut house = house;
        let values = [
            (FieldType::Email, "ann@example.com"),
            (FieldType::Phone, "0049 30 1234567"),
            (FieldType::PaymentCard, CARD),
            (FieldType::Iban, IBAN),
            (FieldType::NationalId, "AB 12 34 56 C"),
        ];
        let fields = values.iter().map(|(kind, value)| shaped(*kind, value)).collect();
        let (subject, tokens) = house.tokenize("", fields).await;
        let expected: Vec<_> = values.iter().map(|(_, value)| Ok((*value).to_owned())).collect();
        assert_eq!(house.reveal(&tokens, CARE).await, expected);
        for ((kind, value), token) in values.iter().zip(&tokens) {
            assert_eq!(&house.find(*kind, value).await, std::slice::from_ref(token));
            assert_eq!(&house.token(token).await.token, token);
        }
        let delete = v1::DeleteTokenRequest { token: tokens[0].clone(), ..Default::default() };
        house.tokens.delete_token(delete).await.unwrap();
        assert_eq!(house.reveal(&tokens[..1], CARE).await, [Err("TOKEN_UNKNOWN".to_owned())]);
        house.erase(&subject).await;
        assert_eq!(house.reveal(&tokens[1..], CARE).await, vec![Err("SUBJECT_ERASED".to_owned()); 4]);
    }

    async fn types_without_a_shape_are_refused(house: House) {
        let mut house = house;
        let before = house.everything().await;
        for (kind, value, ..) in SHOWN {
            if matches!(
                kind,
                FieldType::Email | FieldType::Phone | FieldType::PaymentCard | FieldType::Iban | FieldType::NationalId
            ) {
                continue;
            }
            let field = v1::FieldInput { format: v1::TokenFormat::Shaped.into(), ..input(kind, value) };
            let refused = house.tokens.tokenize(tokenize("", vec![field])).await.unwrap_err();
            assert_eq!(
                (refused.code(), reason(&refused).as_str()),
                (Code::InvalidArgument, "VALUE_INVALID"),
                "{kind:?}"
            );
            assert_eq!(fields_at_fault(&refused), ["fields[0].format"], "{kind:?}");
        }
        assert_eq!(house.everything().await, before);
    }

    async fn as_much_is_shown_as_was_asked_for(house: House) {
        let mut house = house;
        let fields = SHOWN.iter().map(|(kind, value, ..)| input(*kind, value)).collect();
        let (_, tokens) = house.tokenize("", fields).await;
        for redaction in
            [Redaction::Unspecified, Redaction::PlainText, Redaction::Masked, Redaction::LastFour, Redaction::Redacted]
        {
            let request = v1::DetokenizeRequest { redaction: redaction.into(), ..detokenize(&tokens, CARE) };
            let results = house.tokens.detokenize(request).await.unwrap().into_inner().results;
            for ((kind, value, masked, last_four), result) in SHOWN.iter().zip(&results) {
                let expected = match redaction {
                    Redaction::Unspecified | Redaction::PlainText => *value,
                    Redaction::Masked => masked,
                    Redaction::LastFour => last_four,
                    Redaction::Redacted => "[redacted]",
                };
                let shown = outcome(result).unwrap().replace('\u{2022}', "*");
                assert_eq!(shown, expected, "{kind:?} {redaction:?}");
            }
        }
    }
}
