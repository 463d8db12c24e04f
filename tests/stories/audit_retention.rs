//! The audit is kept for as long as it must be, and no longer: what goes is signed for.

use std::time::Duration;

use lacuna::proto::v1;
use lacuna::store::audit::MarkKind;
use lacuna::vault::audit::walk::FaultKind;

use crate::asks::CARE;
use crate::house::on_both_stores;

on_both_stores! {
    async fn what_is_old_enough_is_cut_off_and_the_chain_goes_on_from_there(house: House) {
        let mut house = house;
        house.config.audit.retention_days = Some(30);
        house.stop().await;
        house.reopen().await;
        let ada = house.somebody("Ada").await;
        for _ in 0..5 {
            house.reveal(&ada.tokens, CARE).await;
        }
        let vault = || std::sync::Arc::clone(&house.running().vault);
        vault().checkpoint_audit().await.unwrap();
        let (before, _) = vault().verify_audit().await.unwrap();
        assert_eq!(before.faults, []);
        assert_eq!(vault().cut_audit().await.unwrap(), 0, "nothing is old enough");
        house.clock.advance(Duration::from_hours(24 * 31));
        let people = [house.somebody("Bob").await, house.somebody("Eve").await];
        let vault = || std::sync::Arc::clone(&house.running().vault);
        vault().checkpoint_audit().await.unwrap();
        let removed = vault().cut_audit().await.unwrap();
        assert!(removed >= 5, "{removed}");
        let (after, troubles) = vault().verify_audit().await.unwrap();
        assert_eq!((after.faults, troubles), (Vec::new(), Vec::new()));
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
        assert_eq!(vault().verify_audit().await.unwrap().0.faults, []);
        // A cut that nobody has signed hides nothing.
        let mut tx = vault().custody().store().write().await.unwrap();
        let cut = tx.audit_marks(MarkKind::Cut).await.unwrap().remove(0);
        let note = cut.note.replace("\ncut\n", "\n");
        tx.put_audit_mark(&lacuna::store::audit::Mark { size: cut.size + 1, note, ..cut }).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(vault().verify_audit().await.unwrap().0.faults[0].kind, FaultKind::Missing);
    }
}
