//! Policies: who is permitted what, how much they are shown, and what happens when the files change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lacuna::config::Caller;
use lacuna::policy::Action;
use lacuna::proto::v1;
use lacuna::proto::v1::FieldType;
use lacuna::proto::v1::token_service_client::TokenServiceClient;
use serde_json::Value;
use tonic::{Code, Status};

use crate::asks::{CARE, all_refused, correct, detokenize, metadata, refusal, text, tokenize};
use crate::doors::{Rpc, call, rpcs};
use crate::house::{House, Link, Somebody, field, on_both_stores, outcome, reason};

/// The policies for the usual roles, as they are published.
pub fn roles() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/roles")
}

/// A caller in one group of its own name.
pub fn member(group: &str) -> Caller {
    let token = Some(format!("the-token-of-{group}").into());
    Caller { name: group.to_owned(), token, groups: vec![group.to_owned()], ..Caller::default() }
}

/// The credential of [`member`].
pub fn credential(group: &str) -> String {
    format!("Bearer the-token-of-{group}")
}

/// Whoever may do everything, which the usual roles do not know.
const OWNER: &str = r#"permit (principal in Lacuna::Group::"owner", action, resource);"#;

/// A directory with the published roles and an owner's policy.
pub fn directory(house: &House) -> PathBuf {
    let directory = house.home().join("policies");
    fs::create_dir_all(&directory).unwrap();
    for entry in fs::read_dir(roles()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, directory.join(path.file_name().unwrap())).unwrap();
    }
    fs::write(directory.join("owner.cedar"), OWNER).unwrap();
    directory
}

/// Opens the house again with the published roles, and a member of each of these groups. The first caller is the owner.
pub async fn with_roles(house: &mut House, groups: &[&str]) {
    house.config.callers = ["owner"].iter().chain(groups).map(|group| member(group)).collect();
    house.config.policy.directory = Some(directory(house));
    house.reopen().await;
}

