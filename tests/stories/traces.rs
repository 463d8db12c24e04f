//! A call is found again by the id that its caller was told, and by the trace that it is part of: in the log and in
//! the audit.

use futures_util::StreamExt as _;
use lacuna::proto::v1;
use lacuna::proto::v1::subject_service_client::SubjectServiceClient;
use serde_json::Value;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use crate::asks::{CARE, detokenize};
use crate::house::{Bearer, reason};
use crate::outside::{Door, Outside, PATIENCE, outside_on_both_stores};
use crate::process::{allow, forbid};

/// The trace of some caller.
pub const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// The span of it from which the vault is called.
pub const SPAN: &str = "00f067aa0ba902b7";

/// A request that is part of the caller's trace.
pub fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{SPAN}-01").parse().unwrap());
    request
}

/// The id by which the caller was told of the call.
pub fn told(headers: &MetadataMap) -> String {
    let id = headers.get("x-request-id").expect("the answer names no call").to_str().unwrap().to_owned();
    assert_eq!(id.len(), 16, "{id}");
    id
}

/// The lines of the log about a call, once it has ended.
async fn lines(vault: &Outside, id: &str) -> Vec<Value> {
    let looking = async {
        loop {
            let log = vault.place.log();
            let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let all = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let found: Vec<_> = all.filter(|line| line["request_id"] == id).collect();
            if found.iter().any(|line| line["fields"]["message"] == "a call has ended") {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("nothing tells of {id}:\n{}", vault.place.log()))
}

/// What the log tells of the end of a call.
async fn ended(vault: &Outside, id: &str) -> (String, String) {
    let lines = lines(vault, id).await;
    let end = &lines.iter().find(|line| line["fields"]["message"] == "a call has ended").unwrap()["fields"];
    (end["rpc"].as_str().unwrap().to_owned(), end["code"].as_str().unwrap().to_owned())
}

/// The rpcs of the entries of the audit that name a call.
async fn recorded(door: &mut Door, id: &str) -> Vec<String> {
    let filter = Some(v1::AuditFilter { request_id: id.to_owned(), ..Default::default() });
    let ask = v1::ListAuditEntriesRequest { filter, ..Default::default() };
    let entries = door.audits.list_audit_entries(ask).await.unwrap().into_inner().entries;
    assert!(entries.iter().all(|entry| entry.request_id == id));
    entries.into_iter().map(|entry| entry.rpc).collect()
}

fn pair(rpc: &str, code: &str) -> (String, String) {
    (rpc.to_owned(), code.to_owned())
}

outside_on_both_stores! {
    async fn the_id_that_a_caller_was_told_finds_the_call_in_the_log_and_in_the_audit(vault: Outside) {
        vault.configure("[log]\nfilter = \"info,lacuna=debug\"\njson = true");
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;

        let answered = door.tokens.detokenize(traced(detokenize(&ada.tokens, CARE))).await.unwrap();
        let id = told(answered.metadata());
        assert_eq!(ended(&vault, &id).await, pair("Detokenize", "Ok"));
        assert_eq!(recorded(&mut door, &id).await, ["Detokenize"]);
        for line in lines(&vault, &id).await {
            assert_eq!(line["trace_id"], TRACE, "{line}");
        }
        let alone = door.tokens.detokenize(detokenize(&ada.tokens, CARE)).await.unwrap();
        let other = told(alone.metadata());
        assert_ne!(id, other);
        assert!(lines(&vault, &other).await.iter().all(|line| line.get("trace_id").is_none()));

        let refused = door.tokens.detokenize(traced(detokenize(&ada.tokens, "curiosity"))).await.unwrap_err();
        let id = told(refused.metadata());
        assert_eq!(ended(&vault, &id).await, pair("Detokenize", "InvalidArgument"));
        assert_eq!(recorded(&mut door, &id).await, ["Detokenize"]);

        let asks = (0..3).map(|_| detokenize(&ada.tokens, CARE));
        let mut stream =
            door.tokens.detokenize_stream(traced(tokio_stream::iter(asks.collect::<Vec<_>>()))).await.unwrap();
        let id = told(stream.metadata());
        let mut answers = 0;
        while let Some(answer) = stream.get_mut().next().await {
            answer.unwrap();
            answers += 1;
        }
        assert_eq!((answers, ended(&vault, &id).await), (3, pair("DetokenizeStream", "Ok")));
        assert_eq!(recorded(&mut door, &id).await, ["Detokenize"; 3]);

        forbid(&vault.url(), "INSERT", "audit_batch");
        let failed = door.tokens.detokenize(traced(detokenize(&ada.tokens, CARE))).await.unwrap_err();
        allow(&vault.url(), "audit_batch");
        assert_eq!(reason(&failed), "AUDIT_UNAVAILABLE");
        let id = told(failed.metadata());
        let lines = lines(&vault, &id).await;
        let fault = lines.iter().find(|line| line["level"] == "ERROR").expect("why it failed is not told");
        assert_eq!((&fault["fields"]["message"], &fault["trace_id"]), (&"a call failed".into(), &TRACE.into()));
        assert!(recorded(&mut door, &id).await.is_empty(), "nothing was revealed");
    }

    async fn a_stranger_is_told_an_id_too_and_lines_for_people_name_it(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        let mut stranger = SubjectServiceClient::with_interceptor(door.channel.clone(), Bearer("somebody".to_owned()));
        let ask = v1::GetSubjectRequest { subject: ada.subject.clone() };
        let refused: Status = stranger.get_subject(traced(ask)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let id = told(refused.metadata());
        let line = format!(" request_id={id} trace_id={TRACE}\n");
        assert!(vault.place.log().contains(&line), "{}", vault.place.log());
        assert!(recorded(&mut door, &id).await.is_empty());
    }
}
