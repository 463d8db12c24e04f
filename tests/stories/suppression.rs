//! The suppression list: an objection to direct marketing outlives the person's data, and whoever comes back under the
//! same address or number is heeded.

use lacuna::config::Caller;
use lacuna::proto::v1;
use lacuna::proto::v1::tokenize_stream_response::Outcome;
use tokio_stream::StreamExt as _;

use crate::asks::{CARE, correct, tokenize};
use crate::consents::{DAY, FORM, NEWS, OFFERS, Office, allowed, denied};
use crate::events::all;
use crate::house::{House, Link, Somebody, field, fields_at_fault, on_both_stores, reason};
use crate::restore::Yesterday;
use crate::rotating::ended;

use lacuna::proto::v1::FieldType::{Email, Phone};
use lacuna::proto::v1::key_service_client::KeyServiceClient;

impl Office {
    async fn object(&mut self, subject: &str) {
        let object = v1::RecordConsentRequest {
            subject: subject.to_owned(),
            purpose: NEWS.to_owned(),
            kind: v1::ConsentEventKind::Object.into(),
            ..Default::default()
        };
        self.record(object).await.unwrap();
    }

    /// Keeps one value of a bought list for somebody new. Answers who, and whether the row is flagged.
    async fn bought(&mut self, kind: v1::FieldType, value: &str) -> (String, bool) {
        let source = "import:bought-2026".to_owned();
        let row = v1::TokenizeRequest { source, ..tokenize("", vec![field(kind, value)]) };
        let response = self.house.tokens.tokenize(row).await.unwrap().into_inner();
        (response.subject, response.suppressed)
    }

    async fn is_flagged(&mut self, kind: v1::FieldType, value: &str) -> bool {
        let (subject, flagged) = self.bought(kind, value).await;
        let refused = self.answer(&subject, OFFERS).await == denied("SUPPRESSED");
        assert_eq!(refused, flagged, "what is flagged is refused, and nothing else");
        assert_eq!(self.answer(&subject, CARE).await, allowed(), "whatever else the person is served for");
        flagged
    }

    async fn come_back(&mut self, yesterday: &Yesterday) {
        self.house.stop().await;
        yesterday.put_back(&self.house);
        self.house.reopen().await;
        self.door = self.house.consents().await;
    }
}

fn taken_back(subject: &str) -> v1::RecordConsentRequest {
    v1::RecordConsentRequest {
        subject: subject.to_owned(),
        purpose: NEWS.to_owned(),
        kind: v1::ConsentEventKind::WithdrawObjection.into(),
        method: v1::ConsentMethod::Form.into(),
        affirmative_action: "ticked \"write to me again\"".to_owned(),
        collection_point: FORM.to_owned(),
        ..Default::default()
    }
}

