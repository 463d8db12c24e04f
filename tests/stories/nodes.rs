//! Several nodes over one PostgreSQL: whoever is erased through one of them is gone from all of them, whatever happens
//! to any of them meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lacuna::proto::v1;
use lacuna::proto::v1::call_service_client::CallServiceClient;
use lacuna::proto::v1::consent_service_client::ConsentServiceClient;
use lacuna::proto::v1::event_service_client::EventServiceClient;
use lacuna::proto::v1::retention_service_client::RetentionServiceClient;
use lacuna::proto::v1::subject_service_client::SubjectServiceClient;
use lacuna::proto::v1::token_service_client::TokenServiceClient;
use lacuna::proto::v1::{ErasureState, FieldType};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use tonic::transport::Channel;

use crate::asks::{CARE, detokenize, erase, tokenize};
use crate::house::{Bearer, Link, field, outcome, reason};
use crate::process::{Database, Place, Server};

/// No call waits longer for a node that may be stopped.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// An erasure goes on although nobody waits for the answer; so long it may take until all is well again.
pub const IN_THE_END: Duration = Duration::from_mins(1);

/// A process that serves.
pub struct Node {
    pub server: Server,
    pub tokens: TokenServiceClient<Link>,
    pub subjects: SubjectServiceClient<Link>,
    pub consents: ConsentServiceClient<Link>,
    pub events: EventServiceClient<Link>,
    pub calls: CallServiceClient<Link>,
    pub retention: RetentionServiceClient<Link>,
}

/// A vault with several nodes on this machine.
pub struct Vault {
    pub place: Place,
    pub database: Database,
}

/// Somebody with one value.
#[derive(Clone)]
pub struct Person {
    pub subject: String,
    pub token: String,
    pub value: String,
}

impl Vault {
    /// `None`, with a notice, without a PostgreSQL.
    pub fn new(story: &str) -> Option<Self> {
        Some(Self { place: Place::new(), database: Database::create(story)? })
    }

    pub fn node(&self, failpoints: &str) -> Node {
        let mut command = self.place.serve(Some(&self.database.url()));
        command.env("FAILPOINTS", failpoints);
        let server = Server::start(&mut command).unwrap_or_else(|fault| panic!("{fault}\n{}", self.place.log()));
        let token = std::fs::read_to_string(self.place.token()).unwrap().trim().to_owned();
        let channel = Channel::from_shared(format!("http://{}", server.address())).unwrap();
        let channel = channel.timeout(PATIENCE).connect_timeout(PATIENCE).connect_lazy();
        let tokens = TokenServiceClient::with_interceptor(channel.clone(), Bearer(token.clone()));
        let events = EventServiceClient::with_interceptor(channel.clone(), Bearer(token.clone()));
        let consents = ConsentServiceClient::with_interceptor(channel.clone(), Bearer(token.clone()));
        let subjects = SubjectServiceClient::with_interceptor(channel.clone(), Bearer(token.clone()));
        let calls = CallServiceClient::with_interceptor(channel.clone(), Bearer(token.clone()));
        let retention = RetentionServiceClient::with_interceptor(channel, Bearer(token));
        Node { server, tokens, subjects, consents, events, calls, retention }
    }

    pub fn nodes(&self, number: usize) -> Vec<Node> {
        (0..number).map(|_| self.node("")).collect()
    }
}

impl Node {
    pub async fn people(&mut self, number: usize) -> Vec<Person> {
        let mut people = Vec::new();
        for number in 0..number {
            let value = format!("person.{number}@example.com");
            let request = tokenize("", vec![field(FieldType::Email, &value)]);
            let answer = self.tokens.tokenize(request).await.unwrap().into_inner();
            people.push(Person { subject: answer.subject, token: answer.tokens[0].token.clone(), value });
        }
        people
    }

    /// The value, the reason of a refusal, or nothing from a node that does not answer.
    pub async fn reveal(&mut self, person: &Person) -> Option<Result<String, String>> {
        let request = detokenize(std::slice::from_ref(&person.token), CARE);
        match self.tokens.detokenize(request).await {
            Ok(answer) => Some(outcome(&answer.into_inner().results[0])),
            Err(status) if status.code() == tonic::Code::FailedPrecondition => Some(Err(reason(&status))),
            Err(_) => None,
        }
    }

    pub async fn erase(&mut self, person: &Person) -> Option<ErasureState> {
        let answer = self.subjects.erase_subject(erase(&person.subject)).await.ok()?;
        Some(answer.into_inner().erasure.unwrap().state())
    }

