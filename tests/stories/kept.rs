//! What a law demands outlasts the erasure of its person, in the hands of two people who say so together, until its period is over.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use lacuna::keys::adversary::Spoils;
use lacuna::keys::receipt::{self, Kind};
use lacuna::model::{FieldType, SubjectId, Time, TokenRow, Verdict};
use lacuna::proto::v1;
use tonic::{Code, Status};

use crate::asks::{CARE, HOUR, all_refused, correct, detokenize, erase, metadata, request_id};
use crate::hoard::{Hoard, keys_now};
use crate::house::{House, field, on_both_stores, outcome, reason};
use crate::policies::{as_member, entries, with_roles};
use crate::restore::Yesterday;
use crate::rotations::rotate_index;

const DAY: Duration = Duration::from_hours(24);
pub const AUTHORITY: &str = "regulator_request";
pub const CLAIMS: &str = "legal_claims";
pub const VOICE: [&str; 2] = ["first@example.org", "second@example.org"];

/// Reveals, with an approval of the supervisor if it takes one. Answers also which.
pub async fn open(
    house: &mut House,
    tokens: &[String],
    purpose: &str,
) -> (Vec<Result<String, String>>, Option<String>) {
    match house.tokens.detokenize(detokenize(tokens, purpose)).await {
        Ok(response) => (response.into_inner().results.iter().map(outcome).collect(), None),
        Err(refused) => {
            let approval = requested(&refused);
            approve(house, "supervisor", &approval).await.unwrap();
            (house.reveal(tokens, purpose).await, Some(approval))
        }
    }
}

pub fn requested(refused: &Status) -> String {
    assert_eq!(
        (refused.code(), reason(refused)),
        (Code::FailedPrecondition, "APPROVAL_REQUIRED".to_owned()),
        "{refused:?}"
    );
    metadata(refused)["approval"].clone()
}

pub async fn approve(house: &House, by: &str, approval: &str) -> Result<v1::Approval, Status> {
    let request = v1::GrantApprovalRequest { approval: approval.to_owned(), reason: "BaFin 7/26".to_owned() };
    let mut door = house.access_as(&format!("the-token-of-{by}")).await;
    Ok(door.grant_approval(request).await?.into_inner().approval.unwrap())
}

/// A reveal of what is kept, as only two people can make it: it opens, and once for each approval.
async fn assert_kept(house: &mut House, kept: &[String], values: &[&str]) {
    let values: Vec<Result<String, String>> = values.iter().map(|value| Ok((*value).to_owned())).collect();
    for purpose in [AUTHORITY, CLAIMS] {
        let (shown, approval) = open(house, kept, purpose).await;
        assert_eq!(shown, values, "{purpose}");
        assert!(approval.is_some(), "{purpose}: nobody has approved it");
    }
    for purpose in [CARE, "breach_notice", "order_confirmation"] {
        assert_eq!(house.reveal(kept, purpose).await, all_refused(kept.len(), "SUBJECT_ERASED"), "{purpose}");
    }
}

/// How many values of a person a copy gives away, and which of the person's tokens it lists under an address.
fn read(spoils: &Spoils, hoard: &Hoard, subject: &str, address: &str) -> (usize, usize) {
    let id = SubjectId::parse(subject).unwrap();
    let listed: BTreeSet<TokenRow> = spoils.listed_under(FieldType::Email, address.as_bytes()).unwrap();
    let rows = hoard.rows_of(id);
    (spoils.values().filter(|(token, _)| token.subject == id).count(), listed.intersection(&rows).count())
}

/// A class that a law demands, or not.
fn demanded(code: &str, outlasts_erasure: bool) -> v1::DefineRetentionClassRequest {
    let class = v1::RetentionClass {
        code: code.to_owned(),
        basis: v1::RetentionBasis::LegalObligation.into(),
        period: "P2Y".to_owned(),
        outlasts_erasure,
        ..Default::default()
    };
    v1::DefineRetentionClassRequest { retention_class: Some(class), ..Default::default() }
}

