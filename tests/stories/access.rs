//! Who may: callers who are disabled, and what policies come to for one question and for one person.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use lacuna::cli::serve::Running;
use lacuna::config::{Authorization, Caller};
use lacuna::model::Clock;
use lacuna::proto::v1;
use lacuna::proto::v1::FieldType;
use lacuna::proto::v1::access_service_client::AccessServiceClient;
use lacuna::proto::v1::consent_service_client::ConsentServiceClient;
use tonic::{Code, Status};

use crate::asks::{CARE, HOUR, detokenize, metadata};
use crate::doors::{Rpc, call, rpcs};
use crate::house::{Bearer, House, Link, channel, connect, fields_at_fault, on_both_stores, outcome, reason};
use crate::journal::{self, sink};
use crate::policies::{as_member, credential, entries, member, with_roles};
use crate::restore::Yesterday;

const MAIL: &str = "order_confirmation";

/// How long another node may take to learn of a change, on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn disabled(refused: &Status) {
    assert_eq!((refused.code(), reason(refused).as_str()), (Code::PermissionDenied, "CALLER_DISABLED"), "{refused:?}");
    assert_eq!(metadata(refused)["caller"], "mailer");
}

async fn officer(house: &House) -> AccessServiceClient<Link> {
    house.access_as("the-token-of-security-officer").await
}

async fn disable(house: &House, caller: &str) -> Result<v1::AccessCaller, Status> {
    let request = v1::DisableCallerRequest { caller: caller.to_owned(), reason: "INC-7".to_owned() };
    Ok(officer(house).await.disable_caller(request).await?.into_inner().caller.unwrap())
}

async fn enable(house: &House, caller: &str) -> v1::AccessCaller {
    let request = v1::EnableCallerRequest { caller: caller.to_owned(), reason: String::new() };
    officer(house).await.enable_caller(request).await.unwrap().into_inner().caller.unwrap()
}

