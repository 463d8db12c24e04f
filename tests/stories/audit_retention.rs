//! The audit is kept for as long as it must be, and no longer: what goes is signed for.

use std::time::Duration;

use lacuna::model::{Clock as _, Reason};
use lacuna::proto::v1;
use lacuna::store::audit::{Batch, MarkKind};
use lacuna::vault::audit::walk::FaultKind;
use lacuna::vault::audit::{Entry, hash};

use crate::asks::CARE;
use crate::house::{House, Somebody, on_both_stores};

/// A house that keeps its audit for thirty days, with somebody in it who was asked about.
async fn for_a_month(house: &mut House) -> Somebody {
    house.config.audit.retention_days = Some(30);
    house.stop().await;
    house.reopen().await;
    let ada = house.somebody("Ada").await;
    for _ in 0..5 {
        house.reveal(&ada.tokens, CARE).await;
    }
    ada
}

on_both_stores! {
    async fn what_is_old_enough_is_cut_off_and_the_chain_goes_on_from_there(house: House) {
        let mut house = house;
        for_a_month(&mut house).await;
        let vault = || std::sync::Arc::clone(&house.running().vault);
        vault().checkpoint_audit().await.unwrap();
        let before = vault().verify_audit().await.unwrap();
        assert_eq!(before.faults, []);
        assert_eq!(vault().cut_audit().await.unwrap(), 0, "nothing is old enough");
        house.clock.advance(Duration::from_hours(24 * 31));
        let people = [house.somebody("Bob").await, house.somebody("Eve").await];
        let vault = || std::sync::Arc::clone(&house.running().vault);
        vault().checkpoint_audit().await.unwrap();
        let removed = vault().cut_audit().await.unwrap();
        assert!(removed >= 5, "{removed}");
        let after = vault().verify_audit().await.unwrap();
        assert!(after.is_intact(), "{after:?}");
        assert!(after.batches < before.batches + 4);
        // What is left is proven as before.
        let mut audits = house.audits().await;
        let listed = audits.list_audit_entries(v1::ListAuditEntriesRequest::default()).await.unwrap().into_inner();
        let kept = listed.entries.iter().find(|entry| entry.rpc == "Tokenize").unwrap();
        assert!(people.iter().any(|person| person.subject == kept.touched[0].subject), "Ada's are gone");
        let ask = v1::ProveAuditEntryRequest { entry: kept.entry.clone() };
        audits.prove_audit_entry(ask).await.unwrap();
        // And again, from the cut on.
        house.clock.advance(Duration::from_hours(24 * 31));
        house.somebody("Kim").await;
        let vault = || std::sync::Arc::clone(&house.running().vault);
        vault().checkpoint_audit().await.unwrap();
        assert!(vault().cut_audit().await.unwrap() > 0);
        assert_eq!(vault().verify_audit().await.unwrap().faults, []);
        // What somebody puts before the cut is nobody's entry, and goes.
        let here = vault();
        let store = here.custody().store();
        let first = store.read().await.unwrap().list_audit_batches(None, 1).await.unwrap().remove(0);
        let now = house.clock.now();
        let accuses = Entry::new("svc-9", "Detokenize", now);
        let body = serde_json::to_string(&accuses).unwrap() + "\n";
        let mut tx = store.write().await.unwrap();
        tx.insert_audit_batch(&Batch { seq: 1, body, created_at: now, ..first.clone() }).await.unwrap();
        tx.commit().await.unwrap();
        let ask = v1::ListAuditEntriesRequest::default();
        let listed = house.audits().await.list_audit_entries(ask).await.unwrap().into_inner();
        assert!(!listed.entries.is_empty() && listed.entries.iter().all(|entry| entry.caller != "svc-9"));
        assert_eq!(vault().cut_audit().await.unwrap(), 1);
        // A cut that nobody has signed hides nothing.
        let mut tx = vault().custody().store().write().await.unwrap();
        let cut = tx.audit_marks(MarkKind::Cut).await.unwrap().remove(0);
        let note = cut.note.replace("\ncut\n", "\n");
        tx.put_audit_mark(&lacuna::store::audit::Mark { size: cut.size + 1, note, ..cut }).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(vault().verify_audit().await.unwrap().faults[0].kind, FaultKind::Missing);
    }

    async fn a_log_that_was_rewritten_is_not_cut_off_to_hide_it(house: House) {
        let mut house = house;
        let ada = for_a_month(&mut house).await;
        let vault = std::sync::Arc::clone(&house.running().vault);
        vault.checkpoint_audit().await.unwrap();
        assert!(vault.verify_audit().await.unwrap().is_intact());
        // Whoever writes the database makes everything old, lets it fit together, and says that more was signed.
        let store = vault.custody().store();
        let mut forged = store.read().await.unwrap().list_audit_batches(None, 10_000).await.unwrap();
        let (node, last) = (forged[0].node, forged.len() as u64);
        let mut before = [0; 32];
        for batch in &mut forged {
            batch.created_at = batch.created_at.minus(Duration::from_hours(24 * 60));
            batch.prev_hash = before;
            before = hash(batch);
        }
        let mut tx = store.write().await.unwrap();
        tx.delete_audit_batches(&node, last, 10_000).await.unwrap();
        for batch in &forged {
            tx.insert_audit_batch(batch).await.unwrap();
        }
        tx.commit().await.unwrap();
        assert_eq!(crate::audit::chains(&mut *store.read().await.unwrap()).await.faults, [], "it fits together");

        assert_eq!(vault.cut_audit().await.unwrap_err().reason, Reason::Internal);
        let kept = store.read().await.unwrap().list_audit_batches(None, 10_000).await.unwrap();
        assert_eq!(kept.len() as u64, last, "nothing goes that would tell");
        let found = vault.verify_audit().await.unwrap();
        assert_eq!(found.faults.len(), 1, "{found:?}");
        // What is signed from now on goes on from what was signed before, and not from what the database says.
        house.reveal(&ada.tokens, CARE).await;
        vault.checkpoint_audit().await.unwrap();
        assert_eq!(vault.verify_audit().await.unwrap().faults.len(), 1, "and it stays visible");
        assert_eq!(vault.cut_audit().await.unwrap_err().reason, Reason::Internal);
    }
}
