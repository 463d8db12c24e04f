//! The leak hunt: marked values go through every call, right and wrong, while everything is logged, counted and kept.
//! Afterwards no mark is anywhere, in any encoding, except in the answer to a permitted reveal.

use std::fmt::{Debug, Write as _};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use futures_util::StreamExt as _;
use lacuna::crypto::{Random as _, SystemRandom};
use lacuna::proto::v1;
use lacuna::proto::v1::detokenize_result::Outcome;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::calls::{customer, leg};
use crate::house::field;
use crate::outside::{Door, free_address, metrics, outside_on_both_stores};
use crate::process::setting;
use crate::spans::{Collector, telling};

/// Something that must not be found, in every form in which it could hide.
struct Mark {
    name: &'static str,
    forms: Vec<(&'static str, String)>,
}

/// Bytes as text with one character each, in which `str` can search fast.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

impl Mark {
    fn new(name: &'static str, mark: &[u8]) -> Self {
        let mut forms = Vec::new();
        let text = std::str::from_utf8(mark).ok();
        let cases = text.map(|text| vec![text.to_owned(), text.to_lowercase(), text.to_uppercase()]);
        let mut variants: Vec<Vec<u8>> =
            cases.map_or(vec![mark.to_vec()], |c| c.into_iter().map(String::into_bytes).collect());
        variants.sort();
        variants.dedup();
        for bytes in variants {
            forms.push(("as it is", latin(&bytes)));
            forms.push(("hex", HEXLOWER.encode(&bytes)));
            forms.push(("HEX", HEXUPPER.encode(&bytes)));
            let numbers: Vec<_> = bytes.iter().map(u8::to_string).collect();
            forms.push(("a list of numbers", numbers.join(", ")));
            forms.push(("a narrow list of numbers", numbers.join(",")));
            for shift in 0..3 {
                forms.push(("base64", within_base64(&BASE64_NOPAD, shift, &bytes)));
                forms.push(("base64url", within_base64(&BASE64URL_NOPAD, shift, &bytes)));
            }
            if let Ok(text) = std::str::from_utf8(&bytes) {
                let wide = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
                forms.push(("UTF-16LE", latin(&wide(u16::to_le_bytes))));
                forms.push(("UTF-16BE", latin(&wide(u16::to_be_bytes))));
                let quoted = serde_json::to_string(text).unwrap();
                forms.push(("JSON", latin(quoted.trim_matches('"').as_bytes())));
                forms.push((
                    "JSON in JSON",
                    latin(serde_json::to_string(&quoted).unwrap().trim_matches('"').as_bytes()),
                ));
                forms.push((
                    "escaped",
                    text.encode_utf16().fold(String::new(), |mut all, unit| {
                        write!(all, "\\u{unit:04x}").unwrap();
                        all
                    }),
                ));
                forms.push(("Debug", latin(format!("{text:?}").trim_matches('"').as_bytes())));
            } else {
                forms.push(("Debug", latin(bytes.escape_ascii().to_string().as_bytes())));
            }
        }
        Self { name, forms }
    }
}

/// The characters of base64 that only this mark decides, wherever it stands in what was encoded.
fn within_base64(encoding: &data_encoding::Encoding, shift: usize, mark: &[u8]) -> String {
    let text = encoding.encode(&[&vec![0; shift], mark].concat());
    let before = [0, 2, 3][shift];
    let behind = usize::from(!(shift + mark.len()).is_multiple_of(3));
    text[before..text.len() - behind].to_owned()
}

/// Where a mark was found, in words that do not repeat it.
fn hunt(marks: &[Mark], place: &str, bytes: &[u8]) -> Vec<String> {
    let text = latin(bytes);
    let mut found = Vec::new();
    for mark in marks {
        for (form, needle) in &mark.forms {
            if let Some(at) = text.find(needle.as_str()) {
                let from = text[..at].char_indices().rev().nth(120).map_or(0, |(from, _)| from);
                found.push(format!("{place}: the {} as {form}, behind {:?}", mark.name, &text[from..at]));
            }
        }
    }
    found
}

/// The marked values of one run.
struct Values {
    text: String,
    email: String,
    phone: String,
    name: String,
    address: String,
    json: String,
    card: String,
    bytes: Vec<u8>,
    /// What of them is looked for.
    marks: Vec<Mark>,
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes);
    bytes
}

