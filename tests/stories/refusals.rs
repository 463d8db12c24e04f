//! Bad input: refused with the field named, the value not repeated, and nothing changed.

use lacuna::proto::v1;
use lacuna::proto::v1::FieldType;
use prost::Message;
use prost_types::Timestamp;
use tonic::Code;

use crate::asks::{CARE, correct, detokenize, erase, metadata, text, tokenize};
use crate::doors::{call, credential};
use crate::house::{House, field, fields_at_fault, on_both_stores, reason};

/// A request that must be refused.
struct Bad {
    rpc: String,
    message: Vec<u8>,
    reason: &'static str,
    field: String,
}

fn bad(rpc: &str, message: &impl Message, reason: &'static str, field: &str) -> Bad {
    let rpc = rpc.to_owned();
    Bad { rpc, message: message.encode_to_vec(), reason, field: field.to_owned() }
}

/// Sends each, and checks that it is refused as it should be and left no trace.
async fn all_refused(house: &House, requests: Vec<Bad>) {
    let (before, good) = (house.everything().await, credential(house));
    for (at, Bad { rpc, message, reason: expected, field }) in requests.into_iter().enumerate() {
        let Err(refused) = call(house, &rpc, message, Some(&good)).await else { panic!("{at}: {rpc} took {field}") };
        let about = format!("{at}: {rpc}, {field}: {refused:?}");
        assert_eq!(refused.code(), Code::InvalidArgument, "{about}");
        assert_eq!(reason(&refused), expected, "{about}");
        assert_eq!(fields_at_fault(&refused), [field], "{about}");
        assert!(!about.contains("MARKED"), "{about}");
    }
    assert_eq!(house.everything().await, before);
}

const TOKENIZE: &str = "/lacuna.v1.TokenService/Tokenize";
const DETOKENIZE: &str = "/lacuna.v1.TokenService/Detokenize";
const FIND: &str = "/lacuna.v1.TokenService/FindTokens";
const UPDATE: &str = "/lacuna.v1.TokenService/UpdateToken";
const DELETE: &str = "/lacuna.v1.TokenService/DeleteToken";
const LIST: &str = "/lacuna.v1.TokenService/ListTokens";
const CREATE: &str = "/lacuna.v1.SubjectService/CreateSubject";
const GET_SUBJECT: &str = "/lacuna.v1.SubjectService/GetSubject";
const LIST_SUBJECTS: &str = "/lacuna.v1.SubjectService/ListSubjects";
const RESTRICT: &str = "/lacuna.v1.SubjectService/RestrictSubject";
const LIFT: &str = "/lacuna.v1.SubjectService/LiftRestriction";
const PROFILING: &str = "/lacuna.v1.SubjectService/SetProfiling";
const ERASE: &str = "/lacuna.v1.SubjectService/EraseSubject";
const GET_ERASURE: &str = "/lacuna.v1.SubjectService/GetErasure";
const CANCEL: &str = "/lacuna.v1.SubjectService/CancelErasure";
const LIST_ERASURES: &str = "/lacuna.v1.SubjectService/ListErasures";
const RECEIPT: &str = "/lacuna.v1.SubjectService/GetReceipt";

const KEYS: &str = "/lacuna.v1.KeyService/";

const NEVER: Timestamp = Timestamp { seconds: 253_402_300_800, nanos: 0 };
const LONG_AGO: Timestamp = Timestamp { seconds: 1, nanos: 0 };

