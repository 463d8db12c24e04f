//! Key-encrypting keys in a PKCS#11 token, and one that takes the place of another.

use lacuna::keys::receipt;
use lacuna::proto::v1;
use lacuna::proto::v1::RotationKind;

use crate::outside::{Door, IN_FILES, Outside, Person, copy_folder, outside_under_a_token};
use crate::rotating::{assert_done, rotate, status};
use crate::softhsm;

/// What signed the receipt of an erasure, which must hold under the public keys that are listed now.
pub async fn assert_receipt_holds(vault: &Outside, door: &mut Door, erasure: &str) {
    let ask = v1::GetReceiptRequest { erasure: erasure.to_owned() };
    let receipt = door.subjects.get_receipt(ask).await.unwrap().into_inner().receipt;
    let listed = std::fs::read_to_string(vault.place.slot().join("receipt-signing.pub")).unwrap();
    let decode = |line: &str| data_encoding::BASE64.decode(line.as_bytes()).unwrap();
    let keys: Vec<_> = listed.lines().map(decode).collect();
    receipt::verify(&receipt, Some(&keys)).unwrap();
}

/// A start that is refused; answers what the vault said of it.
pub fn refusal(vault: &Outside) -> String {
    let before = vault.place.log().len();
    let fault = vault.try_start(&[]).err().expect("it started");
    assert!(fault.contains("exit status: "), "{fault}");
    vault.place.log().split_off(before)
}

/// How the status tells of a key in a token: by its name there, which ends with the id of the vault.
fn assert_in_token(kek: &str, version: u32) {
    let end = format!(" in the PKCS#11 token story, version {version}");
    assert!(kek.starts_with("lacuna-kek:") && kek.ends_with(&end), "{kek}");
}

async fn rotate_kek(door: &mut Door) {
    assert_done(&rotate(&mut door.keys, RotationKind::Kek, "", "").await.unwrap());
}

/// Some to stay and some to go.
async fn people(door: &mut Door) -> [Person; 4] {
    [door.tokenize("ada").await, door.tokenize("bob").await, door.tokenize("cyd").await, door.tokenize("dan").await]
}

async fn a_vault_under_a_key_in_a_token_is_made_used_started_again_and_erases(vault: Outside) {
    let mut door = vault.start();
    let [ada, bob, cyd, _] = people(&mut door).await;
    assert!(!vault.kek().exists() && !vault.place.slot().join("kek.key").exists(), "a key in a file was made as well");
    let kek = status(&mut door.keys).await.kek;
    assert_in_token(&kek, 1);
    let erasure = door.erase(&ada).await;
    assert_eq!(
        (erasure.state(), erasure.assurance()),
        (v1::ErasureState::Shredded, v1::ErasureAssurance::ImmediateLogical)
    );
    assert!(door.server.stop().success());
    for _ in 0..2 {
        let mut door = vault.start();
        door.assert_gone(&ada).await;
        door.assert_there(&bob).await;
        door.assert_there(&cyd).await;
        rotate_kek(&mut door).await;
        door.assert_there(&bob).await;
        assert_receipt_holds(&vault, &mut door, &erasure.erasure).await;
        // A power cut.
        door.kill();
    }
    let mut door = vault.start();
    let kek = status(&mut door.keys).await.kek;
    assert_in_token(&kek, 3);
    assert_eq!(door.erase(&bob).await.state(), v1::ErasureState::Shredded);
    door.assert_gone(&bob).await;
    door.assert_there(&cyd).await;
    door.kill();
    let keys = vault.keys();
    assert_eq!(keys["database_epoch"], keys["epoch"], "{keys}");
}

/// A copy of the slot that an earlier version of the key wrapped is worth nothing after a rotation.
async fn what_an_earlier_version_wrapped_opens_no_more(vault: Outside) {
    let mut door = vault.start();
    let [ada, ..] = people(&mut door).await;
    assert!(door.server.stop().success());
    let stolen = vault.place.path().join("stolen");
    copy_folder(&vault.place.slot(), &stolen);
    copy_folder(&vault.mirror(), &stolen.join("mirror"));
    let mut door = vault.start();
    rotate_kek(&mut door).await;
    assert!(door.server.stop().success());
    let now = vault.place.path().join("now");
    copy_folder(&vault.place.slot(), &now);
    copy_folder(&vault.mirror(), &now.join("mirror"));

    copy_folder(&stolen, &vault.place.slot());
    copy_folder(&stolen.join("mirror"), &vault.mirror());
    let why = refusal(&vault);
    assert!(why.contains("does not open under the lacuna-kek:"), "{why}");
    assert!(why.contains("the token does not hold version 1"), "{why}");
    copy_folder(&now, &vault.place.slot());
    copy_folder(&now.join("mirror"), &vault.mirror());
    vault.start().assert_there(&ada).await;
}

outside_under_a_token! {
    a_vault_under_a_key_in_a_token_is_made_used_started_again_and_erases
    what_an_earlier_version_wrapped_opens_no_more
}

/// One key-encrypting key and the next.
struct Succession {
    before: String,
    after: String,
    /// The former key, as the settings of the next one name it.
    former: String,
    /// How the status tells of it.
    told: &'static str,
    /// How a start without the former one explains itself.
    explained: &'static [&'static str],
}

