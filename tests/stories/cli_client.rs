//! The program as a client: exit status, both outputs, errors, and secrets that stay in.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails, in what tests share too")]

use std::io::Write as _;
use std::pin::Pin;
use std::process::{Command, Output, Stdio};

use lacuna::proto::google::rpc;
use lacuna::proto::v1::subject_service_server::{SubjectService, SubjectServiceServer};
use lacuna::proto::v1::token_service_server::{TokenService, TokenServiceServer};
use lacuna::proto::v1::{self, detokenize_result};
use prost::Message as _;
use serde_json::{Value, json};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::process;

const BEARER: &str = "MARKED-bearer";
const TOKEN: &str = "tok_00000000000000000000000001";
const GONE: &str = "tok_00000000000000000000000002";
const SUBJECT: &str = "sub_00000000000000000000000001";

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A vault of canned answers that insists on its bearer.
#[derive(Clone)]
struct Canned;

fn refusal(code: Code, reason: &str, field: Option<&str>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "lacuna", [("token".to_owned(), GONE.to_owned())]);
    if let Some(field) = field {
        details.add_bad_request_violation(field, "not an e-mail address");
    }
    Status::with_error_details(code, "it cannot be done", details)
}

fn admit<T>(request: Request<T>) -> Result<T, Status> {
    let sent = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    if sent == Some(&format!("Bearer {BEARER}")) {
        return Ok(request.into_inner());
    }
    Err(refusal(Code::Unauthenticated, "CALLER_UNKNOWN", None))
}

fn tokenized(request: v1::TokenizeRequest) -> Result<v1::TokenizeResponse, Status> {
    let refused = |field: &v1::FieldInput| field.content == Some(v1::field_input::Content::Value("bad".to_owned()));
    if request.fields.iter().any(refused) {
        return Err(refusal(Code::InvalidArgument, "VALUE_INVALID", Some("fields[0].value")));
    }
    let token = |field: v1::FieldInput| v1::Token {
        token: TOKEN.to_owned(),
        subject: SUBJECT.to_owned(),
        r#type: field.r#type,
        state: v1::TokenState::Active.into(),
        expire_time: field.expire_time,
        tags: field.tags,
        source: request.source.clone(),
        ..Default::default()
    };
    let tokens = request.fields.into_iter().map(token).collect();
    Ok(v1::TokenizeResponse { subject: SUBJECT.to_owned(), tokens, suppressed: false })
}

fn item(status: &Status) -> rpc::Status {
    rpc::Status::decode(status.details()).unwrap()
}

