//! Streams of requests, each answered by itself and in order.

use std::future::Future;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::record;
use crate::model::Result;
use crate::vault::audit::call::Call;

/// How many requests of one stream are worked on at once.
const PIPELINE: usize = 64;

/// The same of a stream whose requests are each more than one write. What they write is written together.
const ROWS: usize = 32;

/// Answers in the order of the requests.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Does a deed for each request of a stream, several at once, each with a record of its own. An error of the stream
/// itself ends it; what comes of a deed does not.
pub fn each<Q, T, F>(
    request: Request<Streaming<Q>>,
    rpc: &'static str,
    deed: impl Fn(Q) -> F + Send + 'static,
) -> impl Stream<Item = Result<Result<T>, Status>> + Send
where
    Q: Send + 'static,
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let call = Call::current();
    let one = move |item: Result<Q, Status>| {
        let work = item.map(|item| record::item(call.clone(), rpc, Box::pin(deed(item))));
        async move { Ok(work?.await) }
    };
    request.into_inner().map(one).buffered(PIPELINE)
}

/// Does a deed for each request of a stream of which the first was taken out because it says how the others are read; `told`
/// makes the answer of what came of it and of the number that the request has.
pub fn begun<Q, T, A, F>(
    (first, rest): (Q, Streaming<Q>),
    rpc: &'static str,
    number: fn(&Q) -> u64,
    deed: impl Fn(Q) -> F + Send + 'static,
    told: fn(u64, Result<T>) -> A,
) -> Response<Answers<A>>
where
    Q: Send + 'static,
    T: Send + 'static,
    A: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let call = Call::current();
    let one = move |item: Result<Q, Status>| {
        let work = item.map(|item| (number(&item), record::item(call.clone(), rpc, Box::pin(deed(item)))));
        async move {
            let (number, work) = work?;
            Ok(told(number, work.await))
        }
    };
    let all = futures_util::stream::once(std::future::ready(Ok(first))).chain(rest);
    Response::new(Box::pin(all.map(one).buffered(ROWS)))
}
