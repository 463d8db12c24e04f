//! Somebody who serves leaves: first hidden, and brought back; then forgotten, by the vault itself. Of the people they served nothing
//! changes, byte for byte.

use std::collections::BTreeSet;
use std::time::Duration;

use lacuna::keys::receipt;
use lacuna::proto::v1;
use lacuna::proto::v1::call_value::Outcome;
use lacuna::proto::v1::{CallField, CallerAssurance, CallerMatch, ErasureState, PartKind, SubjectState};
use prost::Message as _;

use crate::asks::{CARE, HOUR, all_refused, erase};
use crate::calls::{agent, customer, leg};
use crate::house::{House, item_status, on_both_stores, reason};
use crate::lookups::PATIENT;
use crate::parts::{part, written};
use crate::process::{Place, run, said};
use crate::restore::Yesterday;

const DAY: Duration = Duration::from_hours(24);
const NAME: &str = "Xaver Unforgotten";
const NUMBER: &str = "+49 30 5550007";
const CALLS: usize = 40;
const NOTES: usize = 12;

/// What a contact centre has of an agent and of those whom they served.
struct Desk {
    house: House,
    calls: Vec<v1::Call>,
    agent: String,
    /// The agent's tokens.
    tokens: Vec<String>,
}

fn xaver() -> v1::PartyInput {
    v1::PartyInput { number: NUMBER.to_owned(), ..agent("a-7", NAME) }
}

impl Desk {
    async fn open(mut house: House) -> Self {
        house.config.limits.lookup_milliseconds = PATIENT;
        house.reopen().await;
        let mut calls = Vec::new();
        for at in 0..CALLS {
            let caller = customer(&format!("+4989111000{}", at % 8), &format!("Caller {}", at % 8));
            let told = leg(&format!("x.{at}"), 1, vec![caller, xaver()]);
            let told = v1::UpsertCallRequest { group_id: format!("group-{at}"), ..told };
            calls.push(house.upsert(told).await.0);
        }
        for (at, call) in calls.iter().take(NOTES).enumerate() {
            house.attach(part(call, PartKind::Note, written(&format!("Wants to be called back at {at}.")))).await;
        }
        let agent = calls[0].parties[1].subject.clone();
        assert!(calls.iter().all(|call| call.parties[1].subject == agent), "one agent in all of them");
        let tokens = calls[0].parties[1].values.iter().map(|value| value.token.clone()).collect();
        Self { house, calls, agent, tokens }
    }

    /// A hash of all that is revealed of those who called: their values and notes.
    async fn of_callers(&self) -> [u8; 32] {
        let (mut told, mut notes) = (Vec::new(), 0);
        for call in &self.calls {
            let shown = self.house.call(call, 0).await;
            told.extend(shown.parties[0].encode_to_vec());
            let values = &shown.parties[0].values;
            assert!(values.len() == 2 && values.iter().all(|one| matches!(one.outcome, Some(Outcome::Value(_)))));
            notes += shown.parts.len();
            told.extend(shown.parts.iter().flat_map(prost::Message::encode_to_vec));
            told.extend(shown.legs.iter().flat_map(prost::Message::encode_to_vec));
        }
        assert_eq!(notes, NOTES);
        lacuna::crypto::derive::sha256(&[&told])
    }

    /// What the agent is called in every call, and what is shown of their name.
    async fn of_agent(&self) -> BTreeSet<(String, String)> {
        let mut all = BTreeSet::new();
        for call in &self.calls {
            let shown = self.house.call(call, 0).await;
            let name = shown.parties[1].values.iter().find(|value| value.field() == CallField::Name).unwrap();
            let name = match name.outcome.as_ref().unwrap() {
                Outcome::Value(name) => name.clone(),
                Outcome::Error(error) => reason(&item_status(error)),
            };
            all.insert((shown.parties[1].label.clone(), name));
        }
        all
    }