fn letters() -> String {
    random::<14>().iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

fn digits(count: usize) -> String {
    random::<32>().iter().take(count).map(|byte| char::from(b'0' + byte % 10)).collect()
}

/// A number that a card could have.
fn card() -> String {
    let body = format!("4{}", digits(14));
    let right = |last: &u32| {
        let number = format!("{body}{last}");
        let sum: u32 = number
            .bytes()
            .rev()
            .enumerate()
            .map(|(at, byte)| {
                let digit = u32::from(byte - b'0') * (1 + u32::try_from(at % 2).unwrap());
                digit / 10 + digit % 10
            })
            .sum();
        sum.is_multiple_of(10)
    };
    format!("{body}{}", (0..10).find(right).unwrap())
}

impl Values {
    fn new() -> Self {
        let [text, email, first, last, street, key, inner] = std::array::from_fn(|_| letters());
        let (number, card, bytes) = (format!("1512{}", digits(7)), card(), random::<24>().to_vec());
        let marks = vec![
            Mark::new("text", text.as_bytes()),
            Mark::new("e-mail address", email.as_bytes()),
            Mark::new("first name", first.as_bytes()),
            Mark::new("last name", last.as_bytes()),
            Mark::new("street", street.as_bytes()),
            Mark::new("JSON key", key.as_bytes()),
            Mark::new("JSON value", inner.as_bytes()),
            Mark::new("phone number", number.as_bytes()),
            Mark::new("card number", card.as_bytes()),
            Mark::new("bytes", &bytes),
        ];
        Self {
            text: format!("She said: \"{text}!\"\nand ß"),
            email: format!("{email}@example.com"),
            phone: format!("+49{number}"),
            name: format!("O'{first}, {last}"),
            address: format!("{street} 5\n10115 Berlin; DE"),
            json: format!("{{\"{key}\": [\"{inner}\", 1]}}"),
            card,
            bytes,
            marks,
        }
    }

    /// Every value that is text.
    fn texts(&self) -> [&String; 7] {
        [&self.text, &self.email, &self.phone, &self.name, &self.address, &self.json, &self.card]
    }

    /// Values with their own types.
    fn good(&self) -> Vec<v1::FieldInput> {
        let bytes = Some(v1::field_input::Content::BytesValue(self.bytes.clone()));
        vec![
            field(v1::FieldType::Text, &self.text),
            field(v1::FieldType::Email, &self.email),
            field(v1::FieldType::Phone, &self.phone),
            field(v1::FieldType::PersonName, &self.name),
            field(v1::FieldType::PostalAddress, &self.address),
            field(v1::FieldType::Json, &self.json),
            v1::FieldInput { r#type: v1::FieldType::Bytes.into(), content: bytes, ..Default::default() },
        ]
    }
}

/// Keeps what a client gets to see, but for what it may see.
#[derive(Default)]
struct Ear {
    heard: Vec<(String, Vec<u8>)>,
    refusals: usize,
}

impl Ear {
    fn asked(&mut self, request: &impl Debug) {
        self.heard.push(("the Debug of a request".to_owned(), format!("{request:?} {request:#?}").into_bytes()));
    }

    fn refused(&mut self, status: &Status) {
        self.refusals += 1;
        let message = format!("{:?} {}", status.code(), status.message());
        self.heard.push((format!("an error, {message}"), message.clone().into_bytes()));
        self.heard.push((format!("details of {message}"), status.details().to_vec()));
        self.heard.push((format!("the Debug of {message}"), format!("{status:?}").into_bytes()));
    }

    fn answered<A: Message + Debug>(&mut self, answer: Result<Response<A>, Status>) -> Option<A> {
        match answer {
            Ok(answer) => {
                let debug = format!("{answer:?}").into_bytes();
                self.heard.push((format!("the Debug of {}", std::any::type_name::<A>()), debug));
                let answer = answer.into_inner();
                self.heard.push((format!("a {}", std::any::type_name::<A>()), answer.encode_to_vec()));
                Some(answer)
            }
            Err(status) => {
                self.refused(&status);
                None
            }
        }
    }

    /// The same for a reveal, whose values and echoes of tokens are what was asked for.
    fn revealed(&mut self, answer: Result<Response<v1::DetokenizeResponse>, Status>) -> Option<v1::DetokenizeResponse> {
        let answer = answer.map(|answer| {
            let debug = format!("{answer:?}").into_bytes();
            self.heard.push(("the Debug of a reveal".to_owned(), debug));
            answer.into_inner()
        });
        let mut rest = answer.as_ref().cloned().unwrap_or_default();
        for result in &mut rest.results {
            result.token.clear();
            if matches!(result.outcome, Some(Outcome::Value(_) | Outcome::BytesValue(_))) {
                result.outcome = None;
            }
        }
        self.answered(answer.as_ref().map(|_| Response::new(rest)).map_err(Status::clone));
        answer.ok()
    }
}

/// Asks, and keeps what can be seen of request and answer.
macro_rules! ask {
    ($ear:expr, $client:expr, $rpc:ident, $request:expr) => {{
        let request = $request;
        $ear.asked(&request);
        let answer = $client.$rpc(request).await;
        $ear.answered(answer)
    }};
}

fn tokenize(fields: Vec<v1::FieldInput>) -> v1::TokenizeRequest {
    v1::TokenizeRequest { source: "web_form:checkout".to_owned(), fields, ..Default::default() }
}

fn detokenize(tokens: &[String]) -> v1::DetokenizeRequest {
    let purpose = "customer_care".to_owned();
    v1::DetokenizeRequest { tokens: tokens.to_vec(), purpose, ..Default::default() }
}

/// Values where they belong, and where they do not, in every rpc about tokens. Answers a subject and its tokens.
async fn speak_of_tokens(door: &mut Door, values: &Values, ear: &mut Ear) -> (String, Vec<String>) {
    let kept = ask!(ear, door.tokens, tokenize, tokenize(values.good())).unwrap();
    let (subject, tokens): (String, Vec<_>) =
        (kept.subject, kept.tokens.into_iter().map(|token| token.token).collect());
    for text in values.texts() {
        let text = || text.clone();
        for number in -1..=16 {
            for format in [v1::TokenFormat::Opaque, v1::TokenFormat::Shaped] {
                let one =
                    v1::FieldInput { r#type: number, format: format.into(), ..field(v1::FieldType::Text, &text()) };
                ask!(ear, door.tokens, tokenize, tokenize(vec![v1::FieldInput { deduplicate: true, ..one.clone() }]));
                ask!(ear, door.tokens, tokenize, tokenize(vec![v1::FieldInput { tags: vec![text()], ..one.clone() }]));
                ask!(ear, door.tokens, tokenize, tokenize(vec![v1::FieldInput { retention_class: text(), ..one }]));
            }
            let find = v1::FindTokensRequest { r#type: number, value: text(), purpose: "customer_care".to_owned() };
            ask!(ear, door.tokens, find_tokens, find.clone());
            ask!(ear, door.tokens, find_tokens, v1::FindTokensRequest { purpose: text(), ..find });
            let long = v1::FieldInput { r#type: number, ..field(v1::FieldType::Text, &text().repeat(5000)) };
            ask!(ear, door.tokens, tokenize, tokenize(vec![long]));
        }
        let good = tokenize(values.good());
        ask!(ear, door.tokens, tokenize, v1::TokenizeRequest { subject: text(), ..good.clone() });
        ask!(ear, door.tokens, tokenize, v1::TokenizeRequest { source: text(), ..good.clone() });
        ask!(ear, door.tokens, tokenize, v1::TokenizeRequest { request_id: text(), ..good.clone() });
        let page = v1::ListTokensRequest { subject: subject.clone(), ..Default::default() };
        ask!(ear, door.tokens, list_tokens, v1::ListTokensRequest { subject: text(), ..page.clone() });
        ask!(ear, door.tokens, list_tokens, v1::ListTokensRequest { page_token: text(), ..page });
        ask!(ear, door.tokens, get_token, v1::GetTokenRequest { token: text() });
        let delete = v1::DeleteTokenRequest { token: text(), ..Default::default() };
        ask!(ear, door.tokens, delete_token, delete.clone());
        let delete = v1::DeleteTokenRequest { token: tokens[0].clone(), request_id: text() };
        ask!(ear, door.tokens, delete_token, delete);
        for token in &tokens {
            let update = v1::UpdateTokenRequest {
                token: token.clone(),
                content: Some(v1::update_token_request::Content::Value(text())),
                source: "call:2026".to_owned(),
                ..Default::default()
            };
            ask!(ear, door.tokens, update_token, v1::UpdateTokenRequest { token: text(), ..update.clone() });
            ask!(ear, door.tokens, update_token, v1::UpdateTokenRequest { source: text(), ..update.clone() });
            ask!(ear, door.tokens, update_token, v1::UpdateTokenRequest { etag: text(), ..update.clone() });
            ask!(ear, door.tokens, update_token, v1::UpdateTokenRequest { request_id: text(), ..update.clone() });
            // The JSON and the text become something else; what is marked stays behind a token of its own.
            ask!(ear, door.tokens, update_token, update);
        }
        reveal_wrongly(door, &tokens, &text(), ear).await;
    }
    stream(door, values, &tokens, ear).await;
    (subject, tokens)
}

/// A value in every part of a request to reveal.
async fn reveal_wrongly(door: &mut Door, tokens: &[String], text: &str, ear: &mut Ear) {
    let good = detokenize(tokens);
    for request in [
        detokenize(&[text.to_owned(), tokens[0].clone()]),
        v1::DetokenizeRequest { purpose: text.to_owned(), ..good.clone() },
        v1::DetokenizeRequest { justification: text.to_owned(), ..good },
    ] {
        ear.asked(&request);
        let answer = door.tokens.detokenize(request).await;
        ear.revealed(answer);
    }
}

/// Both streams, with values where they belong and where they do not.
async fn stream(door: &mut Door, values: &Values, tokens: &[String], ear: &mut Ear) {
    let good = tokenize(values.good());
    let requests = vec![
        good.clone(),
        v1::TokenizeRequest { source: values.text.clone(), ..good.clone() },
        v1::TokenizeRequest { subject: values.email.clone(), ..good },
        tokenize(vec![field(v1::FieldType::Email, &values.name), field(v1::FieldType::Text, &values.card)]),
    ];
    let mut answers = door.tokens.tokenize_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(answer) = answers.next().await {
        count += 1;
        ear.answered(answer.map(Response::new));
    }
    assert_eq!(count, 4);
    let good = detokenize(tokens);
    let requests = vec![
        v1::DetokenizeRequest { purpose: values.phone.clone(), ..good },
        detokenize(std::slice::from_ref(&values.json)),
    ];
    let mut answers = door.tokens.detokenize_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    while let Some(answer) = answers.next().await {
        use v1::detokenize_stream_response::Outcome;
        match answer.unwrap().outcome.unwrap() {
            Outcome::Response(response) => drop(ear.revealed(Ok(Response::new(response)))),
            Outcome::Error(error) => drop(ear.answered(Ok(Response::new(error)))),
        }
    }
}

/// Values in what a caller says that a call is part of.
async fn part_of_a_trace(door: &mut Door, values: &Values, tokens: &[String]) {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (parent, state) in [(PARENT, &*values.card), (&*values.phone, "a=b"), (PARENT, &*values.email)] {
        let mut request = Request::new(detokenize(tokens));
        let headers = request.metadata_mut();
        headers.insert("traceparent", parent.parse().unwrap());
        headers.insert("tracestate", format!("vendor={state}").parse().unwrap());
        headers.insert("baggage", format!("user={state}").parse().unwrap());
        headers.insert("x-request-id", state.parse().unwrap());
        door.tokens.detokenize(request).await.unwrap();
    }
}

/// Values where they do not belong, in every rpc about subjects, and an erasure.
async fn speak_of_subjects(door: &mut Door, values: &Values, subject: &str, ear: &mut Ear) {
    let subject = || subject.to_owned();
    for text in values.texts() {
        let text = || text.clone();
        let create = v1::CreateSubjectRequest { source: "crm".to_owned(), ..Default::default() };
        for create in [
            v1::CreateSubjectRequest { kind: text(), ..create.clone() },
            v1::CreateSubjectRequest { jurisdiction: text(), ..create.clone() },
            v1::CreateSubjectRequest { request_id: text(), ..create.clone() },
            v1::CreateSubjectRequest { source: text(), ..create },
        ] {
            ask!(ear, door.subjects, create_subject, create);
        }
        ask!(ear, door.subjects, get_subject, v1::GetSubjectRequest { subject: text() });
        let filter = Some(v1::SubjectFilter { kind: text(), ..Default::default() });
        ask!(ear, door.subjects, list_subjects, v1::ListSubjectsRequest { filter, ..Default::default() });
        ask!(ear, door.subjects, list_subjects, v1::ListSubjectsRequest { page_token: text(), ..Default::default() });
        let restrict = v1::RestrictSubjectRequest { subject: subject(), ground: "claims".to_owned(), etag: text() };
        ask!(ear, door.subjects, restrict_subject, restrict.clone());
        ask!(ear, door.subjects, restrict_subject, v1::RestrictSubjectRequest { subject: text(), ..restrict });
        let restrict = v1::RestrictSubjectRequest { subject: subject(), ground: text(), ..Default::default() };
        ask!(ear, door.subjects, restrict_subject, restrict);
        let informed = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 });
        let lift = v1::LiftRestrictionRequest { subject: subject(), subject_informed_time: informed, etag: text() };
        ask!(ear, door.subjects, lift_restriction, lift.clone());
        ask!(ear, door.subjects, lift_restriction, v1::LiftRestrictionRequest { subject: text(), ..lift });
        let profiling = v1::SetProfilingRequest { subject: subject(), enabled: true, etag: text() };
        ask!(ear, door.subjects, set_profiling, profiling.clone());
        ask!(ear, door.subjects, set_profiling, v1::SetProfilingRequest { subject: text(), ..profiling });
        let erase = v1::EraseSubjectRequest { subject: subject(), reason: "t-1".to_owned(), ..Default::default() };
        for erase in [
            v1::EraseSubjectRequest { subject: text(), ..erase.clone() },
            v1::EraseSubjectRequest { reason: text(), ..erase.clone() },
            v1::EraseSubjectRequest { request_id: text(), ..erase },
        ] {
            ask!(ear, door.subjects, erase_subject, erase);
        }
        ask!(ear, door.subjects, get_erasure, v1::GetErasureRequest { erasure: text() });
        ask!(ear, door.subjects, cancel_erasure, v1::CancelErasureRequest { erasure: text() });
        ask!(ear, door.subjects, get_receipt, v1::GetReceiptRequest { erasure: text() });
        ask!(ear, door.subjects, list_erasures, v1::ListErasuresRequest { page_token: text(), ..Default::default() });
    }
    let erase = v1::EraseSubjectRequest { subject: subject(), reason: "t-1".to_owned(), ..Default::default() };
    let erasure = ask!(ear, door.subjects, erase_subject, erase).unwrap().erasure.unwrap();
    assert_eq!(erasure.state(), v1::ErasureState::Shredded);
    ask!(ear, door.subjects, get_receipt, v1::GetReceiptRequest { erasure: erasure.erasure }).unwrap();
}

/// Values in rows of a telephone system: in columns that are kept, in those that are passed over, and where they do not belong.
async fn speak_of_rows(door: &mut Door, values: &Values, ear: &mut Ear) {
    let header = ["id", "began", "from", "name", "queue", "other"].map(str::to_owned).to_vec();
    let columns = [
        ("source_call_id", "id"),
        ("start_time", "began"),
        ("caller_number", "from"),
        ("name", "name"),
        ("queue", "queue"),
    ];
    let mapping = v1::CdrMapping {
        format: v1::CdrFormat::GenericCsv.into(),
        source_system: "rows".to_owned(),
        header,
        columns: columns.map(|(field, column)| (field.to_owned(), column.to_owned())).into(),
        direction: v1::CallDirection::Inbound.into(),
        ..Default::default()
    };
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    for text in values.texts() {
        for wrong in 0..6 {
            let mut cells = ["r-1", "2026-11-21 12:00:00", "+49301112223", "Somebody", "", ""].map(str::to_owned);
            // A code is in clear, so a queue is no place for a value.
            if wrong != 4 && wrong != 0 {
                cells[wrong].clone_from(text);
                cells[0] = format!("r-{wrong}");
            }
            let content = cells.map(|cell| quoted(&cell)).join(",");
            let row = Some(v1::CdrRow { row: 1, content });
            let ask = v1::ImportCdrRequest { mapping: Some(mapping.clone()), row };
            ear.asked(&ask);
            let answers = door.calls.import_cdr(tokio_stream::iter([ask])).await;
            let mut answers = answers.unwrap().into_inner();
            while let Some(answer) = answers.message().await.unwrap() {
                ear.heard.push(("what became of a row".to_owned(), format!("{answer:?}").into_bytes()));
            }
        }
        let changes: [fn(&mut v1::CdrMapping, String); 6] = [
            |told, text| told.source_system = text,
            |told, text| told.utc_offset = text,
            |told, text| told.time_format = text,
            |told, text| told.header[0] = text,
            |told, text| drop(told.columns.insert("queue".to_owned(), text)),
            |told, text| drop(told.columns.insert(text, "id".to_owned())),
        ];
        for change in changes {
            let mut told = mapping.clone();
            change(&mut told, text.clone());
            let ask = v1::ImportCdrRequest { mapping: Some(told), row: None };
            let refused = door.calls.import_cdr(tokio_stream::iter([ask])).await.map(drop);
            ear.heard.push(("a mapping that was refused".to_owned(), format!("{refused:?}").into_bytes()));
        }
    }
}

/// Values in conversations, where they belong and where they do not, and in questions for one.
async fn speak_of_documents(door: &mut Door, values: &Values, call: &str, ear: &mut Ear) {
    let mapping = v1::VconMapping { source_system: "documents".to_owned(), ..Default::default() };
    let good = serde_json::json!({
        "uuid": "01928e10-193e-8231-b9a2-279e0d16bc46",
        "created_at": "2026-01-31T09:30:00Z",
        "subject": "",
        "parties": [{ "tel": values.phone, "name": values.name, "mailto": "", "role": "customer" }, { "role": "agent", "uuid": "" }],
        "dialog": [
            { "type": "text", "start": "2026-01-31T09:30:00Z", "parties": [0], "body": "", "filename": "" },
            { "type": "recording", "start": "2026-01-31T09:30:00Z", "parties": [0, 1], "url": "https://rec.example/a.wav" },
        ],
        "analysis": [{ "type": "summary", "vendor": "", "body": "" }],
        "attachments": [{ "purpose": "", "party": 0, "dialog": 0, "start": "2026-01-31T09:30:00Z", "body": "" }],
    });
    // An id is in clear, so a value is no UUID.
    let places = [
        "/subject",
        "/created_at",
        "/parties/0/mailto",
        "/parties/0/tel",
        "/parties/0/role",
        "/parties/1/uuid",
        "/dialog/0/type",
        "/dialog/0/start",
        "/dialog/0/body",
        "/dialog/0/filename",
        "/dialog/1/url",
        "/analysis/0/type",
        "/analysis/0/vendor",
        "/analysis/0/body",
        "/attachments/0/purpose",
        "/attachments/0/body",
    ];
    for (number, text) in values.texts().into_iter().enumerate() {
        let mut documents = vec![text.clone().into_bytes()];
        for (at, place) in places.iter().enumerate() {
            let mut document = good.clone();
            *document.pointer_mut(place).unwrap() = text.clone().into();
            document["uuid"] = format!("01928e10-193e-8231-b9a2-{number:06}{at:06}").into();
            documents.push(document.to_string().into_bytes());
        }
        let mut told = Some(mapping.clone());
        for content in documents {
            let ask = v1::ImportVconRequest {
                mapping: told.take().or_else(|| Some(mapping.clone())),
                document: Some(v1::VconDocument { number: 1, content }),
            };
            ear.asked(&ask);
            let mut answers = door.calls.import_vcon(tokio_stream::iter([ask])).await.unwrap().into_inner();
            while let Some(answer) = answers.message().await.unwrap() {
                ear.heard.push(("what became of a document".to_owned(), format!("{answer:?}").into_bytes()));
            }
        }
        let changes: [fn(&mut v1::VconMapping, String); 4] = [
            |told, text| told.source_system = text,
            |told, text| told.signers = text.into_bytes(),
            |told, text| told.retention_class = text,
            |told, text| told.part_retention_class = text,
        ];
        for change in changes {
            let mut told = mapping.clone();
            change(&mut told, text.clone());
            let ask = v1::ImportVconRequest { mapping: Some(told), document: None };
            let refused = door.calls.import_vcon(tokio_stream::iter([ask])).await.map(drop);
            ear.heard.push(("a mapping that was refused".to_owned(), format!("{refused:?}").into_bytes()));
        }
        let text = || text.clone();
        let export = || v1::ExportVconRequest {
            call: call.to_owned(),
            view: v1::VconView::Redacted.into(),
            purpose: "customer_care".to_owned(),
            ..Default::default()
        };
        ask!(ear, door.calls, export_vcon, v1::ExportVconRequest { call: text(), ..export() });
        ask!(ear, door.calls, export_vcon, v1::ExportVconRequest { for_subject: text(), ..export() });
        ask!(ear, door.calls, export_vcon, v1::ExportVconRequest { purpose: text(), ..export() });
        ask!(ear, door.calls, export_vcon, v1::ExportVconRequest { justification: text(), ..export() });
    }
    let whole = v1::ExportVconRequest {
        call: call.to_owned(),
        view: v1::VconView::Full.into(),
        purpose: "customer_care".to_owned(),
        ..Default::default()
    };
    // This is an answer to a permitted reveal.
    door.calls.export_vcon(whole).await.unwrap();
}

/// Values where they belong in a call, and where they do not, in every rpc about calls.
async fn speak_of_calls(door: &mut Door, values: &Values, ear: &mut Ear) {
    let party = v1::PartyInput {
        number: values.phone.clone(),
        name: values.name.clone(),
        place: values.address.clone(),
        note: values.text.clone(),
        ..customer("", "")
    };
    let good = leg("1.1", 1, vec![party.clone()]);
    let kept = ask!(ear, door.calls, upsert_call, good.clone()).unwrap().call.unwrap();
    ask!(ear, door.calls, upsert_call, good.clone()).unwrap();
    // What is told last takes the place of what was there.
    let corrected = v1::PartyInput { note: values.json.clone(), ..party.clone() };
    ask!(ear, door.calls, upsert_call, v1::UpsertCallRequest { revision: 2, parties: vec![corrected], ..good.clone() });
    ask!(ear, door.calls, upsert_call, v1::UpsertCallRequest { revision: 2, ..good.clone() });
    let part = v1::AttachPartRequest {
        call: kept.call.clone(),
        party: 1,
        kind: v1::PartKind::Transcript.into(),
        body: Some(v1::attach_part_request::Body::Text(values.text.clone())),
        ..Default::default()
    };
    ask!(ear, door.calls, attach_part, part.clone()).unwrap();
    let recording = v1::AttachPartRequest { body: None, ..part.clone() };
    let recording = ask!(ear, door.calls, attach_part, recording).unwrap().part.unwrap().part;
    let key = v1::GetMediaKeyRequest { part: recording, purpose: "customer_care".to_owned(), ..Default::default() };
    let call = kept.call.clone();
    let show =
        v1::GetCallRequest { call: kept.call.clone(), purpose: "customer_care".to_owned(), ..Default::default() };
    for text in values.texts() {
        let text = || text.clone();
        let with = |change: fn(&mut v1::UpsertCallRequest, String)| {
            let mut told = good.clone();
            change(&mut told, text());
            told
        };
        let changes: [fn(&mut v1::UpsertCallRequest, String); 12] = [
            |told, text| told.source_system = text,
            |told, text| told.source_call_id = text,
            |told, text| told.group_id = text,
            |told, text| told.queue = text,
            |told, text| told.skill = text,
            |told, text| told.campaign = text,
            |told, text| told.contact_list = text,
            |told, text| told.request_id = text,
            |told, text| told.parties[0].subject = text,
            |told, text| told.parties[0].agent_id = text,
            |told, text| told.parties[0].retention_class = text,
            // A number that nobody can dial is kept as a text.
            |told, text| (told.source_call_id, told.parties[0].number) = ("1.2".to_owned(), text),
        ];
        for change in changes {
            ask!(ear, door.calls, upsert_call, with(change));
        }
        let changes: [fn(&mut v1::AttachPartRequest, String); 7] = [
            |told, text| told.call = text,
            |told, text| told.part = text,
            |told, text| told.retention_class = text,
            |told, text| told.media_type = text,
            |told, text| told.request_id = text,
            |told, text| told.body = Some(v1::attach_part_request::Body::Uri(text)),
            |told, text| told.sha256 = text.into_bytes(),
        ];
        for change in changes {
            let mut told = part.clone();
            change(&mut told, text());
            ask!(ear, door.calls, attach_part, told);
        }
        ask!(ear, door.calls, get_media_key, v1::GetMediaKeyRequest { part: text(), ..key.clone() });
        ask!(ear, door.calls, get_media_key, v1::GetMediaKeyRequest { purpose: text(), ..key.clone() });
        ask!(ear, door.calls, get_media_key, v1::GetMediaKeyRequest { justification: text(), ..key.clone() });
        ask!(ear, door.calls, get_call, v1::GetCallRequest { call: text(), ..show.clone() });
        ask!(ear, door.calls, get_call, v1::GetCallRequest { purpose: text(), ..show.clone() });
        ask!(ear, door.calls, get_call, v1::GetCallRequest { justification: text(), ..show.clone() });
        speak_of_relinks(door, &kept, &text(), ear).await;
        let list = v1::ListCallsRequest::default();
        ask!(ear, door.calls, list_calls, v1::ListCallsRequest { subject: text(), ..list.clone() });
        ask!(ear, door.calls, list_calls, v1::ListCallsRequest { agent: text(), ..list.clone() });
        ask!(ear, door.calls, list_calls, v1::ListCallsRequest { queue: text(), ..list.clone() });
        let (source_system, source_call_id) = ("pbx".to_owned(), text());
        ask!(ear, door.calls, list_calls, v1::ListCallsRequest { source_system, source_call_id, ..list.clone() });
        ask!(ear, door.calls, list_calls, v1::ListCallsRequest { page_token: text(), ..list });
    }
    speak_of_rows(door, values, ear).await;
    speak_of_documents(door, values, &call, ear).await;
    ask!(ear, door.calls, list_calls, v1::ListCallsRequest::default()).unwrap();
    ear.asked(&show);
    let mut shown = door.calls.get_call(show).await.unwrap();
    ear.heard.push(("the Debug of a call".to_owned(), format!("{shown:?}").into_bytes()));
    let parties = shown.get_mut().call.as_mut().unwrap().parties.iter_mut();
    let shown_values: usize = parties
        .flat_map(|party| &mut party.values)
        .map(|value| usize::from(matches!(value.outcome.take(), Some(v1::call_value::Outcome::Value(_)))))
        .sum();
    assert_eq!(shown_values, 4, "number, name, place and note");
    let part = &mut shown.get_mut().call.as_mut().unwrap().parts[0];
    assert!(matches!(part.outcome.take(), Some(v1::call_part::Outcome::Text(_))));
    ear.answered(Ok(shown));
}

/// Says marked words wherever whose a call is can be told.
async fn speak_of_relinks(door: &mut Door, call: &v1::Call, text: &str, ear: &mut Ear) {
    let text = || text.to_owned();
    let relink = v1::RelinkCallerRequest {
        call: call.call.clone(),
        from_subject: call.parties[0].subject.clone(),
        reason: v1::RelinkReason::Mistaken.into(),
        evidence: "ticket 1".to_owned(),
        ..Default::default()
    };
    ask!(ear, door.calls, relink_caller, v1::RelinkCallerRequest { call: text(), ..relink.clone() });
    ask!(ear, door.calls, relink_caller, v1::RelinkCallerRequest { from_subject: text(), ..relink.clone() });
    ask!(ear, door.calls, relink_caller, v1::RelinkCallerRequest { to_subject: text(), ..relink.clone() });
    ask!(ear, door.calls, relink_caller, v1::RelinkCallerRequest { request_id: text(), ..relink });
}

/// Stands between the vault and PostgreSQL and keeps all that the vault sends: what the server could log.
struct Wire {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Wire {
    fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self { address: listener.local_addr().unwrap(), sent: Arc::default() };
        let sent = Arc::clone(&wire.sent);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                let (mut back_to, mut back_from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let sent = Arc::clone(&sent);
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(count @ 1..) = client.read(&mut buffer) {
                        sent.lock().unwrap().extend_from_slice(&buffer[..count]);
                        if server.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = server.shutdown(std::net::Shutdown::Both);
                });
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut back_from, &mut back_to);
                    let _ = back_to.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        wire
    }
}

/// All files below a folder, but for the one that holds the credential.
fn hunt_files(marks: &[Mark], folder: &Path, found: &mut Vec<String>, count: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            hunt_files(marks, &path, found, count);
        } else if !path.ends_with("dev-token") {
            *count += 1;
            found.extend(hunt(marks, &path.display().to_string(), &fs::read(&path).unwrap()));
        }
    }
}

