//! The crash matrix: the process ends at every point that `src` names, each time that it comes by, and what was
//! acknowledged is there afterwards.
//!
//! Needs `--features failpoints`. The points are read from the source, so that a new one cannot be forgotten: each
//! story takes those whose name begins with a part that it knows, and every part must be known to one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lacuna::model::{SubjectId, SubjectState};
use lacuna::proto::v1;

use crate::audit_crash::AUDITING;
use crate::consent_crash::{CHANGING, RECORDING};
use crate::holds_crash::HOLDING;
use crate::outside::{
    Custodian, Door, Outside, PATIENCE, Person, copy_folder, outside_on_both_stores, outside_with_a_token,
};
use crate::retention_crash::ENDING;
use crate::undone::assert_no_leaf_is_forgotten;

/// Parts of the source that come by while a value is kept.
pub const TOKENIZING: [&str; 1] = ["write"];
/// While a person is erased.
const ERASING: [&str; 7] = ["erase", "shred", "write", "slot", "token", "sink", "files"];
/// While a vault is made.
const CREATING: [&str; 5] = ["create", "slot", "token", "sink", "files"];
/// While other systems are told of a change; `events.rs` has their story.
pub const TELLING: [&str; 1] = ["outbox"];
/// While a vault is opened that was interrupted, or whose database is older than its slot.
const RECOVERING: [&str; 1] = ["recover"];

/// While what was decided goes into the journal.
const JOURNALING: [&str; 1] = ["journal"];

/// While a key is rotated, beside what comes by in an erasure.
pub const ROTATING: [&str; 3] = ["rotation", "kek", "signer"];

/// Of a part that comes by in several deeds, the points that come by in only one.
pub const ONLY_CREATING: [&str; 1] = ["slot::copy-created"];
const ONLY_ERASING: [&str; 4] = ["slot::copy-prepared", "slot::copy-set", "token::key-destroyed", "token::destroyed"];

/// Of those that come by while a person is erased: when nothing has been asked for yet that would survive. The record
/// that somebody asks is written first.
const BEFORE_THE_REQUEST: [&str; 3] = ["write::before-commit", "write::after-commit", "erase::before-request"];

/// What is kept of somebody becoming another's: by a claim, and by a relink.
pub const HANDING: [&str; 2] = ["claim", "relink"];

/// No deed comes by a point more often.
pub const OFTEN: usize = 30;