fn detokenized(request: v1::DetokenizeRequest) -> v1::DetokenizeResponse {
    use detokenize_result::Outcome;
    let result = |token: String| {
        let outcome = match token.as_str() {
            GONE => Outcome::Error(item(&refusal(Code::NotFound, "TOKEN_UNKNOWN", None))),
            _ => Outcome::Value("ada\u{1b}[2J".to_owned()),
        };
        v1::DetokenizeResult { token, outcome: Some(outcome), r#type: 3, subject: SUBJECT.to_owned() }
    };
    v1::DetokenizeResponse { results: request.tokens.into_iter().map(result).collect() }
}

fn unasked<T>() -> Answer<T> {
    Err(Status::unimplemented("no story asks for it"))
}

#[tonic::async_trait]
impl TokenService for Canned {
    type TokenizeStreamStream = Answers<v1::TokenizeStreamResponse>;
    type DetokenizeStreamStream = Answers<v1::DetokenizeStreamResponse>;

    async fn tokenize(&self, request: Request<v1::TokenizeRequest>) -> Answer<v1::TokenizeResponse> {
        tokenized(admit(request)?).map(Response::new)
    }
    async fn tokenize_stream(
        &self,
        request: Request<Streaming<v1::TokenizeRequest>>,
    ) -> Answer<Self::TokenizeStreamStream> {
        use v1::tokenize_stream_response::Outcome;
        let answer = |request: Result<_, _>| {
            let outcome = match tokenized(request?) {
                Ok(response) => Outcome::Response(response),
                Err(status) => Outcome::Error(item(&status)),
            };
            Ok(v1::TokenizeStreamResponse { outcome: Some(outcome) })
        };
        Ok(Response::new(Box::pin(admit(request)?.map(answer))))
    }
    async fn detokenize(&self, request: Request<v1::DetokenizeRequest>) -> Answer<v1::DetokenizeResponse> {
        Ok(Response::new(detokenized(admit(request)?)))
    }
    async fn detokenize_stream(
        &self,
        request: Request<Streaming<v1::DetokenizeRequest>>,
    ) -> Answer<Self::DetokenizeStreamStream> {
        use v1::detokenize_stream_response::Outcome;
        let answer = |request: Result<_, _>| {
            Ok(v1::DetokenizeStreamResponse { outcome: Some(Outcome::Response(detokenized(request?))) })
        };
        Ok(Response::new(Box::pin(admit(request)?.map(answer))))
    }
    async fn find_tokens(&self, _: Request<v1::FindTokensRequest>) -> Answer<v1::FindTokensResponse> {
        unasked()
    }
    async fn get_token(&self, _: Request<v1::GetTokenRequest>) -> Answer<v1::GetTokenResponse> {
        unasked()
    }
    async fn list_tokens(&self, request: Request<v1::ListTokensRequest>) -> Answer<v1::ListTokensResponse> {
        let (page, next) = if admit(request)?.page_token.is_empty() { ("first", "more") } else { ("second", "") };
        let token = v1::Token { token: page.to_owned(), ..Default::default() };
        Ok(Response::new(v1::ListTokensResponse { tokens: vec![token], next_page_token: next.to_owned() }))
    }
    async fn update_token(&self, _: Request<v1::UpdateTokenRequest>) -> Answer<v1::UpdateTokenResponse> {
        unasked()
    }
    async fn delete_token(&self, _: Request<v1::DeleteTokenRequest>) -> Answer<v1::DeleteTokenResponse> {
        unasked()
    }
}

#[tonic::async_trait]
impl SubjectService for Canned {
    async fn erase_subject(&self, request: Request<v1::EraseSubjectRequest>) -> Answer<v1::EraseSubjectResponse> {
        let request = admit(request)?;
        let erasure = v1::Erasure {
            subject: request.subject,
            reason: request.reason,
            state: v1::ErasureState::Shredded.into(),
            receipt: b"proof".to_vec(),
            ..Default::default()
        };
        Ok(Response::new(v1::EraseSubjectResponse { erasure: Some(erasure) }))
    }
    async fn get_receipt(&self, request: Request<v1::GetReceiptRequest>) -> Answer<v1::GetReceiptResponse> {
        admit(request)?;
        Ok(Response::new(v1::GetReceiptResponse { receipt: b"proof".to_vec(), json: "{}".to_owned() }))
    }
    async fn create_subject(&self, _: Request<v1::CreateSubjectRequest>) -> Answer<v1::CreateSubjectResponse> {
        unasked()
    }
    async fn claim_subject(&self, _: Request<v1::ClaimSubjectRequest>) -> Answer<v1::ClaimSubjectResponse> {
        unasked()
    }
    async fn get_subject(&self, _: Request<v1::GetSubjectRequest>) -> Answer<v1::GetSubjectResponse> {
        unasked()
    }
    async fn list_subjects(&self, _: Request<v1::ListSubjectsRequest>) -> Answer<v1::ListSubjectsResponse> {
        unasked()
    }
    async fn restrict_subject(&self, _: Request<v1::RestrictSubjectRequest>) -> Answer<v1::RestrictSubjectResponse> {
        unasked()
    }
    async fn lift_restriction(&self, _: Request<v1::LiftRestrictionRequest>) -> Answer<v1::LiftRestrictionResponse> {
        unasked()
    }
    async fn set_profiling(&self, _: Request<v1::SetProfilingRequest>) -> Answer<v1::SetProfilingResponse> {
        unasked()
    }
    async fn get_erasure(&self, _: Request<v1::GetErasureRequest>) -> Answer<v1::GetErasureResponse> {
        unasked()
    }
    async fn cancel_erasure(&self, _: Request<v1::CancelErasureRequest>) -> Answer<v1::CancelErasureResponse> {
        unasked()
    }
    async fn list_erasures(&self, _: Request<v1::ListErasuresRequest>) -> Answer<v1::ListErasuresResponse> {
        unasked()
    }
}

/// A canned vault, and a folder with the bearer that it knows.
struct House {
    address: String,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl House {
    fn open() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(TokenServiceServer::new(Canned))
            .add_service(SubjectServiceServer::new(Canned));
        runtime.spawn(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bearer"), format!("{BEARER}\n")).unwrap();
        Self { address, folder, _runtime: runtime }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "")
    }

    /// Runs the program with an input; whatever it says, the bearer is not in it.
    fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lacuna"))
            .current_dir(self.folder.path())
            .env("LACUNA_ADDRESS", &self.address)
            .env("LACUNA_TOKEN_FILE", "bearer")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The program may end without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert!(!format!("{}{}", ran.out, ran.err).contains("MARKED"), "{}{}", ran.out, ran.err);
        ran
    }
}