fn dump(url: &str) -> Vec<u8> {
    let folder = setting("LACUNA_TEST_PG_BIN").unwrap_or_default();
    let output = Command::new(Path::new(&folder).join("pg_dump")).args(["--dbname", url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn the_hunter_finds_what_is_planted() {
    for mark in [b"qwertzuiopas".as_slice(), "stra\u{df}e \"5\"".as_bytes(), &random::<24>()] {
        let marks = [Mark::new("mark", mark)];
        let around = |planted: &[u8]| [b"before it ", planted, b" behind it"].concat();
        let mut planted = vec![mark.to_vec(), HEXLOWER.encode(mark).into_bytes(), HEXUPPER.encode(mark).into_bytes()];
        for shift in 0..3 {
            planted.push(BASE64.encode(&[&b"abc"[..shift], mark, b"xyz"].concat()).into_bytes());
            planted.push(BASE64.encode(&[&b"abc"[..shift], mark].concat()).into_bytes());
            planted.push(BASE64URL_NOPAD.encode(&[&b"abc"[..shift], mark].concat()).into_bytes());
        }
        planted.push(format!("{mark:?}").into_bytes());
        if let Ok(text) = std::str::from_utf8(mark) {
            planted.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
            planted.push(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
            planted.push(serde_json::to_vec(text).unwrap());
            planted
                .push(serde_json::to_vec(&serde_json::json!({ "in": serde_json::to_string(text).unwrap() })).unwrap());
            planted.push(format!("{text:?}").into_bytes());
            planted.push(text.to_uppercase().into_bytes());
        }
        for planted in planted {
            assert!(!hunt(&marks, "here", &around(&planted)).is_empty(), "{}", latin(&planted));
        }
        assert_eq!(hunt(&marks, "here", b"nothing of it: qwertzuiopa stra5 51"), Vec::<String>::new());
    }
}

outside_on_both_stores! {
    async fn no_value_is_anywhere_but_in_the_answer_to_a_permitted_reveal(vault: Outside) {
        let mut values = Values::new();
        let (collector, address) = Collector::new().await;
        vault.configure(&format!("{}[log]\nfilter = \"trace\"\njson = true", telling(address, 1.0)));
        let free = free_address();
        let mut url = vault.url();
        let wire = vault.database.as_ref().map(|database| {
            let mut through = url::Url::parse(&database.url()).unwrap();
            let wire = Wire::to(format!("{}:{}", through.host_str().unwrap(), through.port().unwrap_or(5432)));
            through.set_ip_host(wire.address.ip()).unwrap();
            through.set_port(Some(wire.address.port())).unwrap();
            through.query_pairs_mut().append_pair("sslmode", "disable");
            url = through.to_string();
            wire
        });
        let mut command = vault.serve_through(&url);
        command.args(["--metrics-listen", &free.to_string()]);
        let mut door = vault.start_with(command, &[]).unwrap();
        let credential = fs::read_to_string(vault.place.token()).unwrap();
        values.marks.push(Mark::new("bearer token", credential.trim().as_bytes()));

        let mut ear = Ear::default();
        let (subject, _) = speak_of_tokens(&mut door, &values, &mut ear).await;
        let kept = ask!(ear, door.tokens, tokenize, tokenize(values.good())).unwrap();
        let tokens: Vec<_> = kept.tokens.into_iter().map(|token| token.token).collect();
        let revealed = door.tokens.detokenize(detokenize(&tokens)).await;
        let answer = ear.revealed(revealed).unwrap();
        speak_of_subjects(&mut door, &values, &subject, &mut ear).await;
        speak_of_calls(&mut door, &values, &mut ear).await;
        part_of_a_trace(&mut door, &values, &tokens).await;
        assert!(ear.refusals > 500, "only {} of the bad calls were refused", ear.refusals);

        // The marks are where they may be, and the hunter sees them there.
        let bytes = answer.encode_to_vec();
        for mark in values.marks.iter().filter(|mark| !["card number", "bearer token"].contains(&mark.name)) {
            assert!(!hunt(std::slice::from_ref(mark), "reveal", &bytes).is_empty(), "{} does not come back", mark.name);
        }

        let mut found = Vec::new();
        for (place, bytes) in &ear.heard {
            found.extend(hunt(&values.marks, place, bytes));
        }
        let page = metrics(free);
        assert!(latin(&page).contains("lacuna_reveals_total"));
        found.extend(hunt(&values.marks, "metrics", &page));
        found.extend(hunt(&values.marks, "standard output", door.server.output().as_bytes()));
        let log = vault.place.log();
        assert!(log.contains("\"level\":\"INFO\""), "nothing was logged");
        for line in log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()) {
            let ours = line["target"].as_str().unwrap().starts_with("lacuna::");
            assert!(ours || !["DEBUG", "TRACE"].contains(&line["level"].as_str().unwrap()), "{line}");
        }
        let mut files = 0;
        hunt_files(&values.marks, vault.place.path(), &mut found, &mut files);
        assert!(door.server.stop().success());
        hunt_files(&values.marks, vault.place.path(), &mut found, &mut files);
        let spans = collector.spans();
        assert!(spans.len() > 1000, "only {} spans were told", spans.len());
        found.extend(hunt(&values.marks, "the spans", &collector.bytes()));
        found.extend(hunt(&values.marks, "the Debug of spans", format!("{spans:?}").as_bytes()));
        assert!(files > 10, "only {files} files were looked into");
        if let (Some(database), Some(wire)) = (&vault.database, &wire) {
            let dump = dump(&database.url());
            assert!(latin(&dump).contains("CREATE TABLE"));
            found.extend(hunt(&values.marks, "the database", &dump));
            let sent = wire.sent.lock().unwrap();
            assert!(latin(&sent).contains("INSERT INTO token"));
            found.extend(hunt(&values.marks, "what PostgreSQL was sent", &sent));
        }
        found.sort();
        found.dedup();
        assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
    }
}
