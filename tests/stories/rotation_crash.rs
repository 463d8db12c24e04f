//! The crash matrix of rotations: the process ends at every point that one comes by, each time that it does. Afterwards
//! everybody is there, the erased are gone, and the rotation goes on by itself, or was not begun.

use std::time::Instant;

use lacuna::proto::v1;
use lacuna::proto::v1::RotationKind;

use crate::crash::{OFTEN, ONLY_CREATING, REQUEST, after, assert_keys_agree, points_of};
use crate::outside::{Door, Outside, Person, outside_on_both_stores, outside_under_a_token, outside_with_a_token};
use crate::rotating::{assert_done, rotate};
use crate::successions::assert_receipt_holds;

/// A vault in which two people live and one was erased, as a power cut left it.
struct Inhabited {
    living: Vec<Person>,
    gone: Person,
    erasure: String,
}

impl Inhabited {
    async fn make(vault: &Outside) -> Self {
        let mut door = vault.start();
        let (living, gone) = (vec![door.tokenize("ada").await, door.tokenize("bob").await], door.tokenize("eve").await);
        let erasure = door.erase(&gone).await;
        assert_eq!(erasure.state(), v1::ErasureState::Shredded);
        door.kill();
        Self { living, gone, erasure: erasure.erasure }
    }

    async fn assert_well(&self, vault: &Outside, door: &mut Door) {
        for person in &self.living {
            door.assert_there(person).await;
        }
        door.assert_gone(&self.gone).await;
        assert_receipt_holds(vault, door, &self.erasure).await;
    }
}

/// Nothing is left of a change of the KEK or of the signing key: one version, and nothing aside.
async fn assert_settled(vault: &Outside, door: &mut Door) {
    let ask = v1::RotateKekRequest { validate_only: true, ..Default::default() };
    let plan = door.keys.rotate_kek(ask).await.unwrap().into_inner().rotation.unwrap();
    let (_, versions) = plan.detail.split_once("to a new version, in place of ").unwrap_or_else(|| panic!("{plan:?}"));
    assert!(versions.parse::<u32>().is_ok(), "more than one version is left: {plan:?}");
    assert!(!vault.place.slot().join("receipt-signing.next").exists(), "a key lies aside");
}

/// Ends the process at each of `points`, as often as a rotation comes by.
async fn crashes_while_rotating(vault: &Outside, kind: RotationKind, points: &[String]) {
    let (all, begun) = (Inhabited::make(vault).await, Instant::now());
    for point in points {
        for times in 0..OFTEN {
            // Only shown when it fails.
            println!("{point} {times}, {:?}", begun.elapsed());
            let vault = vault.copy();
            let mut door = vault.try_start(&[(point, after(times))]).unwrap();
            if let Ok(rotation) = rotate(&mut door.keys, kind, &all.living[0].subject, REQUEST).await {
                assert!(times > 0, "a rotation does not come by {point}");
                assert_done(&rotation);
                break;
            }
            door.aborted();
            let mut door = vault.start();
            all.assert_well(&vault, &mut door).await;
            let late = door.tokenize("late").await;
            let rotation = rotate(&mut door.keys, kind, &all.living[0].subject, REQUEST).await.unwrap();
            assert_eq!(rotation.state(), v1::RotationState::Done, "{point} {times}: {rotation:?}");
            let list = door.keys.list_rotations(v1::ListRotationsRequest::default()).await.unwrap();
            assert_eq!(list.into_inner().rotations.len(), 1, "{point} {times}");
            door.assert_there(&late).await;
            all.assert_well(&vault, &mut door).await;
            let erased = door.try_erase(&late, "").await;
            let erased = erased.unwrap_or_else(|status| panic!("{point} {times}: {status}\n{}", vault.place.log()));
            assert_eq!(erased.state(), v1::ErasureState::Shredded, "{erased:?}");
            door.assert_gone(&late).await;
            assert_settled(&vault, &mut door).await;
            assert!(door.server.stop().success());
            assert_keys_agree(&vault);
            let mut door = vault.start();
            all.assert_well(&vault, &mut door).await;
            door.assert_gone(&late).await;
        }
    }
}

