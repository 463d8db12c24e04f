//! Forget me, and keep the evidence: a caller is erased at once, and of their calls what a law demands stays in the hands of two people until its
//! time is over. Everything else is noise in every copy, and what belongs to whoever they spoke with is as it was.

use std::time::Duration;

use lacuna::keys::receipt::{self, Kind};
use lacuna::model::SubjectId;
use lacuna::proto::v1;
use lacuna::proto::v1::attach_part_request::Body;
use lacuna::proto::v1::{FieldType, PartKind};

use crate::asks::{CARE, erase};
use crate::calls::{agent, customer, leg};
use crate::hoard::{Hoard, keys_now};
use crate::house::{House, on_both_stores};
use crate::kept::{AUTHORITY, approve, fields, requested};
use crate::media_keys::{opened_by, sealed};
use crate::parts::{part, written};
use crate::policies::with_roles;
use crate::restore::Yesterday;

const DAY: Duration = Duration::from_hours(24);
const ADA: &str = "+49 30 1234567";
const VOICE: &str = "mifid.voice";

/// A recording, and a file that is sealed under its key.
struct Recording {
    part: String,
    key: Vec<u8>,
    file: Vec<u8>,
}

/// Calls of somebody who will be erased.
struct Calls {
    /// Each with a note; the last is shared with an agent whose own words are kept.
    all: Vec<v1::Call>,
    ada: String,
    ordinary: Recording,
    evidence: Recording,
    /// The agent's side of the evidence.
    of_agent: Recording,
}

impl House {
    async fn recording(&self, call: &v1::Call, party: u32, class: &str) -> Recording {
        let lies = Some(Body::Uri(format!("s3://calls/{}-{party}.wav.lacuna", call.call)));
        let retention_class = class.to_owned();
        let ask = v1::AttachPartRequest { party, retention_class, ..part(call, PartKind::Recording, lies) };
        let part = self.attach(ask).await.part;
        let key = self.media_key(&part, CARE).await.unwrap().media_key;
        let file = sealed(&key, &part);
        Recording { part, key, file }
    }

    /// The key of a recording for an authority, which somebody else has to approve.
    async fn key_for_an_authority(&self, part: &str) -> Vec<u8> {
        let approval = requested(&self.media_key(part, AUTHORITY).await.unwrap_err());
        approve(self, "supervisor", &approval).await.unwrap();
        self.media_key(part, AUTHORITY).await.unwrap().media_key
    }
}

impl Calls {
    async fn of(house: &House) -> Self {
        let mut all = Vec::new();
        for name in ["1.1", "1.2", "1.3"] {
            let call = house.upsert(leg(name, 1, vec![customer(ADA, "Ada"), agent("a-7", "Xaver")])).await.0;
            house.attach(part(&call, PartKind::Note, written("Ada wants her parcel."))).await;
            all.push(call);
        }
        let said = v1::AttachPartRequest { party: 2, ..part(&all[2], PartKind::Transcript, written("This is Xaver.")) };
        house.attach(said).await;
        Self {
            ada: all[0].parties[0].subject.clone(),
            ordinary: house.recording(&all[0], 1, "").await,
            evidence: house.recording(&all[1], 1, VOICE).await,
            of_agent: house.recording(&all[1], 2, VOICE).await,
            all,
        }
    }

    /// What is there of the person after the erasure, through the door.
    async fn assert_forgotten(&self, house: &mut House) {
        for purpose in [CARE, AUTHORITY] {
            assert_eq!(house.refused_key(&self.ordinary.part, purpose).await, "SUBJECT_ERASED", "{purpose}");
        }
        assert_eq!(house.refused_key(&self.evidence.part, CARE).await, "SUBJECT_ERASED");
        assert_eq!(house.key_for_an_authority(&self.evidence.part).await, self.evidence.key);
        assert_eq!(house.media_key(&self.of_agent.part, CARE).await.unwrap().media_key, self.of_agent.key);
        assert_eq!(house.find(FieldType::Phone, ADA).await, Vec::<String>::new(), "nobody is found by the number");
        let tokens = house.tokens_of(&self.ada).await;
        assert!(!tokens.is_empty() && tokens.iter().all(|token| token.state() == v1::TokenState::Erased));
        let shared = house.call(&self.all[2], 0).await;
        assert!(shared.parties[0].erased && !shared.parties[1].erased);
        let said: Vec<_> = shared.parts.iter().filter(|part| part.party == 2).collect();
        assert_eq!(said[0].outcome, Some(v1::call_part::Outcome::Text("This is Xaver.".to_owned())));
    }

