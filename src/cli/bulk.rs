//! Bulk: `token create --from` and `token reveal --from`, over the pipelined streams.
//!
//! A thread of its own reads the input, so that a slow pipe never holds up the answers. What is sent waits in a short
//! queue with its label (a line's number, a batch's tokens); the vault answers in the order asked, so the labels fit.

use std::fs::File;
use std::io::{BufRead, BufReader};

use anyhow::{Context as _, Result as Anyhow};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::client::Remote;
use super::failure::Result;
use super::report::Report;
use super::token::{Create, Reveal};
use super::{import, print, table};
use crate::proto::google::rpc;
use crate::proto::v1;

/// Requests sent ahead of their answers.
const AHEAD: usize = 32;

/// Tokens in one request.
const BATCH: usize = 100;

/// Seals what the lines of a file say.
pub async fn create(remote: &Remote, create: Create) -> Result<()> {
    use v1::tokenize_stream_response::Outcome;
    let input = open(create.from.as_deref().unwrap_or("-"))?;
    let mut vault = remote.open().await?;
    let defaults = import::Defaults { subject: create.subject, source: create.source };
    let feed = Feed::of_lines(input, move |line| import::request(line, &defaults));
    let mut report = Report::new(remote.output, "responses");
    let Feed { requests, mut labels, end } = feed;
    let relay = async {
        let mut answers = vault.tokens.tokenize_stream(ReceiverStream::new(requests)).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            let number = labels.recv().await.unwrap_or_default();
            match answer.outcome {
                Some(Outcome::Response(response)) => {
                    report.item(&json!({ "response": print::tokenized(&response) }), &sealed(&response), false)?;
                }
                Some(Outcome::Error(error)) => report.refused(number, &error)?,
                None => {}
            }
        }
        finished(end).await
    };
    let end = relay.await;
    report.close("line", "sealed", end)
}

/// Reveals the tokens that the lines of a file name, in batches.
pub async fn reveal(remote: &Remote, reveal: Reveal) -> Result<()> {
    use v1::detokenize_stream_response::Outcome;
    let input = open(reveal.from.as_deref().unwrap_or("-"))?;
    let mut vault = remote.open().await?;
    let feed = Feed::start(move |feeder| {
        let mut batch = Vec::with_capacity(BATCH);
        for line in numbered(input) {
            batch.push(line?.1.trim().to_owned());
            if batch.len() == BATCH {
                feeder.send(batch.clone(), reveal.request(std::mem::take(&mut batch)));
            }
        }
        if !batch.is_empty() {
            feeder.send(batch.clone(), reveal.request(batch));
        }
        Ok(())
    });
    let mut report = Report::new(remote.output, "results");
    let Feed { requests, mut labels, end } = feed;
    let relay = async {
        let mut answers = vault.tokens.detokenize_stream(ReceiverStream::new(requests)).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            let batch = labels.recv().await.unwrap_or_default();
            let results = match answer.outcome {
                Some(Outcome::Response(response)) => response.results,
                Some(Outcome::Error(error)) => refused(batch, &error),
                None => Vec::new(),
            };
            for result in &results {
                let human = format!("{}\t{}", result.token, table::outcome(result));
                report.item(&print::revealed(result), &human, is_error(result))?;
            }
        }
        finished(end).await
    };
    let end = relay.await;
    report.close("token", "revealed", end)
}

/// A subject and its tokens, on one line.
fn sealed(response: &v1::TokenizeResponse) -> String {
    let tokens = response.tokens.iter().map(|token| token.token.as_str());
    let flag = response.suppressed.then_some("SUPPRESSED");
    std::iter::once(response.subject.as_str()).chain(tokens).chain(flag).collect::<Vec<_>>().join(" ")
}

/// How reading the input ended.
pub async fn finished(end: oneshot::Receiver<Anyhow<()>>) -> Result<()> {
    let end = end.await.context("the input could not be read to its end");
    Ok(end?.context("stopped reading; what stands before was sent")?)
}

/// Whether a token was not revealed.
pub fn is_error(result: &v1::DetokenizeResult) -> bool {
    matches!(result.outcome, Some(v1::detokenize_result::Outcome::Error(_)) | None)
}

/// A batch that was refused as a whole: each of its tokens with the reason.
fn refused(batch: Vec<String>, error: &rpc::Status) -> Vec<v1::DetokenizeResult> {
    let result = |token| v1::DetokenizeResult {
        token,
        outcome: Some(v1::detokenize_result::Outcome::Error(error.clone())),
        r#type: v1::FieldType::Unspecified.into(),
        subject: String::new(),
    };
    batch.into_iter().map(result).collect()
}

/// A file, or standard input for `-`.
pub fn open(from: &str) -> Anyhow<Box<dyn BufRead + Send>> {
    if from == "-" {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(from).with_context(|| format!("cannot open {from}"))?;
    Ok(Box::new(BufReader::new(file)))
}

/// The lines that hold something, with their numbers.
pub fn numbered(input: Box<dyn BufRead + Send>) -> impl Iterator<Item = Anyhow<(usize, String)>> {
    let lines = input.lines().enumerate();
    lines
        .map(|(at, line)| Ok((at + 1, line.with_context(|| format!("line {}: cannot be read as text", at + 1))?)))
        .filter(|line| !matches!(line, Ok((_, text)) if text.trim().is_empty()))
}

/// The reading side of a bulk command.
pub struct Feed<Label, Request> {
    /// What is asked.
    pub requests: mpsc::Receiver<Request>,
    /// What it was read from, in the same order.
    pub labels: mpsc::UnboundedReceiver<Label>,
    /// How reading ended.
    pub end: oneshot::Receiver<Anyhow<()>>,
}

/// Where the reading thread puts what it read.
pub struct Feeder<Label, Request> {
    requests: mpsc::Sender<Request>,
    labels: mpsc::UnboundedSender<Label>,
}

impl<Request: Send + 'static> Feed<usize, Request> {
    /// Reads a request from each line, which stands by its number.
    pub fn of_lines(
        input: Box<dyn BufRead + Send>,
        request: impl Fn(&str) -> Anyhow<Request> + Send + 'static,
    ) -> Self {
        Self::start(move |feeder| {
            numbered(input).try_for_each(|line| {
                let (number, line) = line?;
                feeder.send(number, request(&line).with_context(|| format!("line {number}"))?);
                Ok(())
            })
        })
    }
}

impl<Label: Send + 'static, Request: Send + 'static> Feed<Label, Request> {
    /// Reads on a thread of its own, which the process does not wait for when the server goes away.
    pub fn start(read: impl FnOnce(&Feeder<Label, Request>) -> Anyhow<()> + Send + 'static) -> Self {
        let (request_sender, requests) = mpsc::channel(AHEAD);
        let (label_sender, labels) = mpsc::unbounded_channel();
        let (end_sender, end) = oneshot::channel();
        std::thread::spawn(move || {
            let feeder = Feeder { requests: request_sender, labels: label_sender };
            let _ = end_sender.send(read(&feeder));
        });
        Self { requests, labels, end }
    }
}

impl<Label, Request> Feeder<Label, Request> {
    /// Queues a request; when nobody listens any more, the answers have told why.
    pub fn send(&self, label: Label, request: Request) {
        if self.labels.send(label).is_ok() {
            let _ = self.requests.blocking_send(request);
        }
    }
}
