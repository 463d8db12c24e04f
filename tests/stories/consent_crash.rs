//! The process ends while something is decided: either all of it is there afterwards, or nothing, and what was acknowledged
//! always.

use lacuna::model::{Clock as _, ConsentEvent, FieldType, SubjectId, SystemClock};
use lacuna::proto::v1;
use lacuna::proto::v1::RotationKind;
use lacuna::proto::v1::consent_service_client::ConsentServiceClient;

use crate::asks::{detokenize, point, request_id, tokenize};
use crate::crash::{OFTEN, after, assert_keys_agree, points_of};
use crate::hoard::{Hoard, keys_under};
use crate::house::{Bearer, Link, field, outcome};
use crate::outside::{Door, Outside, PATIENCE, Person, outside_on_both_stores};
use crate::rotating::rotate;
use crate::rotating::status;

/// Parts of the source that come by while a consent is recorded.
pub const RECORDING: [&str; 1] = ["consent"];
/// While a person's record changes.
pub const CHANGING: [&str; 1] = ["subject"];

const NEWS: &str = "marketing.email";
const FORM: &str = "web:signup";

fn consents(vault: &Outside, door: &Door) -> ConsentServiceClient<Link> {
    let token = std::fs::read_to_string(vault.place.token()).unwrap();
    ConsentServiceClient::with_interceptor(door.channel.clone(), Bearer(token.trim().to_owned()))
}

fn decision(person: &Person, kind: v1::ConsentEventKind, number: u128) -> v1::RecordConsentRequest {
    v1::RecordConsentRequest {
        subject: person.subject.clone(),
        purpose: NEWS.to_owned(),
        kind: kind.into(),
        method: v1::ConsentMethod::Form.into(),
        affirmative_action: "ticked".to_owned(),
        collection_point: FORM.to_owned(),
        request_id: request_id(number),
        ..Default::default()
    }
}

async fn reveal(door: &mut Door, person: &Person) -> Result<String, String> {
    let answer = door.tokens.detokenize(detokenize(&person.tokens[..1], NEWS)).await.unwrap().into_inner();
    outcome(&answer.results[0])
}

/// How many events a person has. Their chain holds, and what is kept beside it is what it comes to.
async fn events(vault: &Outside, person: &Person) -> usize {
    let store = lacuna::store::open(&vault.url()).await.unwrap();
    let mut tx = store.read().await.unwrap();
    let id = SubjectId::parse(&person.subject).unwrap();
    let events = tx.consent_events(id, "", 0, 100).await.unwrap();
    let mut before = None;
    for (at, event) in events.iter().enumerate() {
        assert_eq!((event.number, event.previous_hash), (at as u64 + 1, before));
        assert_eq!(event.hash, ConsentEvent::hash(before.as_ref(), &event.document));
        before = Some(event.hash);
    }
    let recorded: Vec<_> = events.iter().map(|event| event.event.clone()).collect();
    let folded = lacuna::model::Standing::of(&recorded, lacuna::model::Time::from_micros(i64::MAX));
    let stood = tx.standings_of(id).await.unwrap();
    assert_eq!(stood.iter().map(|stood| &stood.standing).collect::<Vec<_>>(), [&folded]);
    let objected = recorded.iter().any(|event| event.kind == lacuna::model::EventKind::Object);
    let subject = tx.subjects(&[id]).await.unwrap().remove(0);
    assert_eq!(subject.suppressed_at.is_some(), objected);
    drop(tx);
    store.close().await;
    events.len()
}

/// How many scores copies give away with the keys that a vault has.
async fn scores(hoard: &Hoard, vault: &Outside) -> usize {
    let keys = keys_under(&vault.kek(), &vault.place.slot(), &vault.place.data()).await;
    hoard.spoils(keys).values().filter(|(token, _)| token.kind == FieldType::Score).count()
}

