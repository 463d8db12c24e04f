//! Rotations of keys: nobody who reads meanwhile is refused, nothing is lost, and the old key opens nothing any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lacuna::model::{FieldType, SubjectId};
use lacuna::proto::v1;
use lacuna::proto::v1::key_service_client::KeyServiceClient;
use tonic::{Code, Status};

use crate::asks::{CARE, correct, erase, metadata, request_id, text, tokenize};
use crate::hoard::{Hoard, keys_now};
use crate::house::{Link, Somebody, field, on_both_stores, reason};
use crate::process::{Place, Server, lacuna, run, said};
use crate::restore::Yesterday;
use crate::rotating::{Readers, assert_done, ended, people};

async fn rotate_root(keys: &mut KeyServiceClient<Link>) -> v1::Rotation {
    let rotation = keys.rotate_root(v1::RotateRootRequest::default()).await.unwrap().into_inner().rotation;
    ended(keys, rotation).await
}

pub async fn rotate_subject(keys: &mut KeyServiceClient<Link>, subject: &str) -> v1::Rotation {
    let ask = v1::RotateSubjectKeyRequest { subject: subject.to_owned(), ..Default::default() };
    let rotation = keys.rotate_subject_key(ask).await.unwrap().into_inner().rotation;
    ended(keys, rotation).await
}

pub async fn rotate_index(keys: &mut KeyServiceClient<Link>, buckets: u32) -> v1::Rotation {
    let ask = v1::RotateIndexKeyRequest { buckets, ..Default::default() };
    let rotation = keys.rotate_index_key(ask).await.unwrap().into_inner().rotation;
    ended(keys, rotation).await
}

async fn verify(keys: &mut KeyServiceClient<Link>, erasure: &str) -> v1::VerifyErasureResponse {
    keys.verify_erasure(v1::VerifyErasureRequest { erasure: erasure.to_owned() }).await.unwrap().into_inner()
}

/// The checks that did not pass.
fn failed(verified: &v1::VerifyErasureResponse) -> Vec<&str> {
    assert_eq!(verified.holds, verified.findings.iter().all(|finding| finding.passed));
    verified.findings.iter().filter(|finding| !finding.passed).map(|finding| finding.check.as_str()).collect()
}

fn id(person: &Somebody) -> SubjectId {
    SubjectId::parse(&person.subject).unwrap()
}

