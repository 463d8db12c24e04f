//! The process ends while values are destroyed that were kept long enough: either they are there, or no copy opens them in the
//! end, and one receipt says so.

use lacuna::keys::receipt;
use lacuna::model::FieldType;
use lacuna::proto::v1;
use lacuna::proto::v1::retention_service_client::RetentionServiceClient;
use tonic::Status;

use crate::asks::{detokenize, tokenize};
use crate::crash::{OFTEN, after, points_of};
use crate::hoard::{Hoard, keys_under};
use crate::house::{Bearer, Link, field, outcome};
use crate::outside::{Door, Outside, PATIENCE, outside_on_both_stores};

/// Parts of the source that come by while values end.
pub const ENDING: [&str; 1] = ["retention"];

fn retention(vault: &Outside, door: &Door) -> RetentionServiceClient<Link> {
    let token = std::fs::read_to_string(vault.place.token()).unwrap();
    RetentionServiceClient::with_interceptor(door.channel.clone(), Bearer(token.trim().to_owned()))
}

/// Asks until the vault has ended the value by itself, and every run is done; answers those that destroyed something.
async fn ended(vault: &Outside, door: &mut Door, token: &str) -> Result<Vec<v1::RetentionRun>, Status> {
    let mut runs = retention(vault, door);
    let asked = [token.to_owned()];
    let looking = async {
        loop {
            let answer = door.tokens.detokenize(detokenize(&asked, "customer_care")).await?.into_inner();
            let mut found = runs.list_retention_runs(v1::ListRetentionRunsRequest::default()).await?.into_inner().runs;
            let done = found.iter().all(|run| run.state() == v1::RetentionRunState::Done);
            found.retain(|run| !run.items.is_empty());
            match outcome(&answer.results[0]) {
                Err(reason) => assert_eq!(reason, "RETENTION_ENDED"),
                Ok(value) => assert_eq!(value, "0.5"),
            }
            if done && !found.is_empty() {
                return Ok(found);
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("the vault does not end it by itself")
}

/// How many scores copies give away with the keys that a vault has.
async fn scores(hoard: &Hoard, vault: &Outside) -> usize {
    let keys = keys_under(&vault.kek(), &vault.place.slot(), &vault.place.data()).await;
    hoard.spoils(keys).values().filter(|(token, _)| token.kind == FieldType::Score).count()
}

outside_on_both_stores! {
    async fn a_crash_while_values_end_leaves_them_there_or_gone_with_one_receipt(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        let score = v1::FieldInput { retention_class: "call.ops".to_owned(), ..field(v1::FieldType::Score, "0.5") };
        let score = tokenize(&ada.subject, vec![score]);
        let score = door.tokens.tokenize(score).await.unwrap().into_inner().tokens[0].token.clone();
        door.kill();
        // It is months old.
        vault.sql("UPDATE subject_key SET cohort = 600 WHERE class = 'score/call.ops'");
        let mut points = points_of(&vault, &ENDING, &["retention::begun"]);
        points.extend(["shred::checkpointed", "shred::written", "shred::advanced"].map(str::to_owned));
        for point in points {
            for times in 0..OFTEN {
                let vault = vault.copy();
                let mut hoard = Hoard::default();
                hoard.read_url(&vault.url()).await;
                assert_eq!(scores(&hoard, &vault).await, 1, "the copy opens");
                // The vault does it by itself, perhaps before anybody can connect.
                let Ok(mut door) = vault.try_start(&[(&point, after(times))]) else { continue };
                if ended(&vault, &mut door, &score).await.is_ok() {
                    assert!(times > 0, "nothing that ends comes by {point}");
                    break;
                }
                door.aborted();
                let mut door = vault.start();
                let runs = ended(&vault, &mut door, &score).await.unwrap();
                assert_eq!(runs.len(), 1, "{point} {times}: {runs:?}");
                let said = receipt::verify(&runs[0].receipt, None).unwrap().statement;
                assert_eq!(said.plan.iter().map(|item| item.count).sum::<u64>(), 1, "{point} {times}");
                door.assert_there(&ada).await;
                door.kill();
                hoard.read_url(&vault.url()).await;
                assert_eq!(scores(&hoard, &vault).await, 0, "{point} {times}");
            }
        }
    }
}
