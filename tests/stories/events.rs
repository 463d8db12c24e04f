//! Events: every system that keeps copies is told what changed, and can be shown to have been told.

use std::collections::BTreeSet;
use std::time::Duration;

use lacuna::crypto::SystemRandom;
use lacuna::model::{Clock as _, OutboxEvent, PermissionCause, SubjectId};
use lacuna::proto::v1;
use lacuna::proto::v1::event_service_client::EventServiceClient;
use lacuna::proto::v1::{ConsentEventKind, EventKind, PermissionCause as Cause, SubjectState as State};
use tonic::{Code, Status, Streaming};

use crate::asks::{CARE, correct, metadata, moment};
use crate::consents::{DAY, NEWS, OFFERS, Office, notice};
use crate::house::{House, Link, fields_at_fault, on_both_stores, reason};
use crate::process::execute;
use crate::restore::Yesterday;

/// How long something may take that is told at once.
const PATIENCE: Duration = Duration::from_secs(30);

pub type Door = EventServiceClient<Link>;

/// One who watches.
pub struct Watcher(Streaming<v1::WatchEventsResponse>);

impl Watcher {
    pub async fn try_of(door: &mut Door, request: v1::WatchEventsRequest) -> Result<Self, Status> {
        Ok(Self(door.watch_events(request).await?.into_inner()))
    }

    pub async fn of(door: &mut Door, request: v1::WatchEventsRequest) -> Self {
        Self::try_of(door, request).await.unwrap()
    }

    /// From now on; what comes first is a checkpoint.
    pub async fn from_now(door: &mut Door) -> (Self, String) {
        let mut watcher = Self::of(door, v1::WatchEventsRequest::default()).await;
        let first = watcher.next().await.unwrap().unwrap();
        assert_eq!(first.event, None);
        (watcher, first.cursor)
    }

    pub async fn next(&mut self) -> Result<Option<v1::WatchEventsResponse>, Status> {
        tokio::time::timeout(PATIENCE, self.0.message()).await.expect("nothing is told")
    }

    /// The next event, with its cursor.
    pub async fn event(&mut self) -> (v1::Event, String) {
        loop {
            let told = self.next().await.unwrap().expect("the stream has ended");
            if let Some(event) = told.event {
                return (event, told.cursor);
            }
        }
    }

    /// The events up to the next checkpoint, each with its cursor, and the cursor of that.
    pub async fn until_checkpoint(&mut self) -> (Vec<(v1::Event, String)>, String) {
        let mut events = Vec::new();
        loop {
            let told = self.next().await.unwrap().expect("the stream has ended");
            match told.event {
                Some(event) => events.push((event, told.cursor)),
                None => return (events, told.cursor),
            }
        }
    }
}

pub fn from(cursor: &str) -> v1::WatchEventsRequest {
    v1::WatchEventsRequest { from_cursor: cursor.to_owned(), ..Default::default() }
}

pub fn oldest() -> v1::WatchEventsRequest {
    v1::WatchEventsRequest { from_oldest: true, ..Default::default() }
}

/// Everything that is kept.
pub async fn all(door: &mut Door) -> Vec<(v1::Event, String)> {
    Watcher::of(door, oldest()).await.until_checkpoint().await.0
}

fn ids(events: &[(v1::Event, String)]) -> Vec<String> {
    events.iter().map(|(event, _)| event.event.clone()).collect()
}

async fn refused(door: &mut Door, cursor: &str) -> Status {
    match Watcher::try_of(door, from(cursor)).await {
        Ok(_) => panic!("the cursor is good"),
        Err(status) => status,
    }
}

async fn is_lost(door: &mut Door, cursor: &str, cause: &str) {
    let status = refused(door, cursor).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "CURSOR_LOST"), "{status:?}");
    assert_eq!(metadata(&status)["cause"], cause);
    assert!(status.message().contains("read anew"), "{status:?}");
}

pub async fn acknowledge(door: &mut Door, consumer: &str, cursor: &str) -> Result<v1::Consumer, Status> {
    let request = v1::AcknowledgeEventRequest { consumer: consumer.to_owned(), cursor: cursor.to_owned() };
    Ok(door.acknowledge_event(request).await?.into_inner().consumer.unwrap())
}