/// A value of each type that it does not take, marked where it can be.
const WRONG: [(FieldType, &str); 25] = [
    (FieldType::Unspecified, "MARKED"),
    (FieldType::Text, ""),
    (FieldType::Text, " \n "),
    (FieldType::Text, "MARKED\0"),
    (FieldType::PersonName, "MARKED\nsecond line"),
    (FieldType::Email, "MARKED"),
    (FieldType::Email, "MARKED@"),
    (FieldType::Email, "a MARKED@example.com"),
    (FieldType::Phone, "MARKED"),
    (FieldType::Phone, "+49"),
    (FieldType::PostalAddress, "\u{7}MARKED"),
    (FieldType::DateOfBirth, "MARKED"),
    (FieldType::DateOfBirth, "2023-02-29"),
    (FieldType::DateOfBirth, "17.5.1980"),
    (FieldType::NationalId, "---"),
    (FieldType::Iban, "DE89 3704 0044 0532 0130 01"),
    (FieldType::PaymentCard, "MARKED"),
    (FieldType::PaymentCard, r#"{"last_four":"MARKED","expiry":"07/29"}"#),
    (FieldType::IpAddress, "256.0.0.1"),
    (FieldType::DeviceId, ":-:"),
    (FieldType::Location, "91,0"),
    (FieldType::Score, "NaN"),
    (FieldType::Score, "MARKED"),
    (FieldType::Json, "{\"MARKED\":}"),
    (FieldType::Bytes, "MARKED, as text"),
];

/// Texts that hold a whole card number, for the types that could be made to carry one.
const CARDS: [(FieldType, &str); 11] = [
    (FieldType::Text, "charge 4111 1111 1111 1111, thanks"),
    (FieldType::Text, "5555-5555-5555-4444"),
    (FieldType::Text, "\u{ff13}782 822463 10005"),
    (FieldType::PersonName, "Ann 4111111111111111"),
    (FieldType::Email, "4111111111111111@example.com"),
    (FieldType::PostalAddress, "1 High St\n6011 1111 1111 1117"),
    (FieldType::NationalId, "4111-1111-1111-1111"),
    (FieldType::DeviceId, "5105105105105100"),
    (FieldType::PaymentCard, r#"{"last_four":"1111","expiry":"07/29","holder":"4111111111111111"}"#),
    (FieldType::PaymentCard, r#"{"last_four":"1111","expiry":"07/29","cvv":"123"}"#),
    (FieldType::Json, r#"{"a":[{"b":4111111111111111}]}"#),
];

/// Numbers that only look like one.
const NO_CARDS: [(FieldType, &str); 8] = [
    (FieldType::Iban, "AT70 4111 1111 1111 1111"),
    (FieldType::Text, "please pay to DE89 3704 0044 0532 0130 00"),
    (FieldType::DeviceId, "490154203237518"),
    (FieldType::Phone, "+4915123456785"),
    (FieldType::Text, "550e8400-e29b-41d4-a716-446655440000"),
    (FieldType::Text, "4111111111111112"),
    (FieldType::Score, "0.4111111111111111"),
    (FieldType::Bytes, ""),
];

fn words(bad: &[&str]) -> Vec<String> {
    bad.iter().map(|word| (*word).to_owned()).chain(["a".repeat(129)]).collect()
}

fn bad_tokenize(subject: &str) -> Vec<Bad> {
    let one = |field: v1::FieldInput| tokenize("", vec![text("fine"), field]);
    let plain = || text("fine");
    let mut all = vec![
        bad(TOKENIZE, &tokenize("MARKED", vec![plain()]), "VALUE_INVALID", "subject"),
        bad(TOKENIZE, &tokenize(&subject.to_uppercase(), vec![plain()]), "VALUE_INVALID", "subject"),
        bad(TOKENIZE, &tokenize("", Vec::new()), "VALUE_INVALID", "fields"),
        bad(TOKENIZE, &tokenize("", vec![plain(); 1001]), "BATCH_TOO_LARGE", "fields"),
        bad(TOKENIZE, &v1::TokenizeRequest { source: String::new(), ..one(plain()) }, "SOURCE_REQUIRED", "source"),
        bad(
            TOKENIZE,
            &v1::TokenizeRequest { request_id: "MARKED".into(), ..one(plain()) },
            "VALUE_INVALID",
            "request_id",
        ),
        bad(TOKENIZE, &one(v1::FieldInput { content: None, ..plain() }), "VALUE_INVALID", "fields[1].value"),
        bad(TOKENIZE, &one(v1::FieldInput { r#type: 16, ..plain() }), "VALUE_INVALID", "fields[1].type"),
        bad(TOKENIZE, &one(v1::FieldInput { format: 3, ..plain() }), "VALUE_INVALID", "fields[1].format"),
        bad(
            TOKENIZE,
            &one(v1::FieldInput { tags: vec!["a".into(); 11], ..plain() }),
            "VALUE_INVALID",
            "fields[1].tags",
        ),
    ];
    for source in words(&["MARKED", "-a", "marked@example.com", "tel:0301234567", " a"]) {
        all.push(bad(TOKENIZE, &v1::TokenizeRequest { source, ..one(plain()) }, "VALUE_INVALID", "source"));
    }
    for tag in words(&["", "MARKED", "jane doe", "call:0301234567"]) {
        all.push(bad(TOKENIZE, &one(v1::FieldInput { tags: vec![tag], ..plain() }), "VALUE_INVALID", "fields[1].tags"));
    }
    for retention_class in [&"a".repeat(65), "MARKED"] {
        let field = v1::FieldInput { retention_class: retention_class.to_owned(), ..plain() };
        all.push(bad(TOKENIZE, &one(field), "VALUE_INVALID", "fields[1].retention_class"));
    }
    for time in [NEVER, LONG_AGO, Timestamp { seconds: -1, nanos: 0 }, Timestamp { seconds: 2_000_000_000, nanos: -1 }]
    {
        let field = v1::FieldInput { expire_time: Some(time), ..plain() };
        all.push(bad(TOKENIZE, &one(field), "VALUE_INVALID", "fields[1].expire_time"));
    }
    for (kind, value) in WRONG {
        let at = if kind == FieldType::Unspecified { "fields[1].type" } else { "fields[1].value" };
        all.push(bad(TOKENIZE, &one(field(kind, value)), "VALUE_INVALID", at));
    }
    let content = Some(v1::field_input::Content::BytesValue(b"MARKED".to_vec()));
    all.push(bad(TOKENIZE, &one(v1::FieldInput { content, ..plain() }), "VALUE_INVALID", "fields[1].value"));
    all
}

fn bad_reveals(token: &str) -> Vec<Bad> {
    let ask = || detokenize(&[token.to_owned()], CARE);
    let find = |kind: FieldType, value: &str| v1::FindTokensRequest {
        r#type: kind.into(),
        value: value.to_owned(),
        purpose: CARE.to_owned(),
    };
    let mut all = vec![
        bad(DETOKENIZE, &detokenize(&[], CARE), "VALUE_INVALID", "tokens"),
        bad(DETOKENIZE, &detokenize(&vec![token.to_owned(); 1001], CARE), "BATCH_TOO_LARGE", "tokens"),
        bad(DETOKENIZE, &v1::DetokenizeRequest { redaction: 5, ..ask() }, "VALUE_INVALID", "redaction"),
        bad(DETOKENIZE, &v1::DetokenizeRequest { redaction: -1, ..ask() }, "VALUE_INVALID", "redaction"),
        bad(FIND, &find(FieldType::Text, &"MARKED".repeat(50)), "VALUE_INVALID", "type"),
        bad(FIND, &find(FieldType::Email, "4111111111111111@example.com"), "CARD_DATA", "value"),
        bad(FIND, &find(FieldType::PersonName, &"MARKED".repeat(50)), "VALUE_TOO_LARGE", "value"),
    ];
    for (kind, value) in [(FieldType::Json, "{}"), (FieldType::Score, "1"), (FieldType::Location, "1,1")] {
        all.push(bad(FIND, &find(kind, value), "VALUE_INVALID", "type"));
    }
    for (kind, value) in WRONG {
        let at = if kind == FieldType::Unspecified { "type" } else { "value" };
        all.push(bad(FIND, &find(kind, value), "VALUE_INVALID", at));
    }
    all
}

fn bad_changes(token: &str, subject: &str) -> Vec<Bad> {
    let update = || correct(token, "ada@example.org");
    let update_with = |value: &str| correct(token, value);
    let bytes = Some(v1::update_token_request::Content::BytesValue(b"MARKED".to_vec()));
    let list = || v1::ListTokensRequest { subject: subject.to_owned(), ..Default::default() };
    vec![
        bad(UPDATE, &v1::UpdateTokenRequest { content: None, ..update() }, "VALUE_INVALID", "value"),
        bad(UPDATE, &v1::UpdateTokenRequest { content: bytes, ..update() }, "VALUE_INVALID", "value"),
        bad(UPDATE, &update_with("MARKED, which is no address"), "VALUE_INVALID", "value"),
        bad(UPDATE, &update_with(""), "VALUE_INVALID", "value"),
        bad(UPDATE, &update_with(&format!("{}@example.com", "a".repeat(300))), "VALUE_TOO_LARGE", "value"),
        bad(UPDATE, &update_with("4111111111111111@example.com"), "CARD_DATA", "value"),
        bad(UPDATE, &v1::UpdateTokenRequest { source: String::new(), ..update() }, "SOURCE_REQUIRED", "source"),
        bad(UPDATE, &v1::UpdateTokenRequest { source: "MARKED".into(), ..update() }, "VALUE_INVALID", "source"),
        bad(UPDATE, &v1::UpdateTokenRequest { etag: "MARKED".into(), ..update() }, "VALUE_INVALID", "etag"),
        bad(UPDATE, &v1::UpdateTokenRequest { request_id: "MARKED".into(), ..update() }, "VALUE_INVALID", "request_id"),
        bad(
            DELETE,
            &v1::DeleteTokenRequest { token: token.into(), request_id: "MARKED".into() },
            "VALUE_INVALID",
            "request_id",
        ),
        bad(LIST, &v1::ListTokensRequest { subject: "MARKED".into(), ..list() }, "VALUE_INVALID", "subject"),
        bad(LIST, &v1::ListTokensRequest { page_size: -1, ..list() }, "VALUE_INVALID", "page_size"),
        bad(LIST, &v1::ListTokensRequest { page_token: "MARKED".into(), ..list() }, "VALUE_INVALID", "page_token"),
        bad(LIST, &v1::ListTokensRequest { page_token: subject.into(), ..list() }, "VALUE_INVALID", "page_token"),
    ]
}

fn bad_subjects(subject: &str) -> Vec<Bad> {
    let create = || v1::CreateSubjectRequest { source: "import:a".into(), ..Default::default() };
    let list = v1::ListSubjectsRequest::default;
    let filter = |state: i32, kind: &str| v1::ListSubjectsRequest {
        filter: Some(v1::SubjectFilter { state, kind: kind.to_owned() }),
        ..Default::default()
    };
    let restrict = || v1::RestrictSubjectRequest { subject: subject.into(), ground: "ok".into(), etag: String::new() };
    let lifted = |time: Option<Timestamp>| v1::LiftRestrictionRequest {
        subject: subject.into(),
        subject_informed_time: time,
        etag: String::new(),
    };
    let mut all = vec![
        bad(CREATE, &v1::CreateSubjectRequest { source: String::new(), ..create() }, "SOURCE_REQUIRED", "source"),
        bad(CREATE, &v1::CreateSubjectRequest { source: "MARKED".into(), ..create() }, "VALUE_INVALID", "source"),
        bad(CREATE, &v1::CreateSubjectRequest { kind: "MARKED".into(), ..create() }, "VALUE_INVALID", "kind"),
        bad(CREATE, &v1::CreateSubjectRequest { kind: "a".repeat(65), ..create() }, "VALUE_INVALID", "kind"),
        bad(
            CREATE,
            &v1::CreateSubjectRequest { request_id: "MARKED".into(), ..create() },
            "VALUE_INVALID",
            "request_id",
        ),
        bad(LIST_SUBJECTS, &v1::ListSubjectsRequest { page_size: -1, ..list() }, "VALUE_INVALID", "page_size"),
        bad(
            LIST_SUBJECTS,
            &v1::ListSubjectsRequest { page_token: "MARKED".into(), ..list() },
            "VALUE_INVALID",
            "page_token",
        ),
        bad(LIST_SUBJECTS, &filter(6, ""), "VALUE_INVALID", "filter.state"),
        bad(LIST_SUBJECTS, &filter(0, "MARKED"), "VALUE_INVALID", "filter.kind"),
        bad(RESTRICT, &v1::RestrictSubjectRequest { etag: "MARKED".into(), ..restrict() }, "VALUE_INVALID", "etag"),
        bad(LIFT, &lifted(None), "VALUE_INVALID", "subject_informed_time"),
        bad(LIFT, &lifted(Some(NEVER)), "VALUE_INVALID", "subject_informed_time"),
        bad(LIFT, &lifted(Some(LONG_AGO)), "VALUE_INVALID", "subject"),
        bad(GET_SUBJECT, &v1::GetSubjectRequest { subject: "MARKED".into() }, "VALUE_INVALID", "subject"),
        bad(
            RESTRICT,
            &v1::RestrictSubjectRequest { subject: "MARKED".into(), ..restrict() },
            "VALUE_INVALID",
            "subject",
        ),
        bad(LIFT, &v1::LiftRestrictionRequest { subject: "MARKED".into(), ..lifted(None) }, "VALUE_INVALID", "subject"),
        bad(
            PROFILING,
            &v1::SetProfilingRequest { subject: "MARKED".into(), ..Default::default() },
            "VALUE_INVALID",
            "subject",
        ),
    ];
    for ground in words(&["", "MARKED@example.com", "call 0301234567", "a\nb"]) {
        all.push(bad(RESTRICT, &v1::RestrictSubjectRequest { ground, ..restrict() }, "VALUE_INVALID", "ground"));
    }
    for jurisdiction in ["de", "DEU", "MARKED", "US-"] {
        let request = v1::CreateSubjectRequest { jurisdiction: jurisdiction.into(), ..create() };
        all.push(bad(CREATE, &request, "VALUE_INVALID", "jurisdiction"));
    }
    all
}

fn bad_erasures(subject: &str) -> Vec<Bad> {
    let list = v1::ListErasuresRequest::default;
    let mut all = vec![
        bad(ERASE, &erase("MARKED"), "VALUE_INVALID", "subject"),
        bad(
            ERASE,
            &v1::EraseSubjectRequest { request_id: "MARKED".into(), ..erase(subject) },
            "VALUE_INVALID",
            "request_id",
        ),
        bad(GET_ERASURE, &v1::GetErasureRequest { erasure: "MARKED".into() }, "VALUE_INVALID", "erasure"),
        bad(CANCEL, &v1::CancelErasureRequest { erasure: subject.into() }, "VALUE_INVALID", "erasure"),
        bad(RECEIPT, &v1::GetReceiptRequest { erasure: String::new() }, "VALUE_INVALID", "erasure"),
        bad(LIST_ERASURES, &v1::ListErasuresRequest { page_size: -1, ..list() }, "VALUE_INVALID", "page_size"),
        bad(
            LIST_ERASURES,
            &v1::ListErasuresRequest { page_token: "MARKED".into(), ..list() },
            "VALUE_INVALID",
            "page_token",
        ),
    ];
    for reason in words(&["", "MARKED@example.com", "call 0301234567"]) {
        all.push(bad(ERASE, &v1::EraseSubjectRequest { reason, ..erase(subject) }, "VALUE_INVALID", "reason"));
    }
    for time in [NEVER, LONG_AGO] {
        let request = v1::EraseSubjectRequest { execute_time: Some(time), ..erase(subject) };
        all.push(bad(ERASE, &request, "VALUE_INVALID", "execute_time"));
    }
    all
}

fn bad_rotations(subject: &str) -> Vec<Bad> {
    let (marked, invalid) = (|| "MARKED".to_owned(), "VALUE_INVALID");
    let rpc = |name: &str| format!("{KEYS}{name}");
    let of_subject = || v1::RotateSubjectKeyRequest { subject: subject.to_owned(), ..Default::default() };
    let index = v1::RotateIndexKeyRequest::default;
    let (rotations, events) = (v1::ListRotationsRequest::default, v1::ListKeyEventsRequest::default);
    let root = v1::RotateRootRequest { request_id: marked(), ..Default::default() };
    let kek = v1::RotateKekRequest { request_id: marked(), ..Default::default() };
    let signing = v1::RotateSigningKeyRequest { request_id: marked(), ..Default::default() };
    let mut all = vec![
        bad(&rpc("RotateRoot"), &root, invalid, "request_id"),
        bad(&rpc("RotateKek"), &kek, invalid, "request_id"),
        bad(&rpc("RotateSigningKey"), &signing, invalid, "request_id"),
        bad(
            &rpc("RotateSubjectKey"),
            &v1::RotateSubjectKeyRequest { request_id: marked(), ..of_subject() },
            invalid,
            "request_id",
        ),
        bad(
            &rpc("RotateSubjectKey"),
            &v1::RotateSubjectKeyRequest { subject: marked(), ..of_subject() },
            invalid,
            "subject",
        ),
        bad(
            &rpc("RotateIndexKey"),
            &v1::RotateIndexKeyRequest { request_id: marked(), ..index() },
            invalid,
            "request_id",
        ),
        bad(&rpc("GetRotation"), &v1::GetRotationRequest { rotation: marked() }, invalid, "rotation"),
        bad(&rpc("VerifyErasure"), &v1::VerifyErasureRequest { erasure: marked() }, invalid, "erasure"),
        bad(&rpc("ListRotations"), &v1::ListRotationsRequest { page_size: -1, ..rotations() }, invalid, "page_size"),
        bad(
            &rpc("ListRotations"),
            &v1::ListRotationsRequest { page_token: marked(), ..rotations() },
            invalid,
            "page_token",
        ),
        bad(&rpc("ListKeyEvents"), &v1::ListKeyEventsRequest { page_size: -1, ..events() }, invalid, "page_size"),
        bad(
            &rpc("ListKeyEvents"),
            &v1::ListKeyEventsRequest { page_token: marked(), ..events() },
            invalid,
            "page_token",
        ),
    ];
    for buckets in [1, 63, (1 << 20) + 1, u32::MAX] {
        all.push(bad(&rpc("RotateIndexKey"), &v1::RotateIndexKeyRequest { buckets, ..index() }, invalid, "buckets"));
    }
    all
}

on_both_stores! {
    async fn bad_rotations_are_refused_by_name_and_not_repeated(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let (before, requests) = (house.keys().await.epoch, bad_rotations(&ada.subject));
        all_refused(&house, requests).await;
        assert_eq!(house.keys().await.epoch, before);
    }

    async fn bad_values_are_refused_by_name_and_not_repeated(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        all_refused(&house, bad_tokenize(&ada.subject)).await;
    }

    async fn bad_reveals_and_searches_are_refused_by_name_and_not_repeated(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        all_refused(&house, bad_reveals(&ada.tokens[0])).await;
    }

    async fn bad_changes_are_refused_by_name_and_not_repeated(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        all_refused(&house, bad_changes(&ada.tokens[0], &ada.subject)).await;
    }

    async fn bad_subjects_and_erasures_are_refused_by_name_and_not_repeated(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        all_refused(&house, bad_subjects(&ada.subject)).await;
        all_refused(&house, bad_erasures(&ada.subject)).await;
    }

    async fn one_bad_value_keeps_the_good_ones_out_as_well(house: House) {
        let mut house = house;
        let before = house.everything().await;
        let mut fields = vec![text("fine"); 999];
        fields.push(field(FieldType::Email, "MARKED"));
        let refused = house.tokens.tokenize(tokenize("", fields)).await.unwrap_err();
        assert_eq!(fields_at_fault(&refused), ["fields[999].value"]);
        assert_eq!(house.everything().await, before);
    }

    async fn too_many_and_none_are_told_with_the_numbers(house: House) {
        let mut house = house;
        let too_many = house.tokens.tokenize(tokenize("", vec![text("x"); 1001])).await.unwrap_err();
        assert_eq!(
            (&metadata(&too_many)["count"], &metadata(&too_many)["maximum"]),
            (&"1001".to_owned(), &"1000".to_owned())
        );
        let none = house.tokens.detokenize(detokenize(&[], CARE)).await.unwrap_err();
        assert_eq!((none.code(), reason(&none).as_str()), (Code::InvalidArgument, "VALUE_INVALID"));
    }

    async fn card_numbers_are_refused_wherever_they_hide(house: House) {
        let mut house = house;
        let before = house.everything().await;
        for (kind, value) in CARDS {
            let refused = house.tokens.tokenize(tokenize("", vec![field(kind, value)])).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "CARD_DATA"), "{value}");
            assert_eq!(fields_at_fault(&refused), ["fields[0].value"]);
            let told = format!("{refused:?}");
            assert!(!told.contains("1111") && !told.contains("5555"), "{told}");
        }
        assert_eq!(house.everything().await, before);
    }

    async fn numbers_that_only_look_like_cards_are_kept(house: House) {
        let mut house = house;
        for (kind, value) in NO_CARDS.into_iter().filter(|(kind, _)| *kind != FieldType::Bytes) {
            let token = house.one("", field(kind, value)).await.token;
            assert_eq!(house.reveal(&[token], CARE).await, [Ok(value.to_owned())]);
        }
    }

    async fn what_is_not_there_is_told_apart_by_kind(house: House) {
        let mut house = house;
        let (token, subject) =
            ("tok_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(), "sub_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned());
        let erasure = "ers_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned();
        let refusals = [
            house.tokens.get_token(v1::GetTokenRequest { token: token.clone() }).await.unwrap_err(),
            house
                .tokens
                .delete_token(v1::DeleteTokenRequest { token: token.clone(), ..Default::default() })
                .await
                .unwrap_err(),
            house.tokens.update_token(correct(&token, "x")).await.unwrap_err(),
        ];
        for refused in &refusals {
            assert_eq!((refused.code(), reason(refused).as_str()), (Code::NotFound, "TOKEN_UNKNOWN"));
            assert_eq!(metadata(refused)["token"], token);
        }
        let ask = v1::ListTokensRequest { subject: subject.clone(), ..Default::default() };
        let informed = Some(LONG_AGO);
        let lift = v1::LiftRestrictionRequest {
            subject: subject.clone(),
            subject_informed_time: informed,
            ..Default::default()
        };
        let ground = "accuracy_contested".to_owned();
        let restrict = v1::RestrictSubjectRequest { subject: subject.clone(), ground, ..Default::default() };
        let profiling = v1::SetProfilingRequest { subject: subject.clone(), ..Default::default() };
        let refusals = [
            house.subjects.get_subject(v1::GetSubjectRequest { subject: subject.clone() }).await.unwrap_err(),
            house.tokens.list_tokens(ask).await.unwrap_err(),
            house.tokens.tokenize(tokenize(&subject, vec![text("x")])).await.unwrap_err(),
            house.subjects.erase_subject(erase(&subject)).await.unwrap_err(),
            house.subjects.restrict_subject(restrict).await.unwrap_err(),
            house.subjects.lift_restriction(lift).await.unwrap_err(),
            house.subjects.set_profiling(profiling).await.unwrap_err(),
        ];
        for refused in &refusals {
            assert_eq!((refused.code(), reason(refused).as_str()), (Code::NotFound, "SUBJECT_UNKNOWN"));
            assert_eq!(metadata(refused)["subject"], subject);
        }
        let refusals = [
            house.subjects.get_erasure(v1::GetErasureRequest { erasure: erasure.clone() }).await.unwrap_err(),
            house.subjects.cancel_erasure(v1::CancelErasureRequest { erasure: erasure.clone() }).await.unwrap_err(),
            house.subjects.get_receipt(v1::GetReceiptRequest { erasure: erasure.clone() }).await.unwrap_err(),
        ];
        for refused in &refusals {
            assert_eq!((refused.code(), reason(refused).as_str()), (Code::NotFound, "ERASURE_UNKNOWN"));
            assert_eq!(metadata(refused)["erasure"], erasure);
        }
    }
}