on_both_stores! {
    async fn a_new_root_key_again_and_again_refuses_no_reader(house: House) {
        let mut house = house;
        let people = people(&mut house, 8).await;
        let mut keys = house.key_service().await;
        // The first takes along the leaves that nobody has used.
        assert_done(&rotate_root(&mut keys).await);
        let before = house.keys().await;
        let readers = Readers::of(&house, &people);
        for _ in 0..5 {
            readers.go_on().await;
            assert_done(&rotate_root(&mut keys).await);
        }
        readers.go_on().await;
        readers.end().await;
        let after = house.keys().await;
        assert_eq!(after.epoch, before.epoch + 5);
        assert_ne!(after.root_id, before.root_id);
        assert_eq!((after.live_leaves, after.punctured_leaves), (before.live_leaves, before.punctured_leaves));
        house.reopen().await;
        assert_eq!(house.reveal(&people[0].tokens, CARE).await, people[0].values());
    }

    async fn a_subjects_new_key_refuses_no_reader_and_the_old_one_opens_no_copy(house: House) {
        let mut house = house;
        let people = people(&mut house, 4).await;
        let ada = people[0].clone();
        let mut hoard = Hoard::default();
        hoard.collect(&house, "before").await;
        let old = hoard.leaves_of(id(&ada));
        let spoils = hoard.spoils(keys_now(&house).await);
        let read = |spoils: &lacuna::keys::adversary::Spoils| {
            spoils.values().filter(|(token, _)| token.subject == id(&ada)).count()
        };
        assert_eq!(read(&spoils), 3, "the copy opens under the keys of its time");

        let mut keys = house.key_service().await;
        let readers = Readers::of(&house, &people);
        // Others write for the same person, and put other values behind their tokens, all the while.
        let writing = Arc::new(AtomicBool::new(true));
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let (mut tokens, subject, writing) = (house.tokens.clone(), ada.subject.clone(), Arc::clone(&writing));
                tokio::spawn(async move {
                    let (mut kept, mut round) = (Vec::new(), 0);
                    while writing.load(Ordering::SeqCst) {
                        let value = format!("{number} in round {round}");
                        let made = tokens.tokenize(tokenize(&subject, vec![text(&value)])).await.unwrap().into_inner();
                        let token = made.tokens[0].token.clone();
                        let value = format!("{value}, corrected");
                        tokens.update_token(correct(&token, &value)).await.unwrap();
                        kept.push((token, value));
                        round += 1;
                    }
                    kept
                })
            })
            .collect();
        for _ in 0..3 {
            readers.go_on().await;
            assert_done(&rotate_subject(&mut keys, &ada.subject).await);
        }
        readers.go_on().await;
        writing.store(false, Ordering::SeqCst);
        for writer in writers {
            let (tokens, values): (Vec<_>, Vec<_>) = writer.await.unwrap().into_iter().unzip();
            let values: Vec<_> = values.into_iter().map(Ok).collect();
            assert!(!tokens.is_empty());
            for (tokens, values) in tokens.chunks(500).zip(values.chunks(500)) {
                assert_eq!(house.reveal(tokens, CARE).await, values);
            }
        }
        readers.end().await;

        hoard.collect(&house, "after").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        assert!(old.iter().all(|leaf| spoils.leaf_seed(*leaf).is_none()), "the old ciphertexts are noise");
        assert_eq!(spoils.values().filter(|(token, _)| token.subject == id(&people[1])).count(), 3);
        assert!(read(&spoils) >= 3, "and the present ones are not");

        let erasure = house.erase(&ada.subject).await;
        let verified = verify(&mut keys, &erasure.erasure).await;
        assert!(verified.holds, "{verified:?}");
        hoard.collect(&house, "erased").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        assert_eq!(read(&spoils), 0, "every version of the key died");
        assert_eq!(spoils.values().filter(|(token, _)| token.subject == id(&people[1])).count(), 3);
    }

    async fn a_new_index_key_refuses_no_reader_and_the_old_index_confirms_nobody(house: House) {
        let mut house = house;
        let people = people(&mut house, 40).await;
        let mut hoard = Hoard::default();
        hoard.collect(&house, "before").await;
        let email = |person: &Somebody| person.email.clone().into_bytes();
        let spoils = hoard.spoils(keys_now(&house).await);
        assert_eq!(spoils.index_confirms(FieldType::Email, &email(&people[3])), Some(true));

        let mut keys = house.key_service().await;
        let readers = Readers::of(&house, &people);
        let writing = Arc::new(AtomicBool::new(true));
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let (mut tokens, writing) = (house.tokens.clone(), Arc::clone(&writing));
                let mut subjects = house.subjects.clone();
                tokio::spawn(async move {
                    let (mut kept, mut round) = (Vec::new(), 0);
                    while writing.load(Ordering::SeqCst) {
                        let value = |what: &str| format!("{what}.{number}.{round}@example.com");
                        let fields = ["a", "b", "c"].map(|what| field(v1::FieldType::Email, &value(what))).to_vec();
                        let made = tokens.tokenize(tokenize("", fields)).await.unwrap().into_inner();
                        tokens.update_token(correct(&made.tokens[1].token, &value("d"))).await.unwrap();
                        let token = made.tokens[2].token.clone();
                        tokens.delete_token(v1::DeleteTokenRequest { token, ..Default::default() }).await.unwrap();
                        let erased = round % 3 == 0;
                        if erased {
                            subjects.erase_subject(erase(&made.subject)).await.unwrap();
                        }
                        let there = |is: bool| usize::from(is && !erased);
                        kept.extend([("a", there(true)), ("b", 0), ("c", 0), ("d", there(true))].map(|(what, is)| (value(what), is)));
                        round += 1;
                    }
                    kept
                })
            })
            .collect();
        for buckets in [0, 100] {
            readers.go_on().await;
            assert_done(&rotate_index(&mut keys, buckets).await);
        }
        readers.go_on().await;
        writing.store(false, Ordering::SeqCst);
        let mut kept = Vec::new();
        for writer in writers {
            kept.extend(writer.await.unwrap());
        }
        readers.end().await;
        assert!(kept.len() > 8);
        for (value, count) in kept {
            assert_eq!(house.find(v1::FieldType::Email, &value).await.len(), count, "{value}");
        }

        let (key, buckets) = (hoard.generations()[0].leaf, hoard.bucket_leaves());
        hoard.collect(&house, "after").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        assert!(spoils.leaf_seed(key).is_none(), "the key of the old index is gone");
        assert!(buckets.iter().all(|leaf| spoils.leaf_seed(*leaf).is_none()), "and so are those of its buckets");
        assert_eq!(spoils.index_confirms(FieldType::Email, &email(&people[3])), Some(true), "by the new one");
        // Still so after a restart, and erasing works on the new index as on the old.
        house.reopen().await;
        let report = house.running().report.clone();
        assert_eq!((report.from_checkpoint, report.erasures_pending, report.buckets_rebuilt), (false, 0, 0));
        house.erase(&people[3].subject).await;
        hoard.collect(&house, "erased").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        assert_eq!(spoils.index_confirms(FieldType::Email, &email(&people[3])), Some(false));
        assert_eq!(spoils.index_confirms(FieldType::Email, &email(&people[4])), Some(true));
        assert_eq!(house.find(v1::FieldType::Email, &people[4].email).await.len(), 1);
    }

    async fn a_dry_run_tells_and_changes_nothing(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada Lovelace").await;
        let mut keys = house.key_service().await;
        let (before, epoch) = (house.everything().await, house.keys().await.epoch);
        let ask = v1::RotateSubjectKeyRequest { subject: ada.subject.clone(), validate_only: true, ..Default::default() };
        let subject = keys.rotate_subject_key(ask).await.unwrap().into_inner().rotation.unwrap();
        let ask = v1::RotateIndexKeyRequest { buckets: 128, validate_only: true, ..Default::default() };
        let index = keys.rotate_index_key(ask).await.unwrap().into_inner().rotation.unwrap();
        let ask = v1::RotateRootRequest { validate_only: true, ..Default::default() };
        let root = keys.rotate_root(ask).await.unwrap().into_inner().rotation.unwrap();
        let ask = v1::RotateKekRequest { validate_only: true, ..Default::default() };
        let kek = keys.rotate_kek(ask).await.unwrap().into_inner().rotation.unwrap();
        let ask = v1::RotateSigningKeyRequest { validate_only: true, ..Default::default() };
        let signing = keys.rotate_signing_key(ask).await.unwrap().into_inner().rotation.unwrap();
        for rotation in [&subject, &index, &root, &kek, &signing] {
            assert_eq!((rotation.rotation.as_str(), rotation.state), ("", 0), "{rotation:?}");
            assert!(rotation.total > 0 && !rotation.detail.is_empty(), "{rotation:?}");
        }
        assert_eq!((subject.total, subject.subject.as_str()), (4, ada.subject.as_str()));
        assert_eq!(index.total, 128 + 2 * 64 + 3 + 1);
        assert_eq!((house.everything().await, house.keys().await.epoch), (before, epoch));
        let list = keys.list_rotations(v1::ListRotationsRequest::default()).await.unwrap().into_inner();
        assert!(list.rotations.is_empty());
    }

    async fn a_rotation_is_asked_for_once_and_told_of_afterwards(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada Lovelace").await;
        let mut keys = house.key_service().await;
        let ask = v1::RotateRootRequest { request_id: request_id(7), ..Default::default() };
        let first = keys.rotate_root(ask.clone()).await.unwrap().into_inner().rotation.unwrap();
        let again = keys.rotate_root(ask).await.unwrap().into_inner().rotation.unwrap();
        assert_eq!(first.rotation, again.rotation);
        assert_eq!(house.keys().await.epoch, 1);
        let ask = |subject: &str, request| v1::RotateSubjectKeyRequest {
            subject: subject.to_owned(),
            request_id: request_id(request),
            ..Default::default()
        };
        let refused = keys.rotate_subject_key(ask(&ada.subject, 7)).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_MISMATCH");
        house.clock.advance(crate::asks::HOUR);
        let rotation = keys.rotate_subject_key(ask(&ada.subject, 8)).await.unwrap().into_inner().rotation;
        let rotation = ended(&mut keys, rotation).await;
        assert_done(&rotation);
        let refused = keys.rotate_subject_key(ask(&house.somebody("Bob").await.subject, 8)).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_MISMATCH");

        let page = v1::ListRotationsRequest { page_size: 1, ..Default::default() };
        let list = keys.list_rotations(page.clone()).await.unwrap().into_inner();
        assert_eq!(list.rotations, std::slice::from_ref(&rotation), "newest first");
        let rest = v1::ListRotationsRequest { page_token: list.next_page_token, ..page };
        let list = keys.list_rotations(rest).await.unwrap().into_inner();
        assert_eq!((list.rotations, list.next_page_token.as_str()), (vec![first], ""));
        let events = keys.list_key_events(v1::ListKeyEventsRequest::default()).await.unwrap().into_inner().key_events;
        let mut kinds: Vec<_> = events.iter().map(v1::KeyEvent::kind).collect();
        kinds.truncate(6);
        let once = [v1::KeyEventKind::RotationDone, v1::KeyEventKind::EpochAdvanced, v1::KeyEventKind::RotationBegun];
        assert_eq!(kinds, [once, once].concat());
        assert!(events[0].detail.contains(&rotation.rotation) && events[0].detail.contains(&ada.subject), "{events:?}");
        assert_eq!(events[0].actor, "development");
    }

    async fn what_does_not_fit_is_refused_by_name(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada Lovelace").await;
        let mut keys = house.key_service().await;
        let subject = |subject: &str| v1::RotateSubjectKeyRequest { subject: subject.to_owned(), ..Default::default() };
        let unknown = SubjectId::from_bytes([7; 16]).to_string();
        let refused = keys.rotate_subject_key(subject(&unknown)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "SUBJECT_UNKNOWN"));
        house.erase(&ada.subject).await;
        let refused = keys.rotate_subject_key(subject(&ada.subject)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "SUBJECT_ERASED"));
        let rotation = lacuna::model::RotationId::from_bytes([7; 16]).to_string();
        let refused = keys.get_rotation(v1::GetRotationRequest { rotation: rotation.clone() }).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "ROTATION_UNKNOWN"));
        assert_eq!(metadata(&refused)["rotation"], rotation);
        assert_eq!(house.running().vault.custody().store().read().await.unwrap().running_rotations().await.unwrap(), []);
    }

    async fn one_key_is_rotated_once_at_a_time(house: House) {
        let mut house = house;
        people(&mut house, 8).await;
        let keys = house.key_service().await;
        let calls: Vec<_> = (0..8)
            .map(|_| {
                let mut keys = keys.clone();
                tokio::spawn(async move {
                    let ask = v1::RotateIndexKeyRequest::default();
                    let asked: Result<_, Status> = keys.rotate_index_key(ask).await;
                    asked.map(|answer| answer.into_inner().rotation)
                })
            })
            .collect();
        let (mut begun, mut refused) = (Vec::new(), Vec::new());
        for call in calls {
            match call.await.unwrap() {
                Ok(rotation) => begun.push(rotation),
                Err(refusal) => refused.push(refusal),
            }
        }
        assert!(!begun.is_empty() && !refused.is_empty());
        for refusal in refused {
            assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::FailedPrecondition, "ROTATION_RUNNING"));
            assert!(begun.iter().flatten().any(|running| metadata(&refusal)["rotation"] == running.rotation));
        }
        let mut keys = keys;
        for rotation in begun {
            assert_done(&ended(&mut keys, rotation).await);
        }
    }

    async fn a_verdict_on_an_erasure_sees_what_is_wrong(house: House) {
        let mut house = house;
        let (ada, bob) = (house.somebody("Ada Lovelace").await, house.somebody("Bob Noyce").await);
        let mut keys = house.key_service().await;
        let erasure = house.erase(&ada.subject).await.erasure;
        let verified = verify(&mut keys, &erasure).await;
        assert_eq!((failed(&verified), verified.findings.len()), (vec![], 6), "{verified:?}");
        rotate_root(&mut keys).await;
        rotate_index(&mut keys, 0).await;
        assert!(verify(&mut keys, &erasure).await.holds, "also under later keys");

        let ask = v1::EraseSubjectRequest { execute_time: Some(house.in_time(crate::asks::HOUR)), ..erase(&bob.subject) };
        let scheduled = house.subjects.erase_subject(ask).await.unwrap().into_inner().erasure.unwrap().erasure;
        let verified = verify(&mut keys, &scheduled).await;
        assert_eq!(failed(&verified), ["state", "keys", "ciphertexts", "index", "copies", "receipt"]);

        // Somebody meddles with the database.
        let store = house.running().vault.custody().store();
        let mut tx = store.write().await.unwrap();
        let subject = id(&ada);
        let mut found = tx.list_tokens(subject, None, 1).await.unwrap().remove(0).token;
        found.sealed = Some(vec![1, 2, 3]);
        tx.update_tokens(&[found]).await.unwrap();
        let mut row = tx.lock_erasures(&[erasure.parse().unwrap()]).await.unwrap().remove(0);
        let other = tx.erasures(&[scheduled.parse().unwrap()]).await.unwrap().remove(0);
        row.receipt = row.receipt.map(|receipt| String::from_utf8(receipt).unwrap().replacen("\"sig\":\"", "\"sig\":\"A", 1).into());
        row.epoch = Some(99);
        tx.update_erasures(&[row, other]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(failed(&verify(&mut keys, &erasure).await), ["ciphertexts", "copies", "receipt"]);
    }

    async fn a_backup_from_before_a_rotation_comes_back_without_what_was_under_the_old_key(house: House) {
        let mut house = house;
        let (ada, bob) = (house.somebody("Ada Lovelace").await, house.somebody("Bob Noyce").await);
        let yesterday = Yesterday::of(&house);
        let mut keys = house.key_service().await;
        rotate_subject(&mut keys, &ada.subject).await;
        rotate_index(&mut keys, 0).await;
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values());

        house.go_back(&yesterday).await;
        assert_eq!(house.running().report.buckets_rebuilt, 64);
        // The keys are gone, and that is said: nobody takes her for erased.
        assert_eq!(house.reveal(&ada.tokens, CARE).await, vec![Err("KEY_RETIRED".to_owned()); 3]);
        assert_eq!(house.subject(&ada.subject).await.state(), v1::SubjectState::Active);
        assert_eq!(house.find(v1::FieldType::Email, &ada.email).await, Vec::<String>::new());
        assert_eq!(house.reveal(&bob.tokens, CARE).await, bob.values());
        assert_eq!(house.find(v1::FieldType::Email, &bob.email).await, bob.tokens[..1]);
        // Her values can be given again, behind the same token or another.
        house.tokens.update_token(correct(&ada.tokens[0], &ada.email)).await.unwrap();
        assert_eq!(house.find(v1::FieldType::Email, &ada.email).await, ada.tokens[..1]);
        let (_, again) = house.tokenize(&ada.subject, vec![text("again")]).await;
        let both = [ada.tokens[0].clone(), again[0].clone()];
        assert_eq!(house.reveal(&both, CARE).await, [Ok(ada.email.clone()), Ok("again".to_owned())]);
        let mut keys = house.key_service().await;
        assert_done(&rotate_subject(&mut keys, &ada.subject).await);
        assert_done(&rotate_index(&mut keys, 0).await);
        assert_eq!(house.reveal(&both, CARE).await, [Ok(ada.email.clone()), Ok("again".to_owned())]);
        assert_eq!(house.find(v1::FieldType::Email, &ada.email).await, ada.tokens[..1]);
        let erasure = house.erase(&ada.subject).await;
        assert!(verify(&mut keys, &erasure.erasure).await.holds);
    }

    async fn after_a_backup_from_before_a_rotation_the_index_forgets_whoever_is_erased(house: House) {
        let mut house = house;
        let (ada, bob) = (house.somebody("Ada Lovelace").await, house.somebody("Bob Noyce").await);
        let (carl, dora) = (house.somebody("Carl Third").await, house.somebody("Dora Fourth").await);
        let yesterday = Yesterday::of(&house);
        let mut keys = house.key_service().await;
        for person in [&ada, &dora] {
            rotate_subject(&mut keys, &person.subject).await;
        }
        house.stop().await;
        yesterday.put_back(&house);
        let mut hoard = Hoard::default();
        house.reopen().await;
        assert_eq!(house.reveal(&ada.tokens, CARE).await, vec![Err("KEY_RETIRED".to_owned()); 3]);
        // Another value behind a token whose former value nobody can read any more.
        house.tokens.update_token(correct(&dora.tokens[0], "other@example.com")).await.unwrap();
        assert_eq!(house.find(v1::FieldType::Email, &dora.email).await, Vec::<String>::new());
        assert_eq!(house.find(v1::FieldType::Email, "other@example.com").await, dora.tokens[..1]);
        // Whoever is erased first takes along what the restore has made doubtful.
        for person in [&bob, &ada, &dora] {
            house.erase(&person.subject).await;
        }
        let mut keys = house.key_service().await;
        for person in [&ada, &dora] {
            let erasure = house.subject(&person.subject).await.erasure;
            let verified = verify(&mut keys, &erasure).await;
            assert!(verified.holds, "{verified:?}");
        }
        hoard.collect(&house, "erased").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        let confirms = |person: &Somebody| spoils.index_confirms(FieldType::Email, person.email.as_bytes());
        assert_eq!(confirms(&carl), Some(true));
        assert_eq!([&ada, &bob, &dora].map(confirms), [Some(false); 3]);
        assert_eq!(house.find(v1::FieldType::Email, &carl.email).await, carl.tokens[..1]);
    }

    async fn the_status_tells_of_every_copy_and_of_what_runs(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada Lovelace").await;
        house.erase(&ada.subject).await;
        let mut keys = house.key_service().await;
        let status = keys.get_key_status(v1::GetKeyStatusRequest {}).await.unwrap().into_inner().status.unwrap();
        assert_eq!((status.epoch, status.database_epoch, status.erasures_pending), (1, 1, 0));
        assert!(status.live_leaves > 0 && status.punctured_leaves > 0 && status.pages > 0 && status.bytes > 0);
        assert_eq!(status.assurance(), v1::ErasureAssurance::ImmediateLogical);
        assert_eq!(status.root_id.len(), 32);
        for copy in status.slot_copies.iter().chain(&status.sinks) {
            assert_eq!((copy.epoch, copy.trouble.as_str()), (Some(1), ""), "{copy:?}");
        }
        let on_postgres = house.config.database_url().unwrap().expose().starts_with("postgres");
        assert_eq!(status.nodes.len(), usize::from(on_postgres), "nodes share a database on PostgreSQL only");
        assert!(status.nodes.iter().all(|node| node.applied_epoch == 1 && !node.host.is_empty()), "{status:?}");
        assert!(!status.slot_copies.is_empty() && !status.sinks.is_empty() && status.rotations.is_empty());
    }
}