/// Every point in the source.
fn points() -> BTreeSet<String> {
    fn read(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, found);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for behind in text.split("crash::point(").skip(1) {
                let name = behind.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                found.insert(name.unwrap_or_else(|| panic!("{}: a point without a name", path.display())).to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found
}

/// Those of some parts, without those that only come by elsewhere, or with another kind of slot.
pub fn points_of(vault: &Outside, parts: &[&str], elsewhere: &[&str]) -> Vec<String> {
    let other = if vault.custodian == Custodian::Token { "slot" } else { "token" };
    let mut found: Vec<_> = points().into_iter().collect();
    found.retain(|name| name.split("::").next().is_some_and(|part| parts.contains(&part) && part != other));
    found.retain(|name| !elsewhere.contains(&name.as_str()));
    assert!(!found.is_empty());
    found
}

/// Not at first, but when the process comes by for the time after `times` times.
pub fn after(times: usize) -> String {
    if times == 0 { "return".to_owned() } else { format!("{times}*off->return") }
}

/// A vault with two people in it, as a power cut left it.
async fn inhabited(vault: &Outside) -> Vec<Person> {
    let mut door = vault.start();
    let people = vec![door.tokenize("ada").await, door.tokenize("bob").await];
    door.kill();
    people
}

/// The same, stopped in good order since: the end of its audit is signed, the journal holds all that was decided, and so
/// nothing but what is asked of it writes files at first.
async fn at_rest(vault: &Outside) -> Vec<Person> {
    let people = inhabited(vault).await;
    let door = vault.start();
    let store = lacuna::store::open(&vault.url()).await.unwrap();
    let journaled = async {
        while store.read().await.unwrap().count_marks().await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, journaled).await.expect("the journal is not written");
    store.close().await;
    assert!(door.server.stop().success());
    people
}

/// A copy that crashed at a point while someone was being erased. A duty of the vault's own may come by there before that
/// was asked for: then once more.
async fn crashed_in_an_erasure(vault: &Outside, point: &str, victim: &Person) -> Outside {
    let id = SubjectId::parse(&victim.subject).unwrap();
    for _ in 0..10 {
        let torn = vault.copy();
        let mut door = torn.try_start(&[(point, after(0))]).unwrap();
        door.try_erase(victim, REQUEST).await.unwrap_err();
        door.aborted();
        let store = lacuna::store::open(&torn.url()).await.unwrap();
        let state = store.read().await.unwrap().subjects(&[id]).await.unwrap()[0].state;
        store.close().await;
        if state != SubjectState::Active {
            return torn;
        }
    }
    panic!("{point} never comes by once an erasure was asked for");
}

/// The vault's account of its keys, when nothing is under way: everything stands at one epoch.
pub fn assert_keys_agree(vault: &Outside) {
    let keys = vault.keys();
    assert_eq!(keys["database_epoch"], keys["epoch"], "{keys}");
    assert_eq!(keys["erasures_pending"], 0, "{keys}");
    for copy in keys["copies"].as_array().unwrap().iter().chain(keys["sinks"].as_array().unwrap()) {
        assert_eq!(copy["epoch"], keys["epoch"], "{keys}");
    }
}

/// The leaves that the buckets of the index are under.
async fn bucket_leaves(store: &dyn lacuna::store::Store) -> BTreeSet<u32> {
    let mut tx = store.read().await.unwrap();
    let numbers: Vec<u32> =
        tx.generations().await.unwrap().iter().flat_map(lacuna::store::index::Generation::numbers).collect();
    tx.buckets_and_dirty(&numbers).await.unwrap().iter().map(|bucket| bucket.leaf).collect()
}

/// What an erasure that was interrupted must come to. Answers whether it was begun at all.
async fn assert_erased_or_not_begun(door: &mut Door, victim: &Person, request: &str) -> bool {
    let subject = door.subject(victim).await;
    let begun = subject.state() != v1::SubjectState::Active;
    if begun {
        let revealed = door.reveal(victim).await;
        assert!(revealed.iter().all(Result::is_err), "restricted, and answered {revealed:?}");
        door.shredded(&subject.erasure).await;
        door.assert_gone(victim).await;
    } else {
        door.assert_there(victim).await;
    }
    let again = door.try_erase(victim, request).await.unwrap();
    assert_eq!(again.state(), v1::ErasureState::Shredded, "{again:?}");
    assert!(!begun || again.erasure == subject.erasure, "a second erasure was made");
    assert_eq!(door.erase(victim).await.erasure, again.erasure);
    door.assert_gone(victim).await;
    begun
}

pub const REQUEST: &str = "0d9f5a3e-8a53-4a8e-9d0c-3a1f6d2b7c11";

#[test]
fn every_point_has_a_story() {
    let parts: BTreeSet<_> = [
        &TOKENIZING[..],
        &ERASING,
        &CREATING,
        &RECOVERING,
        &ROTATING,
        &JOURNALING,
        &TELLING,
        &RECORDING,
        &CHANGING,
        &AUDITING,
        &ENDING,
        &HOLDING,
        &HANDING,
    ]
    .concat()
    .into_iter()
    .collect();
    for name in points() {
        assert!(parts.contains(name.split("::").next().unwrap()), "no story knows {name}");
    }
}

outside_on_both_stores! {
    async fn a_crash_while_the_journal_is_written_loses_nothing_of_it(vault: Outside) {
        let people = inhabited(&vault).await;
        let restricted = |subject: v1::Subject| subject.state() == v1::SubjectState::Restricted;
        for point in points_of(&vault, &JOURNALING, &[]) {
            let (mut yesterday, vault) = (vault.copy(), vault.copy());
            let mut door = vault.try_start(&[(&point, after(0))]).unwrap();
            let (subject, ground) = (people[0].subject.clone(), "accuracy_contested".to_owned());
            let request = v1::RestrictSubjectRequest { subject, ground, ..Default::default() };
            door.subjects.restrict_subject(request).await.unwrap();
            door.aborted();

            // The journal alone tells a database that has never heard of it.
            let sink = |vault: &Outside| vault.place.path().join("checkpoints");
            fs::remove_dir_all(sink(&yesterday)).unwrap();
            copy_folder(&sink(&vault), &sink(&yesterday));
            let mut door = yesterday.start();
            assert!(restricted(door.subject(&people[0]).await) && !restricted(door.subject(&people[1]).await));
            door.kill();

            // And nothing is in the way of what had written it.
            let mut door = vault.start();
            assert!(restricted(door.subject(&people[0]).await));
            door.assert_there(&people[1]).await;
            door.kill();
            yesterday.take_data_of(vault);
            assert!(restricted(yesterday.start().subject(&people[0]).await));
        }
    }

    async fn a_crash_while_a_value_is_kept_loses_nothing_that_was_acknowledged(vault: Outside) {
        let people = inhabited(&vault).await;
        for point in points_of(&vault, &TOKENIZING, &[]) {
            let vault = vault.copy();
            let mut door = vault.try_start(&[(&point, after(0))]).unwrap();
            door.try_tokenize("eve").await.unwrap_err();
            door.aborted();
            let store = lacuna::store::open(&vault.url()).await.unwrap();
            let doubtful = bucket_leaves(&*store).await;
            store.close().await;

            let mut door = vault.start();
            for person in &people {
                door.assert_there(person).await;
            }
            // Kept, without anybody having been told, or not at all.
            let kept = door.find(v1::FieldType::Email, "eve@example.com").await;
            assert_eq!(kept.len(), usize::from(point == "write::after-commit"));
            let eve = door.tokenize("eve").await;
            assert_eq!(door.reveal(&eve).await[0], Ok("eve@example.com".to_owned()));
            // Whoever is erased first takes along what was sealed and never kept.
            assert_eq!(door.erase(&people[0]).await.state(), v1::ErasureState::Shredded);
            assert_keys_agree(&vault);
            door.kill();
            let store = lacuna::store::open(&vault.url()).await.unwrap();
            assert_no_leaf_is_forgotten(&*store).await;
            assert!(bucket_leaves(&*store).await.is_disjoint(&doubtful), "any of them may list somebody");
            store.close().await;
        }
    }

    async fn a_crash_while_a_person_is_erased_ends_in_their_erasure_and_hurts_nobody_else(vault: Outside) {
        let people = at_rest(&vault).await;
        let (victim, other) = (&people[0], &people[1]);
        for point in points_of(&vault, &ERASING, &ONLY_CREATING) {
            for times in 0..OFTEN {
                let mut vault = vault.copy();
                let mut door = vault.try_start(&[(&point, after(times))]).unwrap();
                if let Ok(erasure) = door.try_erase(victim, REQUEST).await {
                    assert!(times > 0, "an erasure does not come by {point}");
                    assert_eq!(erasure.state(), v1::ErasureState::Shredded);
                    break;
                }
                door.aborted();
                let torn = vault.copy();

                let mut door = vault.start();
                let begun = assert_erased_or_not_begun(&mut door, victim, REQUEST).await;
                assert_eq!(begun, !BEFORE_THE_REQUEST.contains(&point.as_str()), "{point} {times}");
                door.assert_there(other).await;
                let late = door.tokenize("late").await;
                door.assert_there(&late).await;
                assert_keys_agree(&vault);
                door.kill();
                let store = lacuna::store::open(&vault.url()).await.unwrap();
                assert_no_leaf_is_forgotten(&*store).await;
                store.close().await;

                // The disk as the crash left it comes back, beside the present slot.
                vault.take_data_of(torn);
                let mut door = vault.start();
                door.assert_gone(victim).await;
                door.assert_there(other).await;
                assert_keys_agree(&vault);
            }
        }
    }

    async fn a_second_crash_during_the_recovery_changes_nothing(vault: Outside) {
        let people = at_rest(&vault).await;
        let (victim, other) = (&people[0], &people[1]);
        let erasing = points_of(&vault, &ERASING, &ONLY_CREATING);
        for (at, first) in erasing.iter().enumerate() {
            if BEFORE_THE_REQUEST.contains(&first.as_str()) {
                continue;
            }
            let torn = crashed_in_an_erasure(&vault, first, victim).await;
            // The same point again, and another one, which is a different one for each first.
            let seconds = [first.clone(), erasing[(at + 5) % erasing.len()].clone(), "recover::completed".to_owned()];
            for second in seconds {
                let vault = torn.copy();
                match vault.try_start(&[(&second, after(0))]) {
                    // It comes by in upkeep, or no more.
                    Ok(mut door) => match door.try_erase(victim, REQUEST).await {
                        Ok(erasure) => assert_eq!(erasure.state(), v1::ErasureState::Shredded, "{erasure:?}"),
                        Err(_) => door.aborted(),
                    },
                    Err(fault) => assert!(fault.contains("SIGABRT"), "{fault}\n{}", vault.place.log()),
                }
                let mut door = vault.start();
                assert!(assert_erased_or_not_begun(&mut door, victim, REQUEST).await, "{first} {second}");
                door.assert_there(other).await;
                assert_keys_agree(&vault);
            }
        }
    }

    async fn a_crash_while_an_old_database_is_brought_up_to_date_ends_up_to_date(vault: Outside) {
        let people = inhabited(&vault).await;
        let (victim, other) = (&people[0], &people[1]);
        let old = vault.copy();
        let mut door = vault.start();
        door.erase(victim).await;
        door.kill();
        for point in points_of(&vault, &RECOVERING, &[]) {
            let mut vault = vault.copy();
            vault.take_data_of(old.copy());
            let fault = vault.try_start(&[(&point, after(0))]).err().expect("it does not come by");
            assert!(fault.contains("SIGABRT"), "{fault}");
            let mut door = vault.start();
            door.assert_gone(victim).await;
            door.assert_there(other).await;
            assert_keys_agree(&vault);
        }
    }

    async fn a_mirror_that_a_crash_left_behind_catches_up_even_through_a_crash(vault: Outside) {
        let people = inhabited(&vault).await;
        let point = "slot::copy-set";
        let mut door = vault.try_start(&[(point, after(0))]).unwrap();
        door.try_erase(&people[0], REQUEST).await.unwrap_err();
        door.aborted();
        let fault = vault.try_start(&[(point, after(0))]).err().expect("it does not come by");
        assert!(fault.contains("SIGABRT"), "{fault}");
        let mut door = vault.start();
        assert!(assert_erased_or_not_begun(&mut door, &people[0], REQUEST).await);
        door.assert_there(&people[1]).await;
        assert_keys_agree(&vault);
    }

    async fn a_crash_while_a_vault_is_made_leaves_one_that_can_be_made(vault: Outside) {
        for point in points_of(&vault, &CREATING, &ONLY_ERASING) {
            for times in 0..OFTEN {
                let vault = vault.copy();
                match vault.try_start(&[(&point, after(times))]) {
                    Ok(_) => {
                        assert!(times > 0, "making a vault does not come by {point}");
                        break;
                    }
                    Err(fault) => assert!(fault.contains("SIGABRT"), "{fault}\n{}", vault.place.log()),
                }
                let mut door = vault.start();
                let list = v1::ListSubjectsRequest::default();
                assert_eq!(door.subjects.list_subjects(list).await.unwrap().into_inner().subjects.len(), 0);
                let ada = door.tokenize("ada").await;
                door.assert_there(&ada).await;
                assert_keys_agree(&vault);
                assert_eq!(door.erase(&ada).await.state(), v1::ErasureState::Shredded);
                door.assert_gone(&ada).await;
                assert_keys_agree(&vault);
            }
        }
    }
}

outside_with_a_token! {
    a_crash_while_a_person_is_erased_ends_in_their_erasure_and_hurts_nobody_else
    a_second_crash_during_the_recovery_changes_nothing
    a_crash_while_a_vault_is_made_leaves_one_that_can_be_made
}
