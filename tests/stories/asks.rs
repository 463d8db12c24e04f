//! Short ways to ask, and to look closely at a refusal.

use std::collections::HashMap;
use std::time::Duration;

use lacuna::model::Clock as _;
use lacuna::proto::v1;
use prost::Message as _;
use prost_types::Timestamp;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::house::{House, field};

pub const CARE: &str = "customer_care";
pub const HOUR: Duration = Duration::from_hours(1);

/// A request to tokenize for a subject, or for a new one.
pub fn tokenize(subject: &str, fields: Vec<v1::FieldInput>) -> v1::TokenizeRequest {
    let (subject, source) = (subject.to_owned(), "web_form:checkout".to_owned());
    v1::TokenizeRequest { subject, source, fields, ..Default::default() }
}

/// A request to reveal.
pub fn detokenize(tokens: &[String], purpose: &str) -> v1::DetokenizeRequest {
    v1::DetokenizeRequest { tokens: tokens.to_vec(), purpose: purpose.to_owned(), ..Default::default() }
}

/// A request to define a collection point.
pub fn point(name: &str, kind: v1::CollectionPointKind) -> v1::DefineCollectionPointRequest {
    let point = v1::CollectionPoint { collection_point: name.to_owned(), kind: kind.into(), ..Default::default() };
    v1::DefineCollectionPointRequest { collection_point: Some(point) }
}

/// A request to erase now.
pub fn erase(subject: &str) -> v1::EraseSubjectRequest {
    v1::EraseSubjectRequest { subject: subject.to_owned(), reason: "art17_1_b".to_owned(), ..Default::default() }
}

/// A request to put another text behind a token.
pub fn correct(token: &str, text: &str) -> v1::UpdateTokenRequest {
    let content = Some(v1::update_token_request::Content::Value(text.to_owned()));
    let (token, source) = (token.to_owned(), "web_form:profile".to_owned());
    v1::UpdateTokenRequest { token, content, source, ..Default::default() }
}

/// Some text to tokenize.
pub fn text(value: &str) -> v1::FieldInput {
    field(v1::FieldType::Text, value)
}

/// The same field with a token in its shape.
pub fn shaped(kind: v1::FieldType, value: &str) -> v1::FieldInput {
    v1::FieldInput { format: v1::TokenFormat::Shaped.into(), ..field(kind, value) }
}

/// The same field for a token that may be there already.
pub fn shared(kind: v1::FieldType, value: &str) -> v1::FieldInput {
    v1::FieldInput { deduplicate: true, ..field(kind, value) }
}

/// A UUID made of a number.
pub fn request_id(number: u128) -> String {
    uuid::Uuid::from_u128(number).to_string()
}

/// What an error says beside its reason.
pub fn metadata(status: &Status) -> HashMap<String, String> {
    status.get_details_error_info().unwrap().metadata
}

/// The refusal of one item.
pub fn refusal(result: &v1::DetokenizeResult) -> Status {
    match result.outcome.as_ref().unwrap() {
        v1::detokenize_result::Outcome::Error(error) => {
            Status::with_details(error.code.into(), error.message.clone(), error.encode_to_vec().into())
        }
        _ => panic!("{} was revealed", result.token),
    }
}

/// A moment, to be compared.
pub fn moment(time: Option<Timestamp>) -> (i64, i32) {
    time.map(|time| (time.seconds, time.nanos)).unwrap()
}

/// `count` times the same refusal.
pub fn all_refused(count: usize, reason: &str) -> Vec<Result<String, String>> {
    vec![Err(reason.to_owned()); count]
}

impl House {
    /// The moment so much after now.
    pub fn in_time(&self, by: Duration) -> Timestamp {
        let micros = self.clock.now().plus(by).micros();
        Timestamp { seconds: micros / 1_000_000, nanos: i32::try_from(micros % 1_000_000 * 1_000).unwrap() }
    }

    /// Tokenizes one field for a subject, or for a new one.
    pub async fn one(&mut self, subject: &str, field: v1::FieldInput) -> v1::Token {
        let response = self.tokens.tokenize(tokenize(subject, vec![field])).await.unwrap().into_inner();
        response.tokens.into_iter().next().unwrap()
    }

    /// What the vault tells of a token.
    pub async fn token(&mut self, token: &str) -> v1::Token {
        let request = v1::GetTokenRequest { token: token.to_owned() };
        self.tokens.get_token(request).await.unwrap().into_inner().token.unwrap()
    }

    /// All tokens of a subject.
    pub async fn tokens_of(&mut self, subject: &str) -> Vec<v1::Token> {
        let request = v1::ListTokensRequest { subject: subject.to_owned(), page_size: 1000, ..Default::default() };
        self.tokens.list_tokens(request).await.unwrap().into_inner().tokens
    }

    /// Every result of a reveal.
    pub async fn results(&mut self, tokens: &[String], purpose: &str) -> Vec<v1::DetokenizeResult> {
        self.tokens.detokenize(detokenize(tokens, purpose)).await.unwrap().into_inner().results
    }

    /// How the keys are.
    pub async fn keys(&self) -> lacuna::keys::status::Status {
        let custody = self.running().vault.custody();
        lacuna::keys::status::ask(custody.store(), custody.slot(), custody.sinks()).await.unwrap()
    }

    /// Everything that the database holds of people: subjects, tokens and erasures.
    pub async fn everything(&self) -> String {
        let mut tx = self.running().vault.custody().store().read().await.unwrap();
        let people = tx.list_subjects(&lacuna::store::subject::Filter::default(), None, 10_000).await.unwrap();
        let tokens = tx.scan_tokens(None, 10_000).await.unwrap();
        let erasures = tx.list_erasures(None, 10_000).await.unwrap();
        format!("{people:#?}\n{tokens:#?}\n{erasures:#?}")
    }
}