/// Class, verdict, count and the day on which it ends, of the fields of a plan.
pub fn fields(erasure: &v1::Erasure) -> Vec<(&str, &str, u64, String)> {
    let items = erasure.plan.iter().filter(|item| item.element == "fields");
    items
        .map(|item| {
            let end = item.end_time.as_ref().map(day).unwrap_or_default();
            (item.retention_class.as_str(), item.verdict.as_str(), item.count, end)
        })
        .collect()
}

fn planned(
    class: &'static str,
    verdict: &'static str,
    count: u64,
    end: &str,
) -> (&'static str, &'static str, u64, String) {
    (class, verdict, count, end.to_owned())
}

/// The day of a moment.
fn day(time: &prost_types::Timestamp) -> String {
    Time::from_micros(time.seconds * 1_000_000).to_string()[..10].to_owned()
}

impl House {
    /// What outlasts an erasure, as the preview has it: class, month, day of the end, whether overdue, how many values.
    async fn outlasting(&self) -> Vec<(String, String, String, bool, i64)> {
        let preview = self.retention().await.preview_retention(v1::PreviewRetentionRequest {}).await.unwrap();
        let erased = preview.into_inner().cohorts.into_iter().filter(|found| found.erased);
        erased
            .map(|found| {
                let end = day(&found.end_time.unwrap());
                (found.retention_class, found.month, end, found.overdue, found.values)
            })
            .collect()
    }

    pub async fn verified(&self, erasure: &v1::Erasure) -> v1::VerifyErasureResponse {
        let mut keys = self.key_service().await;
        let request = v1::VerifyErasureRequest { erasure: erasure.erasure.clone() };
        keys.verify_erasure(request).await.unwrap().into_inner()
    }
}

