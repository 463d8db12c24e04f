//! Runs that destroy what was kept long enough: one makes each, and it says that it is done when it is.

use std::time::Duration;

use lacuna::model::{Clock as _, RequestId, RetentionRun, RetentionRunId};
use lacuna::proto::v1;
use lacuna::store::node::Node;
use lacuna::store::request::Answer;

use crate::asks::request_id;
use crate::house::on_both_stores;

const DAY: Duration = Duration::from_hours(24);

on_both_stores! {
    async fn a_run_that_was_cut_off_goes_on_when_it_is_asked_for_again(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        house.keep_in("call.ops", &ada.subject, &["ada@example.org"]).await;
        let caller = house.try_run(false).await.unwrap().run.unwrap().start_caller;
        house.clock.advance(DAY * 200);
        // Somebody has asked a node for it that is gone.
        let vault = std::sync::Arc::clone(&house.running().vault);
        let run = RetentionRun::begin(RetentionRunId::from_bytes([1; 16]), &caller, house.clock.now());
        let mut tx = vault.custody().store().write().await.unwrap();
        assert!(tx.sweep_run(&run, &[7; 16]).await.unwrap());
        let answer = Answer {
            caller,
            id: RequestId::parse(&request_id(8)).unwrap(),
            deed: "RunRetention".to_owned(),
            subject: None,
            answer: run.id.to_string(),
            created_at: run.started_at,
        };
        tx.insert_answers(&[answer]).await.unwrap();
        tx.commit().await.unwrap();
        drop(vault);
        let confirm_time = Some(house.in_time(Duration::ZERO));
        let request = v1::RunRetentionRequest { confirm_time, request_id: request_id(8) };
        let door = house.retention().await;
        let (mut one, mut other) = (door.clone(), door.clone());
        let (one, other) = tokio::join!(one.run_retention(request.clone()), other.run_retention(request));
        let [one, other] = [one, other].map(|answer| answer.unwrap().into_inner().run.unwrap());
        assert_eq!((&one.run, one.state(), one.items.len()), (&run.id.to_string(), v1::RetentionRunState::Done, 1));
        assert_eq!(one, other, "and is one run, whoever asks at the same time");
        assert_eq!(house.runs().await.iter().filter(|run| !run.items.is_empty()).count(), 1);
    }

    async fn nobody_but_its_owner_writes_a_run_that_is_swept(house: House) {
        let vault = std::sync::Arc::clone(&house.running().vault);
        let mut tx = vault.custody().store().write().await.unwrap();
        let (ours, theirs) = ([7; 16], [8; 16]);
        let now = house.clock.now();
        let node = Node {
            id: ours,
            name: String::new(),
            process: String::new(),
            joined_at: now,
            renewals: 0,
            epoch: 0,
            landed: 0,
            seen_at: now,
        };
        tx.join_node(&node).await.unwrap();
        let mut run = RetentionRun::begin(RetentionRunId::from_bytes([1; 16]), "somebody", now);
        assert!(tx.sweep_run(&run, &ours).await.unwrap());
        run.add("call.ops", Some(lacuna::model::Cohort::of(now)), 1, 1);
        assert!(!tx.sweep_run(&run, &theirs).await.unwrap());
        assert!(!tx.adopt_run(run.id, &theirs).await.unwrap());
        assert!(!tx.close_run(run.id, &theirs).await.unwrap());
        assert_eq!(tx.left_run(&theirs).await.unwrap(), None);
        assert_eq!(tx.pending_runs().await.unwrap(), []);
        tx.settle_run(&RetentionRun { receipt: Some(vec![1]), ..run.clone() }).await.unwrap();
        assert!(tx.sweep_run(&run, &ours).await.unwrap());
        assert_eq!(tx.retention_run(run.id).await.unwrap(), Some(run.clone()));
        tx.leave_node(&ours).await.unwrap();
        assert_eq!(tx.left_run(&theirs).await.unwrap(), Some(run.id), "its owner is gone");
        assert!(tx.adopt_run(run.id, &theirs).await.unwrap());
        assert!(!tx.sweep_run(&run, &ours).await.unwrap(), "and cannot come back to it");
        assert!(tx.close_run(run.id, &theirs).await.unwrap());
        assert!(!tx.sweep_run(&run, &theirs).await.unwrap(), "nor anybody after its end");
        assert_eq!(tx.pending_runs().await.unwrap().len(), 1);
    }

    async fn the_same_request_is_answered_with_the_first_run(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        house.keep_in("call.ops", &ada.subject, &["ada@example.org"]).await;
        house.clock.advance(DAY * 200);
        let confirm_time = Some(house.in_time(Duration::ZERO));
        let request = v1::RunRetentionRequest { confirm_time, request_id: request_id(7) };
        let mut door = house.retention().await;
        let first = door.run_retention(request.clone()).await.unwrap().into_inner().run.unwrap();
        assert_eq!(first.items.len(), 1);
        assert_eq!(door.run_retention(request).await.unwrap().into_inner().run.unwrap(), first);
        let page = v1::ListRetentionRunsRequest { page_size: 1, ..Default::default() };
        assert_eq!(door.list_retention_runs(page).await.unwrap().into_inner().runs, [first]);
    }
}