async fn consumers(door: &mut Door) -> Vec<v1::Consumer> {
    door.list_consumers(v1::ListConsumersRequest::default()).await.unwrap().into_inner().consumers
}

async fn deliveries(door: &mut Door, subject: &str) -> Vec<v1::Delivery> {
    let request = v1::ListDeliveriesRequest { subject: subject.to_owned(), ..Default::default() };
    door.list_deliveries(request).await.unwrap().into_inner().deliveries
}

impl House {
    async fn switch_profiling(&mut self, subject: &str, enabled: bool) {
        let request = v1::SetProfilingRequest { subject: subject.to_owned(), enabled, ..Default::default() };
        self.subjects.set_profiling(request).await.unwrap();
    }

    async fn restrict(&mut self, subject: &str) {
        let request = v1::RestrictSubjectRequest {
            subject: subject.to_owned(),
            ground: "art18_1_a".to_owned(),
            ..Default::default()
        };
        self.subjects.restrict_subject(request).await.unwrap();
    }

    async fn lift(&mut self, subject: &str) {
        let request = v1::LiftRestrictionRequest {
            subject: subject.to_owned(),
            subject_informed_time: Some(self.in_time(Duration::ZERO)),
            ..Default::default()
        };
        self.subjects.lift_restriction(request).await.unwrap();
    }

