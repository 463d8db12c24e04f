//! A vault in a process of its own, on either store, as clients and operators meet it: for stories in which it dies,
//! is stopped, watched or taken apart.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lacuna::proto::v1;
use lacuna::proto::v1::audit_service_client::AuditServiceClient;
use lacuna::proto::v1::call_service_client::CallServiceClient;
use lacuna::proto::v1::event_service_client::EventServiceClient;
use lacuna::proto::v1::key_service_client::KeyServiceClient;
use lacuna::proto::v1::subject_service_client::SubjectServiceClient;
use lacuna::proto::v1::token_service_client::TokenServiceClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::house::{Bearer, Link, field, outcome};
use crate::process::{Database, Place, Server, execute, lacuna, run, said};
use crate::softhsm;

/// The signal by which `abort` ends a process.
const SIGABRT: i32 = 6;

/// How long something may take that the vault does by itself.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Writes a story once and tells it on both stores.
macro_rules! outside_on_both_stores {
    ($($(#[$meta:meta])* async fn $name:ident($vault:ident: Outside) $body:block)+) => {
        $($(#[$meta])* async fn $name($vault: $crate::outside::Outside) $body)+

        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::outside::Outside::on_sqlite()).await; })+
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let story = concat!(module_path!(), "::", stringify!($name));
                if let Some(vault) = $crate::outside::Outside::on_postgres(story) { super::$name(vault).await; }
            })+
        }
    };
}
pub(crate) use outside_on_both_stores;

/// The same of a vault whose slot is in a PKCS#11 token, on SQLite.
macro_rules! outside_with_a_token {
    ($($name:ident)+) => {
        mod with_a_token {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let story = concat!(module_path!(), "::", stringify!($name));
                if let Some(vault) = $crate::outside::Outside::with_a_token(story) { super::$name(vault).await; }
            })+
        }
    };
}
pub(crate) use outside_with_a_token;

/// The same of a vault whose slot is in files that a key in a PKCS#11 token wraps, on SQLite.
macro_rules! outside_under_a_token {
    ($($name:ident)+) => {
        mod under_a_token {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let story = concat!(module_path!(), "::", stringify!($name));
                if let Some(vault) = $crate::outside::Outside::under_a_token(story) { super::$name(vault).await; }
            })+
        }
    };
}
pub(crate) use outside_under_a_token;

/// What keeps a vault's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Custodian {
    /// Two files under a key in a third.
    Files,
    /// A PKCS#11 token; a key in a file wraps what signs receipts.
    Token,
    /// Two files under a key in a PKCS#11 token.
    FilesUnderToken,
}

/// Everything that a vault keeps: data, root slot with a mirror, checkpoints, database. It runs only while a
/// [`Door`] to it is open.
pub struct Outside {
    pub place: Place,
    pub database: Option<Database>,
    pub custodian: Custodian,
    /// The library of a PKCS#11 token, when there is one.
    pub token: Option<String>,
}

/// Settings of a slot in files under a key in a file.
pub const IN_FILES: &str = "mirrors = ['mirror']\nkek_file = 'kek/kek.key'";

impl Outside {
    pub fn on_sqlite() -> Self {
        Self::at(None, Custodian::Files, None)
    }

    /// On SQLite, with its slot in a PKCS#11 token; `None`, and a notice, without SoftHSM.
    pub fn with_a_token(story: &str) -> Option<Self> {
        Some(Self::at(None, Custodian::Token, Some(softhsm::module(story)?)))
    }

    /// On SQLite, with its slot in files under a key in a PKCS#11 token; `None`, and a notice, without SoftHSM.
    pub fn under_a_token(story: &str) -> Option<Self> {
        Some(Self::at(None, Custodian::FilesUnderToken, Some(softhsm::module(story)?)))
    }

    /// On SQLite, with its slot in files, and a token beside it that nothing uses yet.
    pub fn beside_a_token(story: &str) -> Option<Self> {
        Some(Self::at(None, Custodian::Files, Some(softhsm::module(story)?)))
    }

    pub fn on_postgres(story: &str) -> Option<Self> {
        Database::create(story).map(|database| Self::at(Some(database), Custodian::Files, None))
    }