    /// Asks until it is done.
    pub async fn erase_in_the_end(&mut self, person: &Person) {
        let begun = Instant::now();
        loop {
            let answer = self.subjects.erase_subject(erase(&person.subject)).await;
            let erasure = answer.map(|answer| answer.into_inner().erasure.unwrap());
            if erasure.as_ref().is_ok_and(|erasure| erasure.state() == ErasureState::Shredded) {
                return;
            }
            assert!(begun.elapsed() < IN_THE_END, "the erasure is never done: {erasure:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Reveals people through nodes for as long as it is asked to, and notes who was seen too late.
pub struct Storm {
    people: Vec<Person>,
    purpose: &'static str,
    /// When the answer came after which a person must not be seen.
    pub erased: Mutex<HashMap<usize, Instant>>,
    too_late: Mutex<Vec<String>>,
    seen: AtomicUsize,
    over: AtomicBool,
}

impl Storm {
    pub fn begin(
        people: Vec<Person>,
        nodes: &[Node],
        each: usize,
        purpose: &'static str,
    ) -> (Arc<Self>, Vec<tokio::task::JoinHandle<()>>) {
        let storm = Arc::new(Self {
            people,
            purpose,
            erased: Mutex::default(),
            too_late: Mutex::default(),
            seen: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let mut tasks = Vec::new();
        for (number, node) in nodes.iter().enumerate() {
            for caller in 0..each {
                let (storm, tokens) = (Arc::clone(&storm), node.tokens.clone());
                tasks.push(tokio::spawn(async move { storm.blow(tokens, number * each + caller).await }));
            }
        }
        (storm, tasks)
    }

    async fn blow(&self, mut tokens: TokenServiceClient<Link>, begin: usize) {
        let mut at = begin;
        while !self.over.load(Ordering::SeqCst) {
            at += 7;
            let who = at % self.people.len();
            let request = detokenize(std::slice::from_ref(&self.people[who].token), self.purpose);
            let Ok(answer) = tokens.detokenize(request).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let came = Instant::now();
            if outcome(&answer.into_inner().results[0]).is_ok() {
                self.seen.fetch_add(1, Ordering::SeqCst);
                let erased = self.erased.lock().unwrap().get(&who).copied();
                if let Some(erased) = erased.filter(|erased| *erased < came) {
                    let late = came - erased;
                    self.too_late.lock().unwrap().push(format!("person {who} was seen {late:?} too late"));
                }
            }
        }
    }

    pub async fn end(&self, tasks: Vec<tokio::task::JoinHandle<()>>) {
        self.over.store(true, Ordering::SeqCst);
        for task in tasks {
            task.await.unwrap();
        }
        assert!(self.seen.load(Ordering::SeqCst) > 0, "nobody saw anything");
        let too_late = self.too_late.lock().unwrap();
        assert!(too_late.is_empty(), "{too_late:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_erasure_no_node_answers_with_a_value() {
    let Some(vault) = Vault::new("a storm over three nodes") else { return };
    let mut nodes = vault.nodes(3);
    let people = nodes[0].people(30).await;
    let (storm, tasks) = Storm::begin(people.clone(), &nodes, 4, CARE);
    for (who, person) in people.iter().enumerate().take(20) {
        let erased = nodes[who % 3].erase(person).await;
        assert_eq!(erased, Some(ErasureState::Shredded));
        storm.erased.lock().unwrap().insert(who, Instant::now());
    }
    storm.end(tasks).await;
    for node in &mut nodes {
        for (who, person) in people.iter().enumerate() {
            let expected = if who < 20 { Err("SUBJECT_ERASED".to_owned()) } else { Ok(person.value.clone()) };
            assert_eq!(node.reveal(person).await, Some(expected));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_stopped_and_continued_at_random_answer_nothing_that_is_gone() {
    let Some(vault) = Vault::new("a storm with stopped nodes") else { return };
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut nodes = vault.nodes(3);
    let people = nodes[0].people(40).await;
    let (storm, tasks) = Storm::begin(people.clone(), &nodes, 4, CARE);
    let mut erased = 0;
    for _ in 0..6 {
        // Shorter than a lease and longer than one, any of the three, the one that leads among them.
        let (stopped, pause) =
            (random.next_u32() as usize % 3, Duration::from_millis(u64::from(random.next_u32() % 4500)));
        let asked = (stopped + 1) % 3;
        nodes[stopped].server.signal("STOP");
        let begun = Instant::now();
        while begun.elapsed() < pause && erased < 30 {
            if nodes[asked].erase(&people[erased]).await == Some(ErasureState::Shredded) {
                storm.erased.lock().unwrap().insert(erased, Instant::now());
                erased += 1;
            }
        }
        nodes[stopped].server.signal("CONT");
    }
    nodes[0].erase_in_the_end(&people[erased]).await;
    storm.erased.lock().unwrap().insert(erased, Instant::now());
    storm.end(tasks).await;
    assert!(erased > 0, "nothing was erased while a node was stopped");
    for node in &mut nodes {
        // One that was stopped for long may be on its way back to the others.
        let begun = Instant::now();
        while node.reveal(&people[39]).await != Some(Ok(people[39].value.clone())) {
            assert!(begun.elapsed() < IN_THE_END, "a node does not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(node.reveal(&people[erased]).await, Some(Err("SUBJECT_ERASED".to_owned())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_followed_by_another_that_finishes_its_work() {
    let Some(vault) = Vault::new("a killed leader") else { return };
    for step in ["shred::prepared", "shred::written", "shred::advanced"] {
        let mut leader = vault.node(&format!("{step}=1*off->return"));
        let mut others = vault.nodes(2);
        let people = leader.people(3).await;
        leader.erase_in_the_end(&people[0]).await;
        // The leader dies in the middle of the second.
        others[0].erase_in_the_end(&people[1]).await;
        for node in &mut others {
            assert_eq!(node.reveal(&people[1]).await, Some(Err("SUBJECT_ERASED".to_owned())), "{step}");
            assert_eq!(node.reveal(&people[2]).await, Some(Ok(people[2].value.clone())), "{step}");
        }
        assert!(!leader.server.wait().success(), "{step}: the leader was to die");
        for node in others {
            assert!(node.server.stop().success());
        }
    }
}

/// The leader is stopped in the middle of a run for longer than its lease, another takes over and erases, then the old
/// one wakes up where it was.
async fn a_paused_leader_wakes_up(step: &str) {
    let Some(vault) = Vault::new("a paused leader") else { return };
    let mut leader = vault.node(&format!("{step}=1*sleep(4500)"));
    let mut other = vault.node("");
    let people = leader.people(4).await;
    // The leader begins, and sleeps at the step; only there can it be sure to be caught.
    let (mut asking, first) = (leader.subjects.clone(), erase(&people[0].subject));
    let asked = tokio::spawn(async move { asking.erase_subject(first).await.map(|_| ()) });
    let begun = Instant::now();
    while other.reveal(&people[0]).await == Some(Ok(people[0].value.clone())) {
        assert!(begun.elapsed() < PATIENCE, "the erasure does not begin");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    leader.server.signal("STOP");
    other.erase_in_the_end(&people[0]).await;
    other.erase_in_the_end(&people[1]).await;
    leader.server.signal("CONT");
    let _it_may_have_given_up = asked.await.unwrap();
    // The one that woke up does no harm, and works again.
    leader.erase_in_the_end(&people[2]).await;
    for node in [&mut leader, &mut other] {
        for gone in &people[..3] {
            assert_eq!(node.reveal(gone).await, Some(Err("SUBJECT_ERASED".to_owned())), "{step}");
        }
        assert_eq!(node.reveal(&people[3]).await, Some(Ok(people[3].value.clone())), "{step}");
    }
    assert!(leader.server.stop().success() && other.server.stop().success());
    // And whoever opens the vault next finds it whole.
    let mut next = vault.node("");
    assert_eq!(next.reveal(&people[3]).await, Some(Ok(people[3].value.clone())), "{step}");
    next.erase_in_the_end(&people[3]).await;
}

macro_rules! paused_at {
    ($($name:ident: $step:literal,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            a_paused_leader_wakes_up($step).await;
        }
    )*};
}

paused_at! {
    a_leader_paused_after_preparing_wakes_up_and_does_no_harm: "shred::prepared",
    a_leader_paused_after_the_checkpoint_wakes_up_and_does_no_harm: "shred::checkpointed",
    a_leader_paused_after_announcing_wakes_up_and_does_no_harm: "shred::written",
    a_leader_paused_before_the_advance_wakes_up_and_does_no_harm: "shred::fenced",
    a_leader_paused_after_the_advance_wakes_up_and_does_no_harm: "shred::advanced",
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_reach_the_database_drops_its_keys_and_comes_back() {
    let Some(vault) = Vault::new("a node that is cut off") else { return };
    let mut node = vault.node("");
    let person = node.people(1).await.remove(0);
    // Nobody else is let in, and who is in is thrown out.
    let name = vault.database.url().rsplit_once('/').unwrap().1.to_owned();
    let server = format!("{}/postgres", vault.database.url().rsplit_once('/').unwrap().0);
    let admin = |sql: &str| crate::process::execute(&server, sql).unwrap();
    admin(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false"));
    admin(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"));
    let begun = Instant::now();
    while !vault.place.log().contains("drops its keys until it can") {
        assert!(begun.elapsed() < IN_THE_END, "{}", vault.place.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(node.reveal(&person).await, None);
    admin(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true"));
    let begun = Instant::now();
    while node.reveal(&person).await != Some(Ok(person.value.clone())) {
        assert!(begun.elapsed() < IN_THE_END, "{}", vault.place.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    node.erase_in_the_end(&person).await;
    let _: v1::Subject = node
        .subjects
        .get_subject(v1::GetSubjectRequest { subject: person.subject })
        .await
        .unwrap()
        .into_inner()
        .subject
        .unwrap();
}
