//! What does not belong together: a wrong key-encrypting key, an old copy of the slot, a slot and a database of different
//! times. Each is recognised and explained, and nothing is lost by it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use lacuna::proto::v1;

use crate::outside::{Custodian, Door, Outside, Person, copy_folder, outside_on_both_stores};
use crate::outside::{outside_under_a_token, outside_with_a_token};
use crate::process::{run, said};
use crate::softhsm;
use crate::successions::refusal;

/// The folders that the slot is in.
fn folders(vault: &Outside) -> Vec<PathBuf> {
    match vault.custodian {
        Custodian::Token => vec![softhsm::tokens(vault.place.path())],
        Custodian::Files | Custodian::FilesUnderToken => vec![vault.place.slot(), vault.mirror()],
    }
}

/// Keeps a copy of the slot of a vault that does not run.
fn keep_slot(vault: &Outside, name: &str) {
    for (number, folder) in folders(vault).iter().enumerate() {
        copy_folder(folder, &vault.place.path().join(format!("{name}-{number}")));
    }
}

/// Puts it in the place of the present one.
fn put_back_slot(vault: &Outside, name: &str) {
    for (number, folder) in folders(vault).iter().enumerate() {
        fs::remove_dir_all(folder).unwrap();
        copy_folder(&vault.place.path().join(format!("{name}-{number}")), folder);
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

/// Keeps people and stops.
async fn inhabited(vault: &Outside) -> [Person; 2] {
    let mut door = vault.start();
    let people = [door.tokenize("ada").await, door.tokenize("bob").await];
    assert!(door.server.stop().success());
    people
}

async fn erase_and_stop(mut door: Door, person: &Person) {
    assert_eq!(door.erase(person).await.state(), v1::ErasureState::Shredded);
    assert!(door.server.stop().success());
}

/// Another key in the place of the right one, or the right one again.
fn exchange_kek(vault: &Outside) {
    let (kek, other) = (vault.kek(), vault.kek().with_extension("other"));
    if !other.exists() {
        // Of the same vault, and the same version of its key.
        let mut bytes = fs::read(&kek).unwrap();
        bytes.iter_mut().rev().take(32).for_each(|byte| *byte ^= 1);
        fs::write(&other, bytes).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let aside = kek.with_extension("aside");
    fs::rename(&kek, &aside).unwrap();
    fs::rename(&other, &kek).unwrap();
    fs::rename(&aside, &other).unwrap();
}

outside_on_both_stores! {
    async fn a_wrong_kek_is_recognised_and_explained(vault: Outside) {
        let [ada, bob] = inhabited(&vault).await;
        exchange_kek(&vault);
        let why = refusal(&vault);
        assert!(why.contains("does not open under the local file kek/kek.key"), "{why}");
        if vault.custodian == Custodian::Files {
            let output = run(&mut vault.command(&["keys", "status"]));
            assert!(!output.status.success() && said(&output).contains("root slot at slot/root.slot"), "{}", said(&output));
            assert!(said(&output).contains("does not open under the local file kek/kek.key"), "{}", said(&output));
        }
        exchange_kek(&vault);
        let mut door = vault.start();
        door.assert_there(&ada).await;

        // The same beside a vault that runs: who is revealed stays so, and nothing is forgotten by a key that is not there.
        exchange_kek(&vault);
        door.assert_there(&bob).await;
        let erasure = door.erase(&ada).await;
        if vault.custodian == Custodian::Files {
            assert_eq!(erasure.state(), v1::ErasureState::Pending);
            assert!(erasure.pending_reason.contains("does not open under the local file kek/kek.key"), "{erasure:?}");
        }
        exchange_kek(&vault);
        door.shredded(&erasure.erasure).await;
        door.assert_gone(&ada).await;
        door.assert_there(&bob).await;
    }

    async fn an_old_mirror_is_recognised_and_replaced(vault: Outside) {
        let [ada, bob] = inhabited(&vault).await;
        let old = vault.slots().map(|copy| fs::read(copy).unwrap());
        erase_and_stop(vault.start(), &ada).await;
        for (copy, old) in vault.slots().iter().zip(&old) {
            assert_ne!(&fs::read(copy).unwrap(), old);
            fs::write(copy, old).unwrap();
            let before = vault.place.log().len();
            let mut door = vault.start();
            door.assert_gone(&ada).await;
            door.assert_there(&bob).await;
            let told = vault.place.log().split_off(before);
            assert!(told.contains("a copy of the root slot is older than another; it is replaced"), "{told}");
            assert!(told.contains("epoch=0 present=1"), "{told}");
            assert_ne!(&fs::read(copy).unwrap(), old, "the old root is still there");
            assert!(door.server.stop().success());
        }
        // Beside a vault that runs: the next erasure is not complete before the copy has forgotten.
        let mut door = vault.start();
        fs::write(vault.mirror().join("root.slot"), &old[1]).unwrap();
        let output = run(&mut vault.command(&["keys", "status", "--output", "json"]));
        assert!(!output.status.success(), "a copy that is behind is nothing to be content with: {}", said(&output));
        let keys: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let epochs: Vec<_> = keys["copies"].as_array().unwrap().iter().map(|copy| copy["epoch"].as_u64()).collect();
        assert_eq!(epochs, [Some(1), Some(0)], "{keys}");
        assert_eq!(door.erase(&bob).await.state(), v1::ErasureState::Shredded);
        let keys = vault.keys();
        assert!(keys["copies"].as_array().unwrap().iter().all(|copy| copy["epoch"] == 2), "{keys}");
        door.assert_gone(&bob).await;
    }

    async fn a_database_newer_than_the_slot_is_recognised_and_explained(vault: Outside) {
        let [ada, bob] = inhabited(&vault).await;
        keep_slot(&vault, "old");
        let (mut vault, yesterday) = (vault.copy(), vault);
        erase_and_stop(vault.start(), &ada).await;
        keep_slot(&vault, "present");

        put_back_slot(&vault, "old");
        let why = refusal(&vault);
        assert!(why.contains("the root slot is older than the database"), "{why}");
        assert!(why.contains("Bring back the present slot") && why.contains("destroy the old copy"), "{why}");
        // With a database of the same age, only the checkpoints tell.
        let today = vault.copy();
        vault.take_data_of(yesterday);
        let why = refusal(&vault);
        assert!(why.contains("a checkpoint sink knows a later epoch than the root slot"), "{why}");
        vault.take_data_of(today);

        put_back_slot(&vault, "present");
        let mut door = vault.start();
        door.assert_gone(&ada).await;
        door.assert_there(&bob).await;
        assert_eq!(door.erase(&bob).await.state(), v1::ErasureState::Shredded);
        door.assert_gone(&bob).await;
    }

    async fn a_slot_newer_than_the_database_is_recognised_and_explained(vault: Outside) {
        let [ada, bob] = inhabited(&vault).await;
        let (mut vault, yesterday) = (vault.copy(), vault);
        let mut door = vault.start();
        let late = door.tokenize("late").await;
        erase_and_stop(door, &ada).await;
        vault.take_data_of(yesterday);

        let (here, away) = (vault.place.path().join("checkpoints"), vault.place.path().join("away"));
        fs::rename(&here, &away).unwrap();
        fs::create_dir(&here).unwrap();
        for _ in 0..2 {
            let why = refusal(&vault);
            assert!(why.contains("neither the database nor a checkpoint sink holds the key state of the slot's root"), "{why}");
            assert!(why.contains("bring back the newest checkpoint"), "{why}");
        }
        fs::remove_dir_all(&here).unwrap();
        fs::rename(&away, &here).unwrap();

        let before = vault.place.log().len();
        let mut door = vault.start();
        let told = vault.place.log().split_off(before);
        assert!(told.contains("from_checkpoint: true, erasures_reapplied: 1"), "{told}");
        door.assert_gone(&ada).await;
        door.assert_there(&bob).await;
        assert_eq!(door.reveal(&late).await, vec![Err("TOKEN_UNKNOWN".to_owned()); 2], "made after the copy was taken");
        erase_and_stop(door, &bob).await;
        let mut door = vault.start();
        door.assert_gone(&ada).await;
        door.assert_gone(&bob).await;
    }
}

outside_with_a_token! {
    a_wrong_kek_is_recognised_and_explained
    a_database_newer_than_the_slot_is_recognised_and_explained
    a_slot_newer_than_the_database_is_recognised_and_explained
}

outside_under_a_token! {
    an_old_mirror_is_recognised_and_replaced
    a_database_newer_than_the_slot_is_recognised_and_explained
    a_slot_newer_than_the_database_is_recognised_and_explained
}
