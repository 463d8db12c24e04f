//! The landing of reveals: bytes of a value leave only while the flight that carries it may land.
//!
//! A client that does not read makes an answer wait for as long as it likes: the connection takes one piece of an
//! answer out of our hands, and no other before there was room for that one. So the flight stays with the answer and is
//! asked again before each piece, and the first piece is the head of the message, which tells nothing. Whoever makes
//! room for a head and a byte and then reads no more can be given one piece later; they were to have it anyway.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::{HeaderMap, Response};

use super::status::to_status;
use crate::keys::flight::Flight;
use crate::model::Result;

/// The largest piece, in bytes: a frame of HTTP/2 by default.
const PIECE: usize = 16 << 10;
/// What comes before a message, in bytes: whether it is compressed, and its length.
const HEAD: usize = 5;

/// The flights of an answer that have not landed. Goes with the answer as an extension of it.
#[derive(Clone, Default)]
pub struct Landing(Arc<Mutex<Vec<Flight>>>);

impl Landing {
    /// Takes a flight along whose values are in the answer from now on.
    ///
    /// # Errors
    /// When it may not land any more.
    pub fn carry(&self, flight: Flight) -> Result<()> {
        flight.may_land()?;
        self.flights().push(flight);
        Ok(())
    }

    /// Stays with the answer until all of it has left.
    pub fn watch_over<T>(self, mut answer: tonic::Response<T>) -> tonic::Response<T> {
        answer.extensions_mut().insert(self);
        answer
    }

    fn may_land(&self) -> Result<()> {
        self.flights().iter().try_for_each(Flight::may_land)
    }

    fn landed(&self) {
        self.flights().clear();
    }

    fn flights(&self) -> MutexGuard<'_, Vec<Flight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts the answers that carry flights under watch.
pub fn watch(mut response: Response<Body>) -> Response<Body> {
    match response.extensions_mut().remove::<Landing>() {
        Some(landing) => {
            response.map(|body| Body::new(Watched { body, landing, rest: Bytes::new(), piece: HEAD, refused: false }))
        }
        None => response,
    }
}

/// An answer that carries flights.
struct Watched {
    body: Body,
    landing: Landing,
    /// What has come of the body and was not handed over yet.
    rest: Bytes,
    /// How long the next piece of it may be.
    piece: usize,
    refused: bool,
}

impl Watched {
    /// Ends the answer with a status in place of what may not leave any more.
    fn refuse(&mut self, status: &Status) -> Result<Frame<Bytes>, Status> {
        self.refused = true;
        self.rest.clear();
        self.landing.landed();
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Ok(Frame::trailers(trailers))
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.refused {
            return Poll::Ready(None);
        }
        while self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => (self.rest, self.piece) = (data, HEAD),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        if let Err(error) = self.landing.may_land() {
            return Poll::Ready(Some(self.refuse(&to_status(&error))));
        }
        let piece = self.piece.min(self.rest.len());
        self.piece = PIECE;
        let piece = self.rest.split_to(piece);
        if self.rest.is_empty() {
            self.landing.landed();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.refused || (self.rest.is_empty() && self.body.is_end_stream())
    }
}
