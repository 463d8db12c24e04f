//! A whole vault for a test: real files, a real database, a real gRPC connection, and a clock that the test turns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use lacuna::cli::serve::Running;
use lacuna::config::Config;
use lacuna::model::{Clock, Time};
use lacuna::proto::v1;
use lacuna::proto::v1::access_service_client::AccessServiceClient;
use lacuna::proto::v1::audit_service_client::AuditServiceClient;
use lacuna::proto::v1::call_service_client::CallServiceClient;
use lacuna::proto::v1::consent_service_client::ConsentServiceClient;
use lacuna::proto::v1::event_service_client::EventServiceClient;
use lacuna::proto::v1::key_service_client::KeyServiceClient;
use lacuna::proto::v1::subject_service_client::SubjectServiceClient;
use lacuna::proto::v1::token_service_client::TokenServiceClient;
use sqlx::Connection as _;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig};
use tonic::{Request, Status};

use crate::process::{setting, skipped};

/// Writes a story once and tells it on both stores. PostgreSQL needs `LACUNA_TEST_POSTGRES`, as `tests/run` sets it.
macro_rules! on_both_stores {
    ($($(#[$meta:meta])* async fn $name:ident($house:ident: House) $body:block)+) => {
        $($(#[$meta])* async fn $name($house: $crate::house::House) $body)+

        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::house::House::on_sqlite().await).await; })+
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(house) = $crate::house::House::on_postgres().await { super::$name(house).await; }
            })+
        }
    };
}
pub(crate) use on_both_stores;

/// The moment at which every test begins: 2026-11-21T12:00:00Z.
pub const NOON: i64 = 1_795_262_400_000_000;

/// A clock that stands still until it is turned.
pub struct TestClock(AtomicI64);

impl TestClock {
    /// Turns it forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }

