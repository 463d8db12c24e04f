//! What is asked of the vault: synthetic people, the same shape for every call, no two values alike.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tonic::Status;

use super::What;
use super::measure::Pace;
use crate::cli::client::Vault;
use crate::cli::failure::Result;
use crate::crypto::{Random as _, SystemRandom};
use crate::proto::v1::{self, detokenize_result, field_input};

/// People whose tokens are revealed again and again: 3000 tokens.
const READERS: usize = 1000;

/// People prepared for each call in flight and second of an erasure run; a run that uses them up ends early.
const ERASED_PER_CALL_SECOND: usize = 40;

/// The most people prepared for an erasure run.
const MOST_ERASED: usize = 200_000;

/// The purpose that an unconfigured vault grants.
pub const PURPOSE: &str = "customer_care";

/// What calls draw from. Clones share the drawing.
#[derive(Clone)]
pub struct Corpus {
    run: u32,
    purpose: &'static str,
    next: Arc<AtomicUsize>,
    tokens: Arc<Vec<String>>,
    subjects: Arc<Vec<String>>,
}

impl Corpus {
    /// Seals the people that a measurement needs.
    pub async fn prepare(vault: &Vault, what: What, pace: Pace) -> Result<Self> {
        let in_flight = usize::try_from(pace.in_flight).unwrap_or(1);
        let seconds = usize::try_from(pace.span.as_secs()).unwrap_or(1);
        let people = match what {
            What::Tokenize => 0,
            What::Reveal | What::RevealTen | What::RevealBatch | What::RevealStream => READERS,
            What::Erase => MOST_ERASED.min(in_flight.saturating_mul(seconds).saturating_mul(ERASED_PER_CALL_SECOND)),
        };
        let run = run_number();
        let sealed: Vec<_> = stream::iter(0..people)
            .map(|number| {
                let mut tokens = vault.tokens.clone();
                async move { Ok::<_, Status>(tokens.tokenize(person(run, number)).await?.into_inner()) }
            })
            .buffered(in_flight)
            .try_collect()
            .await?;
        let tokens = sealed.iter().flat_map(|person| person.tokens.iter().map(|token| token.token.clone()));
        Ok(Self {
            run,
            purpose: PURPOSE,
            next: Arc::new(AtomicUsize::new(people)),
            tokens: Arc::new(tokens.collect()),
            subjects: Arc::new(sealed.iter().map(|person| person.subject.clone()).collect()),
        }
        .again())
    }

    /// The same corpus, drawn from the beginning.
    pub fn again(&self) -> Self {
        Self { next: Arc::new(AtomicUsize::new(0)), ..self.clone() }
    }

    /// The same corpus, revealed for a purpose.
    pub fn for_purpose(&self, purpose: &'static str) -> Self {
        Self { purpose, ..self.again() }
    }

    /// The people.
    pub fn subjects(&self) -> &[String] {
        &self.subjects
    }

    /// The request that the next call makes; `None` when there is nobody left to erase.
    pub fn draw(&self, what: What) -> Option<Request> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some(match what {
            What::Tokenize => Request::Tokenize(person(self.run, number)),
            What::Reveal | What::RevealTen | What::RevealBatch | What::RevealStream => {
                Request::Reveal(self.reveal(what, number))
            }
            What::Erase => Request::Erase(v1::EraseSubjectRequest {
                subject: self.subjects.get(number)?.clone(),
                reason: "bench".to_owned(),
                ..Default::default()
            }),
        })
    }

    /// The request that the next message of a stream makes.
    pub fn draw_reveal(&self) -> v1::DetokenizeRequest {
        self.reveal(What::RevealStream, self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn reveal(&self, what: What, number: usize) -> v1::DetokenizeRequest {
        let many = usize::try_from(what.values()).unwrap_or(1);
        let first = number.wrapping_mul(many);
        let tokens = (0..many).filter_map(|at| self.tokens.get(first.wrapping_add(at) % self.tokens.len().max(1)));
        v1::DetokenizeRequest {
            channel: 0,
            tokens: tokens.cloned().collect(),
            purpose: self.purpose.to_owned(),
            redaction: v1::Redaction::PlainText.into(),
            justification: String::new(),
        }
    }
}

/// Where calls go.
pub trait Door: Clone + Send + 'static {
    /// Makes a call and checks that the answer is what was asked for.
    fn call(&mut self, request: Request) -> impl Future<Output = Result<(), Status>> + Send;
}

impl Door for Vault {
    async fn call(&mut self, request: Request) -> Result<(), Status> {
        request.call(self).await
    }
}

/// One call of a load.
pub enum Request {
    /// `Tokenize`.
    Tokenize(v1::TokenizeRequest),
    /// `Detokenize`.
    Reveal(v1::DetokenizeRequest),
    /// `EraseSubject`.
    Erase(v1::EraseSubjectRequest),
}

impl Request {
    /// Makes the call and checks that the answer is what was asked for.
    pub async fn call(self, vault: &mut Vault) -> Result<(), Status> {
        match self {
            Self::Tokenize(request) => {
                let asked = request.fields.len();
                let tokens = vault.tokens.tokenize(request).await?.into_inner().tokens.len();
                if tokens == asked { Ok(()) } else { Err(Status::internal("tokens are missing")) }
            }
            Self::Reveal(request) => {
                let asked = request.tokens.len();
                check(&vault.tokens.detokenize(request).await?.into_inner(), asked)
            }
            Self::Erase(request) => {
                let erasure = vault.subjects.erase_subject(request).await?.into_inner().erasure.unwrap_or_default();
                match erasure.state() {
                    v1::ErasureState::Shredded => Ok(()),
                    state => Err(Status::internal(format!("an erasure is {}", state.as_str_name()))),
                }
            }
        }
    }
}

/// Every token must have given its value.
pub fn check(response: &v1::DetokenizeResponse, asked: usize) -> Result<(), Status> {
    use detokenize_result::Outcome;
    if response.results.len() != asked {
        return Err(Status::internal("results are missing"));
    }
    response.results.iter().try_for_each(|result| match &result.outcome {
        Some(Outcome::Value(_) | Outcome::BytesValue(_)) => Ok(()),
        Some(Outcome::Error(error)) => Err(Status::new(error.code.into(), error.message.clone())),
        None => Err(Status::internal("a result is empty")),
    })
}

/// A person that exists in no other call and no other run.
fn person(run: u32, number: usize) -> v1::TokenizeRequest {
    let line = (usize::try_from(run).unwrap_or_default().wrapping_add(number)) % 100_000_000;
    v1::TokenizeRequest {
        source: "bench:load".to_owned(),
        fields: vec![
            field(v1::FieldType::Email, format!("ada.{run:08x}.{number}@example.com")),
            field(v1::FieldType::Phone, format!("+49151{line:08}")),
            field(v1::FieldType::PersonName, format!("Ada {run:08x} Lovelace {number}")),
        ],
        ..Default::default()
    }
}

/// One value to be kept.
pub fn field(kind: v1::FieldType, value: String) -> v1::FieldInput {
    v1::FieldInput { r#type: kind.into(), content: Some(field_input::Content::Value(value)), ..Default::default() }
}

/// Tells runs apart.
fn run_number() -> u32 {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes);
    u32::from_le_bytes(bytes)
}
