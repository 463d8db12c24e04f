//! Four eyes: what one caller wants to read in bulk, another one has to approve.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lacuna::cli::serve::Running;
use lacuna::config::{Authorization, Caller};
use lacuna::model::Clock;
use lacuna::proto::v1;
use lacuna::proto::v1::access_service_client::AccessServiceClient;
use lacuna::proto::v1::{ApprovalState, Redaction};
use tonic::{Code, Status};

use crate::asks::{CARE, HOUR, detokenize, metadata};
use crate::house::{House, Link, connect, field, fields_at_fault, on_both_stores, outcome, reason};
use crate::policies::{as_member, entries, member, with_roles};
use crate::process::said;

const UNKNOWN: &str = "apr_aaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A house in which whoever wants to read more than two values at once needs an approval.
async fn with_limit(house: &mut House) -> Vec<String> {
    with_roles(house, &["contact-centre-agent", "supervisor", "security-officer", "mailer"]).await;
    house.config.brakes.approval_above = Some(2);
    house.config.callers[0].approval_above = Some(1000);
    house.reopen().await;
    let fields = ["a", "b", "c", "d"].map(|name| field(v1::FieldType::PersonName, name)).to_vec();
    let (_, tokens) = house.tokenize("", fields).await;
    as_member(house, "contact-centre-agent").await;
    tokens
}

async fn door(house: &House, caller: &str) -> AccessServiceClient<Link> {
    house.access_as(&format!("the-token-of-{caller}")).await
}

/// How many values are shown, or why the whole call is refused.
async fn shown(house: &mut House, ask: v1::DetokenizeRequest) -> Result<usize, Status> {
    let response = house.tokens.detokenize(ask).await?.into_inner();
    Ok(response.results.iter().filter(|result| outcome(result).is_ok()).count())
}

/// The request for approval that a refusal names.
fn requested(refused: &Status) -> String {
    let said = (refused.code(), reason(refused));
    assert_eq!(said, (Code::FailedPrecondition, "APPROVAL_REQUIRED".to_owned()), "{refused:?}");
    metadata(refused)["approval"].clone()
}

async fn grant(house: &House, by: &str, approval: &str) -> Result<v1::Approval, Status> {
    let request = v1::GrantApprovalRequest { approval: approval.to_owned(), reason: "INC-7".to_owned() };
    Ok(door(house, by).await.grant_approval(request).await?.into_inner().approval.unwrap())
}

async fn refuse(house: &House, by: &str, approval: &str) -> Result<v1::Approval, Status> {
    let request = v1::RefuseApprovalRequest { approval: approval.to_owned(), reason: String::new() };
    Ok(door(house, by).await.refuse_approval(request).await?.into_inner().approval.unwrap())
}

async fn state(house: &House, approval: &str) -> ApprovalState {
    let request = v1::GetApprovalRequest { approval: approval.to_owned() };
    door(house, "supervisor").await.get_approval(request).await.unwrap().into_inner().approval.unwrap().state()
}

