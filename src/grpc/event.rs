//! `EventService`.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::identity::caller;
use super::subject::{subject_id, wire_subject_state};
use super::{answer, parse, status};
use crate::model::{Change, Channel, Cursor, Error, Label, OutboxKind, PermissionCause, Result, SubjectState};
use crate::proto::v1;
use crate::proto::v1::event_service_server::EventService;
use crate::store::outbox::{Acknowledgement, Placed};
use crate::vault::Vault;
use crate::vault::event::{Acknowledged, Delivery, From, Told, Watch};

/// What no position exceeds.
const FURTHEST: u64 = i64::MAX.cast_unsigned();

/// Most kinds that a request may name.
const MOST_KINDS: usize = 20;

/// The service.
pub struct Events {
    vault: Arc<Vault>,
    /// Whether the server stops.
    stop: watch::Receiver<bool>,
}

impl Events {
    /// A door to this vault, whose streams end when `stop` is set.
    pub const fn new(vault: Arc<Vault>, stop: watch::Receiver<bool>) -> Self {
        Self { vault, stop }
    }
}

#[tonic::async_trait]
impl EventService for Events {
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<v1::WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("WatchEvents", async {
            let ask = watch(&request.into_inner())?;
            let told = self.vault.watch_events(&caller, ask, self.stop.clone()).await?;
            let each = |told: Result<Told>| told.map(wire).map_err(|error| status::to_status(&error));
            Ok(Box::pin(told.map(each)) as Self::WatchEventsStream)
        })
        .await
    }

    async fn acknowledge_event(
        &self,
        request: Request<v1::AcknowledgeEventRequest>,
    ) -> Result<Response<v1::AcknowledgeEventResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("AcknowledgeEvent", async {
            let ask = request.into_inner();
            let consumer = Label::consumer(&ask.consumer)?;
            let cursor = Cursor::parse("cursor", &ask.cursor)?;
            let acknowledged = self.vault.acknowledge_event(&caller, &consumer, cursor).await?;
            Ok(v1::AcknowledgeEventResponse { consumer: Some(wire_consumer(acknowledged)) })
        })
        .await
    }

    async fn list_consumers(
        &self,
        request: Request<v1::ListConsumersRequest>,
    ) -> Result<Response<v1::ListConsumersResponse>, Status> {
        answer("ListConsumers", async {
            let ask = request.into_inner();
            let size = crate::vault::page_size(ask.page_size)?;
            let after = parse::page_token(&ask.page_token, Label::consumer)?;
            let after = after.as_ref().map(Label::as_str).unwrap_or_default();
            let (consumers, next) = self.vault.list_consumers(after, size).await?;
            Ok(v1::ListConsumersResponse {
                consumers: consumers.into_iter().map(wire_consumer).collect(),
                next_page_token: next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn delete_consumer(
        &self,
        request: Request<v1::DeleteConsumerRequest>,
    ) -> Result<Response<v1::DeleteConsumerResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("DeleteConsumer", async {
            let consumer = Label::consumer(&request.into_inner().consumer)?;
            self.vault.delete_consumer(&caller, &consumer).await?;
            Ok(v1::DeleteConsumerResponse {})
        })
        .await
    }

    async fn list_deliveries(
        &self,
        request: Request<v1::ListDeliveriesRequest>,
    ) -> Result<Response<v1::ListDeliveriesResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("ListDeliveries", async {
            let ask = request.into_inner();
            let subject = subject_id(&ask.subject)?;
            let size = crate::vault::page_size(ask.page_size)?;
            let number = |text: &str| text.parse::<u64>().map(|number| number.min(FURTHEST)).map_err(Error::internal);
            let after = parse::page_token(&ask.page_token, number)?.unwrap_or_default();
            let (deliveries, next) = self.vault.list_deliveries(&caller, subject, after, size).await?;
            Ok(v1::ListDeliveriesResponse {
                deliveries: deliveries.into_iter().map(wire_delivery).collect(),
                next_page_token: next.map(|position| position.to_string()).unwrap_or_default(),
            })
        })
        .await
    }
}

fn watch(ask: &v1::WatchEventsRequest) -> Result<Watch> {
    let from = match (ask.from_cursor.as_str(), ask.from_oldest) {
        ("", false) => From::Now,
        ("", true) => From::Oldest,
        (text, false) => From::Cursor(Cursor::parse("from_cursor", text)?),
        (_, true) => return Err(Error::invalid("from_oldest", "is not possible together with a cursor")),
    };
    if ask.kinds.len() > MOST_KINDS {
        return Err(Error::invalid("kinds", "holds more than 20"));
    }
    let kind = |(at, number): (usize, &i32)| {
        let foreign = || Error::invalid(format!("kinds[{at}]"), "is not an EventKind that this vault knows");
        OutboxKind::from_number(*number).ok_or_else(foreign)
    };
    Ok(Watch { from, kinds: ask.kinds.iter().enumerate().map(kind).collect::<Result<_>>()? })
}

fn wire(told: Told) -> v1::WatchEventsResponse {
    let event = told.event.map(|(placed, token)| wire_event(placed, token));
    v1::WatchEventsResponse { event, cursor: told.cursor.to_string() }
}

fn wire_event(placed: Placed, token: Option<String>) -> v1::Event {
    let (event, body) = (placed.event.clone(), placed.event.body);
    let state = body.state.and_then(SubjectState::from_number).map(wire_subject_state);
    v1::Event {
        event: event.id.to_string(),
        kind: event.kind.number(),
        subject: event.subject.map(|subject| subject.to_string()).unwrap_or_default(),
        token: token.unwrap_or_default(),
        create_time: Some(parse::wire_time(event.created_at)),
        erasure: body.erasure.unwrap_or_default(),
        subject_state: state.unwrap_or_default().into(),
        cause: body.cause.map_or(0, PermissionCause::number),
        purpose: body.purpose.unwrap_or_default(),
        channel: body.channel.map_or(0, Channel::number),
        consent_event: body.consent_event.unwrap_or_default(),
        notice: body.notice.unwrap_or_default(),
        version: body.version.and_then(|version| i32::try_from(version).ok()).unwrap_or_default(),
        change: body.change.map_or(0, Change::number),
        caller: body.caller.unwrap_or_default(),
        rpc: body.rpc.unwrap_or_default(),
        hold: body.hold.unwrap_or_default(),
        released: body.released.unwrap_or_default(),
    }
}

fn wire_consumer(acknowledged: Acknowledged) -> v1::Consumer {
    let Acknowledged { consumer, cursor, behind, lost } = acknowledged;
    v1::Consumer {
        consumer: consumer.name,
        cursor: cursor.map(|cursor| cursor.to_string()).unwrap_or_default(),
        acknowledge_time: Some(parse::wire_time(consumer.acknowledged_at)),
        acknowledged_by: consumer.acknowledged_by,
        create_time: Some(parse::wire_time(consumer.registered_at)),
        behind,
        behind_since: consumer.behind_since.map(parse::wire_time),
        lost,
    }
}

fn wire_delivery(delivery: Delivery) -> v1::Delivery {
    let acknowledgement = |found: Acknowledgement| v1::Acknowledgement {
        consumer: found.consumer,
        acknowledge_time: found.at.map(parse::wire_time),
        acknowledged_by: found.caller.unwrap_or_default(),
    };
    v1::Delivery {
        event: Some(wire_event(delivery.event, delivery.token)),
        acknowledgements: delivery.consumers.into_iter().map(acknowledgement).collect(),
    }
}
