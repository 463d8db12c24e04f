//! `lacuna events`: what changed, and who has been told.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::Remote;
use super::failure::Result;
use super::page::Paging;
use super::print::{self, Answer, Output};
use super::table;
use crate::proto::v1;

/// What can be done with events.
#[derive(Subcommand)]
pub enum Verb {
    /// Follow what changes: one line an event, with --output json one JSON document.
    Watch(WatchArgs),
    /// Note that a consumer has dealt with everything up to a cursor.
    Ack {
        /// The consumer.
        consumer: String,
        /// The cursor that came with the event.
        cursor: String,
    },
    /// List the consumers, and how far each is behind.
    Consumers(Paging),
    /// Forget a consumer that is no more, with all that it has acknowledged.
    Forget {
        /// The consumer.
        consumer: String,
    },
    /// List the events about a person, and who has acknowledged them; works after erasure.
    Deliveries {
        /// The person.
        subject: String,
        #[command(flatten)]
        paging: Paging,
    },
}

/// Arguments of `lacuna events watch`.
#[derive(clap::Args)]
pub struct WatchArgs {
    /// Go on at this cursor, its event included; from now on unless given
    #[arg(long, value_name = "CURSOR", default_value = "", hide_default_value = true)]
    from: String,
    /// Begin with the oldest event that is kept
    #[arg(long, conflicts_with = "from")]
    oldest: bool,
    /// Only events of this kind; may be given several times
    #[arg(long, value_name = "KIND", value_enum)]
    kind: Vec<Kind>,
    /// Stop once all that there is has been told
    #[arg(long)]
    until_now: bool,
    /// Show checkpoints, too: cursors without an event
    #[arg(long)]
    checkpoints: bool,
}

/// What has changed.
#[derive(Clone, Copy, ValueEnum)]
pub enum Kind {
    SubjectErased,
    SubjectRestricted,
    SubjectReleased,
    PermissionChanged,
    TokenUpdated,
    TokenDeleted,
    NoticeChanged,
    HoldChanged,
    HoneyTouched,
    EnumerationSuspected,
}

impl From<Kind> for v1::EventKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::SubjectErased => Self::SubjectErased,
            Kind::SubjectRestricted => Self::SubjectRestricted,
            Kind::SubjectReleased => Self::SubjectReleased,
            Kind::PermissionChanged => Self::PermissionChanged,
            Kind::TokenUpdated => Self::TokenUpdated,
            Kind::TokenDeleted => Self::TokenDeleted,
            Kind::NoticeChanged => Self::NoticeChanged,
            Kind::HoldChanged => Self::HoldChanged,
            Kind::HoneyTouched => Self::HoneyTouched,
            Kind::EnumerationSuspected => Self::EnumerationSuspected,
        }
    }
}

/// Carries out a verb.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let mut vault = remote.open().await?;
    let answer = match verb {
        Verb::Watch(args) => return watch(&remote, args).await,
        Verb::Ack { consumer, cursor } => {
            let request = v1::AcknowledgeEventRequest { consumer, cursor };
            let acknowledged = vault.events.acknowledge_event(request).await?.into_inner().consumer.unwrap_or_default();
            Answer::new(json!({ "consumer": consumer_json(&acknowledged) }), one(&acknowledged))
        }
        Verb::Consumers(paging) => {
            let page = async |page_size, page_token| {
                let request = v1::ListConsumersRequest { page_size, page_token };
                let response = vault.events.list_consumers(request).await?.into_inner();
                Ok((response.consumers, response.next_page_token))
            };
            let listed = paging.collect(page).await?;
            let consumers: Vec<Value> = listed.entries.iter().map(consumer_json).collect();
            let json = json!({ "consumers": consumers, "next_page_token": listed.next_page_token });
            Answer::new(json, listed.human("consumer", consumers_table))
        }
        Verb::Forget { consumer } => {
            let human = format!("{consumer} is forgotten.");
            vault.events.delete_consumer(v1::DeleteConsumerRequest { consumer }).await?;
            Answer::new(json!({}), human)
        }
        Verb::Deliveries { subject, paging } => {
            let page = async |page_size, page_token| {
                let request = v1::ListDeliveriesRequest { subject: subject.clone(), page_size, page_token };
                let response = vault.events.list_deliveries(request).await?.into_inner();
                Ok((response.deliveries, response.next_page_token))
            };
            let listed = paging.collect(page).await?;
            let deliveries: Vec<Value> = listed.entries.iter().map(delivery).collect();
            let json = json!({ "deliveries": deliveries, "next_page_token": listed.next_page_token });
            Answer::new(json, listed.human("event", deliveries_table))
        }
    };
    remote.output.show(&answer)
}

async fn watch(remote: &Remote, args: WatchArgs) -> Result<()> {
    let kinds = args.kind.into_iter().map(|kind| v1::EventKind::from(kind).into()).collect();
    let request = v1::WatchEventsRequest { from_cursor: args.from, kinds, from_oldest: args.oldest };
    let mut told = remote.open().await?.events.watch_events(request).await?.into_inner();
    while let Some(v1::WatchEventsResponse { event, cursor }) = told.message().await? {
        if event.is_some() || args.checkpoints {
            print::line(&match remote.output {
                Output::Json => json!({ "event": event.as_ref().map(event_json), "cursor": cursor }).to_string(),
                Output::Human => {
                    event.as_ref().map_or_else(|| format!("checkpoint  {cursor}"), |event| line(event, &cursor))
                }
            })?;
        }
        if event.is_none() && args.until_now {
            return Ok(());
        }
    }
    eprintln!("the server has stopped; go on with --from and the last cursor");
    Ok(())
}

