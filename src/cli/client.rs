//! The way to a running vault: its address, and the bearer token, which is read here and never shown.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::{Interceptor, interceptor::InterceptedService};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use zeroize::Zeroizing;

use super::failure::{Failure, Result};
use super::print::Output;
use crate::proto::v1::access_service_client::AccessServiceClient;
use crate::proto::v1::consent_service_client::ConsentServiceClient;
use crate::proto::v1::event_service_client::EventServiceClient;
use crate::proto::v1::key_service_client::KeyServiceClient;
use crate::proto::v1::subject_service_client::SubjectServiceClient;
use crate::proto::v1::token_service_client::TokenServiceClient;

/// Larger than any answer: 1000 values of 64 KiB and what surrounds them.
const LARGEST_ANSWER: usize = 96 << 20;

/// How long to wait for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which vault to speak to, as whom, and how to show what it answers.
#[derive(Clone, clap::Args)]
pub struct Remote {
    /// Address of the vault; https:// for TLS
    #[arg(long, global = true, env = "LACUNA_ADDRESS", value_name = "URL", help_heading = "Connection")]
    #[arg(default_value = "http://127.0.0.1:50051")]
    address: String,
    /// File that holds the bearer token; `lacuna serve` writes one for development
    #[arg(long, global = true, env = "LACUNA_TOKEN_FILE", value_name = "FILE", help_heading = "Connection")]
    #[arg(default_value = "./lacuna-data/dev-token")]
    token_file: PathBuf,
    /// PEM file of the authority that vouches for an https:// address
    #[arg(long, global = true, env = "LACUNA_CA_FILE", value_name = "FILE", help_heading = "Connection")]
    ca_file: Option<PathBuf>,
    /// How to show the answer
    #[arg(long, global = true, value_enum, default_value = "human", help_heading = "Connection")]
    pub output: Output,
}

/// A noun of the API: a connection, and what to do there.
#[derive(clap::Args)]
pub struct Noun<V: clap::Subcommand> {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: V,
}

impl<V: clap::Subcommand> Noun<V> {
    /// Does it, and tells how it went.
    pub async fn run(self, run: impl AsyncFnOnce(Remote, V) -> Result<()>) -> ExitCode {
        let output = self.remote.output;
        output.finish(run(self.remote, self.verb).await)
    }
}

/// A connection that sends the bearer token with every call.
type Link = InterceptedService<Channel, Bearer>;

/// The services of a vault, through one connection.
#[derive(Clone)]
pub struct Vault {
    /// Tokens for values, values for tokens.
    pub tokens: TokenServiceClient<Link>,
    /// People, and their erasure.
    pub subjects: SubjectServiceClient<Link>,
    /// Purposes and consent.
    pub consents: ConsentServiceClient<Link>,
    /// What changes.
    pub events: EventServiceClient<Link>,
    /// The keys.
    pub keys: KeyServiceClient<Link>,
    /// Who may.
    pub access: AccessServiceClient<Link>,
}

impl Remote {
    /// Connects to the vault.
    pub async fn open(&self) -> Result<Vault> {
        let bearer = self.bearer()?;
        let channel = self.endpoint()?.connect().await.map_err(|error| self.unreachable(&error))?;
        Ok(Vault::new(channel, bearer))
    }

    /// A vault that was named otherwise.
    pub const fn at(address: String, token_file: PathBuf, ca_file: Option<PathBuf>, output: Output) -> Self {
        Self { address, token_file, ca_file, output }
    }

    /// The address as a person would write it.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn bearer(&self) -> Result<Bearer> {
        let file = self.token_file.display();
        let text = std::fs::read_to_string(&self.token_file).map(Zeroizing::new).with_context(|| {
            format!("cannot read the bearer token from {file}: start `lacuna serve` here, or name it with --token-file")
        })?;
        Ok(Bearer::new(text.trim())
            .with_context(|| format!("{file} holds no bearer token: one line of ASCII is expected"))?)
    }

    fn endpoint(&self) -> Result<Endpoint> {
        let url = if self.address.contains("://") { self.address.clone() } else { format!("http://{}", self.address) };
        let endpoint = Endpoint::from_shared(url)
            .with_context(|| format!("--address {} is not an address: write http://HOST:PORT", self.address))?
            .connect_timeout(PATIENCE)
            .tcp_nodelay(true);
        let Some(file) = &self.ca_file else { return Ok(endpoint) };
        let pem = std::fs::read(file).with_context(|| format!("cannot read --ca-file {}", file.display()))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        Ok(endpoint.tls_config(tls).with_context(|| format!("--ca-file {} cannot be used", file.display()))?)
    }

    fn unreachable(&self, error: &tonic::transport::Error) -> Failure {
        let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        Failure::Unreachable(format!(
            "no vault answers at {} ({cause}): start one with `lacuna serve`, or name another with --address",
            self.address
        ))
    }
}

impl Vault {
    /// The services behind `channel`, called as the bearer.
    pub fn new(channel: Channel, bearer: Bearer) -> Self {
        let link = InterceptedService::new(channel, bearer);
        Self {
            tokens: TokenServiceClient::new(link.clone()).max_decoding_message_size(LARGEST_ANSWER),
            subjects: SubjectServiceClient::new(link.clone()).max_decoding_message_size(LARGEST_ANSWER),
            consents: ConsentServiceClient::new(link.clone()).max_decoding_message_size(LARGEST_ANSWER),
            events: EventServiceClient::new(link.clone()),
            keys: KeyServiceClient::new(link.clone()),
            access: AccessServiceClient::new(link),
        }
    }
}

/// The bearer token as a header, marked so that no library prints it. Has no `Debug` on purpose.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// Takes a token; refuses an empty one and what no header can carry, without repeating it.
    pub fn new(token: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(!token.is_empty(), "it is empty");
        let header = Zeroizing::new(format!("Bearer {token}"));
        let mut value: MetadataValue<Ascii> = header.parse().context("it holds other characters")?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}