/// What a run of the program left.
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {} {}", self.out, self.err))
    }
}

const CREATE: [&str; 5] = ["token", "create", "--source", "web_form:checkout", "--output=json"];

#[test]
fn create_answers_names_of_the_api() {
    let house = House::open();
    let more = ["--expires", "2027-01-01T00:00:00Z", "--tag", "a", "email=ada@example.com", "phone=+4930123456"];
    let ran = house.run(&[&CREATE[..], &more].concat());
    assert_eq!(ran.status, 0, "{}", ran.err);
    let json = ran.json();
    assert_eq!(json["subject"], SUBJECT);
    assert_eq!(json["tokens"][0]["type"], "FIELD_TYPE_EMAIL");
    assert_eq!(json["tokens"][1]["type"], "FIELD_TYPE_PHONE");
    assert_eq!(json["tokens"][0]["state"], "TOKEN_STATE_ACTIVE");
    assert_eq!(json["tokens"][0]["expire_time"], "2027-01-01T00:00:00Z");
    assert_eq!(json["tokens"][0]["tags"], json!(["a"]));
}

#[test]
fn refusal_is_told_in_full() {
    let house = House::open();
    let ran = house.run_with(&[&CREATE[..], &["email=-"]].concat(), "bad\n");
    assert_eq!(ran.status, 1);
    assert_eq!(
        ran.json()["error"],
        json!({
            "code": "INVALID_ARGUMENT",
            "reason": "VALUE_INVALID",
            "message": "it cannot be done",
            "metadata": { "token": GONE },
            "field_violations": [{ "field": "fields[0].value", "description": "not an e-mail address" }],
        })
    );
    let ran = house.run(&["token", "create", "--source", "a", "email=bad"]);
    assert_eq!((ran.status, ran.out.as_str()), (1, ""));
    for part in ["it cannot be done", "VALUE_INVALID", "fields[0].value", "not an e-mail address", GONE] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
}

#[test]
fn unknown_caller_is_refused_without_showing_the_bearer() {
    let house = House::open();
    std::fs::write(house.folder.path().join("other"), "MARKED-other").unwrap();
    let ran = house.run(&["token", "list", SUBJECT, "--token-file", "other"]);
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains("CALLER_UNKNOWN"), "{}", ran.err);
    std::fs::write(house.folder.path().join("other"), "MARKED\nother").unwrap();
    assert_eq!(house.run(&["token", "list", SUBJECT, "--token-file", "other"]).status, 2);
}

#[test]
fn one_bad_token_fails_the_command_and_not_the_rest() {
    let house = House::open();
    let ran = house.run(&["token", "reveal", "--purpose", "customer_care", TOKEN, GONE, "--output=json"]);
    assert_eq!(ran.status, 1);
    assert_eq!(ran.json()["results"][0]["value"], "ada\u{1b}[2J");
    assert_eq!(ran.json()["results"][1]["error"]["reason"], "TOKEN_UNKNOWN");
    let ran = house.run(&["token", "reveal", "--purpose", "customer_care", TOKEN]);
    assert_eq!(ran.status, 0);
    assert!(ran.out.contains("ada\\u{1b}[2J"), "control characters reach no terminal: {}", ran.out);
}

