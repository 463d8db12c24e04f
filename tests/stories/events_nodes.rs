//! Events over several nodes: whatever commits in whatever order, nobody misses anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lacuna::crypto::SystemRandom;
use lacuna::model::{Label, OutboxEvent, PermissionCause, Subject, SubjectId, Time};
use lacuna::proto::v1;
use lacuna::proto::v1::consent_service_client::ConsentServiceClient;
use lacuna::store::outbox::{Placed, place};
use lacuna::store::{Store, Tx};
use tonic::Status;

use crate::asks::point;
use crate::events::{Watcher, from, oldest};
use crate::house::{Link, fresh_database};
use crate::nodes::{IN_THE_END, Node, Person, Vault};

type Door = ConsentServiceClient<Link>;

const NEWS: &str = "marketing.email";
const FORM: &str = "web:signup";

async fn say(door: &mut Door, person: &Person, kind: v1::ConsentEventKind) -> Result<(), Status> {
    let request = v1::RecordConsentRequest {
        subject: person.subject.clone(),
        purpose: NEWS.to_owned(),
        kind: kind.into(),
        method: v1::ConsentMethod::Form.into(),
        affirmative_action: "ticked".to_owned(),
        collection_point: FORM.to_owned(),
        ..Default::default()
    };
    door.record_consent(request).await.map(drop)
}

async fn define_form(node: &mut Node) {
    node.consents.define_collection_point(point(FORM, v1::CollectionPointKind::WebForm)).await.unwrap();
}

