//! How long values are kept: classes, what is due, and that nothing opens it afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use lacuna::keys::adversary::Spoils;
use lacuna::keys::receipt::{self, Kind};
use lacuna::model::{FieldType, KeyState, SubjectId, TokenRow};
use lacuna::proto::v1;
use lacuna::proto::v1::retention_service_client::RetentionServiceClient;
use lacuna::store::key::SubjectKey;
use tonic::{Code, Status};

use crate::asks::{CARE, all_refused, correct, metadata, refusal, request_id, shared};
use crate::hoard::{Hoard, keys_now};
use crate::house::{Bearer, House, Link, field, fields_at_fault, on_both_stores, reason};
use crate::outside::PATIENCE;
use crate::process::{allow, forbid};
use crate::restore::Yesterday;
use crate::rotating::{assert_done, ended};

const DAY: Duration = Duration::from_hours(24);
/// Every story begins on 21 November: nine more days and the month is over.
const TO_DECEMBER: Duration = Duration::from_hours(24 * 10);

impl House {
    /// The door for those who say how long values are kept.
    pub async fn retention(&self) -> RetentionServiceClient<Link> {
        RetentionServiceClient::with_interceptor(self.channel().await, Bearer(self.bearer()))
    }

    async fn classes(&self) -> Vec<v1::RetentionClass> {
        let request = v1::ListRetentionClassesRequest::default();
        self.retention().await.list_retention_classes(request).await.unwrap().into_inner().retention_classes
    }

    /// Defines a class.
    pub async fn define(&self, code: &str, period: &str) {
        self.retention().await.define_retention_class(class(code, period)).await.unwrap();
    }

    pub async fn try_run(&self, confirmed: bool) -> Result<v1::RunRetentionResponse, Status> {
        let confirm_time = confirmed.then(|| self.in_time(Duration::ZERO));
        let request = v1::RunRetentionRequest { confirm_time, ..Default::default() };
        Ok(self.retention().await.run_retention(request).await?.into_inner())
    }

    /// Runs, whatever the clock does. Answers class, month, keys and values of what was destroyed.
    pub async fn end_retention(&self) -> Vec<(String, String, i64, i64)> {
        let answer = self.try_run(true).await.unwrap();
        let run = answer.run.unwrap();
        assert_eq!((run.state(), answer.pending_reason.as_str()), (v1::RetentionRunState::Done, ""));
        assert_eq!(run.receipt.is_empty(), run.items.is_empty());
        run.items.into_iter().map(|item| (item.retention_class, item.month, item.keys, item.values)).collect()
    }

    /// Class, month, whether overdue, whether restricted, and how many values.
    async fn preview(&self) -> Vec<(String, String, bool, bool, i64)> {
        let preview = self.retention().await.preview_retention(v1::PreviewRetentionRequest {}).await.unwrap();
        let cohort = |found: v1::RetentionCohort| {
            (found.retention_class, found.month, found.overdue, found.restricted, found.values)
        };
        preview.into_inner().cohorts.into_iter().map(cohort).collect()
    }

    /// Keeps e-mail addresses of a person in a class; answers their tokens.
    pub async fn keep_in(&mut self, class: &str, subject: &str, addresses: &[&str]) -> Vec<String> {
        let in_class = |address: &&str| v1::FieldInput {
            retention_class: class.to_owned(),
            ..field(v1::FieldType::Email, address)
        };
        self.tokenize(subject, addresses.iter().map(in_class).collect()).await.1
    }

    pub async fn runs(&self) -> Vec<v1::RetentionRun> {
        let request = v1::ListRetentionRunsRequest::default();
        self.retention().await.list_retention_runs(request).await.unwrap().into_inner().runs
    }
}

fn item(class: &str, month: &str, keys: i64, values: i64) -> (String, String, i64, i64) {
    (class.to_owned(), month.to_owned(), keys, values)
}