    /// Turns it back, as nobody should.
    pub fn set_back(&self, by: Duration) {
        self.0.fetch_sub(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    /// Each look is a microsecond later than the one before, so that no two things happen at the same time.
    fn now(&self) -> Time {
        Time::from_micros(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// Sends the bearer token, unless it is empty.
#[derive(Clone)]
pub struct Bearer(pub String);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let header = format!("Bearer {}", self.0).parse().unwrap();
            request.metadata_mut().insert("authorization", header);
        }
        Ok(request)
    }
}

pub type Link = InterceptedService<Channel, Bearer>;

/// A vault that serves, with everything it is made of.
pub struct House {
    /// What the vault is configured to be. Change it before [`House::reopen`].
    pub config: Config,
    pub clock: Arc<TestClock>,
    pub running: Option<Running>,
    pub tokens: TokenServiceClient<Link>,
    pub subjects: SubjectServiceClient<Link>,
    /// How to speak to a door with TLS. Set it with `config.tls`, before [`House::reopen`].
    pub tls: Option<ClientTlsConfig>,
    home: tempfile::TempDir,
}

impl House {
    pub async fn on_sqlite() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self::open(home, None).await
    }

    /// `None`, with a notice, when no PostgreSQL was given.
    pub async fn on_postgres() -> Option<Self> {
        let url = fresh_database().await?;
        Some(Self::open(tempfile::tempdir().unwrap(), Some(url)).await)
    }

    async fn open(home: tempfile::TempDir, url: Option<String>) -> Self {
        let config = Config {
            data_dir: Some(home.path().join("lacuna-data")),
            database_url: url.map(Into::into),
            listen: Some("127.0.0.1:0".parse().unwrap()),
            // Small, so that buckets are shared, fill up and are all touched.
            index_buckets: Some(64),
            ..Config::default()
        };
        Self::open_with(home, config).await
    }

    async fn open_with(home: tempfile::TempDir, config: Config) -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(NOON)));
        let running = Running::start(&config, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
        let (tokens, subjects) = clients(channel(&running, None).await, bearer(&running, &config));
        Self { config, clock, running: Some(running), tokens, subjects, tls: None, home }
    }

    /// Where this house keeps its files.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Stops the vault in good order.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await.unwrap();
        }
    }

    /// As the vault and [`lacuna::store::open`] name the database.
    pub fn url(&self) -> String {
        self.config.database_url().unwrap().expose().to_owned()
    }

    /// Starts the vault again on what it left, or on what the test put there.
    pub async fn reopen(&mut self) {
        self.try_reopen().await.unwrap();
    }

    /// The same, where the start may be refused.
    pub async fn try_reopen(&mut self) -> anyhow::Result<()> {
        self.stop().await;
        let running = Running::start(&self.config, Arc::clone(&self.clock) as Arc<dyn Clock>).await?;
        let channel = channel(&running, self.tls.clone()).await;
        (self.tokens, self.subjects) = clients(channel, bearer(&running, &self.config));
        self.running = Some(running);
        Ok(())
    }

    /// The credential that everything here is asked with.
    pub fn bearer(&self) -> String {
        bearer(self.running(), &self.config)
    }

    /// Another connection.
    pub async fn channel(&self) -> Channel {
        channel(self.running(), self.tls.clone()).await
    }

    /// Another connection, with any credential.
    pub async fn connect_as(&self, token: &str) -> (TokenServiceClient<Link>, SubjectServiceClient<Link>) {
        clients(self.channel().await, token.to_owned())
    }

    /// The door for a security team.
    pub async fn key_service(&self) -> KeyServiceClient<Link> {
        KeyServiceClient::with_interceptor(self.channel().await, Bearer(self.bearer()))
    }

    /// The door for those who say who may, with any credential.
    pub async fn access_as(&self, token: &str) -> AccessServiceClient<Link> {
        AccessServiceClient::with_interceptor(self.channel().await, Bearer(token.to_owned()))
    }

    /// The door for those who ask for consent.
    pub async fn consents(&self) -> ConsentServiceClient<Link> {
        self.consents_as(&self.bearer()).await
    }

    /// The same, with any credential.
    pub async fn consents_as(&self, token: &str) -> ConsentServiceClient<Link> {
        ConsentServiceClient::with_interceptor(self.channel().await, Bearer(token.to_owned()))
    }

    /// The door for a contact centre.
    pub async fn calls(&self) -> CallServiceClient<Link> {
        CallServiceClient::with_interceptor(self.channel().await, Bearer(self.bearer()))
    }

    /// The door for auditors.
    pub async fn audits(&self) -> AuditServiceClient<Link> {
        AuditServiceClient::with_interceptor(self.channel().await, Bearer(self.bearer()))
    }

    /// The door for those who keep copies.
    pub async fn events(&self) -> EventServiceClient<Link> {
        self.events_as(&self.bearer()).await
    }

    /// The same, with any credential.
    pub async fn events_as(&self, token: &str) -> EventServiceClient<Link> {
        EventServiceClient::with_interceptor(self.channel().await, Bearer(token.to_owned()))
    }

    /// Tokenizes for a subject, or for a new one; answers the subject and the tokens.
    pub async fn tokenize(&mut self, subject: &str, fields: Vec<v1::FieldInput>) -> (String, Vec<String>) {
        let request = v1::TokenizeRequest {
            subject: subject.to_owned(),
            source: "web_form:checkout".to_owned(),
            fields,
            ..Default::default()
        };
        let response = self.tokens.tokenize(request).await.unwrap().into_inner();
        (response.subject, response.tokens.into_iter().map(|token| token.token).collect())
    }

    /// Somebody with an e-mail address, a phone number and a name made from `name`.
    pub async fn somebody(&mut self, name: &str) -> Somebody {
        let person = Somebody::called(name);
        let fields = vec![
            field(v1::FieldType::Email, &person.email),
            field(v1::FieldType::Phone, &person.phone),
            field(v1::FieldType::PersonName, &person.name),
        ];
        let (subject, tokens) = self.tokenize("", fields).await;
        Somebody { subject, tokens, ..person }
    }

    /// Reveals tokens for `purpose`: for each its value, or the reason why not.
    pub async fn reveal(&mut self, tokens: &[String], purpose: &str) -> Vec<Result<String, String>> {
        let request =
            v1::DetokenizeRequest { tokens: tokens.to_vec(), purpose: purpose.to_owned(), ..Default::default() };
        let response = self.tokens.detokenize(request).await.unwrap().into_inner();
        response.results.iter().map(outcome).collect()
    }

    /// The tokens under a value.
    pub async fn find(&mut self, kind: v1::FieldType, value: &str) -> Vec<String> {
        let request =
            v1::FindTokensRequest { r#type: kind.into(), value: value.to_owned(), purpose: "customer_care".to_owned() };
        let response = self.tokens.find_tokens(request).await.unwrap().into_inner();
        response.tokens.into_iter().map(|token| token.token).collect()
    }

    /// Erases a subject and answers the erasure.
    pub async fn erase(&mut self, subject: &str) -> v1::Erasure {
        let request = v1::EraseSubjectRequest {
            subject: subject.to_owned(),
            reason: "art17_1_b".to_owned(),
            ..Default::default()
        };
        self.subjects.erase_subject(request).await.unwrap().into_inner().erasure.unwrap()
    }

    pub async fn subject(&mut self, subject: &str) -> v1::Subject {
        let request = v1::GetSubjectRequest { subject: subject.to_owned() };
        self.subjects.get_subject(request).await.unwrap().into_inner().subject.unwrap()
    }
}

