//! The bare echo: a tonic server in this process that answers at once, with messages of the same shape.
//!
//! It is what the transport alone costs on this machine, so it does nothing else: no caller, no key, no store.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;

use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use zeroize::Zeroizing;

use crate::cli::client::{Bearer, Vault};
use crate::proto::v1::subject_service_server::{SubjectService, SubjectServiceServer};
use crate::proto::v1::token_service_server::{TokenService, TokenServiceServer};
use crate::proto::v1::{self, detokenize_result, detokenize_stream_response, tokenize_stream_response};

/// As long as a real one.
const TOKEN: &str = "tok_00000000000000000000000000";
/// As long as a real one.
const SUBJECT: &str = "sub_00000000000000000000000000";
/// As long as a value of the load.
const VALUE: &str = "ada.00000000.00000@example.com";
/// About as long as a real receipt.
const RECEIPT: usize = 1024;

/// What one rpc answers.
type Answer<T> = Result<Response<T>, Status>;
/// What a streaming rpc answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Starts an echo on a free port and connects to it. It lives as long as the runtime.
pub async fn start() -> anyhow::Result<Vault> {
    let address = serve(Server::builder()).await?;
    let channel = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect().await?;
    Ok(Vault::new(channel, Bearer::new("echo")?))
}

/// Starts one that wants certificates, with the files that `lacuna tls dev` has made; answers where.
pub async fn start_with_tls(files: &Path) -> anyhow::Result<SocketAddr> {
    let read = |name: &str| fs::read(files.join(name)).with_context(|| format!("cannot read {name}"));
    let key = Zeroizing::new(read("server.key")?);
    let identity = Identity::from_pem(read("server.pem")?, &*key);
    let tls = ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(read("ca.pem")?));
    serve(Server::builder().tls_config(tls)?).await
}

async fn serve(mut server: Server) -> anyhow::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("no port is free")?;
    let address = listener.local_addr()?;
    let server = server.add_service(TokenServiceServer::new(Echo)).add_service(SubjectServiceServer::new(Echo));
    // The server's own tcp_nodelay does not reach connections that it is handed. Without it every answer can wait 40 ms
    // for an acknowledgement, and a slow echo would flatter the vault.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(server.serve_with_incoming(incoming));
    Ok(address)
}

struct Echo;

#[tonic::async_trait]
impl TokenService for Echo {
    type TokenizeStreamStream = Answers<v1::TokenizeStreamResponse>;
    type DetokenizeStreamStream = Answers<v1::DetokenizeStreamResponse>;

    async fn tokenize(&self, request: Request<v1::TokenizeRequest>) -> Answer<v1::TokenizeResponse> {
        Ok(Response::new(tokenized(request.into_inner())))
    }

    async fn tokenize_stream(
        &self,
        request: Request<Streaming<v1::TokenizeRequest>>,
    ) -> Answer<Self::TokenizeStreamStream> {
        use tokenize_stream_response::Outcome;
        let answer = |request| v1::TokenizeStreamResponse { outcome: Some(Outcome::Response(tokenized(request))) };
        Ok(Response::new(Box::pin(request.into_inner().map(move |request| request.map(answer)))))
    }

    async fn detokenize(&self, request: Request<v1::DetokenizeRequest>) -> Answer<v1::DetokenizeResponse> {
        Ok(Response::new(detokenized(request.into_inner())))
    }

    async fn detokenize_stream(
        &self,
        request: Request<Streaming<v1::DetokenizeRequest>>,
    ) -> Answer<Self::DetokenizeStreamStream> {
        use detokenize_stream_response::Outcome;
        let answer = |request| v1::DetokenizeStreamResponse { outcome: Some(Outcome::Response(detokenized(request))) };
        Ok(Response::new(Box::pin(request.into_inner().map(move |request| request.map(answer)))))
    }

    async fn find_tokens(&self, _: Request<v1::FindTokensRequest>) -> Answer<v1::FindTokensResponse> {
        unmeasured()
    }

    async fn get_token(&self, _: Request<v1::GetTokenRequest>) -> Answer<v1::GetTokenResponse> {
        unmeasured()
    }

