//! `lacuna call attach`, and how parts are shown.

use std::path::PathBuf;

use anyhow::Context as _;
use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use prost_types::Timestamp;
use serde_json::{Value, json};

use crate::cli::client::Remote;
use crate::cli::failure::Result;
use crate::cli::names::Part;
use crate::cli::print::{self, Answer};
use crate::cli::{table, value};
use crate::proto::v1;
use crate::proto::v1::attach_part_request::Body;
use crate::proto::v1::call_part::Outcome;

/// What `call attach` attaches.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  lacuna call attach call_… --party 1 --kind recording --uri s3://calls/2026/1.wav.lacuna --media-type audio/wav
  lacuna call attach call_… --party 1 --kind transcript --text-file call.txt")]
pub struct Attach {
    /// The call.
    call: String,
    /// Whose part it is: the number of a party of the call
    #[arg(long, value_name = "N")]
    party: u32,
    /// What it is
    #[arg(long, value_enum)]
    kind: Part,
    /// Its name, which makes attaching it twice the same as once: prt_ and 26 characters [default: one is made up]
    #[arg(long, value_name = "PART", default_value = "", hide_default_value = true)]
    part: String,
    /// The retention class [default: call.quality; of a note call.ops, of a scorecard agent.hr]
    #[arg(long = "class", value_name = "CODE", default_value = "", hide_default_value = true)]
    retention_class: String,
    /// The media type, such as audio/wav
    #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
    media_type: String,
    /// SHA-256 of what the part stands for, in hex
    #[arg(long, value_name = "HEX", default_value = "", hide_default_value = true)]
    sha256: String,
    /// When it was made (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    time: Option<Timestamp>,
    /// Where it lies; query, user and password are not kept
    #[arg(long, value_name = "ADDRESS", group = "body")]
    uri: Option<String>,
    /// File with the text that it is; `-` for standard input
    #[arg(long, value_name = "FILE|-", group = "body")]
    text_file: Option<PathBuf>,
    /// File that it is; `-` for standard input
    #[arg(long, value_name = "FILE|-", group = "body")]
    file: Option<PathBuf>,
    /// A UUID; repeating the call with the same one changes nothing
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

impl Attach {
    /// Attaches the part.
    pub async fn run(self, remote: &Remote) -> Result<Answer> {
        let hex = HEXLOWER_PERMISSIVE.decode(self.sha256.as_bytes());
        let sha256 = hex.map_err(|_| anyhow::anyhow!("--sha256 expects 64 characters of 0-9 and a-f"))?;
        let body = match (self.uri, self.text_file, self.file) {
            (Some(uri), _, _) => Some(Body::Uri(uri)),
            (None, Some(file), _) => {
                let text = String::from_utf8(read(&file)?).ok();
                Some(Body::Text(text.with_context(|| format!("{} is not text in UTF-8", file.display()))?))
            }
            (None, None, Some(file)) => Some(Body::Content(read(&file)?)),
            (None, None, None) => None,
        };
        let request = v1::AttachPartRequest {
            call: self.call,
            party: self.party,
            kind: self.kind.number(),
            part: self.part,
            retention_class: self.retention_class,
            media_type: self.media_type,
            sha256,
            time: self.time,
            body,
            request_id: self.request_id,
        };
        let response = remote.open().await?.calls.attach_part(request).await?.into_inner();
        let part = response.part.unwrap_or_default();
        let human = if response.created { part.part.clone() } else { format!("{} was there already.", part.part) };
        Ok(Answer::new(json!({ "part": as_json(&part), "created": response.created }), human))
    }
}

fn read(file: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut from: Box<dyn std::io::Read> = if file == std::path::Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?)
    };
    from.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(bytes)
}

/// What is shown of what the viewer of a call does not see.
pub const WITHHELD: &str = "withheld";

/// The parts of a call, as people read them; `hidden` says of which parties they are withheld from the viewer.
pub fn table(parts: &[v1::CallPart], hidden: &dyn Fn(u32) -> bool) -> String {
    let row = |part: &v1::CallPart| {
        let kind = print::enum_name(part.kind, v1::PartKind::as_str_name);
        let content = match &part.outcome {
            Some(Outcome::Uri(text) | Outcome::Text(text)) => table::printable(text),
            Some(Outcome::Content(bytes)) => format!("{} bytes", bytes.len()),
            Some(Outcome::Error(error)) => table::printable(&error.message),
            None if !part.gone.is_empty() => part.gone.clone(),
            None if hidden(part.party) && !part.token.is_empty() => WITHHELD.to_owned(),
            None => part.token.clone(),
        };
        vec![part.part.clone(), table::short(&kind, "PART_KIND_"), part.party.to_string(), content]
    };
    table::table(&["part", "kind", "party", "content"], parts.iter().map(row))
}

/// A part, as programs read it.
pub fn as_json(part: &v1::CallPart) -> Value {
    let mut json = json!({
        "part": part.part,
        "party": part.party,
        "kind": print::enum_name(part.kind, v1::PartKind::as_str_name),
        "retention_class": part.retention_class,
        "media_type": part.media_type,
        "sha256": HEXLOWER.encode(&part.sha256),
        "time": print::time(part.time),
        "create_time": print::time(part.create_time),
        "gone": part.gone,
        "token": part.token,
    });
    let shown = part.outcome.as_ref().map(|outcome| match outcome {
        Outcome::Uri(text) => ("uri", json!(text)),
        Outcome::Text(text) => ("text", json!(text)),
        Outcome::Content(bytes) => ("content", json!(BASE64.encode(bytes))),
        Outcome::Error(error) => ("error", json!(error.message)),
    });
    if let (Some((name, value)), Some(object)) = (shown, json.as_object_mut()) {
        object.insert(name.to_owned(), value);
    }
    json
}