    fn at(database: Option<Database>, custodian: Custodian, token: Option<String>) -> Self {
        let vault = Self { place: Place::new(), database, custodian, token };
        if vault.token.is_some() {
            softhsm::make(vault.place.path());
        }
        vault.configure("");
        vault
    }

    /// Writes the configuration file, with more settings.
    pub fn configure(&self, more: &str) {
        let slot = match self.custodian {
            Custodian::Files => IN_FILES.to_owned(),
            Custodian::Token => {
                format!("kek_file = 'kek/kek.key'\nkind = 'pkcs11'\n{}", self.in_token("slot", "lacuna"))
            }
            Custodian::FilesUnderToken => self.files_under("lacuna"),
        };
        self.configure_slot(&slot, more);
    }

    /// The same, with other settings of the slot.
    pub fn configure_slot(&self, slot: &str, more: &str) {
        // Few buckets of the search index, so that people share them.
        let text = format!("index_buckets = 64\n{more}\n[slot]\n{slot}\n[[sinks]]\ndirectory = 'checkpoints'\n");
        fs::write(self.place.path().join("lacuna.toml"), text).unwrap();
    }

    /// Settings of a slot in files under a key of that label in the token.
    pub fn files_under(&self, label: &str) -> String {
        format!("mirrors = ['mirror']\nkek = 'pkcs11'\n{}", self.in_token("slot", label))
    }

    /// The section of what lies under a label in the token, whose PIN the configuration holds.
    pub fn in_token(&self, section: &str, label: &str) -> String {
        let (module, token, pin) = (self.token.as_ref().unwrap(), softhsm::TOKEN, softhsm::PIN);
        format!("[{section}.pkcs11]\nmodule = '{module}'\ntoken = '{token}'\npin = '{pin}'\nlabel = '{label}'\n")
    }

    /// The directory of the slot's second copy.
    pub fn mirror(&self) -> PathBuf {
        self.place.path().join("mirror")
    }

    /// The key that wraps the slot, away from all its copies.
    pub fn kek(&self) -> PathBuf {
        self.place.path().join("kek").join("kek.key")
    }

    /// The files of the slot, the deciding one first.
    pub fn slots(&self) -> [PathBuf; 2] {
        [self.place.slot(), self.mirror()].map(|directory| directory.join("root.slot"))
    }

    /// As the vault and [`lacuna::store::open`] name the database.
    pub fn url(&self) -> String {
        match &self.database {
            Some(database) => database.url(),
            None => format!("sqlite:{}", self.place.data().join("vault.db").display()),
        }
    }

    /// `lacuna serve` for this vault, ready to be given more.
    pub fn serve(&self) -> Command {
        self.serve_through(&self.url())
    }

    /// The same, with its database under another name.
    pub fn serve_through(&self, url: &str) -> Command {
        let log = fs::File::options().create(true).append(true).open(self.place.path().join("log")).unwrap();
        let mut command = self.here(&["serve", "--listen", "127.0.0.1:0"], url);
        command.stderr(log);
        command
    }

