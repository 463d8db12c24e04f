//! Many at once: erasures share the work, and nobody loses a value who was not erased.

use std::collections::HashMap;
use std::sync::Arc;

use lacuna::keys::recover::Report;
use lacuna::model::SubjectId;
use lacuna::proto::v1;
use lacuna::proto::v1::{ErasureState, FieldType};
use lacuna::store::key::PageId;

use crate::asks::{CARE, all_refused, erase, text, tokenize};
use crate::house::{House, field, on_both_stores, reason};

on_both_stores! {
    async fn a_hundred_erasures_that_arrive_together_share_one_advance_of_the_slot(house: House) {
        let mut house = house;
        let mut people = Vec::new();
        for number in 0..100 {
            people.push(house.one("", field(FieldType::Email, &format!("person.{number}@example.com"))).await);
        }
        let staying = house.somebody("Ada").await;
        let before = house.keys().await.epoch;
        // Nobody is recorded before all of them have arrived.
        let ids: Vec<SubjectId> = people.iter().map(|person| SubjectId::parse(&person.subject).unwrap()).collect();
        let vault = Arc::clone(&house.running().vault);
        let mut door = vault.custody().store().write().await.unwrap();
        door.lock_subjects(&ids).await.unwrap();
        let calls = people.iter().map(|person| {
            let (mut subjects, request) = (house.subjects.clone(), erase(&person.subject));
            tokio::spawn(async move { subjects.erase_subject(request).await.unwrap().into_inner().erasure.unwrap() })
        });
        let calls: Vec<_> = calls.collect();
        while vault.arriving() < people.len() {
            tokio::task::yield_now().await;
        }
        drop((door, vault));
        for call in calls {
            assert_eq!(call.await.unwrap().state(), ErasureState::Shredded);
        }
        assert_eq!(house.keys().await.epoch - before, 1);
        let tokens: Vec<_> = people.iter().map(|person| person.token.clone()).collect();
        assert_eq!(house.reveal(&tokens, CARE).await, all_refused(100, "SUBJECT_ERASED"));
        assert_eq!(house.reveal(&staying.tokens, CARE).await, staying.values());
    }

    async fn an_erasure_writes_a_few_small_key_rows_its_index_buckets_included(house: House) {
        let mut house = house;
        let mut people = Vec::new();
        for number in 0..30 {
            people.push(house.somebody(&format!("Person {number}")).await);
        }
        for person in &people {
            let before = key_rows(&house).await;
            house.erase(&person.subject).await;
            let after = key_rows(&house).await;
            let written: Vec<usize> = after.iter().filter(|(name, _)| !before.contains_key(*name)).map(|(_, size)| *size).collect();
            // Five for the person, and those of at most three buckets, which have their upper pages in common.
            assert!(written.len() <= 12, "{written:?}");
            assert!(written.iter().sum::<usize>() <= 20 * 1024, "{written:?}");
        }
    }

    async fn in_a_storm_no_live_value_is_lost_and_no_erased_one_is_readable(house: House) {
        let mut house = house;
        let mut people = Vec::new();
        for number in 0..24 {
            people.push(house.one("", field(FieldType::Email, &format!("person.{number}@example.com"))).await);
        }
        // Two write for each person, one of two persons is erased meanwhile, and somebody reads all of them.
        let writers: Vec<_> = (0..48)
            .map(|number| {
                let (mut tokens, subject) = (house.tokens.clone(), people[number % 24].subject.clone());
                tokio::spawn(async move {
                    let mut kept = Vec::new();
                    for round in 0..6 {
                        let value = format!("{number} in round {round}");
                        match tokens.tokenize(tokenize(&subject, vec![text(&value)])).await {
                            Ok(response) => kept.push((response.into_inner().tokens[0].token.clone(), value)),
                            Err(refused) => {
                                assert!(
                                    matches!(reason(&refused).as_str(), "ERASURE_PENDING" | "SUBJECT_ERASED"),
                                    "{refused:?}"
                                );
                            }
                        }
                    }
                    (number % 24, kept)
                })
            })
            .collect();
        let erasers: Vec<_> = people
            .iter()
            .step_by(2)
            .map(|person| {
                let (mut subjects, request) = (house.subjects.clone(), erase(&person.subject));
                tokio::spawn(
                    async move { subjects.erase_subject(request).await.unwrap().into_inner().erasure.unwrap() },
                )
            })
            .collect();
        for eraser in erasers {
            assert_eq!(eraser.await.unwrap().state(), ErasureState::Shredded);
        }
        let (mut live, mut live_values, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for writer in writers {
            let (person, kept) = writer.await.unwrap();
            for (token, value) in kept {
                if person % 2 == 0 {
                    gone.push(token);
                } else {
                    live.push(token);
                    live_values.push(Ok(value));
                }
            }
        }
        assert_eq!(live.len(), 24 * 6, "whoever is not erased is always served");
        assert_eq!(house.reveal(&live, CARE).await, live_values);
        gone.extend(people.iter().step_by(2).map(|person| person.token.clone()));
        assert_eq!(house.reveal(&gone, CARE).await, all_refused(gone.len(), "SUBJECT_ERASED"));
        for (number, person) in people.iter().enumerate() {
            let found = house.find(FieldType::Email, &format!("person.{number}@example.com")).await;
            assert_eq!(found.contains(&person.token), number % 2 == 1, "person {number}");
        }
        let mut tx = house.running().vault.custody().store().read().await.unwrap();
        for facts in tx.scan_tokens(None, 1000).await.unwrap() {
            let erased = facts.state == lacuna::model::SubjectState::Shredded;
            assert_eq!(facts.token.sealed.is_none(), erased, "a ciphertext is there exactly if its person is");
        }
        assert_eq!(crate::audit::chains(&mut *tx).await.faults, []);
    }

    async fn restarting_after_a_storm_finds_everything_in_its_place(house: House) {
        let mut house = house;
        let mut people = Vec::new();
        for number in 0..20 {
            people.push(house.somebody(&format!("Person {number}")).await);
        }
        let calls: Vec<_> = people
            .iter()
            .step_by(2)
            .map(|person| {
                let (mut subjects, request) = (house.subjects.clone(), erase(&person.subject));
                tokio::spawn(async move { subjects.erase_subject(request).await.unwrap() })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        house.reopen().await;
        let report = house.running().report.clone();
        assert_eq!(report.epoch_before, report.epoch);
        let nothing = Report { epoch_before: report.epoch, epoch: report.epoch, ..Report::default() };
        assert_eq!(report, nothing, "nothing was left to do");
        for (number, person) in people.iter().enumerate() {
            let expected = if number % 2 == 0 { all_refused(3, "SUBJECT_ERASED") } else { person.values() };
            assert_eq!(house.reveal(&person.tokens, CARE).await, expected);
            let found = house.find(FieldType::Email, &person.email).await;
            assert_eq!(found.len(), number % 2);
        }
        let request = v1::ListErasuresRequest::default();
        assert_eq!(house.subjects.list_erasures(request).await.unwrap().into_inner().erasures.len(), 10);
    }
}

/// The pages of the key tree in the database, each with its size.
async fn key_rows(house: &House) -> HashMap<PageId, usize> {
    let pages = house.running().vault.custody().store().read().await.unwrap().key_pages().await.unwrap();
    pages.into_iter().map(|page| (page.id, page.blob.len())).collect()
}