#[test]
fn bulk_goes_through_the_streams() {
    let house = House::open();
    let line = |value| format!("{{\"fields\":[{{\"type\":\"email\",\"value\":\"{value}\"}}]}}\n");
    let create = ["token", "create", "--from", "-", "--source", "import:a", "--output", "json"];
    let ran = house.run_with(&create, &[line("a"), line("bad"), line("c")].concat());
    assert_eq!(ran.status, 1);
    let responses = ran.json()["responses"].clone();
    assert_eq!(responses[0]["response"]["tokens"][0]["source"], "import:a");
    assert_eq!(responses[1]["error"]["reason"], "VALUE_INVALID");
    assert_eq!(responses[2]["response"]["subject"], SUBJECT);

    let ran = house.run_with(&create, &[line("a"), "MARKED\n".to_owned()].concat());
    assert_eq!(ran.status, 2);
    assert!(ran.json()["error"]["message"].as_str().unwrap().contains("line 2"), "{}", ran.out);

    let reveal = ["token", "reveal", "--from", "-", "--purpose", "customer_care", "--output", "json"];
    let ran = house.run_with(&reveal, &format!("{TOKEN}\n").repeat(250));
    assert_eq!((ran.status, ran.json()["results"].as_array().unwrap().len()), (0, 250));
    let ran = house.run_with(&reveal, "");
    assert_eq!((ran.status, ran.json()), (0, json!({ "results": [] })));
}

#[test]
fn lists_page_through() {
    let house = House::open();
    let all = house.run(&["token", "list", SUBJECT, "--output", "json"]).json();
    assert_eq!((all["tokens"].as_array().unwrap().len(), &all["next_page_token"]), (2, &json!("")));
    let some = house.run(&["token", "list", SUBJECT, "--output", "json", "--limit", "1"]).json();
    assert_eq!((some["tokens"].as_array().unwrap().len(), &some["next_page_token"]), (1, &json!("more")));
}

#[test]
fn erasing_is_confirmed() {
    let house = House::open();
    let erase = ["subject", "erase", SUBJECT, "--reason", "art17_1_b", "--output=json"];
    let ran = house.run_with(&erase, SUBJECT);
    assert_eq!(ran.status, 2, "nobody is at a terminal");
    assert!(ran.json()["error"]["message"].as_str().unwrap().contains("--yes"));
    let ran = house.run(&[&erase[..], &["--yes"]].concat());
    assert_eq!((ran.status, &ran.json()["erasure"]["state"]), (0, &json!("ERASURE_STATE_SHREDDED")));
    assert_eq!(ran.json()["erasure"]["receipt"], "cHJvb2Y=");
    assert_eq!(house.run(&["erasure", "receipt", "ers_1", "--file", "receipt"]).status, 0);
    assert_eq!(std::fs::read(house.folder.path().join("receipt")).unwrap(), b"proof");
}

#[test]
fn exit_status_tells_whose_fault_it_was() {
    let house = House::open();
    let nobody = ["token", "show", TOKEN, "--address", "http://127.0.0.1:1", "--output=json"];
    let ran = house.run(&nobody);
    assert_eq!((ran.status, &ran.json()["error"]["reason"]), (3, &json!("UNREACHABLE")));
    assert_eq!(house.run(&["token", "shew"]).status, 2);
    assert_eq!(house.run(&["token", "create", "--source", "a", "MARKED"]).status, 2);
    let ran = house.run(&["token", "show", TOKEN, "--token-file", "missing"]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("lacuna serve") && ran.err.contains("--token-file"), "{}", ran.err);
}