/// The entries of the audit log, oldest first.
pub async fn entries(house: &House) -> Vec<Value> {
    let mut tx = house.running().vault.custody().store().read().await.unwrap();
    let batches = tx.list_audit_batches(None, 10_000).await.unwrap();
    batches.iter().flat_map(|batch| batch.body.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What was recorded of loaded policies: whether each was refused.
async fn loads(house: &House) -> Vec<bool> {
    let loads = entries(house).await.into_iter().filter(|entry| entry["deed"] == "LoadPolicies");
    loads.map(|entry| entry.get("refused").is_some()).collect()
}

pub async fn as_member(house: &mut House, group: &str) {
    (house.tokens, house.subjects) = house.connect_as(&format!("the-token-of-{group}")).await;
}

fn not_permitted(refused: &Status, caller: &str, action: &str) {
    assert_eq!((refused.code(), reason(refused).as_str()), (Code::PermissionDenied, "NOT_PERMITTED"), "{refused:?}");
    let said = metadata(refused);
    assert_eq!((said["caller"].as_str(), said["action"].as_str()), (caller, action));
}

async fn ask(house: &mut House, ask: v1::DetokenizeRequest) -> v1::DetokenizeResponse {
    house.tokens.detokenize(ask).await.unwrap().into_inner()
}

const UNKNOWN: &str = "tok_aaaaaaaaaaaaaaaaaaaaaaaaaa";

on_both_stores! {
    async fn whoever_no_policy_permits_anything_may_call_nothing(house: House) {
        let mut house = house;
        with_roles(&mut house, &["nobody"]).await;
        let ada = house.somebody("Ada").await;
        let before = house.everything().await;
        let rpcs = rpcs();
        for Rpc { path, .. } in &rpcs {
            let refused = call(&house, path, Vec::new(), Some(&credential("nobody"))).await.unwrap_err();
            let action = Action::of(path.rsplit('/').next().unwrap()).unwrap();
            not_permitted(&refused, "nobody", action.name());
        }
        assert_eq!(house.everything().await, before);
        let denials: Vec<String> = entries(&house)
            .await
            .iter()
            .filter(|entry| entry["caller"] == "nobody" && entry["refused"] == "NotPermitted")
            .map(|entry| entry["deed"].as_str().unwrap().to_owned())
            .collect();
        let asked: Vec<&str> = rpcs.iter().map(|rpc| rpc.path.rsplit('/').next().unwrap()).collect();
        assert_eq!(denials, asked, "each is on record");
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values(), "the owner may");
    }

    async fn who_may_not_search_for_a_value_is_not_told_by_deduplication_that_it_is_there(house: House) {
        let mut house = house;
        with_roles(&mut house, &["ordering-service"]).await;
        let id = field(FieldType::NationalId, "12 345 678");
        let mail = field(FieldType::Email, "ada@example.com");
        let (_, known) = house.tokenize("", vec![id.clone(), mail.clone()]).await;
        as_member(&mut house, "ordering-service").await;
        let same = |field: v1::FieldInput| v1::FieldInput { deduplicate: true, ..field };
        let asked = house.tokens.tokenize(tokenize("", vec![same(mail)])).await.unwrap().into_inner();
        assert_eq!(asked.tokens[0].token, known[1], "what it may search for, it is told");
        let refused = house.tokens.tokenize(tokenize("", vec![text("x"), same(id.clone())])).await.unwrap_err();
        not_permitted(&refused, "ordering-service", "tokenize");
        assert_eq!(metadata(&refused)["field"], "fields[1]");
        let fresh = house.tokens.tokenize(tokenize("", vec![id])).await.unwrap().into_inner();
        assert_ne!(fresh.tokens[0].token, known[0]);
    }

    async fn the_strongest_redaction_of_any_policy_that_applies_is_what_is_shown(house: House) {
        let mut house = house;
        with_roles(&mut house, &["contact-centre-agent", "supervisor"]).await;
        house.config.callers.push(Caller { groups: vec!["supervisor".to_owned(), "contact-centre-agent".to_owned()], ..member("both") });
        house.reopen().await;
        let fields = vec![
            field(FieldType::Email, "ada@example.com"),
            field(FieldType::Iban, "DE89370400440532013000"),
            field(FieldType::NationalId, "12 345 678"),
            text("note"),
        ];
        let (_, tokens) = house.tokenize("", fields).await;
        let plain = ["ada@example.com", "DE89370400440532013000", "12 345 678", "note"];
        let shown = async |house: &mut House, group: &str, redaction: v1::Redaction| {
            as_member(house, group).await;
            let ask = v1::DetokenizeRequest { redaction: redaction.into(), ..detokenize(&tokens, CARE) };
            let response = house.tokens.detokenize(ask).await.unwrap().into_inner();
            response.results.iter().map(|result| outcome(result).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(shown(&mut house, "owner", v1::Redaction::PlainText).await, plain);
        let masked = shown(&mut house, "owner", v1::Redaction::Masked).await;
        let four = shown(&mut house, "owner", v1::Redaction::LastFour).await;
        // Plain text was asked for; the answer goes as far as the policies let it.
        let agent = shown(&mut house, "contact-centre-agent", v1::Redaction::PlainText).await;
        assert_eq!(agent, [&*masked[0], &four[1], &four[2], &masked[3]]);
        assert_eq!(shown(&mut house, "contact-centre-agent", v1::Redaction::Redacted).await[0], "[redacted]");
        let supervisor = shown(&mut house, "supervisor", v1::Redaction::PlainText).await;
        assert_eq!(supervisor, [plain[0], plain[1], &masked[2], plain[3]]);
        // Whoever is both is shown what both may see.
        assert_eq!(shown(&mut house, "both", v1::Redaction::PlainText).await, agent);
        let entries = entries(&house).await;
        let of = |caller: &str| entries.iter().find(|entry| entry["caller"] == caller && entry["deed"] == "Detokenize");
        let agent = of("contact-centre-agent").unwrap();
        assert_eq!(agent["redaction"], "PLAIN_TEXT", "what was asked");
        let shown: Vec<_> = agent["touched"].as_array().unwrap().iter().map(|one| one["shown"].clone()).collect();
        assert_eq!(shown, ["MASKED", "LAST_FOUR", "LAST_FOUR", "MASKED"], "what was shown");
    }

    async fn what_a_caller_may_not_see_is_not_told_apart_from_what_does_not_exist(house: House) {
        let mut house = house;
        with_roles(&mut house, &["mailer"]).await;
        let ada = house.somebody("Ada").await;
        as_member(&mut house, "mailer").await;
        let tokens: Vec<String> = ada.tokens.iter().cloned().chain([UNKNOWN.to_owned()]).collect();
        let response = ask(&mut house, detokenize(&tokens, "order_confirmation")).await;
        let results: Vec<_> = response.results.iter().map(outcome).collect();
        let hidden = Err("NOT_PERMITTED".to_owned());
        assert_eq!(results, [Ok(ada.email.clone()), hidden.clone(), Ok(ada.name.clone()), hidden]);
        let (phone, unknown) = (&response.results[1], &response.results[3]);
        assert_eq!((phone.r#type, phone.subject.as_str()), (unknown.r#type, unknown.subject.as_str()));
        assert_eq!(refusal(phone).message(), refusal(unknown).message());
        assert_eq!(metadata(&refusal(phone)), metadata(&refusal(unknown)));
        // For a purpose that is not theirs the whole call is refused, whatever the tokens.
        let refused = house.tokens.detokenize(detokenize(&tokens, CARE)).await.unwrap_err();
        assert_eq!(reason(&refused), "PURPOSE_NOT_GRANTED");
        for token in [&ada.tokens[1], UNKNOWN] {
            not_permitted(&house.tokens.update_token(correct(token, "x")).await.unwrap_err(), "mailer", "update");
        }
        as_member(&mut house, "owner").await;
        assert_eq!(house.reveal(&[UNKNOWN.to_owned()], CARE).await, all_refused(1, "TOKEN_UNKNOWN"));
    }

    async fn each_right_to_values_is_decided_by_the_values_type(house: House) {
        let mut house = house;
        with_roles(&mut house, &["clerk"]).await;
        let only_phones = r#"
            permit (
              principal in Lacuna::Group::"clerk",
              action in [Lacuna::Action::"tokenize", Lacuna::Action::"update", Lacuna::Action::"delete", Lacuna::Action::"find"],
              resource
            ) when { resource.type == Lacuna::FieldType::"PHONE" };
            permit (principal in Lacuna::Group::"clerk", action == Lacuna::Action::"namePurpose", resource);
        "#;
        fs::write(house.home().join("policies/clerk.cedar"), only_phones).unwrap();
        house.reopen().await;
        let ada = house.somebody("Ada").await;
        as_member(&mut house, "clerk").await;
        let refused = house.tokens.tokenize(tokenize(&ada.subject, vec![field(FieldType::Phone, "+4930111"), text("x")]));
        let refused = refused.await.unwrap_err();
        not_permitted(&refused, "clerk", "tokenize");
        assert_eq!(metadata(&refused)["field"], "fields[1]");
        let (_, tokens) = house.tokenize(&ada.subject, vec![field(FieldType::Phone, "+4930111222")]).await;
        not_permitted(&house.tokens.update_token(correct(&ada.tokens[0], "b@example.com")).await.unwrap_err(), "clerk", "update");
        house.tokens.update_token(correct(&tokens[0], "+4930111333")).await.unwrap();
        let find = |kind: FieldType, value: &str| v1::FindTokensRequest { r#type: kind.into(), value: value.to_owned(), purpose: CARE.to_owned() };
        let found = house.tokens.find_tokens(find(FieldType::Phone, "+4930111333")).await.unwrap().into_inner();
        assert_eq!(found.tokens.len(), 1);
        not_permitted(&house.tokens.find_tokens(find(FieldType::Email, &ada.email)).await.unwrap_err(), "clerk", "find");
        let delete = |token: &str| v1::DeleteTokenRequest { token: token.to_owned(), ..Default::default() };
        not_permitted(&house.tokens.delete_token(delete(&ada.tokens[0])).await.unwrap_err(), "clerk", "delete");
        house.tokens.delete_token(delete(&tokens[0])).await.unwrap();
        as_member(&mut house, "owner").await;
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values());
    }

    async fn other_policies_come_into_force_without_a_restart_and_bad_ones_never(house: House) {
        let mut house = house;
        with_roles(&mut house, &["mailer"]).await;
        let ada = house.somebody("Ada").await;
        as_member(&mut house, "mailer").await;
        let purpose = "order_confirmation";
        let phone = std::slice::from_ref(&ada.tokens[1]);
        assert_eq!(house.reveal(phone, purpose).await, all_refused(1, "NOT_PERMITTED"));
        assert_eq!(loads(&house).await, [false]);
        // A type that does not exist.
        let mailer = house.home().join("policies/mailer.cedar");
        let good = fs::read_to_string(&mailer).unwrap();
        fs::write(&mailer, good.replace("\"PERSON_NAME\"", "\"PHONES\"")).unwrap();
        until(&house, 2).await;
        assert_eq!(loads(&house).await, [false, true]);
        assert_eq!(house.reveal(&ada.tokens[..1], purpose).await, ada.values()[..1]);
        assert_eq!(house.reveal(phone, purpose).await, all_refused(1, "NOT_PERMITTED"));
        fs::write(&mailer, good.replace("\"PERSON_NAME\"", "\"PHONE\"")).unwrap();
        until(&house, 3).await;
        assert_eq!(loads(&house).await, [false, true, false]);
        // They are on record before they decide anything.
        let begun = std::time::Instant::now();
        while house.reveal(phone, purpose).await != ada.values()[1..2] {
            assert!(begun.elapsed() < Duration::from_secs(20), "they never come into force");
        }
        assert_eq!(house.reveal(&ada.tokens[2..], purpose).await, all_refused(1, "NOT_PERMITTED"));
    }

    async fn policies_are_replaced_under_load_and_no_request_is_dropped(house: House) {
        let mut house = house;
        with_roles(&mut house, &["mailer"]).await;
        let ada = house.somebody("Ada").await;
        let file = house.home().join("policies/mailer.cedar");
        let good = fs::read_to_string(&file).unwrap();
        let stop = AtomicBool::new(false);
        let served: [AtomicUsize; 4] = Default::default();
        let count = || served.each_ref().map(|served| served.load(Ordering::Relaxed));
        let mailer = house.connect_as("the-token-of-mailer").await.0;
        let purpose = "order_confirmation";
        let replacing = async {
            let mut asked = mailer.clone();
            for round in 0..24 {
                let also = round % 2 == 0;
                if round % 3 == 2 {
                    fs::write(&file, "permit (principal, act").unwrap();
                    house.running().reload();
                    let before = count();
                    while count().iter().zip(before).any(|(now, before)| *now < before + 3) {
                        tokio::task::yield_now().await;
                    }
                }
                let types = if also { "\"PERSON_NAME\", Lacuna::FieldType::\"PHONE\"" } else { "\"PERSON_NAME\"" };
                let marked = format!("@id(\"round {round}\")\nforbid (principal == Lacuna::Caller::\"nobody\", action, resource);");
                fs::write(&file, format!("{}\n{marked}", good.replace("\"PERSON_NAME\"", types))).unwrap();
                house.running().reload();
                let name = format!("round {round}");
                let waiting = async {
                    while !in_force(&house, &name) {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("they do not come into force");
                let answer = asked.detokenize(detokenize(&ada.tokens[1..2], purpose)).await.unwrap().into_inner();
                assert_eq!(outcome(&answer.results[0]).is_ok(), also, "what is in force is what is asked in {name}");
                let before = count();
                while count().iter().zip(before).any(|(now, before)| *now < before + 2) {
                    tokio::task::yield_now().await;
                }
            }
            stop.store(true, Ordering::Relaxed);
        };
        let owner = house.connect_as("the-token-of-owner").await.0;
        let calling = [(&owner, CARE), (&mailer, purpose), (&owner, CARE), (&mailer, purpose)].into_iter().zip(&served);
        let calling = calling.map(|((tokens, purpose), served)| go_on_revealing(tokens.clone(), &ada, purpose, &stop, served));
        tokio::join!(replacing, futures_util::future::join_all(calling));
        println!("served while policies were replaced 24 times: {:?}", count());
    }

    async fn a_vault_does_not_start_by_policies_that_cannot_be_used(house: House) {
        let mut house = house;
        with_roles(&mut house, &[]).await;
        let bad = house.home().join("policies/zz-bad.cedar");
        for (text, line, about) in [
            ("permit (principal, action, resource)", 1, "unexpected end"),
            ("\n\npermit (principal, action == Lacuna::Action::\"revael\", resource);", 3, "revael"),
            ("\npermit (principal, action == Lacuna::Action::\"reveal\", resource)\nwhen { resource.typ == 1 };", 3, "typ"),
            ("permit (principal == ?principal, action, resource);", 1, "slot"),
            ("\n@redaction(\"SOME\")\npermit (principal, action, resource);", 2, "SOME"),
            ("@id(\"auditor: reads\")\npermit (principal, action, resource);", 1, "auditor: reads"),
        ] {
            fs::write(&bad, text).unwrap();
            let Err(refused) = house.try_reopen().await else { panic!("{text} was taken") };
            let refused = format!("{refused:#}");
            assert!(refused.contains(&format!("zz-bad.cedar:{line}: ")) && refused.contains(about), "{text}: {refused}");
        }
        fs::remove_file(bad).unwrap();
        house.reopen().await;
        house.config.policy.directory = Some(house.home().join("empty"));
        fs::create_dir(house.home().join("empty")).unwrap();
        assert!(format!("{:#}", house.try_reopen().await.unwrap_err()).contains("no file"));
    }

    async fn the_purposes_of_the_configuration_limit_whatever_the_policies_permit(house: House) {
        let mut house = house;
        house.config.callers =
            vec![member("owner"), Caller { purposes: Some(vec!["order_confirmation".to_owned()]), name: "limited".to_owned(), token: Some("the-token-of-limited".to_owned().into()), ..member("owner") }];
        house.config.policy.directory = Some(directory(&house));
        house.reopen().await;
        let ada = house.somebody("Ada").await;
        as_member(&mut house, "limited").await;
        assert_eq!(house.reveal(&ada.tokens, "order_confirmation").await, ada.values());
        let refused = house.tokens.detokenize(detokenize(&ada.tokens, CARE)).await.unwrap_err();
        assert_eq!(reason(&refused), "PURPOSE_NOT_GRANTED");
    }
}

/// Whether a policy of this name is in force.
fn in_force(house: &House, name: &str) -> bool {
    house.running().vault.authority().policies().iter().any(|policy| policy.name == name)
}

/// Reveals until it is told to stop, counting how often. The owner sees everything all the time; of others each value is
/// shown or refused, and the one that they may always see is shown.
async fn go_on_revealing(
    mut tokens: TokenServiceClient<Link>,
    ada: &Somebody,
    purpose: &str,
    stop: &AtomicBool,
    served: &AtomicUsize,
) {
    while !stop.load(Ordering::Relaxed) {
        let answer = tokens.detokenize(detokenize(&ada.tokens, purpose)).await.expect("a request that is dropped");
        let shown: Vec<_> = answer.into_inner().results.iter().map(outcome).collect();
        for (at, (shown, value)) in shown.iter().zip(ada.values()).enumerate() {
            let may_be_refused = at == 1 && purpose != CARE;
            let refused = may_be_refused && *shown == Err("NOT_PERMITTED".to_owned());
            assert!(refused || *shown == value, "{at} is {shown:?} after {served:?}");
        }
        served.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until so many loads of policies are on record.
async fn until(house: &House, count: usize) {
    let waiting = async {
        while loads(house).await.len() < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
}

#[test]
fn every_rpc_needs_a_right() {
    let mut names: Vec<String> = rpcs().iter().map(|rpc| rpc.path.rsplit('/').next().unwrap().to_owned()).collect();
    for name in &names {
        assert!(Action::of(name).is_some(), "{name} is in no right of src/policy/action.rs");
    }
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "rpcs are told apart by their names alone");
}