    /// Writes events past all deeds, many at once.
    async fn tell(&self, subject: &str, number: usize) {
        let subject: SubjectId = subject.parse().unwrap();
        let (random, now) = (SystemRandom::new(), self.clock.now());
        let event = |_| OutboxEvent::of_switch(subject, PermissionCause::Profiling, now, &random);
        let events: Vec<_> = (0..number).map(event).collect();
        let mut tx = self.running().vault.custody().store().write().await.unwrap();
        tx.lock_subjects(&[subject]).await.unwrap();
        tx.tell(&events).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// What tells events apart in a list.
/// Puts another history in the place of the one that is there, as a failover to a database that went another way does.
const ANOTHER_HISTORY: &str =
    "UPDATE outbox SET mark = (SELECT history FROM outbox_head); UPDATE outbox_head SET mark = history";

/// The stream tells nothing more of the history that it does not know.
async fn has_ended(watcher: &mut Watcher) {
    let status = loop {
        match watcher.next().await {
            // A checkpoint may have been on its way.
            Ok(told) => assert_eq!(told.unwrap().event, None),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "CURSOR_LOST"), "{status:?}");
    assert_eq!(metadata(&status)["cause"], "OTHER_HISTORY");
}

fn short(event: &v1::Event) -> (EventKind, Cause, &str) {
    (event.kind(), event.cause(), event.purpose.as_str())
}

on_both_stores! {
    async fn each_change_is_told_once_by_ids_and_codes(house: House) {
        let mut office = Office::open(house).await;
        let mut door = office.house.events().await;
        let (mut watcher, _) = Watcher::from_now(&mut door).await;
        let ada = office.house.somebody("Ada MARKED").await;
        let subject = ada.subject.clone();
        office.publish(notice(), v1::VersionChange::Minor).await;
        let given = office.say(&subject, NEWS, ConsentEventKind::Give).await;
        office.say(&subject, OFFERS, ConsentEventKind::Refuse).await;
        office.say(&subject, NEWS, ConsentEventKind::Withdraw).await;
        office.say(&subject, OFFERS, ConsentEventKind::Object).await;
        office.house.switch_profiling(&subject, false).await;
        office.house.switch_profiling(&subject, false).await;
        office.house.restrict(&subject).await;
        office.house.lift(&subject).await;
        office.house.tokens.update_token(correct(&ada.tokens[0], "marked@example.com")).await.unwrap();
        let request = v1::DeleteTokenRequest { token: ada.tokens[1].clone(), ..Default::default() };
        office.house.tokens.delete_token(request).await.unwrap();
        let request = v1::EraseSubjectRequest {
            subject: subject.clone(),
            reason: "art17_1_b".to_owned(),
            execute_time: Some(office.house.in_time(DAY)),
            ..Default::default()
        };
        let scheduled = office.house.subjects.erase_subject(request).await.unwrap().into_inner().erasure.unwrap();
        let request = v1::CancelErasureRequest { erasure: scheduled.erasure.clone() };
        office.house.subjects.cancel_erasure(request).await.unwrap();
        let erasure = office.house.erase(&subject).await;

        let mut events = Vec::new();
        while events.last().is_none_or(|event: &v1::Event| event.kind() != EventKind::SubjectErased) {
            events.push(watcher.event().await.0);
        }
        let told: Vec<_> = events.iter().map(short).collect();
        let none = Cause::Unspecified;
        assert_eq!(
            told,
            [
                (EventKind::NoticeChanged, none, ""),
                (EventKind::PermissionChanged, Cause::Consent, NEWS),
                (EventKind::PermissionChanged, Cause::Consent, OFFERS),
                (EventKind::PermissionChanged, Cause::Consent, NEWS),
                (EventKind::PermissionChanged, Cause::Consent, OFFERS),
                (EventKind::PermissionChanged, Cause::Suppression, ""),
                (EventKind::PermissionChanged, Cause::Profiling, ""),
                (EventKind::SubjectRestricted, none, ""),
                (EventKind::SubjectReleased, none, ""),
                (EventKind::TokenUpdated, none, ""),
                (EventKind::TokenDeleted, none, ""),
                (EventKind::SubjectRestricted, none, ""),
                (EventKind::SubjectReleased, none, ""),
                (EventKind::SubjectErased, none, ""),
            ]
        );
        assert_eq!((events[0].notice.as_str(), events[0].version, events[0].change()), ("privacy", 2, v1::VersionChange::Minor));
        assert!(events[0].subject.is_empty() && events[1..].iter().all(|event| event.subject == subject));
        assert_eq!((&events[1].consent_event, events[1].channel()), (&given[0].consent_event, v1::Channel::Email));
        assert_eq!([&events[9].token, &events[10].token], [&ada.tokens[0], &ada.tokens[1]]);
        let states = [7, 8, 11, 13].map(|at: usize| events[at].subject_state());
        assert_eq!(states, [State::Restricted, State::Active, State::Scheduled, State::Shredded]);
        assert_eq!((&events[11].erasure, &events[13].erasure), (&scheduled.erasure, &erasure.erasure));
        let different: BTreeSet<_> = events.iter().map(|event| &event.event).collect();
        assert_eq!(different.len(), events.len());
        // Neither in what is told nor in what is kept.
        let mut tx = office.house.running().vault.custody().store().read().await.unwrap();
        let kept = tx.events_after(0, 1000).await.unwrap().1;
        for text in [format!("{events:?}"), format!("{kept:?}")].map(|text| text.to_lowercase()) {
            assert!(!text.contains("marked") && !text.contains("example.com"), "{text}");
        }
    }

    async fn a_definition_is_told_without_a_subject_and_a_shaped_token_by_its_shape(house: House) {
        let mut office = Office::open(house).await;
        let mut door = office.house.events().await;
        let before = all(&mut door).await;
        let kinds: Vec<_> = before.iter().map(|(event, _)| short(event)).collect();
        let defined = |code| (EventKind::PermissionChanged, Cause::Purpose, code);
        assert_eq!(kinds, [(EventKind::NoticeChanged, Cause::Unspecified, ""), defined(NEWS), defined(OFFERS)]);
        office.door.retire_purpose(v1::RetirePurposeRequest { code: OFFERS.to_owned() }).await.unwrap();
        let field = crate::asks::shaped(v1::FieldType::Email, "ada@example.com");
        let token = office.house.one("", field).await;
        office.house.tokens.update_token(correct(&token.token, "lovelace@example.com")).await.unwrap();
        let mut watcher = Watcher::of(&mut door, from(&before[2].1)).await;
        assert_eq!(watcher.event().await.0, before[2].0, "what is at the cursor is told again");
        let (retired, updated) = (watcher.event().await.0, watcher.event().await.0);
        assert_eq!((short(&retired), retired.version), (defined(OFFERS), 2));
        assert_eq!((updated.kind(), updated.token), (EventKind::TokenUpdated, token.token));
    }

    async fn a_withdrawal_by_link_is_told_once_however_often_the_link_is_followed(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        office.say(&ada.subject, NEWS, ConsentEventKind::Give).await;
        let request = v1::CreateWithdrawalLinkRequest {
            subject: ada.subject.clone(),
            purpose: NEWS.to_owned(),
            channel: v1::Channel::Email.into(),
        };
        let link = office.door.create_withdrawal_link(request).await.unwrap().into_inner().link;
        let mut door = office.house.events().await;
        let (mut watcher, _) = Watcher::from_now(&mut door).await;
        for _ in 0..3 {
            let request = v1::WithdrawByLinkRequest { link: link.clone(), purpose: NEWS.to_owned() };
            office.door.withdraw_by_link(request).await.unwrap();
        }
        office.house.restrict(&ada.subject).await;
        let (withdrawn, cursor) = watcher.event().await;
        assert_eq!(short(&withdrawn), (EventKind::PermissionChanged, Cause::Consent, NEWS));
        assert_eq!(watcher.event().await.0.kind(), EventKind::SubjectRestricted, "and nothing in between");
        let mut again = Watcher::of(&mut door, from(&cursor)).await;
        assert_eq!(again.event().await.0, withdrawn, "told again, it is the same event");
    }

    async fn who_was_interrupted_goes_on_where_they_were_also_after_a_restart(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        for enabled in [false, true, false, true] {
            house.switch_profiling(&ada.subject, enabled).await;
        }
        let mut door = house.events().await;
        let before = all(&mut door).await;
        assert_eq!(before.len(), 4);
        drop(door);
        house.reopen().await;
        house.switch_profiling(&ada.subject, false).await;
        let mut door = house.events().await;
        let after = all(&mut door).await;
        assert_eq!(after[..4], before[..], "the same events under the same cursors");
        assert_eq!(after.len(), 5);
        for at in 0..5 {
            let rest = Watcher::of(&mut door, from(&after[at].1)).await.until_checkpoint().await.0;
            assert_eq!(rest, after[at..], "the event at the cursor is told again, then what follows");
        }
        // A cursor from before anything happened is good as long as everything is kept.
        let kinds = vec![EventKind::SubjectErased.into()];
        let nothing = v1::WatchEventsRequest { kinds, ..oldest() };
        let (none, cursor) = Watcher::of(&mut door, nothing).await.until_checkpoint().await;
        assert!(none.is_empty());
        assert_eq!(cursor, after[4].1, "a checkpoint tells that all there was is told");
    }

    async fn a_checkpoint_moves_the_cursor_of_who_waits_for_something_else(house: House) {
        let mut house = house;
        house.config.events.checkpoint_seconds = 1;
        house.reopen().await;
        let ada = house.somebody("Ada").await;
        let mut door = house.events().await;
        let kinds = vec![EventKind::SubjectErased.into(), EventKind::SubjectRestricted.into()];
        let mut watcher = Watcher::of(&mut door, v1::WatchEventsRequest { kinds, ..Default::default() }).await;
        let (_, first) = watcher.until_checkpoint().await;
        house.switch_profiling(&ada.subject, false).await;
        let mut moved = watcher.until_checkpoint().await;
        while moved.1 == first {
            assert!(moved.0.is_empty());
            moved = watcher.until_checkpoint().await;
        }
        let still = watcher.until_checkpoint().await;
        assert_eq!(still, (Vec::new(), moved.1.clone()), "and comes again while nothing happens");
        house.restrict(&ada.subject).await;
        assert_eq!(watcher.event().await.0.kind(), EventKind::SubjectRestricted);
        let (rest, _) = Watcher::of(&mut door, from(&moved.1)).await.until_checkpoint().await;
        let kinds: Vec<_> = rest.iter().map(|(event, _)| event.kind()).collect();
        assert_eq!(kinds, [EventKind::PermissionChanged, EventKind::SubjectRestricted]);
    }

    async fn what_was_acknowledged_is_kept_and_never_goes_back(house: House) {
        let mut house = house;
        let [ada, bob] = [house.somebody("Ada").await, house.somebody("Bob").await];
        let mut door = house.events().await;
        let (mut watcher, begin) = Watcher::from_now(&mut door).await;
        let crm = acknowledge(&mut door, "crm", &begin).await.unwrap();
        assert_eq!((crm.behind, crm.lost, crm.behind_since, crm.cursor.as_str()), (0, false, None, begin.as_str()));
        acknowledge(&mut door, "mailer:eu", &begin).await.unwrap();
        house.restrict(&bob.subject).await;
        house.erase(&ada.subject).await;
        let (restricted, first) = watcher.event().await;
        let (erased, second) = watcher.event().await;
        let crm = acknowledge(&mut door, "crm", &second).await.unwrap();
        assert_eq!((crm.behind, crm.acknowledged_by.as_str()), (0, "development"));
        assert_eq!(acknowledge(&mut door, "crm", &second).await.unwrap(), crm, "once more changes nothing");
        assert_eq!(acknowledge(&mut door, "crm", &first).await.unwrap(), crm, "nor does an earlier one");
        let known = consumers(&mut door).await;
        assert_eq!(known.iter().map(|one| (one.consumer.as_str(), one.behind)).collect::<Vec<_>>(), [("crm", 0), ("mailer:eu", 2)]);
        assert_eq!((&known[0], known[1].behind_since), (&crm, restricted.create_time));
        assert_eq!(Watcher::of(&mut door, from(&known[1].cursor)).await.event().await.0, restricted, "where it goes on");

        let told = deliveries(&mut door, &ada.subject).await;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].event, Some(erased));
        let acknowledged: Vec<_> =
            told[0].acknowledgements.iter().map(|one| (one.consumer.as_str(), one.acknowledge_time)).collect();
        assert_eq!(acknowledged, [("crm", crm.acknowledge_time), ("mailer:eu", None)]);
        // With the next one everything before counts as well, from then on.
        let late = acknowledge(&mut door, "mailer:eu", &second).await.unwrap();
        for subject in [&ada.subject, &bob.subject] {
            let told = deliveries(&mut door, subject).await;
            assert_eq!(told[0].acknowledgements[1].acknowledge_time, late.acknowledge_time);
        }
        assert!(moment(late.acknowledge_time) > moment(crm.acknowledge_time));

        house.reopen().await;
        let mut door = house.events().await;
        let gone = v1::DeleteConsumerRequest { consumer: "mailer:eu".to_owned() };
        door.delete_consumer(gone.clone()).await.unwrap();
        assert_eq!(consumers(&mut door).await, [crm]);
        let unknown = door.delete_consumer(gone).await.unwrap_err();
        assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "CONSUMER_UNKNOWN"));
    }

    async fn what_makes_no_sense_is_refused_with_the_field(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        house.restrict(&ada.subject).await;
        let mut door = house.events().await;
        let cursor = all(&mut door).await[0].1.clone();
        let cases = [
            (from("MARKED"), "from_cursor"),
            (v1::WatchEventsRequest { from_oldest: true, ..from(&cursor) }, "from_oldest"),
            (v1::WatchEventsRequest { kinds: vec![EventKind::SubjectErased.into(), 99], ..from(&cursor) }, "kinds[1]"),
            (v1::WatchEventsRequest { kinds: vec![1; 21], ..Default::default() }, "kinds"),
        ];
        for (request, field) in cases {
            let status = Watcher::try_of(&mut door, request).await.err().unwrap();
            assert_eq!((status.code(), fields_at_fault(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
            assert!(!format!("{status:?}").contains("MARKED"));
        }
        for (consumer, cursor, field) in
            [("", cursor.as_str(), "consumer"), ("Ada Lovelace", &cursor, "consumer"), ("crm", "", "cursor")]
        {
            let status = acknowledge(&mut door, consumer, cursor).await.unwrap_err();
            assert_eq!((status.code(), fields_at_fault(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
        }
        let mut other = House::on_sqlite().await;
        let bob = other.somebody("Bob").await;
        other.restrict(&bob.subject).await;
        let mut foreign = other.events().await;
        is_lost(&mut foreign, &cursor, "OTHER_HISTORY").await;
        let status = acknowledge(&mut foreign, "crm", &cursor).await.unwrap_err();
        assert_eq!(reason(&status), "CURSOR_LOST");
        assert!(consumers(&mut foreign).await.is_empty());
        let nobody = v1::ListDeliveriesRequest { subject: bob.subject, ..Default::default() };
        assert_eq!(reason(&door.list_deliveries(nobody).await.unwrap_err()), "SUBJECT_UNKNOWN");
    }

    async fn a_cursor_is_lost_when_what_follows_is_no_longer_kept(house: House) {
        let mut house = house;
        house.config.events.retention_days = 30;
        house.reopen().await;
        let ada = house.somebody("Ada").await;
        let mut door = house.events().await;
        let (_, begin) = Watcher::from_now(&mut door).await;
        house.restrict(&ada.subject).await;
        house.lift(&ada.subject).await;
        let old = all(&mut door).await;
        for (consumer, cursor) in [("early", &begin), ("crm", &old[1].1)] {
            acknowledge(&mut door, consumer, cursor).await.unwrap();
        }
        house.clock.advance(DAY * 20);
        house.restrict(&ada.subject).await;
        house.clock.advance(DAY * 15);
        let vault = std::sync::Arc::clone(&house.running().vault);
        vault.upkeep().await.unwrap();
        // Who has seen the second and nothing since has missed nothing that is older than 30 days.
        let kept = all(&mut door).await;
        assert_eq!(kept.len(), 2);
        assert_eq!(kept[0], old[1]);
        assert_eq!(Watcher::of(&mut door, from(&old[1].1)).await.event().await.0, old[1].0);
        is_lost(&mut door, &old[0].1, "TOO_OLD").await;
        is_lost(&mut door, &begin, "TOO_OLD").await;
        let state: Vec<_> = consumers(&mut door).await.into_iter().map(|one| (one.consumer, one.behind, one.lost)).collect();
        assert_eq!(state, [("crm".to_owned(), 1, false), ("early".to_owned(), 3, true)]);
        let again = acknowledge(&mut door, "crm", &old[1].1).await.unwrap();
        assert_eq!((again.behind, again.cursor), (1, old[1].1.clone()));
        house.clock.advance(DAY * 400);
        vault.upkeep().await.unwrap();
        let newest = all(&mut door).await;
        assert_eq!(newest, kept[1..], "the newest one stays, so that who has seen it can go on");
        acknowledge(&mut door, "crm", &newest[0].1).await.unwrap();
        assert_eq!(acknowledge(&mut door, "crm", &old[1].1).await.unwrap().behind, 0, "known, though it is gone");
        let told = deliveries(&mut door, &ada.subject).await;
        assert_eq!(told.len(), 1);
    }

    async fn a_cursor_from_a_time_that_a_restore_took_back_is_recognised(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let mut door = house.events().await;
        house.restrict(&ada.subject).await;
        let before = all(&mut door).await;
        drop(door);
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.reopen().await;
        house.lift(&ada.subject).await;
        let mut door = house.events().await;
        let after = all(&mut door).await;
        drop(door);
        house.stop().await;
        // By hand, so that nobody notices: no key has changed.
        yesterday.put_back(&house);
        house.reopen().await;
        let mut door = house.events().await;
        is_lost(&mut door, &after[1].1, "OTHER_HISTORY").await;
        // The journal has told of the end of the restriction, and so do the events.
        house.switch_profiling(&ada.subject, false).await;
        house.restrict(&ada.subject).await;
        assert_eq!(all(&mut door).await.len(), 4);
        is_lost(&mut door, &after[1].1, "OTHER_HISTORY").await;
        let status = acknowledge(&mut door, "crm", &after[1].1).await.unwrap_err();
        assert_eq!(reason(&status), "CURSOR_LOST");
        let rest = Watcher::of(&mut door, from(&before[0].1)).await.until_checkpoint().await.0;
        assert_eq!(rest[0], before[0], "what both have in common is a good place to go on from");
        assert_eq!(rest.len(), 4);
    }

    async fn after_a_restore_that_is_noticed_nobody_goes_on_as_if_nothing_had_been(house: House) {
        let mut house = house;
        let [ada, bob] = [house.somebody("Ada").await, house.somebody("Bob").await];
        house.restrict(&bob.subject).await;
        let mut door = house.events().await;
        let known = all(&mut door).await;
        acknowledge(&mut door, "crm", &known[0].1).await.unwrap();
        drop(door);
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.reopen().await;
        let mut door = house.events().await;
        let before = all(&mut door).await;
        let erasure = house.erase(&ada.subject).await.erasure;
        drop(door);
        house.go_back(&yesterday).await;
        assert!(house.running().report.from_checkpoint);
        let mut door = house.events().await;
        is_lost(&mut door, &before[0].1, "OTHER_HISTORY").await;
        let now = all(&mut door).await;
        assert_eq!(ids(&now)[0], ids(&before)[0]);
        assert_eq!((now[1].0.kind(), &now[1].0.erasure), (EventKind::SubjectErased, &erasure), "told again");
        assert_eq!(Watcher::of(&mut door, from(&now[0].1)).await.until_checkpoint().await.0, now);
        let [crm] = &consumers(&mut door).await[..] else { panic!("the backup knows the consumer") };
        assert_eq!((crm.cursor.as_str(), crm.lost), ("", true), "what it has been told since nobody can say");
        let crm = acknowledge(&mut door, "crm", &now[0].1).await.unwrap();
        assert_eq!((&crm.cursor, crm.behind, crm.lost), (&now[0].1, 1, false), "it has read everything anew");
    }

    async fn a_stream_ends_when_the_next_event_is_of_another_history(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let mut door = house.events().await;
        house.restrict(&ada.subject).await;
        let mut watcher = Watcher::of(&mut door, oldest()).await;
        assert_eq!(watcher.until_checkpoint().await.0.len(), 1);
        execute(&house.url(), ANOTHER_HISTORY).unwrap();
        house.lift(&ada.subject).await;
        has_ended(&mut watcher).await;
    }

    async fn a_stream_ends_when_another_history_is_found_while_nothing_happens(house: House) {
        let mut house = house;
        house.config.events.checkpoint_seconds = 1;
        house.reopen().await;
        let ada = house.somebody("Ada").await;
        let mut door = house.events().await;
        house.restrict(&ada.subject).await;
        let mut watcher = Watcher::of(&mut door, oldest()).await;
        assert_eq!(watcher.until_checkpoint().await.0.len(), 1);
        assert_eq!(watcher.until_checkpoint().await.0.len(), 0, "while it is the same, it goes on");
        execute(&house.url(), ANOTHER_HISTORY).unwrap();
        has_ended(&mut watcher).await;
    }

    async fn one_who_does_not_read_keeps_nobody_waiting_and_misses_nothing(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let (mut door, mut slow_door) = (house.events().await, house.events().await);
        let (mut slow, _) = Watcher::from_now(&mut slow_door).await;
        let (mut quick, _) = Watcher::from_now(&mut door).await;
        // More than a page, and more than a connection takes for a client that does not read.
        for _ in 0..8 {
            house.tell(&ada.subject, 1000).await;
        }
        house.restrict(&ada.subject).await;
        for watcher in [&mut quick, &mut slow] {
            let mut seen = BTreeSet::new();
            loop {
                let (event, _) = watcher.event().await;
                seen.insert(event.event.clone());
                if event.kind() == EventKind::SubjectRestricted {
                    break;
                }
            }
            assert_eq!(seen.len(), 8001);
        }
        assert_eq!(house.reveal(&ada.tokens, CARE).await.len(), 3);
    }

    async fn streams_are_limited_and_their_places_are_given_back(house: House) {
        let mut house = house;
        house.config.events.most_streams = 4;
        house.reopen().await;
        let mut door = house.events().await;
        let first = Watcher::from_now(&mut door).await.0;
        let _second = Watcher::from_now(&mut door).await.0;
        let status = Watcher::try_of(&mut door, v1::WatchEventsRequest::default()).await.err().unwrap();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
        drop(first);
        let again = async {
            while Watcher::try_of(&mut door, v1::WatchEventsRequest::default()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, again).await.expect("the place is not given back");
    }

    async fn when_the_server_stops_streams_end_without_an_error(house: House) {
        let mut house = house;
        let mut door = house.events().await;
        let (mut watcher, cursor) = Watcher::from_now(&mut door).await;
        let (mut unread, _) = Watcher::from_now(&mut door).await;
        house.stop().await;
        for watcher in [&mut watcher, &mut unread] {
            assert_eq!(watcher.next().await.unwrap(), None);
        }
        house.reopen().await;
        let mut door = house.events().await;
        assert_eq!(Watcher::of(&mut door, from(&cursor)).await.until_checkpoint().await, (Vec::new(), cursor));
    }
}