/// A closed loop obeys Little's law: calls in flight = rate x mean latency. The tail cannot lie below the mean.
#[test]
fn bench_measures_beside_its_echo() {
    let house = House::open();
    for what in ["reveal-batch", "reveal-stream", "erase"] {
        let ran = house.run(&["bench", what, "--seconds", "1", "--in-flight", "32", "--output", "json"]);
        assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
        let row = ran.json()["results"][0].clone();
        assert_eq!((&row["what"], &row["errors"]), (&json!(what), &json!(0)));
        for figures in [&row, &row["echo"]] {
            let mean = 32e6 / figures["operations_per_second"].as_f64().unwrap();
            assert!(figures["p99_9_us"].as_f64().unwrap() > mean / 2.0, "{what}: mean {mean} us of {figures}");
        }
    }
}

/// Whether the figures are good is not for a build without optimization to say.
#[test]
fn look_ups_are_measured_in_a_vault_of_their_own() {
    let temporary = tempfile::tempdir().unwrap();
    let mut bench = process::lacuna();
    let load = ["bench", "lookup", "--callers=300", "--rate=20", "--buckets=64", "--seconds=1", "--output=json"];
    bench.args(load).env("TMPDIR", temporary.path());
    let ran = process::run(&mut bench);
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", process::said(&ran)));
    let sides = told["results"].as_array().unwrap();
    let names: Vec<_> = sides.iter().map(|side| side["what"].as_str().unwrap()).collect();
    assert_eq!(names, ["look-ups", "bare reads"]);
    for side in sides {
        let (done, errors) = (side["operations"].as_u64().unwrap(), side["errors"].as_u64().unwrap());
        assert_eq!(done + errors, 20, "each is counted: {side}");
        // A busy machine may be late with some.
        assert!(errors == 0 || side["first_error"] == "a look-up was degraded", "{side}");
        assert!(
            side["p50_us"].as_u64() <= side["p99_us"].as_u64() && side["p99_us"].as_u64() <= side["max_us"].as_u64()
        );
    }
    assert!(told["budget"]["within"].is_boolean() && told["parameters"]["callers"] == 300, "{told}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn imports_are_measured_beside_bare_inserts_of_the_same_rows() {
    let temporary = tempfile::tempdir().unwrap();
    let mut bench = process::lacuna();
    bench.args(["bench", "import", "--rows=1300", "--buckets=64", "--output=json"]).env("TMPDIR", temporary.path());
    let ran = process::run(&mut bench);
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", process::said(&ran)));
    let rate = |side: usize| told["results"][side]["rows_per_second"].as_f64().unwrap();
    assert!(rate(0) > 0.0 && rate(1) > 0.0, "{told}");
    assert!((told["ratio"].as_f64().unwrap() - rate(0) / rate(1)).abs() < 0.01, "{told}");
    assert_eq!((&told["parameters"]["rows"], &told["parameters"]["callers"]), (&1300.into(), &260.into()));
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "nothing is left behind");
}

/// The figures stand in `docs/performance.md` under the names that the program gives them.
#[test]
fn what_tls_policies_and_the_audit_cost_is_measured_in_vaults_of_its_own() {
    let temporary = tempfile::tempdir().unwrap();
    let mut bench = process::lacuna();
    bench.args(["bench", "cost", "--seconds=1", "--in-flight=8", "--output=json"]).env("TMPDIR", temporary.path());
    let ran = process::run(&mut bench);
    assert!(ran.status.success(), "{}", process::said(&ran));
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let docs = include_str!("../../docs/performance.md");
    for (measured, what) in told["measured"].as_array().unwrap().iter().zip(["reveal", "reveal-ten"]) {
        assert_eq!(measured["what"], what);
        let sides = measured["results"].as_array().unwrap();
        assert_eq!(sides.len(), 10);
        for side in sides {
            assert!(side["errors"] == 0 && side["operations"].as_u64().unwrap() > 0, "{side}");
            assert!(side["rate_ratio"].as_f64().unwrap() > 0.0, "{side}");
            assert!(docs.contains(&format!("| {} |", side["under"].as_str().unwrap())), "{side}");
        }
        let stages = measured["stages"].as_array().unwrap();
        let names: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
        assert_eq!(names, ["audit.wait", "key.open", "store.read"]);
        let shares: f64 = stages.iter().map(|stage| stage["share"].as_f64().unwrap()).sum();
        assert!(shares > 0.0 && shares <= 1.0, "{stages:?}");
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "nothing is left behind");
}