/// The entries of a person's ledger, in the order of the chain.
async fn ledger(node: &mut Node, person: &Person) -> Vec<String> {
    let (subject, page_size) = (person.subject.clone(), 1000);
    let request = v1::ListConsentEventsRequest { subject, page_size, ..Default::default() };
    let events = node.consents.list_consent_events(request).await.unwrap().into_inner().events;
    events.into_iter().map(|event| event.consent_event).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_tell_everybody_everything_in_one_order() {
    let Some(vault) = Vault::new("events over three nodes") else { return };
    let mut nodes = vault.nodes(3);
    define_form(&mut nodes[0]).await;
    let people = Arc::new(nodes[0].people(6).await);
    let (each, writers) = (15, 6);
    let mut watchers = Vec::new();
    for node in &mut nodes {
        watchers.push(Watcher::from_now(&mut node.events).await);
    }
    let begin = watchers[0].1.clone();
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for writer in 0..writers {
        let (mut door, people, done) = (nodes[writer % 3].consents.clone(), Arc::clone(&people), Arc::clone(&done));
        tasks.push(tokio::spawn(async move {
            for at in 0..each {
                let person = &people[(writer * 7 + at * 5) % people.len()];
                let kind =
                    if (at + writer) % 2 == 0 { v1::ConsentEventKind::Give } else { v1::ConsentEventKind::Refuse };
                say(&mut door, person, kind).await.unwrap();
                done.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    // One who is interrupted all the time, each time by another node.
    let mut hopping = BTreeMap::new();
    let (mut cursor, mut at) = (begin.clone(), 0);
    while hopping.len() < each * writers {
        let mut watcher = Watcher::of(&mut nodes[at % 3].events, from(&cursor)).await;
        for _ in 0..20 {
            let told = watcher.next().await.unwrap().unwrap();
            cursor = told.cursor;
            let Some(event) = told.event else { break };
            hopping.insert(event.event.clone(), event);
        }
        at += 1;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(done.load(Ordering::SeqCst), each * writers);
    let mut orders = Vec::new();
    for (watcher, _) in &mut watchers {
        let mut order = Vec::new();
        while order.len() < each * writers {
            order.push(watcher.event().await.0);
        }
        orders.push(order);
    }
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0], orders[2]);
    let different: BTreeSet<_> = orders[0].iter().map(|event| &event.event).collect();
    assert_eq!(different.len(), each * writers, "each once to whoever was not interrupted");
    assert!(different.into_iter().eq(hopping.keys()), "and nothing else to whoever was");
    for person in people.iter() {
        let of = orders[0].iter().filter(|event| event.subject == person.subject);
        let told: Vec<_> = of.map(|event| event.consent_event.clone()).collect();
        assert_eq!(told, ledger(&mut nodes[0], person).await, "in the order in which it happened");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_committed_and_did_not_live_to_tell_the_others_tell() {
    let Some(vault) = Vault::new("a node that dies before it tells") else { return };
    let mut other = vault.node("");
    define_form(&mut other).await;
    let person = other.people(1).await.remove(0);
    let (mut watcher, _) = Watcher::from_now(&mut other.events).await;
    let mut dying = vault.node("outbox::before-place=return");
    // It may or may not have got round to the answer.
    let _ = say(&mut dying.consents, &person, v1::ConsentEventKind::Give).await;
    assert!(!dying.server.wait().success());
    let entries = ledger(&mut other, &person).await;
    assert_eq!(entries.len(), 1, "it was committed");
    assert_eq!(watcher.event().await.0.consent_event, entries[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_what_happened_on_another_at_once_though_one_has_stopped() {
    let Some(vault) = Vault::new("a node that tells of another") else { return };
    let mut nodes = vault.nodes(3);
    define_form(&mut nodes[0]).await;
    let people = nodes[0].people(2).await;
    let (mut watcher, _) = Watcher::from_now(&mut nodes[1].events).await;
    say(&mut nodes[0].consents, &people[0], v1::ConsentEventKind::Refuse).await.unwrap();
    watcher.event().await;
    nodes[2].server.signal("STOP");
    let begun = Instant::now();
    // Waits for the lease of the one that is stopped, and is told before.
    let speaking = say(&mut nodes[0].consents, &people[1], v1::ConsentEventKind::Refuse);
    let (spoken, told) = tokio::join!(speaking, async { (watcher.event().await, begun.elapsed()) });
    spoken.unwrap();
    assert_eq!(told.0.0.subject, people[1].subject);
    println!("told after {:?}", told.1);
    assert!(told.1 < Duration::from_secs(2), "{:?}", told.1);
    nodes[2].server.signal("CONT");
    let begun = Instant::now();
    // On its way back it closes the connections that it had.
    while !is_told_of(&mut nodes[2], &people[1]).await {
        assert!(begun.elapsed() < IN_THE_END, "a node does not come back");
    }
}

/// Whether what a node still has to tell is about somebody; not either when it does not answer.
async fn is_told_of(node: &mut Node, person: &Person) -> bool {
    let Ok(mut watcher) = Watcher::try_of(&mut node.events, oldest()).await else { return false };
    while let Ok(Some(told)) = watcher.next().await {
        let Some(event) = told.event else { return false };
        if event.subject == person.subject {
            return true;
        }
    }
    false
}

/// A database with a history and two people.
async fn bare_store() -> Option<(Arc<dyn Store>, [SubjectId; 2])> {
    let store = lacuna::store::open(&fresh_database().await?).await.unwrap();
    store.migrate().await.unwrap();
    let (random, now) = (SystemRandom::new(), Time::from_micros(1_000_000));
    let people = [(); 2].map(|()| SubjectId::new(now, &random));
    let (kind, source) = (Label::kind("customer").unwrap(), Label::source("test").unwrap());
    let opened = people.map(|id| Subject::open(id, kind.clone(), None, source.clone(), true, now));
    let mut tx = store.write().await.unwrap();
    tx.begin_history(&[7; 8]).await.unwrap();
    tx.insert_subjects(&opened).await.unwrap();
    tx.commit().await.unwrap();
    Some((store, people))
}

async fn begin_to_tell(store: &dyn Store, subject: SubjectId) -> Box<dyn Tx> {
    let event =
        OutboxEvent::of_switch(subject, PermissionCause::Profiling, Time::from_micros(2_000_000), &SystemRandom::new());
    let mut tx = store.write().await.unwrap();
    tx.lock_subjects(&[subject]).await.unwrap();
    tx.tell(&[event]).await.unwrap();
    tx
}

async fn move_all(store: &dyn Store) -> usize {
    let mut tx = store.write().await.unwrap();
    let moved = place(&mut *tx, Time::from_micros(3_000_000)).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    moved.entries
}

async fn after(store: &dyn Store, position: u64) -> Vec<Placed> {
    store.read().await.unwrap().events_after(position, 100).await.unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_commits_late_is_told_late_and_not_skipped() {
    let Some((store, [early, late])) = bare_store().await else { return };
    let store = &*store;
    // Written first, committed last.
    let slow = begin_to_tell(store, early).await;
    let quick = begin_to_tell(store, late).await;
    quick.commit().await.unwrap();
    assert_eq!(move_all(store).await, 1);
    let seen = after(store, 0).await;
    assert_eq!(seen.iter().map(|event| event.event.subject).collect::<Vec<_>>(), [Some(late)]);
    slow.commit().await.unwrap();
    assert!(after(store, seen[0].position).await.is_empty(), "not in the history yet");
    assert_eq!(move_all(store).await, 1);
    let rest = after(store, seen[0].position).await;
    assert_eq!(rest.iter().map(|event| event.event.subject).collect::<Vec<_>>(), [Some(early)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_move_at_the_same_time_move_everything_once() {
    let Some((store, people)) = bare_store().await else { return };
    let mut first = store.write().await.unwrap();
    begin_to_tell(&*store, people[0]).await.commit().await.unwrap();
    let moved = place(&mut *first, Time::from_micros(3_000_000)).await.unwrap().unwrap();
    assert_eq!(moved.entries, 1);
    let second = tokio::spawn({
        let store = Arc::clone(&store);
        async move { move_all(&*store).await }
    });
    // A statement that waits for a lock can be seen to wait.
    let mut watch = store.read().await.unwrap();
    for _ in 0..20 {
        watch.outbox_head().await.unwrap();
    }
    assert!(!second.is_finished(), "one at a time");
    begin_to_tell(&*store, people[1]).await.commit().await.unwrap();
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap(), 1, "what came meanwhile, and not what the first has moved");
    let history = after(&*store, 0).await;
    assert_eq!(history.iter().map(|event| event.position).collect::<Vec<_>>(), [1, 2]);
}
