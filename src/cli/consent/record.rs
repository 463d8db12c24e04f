//! `lacuna consent record`: one decision.

use prost_types::Timestamp;
use serde_json::{Value, json};

use super::{About, shown};
use crate::cli::client::Remote;
use crate::cli::failure::Result;
use crate::cli::names::{Actor, Channel, Kind, Method};
use crate::cli::print::Answer;
use crate::cli::{notice, value};
use crate::proto::v1;

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  lacuna consent record sub_a4k3cj6b3f6twla36ga64eaaaa marketing.email give --channel email --method form --action 'ticked \"I agree\"' --notice privacy --language de --collection-point web:signup
  lacuna consent record sub_a4k3cj6b3f6twla36ga64eaaaa marketing.email withdraw";

/// What `consent record` records.
#[derive(clap::Args)]
pub struct Record {
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
    /// Who decided; the person unless given, or the controller of what only a controller does
    #[arg(long, value_enum)]
    actor: Option<Actor>,
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
    /// The event that this one corrects
    #[arg(long, value_name = "EVENT", default_value = "", hide_default_value = true)]
    supersedes: String,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

impl Record {
    /// Records it.
    pub async fn run(self, remote: &Remote) -> Result<Answer> {
        let mut vault = remote.open().await?;
        let mut notice_sha256 = Vec::new();
        if !self.notice.is_empty() {
            let request = v1::GetNoticeRequest { notice: self.notice.clone(), version: 0 };
            let shown = vault.consents.get_notice(request).await?.into_inner().notice.unwrap_or_default();
            notice_sha256.clone_from(&notice::text(&shown, &self.language)?.sha256);
        }
        let request = v1::RecordConsentRequest {
            channel: self.about.channel.map_or(0, Channel::number),
            subject: self.about.subject,
            purpose: self.about.purpose,
            kind: self.kind.number(),
            method: self.method.map_or(0, Method::number),
            affirmative_action: self.action,
            explicit_consent: self.explicit,
            actor: self.actor.map_or(0, Actor::number),
            notice: self.notice,
            notice_sha256,
            collection_point: self.collection_point,
            effective_time: self.at,
            reason: self.reason,
            supersedes: self.supersedes,
            request_id: self.request_id,
            ..Default::default()
        };
        let recorded = vault.consents.record_consent(request).await?.into_inner().events;
        let events: Vec<Value> = recorded.iter().map(shown::event).collect();
        Ok(Answer::new(json!({ "events": events }), shown::events_table(&recorded)))
    }
}
