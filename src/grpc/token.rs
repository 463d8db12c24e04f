//! `TokenService`.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use super::identity::caller;
use super::landing::Landing;
use super::stream::{self, Answers};
use super::{answer, parse, status};
use crate::keys::flight::Flight;
use crate::model::{Content, Error, Label, OpaqueToken, Result, SubjectId, Value};
use crate::policy::Caller;
use crate::proto::v1;
use crate::proto::v1::token_service_server::TokenService;
use crate::vault::Vault;
use crate::vault::reveal::{By, Detokenize, Revealed};
use crate::vault::token::{Described, Tokenize};

/// The service.
pub struct Tokens {
    vault: Arc<Vault>,
}

impl Tokens {
    /// A door to this vault.
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }
}

#[tonic::async_trait]
impl TokenService for Tokens {
    type DetokenizeStreamStream = Answers<v1::DetokenizeStreamResponse>;
    type TokenizeStreamStream = Answers<v1::TokenizeStreamResponse>;

    async fn tokenize(&self, request: Request<v1::TokenizeRequest>) -> Result<Response<v1::TokenizeResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("Tokenize", tokenize(&self.vault, &caller, request.into_inner())).await
    }

    async fn tokenize_stream(
        &self,
        request: Request<Streaming<v1::TokenizeRequest>>,
    ) -> Result<Response<Self::TokenizeStreamStream>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        let vault = Arc::clone(&self.vault);
        let deed = move |item| {
            let (vault, caller) = (Arc::clone(&vault), caller.clone());
            async move { tokenize(&vault, &caller, item).await }
        };
        let told = |kept: Result<Result<v1::TokenizeResponse>, Status>| {
            use v1::tokenize_stream_response::Outcome;
            let outcome = match kept? {
                Ok(response) => Outcome::Response(response),
                Err(error) => Outcome::Error(status::to_item_status(&error)),
            };
            Ok(v1::TokenizeStreamResponse { outcome: Some(outcome) })
        };
        Ok(Response::new(Box::pin(stream::each(request, "Tokenize", deed).map(told))))
    }

    async fn detokenize(
        &self,
        request: Request<v1::DetokenizeRequest>,
    ) -> Result<Response<v1::DetokenizeResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        let landing = Landing::default();
        let answered = answer("Detokenize", async {
            let (response, flight) = detokenize(&self.vault, &caller, request.into_inner()).await?;
            landing.carry(flight)?;
            Ok(response)
        })
        .await?;
        Ok(landing.watch_over(answered))
    }

    async fn detokenize_stream(
        &self,
        request: Request<Streaming<v1::DetokenizeRequest>>,
    ) -> Result<Response<Self::DetokenizeStreamStream>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        let vault = Arc::clone(&self.vault);
        let deed = move |item| {
            let (vault, caller) = (Arc::clone(&vault), caller.clone());
            async move { detokenize(&vault, &caller, item).await }
        };
        let landing = Landing::default();
        let carrier = landing.clone();
        // An answer may have waited behind others for longer than it may take.
        let land = move |outcome: Result<Result<(v1::DetokenizeResponse, Flight)>, Status>| {
            use v1::detokenize_stream_response::Outcome;
            let landed = outcome?.and_then(|(response, flight)| carrier.carry(flight).map(|()| response));
            let outcome = match landed {
                Ok(response) => Outcome::Response(response),
                Err(error) => Outcome::Error(status::to_item_status(&error)),
            };
            Ok(v1::DetokenizeStreamResponse { outcome: Some(outcome) })
        };
        let answers = stream::each(request, "Detokenize", deed).map(land);
        Ok(landing.watch_over(Response::new(Box::pin(answers))))
    }

    async fn find_tokens(
        &self,
        request: Request<v1::FindTokensRequest>,
    ) -> Result<Response<v1::FindTokensResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("FindTokens", async {
            let ask = request.into_inner();
            let value = Value::parse(parse::field_type(ask.r#type)?, Content::Text(ask.value.into()))?;
            let found = self.vault.find_tokens(&caller, value, &ask.purpose).await?;
            Ok(v1::FindTokensResponse { tokens: found.into_iter().map(wire).collect() })
        })
        .await
    }

    async fn get_token(&self, request: Request<v1::GetTokenRequest>) -> Result<Response<v1::GetTokenResponse>, Status> {
        answer("GetToken", async {
            let token = self.vault.token(&request.into_inner().token).await?;
            Ok(v1::GetTokenResponse { token: Some(wire(token)) })
        })
        .await
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        answer("ListTokens", async {
            let ask = request.into_inner();
            let subject = SubjectId::parse(&ask.subject).map_err(|error| error.at("subject"))?;
            let ring = &self.vault.custody().ring;
            let after = parse::page_token(&ask.page_token, OpaqueToken::parse)?.map(|token| ring.row(token));
            let size = crate::vault::page_size(ask.page_size)?;
            let (tokens, next) = self.vault.list_tokens(subject, after, size).await?;
            let next_page_token = next.map(|row| ring.opaque(row).to_string()).unwrap_or_default();
            Ok(v1::ListTokensResponse { tokens: tokens.into_iter().map(wire).collect(), next_page_token })
        })
        .await
    }

    async fn update_token(
        &self,
        request: Request<v1::UpdateTokenRequest>,
    ) -> Result<Response<v1::UpdateTokenResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("UpdateToken", async {
            let ask = request.into_inner();
            let (source, etag) = (Label::source(&ask.source)?, parse::etag(&ask.etag)?);
            let request = parse::request_id(&ask.request_id)?;
            let content = parse::content(ask.content)?;
            let updated = self.vault.update_token(&caller, &ask.token, content, &source, etag, request).await?;
            Ok(v1::UpdateTokenResponse { token: Some(wire(updated.0)), suppressed: updated.1 })
        })
        .await
    }

    async fn delete_token(
        &self,
        request: Request<v1::DeleteTokenRequest>,
    ) -> Result<Response<v1::DeleteTokenResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("DeleteToken", async {
            let ask = request.into_inner();
            self.vault.delete_token(&caller, &ask.token, parse::request_id(&ask.request_id)?).await?;
            Ok(v1::DeleteTokenResponse {})
        })
        .await
    }
}