on_both_stores! {
    async fn what_is_read_in_bulk_another_caller_has_to_approve(house: House) {
        let mut house = house;
        let tokens = with_limit(&mut house).await;
        let ask = detokenize(&tokens, CARE);
        assert_eq!(shown(&mut house, detokenize(&tokens[..2], CARE)).await.unwrap(), 2);
        let approval = requested(&shown(&mut house, ask.clone()).await.unwrap_err());
        // Asked again it is the same request.
        assert_eq!(requested(&shown(&mut house, ask.clone()).await.unwrap_err()), approval);
        let request = v1::ListApprovalsRequest { pending: true, ..Default::default() };
        let listed = door(&house, "security-officer").await.list_approvals(request).await.unwrap().into_inner().approvals;
        assert_eq!(listed.len(), 1);
        let asked = &listed[0];
        assert_eq!((asked.approval.as_str(), asked.caller.as_str()), (approval.as_str(), "contact-centre-agent"));
        assert_eq!((asked.purpose.as_str(), asked.tokens, asked.state()), (CARE, 4, ApprovalState::Pending));
        assert_eq!((asked.redaction(), asked.digest.len()), (Redaction::PlainText, 64));
        let granted = grant(&house, "supervisor", &approval).await.unwrap();
        assert_eq!((granted.state(), granted.decided_by.as_str(), granted.reason.as_str()), (ApprovalState::Granted, "supervisor", "INC-7"));
        // Once, and after a restart as well as before.
        house.reopen().await;
        as_member(&mut house, "contact-centre-agent").await;
        assert_eq!(shown(&mut house, ask.clone()).await.unwrap(), 4);
        assert_eq!(state(&house, &approval).await, ApprovalState::Used);
        let again = requested(&shown(&mut house, ask).await.unwrap_err());
        assert_ne!(again, approval);
        let entries = entries(&house).await;
        let mut told: Vec<(&str, &str, bool)> = entries
            .iter()
            .filter(|entry| entry["approval"] == approval)
            .map(|entry| (entry["caller"].as_str().unwrap(), entry["deed"].as_str().unwrap(), entry.get("refused").is_some()))
            .collect();
        // In no order: a restart may have begun another chain.
        told.sort_unstable();
        let agent = "contact-centre-agent";
        let expected = [
            (agent, "Detokenize", false),
            (agent, "Detokenize", true),
            (agent, "Detokenize", true),
            ("supervisor", "GrantApproval", false),
        ];
        assert_eq!(told, expected);
    }

    async fn the_same_asked_several_times_at_once_leaves_one_request(house: House) {
        let mut house = house;
        let tokens = with_limit(&mut house).await;
        let calls = (0..8).map(|_| {
            let (mut door, ask) = (house.tokens.clone(), detokenize(&tokens, CARE));
            async move { requested(&door.detokenize(ask).await.unwrap_err()) }
        });
        let named: BTreeSet<String> = join_all(calls).await.into_iter().collect();
        let request = v1::ListApprovalsRequest { pending: true, ..Default::default() };
        let listed = door(&house, "supervisor").await.list_approvals(request).await.unwrap().into_inner().approvals;
        let listed: BTreeSet<String> = listed.into_iter().map(|approval| approval.approval).collect();
        assert_eq!((listed.len(), listed), (1, named));
    }

    async fn an_approval_is_for_exactly_what_was_asked(house: House) {
        let mut house = house;
        let tokens = with_limit(&mut house).await;
        let ask = detokenize(&tokens[..3], CARE);
        let approval = requested(&shown(&mut house, ask.clone()).await.unwrap_err());
        grant(&house, "supervisor", &approval).await.unwrap();
        let swapped = vec![tokens[1].clone(), tokens[0].clone(), tokens[2].clone()];
        let others = [
            detokenize(&tokens, CARE),
            detokenize(&tokens[1..], CARE),
            detokenize(&swapped, CARE),
            v1::DetokenizeRequest { redaction: Redaction::LastFour.into(), ..ask.clone() },
            v1::DetokenizeRequest { channel: v1::Channel::Email.into(), ..ask.clone() },
            v1::DetokenizeRequest { justification: "INC-8".to_owned(), ..ask.clone() },
        ];
        let mut requests = BTreeSet::from([approval]);
        for other in others {
            assert!(requests.insert(requested(&shown(&mut house, other).await.unwrap_err())));
        }
        // Nor is it anybody else's.
        as_member(&mut house, "supervisor").await;
        assert!(requests.insert(requested(&shown(&mut house, ask.clone()).await.unwrap_err())));
        as_member(&mut house, "contact-centre-agent").await;
        assert_eq!(shown(&mut house, ask).await.unwrap(), 3);
    }

    async fn nobody_approves_their_own_request(house: House) {
        let mut house = house;
        let tokens = with_limit(&mut house).await;
        let person = |name: &str| Authorization { person: name.to_owned(), ..Authorization::default() };
        for caller in &mut house.config.callers {
            match caller.name.as_str() {
                "supervisor" => caller.authorization = person("Eve Adams"),
                "security-officer" => caller.authorization = person(" eve adams "),
                _ => {}
            }
        }
        // Another credential of the same caller, and another caller of the same person.
        house.config.callers.push(Caller { name: "other".to_owned(), token: Some("the-token-of-other".to_owned().into()), ..member("supervisor") });
        house.reopen().await;
        as_member(&mut house, "supervisor").await;
        let approval = requested(&shown(&mut house, detokenize(&tokens, CARE)).await.unwrap_err());
        for by in ["supervisor", "security-officer"] {
            let refused = grant(&house, by, &approval).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "FOUR_EYES"), "{by}");
        }
        for by in ["contact-centre-agent", "mailer"] {
            assert_eq!(reason(&grant(&house, by, &approval).await.unwrap_err()), "NOT_PERMITTED", "{by}");
        }
        assert_eq!(requested(&shown(&mut house, detokenize(&tokens, CARE)).await.unwrap_err()), approval);
        grant(&house, "other", &approval).await.unwrap();
        assert_eq!(shown(&mut house, detokenize(&tokens, CARE)).await.unwrap(), 4);
        let entries = entries(&house).await;
        let denied = entries.iter().filter(|entry| entry["deed"] == "GrantApproval" && entry["refused"] == "FourEyes");
        assert_eq!(denied.count(), 2);
    }

    async fn an_approval_ends_with_its_time_its_use_and_its_approver(house: House) {
        let mut house = house;
        let tokens = with_limit(&mut house).await;
        let ask = detokenize(&tokens, CARE);
        // Its time.
        let late = requested(&shown(&mut house, ask.clone()).await.unwrap_err());
        grant(&house, "supervisor", &late).await.unwrap();
        house.clock.advance(HOUR + Duration::from_secs(1));
        assert_eq!(state(&house, &late).await, ApprovalState::Expired);
        let closed = grant(&house, "security-officer", &late).await.unwrap_err();
        assert_eq!((closed.code(), reason(&closed).as_str()), (Code::FailedPrecondition, "APPROVAL_CLOSED"));
        let second = requested(&shown(&mut house, ask.clone()).await.unwrap_err());
        assert_ne!(second, late);
        // Taken back.
        grant(&house, "supervisor", &second).await.unwrap();
        assert_eq!(refuse(&house, "security-officer", &second).await.unwrap().state(), ApprovalState::Refused);
        let third = requested(&shown(&mut house, ask.clone()).await.unwrap_err());
        assert!(![&late, &second].contains(&&third));
        assert_eq!(reason(&grant(&house, "supervisor", &second).await.unwrap_err()), "APPROVAL_CLOSED");
        // Of an approver who is disabled.
        grant(&house, "supervisor", &third).await.unwrap();
        let disable = v1::DisableCallerRequest { caller: "supervisor".to_owned(), ..Default::default() };
        door(&house, "security-officer").await.disable_caller(disable).await.unwrap();
        let fourth = requested(&shown(&mut house, ask.clone()).await.unwrap_err());
        assert_ne!(fourth, third);
        grant(&house, "security-officer", &fourth).await.unwrap();
        // Many calls at once use it once.
        let calls = (0..8).map(|_| {
            let (mut tokens, ask) = (house.tokens.clone(), ask.clone());
            tokio::spawn(async move { tokens.detokenize(ask).await })
        });
        let mut let_through = 0;
        for call in calls.collect::<Vec<_>>() {
            match call.await.unwrap() {
                Ok(_) => let_through += 1,
                Err(refused) => drop(requested(&refused)),
            }
        }
        assert_eq!(let_through, 1);
    }

    async fn requests_for_approval_are_listed_page_by_page_and_not_made_without_end(house: House) {
        let mut house = house;
        let tokens = with_limit(&mut house).await;
        let ask = |at: usize| v1::DetokenizeRequest { justification: format!("INC-{at}"), ..detokenize(&tokens, CARE) };
        for at in 0..100 {
            requested(&shown(&mut house, ask(at)).await.unwrap_err());
        }
        let refused = shown(&mut house, ask(100)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
        let (mut tickets, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListApprovalsRequest { pending: true, page_size: 30, page_token };
            let page = door(&house, "supervisor").await.list_approvals(request).await.unwrap().into_inner();
            tickets.extend(page.approvals.into_iter().map(|approval| approval.justification));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let expected: Vec<String> = (0..100).rev().map(|at| format!("INC-{at}")).collect();
        assert_eq!(tickets.into_iter().collect::<BTreeSet<_>>(), expected.into_iter().collect());
        let request = v1::GetApprovalRequest { approval: UNKNOWN.to_owned() };
        let unknown = door(&house, "supervisor").await.get_approval(request).await.unwrap_err();
        assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "APPROVAL_UNKNOWN"));
        assert_eq!(reason(&grant(&house, "supervisor", UNKNOWN).await.unwrap_err()), "APPROVAL_UNKNOWN");
        assert_eq!(fields_at_fault(&refuse(&house, "supervisor", "MARKED").await.unwrap_err()), ["approval"]);
    }

    async fn the_command_line_speaks_of_approvals(house: House) {
        let mut house = house;
        house.config.brakes.approval_above = Some(1);
        house.reopen().await;
        let ada = house.somebody("Ada").await;
        let approval = requested(&shown(&mut house, detokenize(&ada.tokens, CARE)).await.unwrap_err());
        let tokens = ada.tokens.iter().map(String::as_str);
        let reveal = house.ask(&["token", "reveal", "--purpose", CARE].into_iter().chain(tokens).collect::<Vec<_>>());
        assert!(said(&reveal).contains("lacuna approval grant apr_"), "{}", said(&reveal));
        let listed = house.told(&["approval", "list", "--pending"]);
        assert_eq!(listed["approvals"][0]["approval"], approval.as_str());
        assert_eq!(listed["approvals"][0]["tokens"], 3);
        assert!(house.shown(&["approval", "show", &approval]).contains("lacuna approval grant"));
        assert!(house.shown(&["approval", "refuse", &approval, "--reason", "INC-9"]).contains("Refused."));
        assert!(house.shown(&["approval", "list"]).contains("refused"));
        assert_eq!(house.told(&["approval", "list", "--pending"])["approvals"].as_array().unwrap().len(), 0);
        let refused = house.ask(&["approval", "grant", &approval]);
        assert_eq!(refused.status.code(), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_that_is_granted_on_one_node_lets_through_once_on_any() {
    let Some(mut house) = House::on_postgres().await else { return };
    let tokens = with_limit(&mut house).await;
    let ask = detokenize(&tokens, CARE);
    let other = Running::start(&house.config, Arc::clone(&house.clock) as Arc<dyn Clock>).await.unwrap();
    let approval = requested(&shown(&mut house, ask.clone()).await.unwrap_err());
    grant(&house, "supervisor", &approval).await.unwrap();
    let (there, _) = connect(&other, "the-token-of-contact-centre-agent".to_owned()).await;
    let calls = [house.tokens.clone(), there.clone(), house.tokens.clone(), there].map(|mut tokens| {
        let ask = ask.clone();
        tokio::spawn(async move { tokens.detokenize(ask).await.is_ok() })
    });
    let mut let_through = 0;
    for call in calls {
        let_through += usize::from(call.await.unwrap());
    }
    assert_eq!(let_through, 1);
    other.stop().await.unwrap();
}