/// How many values of a person a copy gives away, and which of the person's tokens it lists under an address.
fn read(spoils: &Spoils, hoard: &Hoard, subject: &str, address: &str) -> (usize, usize) {
    let id = SubjectId::parse(subject).unwrap();
    let listed: BTreeSet<TokenRow> = spoils.listed_under(FieldType::Email, address.as_bytes()).unwrap();
    let rows = hoard.rows_of(id);
    (spoils.values().filter(|(token, _)| token.subject == id).count(), listed.intersection(&rows).count())
}

/// A request to define a class.
pub fn class(code: &str, period: &str) -> v1::DefineRetentionClassRequest {
    let retention_class = v1::RetentionClass {
        code: code.to_owned(),
        basis: v1::RetentionBasis::Contract.into(),
        period: period.to_owned(),
        ..Default::default()
    };
    v1::DefineRetentionClassRequest { retention_class: Some(retention_class), ..Default::default() }
}

on_both_stores! {
    async fn a_new_vault_begins_with_the_usual_classes(house: House) {
        let classes = house.classes().await;
        let known: Vec<_> = classes.iter().map(|class| (class.code.as_str(), class.period.as_str())).collect();
        assert_eq!(known, [
            ("agent.hr", ""),
            ("call.ops", "P90D"),
            ("call.quality", "P6M"),
            ("consent.proof", ""),
            ("contract.evidence", "P3Y"),
            ("default", ""),
            ("mifid.voice", "P5Y"),
        ]);
        assert!(classes.iter().all(|class| class.version == 1 && class.basis != 0));
        assert!(classes.iter().all(|class| class.outlasts_erasure == (class.code == "mifid.voice")));
        assert_eq!(classes[4].counting(), v1::RetentionCounting::FromEndOfYear);
    }

    async fn a_class_is_defined_in_versions_that_a_backup_learns_of(house: House) {
        let mut house = house;
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.reopen().await;
        let mut door = house.retention().await;
        let request = v1::DefineRetentionClassRequest { request_id: request_id(1), ..class("orders", "P2Y") };
        let first = door.define_retention_class(request.clone()).await.unwrap().into_inner().retention_class.unwrap();
        assert_eq!((first.version, first.period.as_str()), (1, "P2Y"));
        assert_eq!(first.counting(), v1::RetentionCounting::FromCreation);
        let second = door.define_retention_class(class("orders", "P1Y6M")).await.unwrap().into_inner();
        assert_eq!(second.retention_class.unwrap().version, 2);
        let again = door.define_retention_class(request).await.unwrap().into_inner().retention_class;
        assert_eq!(again, Some(first), "the same request is answered as the first time");
        let refused = door.define_retention_class(class("orders", "P1Y6M")).await.unwrap_err();
        assert_eq!(fields_at_fault(&refused), ["retention_class"], "it is the version that there is");

        house.running().vault.ship_journal().await.unwrap();
        house.go_back(&yesterday).await;
        let restored = house.classes().await.into_iter().find(|class| class.code == "orders").unwrap();
        assert_eq!((restored.version, restored.period.as_str()), (2, "P1Y6M"));
        let page = v1::ListRetentionClassesRequest { page_size: 3, ..Default::default() };
        let page = house.retention().await.list_retention_classes(page).await.unwrap().into_inner();
        assert_eq!((page.retention_classes.len(), page.next_page_token.as_str()), (3, "call.quality"));
        let rest = v1::ListRetentionClassesRequest { page_token: page.next_page_token, ..Default::default() };
        let rest = house.retention().await.list_retention_classes(rest).await.unwrap().into_inner();
        assert_eq!((rest.retention_classes.len(), rest.next_page_token.as_str()), (5, ""));
    }

    async fn a_class_that_makes_no_sense_is_refused_by_its_field(house: House) {
        let mut door = house.retention().await;
        let with = |change: fn(&mut v1::RetentionClass)| {
            let mut request = class("orders", "P2Y");
            change(request.retention_class.as_mut().unwrap());
            request
        };
        let wrong = [
            (with(|class| "Orders".clone_into(&mut class.code)), "retention_class.code"),
            (with(|class| class.code.clear()), "retention_class.code"),
            (with(|class| class.basis = 0), "retention_class.basis"),
            (with(|class| class.basis = 99), "retention_class.basis"),
            (with(|class| "two years".clone_into(&mut class.period)), "retention_class.period"),
            (with(|class| "P101Y".clone_into(&mut class.period)), "retention_class.period"),
            (with(|class| class.title = "x".repeat(201)), "retention_class.title"),
            (with(|class| class.counting = 99), "retention_class.counting"),
            (with(|class| { class.period.clear(); class.counting = 2; }), "retention_class.counting"),
            (with(|class| class.outlasts_erasure = true), "retention_class.outlasts_erasure"),
            (with(|class| { class.period.clear(); class.outlasts_erasure = true; class.basis = 3; }), "retention_class.outlasts_erasure"),
        ];
        for (request, field) in wrong {
            let refused = door.define_retention_class(request).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "VALUE_INVALID"), "{field}");
            assert_eq!(fields_at_fault(&refused), [field]);
        }
    }

    async fn what_was_kept_long_enough_opens_in_no_copy_and_the_rest_does(house: House) {
        let mut house = house;
        let [ada, bob] = [house.somebody("Ada").await, house.somebody("Bob").await];
        let early = house.keep_in("call.ops", &ada.subject, &["early@example.com", "first@example.com"]).await;
        let other = house.keep_in("call.ops", &bob.subject, &["bob@example.org"]).await;
        house.clock.advance(TO_DECEMBER);
        let late = house.keep_in("call.ops", &ada.subject, &["late@example.com"]).await;
        let ended: Vec<String> = early.iter().chain(&other).cloned().collect();
        let mut hoard = Hoard::default();
        hoard.collect(&house, "before").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        assert_eq!(read(&spoils, &hoard, &ada.subject, "early@example.com"), (6, 1), "the copy opens");
        assert_eq!(read(&spoils, &hoard, &ada.subject, "late@example.com"), (6, 1));
        assert_eq!(read(&spoils, &hoard, &bob.subject, "bob@example.org"), (4, 1));
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.reopen().await;

        // The end of November and ninety days: the last day of February.
        house.clock.advance(DAY * 89);
        assert_eq!(house.end_retention().await, [], "not a day too early");
        assert_eq!(house.reveal(&early, CARE).await, [Ok("early@example.com".to_owned()), Ok("first@example.com".to_owned())]);
        house.clock.advance(DAY);
        let due = |month: &str, overdue, values| ("call.ops".to_owned(), month.to_owned(), overdue, false, values);
        assert_eq!(house.preview().await, [due("2026-11", true, 3), due("2026-12", false, 1)]);
        let epoch = house.keys().await.epoch;
        assert_eq!(house.end_retention().await, [item("call.ops", "2026-11", 2, 3)]);
        assert!(house.keys().await.epoch > epoch, "the root has changed before it answers");
        assert_eq!(house.preview().await, [due("2026-12", false, 1)]);
        assert_eq!(house.end_retention().await, [], "and nothing twice");

        assert_eq!(house.reveal(&ended, CARE).await, all_refused(3, "RETENTION_ENDED"));
        let refused = refusal(&house.results(&early[..1], CARE).await[0]);
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(metadata(&refused)["subject"], ada.subject);
        assert!(metadata(&refused).contains_key("end_time"));
        assert_eq!(house.token(&early[0]).await.state(), v1::TokenState::RetentionEnded);
        assert_eq!(house.find(v1::FieldType::Email, "early@example.com").await, Vec::<String>::new());
        let refused = house.tokens.update_token(correct(&early[0], "new@example.com")).await.unwrap_err();
        assert_eq!(reason(&refused), "RETENTION_ENDED");
        assert_eq!(house.reveal(&late, CARE).await, [Ok("late@example.com".to_owned())]);
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values());

        let run = house.runs().await.into_iter().find(|run| !run.items.is_empty()).unwrap();
        let said = receipt::verify(&run.receipt, None).unwrap().statement;
        assert_eq!((said.kind, said.retention_run.as_str(), said.epoch), (Kind::Retention, run.run.as_str(), run.epoch.cast_unsigned()));
        let plan: Vec<_> = said.plan.iter().map(|item| (item.class.as_deref(), item.cohort.as_deref(), item.count)).collect();
        assert_eq!(plan, [(Some("call.ops"), Some("2026-11"), 3)]);

        hoard.collect(&house, "after").await;
        let assert_gone = |spoils: &Spoils, hoard: &Hoard| {
            assert_eq!(read(spoils, hoard, &ada.subject, "early@example.com"), (4, 0), "in no copy");
            assert_eq!(read(spoils, hoard, &bob.subject, "bob@example.org"), (3, 0), "in no copy");
            assert_eq!(read(spoils, hoard, &ada.subject, "late@example.com"), (4, 1), "and the rest opens");
        };
        assert_gone(&hoard.spoils(keys_now(&house).await), &hoard);

        house.go_back(&yesterday).await;
        // A backup is told, whatever the clock, by whoever leads the nodes.
        let told = async { while house.reveal(&ended, CARE).await != all_refused(3, "RETENTION_ENDED") {} };
        tokio::time::timeout(Duration::from_mins(1), told).await.expect("what has ended is not known to have");
        assert_eq!(house.reveal(&late, CARE).await, [Ok("late@example.com".to_owned())]);
        hoard.collect(&house, "restored").await;
        assert_gone(&hoard.spoils(keys_now(&house).await), &hoard);
        assert_eq!(house.erase(&ada.subject).await.state(), v1::ErasureState::Shredded);
        assert_eq!(house.reveal(&early, CARE).await, all_refused(2, "SUBJECT_ERASED"));
    }

    async fn what_is_restricted_stays_until_that_is_lifted(house: House) {
        let mut house = house;
        let [ada, bob] = [house.somebody("Ada").await, house.somebody("Bob").await];
        let hers = house.keep_in("call.ops", &ada.subject, &["ada@example.org"]).await;
        let his = house.keep_in("call.ops", &bob.subject, &["bob@example.org"]).await;
        let restrict = v1::RestrictSubjectRequest {
            subject: ada.subject.clone(),
            ground: "needed_for_claims".to_owned(),
            ..Default::default()
        };
        house.subjects.restrict_subject(restrict).await.unwrap();
        house.clock.advance(DAY * 200);
        let due = |restricted| ("call.ops".to_owned(), "2026-11".to_owned(), true, restricted, 1);
        assert_eq!(house.preview().await, [due(false), due(true)]);
        assert_eq!(house.end_retention().await, [item("call.ops", "2026-11", 1, 1)]);
        assert_eq!(house.preview().await, [due(true)], "it is overdue, and stays");
        assert_eq!(house.reveal(&his, "legal_claims").await, all_refused(1, "RETENTION_ENDED"));
        assert_eq!(house.reveal(&hers, "legal_claims").await, [Ok("ada@example.org".to_owned())]);
        let lift = v1::LiftRestrictionRequest {
            subject: ada.subject.clone(),
            subject_informed_time: Some(house.in_time(Duration::ZERO)),
            ..Default::default()
        };
        house.subjects.lift_restriction(lift).await.unwrap();
        assert_eq!(house.end_retention().await, [item("call.ops", "2026-11", 1, 1)]);
        assert_eq!(house.reveal(&hers, "legal_claims").await, all_refused(1, "RETENTION_ENDED"));
    }

    async fn a_period_counts_for_what_was_kept_before_it_was_defined(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let old = house.keep_in("orders", &ada.subject, &["old@example.com"]).await;
        house.clock.advance(TO_DECEMBER);
        let newer = house.keep_in("orders", &ada.subject, &["newer@example.com"]).await;
        house.define("orders", "P1M").await;
        let after = house.keep_in("orders", &ada.subject, &["after@example.com"]).await;
        let orders = |month: &str, values| ("orders".to_owned(), month.to_owned(), false, false, values);
        assert_eq!(house.preview().await, [orders("", 2), orders("2026-12", 1)]);
        let both = |list: &[String]| [old.clone(), newer.clone(), list.to_vec()].concat();
        house.clock.advance(DAY * 31);
        assert_eq!(house.end_retention().await, [], "what is under one key ends with the newest of it");
        assert_eq!(house.preview().await, [orders("2026-12", 3)]);
        house.clock.advance(DAY * 31);
        assert_eq!(house.end_retention().await, [item("orders", "2026-12", 2, 3)]);
        assert_eq!(house.reveal(&both(&after), CARE).await, all_refused(3, "RETENTION_ENDED"));

        // Another period counts for all that there is, and none is none.
        let kept = house.keep_in("orders", &ada.subject, &["kept@example.com"]).await;
        house.define("orders", "").await;
        house.clock.advance(DAY * 400);
        assert_eq!(house.end_retention().await, []);
        let endless = house.keep_in("orders", &ada.subject, &["endless@example.com"]).await;
        house.define("orders", "P12M").await;
        assert_eq!(house.end_retention().await, [], "it ends values sooner, and waits");
        house.clock.advance(DAY * 7);
        assert_eq!(house.end_retention().await, [item("orders", "2027-02", 1, 1)]);
        assert_eq!(house.reveal(&kept, CARE).await, all_refused(1, "RETENTION_ENDED"));
        assert_eq!(house.reveal(&endless, CARE).await, [Ok("endless@example.com".to_owned())]);
    }

    async fn a_correction_a_rotation_and_a_shared_token_do_not_begin_the_period_anew(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let kept = house.keep_in("call.ops", &ada.subject, &["ada@example.org"]).await;
        house.clock.advance(DAY * 60);
        house.tokens.update_token(correct(&kept[0], "corrected@example.org")).await.unwrap();
        let again = shared(v1::FieldType::Email, "corrected@example.org");
        let again = v1::FieldInput { retention_class: "call.ops".to_owned(), ..again };
        assert_eq!(house.tokenize(&ada.subject, vec![again]).await.1, kept);
        let rotate = v1::RotateSubjectKeyRequest { subject: ada.subject.clone(), ..Default::default() };
        let mut keys = house.key_service().await;
        let rotation = keys.rotate_subject_key(rotate).await.unwrap().into_inner().rotation;
        assert_done(&ended(&mut keys, rotation).await);
        assert_eq!(house.reveal(&kept, CARE).await, [Ok("corrected@example.org".to_owned())]);
        house.clock.advance(DAY * 41);
        let ended = house.end_retention().await;
        assert_eq!(ended.iter().map(|(.., values)| values).sum::<i64>(), 1, "{ended:?}");
        assert!(ended.iter().all(|(_, month, ..)| month == "2026-11"), "{ended:?}");
        assert_eq!(house.reveal(&kept, CARE).await, all_refused(1, "RETENTION_ENDED"));
    }

    async fn a_clock_that_jumps_destroys_nothing_until_somebody_says_what_time_it_is(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let kept = house.keep_in("call.ops", &ada.subject, &["ada@example.org"]).await;
        assert!(house.try_run(false).await.unwrap().run.unwrap().items.is_empty(), "a clock that goes is believed");
        house.clock.advance(DAY * 3650);
        let vault = std::sync::Arc::clone(&house.running().vault);
        vault.upkeep().await.unwrap();
        let refused = house.try_run(false).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "CLOCK_DOUBTED"));
        assert!(!metadata(&refused).contains_key("trusted_time"), "no time will do for so far a leap");
        assert_eq!(house.reveal(&kept, CARE).await, [Ok("ada@example.org".to_owned())]);
        // Whoever sets it to another wrong time, and whoever waits, has it destroy nothing either.
        for back in [Duration::from_hours(2), DAY * 3000] {
            house.clock.set_back(back);
            vault.upkeep().await.unwrap();
            assert_eq!(reason(&house.try_run(false).await.unwrap_err()), "CLOCK_DOUBTED", "{back:?}");
        }
        for _ in 0..50 {
            house.clock.advance(Duration::from_hours(1));
            vault.upkeep().await.unwrap();
        }
        assert_eq!(reason(&house.try_run(false).await.unwrap_err()), "CLOCK_DOUBTED");
        assert_eq!(house.reveal(&kept, CARE).await, [Ok("ada@example.org".to_owned())]);
        house.clock.advance(DAY * 3000 + Duration::from_hours(2));
        house.clock.set_back(Duration::from_hours(50));
        let wrong = v1::RunRetentionRequest { confirm_time: Some(house.in_time(DAY * 2)), ..Default::default() };
        let refused = house.retention().await.run_retention(wrong).await.unwrap_err();
        assert_eq!(fields_at_fault(&refused), ["confirm_time"]);
        // It was wrong, and is set right: nobody has lost anything.
        house.clock.set_back(DAY * 3650);
        assert!(house.try_run(false).await.unwrap().run.unwrap().items.is_empty());
        assert_eq!(house.reveal(&kept, CARE).await, [Ok("ada@example.org".to_owned())]);

        // While it goes on as clocks do, the vault does by itself what is due.
        let begun = house.runs().await.len();
        for _ in 0..101 {
            house.clock.advance(Duration::from_hours(23));
            vault.upkeep().await.unwrap();
        }
        assert_eq!(house.reveal(&kept, CARE).await, [Ok("ada@example.org".to_owned())], "96 days later, in February");
        for _ in 0..5 {
            house.clock.advance(Duration::from_hours(23));
            vault.upkeep().await.unwrap();
        }
        drop(vault);
        assert_eq!(house.reveal(&kept, CARE).await, all_refused(1, "RETENTION_ENDED"));
        let runs = house.runs().await;
        assert_eq!(runs.len(), begun + 1, "a run that had nothing to do is none");
        assert_eq!((runs[0].start_caller.as_str(), runs[0].items.len()), ("lacuna", 1));
        assert!(!runs[0].receipt.is_empty());
    }

    async fn a_period_that_was_shortened_by_mistake_is_taken_back_in_time(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let kept = house.keep_in("mifid.voice", &ada.subject, &["ada@example.org"]).await;
        house.clock.advance(DAY * 60);
        house.define("mifid.voice", "P5D").await;
        assert_eq!(house.end_retention().await, []);
        house.clock.advance(DAY * 6);
        assert_eq!(house.end_retention().await, [], "there are seven days to see it");
        let preview = house.retention().await.preview_retention(v1::PreviewRetentionRequest {}).await.unwrap();
        let shown = preview.into_inner().cohorts[0].end_time.unwrap().seconds;
        let now = house.in_time(Duration::ZERO).seconds;
        assert!(shown > now && shown <= now + 24 * 3600, "the preview says when");
        house.define("mifid.voice", "P5Y").await;
        house.clock.advance(DAY * 30);
        assert_eq!(house.end_retention().await, []);
        house.define("mifid.voice", "P5D").await;
        house.clock.advance(DAY * 7);
        assert_eq!(house.end_retention().await, [item("mifid.voice", "2026-11", 1, 1)]);
        assert_eq!(house.reveal(&kept, CARE).await, all_refused(1, "RETENTION_ENDED"));
    }

    async fn values_that_a_rotation_is_moving_end_with_the_newest_of_them(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let id = SubjectId::parse(&ada.subject).unwrap();
        let old = house.keep_in("orders", &ada.subject, &["old@example.com"]).await;
        let vault = std::sync::Arc::clone(&house.running().vault);
        let store = vault.custody().store();
        // As in the midst of a rotation: what is old is under the new key already, and what is new still under the old one.
        let mut tx = store.write().await.unwrap();
        let mut first = tx.subject_keys(&[id]).await.unwrap();
        first.retain(|key| key.class == "orders");
        let first = first.remove(0);
        let second = SubjectKey { leaf: tx.take_leaves(1).await.unwrap(), version: first.version + 1, ..first.clone() };
        tx.insert_subject_keys(std::slice::from_ref(&second)).await.unwrap();
        tx.put_key_states(&[first.leaf], KeyState::Retiring).await.unwrap();
        tx.commit().await.unwrap();
        house.clock.advance(TO_DECEMBER);
        let newer = house.keep_in("orders", &ada.subject, &["newer@example.com"]).await;
        let mut tx = store.write().await.unwrap();
        tx.put_key_states(&[first.leaf], KeyState::Active).await.unwrap();
        tx.put_key_states(&[second.leaf], KeyState::Retiring).await.unwrap();
        tx.commit().await.unwrap();
        drop(vault);

        house.define("orders", "P1M").await;
        house.clock.advance(DAY * 31);
        assert_eq!(house.end_retention().await, [], "whatever they are under now");
        let both = [old, newer].concat();
        let values = ["old@example.com", "newer@example.com"].map(|value| Ok(value.to_owned()));
        assert_eq!(house.reveal(&both, CARE).await, values);
        house.clock.advance(DAY * 31);
        assert_eq!(house.end_retention().await, [item("orders", "2026-12", 2, 2)]);
        assert_eq!(house.reveal(&both, CARE).await, all_refused(2, "RETENTION_ENDED"));
    }

    async fn nothing_is_sealed_under_a_new_key_before_the_key_is_committed(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let id = SubjectId::parse(&ada.subject).unwrap();
        let kept = house.keep_in("orders", &ada.subject, &["order@example.com"]).await;
        let vault = std::sync::Arc::clone(&house.running().vault);
        let store = vault.custody().store();
        let keys = async || {
            let mut keys = store.read().await.unwrap().subject_keys(&[id]).await.unwrap();
            keys.retain(|key| key.class == "orders");
            keys.sort_by_key(|key| key.version);
            keys.into_iter().map(|key| (key.leaf, key.version, key.state)).collect::<Vec<_>>()
        };
        forbid(&house.url(), "UPDATE", "token");
        let rotate = v1::RotateSubjectKeyRequest { subject: ada.subject.clone(), ..Default::default() };
        let mut key_service = house.key_service().await;
        let rotation = key_service.rotate_subject_key(rotate).await.unwrap().into_inner().rotation;
        let before = keys().await;
        assert!(matches!(before[..], [(_, 1, KeyState::Retiring), (_, 2, KeyState::Active)]), "{before:?}");

        // The key that values were to go to takes none any more, and what goes to the next one is refused as well.
        let mut tx = store.write().await.unwrap();
        tx.put_key_states(&[before[1].0], KeyState::Retiring).await.unwrap();
        tx.commit().await.unwrap();
        let again = async {
            while keys().await.len() == 2 {
                vault.upkeep().await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, again).await.expect("a row names the leaf before anything is sealed under it");
        let after = keys().await;
        assert!(matches!(after[..], [(_, 1, _), (_, 2, _), (_, 3, KeyState::Active)]), "{after:?}");

        allow(&house.url(), "token");
        vault.upkeep().await.unwrap();
        assert_done(&ended(&mut key_service, rotation).await);
        let tokens = store.read().await.unwrap().tokens_under(id, &[after[2].0], None, 10).await.unwrap();
        assert_eq!(tokens.len(), 1);
        drop(vault);
        assert_eq!(house.reveal(&kept, CARE).await, [Ok("order@example.com".to_owned())]);
    }

    async fn scores_end_with_the_class_that_they_were_kept_in(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let score = v1::FieldInput { retention_class: "call.ops".to_owned(), ..field(v1::FieldType::Score, "0.5") };
        let kept = house.tokenize(&ada.subject, vec![score]).await.1;
        house.clock.advance(DAY * 200);
        assert_eq!(house.preview().await, [("score/call.ops".to_owned(), "2026-11".to_owned(), true, false, 1)]);
        assert_eq!(house.end_retention().await, [item("score/call.ops", "2026-11", 1, 1)]);
        assert_eq!(house.reveal(&kept, CARE).await, all_refused(1, "RETENTION_ENDED"));
    }
}
