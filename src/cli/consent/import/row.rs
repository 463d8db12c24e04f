//! One row: what it says, and the call that says so to the vault.
//!
//! An error names the field and what is expected, never what stands there.

use std::fmt::Display;

use clap::Args;
use data_encoding::HEXLOWER_PERMISSIVE;
use prost::Message as _;
use prost_types::Timestamp;
use serde::Deserialize;

use super::results::Refused;
use crate::cli::names::{Actor, Channel, Kind, Method};
use crate::cli::value;
use crate::crypto::derive::sha256;
use crate::proto::v1::{self, FieldType};

/// What a request id is made under, so that it is one of nothing else.
const DOMAIN: &[u8] = b"lacuna consent import v1\n";

/// The columns of CSV.
pub const COLUMNS: [&str; 24] = [
    "subject",
    "identifier",
    "identifier_type",
    "purpose",
    "channel",
    "kind",
    "effective_time",
    "method",
    "affirmative_action",
    "explicit_consent",
    "actor",
    "notice",
    "notice_version",
    "language",
    "notice_sha256",
    "collection_point",
    "reason",
    "supersedes",
    "bundled",
    "birth_date",
    "evidence_kind",
    "evidence_sha256",
    "evidence_personal",
    "request_id",
];

/// What is said once for rows that do not say it.
#[derive(Args, Default)]
#[command(next_help_heading = "For rows that do not say it")]
pub struct Defaults {
    /// The type of identifiers: `email`
    #[arg(long, value_name = "TYPE", value_parser = value::field_type)]
    identifier_type: Option<FieldType>,
    /// The purpose
    #[arg(long)]
    purpose: Option<String>,
    /// The channel; any where neither says
    #[arg(long, value_enum)]
    channel: Option<Channel>,
    /// What happened
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// When it was expressed (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    effective_time: Option<Timestamp>,
    /// How people decided
    #[arg(long, value_enum)]
    method: Option<Method>,
    /// What they did
    #[arg(long)]
    affirmative_action: Option<String>,
    /// Who decided
    #[arg(long, value_enum)]
    actor: Option<Actor>,
    /// Which notice they were shown
    #[arg(long)]
    notice: Option<String>,
    /// Which version of it; the present one where neither says
    #[arg(long, value_name = "N")]
    notice_version: Option<i32>,
    /// In which language
    #[arg(long)]
    language: Option<String>,
    /// Where it was collected; of kind import or paper, or decisions of the past are refused
    #[arg(long)]
    collection_point: Option<String>,
}

/// A row as it was read.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Row {
    subject: Text,
    identifier: Text,
    identifier_type: Text,
    purpose: Text,
    channel: Text,
    kind: Text,
    effective_time: Text,
    method: Text,
    affirmative_action: Text,
    explicit_consent: Option<Flag>,
    actor: Text,
    notice: Text,
    notice_version: Option<Number>,
    language: Text,
    notice_sha256: Text,
    collection_point: Text,
    reason: Text,
    supersedes: Text,
    bundled: Option<Flag>,
    birth_date: Text,
    evidence: Vec<Evidence>,
    request_id: Text,
}