    async fn list_tokens(&self, _: Request<v1::ListTokensRequest>) -> Answer<v1::ListTokensResponse> {
        unmeasured()
    }

    async fn update_token(&self, _: Request<v1::UpdateTokenRequest>) -> Answer<v1::UpdateTokenResponse> {
        unmeasured()
    }

    async fn delete_token(&self, _: Request<v1::DeleteTokenRequest>) -> Answer<v1::DeleteTokenResponse> {
        unmeasured()
    }
}

#[tonic::async_trait]
impl SubjectService for Echo {
    async fn erase_subject(&self, request: Request<v1::EraseSubjectRequest>) -> Answer<v1::EraseSubjectResponse> {
        let request = request.into_inner();
        let erasure = Some(erased(request.subject, request.reason));
        Ok(Response::new(v1::EraseSubjectResponse { erasure }))
    }

    async fn create_subject(&self, _: Request<v1::CreateSubjectRequest>) -> Answer<v1::CreateSubjectResponse> {
        unmeasured()
    }

    async fn claim_subject(&self, _: Request<v1::ClaimSubjectRequest>) -> Answer<v1::ClaimSubjectResponse> {
        unmeasured()
    }

    async fn get_subject(&self, _: Request<v1::GetSubjectRequest>) -> Answer<v1::GetSubjectResponse> {
        unmeasured()
    }

    async fn list_subjects(&self, _: Request<v1::ListSubjectsRequest>) -> Answer<v1::ListSubjectsResponse> {
        unmeasured()
    }

    async fn restrict_subject(&self, _: Request<v1::RestrictSubjectRequest>) -> Answer<v1::RestrictSubjectResponse> {
        unmeasured()
    }

    async fn lift_restriction(&self, _: Request<v1::LiftRestrictionRequest>) -> Answer<v1::LiftRestrictionResponse> {
        unmeasured()
    }

    async fn set_profiling(&self, _: Request<v1::SetProfilingRequest>) -> Answer<v1::SetProfilingResponse> {
        unmeasured()
    }

    async fn get_erasure(&self, _: Request<v1::GetErasureRequest>) -> Answer<v1::GetErasureResponse> {
        unmeasured()
    }

    async fn cancel_erasure(&self, _: Request<v1::CancelErasureRequest>) -> Answer<v1::CancelErasureResponse> {
        unmeasured()
    }

    async fn list_erasures(&self, _: Request<v1::ListErasuresRequest>) -> Answer<v1::ListErasuresResponse> {
        unmeasured()
    }

    async fn get_receipt(&self, _: Request<v1::GetReceiptRequest>) -> Answer<v1::GetReceiptResponse> {
        unmeasured()
    }
}

fn tokenized(request: v1::TokenizeRequest) -> v1::TokenizeResponse {
    let token = |field: v1::FieldInput| v1::Token {
        token: TOKEN.to_owned(),
        subject: SUBJECT.to_owned(),
        r#type: field.r#type,
        format: v1::TokenFormat::Opaque.into(),
        retention_class: "default".to_owned(),
        state: v1::TokenState::Active.into(),
        create_time: Some(prost_types::Timestamp::default()),
        source: request.source.clone(),
        etag: "00000000".to_owned(),
        ..Default::default()
    };
    let tokens = request.fields.into_iter().map(token).collect();
    v1::TokenizeResponse { subject: SUBJECT.to_owned(), tokens, suppressed: false }
}

fn detokenized(request: v1::DetokenizeRequest) -> v1::DetokenizeResponse {
    let result = |token| v1::DetokenizeResult {
        token,
        outcome: Some(detokenize_result::Outcome::Value(VALUE.to_owned())),
        r#type: v1::FieldType::Email.into(),
        subject: SUBJECT.to_owned(),
    };
    v1::DetokenizeResponse { results: request.tokens.into_iter().map(result).collect() }
}

fn erased(subject: String, reason: String) -> v1::Erasure {
    v1::Erasure {
        erasure: SUBJECT.to_owned(),
        subject,
        state: v1::ErasureState::Shredded.into(),
        reason,
        receipt: vec![0; RECEIPT],
        ..Default::default()
    }
}

fn unmeasured<T>() -> Answer<T> {
    Err(Status::unimplemented("the echo answers only what is measured"))
}