    /// The program with this vault as what it is about.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.here(arguments, &self.url())
    }

    /// The program where the vault is. All names are relative, because a slot knows where its copies are, and a raw
    /// copy of everything stands elsewhere.
    fn here(&self, arguments: &[&str], url: &str) -> Command {
        let mut command = lacuna();
        command.args(arguments).args(["--config", "lacuna.toml", "--data-dir", "data", "--slot-dir", "slot"]);
        command.args(["--database-url", url]).current_dir(self.place.path());
        command.env("SOFTHSM2_CONF", softhsm::conf(self.place.path()));
        command
    }

    /// Waits until the server has logged it.
    pub async fn logged(&self, what: &str) {
        let looking = async {
            while !self.place.log().contains(what) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{what:?} is never logged"));
    }

    /// Runs statements on the database, beside the vault.
    pub fn sql(&self, statements: &str) {
        execute(&self.url(), statements).unwrap();
    }

    /// Starts it and connects.
    pub fn start(&self) -> Door {
        match self.try_start(&[]) {
            Ok(door) => door,
            Err(fault) => panic!("{fault}\n{}", self.place.log()),
        }
    }

    /// Starts it to abort at failpoints, as `("shred::start", "return")`.
    pub fn try_start(&self, failpoints: &[(&str, String)]) -> Result<Door, String> {
        self.start_with(self.serve(), failpoints)
    }

    /// The same with a command of [`Outside::serve`], to which something was added.
    pub fn start_with(&self, mut command: Command, failpoints: &[(&str, String)]) -> Result<Door, String> {
        let armed: Vec<_> = failpoints.iter().map(|(name, action)| format!("{name}={action}")).collect();
        command.env("FAILPOINTS", armed.join(";"));
        if self.token.is_some() {
            softhsm::mend(self.place.path());
        }
        let server = Server::start(&mut command)?;
        Ok(Door::open(server, &self.place))
    }

    /// What `lacuna keys status` says.
    pub fn keys(&self) -> serde_json::Value {
        let output = run(&mut self.here(&["keys", "status", "--output", "json"], &self.url()));
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A copy of everything, raw, of a vault that does not run.
    pub fn copy(&self) -> Self {
        let database = self.database.as_ref().map(Database::copy);
        let copy = Self { place: Place::new(), database, custodian: self.custodian, token: self.token.clone() };
        copy_folder(self.place.path(), copy.place.path());
        if copy.token.is_some() {
            softhsm::write_conf(copy.place.path());
        }
        // The log is the copy's own.
        let _ = fs::remove_file(copy.place.path().join("log"));
        copy
    }

    /// Takes data and database from another, as a restore from a raw copy does; slot and checkpoints stay.
    pub fn take_data_of(&mut self, other: Self) {
        fs::remove_dir_all(self.place.data()).unwrap();
        copy_folder(&other.place.data(), &self.place.data());
        self.database = other.database;
    }
}

pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// An address that nobody listens on, for what cannot tell which one it took.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The metrics page, without a client that could hide something of it.
pub fn metrics(address: SocketAddr) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut page = Vec::new();
    stream.read_to_end(&mut page).unwrap();
    page
}

/// Somebody whose values were acknowledged.
#[derive(Clone, Debug)]
pub struct Person {
    pub subject: String,
    pub tokens: Vec<String>,
    pub values: Vec<String>,
}

impl Person {
    /// The values to tokenize for someone of that name.
    pub fn fields(name: &str) -> Vec<v1::FieldInput> {
        let values = Self::values_of(name);
        vec![field(v1::FieldType::Email, &values[0]), field(v1::FieldType::PersonName, &values[1])]
    }

    fn values_of(name: &str) -> Vec<String> {
        vec![format!("{name}@example.com"), name.to_owned()]
    }
}

/// A vault that runs, and a connection to it. Dropped, it is killed, as a power cut would.
pub struct Door {
    pub server: Server,
    pub tokens: TokenServiceClient<Link>,
    pub subjects: SubjectServiceClient<Link>,
    pub events: EventServiceClient<Link>,
    pub keys: KeyServiceClient<Link>,
    pub audits: AuditServiceClient<Link>,
    pub calls: CallServiceClient<Link>,
    pub channel: Channel,
}

impl Door {
    fn open(server: Server, place: &Place) -> Self {
        let token = fs::read_to_string(place.token()).unwrap();
        let channel = Channel::from_shared(format!("http://{}", server.address())).unwrap().connect_lazy();
        let bearer = Bearer(token.trim().to_owned());
        Self {
            server,
            tokens: TokenServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            subjects: SubjectServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            events: EventServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            keys: KeyServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            audits: AuditServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            calls: CallServiceClient::with_interceptor(channel.clone(), bearer),
            channel,
        }
    }

    /// Another process cannot be told from a loss of power: it ends here and now.
    pub fn kill(self) {
        drop(self);
    }

    /// Waits for the end, which must be the one at a failpoint.
    pub fn aborted(mut self) {
        let status = self.server.wait();
        assert_eq!(status.signal(), Some(SIGABRT), "it ended by {status}");
    }

    pub async fn try_tokenize(&mut self, name: &str) -> Result<Person, Status> {
        let request = v1::TokenizeRequest {
            source: "web_form:checkout".to_owned(),
            fields: Person::fields(name),
            ..Default::default()
        };
        let response = self.tokens.tokenize(request).await?.into_inner();
        let tokens = response.tokens.into_iter().map(|token| token.token).collect();
        Ok(Person { subject: response.subject, tokens, values: Person::values_of(name) })
    }

    pub async fn tokenize(&mut self, name: &str) -> Person {
        self.try_tokenize(name).await.unwrap()
    }