on_both_stores! {
    async fn what_a_law_demands_outlasts_an_erasure_until_its_period_is_over(house: House) {
        let mut house = house;
        with_roles(&mut house, &["supervisor", "contact-centre-agent"]).await;
        let ada = house.somebody("Ada").await;
        let bob = house.somebody("Bob").await;
        let voice = house.keep_in("mifid.voice", &ada.subject, &VOICE).await;
        let ops = house.keep_in("call.ops", &ada.subject, &["ops@example.org"]).await;
        let his = house.keep_in("mifid.voice", &bob.subject, &["bob@example.org"]).await;
        assert_eq!(house.reveal(&voice, CARE).await, VOICE.map(|value| Ok(value.to_owned())), "it opens before");
        assert_eq!(house.find(v1::FieldType::Email, VOICE[0]).await, voice[..1]);
        assert_eq!(open(&mut house, &voice, AUTHORITY).await.1, None, "of the living no approval is asked");
        let mut hoard = Hoard::default();
        hoard.collect(&house, "before").await;
        assert_eq!(read(&hoard.spoils(keys_now(&house).await), &hoard, &ada.subject, VOICE[0]), (6, 1), "the copy opens");
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.reopen().await;

        let ask = v1::EraseSubjectRequest { validate_only: true, ..erase(&ada.subject) };
        let shown = house.subjects.erase_subject(ask).await.unwrap().into_inner().erasure.unwrap();
        let done = house.erase(&ada.subject).await;
        assert_eq!(done.state(), v1::ErasureState::Shredded);
        let plan = [
            planned("call.ops", "DESTROY", 1, ""),
            planned("default", "DESTROY", 3, ""),
            planned("mifid.voice", "KEEP_RESTRICTED", 2, "2031-12-01"),
        ];
        assert_eq!((fields(&shown), fields(&done)), (plan.to_vec(), plan.to_vec()));
        let said = receipt::verify(&done.receipt, None).unwrap().statement;
        let kept: Vec<_> = said.plan.iter().filter(|item| item.verdict == Verdict::KeepRestricted).collect();
        assert_eq!((kept.len(), kept[0].count, kept[0].class.as_deref()), (1, 2, Some("mifid.voice")));
        assert!(kept[0].end_time.as_deref().unwrap().starts_with("2031-12-01T00:00:00"));
        let found = house.verified(&done).await;
        assert!(found.holds, "{found:?}");

        for purpose in [CARE, AUTHORITY, CLAIMS] {
            assert_eq!(house.reveal(&ada.tokens, purpose).await, all_refused(3, "SUBJECT_ERASED"), "{purpose}");
            assert_eq!(house.reveal(&ops, purpose).await, all_refused(1, "SUBJECT_ERASED"), "{purpose}");
        }
        assert_kept(&mut house, &voice, &VOICE).await;
        for (address, token) in VOICE.iter().zip(&voice) {
            assert_eq!(house.find(v1::FieldType::Email, address).await, Vec::<String>::new());
            let refused = house.tokens.update_token(correct(token, "new@example.org")).await.unwrap_err();
            assert_eq!(reason(&refused), "SUBJECT_ERASED");
            let ask = v1::DeleteTokenRequest { token: token.clone(), ..Default::default() };
            assert_eq!(reason(&house.tokens.delete_token(ask).await.unwrap_err()), "SUBJECT_ERASED");
        }
        assert!(house.tokens_of(&ada.subject).await.iter().all(|token| token.state() == v1::TokenState::Erased));
        hoard.collect(&house, "after").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        assert_eq!(read(&spoils, &hoard, &ada.subject, VOICE[0]), (2, 0), "in no copy but what is kept, and nobody finds it");
        assert_eq!(read(&spoils, &hoard, &bob.subject, "bob@example.org"), (4, 1));

        let kept = house.outlasting().await;
        assert_eq!(kept, [("mifid.voice".to_owned(), "2026-11".to_owned(), "2031-12-01".to_owned(), false, 2)]);

        // Yesterday's database beside the present slot.
        for at in ["yesterday", "yesterday once more"] {
            house.go_back(&yesterday).await;
            assert_eq!(house.running().report.erasures_reapplied, 1, "{at}");
            assert_kept(&mut house, &voice, &VOICE).await;
            assert_eq!(house.reveal(&ada.tokens, AUTHORITY).await, all_refused(3, "SUBJECT_ERASED"));
            assert_eq!(house.find(v1::FieldType::Email, VOICE[0]).await, Vec::<String>::new());
            let again = house.erasure(&done.erasure).await;
            assert_eq!(fields(&again), [planned("mifid.voice", "KEEP_RESTRICTED", 2, "2031-12-01")]);
            assert!(house.verified(&again).await.holds);
            hoard.collect(&house, at).await;
            assert_eq!(read(&hoard.spoils(keys_now(&house).await), &hoard, &ada.subject, VOICE[0]), (2, 0), "{at}");
        }

        // The end of November 2026 and five years, less a day. What others define meanwhile does not put it off.
        house.define("mifid.voice", "P9Y").await;
        house.clock.advance(DAY * (9 + 1825));
        assert_eq!(house.end_retention().await, [], "not a day too early");
        assert_kept(&mut house, &voice, &VOICE).await;
        house.clock.advance(DAY * 2);
        assert_eq!(open(&mut house, &voice, AUTHORITY).await.0, all_refused(2, "SUBJECT_ERASED"), "it is over");
        assert!(house.outlasting().await[0].3, "it is overdue");
        let ended = ("mifid.voice".to_owned(), "2026-11".to_owned(), 1, 2);
        assert_eq!(house.end_retention().await, [ended]);
        assert_eq!(house.end_retention().await, [], "and nothing twice");
        assert_eq!(house.outlasting().await, []);
        let run = house.runs().await.into_iter().find(|run| !run.receipt.is_empty()).unwrap();
        let said = receipt::verify(&run.receipt, None).unwrap().statement;
        assert_eq!((said.kind, said.plan[0].count, said.plan[0].verdict), (Kind::Retention, 2, Verdict::Destroy));
        hoard.collect(&house, "the end").await;
        assert_eq!(read(&hoard.spoils(keys_now(&house).await), &hoard, &ada.subject, VOICE[0]), (0, 0), "in no copy");
        assert_eq!(house.reveal(&his, CARE).await, [Ok("bob@example.org".to_owned())], "the living go by the class");
        house.go_back(&yesterday).await;
        assert_eq!(open(&mut house, &voice, AUTHORITY).await.0, all_refused(2, "SUBJECT_ERASED"), "nor after a restore");
    }

    async fn four_eyes_are_of_two_people_and_everything_is_on_record(house: House) {
        let mut house = house;
        with_roles(&mut house, &["supervisor", "contact-centre-agent"]).await;
        let ada = house.somebody("Ada").await;
        let voice = house.keep_in("mifid.voice", &ada.subject, &VOICE).await;
        house.erase(&ada.subject).await;
        let ask = detokenize(&voice, AUTHORITY);
        let approval = requested(&house.tokens.detokenize(ask.clone()).await.unwrap_err());
        assert_eq!(requested(&house.tokens.detokenize(ask.clone()).await.unwrap_err()), approval, "one request");
        let refused = approve(&house, "owner", &approval).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "FOUR_EYES"));
        assert_eq!(requested(&house.tokens.detokenize(ask.clone()).await.unwrap_err()), approval);
        // For one of them it is another request, and what is destroyed asks for none.
        let one = requested(&house.tokens.detokenize(detokenize(&voice[..1], AUTHORITY)).await.unwrap_err());
        assert_ne!(one, approval);
        assert_eq!(house.reveal(&ada.tokens, AUTHORITY).await, all_refused(3, "SUBJECT_ERASED"));
        approve(&house, "supervisor", &approval).await.unwrap();
        assert_eq!(house.reveal(&voice, AUTHORITY).await, VOICE.map(|value| Ok(value.to_owned())));
        assert_ne!(requested(&house.tokens.detokenize(ask.clone()).await.unwrap_err()), approval, "once");
        // Who may not name the purpose leaves no request, and learns nothing.
        as_member(&mut house, "contact-centre-agent").await;
        let refused = house.tokens.detokenize(ask).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
        assert!(!metadata(&refused).contains_key("approval"));
        let entries = entries(&house).await;
        let shown = entries.iter().find(|entry| {
            entry["deed"] == "Detokenize" && entry["approval"] == approval && entry.get("refused").is_none()
        });
        let shown = shown.expect("the reveal is on record with its approval");
        assert_eq!((&shown["purpose"], &shown["caller"]), (&AUTHORITY.into(), &"owner".into()));
    }

    async fn what_outlasts_an_erasure_is_settled_when_it_is_carried_out(house: House) {
        let mut house = house;
        with_roles(&mut house, &["supervisor"]).await;
        let mut door = house.retention().await;
        door.define_retention_class(demanded("tax", true)).await.unwrap();
        let [ada, bob] = [house.somebody("Ada").await, house.somebody("Bob").await];
        // Kept before its class had a period.
        let hers = house.keep_in("orders", &ada.subject, &["ada@example.org"]).await;
        let his = house.keep_in("tax", &bob.subject, &["bob@example.org"]).await;
        let mut schedule = async |subject: &str| {
            let ask = v1::EraseSubjectRequest { execute_time: Some(house.in_time(HOUR)), ..erase(subject) };
            house.subjects.erase_subject(ask).await.unwrap().into_inner().erasure.unwrap()
        };
        let (of_ada, of_bob) = (schedule(&ada.subject).await, schedule(&bob.subject).await);
        assert_eq!(fields(&of_ada)[1], planned("orders", "DESTROY", 1, ""));
        assert_eq!(fields(&of_bob)[1], planned("tax", "KEEP_RESTRICTED", 1, "2028-12-01"));
        door.define_retention_class(demanded("orders", true)).await.unwrap();
        door.define_retention_class(demanded("tax", false)).await.unwrap();
        house.clock.advance(HOUR * 2);
        house.upkeep().await;
        let (of_ada, of_bob) = (house.erasure(&of_ada.erasure).await, house.erasure(&of_bob.erasure).await);
        assert_eq!((of_ada.state(), of_bob.state()), (v1::ErasureState::Shredded, v1::ErasureState::Shredded));
        assert_eq!(fields(&of_ada)[1], planned("orders", "KEEP_RESTRICTED", 1, "2028-12-01"));
        assert_eq!(fields(&of_bob)[1], planned("tax", "DESTROY", 1, ""));
        assert_kept(&mut house, &hers, &["ada@example.org"]).await;
        assert_eq!(open(&mut house, &his, AUTHORITY).await, (all_refused(1, "SUBJECT_ERASED"), None));
        // Whose keys went on their own account is not kept by another's.
        house.clock.advance(DAY * 800);
        assert_eq!(house.end_retention().await, [("orders".to_owned(), "2026-11".to_owned(), 1, 1)]);
        assert_eq!(open(&mut house, &hers, AUTHORITY).await, (all_refused(1, "SUBJECT_ERASED"), None));
    }

    async fn many_erasures_at_once_leave_what_each_has_to(house: House) {
        let mut house = house;
        with_roles(&mut house, &["supervisor"]).await;
        let mut people = Vec::new();
        for number in 0..100 {
            let address = format!("p{number}@example.org");
            let in_class = |class: &str| v1::FieldInput {
                retention_class: class.to_owned(),
                ..field(v1::FieldType::Email, &address)
            };
            let (subject, tokens) = house.tokenize("", vec![in_class("mifid.voice"), in_class("default")]).await;
            people.push((subject, tokens, address));
        }
        let erasing = people.iter().enumerate().map(|(number, (subject, ..))| {
            let (mut door, ask) = (house.subjects.clone(), erase(subject));
            let ask = v1::EraseSubjectRequest { request_id: request_id(number as u128 + 1), ..ask };
            async move { door.erase_subject(ask).await.unwrap().into_inner().erasure.unwrap() }
        });
        for erasure in join_all(erasing).await {
            assert_eq!(erasure.state(), v1::ErasureState::Shredded, "{erasure:?}");
            assert_eq!(fields(&erasure)[1].1, "KEEP_RESTRICTED");
        }
        let kept: Vec<String> = people.iter().map(|(_, tokens, _)| tokens[0].clone()).collect();
        let gone: Vec<String> = people.iter().map(|(_, tokens, _)| tokens[1].clone()).collect();
        let values: Vec<&str> = people.iter().map(|(.., address)| address.as_str()).collect();
        assert_kept(&mut house, &kept, &values).await;
        assert_eq!(house.reveal(&gone, AUTHORITY).await, all_refused(100, "SUBJECT_ERASED"));
    }

    async fn a_new_index_lists_nothing_that_outlasted_an_erasure(house: House) {
        let mut house = house;
        with_roles(&mut house, &["supervisor"]).await;
        let [ada, bob] = [house.somebody("Ada").await, house.somebody("Bob").await];
        let voice = house.keep_in("mifid.voice", &ada.subject, &VOICE).await;
        let done = house.erase(&ada.subject).await;
        rotate_index(&mut house.key_service().await, 0).await;
        assert_eq!(house.find(v1::FieldType::Email, VOICE[0]).await, Vec::<String>::new());
        assert_eq!(house.find(v1::FieldType::Email, &bob.email).await, bob.tokens[..1]);
        let found = house.verified(&done).await;
        assert!(found.holds, "{found:?}");
        let rotate = v1::RotateSubjectKeyRequest { subject: ada.subject.clone(), ..Default::default() };
        let refused = house.key_service().await.rotate_subject_key(rotate).await.unwrap_err();
        assert_eq!(reason(&refused), "SUBJECT_ERASED");
        assert_kept(&mut house, &voice, &VOICE).await;
    }
}
