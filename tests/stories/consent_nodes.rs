//! Consent over several nodes: what is withdrawn through one of them is revealed by none.

use std::time::Instant;

use lacuna::proto::v1;

use crate::asks::{detokenize, point};
use crate::consents::notice;
use crate::house::{fields_at_fault, outcome, reason};
use crate::nodes::{Node, Person, Storm, Vault};

const NEWS: &str = "marketing.email";
const FORM: &str = "web:signup";

fn decision(person: &Person, kind: v1::ConsentEventKind) -> v1::RecordConsentRequest {
    v1::RecordConsentRequest {
        subject: person.subject.clone(),
        purpose: NEWS.to_owned(),
        kind: kind.into(),
        method: v1::ConsentMethod::Form.into(),
        affirmative_action: "ticked".to_owned(),
        collection_point: FORM.to_owned(),
        ..Default::default()
    }
}

async fn say(node: &mut Node, person: &Person, kind: v1::ConsentEventKind) {
    node.consents.record_consent(decision(person, kind)).await.unwrap();
}

async fn reveal(node: &mut Node, person: &Person) -> Result<String, String> {
    let answer = node.tokens.detokenize(detokenize(std::slice::from_ref(&person.token), NEWS)).await.unwrap();
    outcome(&answer.into_inner().results[0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_withdrawal_no_node_reveals() {
    let Some(vault) = Vault::new("withdrawals over three nodes") else { return };
    let mut nodes = vault.nodes(3);
    nodes[0].consents.define_collection_point(point(FORM, v1::CollectionPointKind::WebForm)).await.unwrap();
    let people = nodes[0].people(30).await;
    for (who, person) in people.iter().enumerate() {
        say(&mut nodes[who % 3], person, v1::ConsentEventKind::Give).await;
    }
    let (storm, tasks) = Storm::begin(people.clone(), &nodes, 4, NEWS);
    for (who, person) in people.iter().enumerate().take(20) {
        say(&mut nodes[who % 3], person, v1::ConsentEventKind::Withdraw).await;
        storm.erased.lock().unwrap().insert(who, Instant::now());
    }
    storm.end(tasks).await;
    for node in &mut nodes {
        for (who, person) in people.iter().enumerate() {
            let expected = if who < 20 { Err("CONSENT_WITHDRAWN".to_owned()) } else { Ok(person.value.clone()) };
            assert_eq!(reveal(node, person).await, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_defines_the_others_know() {
    let Some(vault) = Vault::new("a purpose that another node defines") else { return };
    let mut nodes = vault.nodes(2);
    let people = nodes[0].people(1).await;
    let purpose =
        v1::Purpose { code: "delivery".to_owned(), basis: v1::LawfulBasis::Contract.into(), ..Default::default() };
    let request = v1::DefinePurposeRequest { purpose: Some(purpose), ..Default::default() };
    nodes[0].consents.define_purpose(request).await.unwrap();
    let asked = detokenize(std::slice::from_ref(&people[0].token), "delivery");
    let answer = nodes[1].tokens.detokenize(asked.clone()).await.unwrap().into_inner();
    assert_eq!(outcome(&answer.results[0]), Ok(people[0].value.clone()));
    let request = v1::RetirePurposeRequest { code: "delivery".to_owned() };
    nodes[0].consents.retire_purpose(request).await.unwrap();
    let answer = nodes[1].tokens.detokenize(asked).await.unwrap().into_inner();
    assert_eq!(outcome(&answer.results[0]), Err("PURPOSE_INACTIVE".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_age_rule_that_one_node_defines_binds_the_others() {
    let Some(vault) = Vault::new("an age rule that another node defines") else { return };
    let mut nodes = vault.nodes(2);
    let person = nodes[0].people(1).await.remove(0);
    nodes[0].consents.define_collection_point(point(FORM, v1::CollectionPointKind::WebForm)).await.unwrap();
    say(&mut nodes[1], &person, v1::ConsentEventKind::Give).await;
    assert_eq!(reveal(&mut nodes[1], &person).await, Ok(person.value.clone()), "nobody asks for the age");
    say(&mut nodes[1], &person, v1::ConsentEventKind::Withdraw).await;
    let publish = v1::PublishNoticeRequest {
        notice: Some(notice()),
        change: v1::VersionChange::Major.into(),
        ..Default::default()
    };
    let shown = nodes[0].consents.publish_notice(publish).await.unwrap().into_inner().notice.unwrap();
    let asked = v1::GetPurposeRequest { code: NEWS.to_owned(), version: 0 };
    let present = nodes[0].consents.get_purpose(asked).await.unwrap().into_inner().purpose.unwrap();
    let request = v1::DefinePurposeRequest {
        purpose: Some(v1::Purpose { age_rule: true, notice: shown.notice.clone(), ..present }),
        change: v1::VersionChange::Minor.into(),
        ..Default::default()
    };
    nodes[0].consents.define_purpose(request).await.unwrap();
    let yes = v1::RecordConsentRequest {
        notice: shown.notice,
        notice_sha256: shown.texts[0].sha256.clone(),
        ..decision(&person, v1::ConsentEventKind::Give)
    };
    let refused = nodes[1].consents.record_consent(yes.clone()).await.unwrap_err();
    assert_eq!(fields_at_fault(&refused), ["birth_date"]);
    let birth_date = "2020-03-14".to_owned();
    let child = v1::RecordConsentRequest { birth_date, ..yes };
    let refused = nodes[1].consents.record_consent(child).await.unwrap_err();
    assert_eq!(reason(&refused), "GUARDIAN_REQUIRED");
    assert_eq!(reveal(&mut nodes[1], &person).await, Err("CONSENT_WITHDRAWN".to_owned()));
}
