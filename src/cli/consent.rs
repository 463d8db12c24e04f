//! `lacuna consent`: what people decided, and what follows from it.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use prost_types::Timestamp;
use serde_json::{Value, json};

use super::client::Remote;
use super::failure::Result;
use super::page::Paging;
use super::print::{self, Answer};
use super::{proof, table, value};
use crate::proto::v1;

/// A noun's connection and verb.
#[derive(clap::Args)]
pub struct Args {
    /// Which vault, and how to show its answer.
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

/// What can be done with consents.
#[derive(Subcommand)]
enum Verb {
    /// Show how a person's consents stand: purpose by purpose and channel by channel.
    List {
        /// The person.
        subject: String,
    },
    /// Ask whether a person's data may be used; exit status 1 when not.
    Check {
        #[command(flatten)]
        about: About,
        /// At this moment (RFC 3339); now unless given
        #[arg(long, value_name = "TIME", value_parser = value::time)]
        at: Option<Timestamp>,
    },
    /// List what was recorded of a person, oldest first; works after erasure.
    Events {
        /// The person.
        subject: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Record what a person decided, or what became of a decision.
    Record(Box<Record>),
    /// Check a proof or a receipt of consents offline: its signature and, of a proof, the chain, the texts and the decision
    Verify {
        /// File with the signed bundle or receipt, as the API gave it
        file: PathBuf,
        /// File with the public keys of which one must have signed: receipt-signing.pub in the vault's slot directory
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
    },
}

/// Whose data, and what for.
#[derive(clap::Args)]
struct About {
    /// The person.
    subject: String,
    /// The purpose: `marketing.email`
    purpose: String,
    /// The channel; any unless given
    #[arg(long, value_enum)]
    channel: Option<Channel>,
}

/// What `consent record` records.
#[derive(clap::Args)]
struct Record {
    #[command(flatten)]
    about: About,
    /// What happened.
    #[arg(value_enum)]
    kind: Kind,
    /// How the person decided
    #[arg(long, value_enum)]
    method: Option<Method>,
    /// What the person did: `ticked "I agree"`
    #[arg(long, default_value = "", hide_default_value = true)]
    action: String,
    /// Which notice the person was shown
    #[arg(long, default_value = "", hide_default_value = true)]
    notice: String,
    /// In which language; the text's digest is looked up in the present version
    #[arg(long, default_value = "", hide_default_value = true, requires = "notice")]
    language: String,
    /// Where it was collected
    #[arg(long, default_value = "", hide_default_value = true)]
    collection_point: String,
    /// Why: a ticket or a code
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// When it was expressed (RFC 3339); now unless given
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    at: Option<Timestamp>,
    /// The person said so in so many words
    #[arg(long)]
    explicit: bool,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// An enumeration of the API by its names on the command line.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident: $wire:ident { $($variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, ValueEnum)]
        enum $name { $($variant),+ }

        impl $name {
            const fn number(self) -> i32 {
                match self { $(Self::$variant => v1::$wire::$variant as i32),+ }
            }
        }
    };
}

named! {
    /// By which way a person is reached.
    Channel: Channel { Email, Sms, Voice, Post, Push, Web, InPerson }
}
named! {
    /// What is recorded, as `consent_service.proto` documents it.
    Kind: ConsentEventKind {
        Give, Refuse, Request, Confirm, Renew, Withdraw, Object, Revoke, Invalidate, Defer, WithdrawObjection,
        OverrideObjection, Acknowledge,
    }
}
named! {
    /// How a person decided.
    Method: ConsentMethod {
        Form, Oral, KeyPress, Signature, Message, Link, BrowserSignal, Api, PreTicked, Assumed, Silence,
    }
}

/// Carries out a verb.
pub async fn run(args: Args) -> Result<()> {
    let remote = args.remote;
    let answer = match args.verb {
        Verb::List { subject } => list(&remote, subject).await?,
        Verb::Check { about, at } => check(&remote, about, at).await?,
        Verb::Events { subject, paging } => events(&remote, subject, paging).await?,
        Verb::Record(record) => record.run(&remote).await?,
        Verb::Verify { file, public_key } => proof::check(&file, public_key)?,
    };
    remote.output.show(&answer)
}

async fn list(remote: &Remote, subject: String) -> Result<Answer> {
    let response = remote.open().await?.consents.list_consents(v1::ListConsentsRequest { subject }).await?.into_inner();
    let consents: Vec<Value> = response.consents.iter().map(consent).collect();
    let rows = response.consents.iter().map(|consent| {
        let permission = consent.permission.clone().unwrap_or_default();
        vec![
            consent.purpose.clone(),
            channel(consent.channel),
            if permission.allowed { "yes".to_owned() } else { permission.reason },
            state(consent.state),
            table::time(consent.since),
            table::time(consent.valid_until),
        ]
    });
    let mut human = table::table(&["purpose", "channel", "permitted", "consent", "since", "until"], rows);
    if response.suppressed {
        human.push_str("\n\nThe person has objected to all direct marketing.");
    }
    Ok(Answer::new(json!({ "consents": consents, "suppressed": response.suppressed }), human))
}

async fn check(remote: &Remote, about: About, at: Option<Timestamp>) -> Result<Answer> {
    let request = v1::CheckPermissionRequest {
        subject: about.subject,
        purpose: about.purpose,
        channel: about.channel.map_or(0, Channel::number),
        at,
    };
    let response = remote.open().await?.consents.check_permission(request).await?.into_inner();
    let given = response.permission.unwrap_or_default();
    let human = table::record(&[
        ("permitted", if given.allowed { "yes".to_owned() } else { format!("no: {}", given.reason) }),
        ("consent", state(given.state)),
        ("event", given.evidence_event.clone()),
        ("until", table::time(given.valid_until)),
    ]);
    Ok(Answer { json: json!({ "permission": permission(&given) }), human, failed: !given.allowed })
}

async fn events(remote: &Remote, subject: String, paging: Paging) -> Result<Answer> {
    let mut vault = remote.open().await?;
    let page = async |page_size, page_token| {
        let request = v1::ListConsentEventsRequest { subject: subject.clone(), page_size, page_token };
        let response = vault.consents.list_consent_events(request).await?.into_inner();
        Ok((response.events, response.next_page_token))
    };
    let listed = paging.collect(page).await?;
    let events: Vec<Value> = listed.entries.iter().map(event).collect();
    let json = json!({ "events": events, "next_page_token": listed.next_page_token });
    Ok(Answer::new(json, listed.human("event", events_table)))
}

impl Record {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let mut vault = remote.open().await?;
        let mut notice_sha256 = Vec::new();
        if !self.notice.is_empty() {
            let request = v1::GetNoticeRequest { notice: self.notice.clone(), version: 0 };
            let texts = vault.consents.get_notice(request).await?.into_inner().notice.unwrap_or_default().texts;
            let shown = texts.into_iter().find(|text| self.language.is_empty() || text.language == self.language);
            notice_sha256 = shown
                .ok_or_else(|| anyhow::anyhow!("the notice {} has no text in {}", self.notice, self.language))?
                .sha256;
        }
        let request = v1::RecordConsentRequest {
            subject: self.about.subject,
            purpose: self.about.purpose,
            channel: self.about.channel.map_or(0, Channel::number),
            kind: self.kind.number(),
            method: self.method.map_or(0, Method::number),
            affirmative_action: self.action,
            explicit_consent: self.explicit,
            notice: self.notice,
            notice_sha256,
            collection_point: self.collection_point,
            effective_time: self.at,
            reason: self.reason,
            request_id: self.request_id,
            ..Default::default()
        };
        let recorded = vault.consents.record_consent(request).await?.into_inner().events;
        let events: Vec<Value> = recorded.iter().map(event).collect();
        Ok(Answer::new(json!({ "events": events }), events_table(&recorded)))
    }
}