fn line(event: &v1::Event, cursor: &str) -> String {
    let about = about(event);
    [table::time(event.create_time), kind(event), event.subject.clone(), about, cursor.to_owned()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("  ")
}

fn kind(event: &v1::Event) -> String {
    table::short(&print::enum_name(event.kind, v1::EventKind::as_str_name), "EVENT_KIND_")
}

/// Ids and codes of an event, in words.
fn about(event: &v1::Event) -> String {
    let cause = table::short(&print::enum_name(event.cause, v1::PermissionCause::as_str_name), "PERMISSION_CAUSE_");
    let channel = table::short(&print::enum_name(event.channel, v1::Channel::as_str_name), "CHANNEL_");
    let version = if event.version > 0 { format!("version {}", event.version) } else { String::new() };
    let parts = [
        &event.token,
        &event.erasure,
        &cause,
        &event.purpose,
        &channel,
        &event.notice,
        &event.hold,
        &version,
        &event.caller,
        &event.rpc,
    ];
    parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ")
}

fn event_json(event: &v1::Event) -> Value {
    json!({
        "event": event.event,
        "kind": print::enum_name(event.kind, v1::EventKind::as_str_name),
        "subject": event.subject,
        "token": event.token,
        "create_time": print::time(event.create_time),
        "erasure": event.erasure,
        "subject_state": print::enum_name(event.subject_state, v1::SubjectState::as_str_name),
        "cause": print::enum_name(event.cause, v1::PermissionCause::as_str_name),
        "purpose": event.purpose,
        "channel": print::enum_name(event.channel, v1::Channel::as_str_name),
        "consent_event": event.consent_event,
        "notice": event.notice,
        "version": event.version,
        "change": print::enum_name(event.change, v1::VersionChange::as_str_name),
        "caller": event.caller,
        "rpc": event.rpc,
        "hold": event.hold,
        "released": event.released,
    })
}

fn consumer_json(consumer: &v1::Consumer) -> Value {
    json!({
        "consumer": consumer.consumer,
        "cursor": consumer.cursor,
        "acknowledge_time": print::time(consumer.acknowledge_time),
        "acknowledged_by": consumer.acknowledged_by,
        "create_time": print::time(consumer.create_time),
        "behind": consumer.behind,
        "behind_since": print::time(consumer.behind_since),
        "lost": consumer.lost,
    })
}

fn one(consumer: &v1::Consumer) -> String {
    table::record(&[
        ("consumer", consumer.consumer.clone()),
        ("acknowledged", table::time(consumer.acknowledge_time)),
        ("by", consumer.acknowledged_by.clone()),
        ("behind", behind(consumer)),
        ("since", table::time(consumer.behind_since)),
        ("cursor", consumer.cursor.clone()),
    ])
}

fn behind(consumer: &v1::Consumer) -> String {
    let events = table::count(usize::try_from(consumer.behind).unwrap_or(usize::MAX), "event");
    if consumer.lost { format!("{events}, some of them no longer kept") } else { events }
}

fn consumers_table(consumers: &[v1::Consumer]) -> String {
    let rows = consumers.iter().map(|consumer| {
        vec![
            consumer.consumer.clone(),
            table::time(consumer.acknowledge_time),
            consumer.acknowledged_by.clone(),
            behind(consumer),
            table::time(consumer.behind_since),
        ]
    });
    table::table(&["consumer", "acknowledged", "by", "behind", "since"], rows)
}

fn delivery(delivery: &v1::Delivery) -> Value {
    let acknowledgement = |found: &v1::Acknowledgement| {
        json!({
            "consumer": found.consumer,
            "acknowledge_time": print::time(found.acknowledge_time),
            "acknowledged_by": found.acknowledged_by,
        })
    };
    json!({
        "event": delivery.event.as_ref().map(event_json),
        "acknowledgements": delivery.acknowledgements.iter().map(acknowledgement).collect::<Vec<_>>(),
    })
}

fn deliveries_table(deliveries: &[v1::Delivery]) -> String {
    let rows = deliveries.iter().flat_map(|delivery| {
        let event = delivery.event.clone().unwrap_or_default();
        let begin = vec![table::time(event.create_time), kind(&event), about(&event)];
        let row = move |consumer: &str, told: String| [begin.clone(), vec![consumer.to_owned(), told]].concat();
        if delivery.acknowledgements.is_empty() {
            return vec![row("", String::new())];
        }
        let told = |found: &v1::Acknowledgement| match found.acknowledge_time {
            Some(time) => row(&found.consumer, print::rfc3339(&time)),
            None => row(&found.consumer, "not yet".to_owned()),
        };
        delivery.acknowledgements.iter().map(told).collect()
    });
    table::table(&["happened", "event", "about", "consumer", "acknowledged"], rows)
}
