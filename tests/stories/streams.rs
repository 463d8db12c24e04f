//! In bulk: answered in the order asked, each item for itself.

use lacuna::proto::v1;
use lacuna::proto::v1::{detokenize_stream_response, tokenize_stream_response};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::asks::{CARE, detokenize, request_id, text, tokenize};
use crate::house::{fields_at_fault, item_status, on_both_stores, outcome, reason};

on_both_stores! {
    async fn what_is_tokenized_in_bulk_comes_back_in_bulk_and_in_order(house: House) {
        let mut house = house;
        let asks: Vec<_> = (0..500).map(|number| tokenize("", vec![text(&format!("value {number}"))])).collect();
        let answers = house.tokens.tokenize_stream(tokio_stream::iter(asks)).await.unwrap().into_inner();
        let tokens: Vec<String> = answers
            .map(|answer| match answer.unwrap().outcome.unwrap() {
                tokenize_stream_response::Outcome::Response(response) => response.tokens[0].token.clone(),
                tokenize_stream_response::Outcome::Error(error) => panic!("{error:?}"),
            })
            .collect()
            .await;
        assert_eq!(tokens.len(), 500);
        let asks: Vec<_> = tokens.chunks(3).map(|tokens| detokenize(tokens, CARE)).collect();
        let mut answers = house.tokens.detokenize_stream(tokio_stream::iter(asks)).await.unwrap().into_inner();
        let mut values = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.unwrap().outcome.unwrap() {
                detokenize_stream_response::Outcome::Response(response) => {
                    values.extend(response.results.iter().map(outcome));
                }
                detokenize_stream_response::Outcome::Error(error) => panic!("{error:?}"),
            }
        }
        let expected: Vec<_> = (0..500).map(|number| Ok(format!("value {number}"))).collect();
        assert_eq!(values, expected);
    }

    async fn a_bad_item_is_answered_in_its_place_and_does_not_end_the_stream(house: House) {
        let mut house = house;
        let bad = v1::TokenizeRequest { source: String::new(), ..tokenize("", vec![text("x")]) };
        let empty = tokenize("", Vec::new());
        let card = tokenize("", vec![text("x"), text("4111 1111 1111 1111")]);
        let asks = vec![bad, tokenize("", vec![text("good")]), empty, card, tokenize("", vec![text("good")])];
        let answers = house.tokens.tokenize_stream(tokio_stream::iter(asks)).await.unwrap().into_inner();
        let answers: Vec<_> = answers.map(|answer| answer.unwrap().outcome.unwrap()).collect().await;
        let refused: Vec<_> = answers
            .iter()
            .map(|answer| match answer {
                tokenize_stream_response::Outcome::Response(_) => None,
                tokenize_stream_response::Outcome::Error(error) => {
                    assert_eq!(error.code, Code::InvalidArgument as i32);
                    Some((reason(&item_status(error)), fields_at_fault(&item_status(error)).concat()))
                }
            })
            .collect();
        let reasons = |reason: &str, field: &str| Some((reason.to_owned(), field.to_owned()));
        assert_eq!(
            refused,
            [
                reasons("SOURCE_REQUIRED", "source"),
                None,
                reasons("VALUE_INVALID", "fields"),
                reasons("CARD_DATA", "fields[1].value"),
                None,
            ]
        );
        let people = house.subjects.list_subjects(v1::ListSubjectsRequest::default()).await.unwrap().into_inner();
        assert_eq!(people.subjects.len(), 2, "what was refused left nothing");
    }

    async fn a_bad_reveal_in_a_stream_is_answered_in_its_place(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let unknown = ["tok_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned()];
        let asks = vec![
            detokenize(&ada.tokens, CARE),
            detokenize(&ada.tokens, "curiosity"),
            detokenize(&[], CARE),
            detokenize(&unknown, CARE),
            detokenize(&ada.tokens, CARE),
        ];
        let answers = house.tokens.detokenize_stream(tokio_stream::iter(asks)).await.unwrap().into_inner();
        let answers: Vec<_> = answers
            .map(|answer| match answer.unwrap().outcome.unwrap() {
                detokenize_stream_response::Outcome::Response(response) => {
                    Ok(response.results.iter().map(outcome).collect())
                }
                detokenize_stream_response::Outcome::Error(error) => Err(reason(&item_status(&error))),
            })
            .collect()
            .await;
        assert_eq!(
            answers,
            [
                Ok(ada.values()),
                Err("PURPOSE_UNKNOWN".to_owned()),
                Err("VALUE_INVALID".to_owned()),
                Ok(vec![Err("TOKEN_UNKNOWN".to_owned())]),
                Ok(ada.values()),
            ]
        );
    }

    async fn each_answer_comes_without_waiting_for_the_next_request(house: House) {
        let mut house = house;
        let (send, asks) = tokio::sync::mpsc::channel(1);
        let asks = tokio_stream::wrappers::ReceiverStream::new(asks);
        send.send(tokenize("", vec![text("first")])).await.unwrap();
        let mut answers = house.tokens.tokenize_stream(asks).await.unwrap().into_inner();
        for _ in 0..3 {
            let answer = answers.next().await.unwrap().unwrap();
            assert!(matches!(answer.outcome, Some(tokenize_stream_response::Outcome::Response(_))));
            send.send(tokenize("", vec![text("next")])).await.unwrap();
        }
        drop(send);
        assert!(answers.next().await.unwrap().is_ok());
        assert!(answers.next().await.is_none(), "the stream ends with its requests");
    }

    async fn a_request_id_works_within_a_stream(house: House) {
        let mut house = house;
        let ask = v1::TokenizeRequest { request_id: request_id(7), ..tokenize("", vec![text("x")]) };
        let answers = house.tokens.tokenize_stream(tokio_stream::iter(vec![ask; 10])).await.unwrap().into_inner();
        let answers: Vec<_> = answers.map(|answer| answer.unwrap()).collect().await;
        assert!(answers.len() == 10 && answers.iter().all(|answer| *answer == answers[0]));
    }
}
