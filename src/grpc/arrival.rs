//! The arrival of requests: a message is handed on when all of it is here.
//!
//! A message says first how long it will be, and the library makes room for so much at once. Five bytes would cost the vault
//! as much memory as the largest message, and the time to wipe it; so they wait here for the rest of their message, in room
//! that grows with what really comes. Of that room there is so much for all of them together, and no more.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Body as HttpBody, Frame};
use prost::bytes::{Buf as _, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

use super::status::to_status;
use crate::model::{Error, Reason};

/// What comes before a message, in bytes: whether it is compressed, and its length.
const HEAD: usize = 5;

/// The room for messages that are not whole.
#[derive(Clone)]
pub struct Room {
    /// The longest message that is waited for, in bytes.
    largest: usize,
    /// A permit a byte.
    free: Arc<Semaphore>,
}

impl Room {
    /// So many bytes for one message, and for all that are arriving.
    pub fn new(largest: usize, all: usize) -> Self {
        Self { largest, free: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))) }
    }

    fn take(&self, length: usize) -> Result<OwnedSemaphorePermit, Status> {
        let none = || {
            let message =
                "as much of messages that are not whole is at hand as the vault holds; try again with backoff";
            to_status(&Error::new(Reason::Overloaded, message))
        };
        let length = u32::try_from(length).map_err(|_| none())?;
        Arc::clone(&self.free).try_acquire_many_owned(length).map_err(|_| none())
    }
}

/// A request whose messages come whole.
pub struct Arriving {
    body: Body,
    /// What has come of a message that is not whole.
    held: BytesMut,
    /// The room that it takes.
    taken: Option<OwnedSemaphorePermit>,
    /// What followed the messages, once they have ended.
    end: Option<Frame<Bytes>>,
    ended: bool,
    room: Room,
}

impl Arriving {
    /// Watches over a request. A message that is too long is handed on as it comes, to be refused.
    pub fn over(body: Body, room: Room) -> Self {
        Self { body, held: BytesMut::new(), taken: None, end: None, ended: false, room }
    }

    /// Takes in a piece of a message that is not whole.
    fn hold(&mut self, data: &[u8]) -> Result<(), Status> {
        let more = self.room.take(data.len())?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        self.held.extend_from_slice(data);
        Ok(())
    }

    /// Hands out so much of what is held.
    fn hand_on(&mut self, length: usize) -> Bytes {
        drop(self.taken.as_mut().and_then(|taken| taken.split(length)));
        self.held.split_to(length).freeze()
    }

    /// As much of what has come as can be handed on.
    fn whole(&mut self) -> Option<Bytes> {
        let mut rest = self.held.as_ref();
        while let Some((head, behind)) = rest.split_first_chunk::<HEAD>() {
            let [_, length @ ..] = *head;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > self.room.largest {
                rest = &[];
                break;
            }
            let Some((_, behind)) = behind.split_at_checked(length) else { break };
            rest = behind;
        }
        let whole = self.held.len() - rest.len();
        (whole > 0).then(|| self.hand_on(whole))
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        while !self.ended {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.ended = true;
                    break;
                }
            };
            match frame.into_data() {
                Ok(data) if self.held.is_empty() && is_whole(&data, self.room.largest) => {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(data) => {
                    if let Err(status) = self.hold(&data) {
                        return Poll::Ready(Some(Err(status)));
                    }
                    if let Some(whole) = self.whole() {
                        return Poll::Ready(Some(Ok(Frame::data(whole))));
                    }
                }
                Err(trailers) => (self.end, self.ended) = (Some(trailers), true),
            }
        }
        // What is left is no message; whoever reads messages says so.
        if self.held.has_remaining() {
            let rest = self.held.len();
            return Poll::Ready(Some(Ok(Frame::data(self.hand_on(rest)))));
        }
        Poll::Ready(self.end.take().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.end.is_none() && (self.ended || self.body.is_end_stream())
    }
}

/// Whether a piece is one message, as most are.
fn is_whole(data: &[u8], largest: usize) -> bool {
    data.split_first_chunk::<HEAD>().is_some_and(|([_, length @ ..], message)| {
        usize::try_from(u32::from_be_bytes(*length)).is_ok_and(|length| length == message.len() || length > largest)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body_util::BodyExt as _;
    use proptest::prelude::*;

    use super::*;

    struct Pieces(VecDeque<Vec<u8>>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece.into()))))
        }
    }

    fn arrive(pieces: Vec<Vec<u8>>, largest: usize) -> Vec<Bytes> {
        let room = Room::new(largest, 1000);
        let arrived = arrive_in(&room, pieces).unwrap();
        assert_eq!(room.free.available_permits(), 1000, "nothing stays taken");
        arrived
    }

    fn arrive_in(room: &Room, pieces: Vec<Vec<u8>>) -> Result<Vec<Bytes>, Status> {
        let mut arriving = Arriving::over(Body::new(Pieces(pieces.into())), room.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut arrived = Vec::new();
            while let Some(frame) = arriving.frame().await {
                arrived.push(frame?.into_data().unwrap());
            }
            Ok(arrived)
        })
    }

    #[test]
    fn what_is_not_whole_takes_room_of_all_and_gives_it_back() {
        let room = Room::new(100, 20);
        let message = [&[0, 0, 0, 0, 30][..], &[7; 30]].concat();
        let pieces = |length| message.chunks(length).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(arrive_in(&room, pieces(5)).unwrap_err().code(), tonic::Code::ResourceExhausted);
        assert_eq!(room.free.available_permits(), 20);
        assert_eq!(arrive_in(&room, vec![message.clone()]).unwrap(), [&message[..]], "a whole one takes none");
        let short = [0, 0, 0, 0, 3, 1, 2, 3];
        let two: Vec<_> = [short, short].concat().chunks(3).map(<[u8]>::to_vec).collect();
        assert_eq!(arrive_in(&room, two).unwrap().concat(), [short, short].concat());
        assert_eq!(room.free.available_permits(), 20);
    }

    #[test]
    fn a_message_waits_for_its_end_and_nothing_else_does() {
        let pieces = |pieces: &[&[u8]]| pieces.iter().map(|piece| piece.to_vec()).collect::<Vec<_>>();
        let message: &[u8] = &[0, 0, 0, 0, 3, 1, 2, 3];
        assert_eq!(arrive(pieces(&[&message[..2], &message[2..7], &message[7..]]), 10), [message]);
        assert_eq!(arrive(pieces(&[message, message]), 10), [message, message]);
        assert_eq!(arrive(pieces(&[&message[..5]]), 10), [&message[..5]], "cut off, and for others to refuse");
        assert_eq!(arrive(pieces(&[&message[..5], &message[5..]]), 2), [&message[..5], &message[5..]], "too long");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_comes_early(
            lengths in prop::collection::vec(0_u8..40, 0..8), cuts in prop::collection::vec(1_usize..30, 1..60), cut_off: bool,
        ) {
            let message = |length: &u8| [&[0, 0, 0, 0, *length][..], &vec![7; usize::from(*length)]].concat();
            let mut all: Vec<u8> = lengths.iter().flat_map(message).collect();
            if cut_off {
                all.pop();
            }
            let (mut rest, mut pieces) = (&all[..], Vec::new());
            for cut in cuts.iter().cycle() {
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece.to_vec());
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            let arrived = arrive(pieces, 100);
            prop_assert_eq!(arrived.concat(), all);
        }
    }
}
