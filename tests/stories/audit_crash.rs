//! The audit and crashes: what was signed is vouched for, and what was cut off is signed, wherever the process ended.

use std::time::Duration;

use lacuna::model::Time;
use lacuna::proto::v1;
use lacuna::store::audit::MarkKind;
use lacuna::vault::audit::{Entry, Head};

use crate::crash::{after, points_of};
use crate::outside::{Door, Outside, PATIENCE, outside_on_both_stores};

/// While the audit is signed, and what is old of it is cut off.
pub const AUDITING: [&str; 1] = ["audit"];

/// Of those, the points that come by in a cut.
const CUTTING: [&str; 3] = ["audit::cut", "audit::cut-kept", "audit::cut-removed"];

/// A node that was there once, with a chain of so many batches.
const FORMER: [u8; 16] = [7; 16];
const BATCHES: u64 = 5;

/// Gives the vault the chain of a node that wrote years ago and is no more.
async fn a_former_node(vault: &Outside) {
    let store = lacuna::store::open(&vault.url()).await.unwrap();
    let long_ago = Time::parse("2001-01-01T00:00:00Z").unwrap();
    for hour in 0..BATCHES {
        let now = long_ago.plus(Duration::from_hours(hour));
        let mut tx = store.write().await.unwrap();
        let head = Head::read(&mut *tx, FORMER).await.unwrap();
        head.append(&mut *tx, &[&Entry::new("svc-1", "Detokenize", now)], now).await.unwrap();
        tx.commit().await.unwrap();
    }
    store.close().await;
}

/// How many batches of the former node are left.
async fn left(vault: &Outside) -> u64 {
    let store = lacuna::store::open(&vault.url()).await.unwrap();
    let links = store.read().await.unwrap().audit_links(&FORMER, 0, 100).await.unwrap();
    store.close().await;
    links.len() as u64
}

async fn assert_intact(door: &mut Door, point: &str) -> v1::VerifyAuditChainResponse {
    let told = door.audits.verify_audit_chain(v1::VerifyAuditChainRequest {}).await.unwrap().into_inner();
    assert!(told.intact && told.troubles.is_empty(), "{point}: {told:?}");
    told
}

outside_on_both_stores! {
    async fn a_crash_while_a_checkpoint_is_signed_accuses_nobody_and_the_next_one_vouches(vault: Outside) {
        vault.start().kill();
        for point in points_of(&vault, &AUDITING, &CUTTING) {
            let vault = vault.copy();
            let mut door = vault.try_start(&[(&point, after(0))]).unwrap();
            door.tokenize("ada").await;
            door.audits.get_checkpoint(v1::GetCheckpointRequest::default()).await.unwrap_err();
            door.aborted();
            let mut door = vault.start();
            assert_intact(&mut door, &point).await;
            let signed = door.audits.get_checkpoint(v1::GetCheckpointRequest::default()).await.unwrap().into_inner();
            assert_eq!(signed.checkpoints.len(), 1);
            let told = assert_intact(&mut door, &point).await;
            assert!(told.checkpoints > 0 && told.unvouched_batches <= 2, "{point}: {told:?}");
        }
    }

    async fn a_crash_while_old_entries_are_cut_off_leaves_them_or_a_signed_cut(vault: Outside) {
        vault.start().kill();
        a_former_node(&vault).await;
        let mut door = vault.start();
        door.audits.get_checkpoint(v1::GetCheckpointRequest::default()).await.unwrap();
        assert_intact(&mut door, "before").await;
        door.kill();
        assert_eq!(left(&vault).await, BATCHES, "without a period nothing goes");
        vault.configure("[audit]\nretention_days = 30");
        for point in CUTTING {
            let vault = vault.copy();
            vault.try_start(&[(point, after(0))]).unwrap().aborted();
            let store = lacuna::store::open(&vault.url()).await.unwrap();
            let cut = !store.read().await.unwrap().audit_marks(MarkKind::Cut).await.unwrap().is_empty();
            store.close().await;
            assert_eq!(cut, point != "audit::cut-kept", "{point}");
            let mut door = vault.start();
            let begun = std::time::Instant::now();
            while left(&vault).await > 1 {
                assert_intact(&mut door, point).await;
                assert!(begun.elapsed() < PATIENCE, "{point}: what is old stays");
            }
            assert_intact(&mut door, point).await;
        }
    }
}
