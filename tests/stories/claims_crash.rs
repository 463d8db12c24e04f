//! The process ends while what is kept of one person becomes another's: it is the one's or the other's, and with whom it is erased it is gone.

use lacuna::proto::v1;
use lacuna::proto::v1::{CallerAssurance, RelinkReason};

use crate::asks::request_id;
use crate::calls::{customer, leg};
use crate::crash::{HANDING, OFTEN, after, points_of};
use crate::hoard::{Hoard, keys_under};
use crate::outside::{Outside, Person, outside_on_both_stores};

const NAME: &str = "Bea As She Called";

/// Whether somebody who has copied everything and has the vault's keys reads what was told.
async fn reads(hoard: &Hoard, vault: &Outside) -> bool {
    let keys = keys_under(&vault.kek(), &vault.place.slot(), &vault.place.data()).await;
    hoard.spoils(keys).values().any(|(_, value)| value.raw() == NAME.as_bytes())
}

fn claim(subject: &str, ada: &Person) -> v1::ClaimSubjectRequest {
    v1::ClaimSubjectRequest {
        subject: subject.to_owned(),
        claimant: ada.subject.clone(),
        assurance: CallerAssurance::Verified.into(),
        evidence: "ticket 4711".to_owned(),
        request_id: request_id(9),
    }
}

fn relink(call: &str, from: &str, ada: &Person) -> v1::RelinkCallerRequest {
    v1::RelinkCallerRequest {
        call: call.to_owned(),
        from_subject: from.to_owned(),
        to_subject: ada.subject.clone(),
        reason: RelinkReason::Mistaken.into(),
        evidence: "ticket 4711".to_owned(),
        request_id: request_id(9),
    }
}

/// Crashes one of the two at each point that it comes by, does it again, and erases whom it came to.
async fn crash_and_go_on(vault: &Outside, claims: bool) {
    let mut door = vault.start();
    let ada = door.tokenize("ada").await;
    let told = door.calls.upsert_call(leg("1.1", 1, vec![customer("+49301234567", NAME)])).await;
    let told = told.unwrap().into_inner().call.unwrap();
    let (call, from) = (told.call, told.parties[0].subject.clone());
    door.kill();
    for point in points_of(vault, &[HANDING[usize::from(!claims)]], &[]) {
        for times in 0..OFTEN {
            let vault = vault.copy();
            let mut hoard = Hoard::default();
            hoard.read_url(&vault.url()).await;
            assert!(reads(&hoard, &vault).await, "the copy opens");
            let mut door = vault.try_start(&[(&point, after(times))]).unwrap();
            let done = if claims {
                door.subjects.claim_subject(claim(&from, &ada)).await.map(drop)
            } else {
                door.calls.relink_caller(relink(&call, &from, &ada)).await.map(drop)
            };
            if done.is_ok() {
                assert!(times > 0, "it does not come by {point}");
                break;
            }
            door.aborted();
            let mut door = vault.start();
            if claims {
                door.subjects.claim_subject(claim(&from, &ada)).await.unwrap();
            } else {
                door.calls.relink_caller(relink(&call, &from, &ada)).await.unwrap();
            }
            let request = v1::ListCallsRequest { subject: ada.subject.clone(), ..Default::default() };
            let listed = door.calls.list_calls(request).await.unwrap().into_inner().calls;
            assert_eq!(listed.len(), 1, "{point} {times}");
            hoard.read_url(&vault.url()).await;
            let erased = door.erase(&ada).await;
            door.shredded(&erased.erasure).await;
            door.kill();
            hoard.read_url(&vault.url()).await;
            assert!(!reads(&hoard, &vault).await, "{point} {times}: noise in every copy");
        }
    }
}

outside_on_both_stores! {
    async fn a_crash_in_a_claim_leaves_it_undone_or_done(vault: Outside) {
        crash_and_go_on(&vault, true).await;
    }

    async fn a_crash_in_a_relink_leaves_it_undone_or_done(vault: Outside) {
        crash_and_go_on(&vault, false).await;
    }
}
