//! New keys outside the tree, the KEK and the one that signs receipts, under readers who are never refused.

use lacuna::keys::receipt;
use lacuna::proto::v1;
use lacuna::proto::v1::RotationKind;
use lacuna::proto::v1::key_service_client::KeyServiceClient;

use crate::asks::CARE;
use crate::house::{House, Link, Somebody, on_both_stores};
use crate::rotating::{Readers, assert_done, people, rotate, status};

/// How often a key is changed while people read.
const ROUNDS: usize = 5;

/// Erases somebody and answers the receipt.
async fn receipt_of(house: &mut House, person: &Somebody) -> Vec<u8> {
    let erasure = house.erase(&person.subject).await;
    assert_eq!(erasure.state(), v1::ErasureState::Shredded);
    let ask = v1::GetReceiptRequest { erasure: erasure.erasure };
    house.subjects.get_receipt(ask).await.unwrap().into_inner().receipt
}

fn decode(key: &str) -> Vec<u8> {
    data_encoding::BASE64.decode(key.as_bytes()).unwrap()
}

/// The public keys that a vault lists for whoever verifies receipts, the newest first.
fn listed(house: &House) -> Vec<String> {
    let path = house.config.slot_dir().join("receipt-signing.pub");
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

async fn rotate_once(keys: &mut KeyServiceClient<Link>, kind: RotationKind) {
    assert_done(&rotate(keys, kind, "", "").await.unwrap());
}

/// What must be the same whatever happens outside the tree.
fn the_tree(status: &v1::KeyStatus) -> (u64, String, u64, u64) {
    (status.epoch, status.root_id.clone(), status.live_leaves, status.punctured_leaves)
}

on_both_stores! {
    async fn a_new_kek_again_and_again_refuses_no_reader(house: House) {
        let mut house = house;
        let mut crowd = people(&mut house, 8).await;
        let early = receipt_of(&mut house, &crowd.pop().unwrap()).await;
        let mut keys = house.key_service().await;
        let before = status(&mut keys).await;
        assert!(before.kek.starts_with("local file ") && before.kek.ends_with(", version 1"), "{}", before.kek);
        let (kek, slot) = (house.config.kek_file(), house.config.slot_dir().join("root.slot"));
        let old = [std::fs::read(&kek).unwrap(), std::fs::read(&slot).unwrap()];

        let victim = crowd.pop().unwrap();
        let readers = Readers::of(&house, &crowd);
        for round in 0..ROUNDS {
            readers.go_on().await;
            rotate_once(&mut keys, RotationKind::Kek).await;
            let now = status(&mut keys).await;
            assert!(now.kek.ends_with(&format!(", version {}", round + 2)), "{}", now.kek);
            assert_eq!((the_tree(&now), &now.signing_public_key), (the_tree(&before), &before.signing_public_key));
        }
        readers.go_on().await;
        let late = receipt_of(&mut house, &victim).await;
        readers.end().await;

        for receipt in [&early, &late] {
            receipt::verify(receipt, Some(&[decode(&before.signing_public_key)])).unwrap();
        }
        assert_eq!(listed(&house), [before.signing_public_key]);
        house.reopen().await;
        for person in &crowd {
            assert_eq!(house.reveal(&person.tokens, CARE).await, person.values());
        }
        // A copy of the slot from before is worth nothing under the present KEK, and with both of that time it was.
        house.stop().await;
        let now = [std::fs::read(&kek).unwrap(), std::fs::read(&slot).unwrap()];
        std::fs::write(&slot, &old[1]).unwrap();
        let why = format!("{:#}", house.try_reopen().await.unwrap_err());
        assert!(why.contains("does not open under") && why.contains("does not hold version 1"), "{why}");
        for (path, bytes) in [(&kek, &now[0]), (&slot, &now[1])] {
            std::fs::write(path, bytes).unwrap();
        }
        house.reopen().await;
        assert_eq!(house.reveal(&crowd[0].tokens, CARE).await, crowd[0].values());
    }

    async fn a_new_signing_key_again_and_again_refuses_no_reader_and_every_receipt_holds(house: House) {
        let mut house = house;
        let mut crowd = people(&mut house, 6 + ROUNDS + 1).await;
        let victims = crowd.split_off(6);
        let mut keys = house.key_service().await;
        let before = status(&mut keys).await;
        let readers = Readers::of(&house, &crowd);
        let mut signed = Vec::new();
        for (round, victim) in victims.iter().enumerate() {
            if round > 0 {
                readers.go_on().await;
                rotate_once(&mut keys, RotationKind::SigningKey).await;
            }
            let now = status(&mut keys).await;
            assert_eq!(now.kek, before.kek);
            let known = signed.iter().any(|(key, _)| *key == now.signing_public_key);
            assert!(!known, "the key of an earlier round signs again");
            signed.push((now.signing_public_key, receipt_of(&mut house, victim).await));
        }
        readers.go_on().await;
        readers.end().await;
        assert_eq!(status(&mut keys).await.epoch, before.epoch + victims.len() as u64, "one for each erasure");

        let newest_first: Vec<_> = signed.iter().rev().map(|(key, _)| key.clone()).collect();
        house.reopen().await;
        assert_eq!(listed(&house), newest_first);
        let all: Vec<_> = newest_first.iter().map(|key| decode(key)).collect();
        for (key, receipt) in &signed {
            receipt::verify(receipt, Some(&[decode(key)])).unwrap();
            receipt::verify(receipt, Some(&all)).unwrap();
            let others: Vec<_> = all.iter().filter(|other| **other != decode(key)).cloned().collect();
            assert!(receipt::verify(receipt, Some(&others)).is_err(), "another key vouches for it");
        }
        for person in &crowd {
            assert_eq!(house.reveal(&person.tokens, CARE).await, person.values());
        }
    }
}