/// Runs `lacuna keys` against a server and reads the document that it prints.
fn keys(server: &Server, place: &Place, arguments: &[&str]) -> (Option<i32>, serde_json::Value) {
    let output = run(server.client(place).arg("keys").args(arguments).args(["--output", "json"]));
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    (output.status.code(), json)
}

#[test]
fn the_program_rotates_keys_tells_of_it_and_looks_at_erasures() {
    let place = Place::new();
    let server = place.start(None);
    let made = run(server
        .client(&place)
        .args(["token", "create", "--source", "try:out", "--output", "json"])
        .arg("email=ada@example.com"));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let subject = made["subject"].as_str().unwrap();
    for (arguments, kind) in [
        (&["rotate-root"][..], "ROTATION_KIND_ROOT"),
        (&["rotate-subject-key", subject], "ROTATION_KIND_SUBJECT_KEY"),
        (&["rotate-index-key", "--buckets", "128"], "ROTATION_KIND_INDEX_KEY"),
    ] {
        let (status, planned) = keys(&server, &place, &[arguments, &["--dry-run"]].concat());
        assert_eq!((status, planned["rotation"]["rotation"].as_str()), (Some(0), Some("")), "{planned}");
        let (status, done) = keys(&server, &place, arguments);
        assert_eq!((status, done["rotation"]["state"].as_str()), (Some(0), Some("ROTATION_STATE_DONE")), "{done}");
        assert_eq!(done["rotation"]["kind"], kind);
        let id = done["rotation"]["rotation"].as_str().unwrap();
        assert_eq!(keys(&server, &place, &["rotation", id]), (Some(0), done.clone()));
    }
    let (_, list) = keys(&server, &place, &["rotations", "--limit", "2"]);
    assert_eq!(list["rotations"].as_array().unwrap().len(), 2);
    assert_eq!(list["rotations"][0]["kind"], "ROTATION_KIND_INDEX_KEY", "newest first");
    let (_, events) = keys(&server, &place, &["events"]);
    assert_eq!(events["key_events"][0]["kind"], "KEY_EVENT_KIND_ROTATION_DONE");
    let (status, running) = keys(&server, &place, &["rotate-index-key", "--no-wait"]);
    assert_eq!((status, running["rotation"]["state"].as_str()), (Some(0), Some("ROTATION_STATE_RUNNING")));

    let erased = run(server
        .client(&place)
        .args(["subject", "erase", subject, "--reason", "art17", "--yes", "--output", "json"]));
    let erased: serde_json::Value = serde_json::from_slice(&erased.stdout).unwrap();
    let erasure = erased["erasure"]["erasure"].as_str().unwrap();
    let (status, verdict) = keys(&server, &place, &["verify-erasure", erasure]);
    assert_eq!((status, verdict["holds"].as_bool()), (Some(0), Some(true)), "{verdict}");
    let address = format!("http://{}", server.address());
    let (status, told) = keys(&server, &place, &["status", "--address", &address]);
    assert_eq!((status, told["status"]["assurance"].as_str()), (Some(0), Some("ERASURE_ASSURANCE_IMMEDIATE_LOGICAL")));
    let (data, slot) = (place.data(), place.slot());
    let here = ["status", "--data-dir", data.to_str().unwrap(), "--slot-dir", slot.to_str().unwrap()];
    let (status, looked) = keys(&server, &place, &here);
    assert_eq!((status, &looked["epoch"]), (Some(0), &told["status"]["epoch"]));

    // For people: no progress bar in a pipe, and what to do next.
    let output = run(server.client(&place).args(["keys", "rotate-root"]));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("the old one is destroyed"), "{}", said(&output));
    let rotation = lacuna::model::RotationId::from_bytes([7; 16]).to_string();
    let (status, refused) = keys(&server, &place, &["rotation", &rotation]);
    assert_eq!((status, refused["error"]["reason"].as_str()), (Some(1), Some("ROTATION_UNKNOWN")));
    let gone = server.address().to_owned();
    drop(server);
    let output = run(lacuna().args(["keys", "rotations", "--address", &gone, "--token-file"]).arg(place.token()));
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
}