fn events_table(events: &[v1::ConsentEvent]) -> String {
    let rows = events.iter().map(|event| {
        vec![
            event.consent_event.clone(),
            event.purpose.clone(),
            channel(event.channel),
            kind(event.kind),
            state(event.state),
            table::time(event.effective_time),
            event.caller.clone(),
        ]
    });
    table::table(&["event", "purpose", "channel", "what", "consent", "when", "recorded by"], rows)
}

fn channel(number: i32) -> String {
    if number == 0 {
        return "any".to_owned();
    }
    table::short(&print::enum_name(number, v1::Channel::as_str_name), "CHANNEL_")
}

fn state(number: i32) -> String {
    if number == 0 {
        return String::new();
    }
    table::short(&print::enum_name(number, v1::ConsentState::as_str_name), "CONSENT_STATE_")
}

fn kind(number: i32) -> String {
    table::short(&print::enum_name(number, v1::ConsentEventKind::as_str_name), "CONSENT_EVENT_KIND_")
}

fn permission(permission: &v1::Permission) -> Value {
    json!({
        "allowed": permission.allowed,
        "reason": permission.reason,
        "basis": print::enum_name(permission.basis, v1::LawfulBasis::as_str_name),
        "evidence_event": permission.evidence_event,
        "purpose_version": permission.purpose_version,
        "notice_version": permission.notice_version,
        "valid_until": print::time(permission.valid_until),
        "state": print::enum_name(permission.state, v1::ConsentState::as_str_name),
    })
}

fn consent(consent: &v1::Consent) -> Value {
    json!({
        "purpose": consent.purpose,
        "channel": print::enum_name(consent.channel, v1::Channel::as_str_name),
        "state": print::enum_name(consent.state, v1::ConsentState::as_str_name),
        "since": print::time(consent.since),
        "valid_until": print::time(consent.valid_until),
        "review_time": print::time(consent.review_time),
        "objected": consent.objected,
        "last_event": consent.last_event,
        "permission": consent.permission.as_ref().map(permission),
    })
}

fn event(event: &v1::ConsentEvent) -> Value {
    let hex = |bytes: &[u8]| crate::keys::checkpoint::hex(bytes);
    json!({
        "consent_event": event.consent_event,
        "subject": event.subject,
        "purpose": event.purpose,
        "purpose_version": event.purpose_version,
        "channel": print::enum_name(event.channel, v1::Channel::as_str_name),
        "kind": print::enum_name(event.kind, v1::ConsentEventKind::as_str_name),
        "state": print::enum_name(event.state, v1::ConsentState::as_str_name),
        "method": print::enum_name(event.method, v1::ConsentMethod::as_str_name),
        "affirmative_action": event.affirmative_action,
        "actor": print::enum_name(event.actor, v1::ConsentActor::as_str_name),
        "notice": event.notice,
        "notice_version": event.notice_version,
        "language": event.language,
        "collection_point": event.collection_point,
        "effective_time": print::time(event.effective_time),
        "record_time": print::time(event.record_time),
        "valid_until": print::time(event.valid_until),
        "reason": event.reason,
        "caller": event.caller,
        "previous_hash": hex(&event.previous_hash),
        "hash": hex(&event.hash),
    })
}