/// A person of a story.
#[derive(Clone, Debug, Default)]
pub struct Somebody {
    pub subject: String,
    /// For e-mail, phone and name.
    pub tokens: Vec<String>,
    pub email: String,
    pub phone: String,
    pub name: String,
}

impl Somebody {
    fn called(name: &str) -> Self {
        let digits: u64 = name.bytes().fold(7, |sum, byte| (sum * 31 + u64::from(byte)) % 100_000_000);
        Self {
            email: format!("{}@example.com", name.to_lowercase().replace(' ', ".")),
            phone: format!("+4930{digits:08}"),
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// What all three tokens reveal.
    pub fn values(&self) -> Vec<Result<String, String>> {
        [&self.email, &self.phone, &self.name].map(|value| Ok(value.clone())).to_vec()
    }
}

/// One value to tokenize.
pub fn field(kind: v1::FieldType, value: &str) -> v1::FieldInput {
    let content = Some(v1::field_input::Content::Value(value.to_owned()));
    v1::FieldInput { r#type: kind.into(), content, ..Default::default() }
}

/// A value, or the reason why there is none.
pub fn outcome(result: &v1::DetokenizeResult) -> Result<String, String> {
    use v1::detokenize_result::Outcome;
    match result.outcome.as_ref().unwrap() {
        Outcome::Value(value) => Ok(value.clone()),
        Outcome::BytesValue(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Outcome::Error(error) => Err(reason(&item_status(error))),
    }
}

/// The status of one item, as if it were that of a call.
pub fn item_status(error: &lacuna::proto::google::rpc::Status) -> Status {
    use prost::Message as _;
    Status::with_details(error.code.into(), error.message.clone(), error.encode_to_vec().into())
}

/// The reason in a status: every error of the vault has one.
pub fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "lacuna");
    info.reason
}

/// The fields that a status says are wrong.
pub fn fields_at_fault(status: &Status) -> Vec<String> {
    use tonic_types::StatusExt as _;
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

/// The development credential, or that of the first caller in the configuration; empty when that one has no token.
fn bearer(running: &Running, config: &Config) -> String {
    let Some(path) = &running.dev_token_file else {
        return config.callers[0].token().unwrap().map(|token| token.expose().to_owned()).unwrap_or_default();
    };
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

pub async fn channel(running: &Running, tls: Option<ClientTlsConfig>) -> Channel {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Channel::from_shared(format!("{scheme}://{}", running.address)).unwrap();
    let endpoint = match tls {
        Some(tls) => endpoint.tls_config(tls).unwrap(),
        None => endpoint,
    };
    endpoint.connect().await.unwrap()
}

/// A connection to a vault that listens without TLS.
pub async fn connect(running: &Running, token: String) -> (TokenServiceClient<Link>, SubjectServiceClient<Link>) {
    clients(channel(running, None).await, token)
}

fn clients(channel: Channel, token: String) -> (TokenServiceClient<Link>, SubjectServiceClient<Link>) {
    let bearer = Bearer(token);
    (
        TokenServiceClient::with_interceptor(channel.clone(), bearer.clone()).max_decoding_message_size(80 << 20),
        SubjectServiceClient::with_interceptor(channel, bearer),
    )
}

/// Makes a database of its own for a test.
pub async fn fresh_database() -> Option<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Some(base) = setting("LACUNA_TEST_POSTGRES") else {
        skipped("a story on PostgreSQL", "LACUNA_TEST_POSTGRES");
        return None;
    };
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("lacuna_house_{}_{count}", std::process::id());
    let mut admin = sqlx::PgConnection::connect(&base).await.unwrap();
    for statement in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
    }
    let (server, _) = base.rsplit_once('/').unwrap();
    Some(format!("{server}/{name}"))
}
