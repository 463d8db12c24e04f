//! The way to a running vault: its address, and the bearer token, which is read here and never shown.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::{Interceptor, interceptor::InterceptedService};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use zeroize::Zeroizing;

use super::failure::{Failure, Result};
use super::print::Output;
use crate::proto::v1::access_service_client::AccessServiceClient;
use crate::proto::v1::audit_service_client::AuditServiceClient;
use crate::proto::v1::call_service_client::CallServiceClient;
use crate::proto::v1::consent_service_client::ConsentServiceClient;
use crate::proto::v1::event_service_client::EventServiceClient;
use crate::proto::v1::key_service_client::KeyServiceClient;
use crate::proto::v1::retention_service_client::RetentionServiceClient;
use crate::proto::v1::subject_service_client::SubjectServiceClient;
use crate::proto::v1::token_service_client::TokenServiceClient;

/// Larger than any answer: 1000 values of 64 KiB and what surrounds them.
const LARGEST_ANSWER: usize = 96 << 20;

/// How long to wait for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where `lacuna serve` writes the bearer token for development.
const DEV_TOKEN: &str = "./lacuna-data/dev-token";

/// Which vault to speak to, as whom, and how to show what it answers.
#[derive(Clone, clap::Args)]
pub struct Remote {
    /// Address of the vault; https:// for TLS
    #[arg(long, global = true, env = "LACUNA_ADDRESS", value_name = "URL", help_heading = "Connection")]
    #[arg(default_value = "http://127.0.0.1:50051")]
    address: String,
    #[command(flatten)]
    credentials: Credentials,
    /// How to show the answer
    #[arg(long, global = true, value_enum, default_value = "human", help_heading = "Connection")]
    pub output: Output,
}

/// As whom to speak, and whom to believe.
#[derive(Clone, clap::Args)]
pub struct Credentials {
    /// File that holds the bearer token; `lacuna serve` writes one for development [default: ./lacuna-data/dev-token, or none with --client-cert]
    #[arg(long, global = true, env = "LACUNA_TOKEN_FILE", value_name = "FILE", help_heading = "Connection")]
    token_file: Option<PathBuf>,
    /// PEM file of the authority that vouches for an https:// address [default: those of this system]
    #[arg(long, global = true, env = "LACUNA_CA_FILE", value_name = "FILE", help_heading = "Connection")]
    ca_file: Option<PathBuf>,
    /// PEM file with the certificate to show to an https:// address
    #[arg(long, global = true, env = "LACUNA_CLIENT_CERT", value_name = "FILE", help_heading = "Connection")]
    #[arg(requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, global = true, env = "LACUNA_CLIENT_KEY", value_name = "FILE", help_heading = "Connection")]
    #[arg(requires = "client_cert")]
    client_key: Option<PathBuf>,
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
        output.finish(Box::pin(run(self.remote, self.verb)).await)
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
    /// Who did.
    pub audits: AuditServiceClient<Link>,
    /// What changes.
    pub events: EventServiceClient<Link>,
    /// The keys.
    pub keys: KeyServiceClient<Link>,
    /// How long.
    pub retention: RetentionServiceClient<Link>,
    /// Calls of a contact centre.
    pub calls: CallServiceClient<Link>,
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
    pub const fn at(address: String, credentials: Credentials, output: Output) -> Self {
        Self { address, credentials, output }
    }

    /// The address as a person would write it.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn bearer(&self) -> Result<Bearer> {
        let given = &self.credentials;
        let file = match &given.token_file {
            Some(file) => file.as_path(),
            None if given.client_cert.is_some() => return Ok(Bearer(None)),
            None => Path::new(DEV_TOKEN),
        };
        let name = file.display();
        let text = std::fs::read_to_string(file).map(Zeroizing::new).with_context(|| {
            format!("cannot read the bearer token from {name}: start `lacuna serve` here, or name it with --token-file")
        })?;
        Ok(Bearer::new(text.trim())
            .with_context(|| format!("{name} holds no bearer token: one line of ASCII is expected"))?)
    }

    fn endpoint(&self) -> Result<Endpoint> {
        let url = if self.address.contains("://") { self.address.clone() } else { format!("http://{}", self.address) };
        let secure = url.starts_with("https://");
        let endpoint = Endpoint::from_shared(url)
            .with_context(|| format!("--address {} is not an address: write http://HOST:PORT", self.address))?
            .connect_timeout(PATIENCE)
            .tcp_nodelay(true);
        if !secure {
            return Ok(endpoint);
        }
        let tls = self.credentials.tls()?;
        Ok(endpoint.tls_config(tls).context("the files of --ca-file, --client-cert and --client-key cannot be used")?)
    }

    fn unreachable(&self, error: &tonic::transport::Error) -> Failure {
        let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        Failure::Unreachable(format!(
            "no vault answers at {} ({cause}): start one with `lacuna serve`, or name another with --address",
            self.address
        ))
    }
}

impl Credentials {
    /// Those of whoever holds a bearer token.
    pub const fn of_bearer(token_file: PathBuf) -> Self {
        Self { token_file: Some(token_file), ca_file: None, client_cert: None, client_key: None }
    }

    /// Those of whoever has a certificate, of an authority that vouches for the vault too.
    pub const fn of_certificate(ca: PathBuf, certificate: PathBuf, key: PathBuf) -> Self {
        Self { token_file: None, ca_file: Some(ca), client_cert: Some(certificate), client_key: Some(key) }
    }

    fn tls(&self) -> anyhow::Result<ClientTlsConfig> {
        let read = |option: &str, file: &Path| {
            std::fs::read(file).with_context(|| format!("cannot read {option} {}", file.display()))
        };
        let tls = match &self.ca_file {
            Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("--ca-file", file)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) else { return Ok(tls) };
        let key = Zeroizing::new(read("--client-key", key)?);
        Ok(tls.identity(Identity::from_pem(read("--client-cert", certificate)?, &*key)))
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
            audits: AuditServiceClient::new(link.clone()).max_decoding_message_size(LARGEST_ANSWER),
            calls: CallServiceClient::new(link.clone()).max_decoding_message_size(LARGEST_ANSWER),
            events: EventServiceClient::new(link.clone()),
            keys: KeyServiceClient::new(link.clone()),
            retention: RetentionServiceClient::new(link.clone()),
            access: AccessServiceClient::new(link),
        }
    }
}

/// The bearer token as a header, marked so that no library prints it; none for who shows a certificate. Has no `Debug` on
/// purpose.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// Takes a token; refuses an empty one and what no header can carry, without repeating it.
    pub fn new(token: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(!token.is_empty(), "it is empty");
        let header = Zeroizing::new(format!("Bearer {token}"));
        let mut value: MetadataValue<Ascii> = header.parse().context("it holds other characters")?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}
