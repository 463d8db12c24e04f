//! Brakes: how much a caller is shown within a time, on one node, on several, and after a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lacuna::cli::serve::Running;
use lacuna::config::{Budget, Caller};
use lacuna::model::Clock;
use lacuna::proto::v1;
use lacuna::proto::v1::detokenize_stream_response::Outcome;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::asks::{CARE, HOUR, detokenize, metadata};
use crate::house::{House, connect, field, on_both_stores, outcome, reason};
use crate::policies::{as_member, entries, member};

/// How long another node may take to learn what this one has shown, on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(1);

const UNKNOWN: &str = "tok_aaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Opens the house again with a caller `mailer` who may be shown so many values within an hour, and an owner.
async fn with_budget(house: &mut House, values: u64) {
    let reveal_budget = Some(Budget { values, seconds: 3600 });
    house.config.callers = vec![member("owner"), Caller { reveal_budget, ..member("mailer") }];
    house.reopen().await;
}

/// So many people with one value each.
async fn values(house: &mut House, count: usize) -> Vec<String> {
    let mut fields = Vec::new();
    for at in 0..count {
        fields.push(field(v1::FieldType::Email, &format!("person.{at}@example.com")));
    }
    house.tokenize("", fields).await.1
}

/// How many values a call is shown, or that it is refused.
async fn shown(house: &mut House, tokens: &[String]) -> Result<usize, Status> {
    let response = house.tokens.detokenize(detokenize(tokens, CARE)).await?.into_inner();
    Ok(response.results.iter().filter(|result| outcome(result).is_ok()).count())
}

fn over_budget(refused: &Status, left: u64) {
    assert_eq!((refused.code(), reason(refused).as_str()), (Code::ResourceExhausted, "REVEAL_BUDGET"), "{refused:?}");
    let said = metadata(refused);
    assert_eq!((said["caller"].as_str(), said["seconds"].as_str()), ("mailer", "3600"));
    assert_eq!(said["left"], left.to_string());
}

fn retry(refused: &Status) -> Option<Duration> {
    refused.get_details_retry_info().and_then(|info| info.retry_delay)
}