    async fn who_has_the_number(&self) -> CallerMatch {
        let ask = v1::LookupByCallerRequest {
            number: NUMBER.to_owned(),
            assurance: CallerAssurance::Verified.into(),
            purpose: CARE.to_owned(),
            ..Default::default()
        };
        let told = self.house.calls().await.lookup_by_caller(ask).await.unwrap().into_inner();
        assert!(!told.degraded);
        told.r#match()
    }

    async fn schedule(&mut self) -> v1::Erasure {
        let execute_time = Some(self.house.in_time(30 * DAY));
        let ask = v1::EraseSubjectRequest { execute_time, ..erase(&self.agent) };
        self.house.subjects.erase_subject(ask).await.unwrap().into_inner().erasure.unwrap()
    }

    /// Has the journal tell of all that has changed.
    async fn ship(&self) {
        self.house.running().vault.ship_journal().await.unwrap();
    }

    async fn restore(&mut self, erasure: &str) {
        let ask = v1::CancelErasureRequest { erasure: erasure.to_owned() };
        self.house.subjects.cancel_erasure(ask).await.unwrap();
    }

    async fn is_hidden(&mut self) {
        assert_eq!(self.house.subject(&self.agent).await.state(), SubjectState::Scheduled);
        let refused = all_refused(self.tokens.len(), "SUBJECT_SCHEDULED");
        assert_eq!(self.house.reveal(&self.tokens, CARE).await, refused);
        assert_eq!(self.of_agent().await, [("agent".to_owned(), "SUBJECT_SCHEDULED".to_owned())].into());
        assert_eq!(self.who_has_the_number().await, CallerMatch::Unknown);
    }

    async fn is_back(&mut self) {
        assert_eq!(self.house.subject(&self.agent).await.state(), SubjectState::Active);
        assert_eq!(self.of_agent().await, [("agent".to_owned(), NAME.to_owned())].into());
        assert_eq!(self.who_has_the_number().await, CallerMatch::One);
    }

    async fn is_gone(&mut self, erasure: &str) {
        let done = self.house.erasure(erasure).await;
        assert_eq!((done.state(), done.subject.as_str()), (ErasureState::Shredded, self.agent.as_str()));
        assert_eq!(receipt::verify(&done.receipt, None).unwrap().statement.subject, self.agent);
        let erased = all_refused(self.tokens.len(), "SUBJECT_ERASED");
        assert_eq!(self.house.reveal(&self.tokens, CARE).await, erased);
        assert_eq!(self.of_agent().await, [("former agent".to_owned(), "SUBJECT_ERASED".to_owned())].into());
        assert_eq!(self.who_has_the_number().await, CallerMatch::Unknown);
        let listed = self.house.calls().await.list_calls(v1::ListCallsRequest::default()).await.unwrap().into_inner();
        assert!(listed.calls.len() == CALLS && listed.calls.iter().all(|call| call.parties[1].label == "former agent"));
    }

    /// What a backup has. Taken at rest, or it names a node that would seem to live for as long as its lease.
    async fn backup(&mut self) -> Yesterday {
        self.house.stop().await;
        let yesterday = Yesterday::of(&self.house);
        self.house.reopen().await;
        yesterday
    }

    async fn go_back(&mut self, yesterday: &Yesterday) {
        self.house.go_back(yesterday).await;
    }
}

