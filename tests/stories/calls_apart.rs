//! Calls that are told to a process that ends meanwhile, and to several nodes at once.

use lacuna::proto::v1;
use lacuna::proto::v1::{CallField, UpsertOutcome};

use crate::asks::{CARE, detokenize};
use crate::calls::{customer, leg};
use crate::crash::{TOKENIZING, after, assert_keys_agree, points_of};
use crate::house::outcome;
use crate::nodes::Vault;
use crate::outside::outside_on_both_stores;
use crate::undone::assert_no_leaf_is_forgotten;

const ADA: &str = "+49301234567";

fn told(revision: u64, name: &str) -> v1::UpsertCallRequest {
    leg("1.1", revision, vec![customer(ADA, name)])
}

/// The tokens of a party's number and name.
fn tokens(call: &v1::Call) -> Vec<String> {
    let token = |field| call.parties[0].values.iter().find(|value| value.field() == field).unwrap().token.clone();
    vec![token(CallField::Number), token(CallField::Name)]
}

outside_on_both_stores! {
    async fn a_crash_while_a_call_is_told_keeps_all_of_it_or_nothing(vault: Outside) {
        let mut door = vault.start();
        let before = door.calls.upsert_call(told(1, "Ada")).await.unwrap().into_inner().call.unwrap();
        door.kill();
        for point in points_of(&vault, &TOKENIZING, &[]) {
            let vault = vault.copy();
            let mut door = vault.try_start(&[(&point, after(0))]).unwrap();
            door.calls.upsert_call(told(2, "Ada Lovelace")).await.unwrap_err();
            door.aborted();
            let mut door = vault.start();
            let kept = point == "write::after-commit";
            let list = v1::ListCallsRequest::default();
            let found = door.calls.list_calls(list).await.unwrap().into_inner().calls.remove(0);
            assert_eq!((&found.call, found.legs[0].revision), (&before.call, 1 + u64::from(kept)), "{point}");
            let old = door.tokens.detokenize(detokenize(&tokens(&before), CARE)).await.unwrap().into_inner().results;
            let replaced = if kept { Err("TOKEN_UNKNOWN".to_owned()) } else { Ok("Ada".to_owned()) };
            assert_eq!([outcome(&old[0]), outcome(&old[1])], [Ok(ADA.to_owned()), replaced], "{point}");
            // Whoever was not answered tells it again, and it is there once.
            let again = door.calls.upsert_call(told(2, "Ada Lovelace")).await.unwrap().into_inner();
            assert_eq!(again.outcome(), if kept { UpsertOutcome::Same } else { UpsertOutcome::Merged }, "{point}");
            let now = tokens(&again.call.unwrap());
            let shown = door.tokens.detokenize(detokenize(&now, CARE)).await.unwrap().into_inner().results;
            assert_eq!(outcome(&shown[1]), Ok("Ada Lovelace".to_owned()));
            assert_keys_agree(&vault);
            door.kill();
            let store = lacuna::store::open(&vault.url()).await.unwrap();
            assert_no_leaf_is_forgotten(&*store).await;
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_told_to_two_nodes_at_once_is_one() {
    let Some(vault) = Vault::new("a call that is told to two nodes at once") else { return };
    let nodes = vault.nodes(2);
    for round in 0..20 {
        let tell = |at: usize| {
            let mut calls = nodes[at % 2].calls.clone();
            let number = format!("+4930765{round:04}");
            let group_id = format!("group-{round}");
            // Two legs of one call of somebody whom nobody knows, each told to both nodes.
            let leg = leg(&format!("{round}.{}", at / 2), 1, vec![customer(&number, "Ada")]);
            let told = v1::UpsertCallRequest { group_id, ..leg };
            async move { calls.upsert_call(told).await.unwrap().into_inner().call.unwrap() }
        };
        let told = futures_util::future::join_all((0..4).map(tell)).await;
        let first = &told[0];
        for call in &told {
            assert_eq!((&call.call, &call.parties[0].subject), (&first.call, &first.parties[0].subject));
        }
        for node in &nodes {
            let get = v1::GetCallRequest { call: first.call.clone(), ..Default::default() };
            let call = node.calls.clone().get_call(get).await.unwrap().into_inner().call.unwrap();
            assert_eq!((call.legs.len(), call.parties.len()), (2, 1));
        }
    }
}