    pub async fn reveal(&mut self, person: &Person) -> Vec<Result<String, String>> {
        let request = v1::DetokenizeRequest {
            tokens: person.tokens.clone(),
            purpose: "customer_care".to_owned(),
            ..Default::default()
        };
        let response = self.tokens.detokenize(request).await.unwrap().into_inner();
        response.results.iter().map(outcome).collect()
    }

    pub async fn find(&mut self, kind: v1::FieldType, value: &str) -> Vec<String> {
        let purpose = "customer_care".to_owned();
        let request = v1::FindTokensRequest { r#type: kind.into(), value: value.to_owned(), purpose };
        let response = self.tokens.find_tokens(request).await.unwrap().into_inner();
        response.tokens.into_iter().map(|token| token.token).collect()
    }

    /// Everything that was acknowledged about a person is there.
    pub async fn assert_there(&mut self, person: &Person) {
        let values: Vec<_> = person.values.iter().cloned().map(Ok).collect();
        assert_eq!(self.reveal(person).await, values, "{person:?}");
        assert_eq!(self.find(v1::FieldType::Email, &person.values[0]).await, person.tokens[..1], "{person:?}");
        assert_eq!(self.subject(person).await.state(), v1::SubjectState::Active);
    }

    /// Nothing of a person can be read or found.
    pub async fn assert_gone(&mut self, person: &Person) {
        assert_eq!(self.reveal(person).await, vec![Err("SUBJECT_ERASED".to_owned()); person.tokens.len()]);
        assert_eq!(self.find(v1::FieldType::Email, &person.values[0]).await, Vec::<String>::new());
        assert_eq!(self.subject(person).await.state(), v1::SubjectState::Shredded);
    }

    pub async fn subject(&mut self, person: &Person) -> v1::Subject {
        let request = v1::GetSubjectRequest { subject: person.subject.clone() };
        self.subjects.get_subject(request).await.unwrap().into_inner().subject.unwrap()
    }

    pub async fn try_erase(&mut self, person: &Person, request_id: &str) -> Result<v1::Erasure, Status> {
        let request = v1::EraseSubjectRequest {
            subject: person.subject.clone(),
            reason: "art17_1_b".to_owned(),
            request_id: request_id.to_owned(),
            ..Default::default()
        };
        Ok(self.subjects.erase_subject(request).await?.into_inner().erasure.unwrap())
    }

    pub async fn erase(&mut self, person: &Person) -> v1::Erasure {
        self.try_erase(person, "").await.unwrap()
    }

    pub async fn erasure(&mut self, erasure: &str) -> v1::Erasure {
        self.try_erasure(erasure).await.unwrap()
    }

    pub async fn try_erasure(&mut self, erasure: &str) -> Result<v1::Erasure, Status> {
        let request = v1::GetErasureRequest { erasure: erasure.to_owned() };
        Ok(self.subjects.get_erasure(request).await?.into_inner().erasure.unwrap())
    }

    /// Asks until the vault has carried an erasure out by itself.
    pub async fn shredded(&mut self, erasure: &str) -> v1::Erasure {
        let asking = async {
            loop {
                let found = self.erasure(erasure).await;
                if found.state() == v1::ErasureState::Shredded {
                    return found;
                }
                assert_eq!(found.state(), v1::ErasureState::Pending, "an erasure goes forward, never back");
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("the vault does not complete the erasure by itself")
    }

    /// Asks health until it says so of what reveals and keeps.
    pub async fn serving(&self, wanted: bool) {
        self.health("lacuna.v1.TokenService", wanted).await;
    }

    /// Asks health until it says so of what changes keys.
    pub async fn custodian(&self, wanted: bool) {
        self.health("lacuna.v1.KeyService", wanted).await;
    }

    async fn health(&self, service: &str, wanted: bool) {
        use tonic_health::pb::health_check_response::ServingStatus;
        let mut health = tonic_health::pb::health_client::HealthClient::new(self.channel.clone());
        let wanted = if wanted { ServingStatus::Serving } else { ServingStatus::NotServing };
        let asking = async {
            loop {
                let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
                let answer = health.check(request).await;
                if answer.is_ok_and(|answer| answer.into_inner().status() == wanted) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("health never says {wanted:?}"));
    }
}