    /// Which of the files opens for whoever has copied everything: the ordinary recording, the evidence, the agent's.
    async fn opened(&self, house: &House, hoard: &Hoard) -> [bool; 3] {
        let spoils = hoard.spoils(keys_now(house).await);
        let keys = keys_now(house).await;
        [&self.ordinary, &self.evidence, &self.of_agent].map(|one| opened_by(&spoils, &keys, &one.file))
    }
}

on_both_stores! {
    async fn a_caller_is_forgotten_and_the_evidence_stays_until_its_time_is_over(house: House) {
        let mut house = house;
        with_roles(&mut house, &["supervisor", "contact-centre-agent"]).await;
        let calls = Calls::of(&house).await;
        assert_eq!(house.media_key(&calls.evidence.part, AUTHORITY).await.unwrap().media_key, calls.evidence.key);
        let mut hoard = Hoard::default();
        hoard.collect(&house, "before").await;
        assert_eq!(calls.opened(&house, &hoard).await, [true; 3], "whoever has copied everything opens each");
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.reopen().await;

        let shown = v1::EraseSubjectRequest { validate_only: true, ..erase(&calls.ada) };
        let shown = house.subjects.erase_subject(shown).await.unwrap().into_inner().erasure.unwrap();
        let done = house.erase(&calls.ada).await;
        assert_eq!(done.state(), v1::ErasureState::Shredded);
        assert_eq!(fields(&shown), fields(&done), "the plan says what becomes of it");
        let kept: Vec<_> = fields(&done).into_iter().filter(|(_, verdict, ..)| *verdict != "DESTROY").collect();
        assert_eq!(kept, [(VOICE, "KEEP_RESTRICTED", 2, "2031-12-01".to_owned())], "its address and its key");
        calls.assert_forgotten(&mut house).await;
        hoard.collect(&house, "after").await;
        assert_eq!(calls.opened(&house, &hoard).await, [false, true, true], "noise, but for the evidence");

        house.go_back(&yesterday).await;
        assert_eq!(house.running().report.erasures_reapplied, 1);
        calls.assert_forgotten(&mut house).await;
        hoard.collect(&house, "restored").await;
        assert_eq!(calls.opened(&house, &hoard).await, [false, true, true], "also of yesterday's backup");

        house.clock.advance(DAY * (9 + 1825));
        house.end_retention().await;
        assert_eq!(house.key_for_an_authority(&calls.evidence.part).await, calls.evidence.key, "not a day too early");
        house.clock.advance(DAY * 2);
        house.end_retention().await;
        assert_eq!(house.refused_key(&calls.evidence.part, AUTHORITY).await, "SUBJECT_ERASED", "it is over");
        let ended = house.runs().await.into_iter().filter(|run| !run.receipt.is_empty());
        let said = ended.map(|run| receipt::verify(&run.receipt, None).unwrap().statement);
        assert!(said.filter(|said| said.kind == Kind::Retention).count() > 0, "with a receipt");
        hoard.collect(&house, "the end").await;
        assert_eq!(calls.opened(&house, &hoard).await, [false; 3], "in no copy");
        let ada = SubjectId::parse(&calls.ada).unwrap();
        assert!(hoard.spoils(keys_now(&house).await).values().all(|(token, _)| token.subject != ada), "nothing is left");
    }
}