/// Every entry of the audit, read past the vault.
async fn audit(house: &House) -> Vec<serde_json::Value> {
    let mut tx = house.running().vault.custody().store().read().await.unwrap();
    let batches = tx.list_audit_batches(None, 10_000).await.unwrap();
    batches.iter().flat_map(|batch| batch.body.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// In how many entries a value was found on the list.
async fn traces(house: &House) -> usize {
    let found = |entry: &serde_json::Value| {
        entry["touched"].as_array().is_some_and(|all| all.iter().any(|one| one["outcome"] == "SUPPRESSED"))
    };
    audit(house).await.iter().filter(|entry| found(entry)).count()
}

async fn rotate_keys(keys: &mut KeyServiceClient<Link>) {
    let root = keys.rotate_root(v1::RotateRootRequest::default()).await.unwrap().into_inner().rotation;
    ended(keys, root).await;
    let index = keys.rotate_index_key(v1::RotateIndexKeyRequest::default()).await.unwrap().into_inner().rotation;
    ended(keys, index).await;
}

async fn objector(office: &mut Office, name: &str) -> Somebody {
    let person = office.house.somebody(name).await;
    office.say(&person.subject, OFFERS, v1::ConsentEventKind::Give).await;
    office.object(&person.subject).await;
    person
}

on_both_stores! {
    async fn who_objected_and_was_erased_is_recognised_on_a_bought_list(house: House) {
        let mut office = Office::open(house).await;
        let bob = office.house.somebody("Bob").await;
        assert!(!office.is_flagged(Email, "ada@example.com").await, "the list is empty");
        let ada = objector(&mut office, "Ada").await;
        let kept = |erasure: v1::Erasure| {
            let items = erasure.plan.into_iter().filter(|item| item.element == "suppression");
            items.map(|item| (item.verdict, item.count)).collect::<Vec<_>>()
        };
        assert_eq!(kept(office.house.erase(&ada.subject).await), [("KEEP_DIGEST".to_owned(), 2)], "the receipt says so");
        assert_eq!(kept(office.house.erase(&bob.subject).await), []);
        assert_eq!(office.house.find(Email, &ada.email).await.len(), 1, "the index forgets her; the first list stays");
        assert!(office.is_flagged(Email, " ADA@Example.com").await, "however it is written");
        assert!(office.is_flagged(Phone, &ada.phone.replace("+49", "0049 ")).await);
        assert!(!office.is_flagged(Email, &bob.email).await, "he never objected");
        assert!(!office.is_flagged(Email, "eve@example.com").await);

        let rows = [&ada.email, &bob.email].map(|email| tokenize("", vec![field(Email, email)]));
        let answers = office.house.tokens.tokenize_stream(tokio_stream::iter(rows)).await.unwrap().into_inner();
        let flags: Vec<bool> = answers
            .map(|answer| match answer.unwrap().outcome.unwrap() {
                Outcome::Response(response) => response.suppressed,
                Outcome::Error(error) => panic!("{error:?}"),
            })
            .collect()
            .await;
        assert_eq!(flags, [true, false]);
        let yes = office.house.somebody("Ada").await;
        let refused = office.yes(&yes.subject, NEWS).await;
        assert_eq!(reason(&office.record(refused).await.unwrap_err()), "SUPPRESSED", "not even asked");
    }

    async fn who_is_given_a_suppressed_value_is_suppressed_at_once_with_all_they_have(house: House) {
        let mut office = Office::open(house).await;
        let ada = objector(&mut office, "Ada").await;
        let [bob, eve] = [office.house.somebody("Bob").await, office.house.somebody("Eve").await];
        for person in [&bob, &eve] {
            office.say(&person.subject, NEWS, v1::ConsentEventKind::Give).await;
            assert_eq!(office.reveal(person, NEWS).await, Ok(person.email.clone()));
        }
        let etag = office.house.subject(&bob.subject).await.etag;
        let added = tokenize(&bob.subject, vec![field(Phone, &ada.phone)]);
        assert!(office.house.tokens.tokenize(added).await.unwrap().into_inner().suppressed);
        assert_eq!(office.reveal(&bob, NEWS).await, Err("SUPPRESSED".to_owned()));
        assert_eq!(office.house.subject(&bob.subject).await.etag, etag, "the etag tells nothing of it");
        let updated = office.house.tokens.update_token(correct(&eve.tokens[0], &ada.email)).await.unwrap();
        assert!(updated.into_inner().suppressed);
        assert_eq!(office.answer(&eve.subject, NEWS).await, denied("SUPPRESSED"));
        assert!(office.is_flagged(Email, &bob.email).await, "what he had before");
        assert!(office.is_flagged(Phone, &eve.phone).await);
        let later = tokenize(&bob.subject, vec![field(Email, "bob@work.example.com")]);
        assert!(office.house.tokens.tokenize(later).await.unwrap().into_inner().suppressed);
        assert!(office.is_flagged(Email, "bob@work.example.com").await, "and what he was given afterwards");
        let corrected = office.house.tokens.update_token(correct(&ada.tokens[0], "ada@new.example.com")).await.unwrap();
        assert!(corrected.into_inner().suppressed);
        for email in ["ada@new.example.com", &ada.email] {
            assert!(office.is_flagged(Email, email).await, "the new address and the old one");
        }
        // The same request is answered alike.
        let once = v1::TokenizeRequest {
            request_id: crate::asks::request_id(1),
            ..tokenize("", vec![field(Email, &bob.email)])
        };
        let first = office.house.tokens.tokenize(once.clone()).await.unwrap().into_inner();
        assert!(first.suppressed);
        assert_eq!(office.house.tokens.tokenize(once).await.unwrap().into_inner(), first);
    }

    async fn only_a_clear_act_of_the_person_takes_their_identifiers_off_the_list(house: House) {
        let mut office = Office::open(house).await;
        let ada = objector(&mut office, "Ada").await;
        office.house.erase(&ada.subject).await;
        let again = office.house.somebody("Ada").await;
        assert_eq!(office.answer(&again.subject, NEWS).await, denied("SUPPRESSED"));
        office.define_point("import:old", v1::CollectionPointKind::Import).await;
        let good = taken_back(&again.subject);
        let ticked = v1::RecordConsentRequest { method: v1::ConsentMethod::PreTicked.into(), ..good.clone() };
        let silent = v1::RecordConsentRequest {
            method: v1::ConsentMethod::Silence.into(),
            collection_point: "import:old".to_owned(),
            ..good.clone()
        };
        for refused in [ticked, silent] {
            assert_eq!(reason(&office.record(refused).await.unwrap_err()), "INVALID_METHOD");
        }
        for (refused, at) in [
            (v1::RecordConsentRequest { method: 0, ..good.clone() }, "method"),
            (v1::RecordConsentRequest { affirmative_action: String::new(), ..good.clone() }, "affirmative_action"),
            (v1::RecordConsentRequest { collection_point: String::new(), ..good.clone() }, "collection_point"),
            (v1::RecordConsentRequest { actor: v1::ConsentActor::Controller.into(), ..good.clone() }, "actor"),
        ] {
            assert_eq!(fields_at_fault(&office.record(refused).await.unwrap_err()), [at]);
        }
        // What they said before they objected takes nothing back.
        let now = office.house.in_time(std::time::Duration::ZERO);
        let before = v1::RecordConsentRequest {
            collection_point: "import:old".to_owned(),
            effective_time: Some(prost_types::Timestamp { seconds: now.seconds - 86_400, ..now }),
            ..good.clone()
        };
        office.record(before).await.unwrap();
        assert_eq!(office.answer(&again.subject, NEWS).await, denied("SUPPRESSED"));
        assert!(office.is_flagged(Phone, &ada.phone).await);

        office.house.clock.advance(DAY);
        office.record(good).await.unwrap();
        assert_eq!(office.answer(&again.subject, NEWS).await, denied("NO_CONSENT"), "and is asked anew");
        office.say(&again.subject, NEWS, v1::ConsentEventKind::Give).await;
        assert_eq!(office.reveal(&again, NEWS).await, Ok(ada.email.clone()));
        assert!(!office.is_flagged(Email, &ada.email).await);
        assert!(!office.is_flagged(Phone, &ada.phone).await);
    }

    async fn who_objected_again_is_not_released_by_what_they_said_in_between(house: House) {
        let mut office = Office::open(house).await;
        office.define_point("paper:desk", v1::CollectionPointKind::Paper).await;
        let ada = objector(&mut office, "Ada").await;
        let between = office.house.in_time(5 * DAY);
        office.house.clock.advance(8 * DAY);
        // To another purpose of the same kind: an objection is to all direct marketing.
        let again = v1::RecordConsentRequest {
            subject: ada.subject.clone(),
            purpose: OFFERS.to_owned(),
            kind: v1::ConsentEventKind::Object.into(),
            ..Default::default()
        };
        office.record(again).await.unwrap();
        office.house.clock.advance(2 * DAY);
        let late = v1::RecordConsentRequest {
            collection_point: "paper:desk".to_owned(),
            effective_time: Some(between),
            ..taken_back(&ada.subject)
        };
        office.record(late).await.unwrap();
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("SUPPRESSED"));
        assert!(office.is_flagged(Email, &ada.email).await, "nor are their identifiers");
        assert!(office.is_flagged(Phone, &ada.phone).await);
        office.record(taken_back(&ada.subject)).await.unwrap();
        assert!(!office.is_flagged(Email, &ada.email).await, "what they say now counts");
    }

    async fn the_list_holds_under_new_keys_and_on_a_restored_backup(house: House) {
        let mut office = Office::open(house).await;
        let [ada, bob] = [objector(&mut office, "Ada").await, objector(&mut office, "Bob").await];
        let [cyd, dan] = [office.house.somebody("Cyd").await, office.house.somebody("Dan").await];
        // An entry that got lost, as by somebody else who shared the number and took their objection back.
        let mut tx = office.house.running().vault.custody().store().write().await.unwrap();
        let ring = &office.house.running().vault.custody().ring;
        let value = lacuna::model::Value::parse(
            lacuna::model::FieldType::Phone,
            lacuna::model::Content::Text(bob.phone.clone().into()),
        );
        tx.release(&[ring.suppression_name(&value.unwrap()).unwrap().unwrap()]).await.unwrap();
        tx.commit().await.unwrap();
        assert!(!office.is_flagged(Phone, &bob.phone).await);
        rotate_keys(&mut office.house.key_service().await).await;
        office.house.stop().await;
        let yesterday = Yesterday::of(&office.house);
        office.house.reopen().await;
        office.door = office.house.consents().await;
        for person in [&ada, &bob] {
            office.house.erase(&person.subject).await;
        }
        assert!(office.is_flagged(Phone, &bob.phone).await, "an erasure writes down once more what was objected to");
        rotate_keys(&mut office.house.key_service().await).await;
        assert!(office.is_flagged(Email, &ada.email).await);
        // What yesterday's copy cannot know: an objection of today, of somebody who is erased today; and who was recognised.
        office.object(&cyd.subject).await;
        office.house.erase(&cyd.subject).await;
        let added = tokenize(&dan.subject, vec![field(Phone, &cyd.phone)]);
        assert!(office.house.tokens.tokenize(added).await.unwrap().into_inner().suppressed);
        office.come_back(&yesterday).await;
        for (kind, value) in [(Email, &cyd.email), (Phone, &cyd.phone), (Email, &dan.email)] {
            assert!(office.is_flagged(kind, value).await, "the journal knows of {value}");
        }
        assert_eq!(office.answer(&dan.subject, NEWS).await, denied("SUPPRESSED"));
        assert_eq!(office.house.subject(&ada.subject).await.state(), v1::SubjectState::Shredded);
        assert!(office.is_flagged(Email, &ada.email).await, "the key is the same under every root");
        assert!(!office.is_flagged(Email, "eve@example.com").await);
    }

    async fn who_may_not_market_is_not_told_and_whoever_looks_leaves_a_trace(house: House) {
        let mut office = Office::open(house).await;
        let caller = |name: &str, purposes: Option<Vec<String>>| Caller {
            name: name.to_owned(),
            token: Some(format!("the-token-of-{name}").into()),
            purposes,
            ..Caller::default()
        };
        office.house.config.callers = vec![
            caller("everything", None),
            caller("orders", Some(vec!["order_confirmation".to_owned()])),
            caller("mailer", Some(vec![NEWS.to_owned()])),
        ];
        office.house.reopen().await;
        office.door = office.house.consents().await;
        let ada = objector(&mut office, "Ada").await;
        assert_eq!(traces(&office.house).await, 0);
        let (mut mailer, _) = office.house.connect_as("the-token-of-mailer").await;
        let (mut orders, mut subjects) = office.house.connect_as("the-token-of-orders").await;
        let ask = |value: &str| tokenize("", vec![field(Email, value)]);
        assert!(mailer.tokenize(ask(&ada.email)).await.unwrap().into_inner().suppressed);
        let known = orders.tokenize(ask(&ada.email)).await.unwrap().into_inner();
        let unknown = orders.tokenize(ask("eve@example.com")).await.unwrap().into_inner();
        assert!(!known.suppressed && !unknown.suppressed);
        assert_eq!(traces(&office.house).await, 2, "also of what was not told");
        // Nothing else that such a caller may ask tells the two apart.
        let mut seen = Vec::new();
        for subject in [&known.subject, &unknown.subject] {
            let request = v1::GetSubjectRequest { subject: subject.clone() };
            let told = subjects.get_subject(request).await.unwrap().into_inner().subject.unwrap();
            seen.push(v1::Subject { subject: String::new(), create_time: None, ..told });
        }
        assert_eq!(seen[0], seen[1]);
        let mut door = office.house.consents_as("the-token-of-orders").await;
        for subject in [&known.subject, &unknown.subject, &ada.subject] {
            let check = v1::CheckPermissionRequest { subject: subject.clone(), purpose: NEWS.to_owned(), ..Default::default() };
            assert_eq!(reason(&door.check_permission(check.clone()).await.unwrap_err()), "PURPOSE_NOT_GRANTED");
            let own = v1::CheckPermissionRequest { purpose: "order_confirmation".to_owned(), ..check.clone() };
            assert!(door.check_permission(own).await.unwrap().into_inner().permission.unwrap().allowed);
            let listed = door.list_consents(v1::ListConsentsRequest { subject: subject.clone() }).await.unwrap().into_inner();
            assert!(!listed.suppressed);
            let purposes: Vec<_> = listed.consents.iter().map(|consent| consent.purpose.as_str()).collect();
            assert_eq!(purposes, ["order_confirmation"]);
            let prove = v1::ProveConsentRequest { subject: subject.clone(), purpose: NEWS.to_owned(), ..Default::default() };
            assert_eq!(reason(&door.prove_consent(prove.clone()).await.unwrap_err()), "PURPOSE_NOT_GRANTED");
            let own = v1::ProveConsentRequest { purpose: "order_confirmation".to_owned(), ..prove };
            assert!(door.prove_consent(own).await.unwrap().into_inner().json.contains("\"suppress_time\":null"));
        }
        // Nor do the events, when somebody whom the vault has already is found on the list.
        let (tried, _) = office.house.tokenize("", vec![field(v1::FieldType::Text, "somebody to try it with")]).await;
        orders.tokenize(tokenize(&tried, vec![field(Email, &ada.email)])).await.unwrap();
        for (caller, told) in [("orders", false), ("mailer", true)] {
            let mut door = office.house.events_as(&format!("the-token-of-{caller}")).await;
            let about = |event: &v1::Event| event.subject == tried;
            let watched = all(&mut door).await;
            assert_eq!(watched.iter().any(|(event, _)| about(event)), told, "{caller}: {watched:?}");
            let request = v1::ListDeliveriesRequest { subject: tried.clone(), ..Default::default() };
            let listed = door.list_deliveries(request).await.unwrap().into_inner().deliveries;
            assert_eq!(!listed.is_empty(), told, "{caller}: {listed:?}");
            // Nor does a page that is shorter than it might be, or one after the last.
            let request = v1::ListDeliveriesRequest { subject: tried.clone(), page_size: 1, ..Default::default() };
            let page = door.list_deliveries(request).await.unwrap().into_inner();
            assert_eq!((page.deliveries.len(), page.next_page_token.as_str()), (listed.len().min(1), ""));
        }
        // Whom it concerns is told, whoever kept the value.
        assert_eq!(office.answer(&known.subject, NEWS).await, denied("SUPPRESSED"));
        assert_eq!(office.answer(&unknown.subject, NEWS).await, denied("NO_CONSENT"));
    }
}