/// The points of a kind's own, of those of a change of the root the ones after which there is no way back, and of others
/// as many as there are. On PostgreSQL whoever is killed is waited for, and what goes on in files is the same.
fn points_in(vault: &Outside, own: &[&str], with_the_root: bool, others: &[&str]) -> Vec<String> {
    let mut points = points_of(vault, own, &[]);
    if with_the_root {
        points.extend(["shred::checkpointed", "shred::written", "shred::advanced"].map(str::to_owned));
    }
    if vault.database.is_none() && !others.is_empty() {
        points.extend(points_of(vault, others, &ONLY_CREATING));
    }
    points.sort();
    points.dedup();
    points
}

outside_on_both_stores! {
    async fn a_crash_while_the_root_is_rotated_hurts_nobody_and_the_rotation_goes_on(vault: Outside) {
        let points = points_in(&vault, &["rotation"], true, &["shred", "slot", "token", "sink"]);
        crashes_while_rotating(&vault, RotationKind::Root, &points).await;
    }

    async fn a_crash_while_a_subjects_key_is_rotated_hurts_nobody_and_the_rotation_goes_on(vault: Outside) {
        let points = points_in(&vault, &["rotation"], true, &[]);
        crashes_while_rotating(&vault, RotationKind::SubjectKey, &points).await;
    }

    async fn a_crash_while_the_index_key_is_rotated_hurts_nobody_and_the_rotation_goes_on(vault: Outside) {
        let points = points_in(&vault, &["rotation"], true, &[]);
        crashes_while_rotating(&vault, RotationKind::IndexKey, &points).await;
    }

    async fn a_backup_from_the_midst_of_an_index_rotation_comes_back_with_a_whole_index(vault: Outside) {
        let mut vault = vault;
        let people = Inhabited::make(&vault).await.living;
        let (victim, other) = (&people[0], &people[1]);
        // Some buckets of the new index are made, and most are not.
        let mut door = vault.try_start(&[("rotation::stepped", after(1))]).unwrap();
        let ask = v1::RotateIndexKeyRequest { buckets: 512, request_id: REQUEST.to_owned(), ..Default::default() };
        let _ = door.keys.rotate_index_key(ask).await;
        door.aborted();
        let midst = vault.copy();
        let mut door = vault.start();
        door.erase(victim).await;
        door.kill();

        vault.take_data_of(midst);
        let mut door = vault.start();
        let rotation = rotate(&mut door.keys, RotationKind::IndexKey, "", REQUEST).await.unwrap();
        assert_ne!(rotation.state(), v1::RotationState::Running);
        let late = door.tokenize("late").await;
        assert_eq!(door.erase(&late).await.state(), v1::ErasureState::Shredded);
        door.assert_gone(victim).await;
        door.assert_there(other).await;
        assert_eq!(door.erase(other).await.state(), v1::ErasureState::Shredded);
        door.assert_gone(other).await;
        assert_keys_agree(&vault);
    }

    async fn a_crash_while_the_kek_is_rotated_hurts_nobody_and_the_rotation_goes_on(vault: Outside) {
        let points = points_in(&vault, &["rotation", "kek"], false, &["files"]);
        crashes_while_rotating(&vault, RotationKind::Kek, &points).await;
    }

    async fn a_crash_while_the_signing_key_is_rotated_hurts_nobody_and_the_rotation_goes_on(vault: Outside) {
        let points = points_in(&vault, &["rotation", "signer"], false, &["files"]);
        crashes_while_rotating(&vault, RotationKind::SigningKey, &points).await;
    }
}

outside_with_a_token! {
    a_crash_while_the_root_is_rotated_hurts_nobody_and_the_rotation_goes_on
}

outside_under_a_token! {
    a_crash_while_the_kek_is_rotated_hurts_nobody_and_the_rotation_goes_on
}