on_both_stores! {
    async fn an_agent_is_hidden_brought_back_and_forgotten_and_their_callers_stay_as_they_are(house: House) {
        let mut desk = Desk::open(house).await;
        let before = desk.of_callers().await;
        desk.is_back().await;
        let yesterday = desk.backup().await;

        let first = desk.schedule().await;
        assert_eq!(first.state(), ErasureState::Scheduled);
        desk.is_hidden().await;
        assert_eq!(desk.of_callers().await, before);
        desk.house.clock.advance(29 * DAY);
        desk.house.upkeep().await;
        desk.restore(&first.erasure).await;
        desk.is_back().await;

        let second = desk.schedule().await;
        desk.house.clock.advance(29 * DAY + 23 * HOUR);
        desk.house.upkeep().await;
        desk.is_hidden().await;
        desk.house.clock.advance(HOUR);
        desk.house.upkeep().await;
        desk.is_gone(&second.erasure).await;
        assert_eq!(desk.house.erasure(&first.erasure).await.state(), ErasureState::Cancelled);
        assert_eq!(desk.of_callers().await, before, "byte for byte");

        desk.go_back(&yesterday).await;
        let report = desk.house.running().report.clone();
        assert_eq!(report.erasures_reapplied, 1, "{report:?}");
        desk.is_gone(&second.erasure).await;
        assert_eq!(desk.of_callers().await, before, "also after yesterday's backup");
    }

    async fn a_backup_from_before_learns_that_an_agent_is_hidden_and_that_they_are_back(house: House) {
        let mut desk = Desk::open(house).await;
        let before = desk.of_callers().await;
        let yesterday = desk.backup().await;
        let first = desk.schedule().await;
        desk.ship().await;
        let meanwhile = desk.backup().await;
        desk.go_back(&yesterday).await;
        desk.is_hidden().await;
        desk.restore(&first.erasure).await;
        desk.ship().await;
        desk.go_back(&meanwhile).await;
        desk.is_back().await;

        let second = desk.schedule().await;
        desk.ship().await;
        desk.go_back(&yesterday).await;
        desk.is_hidden().await;
        desk.house.clock.advance(30 * DAY);
        desk.house.upkeep().await;
        desk.is_gone(&second.erasure).await;
        assert_eq!(desk.of_callers().await, before);
    }

    async fn what_is_told_late_of_a_former_agent_is_not_kept(house: House) {
        let desk = Desk::open(house).await;
        let mut house = desk.house;
        house.erase(&desk.agent).await;
        let late = v1::UpsertCallRequest { group_id: "group-0".to_owned(), ..leg("x.late", 1, vec![customer("+49891110000", ""), xaver()]) };
        let told = house.upsert(late).await.0;
        assert_eq!((told.call.as_str(), told.parties.len()), (desk.calls[0].call.as_str(), 2), "{:?}", told.parties);
        assert_eq!(told.parties[1].label, "former agent");
        assert_eq!(house.find(v1::FieldType::PersonName, NAME).await, Vec::<String>::new());
        // Somebody whom the vault knows is somebody else.
        let other = house.upsert(leg("y.1", 1, vec![customer("+49891110009", ""), agent("a-8", "Yvonne")])).await.0;
        let handed = v1::UpsertCallRequest {
            group_id: "group-1".to_owned(),
            ..leg("x.handed", 1, vec![customer("+49891110001", ""), agent("a-8", "Yvonne")])
        };
        let told = house.upsert(handed).await.0;
        assert_eq!(told.parties[2].subject, other.parties[1].subject);
    }
}

#[test]
fn an_agent_is_hidden_and_brought_back_from_a_shell() {
    let place = Place::new();
    let server = place.start(None);
    let ask = |arguments: &[&str]| {
        let output = run(server.client(&place).args(arguments));
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let created = ask(&["subject", "create", "--source", "hr", "--kind", "agent", "--output", "json"]);
    let created: serde_json::Value = serde_json::from_str(&created).unwrap();
    let agent = created["subject"]["subject"].as_str().unwrap();
    let hidden = ask(&["subject", "erase", agent, "--reason", "left", "--in-days", "30", "--yes"]);
    assert!(hidden.contains("scheduled") && hidden.contains("lacuna subject restore"), "{hidden}");
    let restored = ask(&["subject", "restore", agent]);
    assert!(restored.contains("cancelled"), "{restored}");
    assert!(ask(&["subject", "show", agent]).contains("active"));
    let twice = run(server.client(&place).args(["subject", "restore", agent]));
    assert!(!twice.status.success() && said(&twice).contains("no erasure"), "{}", said(&twice));
    let late =
        run(server.client(&place).args(["subject", "erase", agent, "--reason", "left", "--in-days", "0", "--yes"]));
    assert_eq!(late.status.code(), Some(2), "{}", said(&late));
    assert!(server.stop().success());
}
