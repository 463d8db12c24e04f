//! A node that is stopped in the middle of a database transaction, with whatever that has locked, while another erases.
//! PostgreSQL ends the session of who does nothing for so long; until then nobody waits for ever, and afterwards the
//! erasure is done. What the stopped node had in its hands does not come out when it wakes up.

use std::time::{Duration, Instant};

use lacuna::proto::v1;
use lacuna::proto::v1::ErasureState;
use lacuna::proto::v1::key_service_client::KeyServiceClient;
use sqlx::{Connection as _, PgConnection};
use tonic::transport::Channel;

use crate::asks::{CARE, detokenize, erase, text, tokenize};
use crate::house::{Bearer, outcome};
use crate::nodes::{IN_THE_END, Node, Person, Vault};
use crate::outside::Outside;

/// How long the node rests in its transaction, unless it is stopped or thrown out: longer than PostgreSQL lets it.
const REST: &str = "1*sleep(8000)";

/// Within this an erasure through another node must be done: the limit of a session, that of a lease, and some more.
const BOUND: Duration = Duration::from_secs(30);

/// What the node was asked for, in the middle of which it stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Reveal,
    Keep,
    Erase,
    Rotate,
}

/// Has a node begin a deed about somebody; answers the value, should it come out.
fn begin(vault: &Vault, node: &Node, deed: Deed, person: &Person) -> tokio::task::JoinHandle<Option<String>> {
    let (mut tokens, mut subjects, person) = (node.tokens.clone(), node.subjects.clone(), person.clone());
    let token = std::fs::read_to_string(vault.place.token()).unwrap().trim().to_owned();
    let channel = Channel::from_shared(format!("http://{}", node.server.address())).unwrap().connect_lazy();
    let mut keys = KeyServiceClient::with_interceptor(channel, Bearer(token));
    tokio::spawn(async move {
        match deed {
            Deed::Reveal => {
                let asked = tokens.detokenize(detokenize(&[person.token], CARE)).await.ok()?;
                return outcome(&asked.into_inner().results[0]).ok();
            }
            Deed::Keep => drop(tokens.tokenize(tokenize(&person.subject, vec![text("more")])).await),
            Deed::Erase => drop(subjects.erase_subject(erase(&person.subject)).await),
            Deed::Rotate => {
                let ask = v1::RotateSubjectKeyRequest { subject: person.subject, ..Default::default() };
                drop(keys.rotate_subject_key(ask).await);
            }
        }
        None
    })
}

/// Waits until a session has been in a transaction for a while without doing anything.
async fn somebody_rests_in_a_transaction(vault: &Vault) {
    let mut admin = PgConnection::connect(&vault.database.url()).await.unwrap();
    let begun = Instant::now();
    loop {
        let resting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction' \
             AND state_change < clock_timestamp() - interval '300 milliseconds'",
        )
        .fetch_one(&mut admin)
        .await
        .unwrap();
        if resting > 0 {
            return;
        }
        assert!(begun.elapsed() < IN_THE_END, "nobody comes to rest: {}", vault.place.log());
    }
}

/// Asks until a person is told to be gone. Their value must not come any more.
async fn assert_gone_in_the_end(node: &mut Node, person: &Person, what: &str) {
    let begun = Instant::now();
    loop {
        match node.reveal(person).await {
            Some(Ok(value)) => panic!("{what}: {value} was revealed after the erasure"),
            Some(Err(reason)) if reason == "SUBJECT_ERASED" => return,
            _ => assert!(begun.elapsed() < IN_THE_END, "{what}: the node does not come back"),
        }
    }
}

async fn stopped_in_the_middle(step: &str, deed: Deed) {
    let Some(vault) = Vault::new("a node stopped in a transaction") else { return };
    // The first leads.
    let mut stopped = vault.node(&format!("{step}={REST}"));
    let mut other = vault.node("");
    let people = other.people(4).await;
    assert_eq!(other.reveal(&people[0]).await, Some(Ok(people[0].value.clone())));
    let asked = begin(&vault, &stopped, deed, &people[0]);
    somebody_rests_in_a_transaction(&vault).await;
    stopped.server.signal("STOP");

    let begun = Instant::now();
    let mut told = other.erase(&people[0]).await;
    while told != Some(ErasureState::Shredded) {
        assert!(begun.elapsed() < BOUND, "{step}: the erasure is not done: {told:?}\n{}", vault.place.log());
        told = other.erase(&people[0]).await;
    }
    assert_eq!(other.reveal(&people[0]).await, Some(Err("SUBJECT_ERASED".to_owned())), "{step}");
    assert_eq!(other.reveal(&people[3]).await, Some(Ok(people[3].value.clone())), "{step}");
    assert_eq!(other.erase(&people[1]).await, Some(ErasureState::Shredded), "{step}: nobody is in the way any more");

    stopped.server.signal("CONT");
    assert_eq!(asked.await.unwrap(), None, "{step}: a value left after its erasure");
    for gone in &people[..2] {
        assert_gone_in_the_end(&mut stopped, gone, step).await;
    }
    stopped.erase_in_the_end(&people[2]).await;
    for node in [&mut stopped, &mut other] {
        for gone in &people[..3] {
            assert_gone_in_the_end(node, gone, step).await;
        }
        assert_eq!(node.reveal(&people[3]).await, Some(Ok(people[3].value.clone())), "{step}");
    }
}

macro_rules! stopped_at {
    ($($name:ident: $step:literal, $deed:expr;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            stopped_in_the_middle($step, $deed).await;
        })+
    };
}

stopped_at! {
    a_node_stopped_while_it_records_a_reveal_reveals_nothing_later: "write::before-commit", Deed::Reveal;
    a_node_stopped_while_it_keeps_a_value_holds_up_no_erasure: "write::before-commit", Deed::Keep;
    a_node_stopped_while_it_takes_a_request_to_erase_holds_up_no_erasure: "erase::before-request", Deed::Erase;
    a_node_stopped_while_it_begins_a_rotation_holds_up_no_erasure: "rotation::before-begin", Deed::Rotate;
    a_leader_stopped_while_it_announces_holds_up_no_erasure: "shred::before-announcement", Deed::Erase;
    a_leader_stopped_while_it_settles_holds_up_no_erasure: "shred::before-settlement", Deed::Erase;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_takes_too_long_is_answered_as_pending_and_goes_on() {
    let vault = Outside::on_sqlite();
    // On one thread of several, as a disk that does not answer.
    let mut door = vault.try_start(&[("shred::prepared", "1*sleep(22000)".to_owned())]).unwrap();
    let (ada, bob) = (door.tokenize("ada").await, door.tokenize("bob").await);
    let begun = Instant::now();
    let erasure = door.erase(&ada).await;
    assert_eq!(erasure.state(), ErasureState::Pending, "{erasure:?}");
    assert!(begun.elapsed() < BOUND && erasure.pending_reason.contains("takes longer"), "{erasure:?}");
    assert_eq!(door.reveal(&ada).await, vec![Err("ERASURE_PENDING".to_owned()); 2]);
    door.assert_there(&bob).await;
    door.shredded(&erasure.erasure).await;
    door.assert_gone(&ada).await;
}