on_both_stores! {
    async fn whoever_is_over_their_budget_is_shown_nothing_until_the_time_is_over(house: House) {
        let mut house = house;
        with_budget(&mut house, 5).await;
        let tokens = values(&mut house, 8).await;
        as_member(&mut house, "mailer").await;
        assert_eq!(shown(&mut house, &tokens[..3]).await.unwrap(), 3);
        let refused = shown(&mut house, &tokens[..3]).await.unwrap_err();
        over_budget(&refused, 2);
        let delay = retry(&refused).unwrap();
        assert!(delay >= HOUR && delay <= HOUR + HOUR / 60, "{delay:?}");
        // What is not shown does not count.
        let unknown = vec![UNKNOWN.to_owned(); 4];
        assert_eq!(shown(&mut house, &unknown).await.unwrap(), 0);
        let redacted = v1::DetokenizeRequest { redaction: v1::Redaction::Redacted.into(), ..detokenize(&tokens, CARE) };
        assert_eq!(house.tokens.detokenize(redacted).await.unwrap().into_inner().results.len(), 8);
        assert_eq!(shown(&mut house, &tokens[3..5]).await.unwrap(), 2);
        over_budget(&shown(&mut house, &unknown).await.unwrap_err(), 0);
        // More than the budget never fits.
        house.clock.advance(HOUR * 2);
        let refused = shown(&mut house, &tokens).await.unwrap_err();
        over_budget(&refused, 5);
        assert_eq!(retry(&refused), None);
        assert_eq!(shown(&mut house, &tokens[..5]).await.unwrap(), 5);
        // Nobody else pays for it.
        as_member(&mut house, "owner").await;
        assert_eq!(shown(&mut house, &tokens).await.unwrap(), 8);
        let entries = entries(&house).await;
        let refused: Vec<_> = entries.iter().filter(|entry| entry["refused"] == "RevealBudget").collect();
        let touched: Vec<usize> = refused.iter().map(|entry| entry["touched"].as_array().map_or(0, Vec::len)).collect();
        assert_eq!(touched, [3, 0, 8]);
        let outcomes = refused.iter().flat_map(|entry| entry["touched"].as_array().into_iter().flatten());
        assert!(outcomes.map(|one| &one["outcome"]).all(|outcome| outcome == "RevealBudget"));
        assert!(refused.iter().all(|entry| entry["caller"] == "mailer"));
    }

    async fn the_time_that_is_said_is_long_enough_and_not_too_long(house: House) {
        let mut house = house;
        with_budget(&mut house, 5).await;
        let tokens = values(&mut house, 5).await;
        as_member(&mut house, "mailer").await;
        assert_eq!(shown(&mut house, &tokens[..4]).await.unwrap(), 4);
        house.clock.advance(HOUR / 2);
        assert_eq!(shown(&mut house, &tokens[..1]).await.unwrap(), 1);
        let delay = retry(&shown(&mut house, &tokens[..4]).await.unwrap_err()).unwrap();
        assert!(delay <= HOUR / 2 + HOUR / 60, "the first four are enough: {delay:?}");
        house.clock.advance(delay.saturating_sub(Duration::from_secs(1)));
        over_budget(&shown(&mut house, &tokens[..4]).await.unwrap_err(), 0);
        house.clock.advance(Duration::from_secs(1));
        assert_eq!(shown(&mut house, &tokens[..4]).await.unwrap(), 4);
    }

    async fn a_restart_gives_no_fresh_budget(house: House) {
        let mut house = house;
        with_budget(&mut house, 5).await;
        let tokens = values(&mut house, 5).await;
        for round in 0..2 {
            as_member(&mut house, "mailer").await;
            assert_eq!(shown(&mut house, &tokens[..2]).await.unwrap(), 2, "{round}");
            house.reopen().await;
        }
        as_member(&mut house, "mailer").await;
        over_budget(&shown(&mut house, &tokens[..2]).await.unwrap_err(), 1);
        // Nor does another budget, which the operator may have made smaller.
        with_budget(&mut house, 4).await;
        as_member(&mut house, "mailer").await;
        over_budget(&shown(&mut house, &tokens[..1]).await.unwrap_err(), 0);
        house.clock.advance(HOUR * 2);
        assert_eq!(shown(&mut house, &tokens[..4]).await.unwrap(), 4);
    }

    async fn calls_at_once_are_together_shown_no_more_than_the_budget(house: House) {
        let mut house = house;
        with_budget(&mut house, 7).await;
        let tokens = values(&mut house, 1).await;
        as_member(&mut house, "mailer").await;
        let calls = (0..40).map(|_| {
            let (mut door, ask) = (house.tokens.clone(), detokenize(&tokens, CARE));
            tokio::spawn(async move { door.detokenize(ask).await })
        });
        let mut seen = 0;
        for call in calls.collect::<Vec<_>>() {
            match call.await.unwrap() {
                Ok(_) => seen += 1,
                Err(refused) => over_budget(&refused, 0),
            }
        }
        assert_eq!(seen, 7);
        // A stream is as many calls: what does not fit is refused by itself.
        house.clock.advance(HOUR * 2);
        let asks: Vec<_> = (0..10).map(|_| detokenize(&tokens, CARE)).collect();
        let mut answers = house.tokens.detokenize_stream(futures_util::stream::iter(asks)).await.unwrap().into_inner();
        let (mut given, mut refused) = (0, 0);
        while let Some(answer) = answers.message().await.unwrap() {
            match answer.outcome.unwrap() {
                Outcome::Response(_) => given += 1,
                Outcome::Error(_) => refused += 1,
            }
        }
        assert_eq!((given, refused), (7, 3));
    }

    async fn a_budget_for_everybody_is_each_ones_own(house: House) {
        let mut house = house;
        with_budget(&mut house, 3).await;
        house.config.brakes.reveal_budget = Some(Budget { values: 1, seconds: 60 });
        house.reopen().await;
        let tokens = values(&mut house, 4).await;
        assert_eq!(shown(&mut house, &tokens[..1]).await.unwrap(), 1);
        assert_eq!(reason(&shown(&mut house, &tokens[..1]).await.unwrap_err()), "REVEAL_BUDGET");
        as_member(&mut house, "mailer").await;
        assert_eq!(shown(&mut house, &tokens[..3]).await.unwrap(), 3, "their own counts");
        over_budget(&shown(&mut house, &tokens[..1]).await.unwrap_err(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_has_shown_counts_on_the_others() {
    let Some(mut house) = House::on_postgres().await else { return };
    with_budget(&mut house, 5).await;
    let tokens = values(&mut house, 5).await;
    let other = Running::start(&house.config, Arc::clone(&house.clock) as Arc<dyn Clock>).await.unwrap();
    as_member(&mut house, "mailer").await;
    let (mut there, _) = connect(&other, "the-token-of-mailer".to_owned()).await;
    assert!(there.detokenize(detokenize(&tokens[..1], CARE)).await.is_ok());
    assert_eq!(shown(&mut house, &tokens[..4]).await.unwrap(), 4);
    // Asking for nothing that is shown costs nothing, and is refused as soon as the other node knows.
    let nothing = detokenize(&[UNKNOWN.to_owned()], CARE);
    let begun = Instant::now();
    let refused = loop {
        match there.detokenize(nothing.clone()).await {
            Ok(_) => assert!(begun.elapsed() < PATIENCE, "the other node never learns of it"),
            Err(refused) => break refused,
        }
    };
    over_budget(&refused, 0);
    over_budget(&there.detokenize(detokenize(&tokens[..1], CARE)).await.unwrap_err(), 0);
    other.stop().await.unwrap();
}