/// Changes over as an operator does: settings, restart, rotation, settings without the former key.
async fn changes_over(vault: &Outside, keys: &Succession) {
    vault.configure_slot(&keys.before, "");
    let mut door = vault.start();
    let [ada, bob, cyd, dan] = people(&mut door).await;
    let erased = door.erase(&ada).await;
    assert_eq!(erased.state(), v1::ErasureState::Shredded);
    let before = status(&mut door.keys).await.kek;
    assert!(door.server.stop().success());

    vault.configure_slot(&keys.after, "");
    let why = refusal(vault);
    for part in keys.explained {
        assert!(why.contains(part), "{part:?} is not in {why}");
    }

    vault.configure_slot(&format!("{}\n{}", keys.after, keys.former), "");
    let mut door = vault.start();
    let told = status(&mut door.keys).await.kek;
    assert!(told.starts_with(keys.told) && told.contains(", formerly ") && told != before, "{told}");
    door.assert_there(&bob).await;
    // What is written from here on is wrapped by the present key, and what was written before still opens.
    assert_eq!(door.erase(&cyd).await.state(), v1::ErasureState::Shredded);
    door.kill();
    let mut door = vault.start();
    door.assert_gone(&cyd).await;
    door.assert_there(&bob).await;
    let done = rotate(&mut door.keys, RotationKind::Kek, "", "").await.unwrap();
    assert_done(&done);
    assert!(done.detail.contains("4 copies"), "two of the slot, two of the signing key: {done:?}");
    assert_eq!(door.erase(&dan).await.state(), v1::ErasureState::Shredded);
    assert!(door.server.stop().success());

    vault.configure_slot(&keys.after, "");
    let mut door = vault.start();
    let told = status(&mut door.keys).await.kek;
    assert!(told.starts_with(keys.told) && !told.contains("formerly"), "{told}");
    door.assert_there(&bob).await;
    for person in [&ada, &cyd, &dan] {
        door.assert_gone(person).await;
    }
    assert_receipt_holds(vault, &mut door, &erased.erasure).await;
    rotate_kek(&mut door).await;
    assert!(door.server.stop().success());

    // The former key is of no use any more.
    vault.configure_slot(&keys.before, "");
    let why = refusal(vault);
    assert!(why.contains("does not open under"), "{why}");
    vault.configure_slot(&keys.after, "");
    vault.start().assert_there(&bob).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_a_token_takes_the_place_of_one_in_a_file() {
    let Some(vault) = Outside::beside_a_token("a KEK moves into a token") else { return };
    let keys = Succession {
        before: IN_FILES.to_owned(),
        after: vault.files_under("lacuna"),
        former: "[slot.former_kek]\nkek = 'local'\nkek_file = 'kek/kek.key'".to_owned(),
        told: "lacuna-kek:",
        explained: &["does not open under the lacuna-kek:", "is not wrapped by a key in a token"],
    };
    changes_over(&vault, &keys).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_a_file_takes_the_place_of_one_in_a_token() {
    let Some(vault) = Outside::beside_a_token("a KEK moves out of a token") else { return };
    let keys = Succession {
        before: vault.files_under("lacuna"),
        after: IN_FILES.to_owned(),
        former: format!("[slot.former_kek]\nkek = 'pkcs11'\n{}", vault.in_token("slot.former_kek", "lacuna")),
        told: "local file kek/kek.key",
        explained: &["kek/kek.key cannot be used", "No such file"],
    };
    changes_over(&vault, &keys).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_takes_the_place_of_another_in_the_same_token() {
    let Some(vault) = Outside::beside_a_token("a KEK under another label") else { return };
    let keys = Succession {
        before: vault.files_under("lacuna"),
        after: vault.files_under("second"),
        former: format!("[slot.former_kek]\nkek = 'pkcs11'\n{}", vault.in_token("slot.former_kek", "lacuna")),
        told: "second-kek:",
        explained: &["does not open under the second-kek:", "the token does not hold version 1"],
    };
    changes_over(&vault, &keys).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_takes_the_place_of_another_in_files_on_sqlite() {
    changes_over(&Outside::on_sqlite(), &in_files()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_takes_the_place_of_another_in_files_on_postgres() {
    let Some(vault) = Outside::on_postgres("one KEK after another") else { return };
    changes_over(&vault, &in_files()).await;
}

fn in_files() -> Succession {
    Succession {
        before: IN_FILES.to_owned(),
        after: "mirrors = ['mirror']\nkek_file = 'second/kek.key'".to_owned(),
        former: "[slot.former_kek]\nkek = 'local'\nkek_file = 'kek/kek.key'".to_owned(),
        told: "local file second/kek.key",
        explained: &["second/kek.key cannot be used", "No such file"],
    }
}

/// A key that was there and is lost is missed, and nothing is made in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_successor_is_missed_and_not_made_again() {
    let Some(vault) = Outside::beside_a_token("a lost KEK") else { return };
    let mut door = vault.start();
    let [ada, ..] = people(&mut door).await;
    assert!(door.server.stop().success());
    let former = "[slot.former_kek]\nkek = 'local'\nkek_file = 'kek/kek.key'";
    vault.configure_slot(&format!("{}\n{former}", vault.files_under("lacuna")), "");
    let mut door = vault.start();
    rotate_kek(&mut door).await;
    assert!(door.server.stop().success());

    // Another token of the same name, without any key.
    let (here, kept) = (vault.place.path(), vault.place.path().join("kept"));
    copy_folder(&softhsm::tokens(here), &kept);
    std::fs::remove_dir_all(softhsm::tokens(here)).unwrap();
    softhsm::make(here);
    for _ in 0..2 {
        let why = refusal(&vault);
        assert!(why.contains("is not there, and the former key opens not everything"), "{why}");
    }
    std::fs::remove_dir_all(softhsm::tokens(here)).unwrap();
    copy_folder(&kept, &softhsm::tokens(here));
    vault.start().assert_there(&ada).await;
}
