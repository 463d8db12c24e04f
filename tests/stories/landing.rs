//! A reader who stops reading: what an answer holds back must not come out after an erasure.

use h2::client::{Connection, SendRequest};
use lacuna::proto::v1;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tonic::codegen::Bytes;
use tonic::codegen::http::{HeaderMap, Request};

use crate::asks::{CARE, detokenize};
use crate::house::{House, on_both_stores};

/// Enough for any answer of these stories.
const ROOM: u32 = 1 << 20;

/// A client that reads nothing of an answer until it is told to, as any may: it says how much of one it has room for.
struct Reader {
    requests: SendRequest<Bytes>,
    go_on: oneshot::Sender<()>,
    authority: String,
    bearer: String,
}

/// What came of a call.
struct Answer {
    body: Vec<u8>,
    trailers: HeaderMap,
}

impl Answer {
    fn shows(&self, value: &str) -> bool {
        self.body.windows(value.len()).any(|window| window == value.as_bytes())
    }

    fn status(&self) -> &str {
        self.trailers["grpc-status"].to_str().unwrap()
    }
}

impl Reader {
    async fn of(house: &House) -> Self {
        let authority = house.running().address.to_string();
        let stream = TcpStream::connect(&authority).await.unwrap();
        let (requests, connection) = h2::client::Builder::new().initial_window_size(0).handshake(stream).await.unwrap();
        let (go_on, told) = oneshot::channel();
        tokio::spawn(drive(connection, told));
        Self { requests, go_on, authority, bearer: house.bearer() }
    }

    /// Asks for a value; answers what has the rest once the call was answered with its headers.
    async fn ask(&mut self, path: &str, ask: &impl prost::Message) -> h2::RecvStream {
        let request = Request::post(format!("http://{}/lacuna.v1.TokenService/{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", self.bearer))
            .body(())
            .unwrap();
        let mut ready = self.requests.clone().ready().await.unwrap();
        let (response, mut send) = ready.send_request(request, false).unwrap();
        let message = ask.encode_to_vec();
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend(message);
        send.send_data(frame.into(), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body()
    }

    async fn read_on(self, mut rest: h2::RecvStream) -> Answer {
        self.go_on.send(()).unwrap();
        let mut body = Vec::new();
        while let Some(data) = rest.data().await {
            body.extend(data.unwrap());
        }
        Answer { body, trailers: rest.trailers().await.unwrap().unwrap() }
    }
}

/// Keeps a connection going, and makes room when it is told to.
async fn drive(mut connection: Connection<TcpStream, Bytes>, told: oneshot::Receiver<()>) {
    tokio::select! {
        told = told => told.unwrap(),
        _ = &mut connection => return,
    }
    connection.set_initial_window_size(ROOM).unwrap();
    let _ended = connection.await;
}

on_both_stores! {
    async fn who_stops_reading_is_not_given_a_value_after_its_erasure(house: House) {
        let mut house = house;
        for path in ["Detokenize", "DetokenizeStream"] {
            let ada = house.somebody("Ada Lovelace").await;
            let ask = detokenize(&ada.tokens, CARE);
            let mut reader = Reader::of(&house).await;
            let held = reader.ask(path, &ask).await;
            let answer = reader.read_on(held).await;
            assert_eq!((answer.shows(&ada.email), answer.status()), (true, "0"), "without an erasure it comes late");

            let mut reader = Reader::of(&house).await;
            let held = reader.ask(path, &ask).await;
            let erasure = house.erase(&ada.subject).await;
            assert_eq!(erasure.state(), v1::ErasureState::Shredded);
            let answer = reader.read_on(held).await;
            let unavailable = (tonic::Code::Unavailable as i32).to_string();
            assert_eq!((answer.shows(&ada.email), answer.status()), (false, unavailable.as_str()), "{path}");
        }
    }
}
