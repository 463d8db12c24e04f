//! `lacuna call event`.

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::bulk::{Feed, finished, open};
use crate::cli::client::Remote;
use crate::cli::failure::Result;
use crate::cli::names::{CallEvent, PauseCause, names};
use crate::cli::report::Report;
use crate::cli::{print, table, value};
use crate::proto::v1;

/// What has happened.
#[derive(clap::Args)]
#[command(after_help = help())]
pub struct Append {
    /// Lines of JSON, or - for standard input
    #[arg(value_name = "FILE|-", default_value = "-")]
    from: String,
}

/// What a line looks like.
const SHAPE: &str = r#"{"source_system", "source_call_id", "event_id", "kind", "event_time", "party"?, "cause"?, "recording"?: {"purposes"?, "jurisdictions"?, "announced"?}}"#;

/// Shown below the help.
fn help() -> String {
    let example = r#"
A line tells of one event; what has a ? may be missing:
  {"source_system": "pbx", "source_call_id": "1795262400.118", "event_id": "7", "kind": "card-pause",
   "event_time": "2026-11-21T12:03:00Z", "party"?: 1, "cause"?: "automatic",
   "recording"?: {"purposes": ["quality"], "jurisdictions"?: {"1": "DE"}, "announced"?: true}}"#;
    let (kinds, causes) = (names::<CallEvent>(), names::<PauseCause>());
    format!("{}\n\nkind is one of {kinds}.\ncause is one of {causes}.", example.trim_start())
}

/// A line.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    source_system: String,
    source_call_id: String,
    event_id: String,
    kind: String,
    event_time: String,
    #[serde(default)]
    party: u32,
    cause: Option<String>,
    recording: Option<Terms>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Terms {
    #[serde(default)]
    purposes: Vec<String>,
    #[serde(default)]
    jurisdictions: std::collections::BTreeMap<u32, String>,
    #[serde(default)]
    announced: bool,
}

impl Append {
    /// Tells of each event, and what came of it.
    pub async fn run(self, remote: &Remote) -> Result<()> {
        use v1::append_call_event_response::Outcome;
        let input = open(&self.from)?;
        let mut vault = remote.open().await?;
        let feed = Feed::of_lines(input, request);
        let mut report = Report::new(remote.output, "events");
        let Feed { requests, mut labels, end } = feed;
        let relay = async {
            let mut answers = vault.calls.append_call_event(ReceiverStream::new(requests)).await?.into_inner();
            while let Some(answer) = answers.message().await? {
                let number = labels.recv().await.unwrap_or_default();
                match answer.outcome {
                    Some(Outcome::Event(kept)) => report.item(&appended(&kept), &human(number, &kept), false)?,
                    Some(Outcome::Error(error)) => report.refused(number, &error)?,
                    None => {}
                }
            }
            finished(end).await
        };
        let end = relay.await;
        report.close("event", "kept", end)
    }
}

/// What a line tells. What is wrong with it is told without what stands there.
fn request(line: &str) -> anyhow::Result<v1::AppendCallEventRequest> {
    let line: Line = value::json_line(line, SHAPE)?;
    let kind = CallEvent::parse(&line.kind).context("kind")?;
    let cause = line.cause.as_deref().map(PauseCause::parse).transpose().context("cause")?;
    let time = value::time(&line.event_time).map_err(|error| anyhow::anyhow!("event_time: {error}"))?;
    let place = |(party, jurisdiction)| v1::PartyJurisdiction { party, jurisdiction };
    let recording = line.recording.map(|terms| v1::RecordingTerms {
        purposes: terms.purposes,
        jurisdictions: terms.jurisdictions.into_iter().map(place).collect(),
        announced: terms.announced,
    });
    Ok(v1::AppendCallEventRequest {
        source_system: line.source_system,
        source_call_id: line.source_call_id,
        event_id: line.event_id,
        kind: kind.number(),
        event_time: Some(time),
        party: line.party,
        cause: cause.map_or(0, PauseCause::number),
        recording,
    })
}

fn instruction(kept: &v1::AppendedCallEvent) -> Value {
    print::enum_name(kept.instruction, v1::RecordingInstruction::as_str_name)
}

fn decision(number: i32) -> Value {
    print::enum_name(number, v1::RecordingDecision::as_str_name)
}

fn appended(kept: &v1::AppendedCallEvent) -> Value {
    let (instruction, decision) = (instruction(kept), decision(kept.decision));
    json!({ "call": kept.call, "repeated": kept.repeated, "instruction": instruction, "decision": decision })
}

fn human(line: usize, kept: &v1::AppendedCallEvent) -> String {
    let told = if kept.repeated { "was there" } else { "kept" };
    let follows = match kept.instruction() {
        v1::RecordingInstruction::Unspecified => String::new(),
        _ => format!(": {}", table::short(&instruction(kept), "RECORDING_INSTRUCTION_").replace('_', " ")),
    };
    format!("line {line}: {} {told}{follows}", kept.call)
}

/// An event of a call.
pub fn as_json(event: &v1::CallEvent) -> Value {
    json!({
        "source_system": event.source_system,
        "source_call_id": event.source_call_id,
        "event_id": event.event_id,
        "kind": print::enum_name(event.kind, v1::CallEventKind::as_str_name),
        "event_time": print::time(event.event_time),
        "party": event.party,
        "cause": print::enum_name(event.cause, v1::CardPauseCause::as_str_name),
        "decision": decision(event.decision),
    })
}

/// Events of a call, for people.
pub fn table(events: &[v1::CallEvent]) -> String {
    let row = |event: &v1::CallEvent| {
        let kind = print::enum_name(event.kind, v1::CallEventKind::as_str_name);
        let cause = match event.cause() {
            v1::CardPauseCause::Unspecified => String::new(),
            cause => table::short(&json!(cause.as_str_name()), "CARD_PAUSE_CAUSE_"),
        };
        let party = if event.party == 0 { String::new() } else { event.party.to_string() };
        vec![table::time(event.event_time), table::short(&kind, "CALL_EVENT_KIND_"), party, cause]
    };
    table::table(&["time", "event", "party", "cause"], events.iter().map(row))
}
