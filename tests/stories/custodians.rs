//! Custodians outside the vault: an HSM that is away, a vault under a key in an HSM, and one key-encrypting key that takes
//! the place of another.

use lacuna::proto::v1;
use lacuna::proto::v1::RotationKind;
use tonic::{Code, Status};

use crate::house::reason;
use crate::outside::{Custodian, Door, Outside, PATIENCE, outside_under_a_token, outside_with_a_token};
use crate::rotating::{KINDS, assert_done, begin, ended, rotate, status};
use crate::softhsm;

/// The refusal while the token is away.
fn assert_token_missed<T: std::fmt::Debug>(outcome: Result<T, Status>) {
    let refused = outcome.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "KEY_CUSTODIAN_UNAVAILABLE"));
    assert!(refused.message().contains("PKCS#11 token story cannot be used"), "{refused:?}");
}

async fn rotation(door: &mut Door, rotation: &str) -> v1::Rotation {
    let ask = v1::GetRotationRequest { rotation: rotation.to_owned() };
    door.keys.get_rotation(ask).await.unwrap().into_inner().rotation.unwrap()
}

async fn rotations(door: &mut Door) -> Vec<v1::Rotation> {
    door.keys.list_rotations(v1::ListRotationsRequest::default()).await.unwrap().into_inner().rotations
}

/// Nothing is erased meanwhile and no key changes; whoever was to be erased is refused at once, and gone by itself when
/// the token is back.
async fn while_the_token_is_away_people_are_revealed_and_nothing_is_erased(vault: Outside) {
    let mut door = vault.start();
    let [ada, bob, cyd] = [door.tokenize("ada").await, door.tokenize("bob").await, door.tokenize("cyd").await];
    assert_eq!(door.erase(&ada).await.state(), v1::ErasureState::Shredded);
    assert_done(&rotate(&mut door.keys, RotationKind::Root, "", "").await.unwrap());
    door.custodian(true).await;

    softhsm::pull_out(vault.place.path());
    let erasure = door.erase(&bob).await;
    assert_eq!((erasure.state(), erasure.erase_time), (v1::ErasureState::Pending, None));
    assert!(erasure.pending_reason.contains("PKCS#11 token story cannot be used"), "{erasure:?}");
    let ask = v1::GetReceiptRequest { erasure: erasure.erasure.clone() };
    let refused = door.subjects.get_receipt(ask).await.unwrap_err();
    assert_eq!(reason(&refused), "ERASURE_PENDING", "there is nothing to show for it");
    assert_eq!(door.reveal(&bob).await, vec![Err("ERASURE_PENDING".to_owned()); 2]);
    door.assert_there(&cyd).await;
    door.assert_gone(&ada).await;
    let dan = door.tokenize("dan").await;
    door.assert_there(&dan).await;
    for kind in KINDS {
        // What signs receipts, and what wraps that, is elsewhere when the token holds the root itself.
        let elsewhere = vault.custodian == Custodian::Token;
        if elsewhere && matches!(kind, RotationKind::Kek | RotationKind::SigningKey) {
            assert_done(&rotate(&mut door.keys, kind, "", "").await.unwrap());
        } else {
            assert_token_missed(begin(&mut door.keys, kind, &cyd.subject, "").await);
        }
    }
    assert_token_missed(door.keys.get_key_status(v1::GetKeyStatusRequest {}).await);
    let running = |rotation: &v1::Rotation| rotation.state() == v1::RotationState::Running;
    assert!(!rotations(&mut door).await.iter().any(running), "what was refused was not begun");
    door.custodian(false).await;
    door.serving(true).await;
    assert_eq!(door.erasure(&erasure.erasure).await.state(), v1::ErasureState::Pending);

    softhsm::plug_in(vault.place.path());
    door.shredded(&erasure.erasure).await;
    door.assert_gone(&bob).await;
    door.custodian(true).await;
    for person in [&cyd, &dan] {
        door.assert_there(person).await;
    }
    for kind in KINDS {
        assert_done(&rotate(&mut door.keys, kind, &cyd.subject, "").await.unwrap());
    }
    door.assert_there(&cyd).await;
    assert_eq!(status(&mut door.keys).await.erasures_pending, 0);
}

async fn without_its_token_a_vault_does_not_start_and_says_why(vault: Outside) {
    let mut door = vault.start();
    let [ada, bob] = [door.tokenize("ada").await, door.tokenize("bob").await];
    softhsm::pull_out(vault.place.path());
    let erasure = door.erase(&ada).await;
    assert_eq!(erasure.state(), v1::ErasureState::Pending);
    assert!(door.server.stop().success(), "{}", vault.place.log());
    let fault = vault.try_start(&[]).err().expect("it started without its token");
    let log = vault.place.log();
    assert!(fault.contains("exit status: ") && log.contains("PKCS#11 token story cannot be used"), "{fault}: {log}");

    softhsm::plug_in(vault.place.path());
    let mut door = vault.start();
    door.shredded(&erasure.erasure).await;
    door.assert_gone(&ada).await;
    door.assert_there(&bob).await;
}

/// A rotation is begun and then cannot go on: it says so, and goes on by itself.
async fn a_rotation_under_way_waits_for_the_token_and_goes_on(vault: Outside) {
    // It rests between its steps, so that the token can be pulled out meanwhile.
    let mut door = vault.try_start(&[("rotation::stepped", "sleep(500)".to_owned())]).unwrap();
    let ada = door.tokenize("ada").await;
    let caught = loop {
        let begun = begin(&mut door.keys, RotationKind::SubjectKey, &ada.subject, "").await.unwrap();
        while rotation(&mut door, &begun.rotation).await.done == 0 {}
        softhsm::pull_out(vault.place.path());
        // It may have come through before; once more, then.
        if waits_or_ended(&mut door, &begun.rotation).await.state() == v1::RotationState::Running {
            break begun.rotation;
        }
        softhsm::plug_in(vault.place.path());
    };
    let waiting = rotation(&mut door, &caught).await;
    assert!(waiting.detail.contains("PKCS#11 token story cannot be used"), "{waiting:?}");
    door.assert_there(&ada).await;
    softhsm::plug_in(vault.place.path());
    assert_done(&ended(&mut door.keys, Some(waiting)).await);
    door.assert_there(&ada).await;
    assert_eq!(door.erase(&ada).await.state(), v1::ErasureState::Shredded);
    door.assert_gone(&ada).await;
}

/// A rotation when it has ended, or says what it waits for.
async fn waits_or_ended(door: &mut Door, rotation: &str) -> v1::Rotation {
    let looking = async {
        loop {
            let found = self::rotation(door, rotation).await;
            if found.state() != v1::RotationState::Running || !found.detail.is_empty() {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("the rotation neither ends nor waits")
}

outside_with_a_token! {
    while_the_token_is_away_people_are_revealed_and_nothing_is_erased
    without_its_token_a_vault_does_not_start_and_says_why
    a_rotation_under_way_waits_for_the_token_and_goes_on
}

outside_under_a_token! {
    while_the_token_is_away_people_are_revealed_and_nothing_is_erased
    without_its_token_a_vault_does_not_start_and_says_why
    a_rotation_under_way_waits_for_the_token_and_goes_on
}
