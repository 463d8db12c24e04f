//! The process ends while a hold is placed or released: what was acknowledged is there, or gone from every copy.

use lacuna::proto::v1;
use lacuna::proto::v1::retention_service_client::RetentionServiceClient;
use tonic::Status;

use crate::asks::{detokenize, request_id};
use crate::crash::{OFTEN, after, points_of};
use crate::hoard::{Hoard, keys_under};
use crate::holds::{over, release};
use crate::house::{Bearer, Link, reason};
use crate::kept::CLAIMS;
use crate::outside::{Door, Outside, outside_on_both_stores};

/// Parts of the source that come by while a hold is placed or released.
pub const HOLDING: [&str; 1] = ["hold"];

fn retention(vault: &Outside, door: &Door) -> RetentionServiceClient<Link> {
    let token = std::fs::read_to_string(vault.place.token()).unwrap();
    RetentionServiceClient::with_interceptor(door.channel.clone(), Bearer(token.trim().to_owned()))
}

async fn place(vault: &Outside, door: &Door, subject: &str) -> Result<v1::Hold, Status> {
    let ask = v1::PlaceHoldRequest { request_id: request_id(7), ..over(&[subject]) };
    Ok(retention(vault, door).place_hold(ask).await?.into_inner().hold.unwrap())
}

async fn end(vault: &Outside, door: &Door, hold: &v1::Hold) -> Result<v1::ReleaseHoldResponse, Status> {
    let ask = v1::ReleaseHoldRequest { request_id: request_id(8), ..release(&hold.hold) };
    Ok(retention(vault, door).release_hold(ask).await?.into_inner())
}

/// How many copies of a hold copies of everything give away with the keys that a vault has.
async fn copies(hoard: &Hoard, vault: &Outside) -> usize {
    let keys = keys_under(&vault.kek(), &vault.place.slot(), &vault.place.data()).await;
    hoard.spoils(keys).values().filter(|(token, _)| token.class.starts_with("hold/")).count()
}

outside_on_both_stores! {
    async fn a_crash_while_a_hold_is_placed_holds_all_or_nothing(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        door.kill();
        for point in points_of(&vault, &HOLDING, &["hold::before-released", "hold::released"]) {
            let vault = vault.copy();
            let door = vault.try_start(&[(&point, after(0))]).unwrap();
            place(&vault, &door, &ada.subject).await.unwrap_err();
            door.aborted();
            let mut door = vault.start();
            let holds = retention(&vault, &door).list_holds(v1::ListHoldsRequest::default()).await.unwrap();
            let there = usize::from(point == "hold::placed");
            assert_eq!(holds.into_inner().holds.len(), there, "{point}");
            let hold = place(&vault, &door, &ada.subject).await.unwrap();
            assert_eq!((hold.subjects.len(), hold.subjects[0].values), (1, 2), "{point}");
            door.erase(&ada).await;
            let refused = door.tokens.detokenize(detokenize(&ada.tokens, CLAIMS)).await.unwrap_err();
            assert_eq!(reason(&refused), "APPROVAL_REQUIRED", "{point}");
            door.assert_gone(&ada).await;
            door.kill();
            let mut hoard = Hoard::default();
            hoard.read_url(&vault.url()).await;
            assert_eq!(copies(&hoard, &vault).await, 2, "{point}");
        }
    }

    async fn a_crash_while_a_hold_is_released_leaves_it_or_destroys_it_in_every_copy(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        let hold = place(&vault, &door, &ada.subject).await.unwrap();
        door.erase(&ada).await;
        door.kill();
        let mut points = points_of(&vault, &HOLDING, &["hold::before-placed", "hold::placed"]);
        points.extend(points_of(&vault, &["shred"], &[]));
        points.push("retention::destroyed".to_owned());
        for point in points {
            for times in 0..OFTEN {
                let vault = vault.copy();
                let mut hoard = Hoard::default();
                hoard.read_url(&vault.url()).await;
                assert_eq!(copies(&hoard, &vault).await, 2, "the copy opens");
                let door = vault.try_start(&[(&point, after(times))]).unwrap();
                if end(&vault, &door, &hold).await.is_ok() {
                    assert!(times > 0, "a release does not come by {point}");
                    break;
                }
                door.aborted();
                let mut door = vault.start();
                let released = end(&vault, &door, &hold).await.unwrap();
                assert_eq!(released.pending_reason, "", "{point} {times}");
                assert!(!released.receipt.is_empty(), "{point} {times}");
                let answer = door.tokens.detokenize(detokenize(&ada.tokens, CLAIMS)).await.unwrap().into_inner();
                assert!(answer.results.iter().all(|one| crate::house::outcome(one) == Err("SUBJECT_ERASED".to_owned())));
                door.kill();
                hoard.read_url(&vault.url()).await;
                assert_eq!(copies(&hoard, &vault).await, 0, "{point} {times}");
            }
        }
    }
}
