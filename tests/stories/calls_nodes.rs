//! What is destroyed of calls and held for cases, whichever node is asked: only one of them changes the key tree.

use lacuna::proto::v1;
use lacuna::proto::v1::PartKind;

use crate::asks::CARE;
use crate::calls::{agent, customer, leg};
use crate::holds::{over, release};
use crate::nodes::{Node, Vault};
use crate::parts::{part, written};

const SAID: &str = "Ada said too much.";

impl Node {
    async fn call_with_a_note(&mut self, name: &str) -> (v1::Call, v1::CallPart) {
        let told = leg(name, 1, vec![customer("+49 30 1234567", "Ada"), agent("a-7", "Bob")]);
        let call = self.calls.upsert_call(told).await.unwrap().into_inner().call.unwrap();
        let note = self.calls.attach_part(part(&call, PartKind::Note, written(SAID))).await;
        (call, note.unwrap().into_inner().part.unwrap())
    }

    /// Of the note of a call why it is gone, and what is shown of it.
    async fn noted(&mut self, call: &v1::Call) -> (String, Option<String>) {
        let request = v1::GetCallRequest { call: call.call.clone(), purpose: CARE.to_owned(), ..Default::default() };
        let call = self.calls.get_call(request).await.unwrap().into_inner().call.unwrap();
        let text = match &call.parts[0].outcome {
            Some(v1::call_part::Outcome::Text(text)) => Some(text.clone()),
            _ => None,
        };
        (call.parts[0].gone.clone(), text)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_node_is_asked_parts_are_destroyed_and_holds_released() {
    let story = concat!(module_path!(), "::whichever_node_is_asked_parts_are_destroyed_and_holds_released");
    let Some(vault) = Vault::new(story) else { return };
    let mut nodes = vault.nodes(3);
    for at in 0..nodes.len() {
        let next = (at + 1) % nodes.len();
        let (call, note) = nodes[next].call_with_a_note(&format!("1.{at}")).await;
        assert_eq!(nodes[at].noted(&call).await, (String::new(), Some(SAID.to_owned())));
        let held = nodes[next].retention.place_hold(over(&[&call.parties[0].subject])).await.unwrap();
        let held = held.into_inner().hold.unwrap();

        let erase = v1::ErasePartsRequest {
            call: call.call.clone(),
            parts: vec![note.part],
            reason: "ticket 4711".to_owned(),
            ..Default::default()
        };
        let erased = nodes[at].calls.erase_parts(erase).await.unwrap().into_inner();
        assert_eq!((erased.pending_reason.as_str(), erased.parts[0].gone.as_str()), ("", "PART_ERASED"));
        assert!(!erased.receipt.is_empty(), "node {at}");
        let released = nodes[at].retention.release_hold(release(&held.hold)).await.unwrap().into_inner();
        assert_eq!(released.pending_reason, "", "node {at}");
        assert_eq!(released.hold.unwrap().state(), v1::HoldState::Released);
        for node in &mut nodes {
            assert_eq!(node.noted(&call).await, ("PART_ERASED".to_owned(), None));
            let list = v1::ListHoldsRequest::default();
            let holds = node.retention.list_holds(list).await.unwrap().into_inner().holds;
            assert_eq!(holds.len(), at + 1);
            assert!(holds.iter().all(|hold| hold.state() == v1::HoldState::Released));
        }
    }
}