/// Waits until the vault has changed its root by itself, in every copy of the slot.
async fn changes_root(door: &mut Door, epoch: u64) {
    let looking = async {
        loop {
            let status = status(&mut door.keys).await;
            let settled = status.slot_copies.iter().all(|copy| copy.epoch == Some(status.epoch));
            if settled && status.epoch > epoch && status.database_epoch == status.epoch {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("nobody asks for another root");
}

outside_on_both_stores! {
    async fn a_crash_while_a_consent_is_recorded_keeps_all_of_it_or_nothing(vault: Outside) {
        use v1::ConsentEventKind::{Give, Object, Withdraw};
        let mut door = vault.start();
        consents(&vault, &door).define_collection_point(point(FORM, v1::CollectionPointKind::WebForm)).await.unwrap();
        let ada = door.tokenize("ada").await;
        consents(&vault, &door).record_consent(decision(&ada, Give, 1)).await.unwrap();
        assert_eq!(reveal(&mut door, &ada).await, Ok(ada.values[0].clone()));
        door.kill();
        for point in points_of(&vault, &RECORDING, &[]) {
            for (kind, refused) in [(Withdraw, "CONSENT_WITHDRAWN"), (Object, "SUPPRESSED")] {
                let vault = vault.copy();
                let door = vault.try_start(&[(&point, after(0))]).unwrap();
                consents(&vault, &door).record_consent(decision(&ada, kind, 2)).await.unwrap_err();
                door.aborted();
                let found = events(&vault, &ada).await;
                assert_eq!(found, if point == "consent::recorded" { 2 } else { 1 }, "{point}");
                let mut door = vault.start();
                let now = reveal(&mut door, &ada).await;
                let expected = if found == 2 { Err(refused.to_owned()) } else { Ok(ada.values[0].clone()) };
                assert_eq!(now, expected, "{point} {kind:?}");
                // Whoever was not answered asks again, and it is recorded once.
                let again = consents(&vault, &door).record_consent(decision(&ada, kind, 2)).await.unwrap().into_inner();
                assert_eq!(again.events.len(), 1);
                assert_eq!(reveal(&mut door, &ada).await, Err(refused.to_owned()));
                let bought = tokenize("", vec![field(v1::FieldType::Email, &ada.values[0])]);
                let flagged = door.tokens.tokenize(bought).await.unwrap().into_inner().suppressed;
                assert_eq!(flagged, kind == Object);
                door.kill();
                assert_eq!(events(&vault, &ada).await, 2, "the first was acknowledged");
            }
        }
    }

    async fn a_crash_while_profiling_is_switched_off_leaves_it_on_or_the_scores_gone(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        let score = tokenize(&ada.subject, vec![field(v1::FieldType::Score, "0.75")]);
        let score = door.tokens.tokenize(score).await.unwrap().into_inner().tokens[0].token.clone();
        door.kill();
        let asked = [score];
        let ask = || v1::SetProfilingRequest { subject: ada.subject.clone(), enabled: false, ..Default::default() };
        let points = points_of(&vault, &CHANGING, &[]).into_iter().chain(points_of(&vault, &["shred"], &[]));
        for point in points {
            for times in 0..OFTEN {
                let vault = vault.copy();
                let mut door = vault.try_start(&[(&point, after(times))]).unwrap();
                if let Ok(off) = door.subjects.set_profiling(ask()).await {
                    assert!(times > 0, "switching off does not come by {point}");
                    assert_eq!(off.into_inner().pending_reason, "");
                    break;
                }
                door.aborted();
                let mut door = vault.start();
                let request = detokenize(&asked, "customer_care");
                let revealed = door.tokens.detokenize(request).await.unwrap().into_inner();
                let expected =
                    if point == "subject::before-change" { Ok("0.75".to_owned()) } else { Err("VALUE_PURGED".to_owned()) };
                assert_eq!(outcome(&revealed.results[0]), expected, "{point} {times}");
                let off = door.subjects.set_profiling(ask()).await.unwrap().into_inner();
                assert_eq!((off.pending_reason.as_str(), off.subject.unwrap().profiling), ("", false), "{point} {times}");
                door.assert_there(&ada).await;
                // What died in the midst of changing the root for nobody who waits leaves a checkpoint that the next change
                // makes good.
                let rotated = rotate(&mut door.keys, RotationKind::Root, "", "").await.unwrap();
                assert_eq!(rotated.state(), v1::RotationState::Done, "{rotated:?}");
                door.kill();
                assert_keys_agree(&vault);
            }
        }
    }

    async fn scores_are_gone_from_old_copies_though_the_process_died_when_it_had_taken_them_out(vault: Outside) {
        let mut door = vault.start();
        let [ada, bob] = [door.tokenize("ada").await, door.tokenize("bob").await];
        for person in [&ada, &bob] {
            let score = tokenize(&person.subject, vec![field(v1::FieldType::Score, "0.75")]);
            door.tokens.tokenize(score).await.unwrap();
        }
        // Bob is restricted, and so keeps his score until that is lifted.
        let (subject, ground) = (bob.subject.clone(), "needed_for_claims".to_owned());
        let restrict = v1::RestrictSubjectRequest { subject, ground, ..Default::default() };
        door.subjects.restrict_subject(restrict).await.unwrap();
        let off = |who: &Person| v1::SetProfilingRequest { subject: who.subject.clone(), ..Default::default() };
        door.subjects.set_profiling(off(&bob)).await.unwrap();
        door.kill();
        let point = "subject::changed";
        for (lifts, left) in [(false, 1), (true, 0)] {
            let mut hoard = Hoard::default();
            let before = vault.copy();
            hoard.read_url(&before.url()).await;
            assert_eq!(scores(&hoard, &before).await, left + 1, "the copy opens");
            let epoch = vault.keys()["epoch"].as_u64().unwrap();
            let mut door = vault.try_start(&[(point, after(0))]).unwrap();
            if lifts {
                let then = SystemClock.now().minus(std::time::Duration::from_secs(1)).micros();
                let subject_informed_time =
                    Some(prost_types::Timestamp { seconds: then / 1_000_000, ..Default::default() });
                let subject = bob.subject.clone();
                let lift = v1::LiftRestrictionRequest { subject, subject_informed_time, ..Default::default() };
                door.subjects.lift_restriction(lift).await.unwrap_err();
            } else {
                door.subjects.set_profiling(off(&ada)).await.unwrap_err();
            }
            door.aborted();
            assert_eq!(vault.keys()["epoch"], epoch, "the root is the old one");
            let mut door = vault.start();
            changes_root(&mut door, epoch).await;
            door.kill();
            hoard.read_url(&vault.url()).await;
            assert_eq!(scores(&hoard, &vault).await, left, "whoever asked is gone; lifted: {lifts}");
        }
    }
}