async fn tokenize(vault: &Vault, caller: &Caller, ask: v1::TokenizeRequest) -> Result<v1::TokenizeResponse> {
    let subject = parse::optional(&ask.subject).map(SubjectId::parse).transpose();
    let subject = subject.map_err(|error| error.at("subject"))?;
    let source = Label::source(&ask.source)?;
    parse::check_count("fields", ask.fields.len())?;
    parse::check_size(&ask.fields)?;
    let request = parse::request_id(&ask.request_id)?;
    let field = |(at, input)| parse::field(input).map_err(|error: Error| error.within(&format!("fields[{at}]")));
    let fields = ask.fields.into_iter().enumerate().map(field).collect::<Result<Vec<_>>>()?;
    let kept = vault.tokenize(caller, Tokenize { subject, source, fields, request }).await?;
    metrics::counter!("lacuna_tokens_created_total").increment(kept.tokens.len() as u64);
    Ok(v1::TokenizeResponse {
        subject: kept.subject.map(|id| id.to_string()).unwrap_or_default(),
        tokens: kept.tokens.into_iter().map(wire).collect(),
        suppressed: kept.suppressed,
    })
}

async fn detokenize(
    vault: &Vault,
    caller: &Caller,
    ask: v1::DetokenizeRequest,
) -> Result<(v1::DetokenizeResponse, Flight)> {
    parse::check_count("tokens", ask.tokens.len())?;
    let ask = Detokenize {
        tokens: ask.tokens,
        purpose: ask.purpose,
        channel: parse::channel(ask.channel)?,
        redaction: parse::redaction(ask.redaction)?,
        justification: parse::reference("justification", &ask.justification)?,
        by: By::default(),
    };
    let (revealed, flight) = vault.detokenize(caller, &ask).await?;
    let results = ask.tokens.into_iter().zip(revealed).map(result).collect();
    Ok((v1::DetokenizeResponse { results }, flight))
}

/// What came of one token, on the wire and in the metrics.
pub(super) fn result((token, revealed): (String, Revealed)) -> v1::DetokenizeResult {
    use v1::detokenize_result::Outcome;
    let came_of_it = if revealed.outcome.is_ok() { "revealed" } else { "refused" };
    metrics::counter!("lacuna_reveals_total", "outcome" => came_of_it).increment(1);
    let outcome = match revealed.outcome {
        Ok(Content::Text(text)) => match String::from_utf8(text.into_exposed()) {
            Ok(text) => Outcome::Value(text),
            Err(_) => Outcome::Error(status::to_item_status(&Error::internal("a text that is not UTF-8"))),
        },
        Ok(Content::Bytes(bytes)) => Outcome::BytesValue(bytes.into_exposed()),
        Err(error) => Outcome::Error(status::to_item_status(&error)),
    };
    let (kind, subject) = revealed.known.unzip();
    v1::DetokenizeResult {
        token,
        outcome: Some(outcome),
        r#type: kind.map_or(0, |kind| kind.number().into()),
        subject: subject.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn wire(described: Described) -> v1::Token {
    let Described { name, token, state } = described;
    v1::Token {
        token: name,
        subject: token.subject.to_string(),
        r#type: token.kind.number().into(),
        format: parse::wire_format(token.format).into(),
        retention_class: token.class,
        state: parse::wire_token_state(state).into(),
        create_time: Some(parse::wire_time(token.created_at)),
        expire_time: token.expires_at.map(parse::wire_time),
        tags: token.tags,
        source: token.source,
        etag: token.version.to_string(),
        single_use: token.single_use,
    }
}