async fn callers(house: &House) -> Vec<v1::AccessCaller> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListCallersRequest { page_size: 2, page_token };
        let mut page = officer(house).await.list_callers(request).await.unwrap().into_inner();
        all.append(&mut page.callers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

on_both_stores! {
    async fn a_disabled_caller_is_refused_everything_at_once_and_for_good(house: House) {
        let mut house = house;
        with_roles(&mut house, &["mailer", "security-officer"]).await;
        let ada = house.somebody("Ada").await;
        as_member(&mut house, "mailer").await;
        assert_eq!(house.reveal(&ada.tokens[..1], MAIL).await, ada.values()[..1]);
        let mut events = house.events_as("the-token-of-mailer").await;
        let mut stream = events.watch_events(v1::WatchEventsRequest::default()).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
        let done = disable(&house, "mailer").await.unwrap();
        assert!(done.disabled && done.changed_by == "security-officer" && done.reason == "INC-7", "{done:?}");
        disabled(&house.tokens.detokenize(detokenize(&ada.tokens[..1], MAIL)).await.unwrap_err());
        for Rpc { path, .. } in rpcs() {
            disabled(&call(&house, &path, Vec::new(), Some(&credential("mailer"))).await.unwrap_err());
        }
        // A stream that is open ends when there is something to tell.
        (house.tokens, house.subjects) = house.connect_as("the-token-of-owner").await;
        house.erase(&ada.subject).await;
        disabled(&stream.message().await.unwrap_err());
        // The restart forgets nothing.
        house.reopen().await;
        disabled(&house.connect_as("the-token-of-mailer").await.0.detokenize(detokenize(&ada.tokens, MAIL)).await.unwrap_err());
        assert!(!enable(&house, "mailer").await.disabled);
        as_member(&mut house, "mailer").await;
        assert_eq!(house.reveal(&ada.tokens[..1], MAIL).await, [Err("SUBJECT_ERASED".to_owned())]);
        let mut deeds: Vec<String> = entries(&house)
            .await
            .iter()
            .filter(|entry| entry["deed"] == "DisableCaller" || entry["deed"] == "EnableCaller")
            .filter(|entry| entry["caller"] == "security-officer")
            .map(|entry| entry["justification"].as_str().unwrap().to_owned())
            .collect();
        deeds.sort();
        assert_eq!(deeds, ["mailer", "mailer INC-7"]);
    }

    async fn a_disabled_caller_stays_out_of_a_restored_backup(house: House) {
        let mut house = house;
        with_roles(&mut house, &["mailer", "auditor", "security-officer"]).await;
        let ada = house.somebody("Ada").await;
        disable(&house, "auditor").await.unwrap();
        house.stop().await;
        let (yesterday, sink) = (Yesterday::of(&house), sink(&house));
        let known_yesterday = journal::entries(&sink);
        house.reopen().await;
        disable(&house, "mailer").await.unwrap();
        enable(&house, "auditor").await;
        house.stop().await;

        // Without the journal the old database lets them in: that is the attack.
        let aside = tempfile::tempdir().unwrap();
        let away: Vec<_> = journal::entries(&sink).into_iter().filter(|path| !known_yesterday.contains(path)).collect();
        assert!(!away.is_empty());
        for entry in &away {
            fs::rename(entry, aside.path().join(entry.file_name().unwrap())).unwrap();
        }
        yesterday.put_back(&house);
        house.reopen().await;
        as_member(&mut house, "mailer").await;
        assert_eq!(house.reveal(&ada.tokens[..1], MAIL).await, ada.values()[..1]);
        house.stop().await;

        for entry in &away {
            fs::rename(aside.path().join(entry.file_name().unwrap()), entry).unwrap();
        }
        yesterday.put_back(&house);
        // Once it has been told, and again from what it then knows by itself.
        for _ in 0..2 {
            house.reopen().await;
            as_member(&mut house, "mailer").await;
            disabled(&house.tokens.detokenize(detokenize(&ada.tokens[..1], MAIL)).await.unwrap_err());
            let who = callers(&house).await.into_iter().filter(|caller| caller.disabled);
            assert_eq!(who.map(|caller| (caller.caller, caller.reason)).collect::<Vec<_>>(), [("mailer".to_owned(), "INC-7".to_owned())]);
        }
        // Whoever lets them in from now on has the last word.
        enable(&house, "mailer").await;
        house.reopen().await;
        as_member(&mut house, "mailer").await;
        assert_eq!(house.reveal(&ada.tokens[..1], MAIL).await, ada.values()[..1]);
    }

    async fn a_clock_that_was_set_back_does_not_let_a_disabled_caller_in(house: House) {
        let mut house = house;
        with_roles(&mut house, &["mailer", "security-officer"]).await;
        let ada = house.somebody("Ada").await;
        disable(&house, "mailer").await.unwrap();
        enable(&house, "mailer").await;
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.clock.set_back(2 * HOUR);
        house.reopen().await;
        disable(&house, "mailer").await.unwrap();
        house.stop().await;
        // What the journal tells of the last word is younger than what the database knows, whatever the clock said.
        yesterday.put_back(&house);
        house.reopen().await;
        as_member(&mut house, "mailer").await;
        disabled(&house.tokens.detokenize(detokenize(&ada.tokens[..1], MAIL)).await.unwrap_err());
    }

    async fn nobody_disables_themselves_and_names_are_no_hiding_place_for_values(house: House) {
        let mut house = house;
        with_roles(&mut house, &["mailer", "security-officer"]).await;
        for bad in ["", "security-officer", "MARKED@example.com"] {
            let refused = disable(&house, bad).await.unwrap_err();
            assert_eq!((refused.code(), fields_at_fault(&refused)), (Code::InvalidArgument, vec!["caller".to_owned()]));
            assert!(!format!("{refused:?}").contains("MARKED"));
        }
        // One that is configured elsewhere, or will be.
        assert!(disable(&house, "spiffe://example.org/billing").await.unwrap().disabled);
        let known: Vec<(String, bool, bool)> = callers(&house)
            .await
            .into_iter()
            .map(|caller| (caller.caller, caller.configured, caller.disabled))
            .collect();
        let expected = [
            ("mailer", true, false),
            ("owner", true, false),
            ("security-officer", true, false),
            ("spiffe://example.org/billing", false, true),
        ];
        assert_eq!(known, expected.map(|(name, configured, disabled)| (name.to_owned(), configured, disabled)));
    }

    async fn an_authorisation_ends_with_its_last_day(house: House) {
        let mut house = house;
        with_roles(&mut house, &["security-officer"]).await;
        let authorization = Authorization {
            person: "Support, second line".to_owned(),
            granted_by: "Head of support".to_owned(),
            from: "2026-01-01".to_owned(),
            until: "2026-11-21".to_owned(),
            trained: "2026-01-05".to_owned(),
        };
        house.config.callers.push(Caller { authorization, ..member("mailer") });
        house.reopen().await;
        let ada = house.somebody("Ada").await;
        as_member(&mut house, "mailer").await;
        assert_eq!(house.reveal(&ada.tokens[..1], MAIL).await, ada.values()[..1]);
        let listed = callers(&house).await.into_iter().find(|caller| caller.caller == "mailer").unwrap();
        let said = listed.authorization.unwrap();
        assert_eq!((said.person.as_str(), said.until_date.as_str()), ("Support, second line", "2026-11-21"));
        let rights: BTreeSet<&str> = listed.actions.iter().map(String::as_str).collect();
        assert_eq!(rights, BTreeSet::from(["namePurpose", "reveal", "checkPermission", "readCatalogue", "watchEvents"]));
        house.clock.advance(HOUR * 12);
        disabled(&house.tokens.detokenize(detokenize(&ada.tokens[..1], MAIL)).await.unwrap_err());
    }

    async fn an_authorisation_begins_with_its_first_day(house: House) {
        let mut house = house;
        with_roles(&mut house, &["security-officer"]).await;
        let authorization = Authorization { from: "2026-11-22".to_owned(), ..Authorization::default() };
        house.config.callers.push(Caller { authorization, ..member("mailer") });
        house.reopen().await;
        let ada = house.somebody("Ada").await;
        as_member(&mut house, "mailer").await;
        disabled(&house.tokens.detokenize(detokenize(&ada.tokens[..1], MAIL)).await.unwrap_err());
        house.clock.advance(HOUR * 12);
        assert_eq!(house.reveal(&ada.tokens[..1], MAIL).await, ada.values()[..1]);
    }

    async fn who_is_refused_the_whole_value_is_listed_with_what_they_may_see(house: House) {
        let mut house = house;
        with_roles(&mut house, &["mailer", "auditor"]).await;
        let refusing = r#"forbid (principal in Lacuna::Group::"mailer", action == Lacuna::Action::"reveal", resource)
                          when { context.redaction == Lacuna::Redaction::"PLAIN_TEXT" };"#;
        std::fs::write(house.home().join("policies/no-plain-text.cedar"), refusing).unwrap();
        house.reopen().await;
        let ada = house.somebody("Ada").await;
        let mut door = house.access_as("the-token-of-auditor").await;
        let request = v1::ListWhoCanAccessRequest { subject: ada.subject.clone(), ..Default::default() };
        let told = door.list_who_can_access(request).await.unwrap().into_inner().entries;
        let shown: Vec<_> = told
            .iter()
            .filter(|entry| entry.caller == "mailer" && entry.purpose == MAIL)
            .map(|entry| (entry.r#type(), entry.redaction()))
            .collect();
        assert_eq!(shown, [(FieldType::PersonName, v1::Redaction::Masked), (FieldType::Email, v1::Redaction::Masked)]);
        as_member(&mut house, "mailer").await;
        let refused = house.reveal(&ada.tokens[..1], MAIL).await;
        assert_eq!(refused, [Err("NOT_PERMITTED".to_owned())]);
        let masked = v1::DetokenizeRequest {
            redaction: v1::Redaction::Masked.into(),
            ..detokenize(&ada.tokens[..1], MAIL)
        };
        let answer = house.tokens.detokenize(masked).await.unwrap().into_inner();
        assert!(outcome(&answer.results[0]).is_ok(), "as it is listed");
    }

    async fn who_may_see_a_person_is_told_with_the_policies_that_let_them(house: House) {
        let mut house = house;
        with_roles(&mut house, &["mailer", "contact-centre-agent", "analytics", "auditor"]).await;
        let ada = house.somebody("Ada").await;
        let mut door = house.access_as("the-token-of-auditor").await;
        let mut told = BTreeSet::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListWhoCanAccessRequest { subject: ada.subject.clone(), page_size: 2, page_token };
            let page = door.list_who_can_access(request).await.unwrap().into_inner();
            for entry in page.entries.into_iter().filter(|entry| entry.caller != "owner") {
                let kind = entry.r#type().as_str_name().trim_start_matches("FIELD_TYPE_").to_owned();
                let redaction = entry.redaction().as_str_name().trim_start_matches("REDACTION_").to_owned();
                told.insert((entry.caller, entry.purpose, kind, redaction, entry.refusal, entry.policies.join(", ")));
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let mail = "mailer: sees whom to write to";
        let masks = "agent: sees masks";
        let expected = [
            ("contact-centre-agent", CARE, "EMAIL", "MASKED", "", masks),
            ("contact-centre-agent", CARE, "PERSON_NAME", "MASKED", "", masks),
            ("contact-centre-agent", CARE, "PHONE", "MASKED", "", masks),
            ("mailer", "marketing.email", "EMAIL", "PLAIN_TEXT", "NO_CONSENT", mail),
            ("mailer", "marketing.email", "PERSON_NAME", "PLAIN_TEXT", "NO_CONSENT", mail),
            ("mailer", MAIL, "EMAIL", "PLAIN_TEXT", "", mail),
            ("mailer", MAIL, "PERSON_NAME", "PLAIN_TEXT", "", mail),
        ];
        let owned = |(a, b, c, d, e, f): (&str, &str, &str, &str, &str, &str)| {
            (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned(), e.to_owned(), f.to_owned())
        };
        assert_eq!(told, expected.into_iter().map(owned).collect());
    }

    async fn a_simulation_answers_as_the_vault_would_and_names_the_policy(house: House) {
        let mut house = house;
        with_roles(&mut house, &["mailer", "contact-centre-agent", "security-officer"]).await;
        let ada = house.somebody("Ada").await;
        let mut door = officer(&house).await;
        let ask = |caller: &str, action: &str, purpose: &str, kind: FieldType| v1::SimulateAccessRequest {
            caller: caller.to_owned(),
            action: action.to_owned(),
            purpose: purpose.to_owned(),
            r#type: kind.into(),
            ..Default::default()
        };
        let mut simulate = async |request: v1::SimulateAccessRequest| {
            let answer = door.simulate_access(request).await.unwrap().into_inner();
            let redaction = answer.redaction().as_str_name().to_owned();
            let policies: Vec<String> = answer.policies.iter().map(|made| made.policy.clone()).collect();
            (answer.refusal, redaction, policies.join(", "))
        };
        let said = |refusal: &str, redaction: &str, policies: &str| {
            (refusal.to_owned(), format!("REDACTION_{redaction}"), policies.to_owned())
        };
        let mail = "mailer: sees whom to write to";
        assert_eq!(simulate(ask("mailer", "reveal", MAIL, FieldType::Email)).await, said("", "PLAIN_TEXT", mail));
        assert_eq!(simulate(ask("mailer", "reveal", MAIL, FieldType::Phone)).await, said("NOT_PERMITTED", "PLAIN_TEXT", ""));
        assert_eq!(simulate(ask("mailer", "reveal", CARE, FieldType::Email)).await.0, "PURPOSE_NOT_GRANTED");
        let agent = "contact-centre-agent";
        let four = "agent: sees masks, agent: numbers end in four digits";
        assert_eq!(simulate(ask(agent, "reveal", CARE, FieldType::Iban)).await, said("", "LAST_FOUR", four));
        assert_eq!(simulate(ask(agent, "erase", "", FieldType::Unspecified)).await.0, "NOT_PERMITTED");
        // As if somebody whom the configuration does not know were in a group.
        let guest = v1::SimulateAccessRequest { groups: vec!["mailer".to_owned()], ..ask("guest", "reveal", MAIL, FieldType::Email) };
        assert_eq!(simulate(guest).await.0, "");
        disable(&house, "mailer").await.unwrap();
        assert_eq!(simulate(ask("mailer", "reveal", MAIL, FieldType::Email)).await.0, "CALLER_DISABLED");
        for (bad, field) in [
            (ask("", "reveal", MAIL, FieldType::Email), "caller"),
            (ask("mailer", "revael", MAIL, FieldType::Email), "action"),
            (ask("mailer", "reveal", "", FieldType::Email), "purpose"),
            (ask("mailer", "reveal", MAIL, FieldType::Unspecified), "type"),
        ] {
            assert_eq!(fields_at_fault(&door.simulate_access(bad).await.unwrap_err()), [field]);
        }
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values());
    }

    async fn the_register_of_authorised_persons_is_written_as_csv_and_as_json(house: House) {
        let mut house = house;
        assert!(house.shown(&["access", "callers"]).contains("development"));
        house.told(&["access", "disable", "billing", "--reason", "INC-7"]);
        let csv = house.shown(&["access", "register"]);
        let lines: Vec<&str> = csv.lines().collect();
        assert!(lines[0].starts_with("caller,person,groups,rights,purposes,granted_by,from,until,trained,removed"));
        assert!(lines[1].starts_with("billing,,,,any,,,,,2026-11-21T12:00:00") && lines[1].ends_with(",development,INC-7"), "{csv}");
        assert!(lines[2].starts_with("development,,,namePurpose reveal find"), "{csv}");
        let json: serde_json::Value = serde_json::from_str(&house.shown(&["access", "register", "--format", "json"])).unwrap();
        assert_eq!(json["authorised_persons"][0]["caller"], "billing");
        assert_eq!(json["authorised_persons"][0]["disabled"], true);
        assert!(house.shown(&["access", "enable", "billing"]).contains("billing is enabled"));
        let ada = house.somebody("Ada").await;
        assert_eq!(house.told(&["access", "who", &ada.subject])["entries"][0]["caller"], "development");
        let simulated = house.shown(&["access", "simulate", "development", "reveal", "--purpose", CARE, "--type", "email"]);
        assert!(simulated.contains("built-in: everything"), "{simulated}");
        assert!(house.shown(&["access", "schema"]).contains("namespace Lacuna"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_disabled_on_one_node_is_refused_by_the_others() {
    let Some(mut house) = House::on_postgres().await else { return };
    with_roles(&mut house, &["mailer", "security-officer"]).await;
    let ada = house.somebody("Ada").await;
    let other = Running::start(&house.config, Arc::clone(&house.clock) as Arc<dyn Clock>).await.unwrap();
    for round in 0..5 {
        let (mut tokens, _) = connect(&other, "the-token-of-mailer".to_owned()).await;
        tokens.detokenize(detokenize(&ada.tokens[..1], MAIL)).await.unwrap();
        disable(&house, "mailer").await.unwrap();
        // The next reveal, not one second later.
        disabled(&tokens.detokenize(detokenize(&ada.tokens[..1], MAIL)).await.unwrap_err());
        enable(&house, "mailer").await;
        let again = async { while tokens.detokenize(detokenize(&ada.tokens[..1], MAIL)).await.is_err() {} };
        tokio::time::timeout(PATIENCE, again).await.unwrap_or_else(|_| panic!("round {round}"));
    }
    // What asks the database for no facts of a reveal learns of it by looking.
    let bearer = Bearer("the-token-of-mailer".to_owned());
    let mut door = ConsentServiceClient::with_interceptor(channel(&other, None).await, bearer);
    disable(&house, "mailer").await.unwrap();
    let refused = async { while door.list_purposes(v1::ListPurposesRequest::default()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    other.stop().await.unwrap();
}