type Text = Option<String>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Plain(bool),
    Word(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(i32),
    Word(String),
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Evidence {
    kind: Text,
    sha256: Text,
    personal: Text,
}

/// What a row asks for, as far as the row says.
pub struct Wanted {
    /// Whose decision it is.
    pub who: Who,
    /// The text that the person was shown, where its digest has to be looked up.
    pub shown: Option<Shown>,
    /// The call, without what has to be looked up.
    pub request: v1::RecordConsentRequest,
}

/// Whose decision.
pub enum Who {
    /// Somebody by pseudonym.
    Subject(String),
    /// Somebody who has to be found.
    Identifier(FieldType, String),
}

/// A text of a notice.
#[derive(Clone)]
pub struct Shown {
    /// The notice.
    pub notice: String,
    /// 0 for the present one.
    pub version: i32,
    /// May be empty where there is one text only.
    pub language: String,
}

impl Row {
    /// The call that records the row.
    pub fn wanted(self, defaults: &Defaults) -> Result<Wanted, Refused> {
        let evidence = self.evidence.iter().enumerate().map(|(at, evidence)| evidence.wire(at));
        let evidence = evidence.collect::<Result<_, _>>()?;
        let explicit_consent = flag("explicit_consent", self.explicit_consent.as_ref())?;
        let bundled = flag("bundled", self.bundled.as_ref())?;
        let who = self.who(defaults)?;
        let channel = parsed("channel", &self.channel, Channel::parse)?.or(defaults.channel);
        let kind = parsed("kind", &self.kind, Kind::parse)?.or(defaults.kind);
        let method = parsed("method", &self.method, Method::parse)?.or(defaults.method);
        let actor = parsed("actor", &self.actor, Actor::parse)?.or(defaults.actor);
        let time = parsed("effective_time", &self.effective_time, value::time)?.or(defaults.effective_time);
        let missing = |field, message: &str| Refused::row(field, message);
        let digest = |text: &str| HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| "expected 64 hex digits");
        let notice = stated(&self.notice).or(defaults.notice.as_deref()).unwrap_or_default();
        let notice_sha256 = parsed("notice_sha256", &self.notice_sha256, digest)?;
        let version = version(self.notice_version.as_ref())?.or(defaults.notice_version).unwrap_or_default();
        let language = stated(&self.language).or(defaults.language.as_deref()).unwrap_or_default();
        let looked_up = !notice.is_empty() && notice_sha256.is_none();
        let text = |text: &Text| stated(text).unwrap_or_default().to_owned();
        let or = |text: &Text, default: &Text| stated(text).or(default.as_deref()).unwrap_or_default().to_owned();
        Ok(Wanted {
            who,
            shown: looked_up.then(|| Shown { notice: notice.to_owned(), version, language: language.to_owned() }),
            request: v1::RecordConsentRequest {
                subject: String::new(),
                purpose: or(&self.purpose, &defaults.purpose),
                channel: channel.map_or(0, Channel::number),
                kind: kind.ok_or_else(|| missing("kind", "say what happened: give, refuse, withdraw, …"))?.number(),
                method: method.map_or(0, Method::number),
                affirmative_action: or(&self.affirmative_action, &defaults.affirmative_action),
                explicit_consent,
                actor: actor.map_or(0, Actor::number),
                notice: notice.to_owned(),
                notice_sha256: notice_sha256.unwrap_or_default(),
                collection_point: or(&self.collection_point, &defaults.collection_point),
                // Not now: that is when somebody imports, and proves nothing.
                effective_time: Some(time.ok_or_else(|| missing("effective_time", "say when it was expressed"))?),
                evidence,
                bundled,
                reason: text(&self.reason),
                supersedes: text(&self.supersedes),
                birth_date: text(&self.birth_date),
                request_id: text(&self.request_id),
            },
        })
    }

    fn who(&self, defaults: &Defaults) -> Result<Who, Refused> {
        match (stated(&self.subject), stated(&self.identifier)) {
            (Some(subject), None) => Ok(Who::Subject(subject.to_owned())),
            (None, Some(identifier)) => {
                let kind = parsed("identifier_type", &self.identifier_type, value::field_type)?;
                let kind = kind.or(defaults.identifier_type);
                let kind =
                    kind.ok_or_else(|| Refused::row("identifier_type", "say what the identifier is: email, …"))?;
                Ok(Who::Identifier(kind, identifier.to_owned()))
            }
            _ => Err(Refused::row("subject", "say whose decision it is, by subject or by identifier")),
        }
    }
}

impl Evidence {
    fn wire(&self, at: usize) -> Result<v1::ConsentEvidence, Refused> {
        let sha256 = stated(&self.sha256).map(|text| HEXLOWER_PERMISSIVE.decode(text.as_bytes())).transpose();
        Ok(v1::ConsentEvidence {
            kind: stated(&self.kind).unwrap_or_default().to_owned(),
            sha256: sha256
                .map_err(|_| Refused::row(&format!("evidence[{at}].sha256"), "expected 64 hex digits"))?
                .unwrap_or_default(),
            personal: self.personal.clone().unwrap_or_default(),
            token: String::new(),
        })
    }
}

impl Wanted {
    /// Names the request by what the row says of whom; the same row is the same request, wherever it stands and whatever
    /// has been published since. What is personal does not enter: the vault keeps the name in clear.
    pub fn name(&mut self, subject: String) {
        self.request.subject = subject;
        if !self.request.request_id.is_empty() {
            return;
        }
        let bare = v1::RecordConsentRequest {
            birth_date: String::new(),
            evidence: self
                .request
                .evidence
                .iter()
                .map(|evidence| v1::ConsentEvidence { personal: String::new(), ..evidence.clone() })
                .collect(),
            ..self.request.clone()
        };
        let shown = self.shown.as_ref().map(|shown| format!("{}\n{}\n", shown.language, shown.version));
        let digest = sha256(&[DOMAIN, shown.unwrap_or_default().as_bytes(), &bare.encode_to_vec()]);
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(digest).for_each(|(byte, digit)| *byte = digit);
        self.request.request_id = uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string();
    }
}

/// What a field says, if it says anything.
fn stated(text: &Text) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn parsed<T, E: Display>(
    field: &str,
    text: &Text,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Refused> {
    stated(text).map(parse).transpose().map_err(|error| Refused::row(field, error))
}

fn flag(field: &str, given: Option<&Flag>) -> Result<bool, Refused> {
    match given {
        None => Ok(false),
        Some(Flag::Plain(flag)) => Ok(*flag),
        Some(Flag::Word(word)) => match word.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" | "" => Ok(false),
            _ => Err(Refused::row(field, "expected true or false")),
        },
    }
}

fn version(given: Option<&Number>) -> Result<Option<i32>, Refused> {
    match given {
        None => Ok(None),
        Some(Number::Plain(number)) => Ok(Some(*number)),
        Some(Number::Word(word)) if word.trim().is_empty() => Ok(None),
        Some(Number::Word(word)) => {
            let number = word.trim().parse().map_err(|_| Refused::row("notice_version", "expected a number"));
            number.map(Some)
        }
    }
}
