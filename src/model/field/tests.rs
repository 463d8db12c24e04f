use proptest::prelude::*;

use super::*;

fn value(kind: FieldType, text: &str) -> Result<Value> {
    Value::parse(kind, Content::Text(text.to_owned().into()))
}

fn normal(kind: FieldType, text: &str) -> String {
    let value = value(kind, text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    assert_eq!(value.raw(), text.as_bytes(), "kept as given");
    String::from_utf8(value.normal().unwrap().to_vec()).unwrap()
}

fn reason(kind: FieldType, text: &str) -> Reason {
    let error = value(kind, text).err().unwrap_or_else(|| panic!("accepted: {text}"));
    assert_eq!(error.field.as_deref(), Some("value"));
    error.reason
}

#[test]
fn numbers_are_stable() {
    assert!(FieldType::ALL.iter().zip(1..).all(|(kind, number)| kind.number() == number));
    assert_eq!(FieldType::from_number(4), Some(FieldType::Phone));
    assert_eq!(FieldType::from_number(0), None);
    assert_eq!(FieldType::from_number(16), None);
}

#[test]
fn normal_forms() {
    let cases = [
        (FieldType::Text, " Call back \n", "Call back"),
        (FieldType::PersonName, "  J\u{fc}rgen  STRA\u{df}E ", "j\u{fc}rgen strasse"),
        (FieldType::Email, " Ann.Lee+x@Example.COM ", "ann.lee+x@example.com"),
        (FieldType::Phone, "+49 (0)30 / 1234-567", "+49301234567"),
        (FieldType::Phone, "0049 30 1234567", "+49301234567"),
        (FieldType::Phone, "+15996393222", "+15996393222"),
        (FieldType::Phone, "+11255715630", "+11255715630"),
        (FieldType::Phone, "tel:+44-20-7946-0958", "+442079460958"),
        (FieldType::Phone, "+1 (415) 555-0100 ext. 22", "+14155550100"),
        (FieldType::Phone, "030 1234567", "0301234567"),
        (FieldType::Phone, "110", "110"),
        (FieldType::PostalAddress, "1 High St\r\nLondon\tN1", "1 high st london n1"),
        (FieldType::DateOfBirth, "1980-02-29", "1980-02-29"),
        (FieldType::NationalId, "123.456.789-09", "12345678909"),
        (FieldType::NationalId, "ab 12 34 56 c", "AB123456C"),
        (FieldType::NationalId, "4906153456089", "4906153456089"),
        (FieldType::Iban, "de89 3704 0044 0532 0130 00", "DE89370400440532013000"),
        (FieldType::IpAddress, "2001:DB8:0:0::1", "2001:db8::1"),
        (FieldType::IpAddress, "::ffff:203.0.113.7", "203.0.113.7"),
        (FieldType::DeviceId, "35-209900-176148-1", "352099001761481"),
        (FieldType::DeviceId, "aa:bb:cc:dd:ee:ff", "AABBCCDDEEFF"),
    ];
    for (kind, text, expected) in cases {
        assert_eq!(normal(kind, text), expected);
    }
}

#[test]
fn what_a_type_refuses() {
    let cases = [
        (FieldType::Text, "a\0b"),
        (FieldType::Text, " "),
        (FieldType::Text, ""),
        (FieldType::PersonName, "Ann\nLee"),
        (FieldType::PersonName, "\u{7}"),
        (FieldType::Email, "ann"),
        (FieldType::Email, "ann@host"),
        (FieldType::Email, "Ann <ann@example.com>"),
        (FieldType::Phone, "12"),
        (FieldType::Phone, "+12"),
        (FieldType::Phone, "+0301234567"),
        (FieldType::Phone, "1+234567"),
        (FieldType::Phone, "call me"),
        (FieldType::Phone, "anonymous"),
        (FieldType::Phone, "+1234567890123456"),
        (FieldType::DateOfBirth, "1981-02-29"),
        (FieldType::DateOfBirth, "1849-12-31"),
        (FieldType::DateOfBirth, "19800229"),
        (FieldType::DateOfBirth, "1980-2-9"),
        (FieldType::NationalId, "--"),
        (FieldType::Iban, "DE88370400440532013000"),
        (FieldType::IpAddress, "203.0.113.7:80"),
        (FieldType::IpAddress, "10.0.0.0/8"),
        (FieldType::Location, "91,0"),
        (FieldType::Location, "1,2,3"),
        (FieldType::Location, "nan,inf"),
        (FieldType::Location, "geo:1"),
        (FieldType::Score, "inf"),
        (FieldType::Score, "NaN"),
        (FieldType::Score, "1e999"),
        (FieldType::Score, "0x10"),
        (FieldType::Json, "{"),
        (FieldType::Json, "{} {}"),
        (FieldType::Bytes, "text"),
    ];
    for (kind, text) in cases {
        assert_eq!(reason(kind, text), Reason::ValueInvalid, "{kind:?} {text}");
    }
    assert_eq!(reason(FieldType::Json, &"[".repeat(200)), Reason::ValueInvalid);
}

#[test]
fn what_cannot_be_searched_is_accepted_all_the_same() {
    for (kind, text) in [
        (FieldType::Location, "52.5200, 13.4050"),
        (FieldType::Location, "geo:52.52,13.405,34;u=10"),
        (FieldType::Location, "48.8583701234567,-122.4111111111111111"),
        (FieldType::Score, "0.4111111111111111"),
        (FieldType::Score, "-1.5e-7"),
        (FieldType::Json, "{\"a\": [1, 2.5, null, \"x\"], \"f\": 4.111111111111111}"),
        (FieldType::Text, &"x".repeat(257)),
    ] {
        let value = value(kind, text).unwrap();
        assert!(value.normal().is_none() && !value.searchable());
    }
    assert!(Value::parse(FieldType::Bytes, Content::Bytes(SecretBytes::new(vec![0, 255]))).is_ok());
    assert!(Value::parse(FieldType::Text, Content::Bytes(SecretBytes::new(vec![65]))).is_err());
    assert!(Value::parse(FieldType::Text, Content::Text(SecretBytes::new(vec![0xff]))).is_err());
}

#[test]
fn limits_are_to_the_byte() {
    for kind in [FieldType::Text, FieldType::PersonName, FieldType::PostalAddress, FieldType::DeviceId] {
        assert!(value(kind, &"x".repeat(kind.limit())).is_ok());
        let error = value(kind, &"x".repeat(kind.limit() + 1)).unwrap_err();
        assert_eq!(error.reason, Reason::ValueTooLarge);
        assert_eq!(error.metadata, [("maximum", kind.limit().to_string())]);
    }
}

#[test]
fn card_numbers_are_refused_wherever_they_stand() {
    let number = "4111 1111 1111 1111";
    let kinds = FieldType::ALL.into_iter().filter(|&kind| kind != FieldType::Bytes);
    for kind in kinds {
        assert_eq!(reason(kind, number), Reason::CardData, "{kind:?}");
    }
    let hidden = [
        "{\"note\": \"\\u0034111 1111 1111 1111\"}",
        "{\"\\u0034111111111111111\": 1}",
        "{\"a\": \"\\u0034111111111111111\", \"a\": 1}",
        "[4111111111111111]",
        "[-4111111111111111]",
        "[4.111111111111111e15]",
    ];
    for text in hidden {
        assert_eq!(reason(FieldType::Json, text), Reason::CardData, "{text}");
    }
    assert_eq!(reason(FieldType::Score, "4.111111111111111e15"), Reason::CardData);
    assert_eq!(reason(FieldType::Phone, "378282246310005"), Reason::CardData);
    assert_eq!(reason(FieldType::Text, "4111\u{0}4111 1111 1111 1111"), Reason::CardData);
}

#[test]
fn a_payment_card_is_what_may_be_kept_of_it() {
    let full = r#"{ "last_four":"4242", "expiry":"07/29","holder":" Ann  LEE","address":"1 High St"}"#;
    let expected = r#"{"holder":"ann lee","address":"1 high st","expiry":"2029-07","last_four":"4242"}"#;
    assert_eq!(normal(FieldType::PaymentCard, full), expected);
    assert_eq!(normal(FieldType::PaymentCard, expected), expected);
    assert!(value(FieldType::PaymentCard, r#"{"expiry":"2029-07","last_four":"4242"}"#).is_ok());
    for text in [
        r#"{"expiry":"2029-07"}"#,
        r#"{"expiry":"13/29","last_four":"4242"}"#,
        r#"{"expiry":"07/29","last_four":"42424"}"#,
        r#"{"expiry":"07/29","last_four":4242}"#,
        r#"{"expiry":"07/29","last_four":"4242","last_four":"4243"}"#,
        r#"{"expiry":"07/29","last_four":"4242","note":"x"}"#,
        r#"{"expiry":"07/29","last_four":"4242","holder":"\u0000"}"#,
        "[]",
    ] {
        assert_eq!(reason(FieldType::PaymentCard, text), Reason::ValueInvalid, "{text}");
    }
    for text in [
        r#"{"expiry":"07/29","last_four":"4242","cvv":"123"}"#,
        r#"{"expiry":"07/29","last_four":"4242","card_number":"1"}"#,
        r#"{"expiry":"07/29","last_four":"4242","CVC":1}"#,
        r#"{"expiry":"07/29","last_four":"4242","holder":"4111111111111111"}"#,
        r#"{"expiry":"07/29","last_four":"4242","holder":"\u0034111111111111111"}"#,
    ] {
        assert_eq!(reason(FieldType::PaymentCard, text), Reason::CardData, "{text}");
    }
    let error = value(FieldType::PaymentCard, r#"{"note":1}"#).unwrap_err();
    assert!(error.message.contains("last_four"));
}

#[test]
fn warming_up_can_be_repeated() {
    warm_up();
    warm_up();
}

fn any_kind() -> impl Strategy<Value = FieldType> {
    proptest::sample::select(FieldType::ALL.to_vec())
}

proptest! {
    #[test]
    fn what_is_normal_stays(kind in any_kind(), text in "\\PC{1,40}|[+0-9 ()./-]{3,22}|[a-zA-Z.]{1,9}@[a-zA-Z]{1,9}\\.[a-z]{2,4}") {
        if let Ok(first) = value(kind, &text) && let Some(normal) = first.normal() {
            let again = value(kind, std::str::from_utf8(normal).unwrap());
            if let Ok(again) = again {
                prop_assert_eq!(again.normal().unwrap(), normal);
            }
        }
    }

    #[test]
    fn phones_are_normal_after_once(text in "(\\+|00)?[0-9]{3,15}") {
        if let Ok(first) = value(FieldType::Phone, &text) {
            let normal = std::str::from_utf8(first.normal().unwrap()).unwrap().to_owned();
            let again = value(FieldType::Phone, &normal).unwrap();
            prop_assert_eq!(again.normal().unwrap(), normal.as_bytes());
        }
    }

    #[test]
    fn encoding_gives_back_what_was_given(kind in any_kind(), text in "\\PC{1,300}|[+0-9 ()-]{3,22}", bytes: Vec<u8>) {
        let parsed = match kind {
            FieldType::Bytes => Value::parse(kind, Content::Bytes(SecretBytes::new(bytes))),
            _ => value(kind, &text),
        };
        if let Ok(value) = parsed {
            let encoded = value.encode();
            let decoded = Value::decode(kind, encoded.expose()).unwrap();
            prop_assert_eq!(decoded.raw(), value.raw());
            prop_assert_eq!(decoded.normal(), value.normal());
            prop_assert_eq!(encoded.len() % 32, 0);
        }
    }

    #[test]
    fn nothing_prints_a_value(kind in any_kind(), before in "[ -~]{0,20}", after in "[ -~]{0,20}") {
        let marked = format!("{before}MARKED{after}");
        let printed = match value(kind, &marked) {
            Ok(value) => format!("{value:?}"),
            Err(error) => format!("{error:?} {error} {:?}", error.source),
        };
        prop_assert!(!printed.contains("MARKED"));
    }

    #[test]
    fn foreign_bytes_do_no_harm(bytes: Vec<u8>) {
        let _ = Value::decode(FieldType::Text, &bytes);
    }
}
