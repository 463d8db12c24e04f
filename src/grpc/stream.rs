//! Streams of requests, each answered by itself and in order.

use std::future::Future;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use tonic::{Request, Status, Streaming};

use super::record;
use crate::model::Result;
use crate::vault::audit::call::Call;

/// How many requests of one stream are worked on at once.
const PIPELINE: usize = 64;

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
