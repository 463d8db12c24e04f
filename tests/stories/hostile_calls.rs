//! Calls that are lies, and floods: by a client that speaks HTTP/2 well and gRPC badly, and by one that counts on what a
//! server keeps. Nothing breaks, nothing grows, and the next caller is served.

use std::net::SocketAddr;

use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::codegen::Bytes;
use tonic::codegen::http::{Method, Request};

use crate::asks::{text, tokenize};
use crate::hostile::{PATIENCE, PREFACE, held, honest, is_served, polite, say};
use crate::house::{House, reason};
use crate::outside::Outside;

const TOKENIZE: &str = "/lacuna.v1.TokenService/Tokenize";
const UNKNOWN_CALLER: &str = "16";
const DEADLINE: &str = "4";

/// How many KiB a process may have more than before: what an allocator keeps for the next time.
const MORE: usize = 48 << 10;
/// The same while it is being shouted at.
const MORE_AT_ONCE: usize = 192 << 10;

/// A call as somebody makes it who wants to know what happens.
struct Lie {
    what: &'static str,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Whether it does no harm to serve it.
    harmless: bool,
}

/// What comes before a message: whether it is compressed, and how long it says it is.
fn head(flag: u8, length: usize) -> Vec<u8> {
    [&[flag][..], &u32::try_from(length).unwrap().to_be_bytes()].concat()
}

fn message() -> Vec<u8> {
    tokenize("", vec![text("x")]).encode_to_vec()
}

fn whole() -> Vec<u8> {
    let message = message();
    [head(0, message.len()), message].concat()
}

fn lie(what: &'static str, body: Vec<u8>) -> Lie {
    Lie { what, method: Method::POST, path: TOKENIZE.to_owned(), headers: Vec::new(), body, harmless: false }
}

fn with(what: &'static str, headers: &[(&str, &str)], body: Vec<u8>) -> Lie {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Lie { headers, ..lie(what, body) }
}

fn at(what: &'static str, path: &str) -> Lie {
    Lie { path: path.to_owned(), ..lie(what, whole()) }
}

fn lies() -> Vec<Lie> {
    let (message, whole) = (message(), whole());
    let saying = |length: usize| [head(0, length), message.clone()].concat();
    let compressed = [head(1, message.len()), message.clone()].concat();
    let harmless = |lie: Lie| Lie { harmless: true, ..lie };
    vec![
        lie("it says that 4 GiB follow", saying(u32::MAX as usize)),
        lie("it says a byte more than may be", saying((16 << 20) + 1)),
        lie("it says as much as may be", saying(16 << 20)),
        lie("it says more than there is", saying(message.len() + 10)),
        lie("it says less than there is", saying(message.len() - 3)),
        lie("it says that nothing follows", saying(0)),
        lie("half a head", vec![0, 0, 0]),
        lie("no message", Vec::new()),
        harmless(lie("two messages", whole.repeat(2))),
        harmless(lie("a thousand messages", whole.repeat(1000))),
        lie("a flag that there is not", [head(0xff, message.len()), message.clone()].concat()),
        lie("compressed, and not said how", compressed.clone()),
        with("compressed as nobody can", &[("grpc-encoding", "br")], compressed.clone()),
        with("compressed by gzip", &[("grpc-encoding", "gzip")], compressed),
        harmless(with("text", &[("content-type", "text/plain")], whole.clone())),
        harmless(with("a time of nonsense", &[("grpc-timeout", "99999999999999999999H")], whole.clone())),
        harmless(with("a time before now", &[("grpc-timeout", "-1S")], whole.clone())),
        harmless(with("no time at all", &[("grpc-timeout", "0n")], whole.clone())),
        harmless(with("bytes that are none", &[("trace-bin", "!!!!")], whole.clone())),
        harmless(with("many headers", &vec![("x", "y"); 100], whole.clone())),
        with("too many headers", &vec![("x", "y"); 5000], whole.clone()),
        at("no such rpc", "/lacuna.v1.TokenService/Steal"),
        at("no such service", "/lacuna.v1.Thief/Tokenize"),
        at("a long path", &format!("/{}", "a".repeat(8 << 10))),
        at("a path that climbs", "/lacuna.v1.TokenService/../TokenService/Tokenize"),
        Lie { method: Method::GET, harmless: true, ..lie("a GET", whole.clone()) },
        Lie { method: Method::from_bytes(b"LACUNA").unwrap(), harmless: true, ..lie("a method of its own", whole) },
    ]
}

/// Makes a call as it is; answers the status of gRPC, or of HTTP where there is none, or nothing when the server ended it.
async fn make(requests: SendRequest<Bytes>, address: SocketAddr, bearer: &str, lie: &Lie) -> Option<String> {
    let mut request = Request::builder().method(lie.method.clone()).uri(format!("http://{address}{}", lie.path));
    if !lie.headers.iter().any(|(name, _)| name == "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    request = request.header("te", "trailers");
    if !bearer.is_empty() {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    let request = lie.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    let calling = async {
        let (answer, mut body) = requests.ready().await.ok()?.send_request(request.body(()).ok()?, false).ok()?;
        // Whoever has been refused already need not say the rest.
        let _refused = body.send_data(Bytes::from(lie.body.clone()), true);
        let (head, mut body) = answer.await.ok()?.into_parts();
        if head.status != 200 {
            return Some(format!("HTTP {}", head.status.as_u16()));
        }
        if let Some(status) = head.headers.get("grpc-status") {
            return Some(status.to_str().ok()?.to_owned());
        }
        while let Some(data) = body.data().await {
            let length = data.ok()?.len();
            let _ended = body.flow_control().release_capacity(length);
        }
        Some(body.trailers().await.ok()??.get("grpc-status")?.to_str().ok()?.to_owned())
    };
    tokio::time::timeout(PATIENCE, calling).await.unwrap_or_else(|_| panic!("{}: there is no answer", lie.what))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_lie_harm_nobody() {
    let house = House::on_sqlite().await;
    let (address, bearer) = (house.running().address, house.bearer());
    let good = lie("the truth", whole());
    assert_eq!(make(polite(address).await, address, &bearer, &good).await.as_deref(), Some("0"));
    assert_eq!(make(polite(address).await, address, "", &good).await.as_deref(), Some(UNKNOWN_CALLER));
    let mut served = Vec::new();
    for lie in lies() {
        let told = make(polite(address).await, address, &bearer, &lie).await;
        println!("{}: {told:?}", lie.what);
        if !lie.harmless && told.as_deref() == Some("0") {
            served.push(lie.what);
        }
        // By somebody unknown nothing is read.
        let told = make(polite(address).await, address, "", &lie).await;
        assert_ne!(told.as_deref(), Some("0"), "{} is served to a stranger", lie.what);
        is_served(&house).await;
    }
    assert!(served.is_empty(), "{served:?}");
}

/// Begins calls over one connection that are never said to their end.
async fn begin(
    requests: SendRequest<Bytes>,
    address: SocketAddr,
    bearer: &str,
    count: usize,
    part: &[u8],
) -> Vec<(ResponseFuture, SendStream<Bytes>)> {
    let mut requests = requests.ready().await.unwrap();
    let one = |_| {
        let request = Request::post(format!("http://{address}{TOKENIZE}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {bearer}"));
        let (answer, mut body) = requests.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::copy_from_slice(part), false).unwrap();
        (answer, body)
    };
    (0..count).map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_never_said_to_its_end_is_given_up() {
    let mut house = House::on_sqlite().await;
    house.config.limits.call_seconds = 1;
    house.reopen().await;
    let (address, bearer) = (house.running().address, house.bearer());
    let waiting = begin(polite(address).await, address, &bearer, 100, &head(0, 1 << 20)).await;
    is_served(&house).await;
    for (answer, _body) in waiting {
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("it is waited for").unwrap();
        assert_eq!(answer.headers()["grpc-status"], DEADLINE);
    }
    is_served(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_never_end_take_only_so_much_room_and_leave_small_calls_alone() {
    let mut house = House::on_sqlite().await;
    (house.config.limits.request_mib, house.config.limits.arriving_mib) = (1, 1);
    house.reopen().await;
    let (address, bearer) = (house.running().address, house.bearer());
    let large = tokenize("", vec![text(&"x".repeat(40 << 10))]);
    house.tokens.clone().tokenize(large.clone()).await.unwrap();
    let part = [head(0, 1 << 20), vec![0; 60 << 10]].concat();
    let requests = polite(address).await;
    let begun = begin(requests.clone(), address, &bearer, 18, &part).await;
    let (answers, mut begun): (Vec<_>, Vec<_>) = begun.into_iter().unzip();
    // One of them has come too late.
    let refused = tokio::time::timeout(PATIENCE, futures_util::future::select_all(answers)).await.unwrap().0.unwrap();
    assert_eq!(refused.headers()["grpc-status"], (Code::ResourceExhausted as i32).to_string());
    // When two came too late at once, there is room for another.
    let refused = async {
        loop {
            match house.tokens.clone().tokenize(large.clone()).await {
                Ok(_) => begun.extend(
                    begin(requests.clone(), address, &bearer, 1, &part).await.into_iter().map(|(_, body)| body),
                ),
                Err(refused) => return refused,
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("there is room for ever");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    is_served(&house).await;
    drop((begun, requests));
    let again = async { while house.tokens.clone().tokenize(large.clone()).await.is_err() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("the room is given back");
}

/// A literal of HPACK that is not kept, without Huffman's code.
fn literal(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    match text.len() {
        short @ 0..127 => bytes.push(u8::try_from(short).unwrap()),
        long => {
            bytes.push(127);
            let mut rest = long - 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap());
        }
    }
    [bytes, text.as_bytes().to_vec()].concat()
}

/// The headers of a call, as HPACK has them.
fn call(path: &str, bearer: &str) -> Vec<u8> {
    let authorization = format!("Bearer {bearer}");
    let mut block = vec![0x83, 0x86, 0x04];
    block.extend(literal(path));
    block.extend([0x0f, 0x10]);
    block.extend(literal("application/grpc"));
    block.push(0x00);
    block.extend([literal("te"), literal("trailers")].concat());
    block.extend([0x0f, 0x08]);
    block.extend(literal(&authorization));
    block
}

/// What costs who says it little, and could cost who hears it much.
fn floods(bearer: &str) -> Vec<(&'static str, Vec<u8>)> {
    let settings = honest(4, 0, 0, &[]);
    let after = |more: Vec<u8>| [PREFACE, &settings, &more].concat();
    // One header that is kept, said sixty thousand times by a byte each.
    let kept = [vec![0x40], literal("x"), literal(&"y".repeat(3900))].concat();
    let bomb = [vec![0x83, 0x86, 0x84], kept, vec![0xbe; 12_000]].concat();
    let begin = call(TOKENIZE, bearer);
    let stream = |number: u32| number * 2 + 1;
    let data = honest(0, 0, 1, &[0; 16 << 10]);
    let reset =
        |number: u32| [honest(1, 4, stream(number), &begin), honest(3, 0, stream(number), &[0, 0, 0, 8])].concat();
    let asked = |number: u32| {
        let body = honest(0, 1, stream(number), &whole());
        [honest(1, 4, stream(number), &begin), body, honest(3, 0, stream(number), &[0, 0, 0, 8])].concat()
    };
    vec![
        (
            "a bomb of headers",
            after(
                [honest(1, 1, 1, &bomb), honest(9, 0, 1, &[0xbe; 16_000]).repeat(3), honest(9, 4, 1, &[0xbe])].concat(),
            ),
        ),
        (
            "a head without an end",
            after(
                [
                    honest(1, 0, 1, &begin),
                    honest(9, 0, 1, &[literal_header(), literal_header()].concat()).repeat(50_000),
                ]
                .concat(),
            ),
        ),
        ("calls that are reset at once", after((0..20_000).flat_map(reset).collect())),
        ("calls that are made and reset", after((0..5_000).flat_map(asked).collect())),
        ("data beyond the window", after([honest(1, 4, 1, &begin), data.repeat(400)].concat())),
        ("data of a stranger", after([honest(1, 4, 1, &call(TOKENIZE, "nobody")), data.repeat(400)].concat())),
        (
            "updates of a window",
            after([honest(1, 4, 1, &begin), honest(8, 0, 1, &[0, 0, 0, 1]).repeat(60_000)].concat()),
        ),
        ("priorities", after(honest(2, 0, 1, &[0, 0, 0, 0, 1]).repeat(60_000))),
        ("pings", after(honest(6, 0, 0, &[7; 8]).repeat(60_000))),
        ("settings", after(honest(4, 0, 0, &[0, 3, 0, 0, 0, 1]).repeat(60_000))),
        (
            "a table of another size each time",
            after(
                (0..20_000_u32)
                    .flat_map(|size| honest(4, 0, 0, &[&[0, 1][..], &(size * 7).to_be_bytes()].concat()))
                    .collect(),
            ),
        ),
    ]
}

/// A small header.
fn literal_header() -> Vec<u8> {
    [vec![0x00], literal("a"), literal("b")].concat()
}

/// The most memory that a process has had, in KiB.
#[cfg(target_os = "linux")]
fn peak(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    memory.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn floods_leave_nothing_behind() {
    let vault = Outside::on_sqlite();
    let mut door = vault.start();
    let ada = door.tokenize("ada").await;
    let address: SocketAddr = door.server.address().parse().unwrap();
    let bearer = std::fs::read_to_string(vault.place.token()).unwrap().trim().to_owned();
    let floods = floods(&bearer);
    let (before, highest) = (held(door.server.id()), peak(door.server.id()));
    let mut seen = before;
    for round in 0..3 {
        for (what, bytes) in &floods {
            let begun = std::time::Instant::now();
            say(TcpStream::connect(address).await.unwrap(), what, bytes).await;
            door.assert_there(&ada).await;
            println!("{what}: {:?}, {} KiB", begun.elapsed(), held(door.server.id()).1);
        }
        for lie in lies() {
            let _any = make(polite(address).await, address, &bearer, &lie).await;
        }
        // What the first round leaves is what is kept for the next one.
        seen = if round == 0 { held(door.server.id()) } else { seen };
    }
    let after = held(door.server.id());
    println!(
        "KiB before, after one round, after three, at most: {before:?} {seen:?} {after:?} {}",
        peak(door.server.id())
    );
    assert!(after.1 < seen.1 + MORE, "{seen:?} {after:?}");
    assert!(peak(door.server.id()) < highest + MORE_AT_ONCE, "{highest} {}", peak(door.server.id()));
    assert!(!vault.place.log().contains("panicked"), "{}", vault.place.log());
    door.assert_there(&ada).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn what_is_announced_and_never_sent_takes_no_memory() {
    let vault = Outside::on_sqlite();
    let mut door = vault.start();
    let ada = door.tokenize("ada").await;
    let address: SocketAddr = door.server.address().parse().unwrap();
    let bearer = std::fs::read_to_string(vault.place.token()).unwrap().trim().to_owned();
    let before = held(door.server.id());
    let mut streams = Vec::new();
    for _ in 0..4 {
        let begin = |number: u32| {
            let stream = number * 2 + 1;
            [honest(1, 4, stream, &call(TOKENIZE, &bearer)), honest(0, 0, stream, &head(0, 16 << 20))].concat()
        };
        let calls: Vec<u8> = (0..250).flat_map(begin).collect();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(&[PREFACE, &honest(4, 0, 0, &[]), &calls, &honest(6, 0, 0, b"are here")].concat())
            .await
            .unwrap();
        // It has read all of them once it answers what comes last.
        let mut said: Vec<u8> = Vec::new();
        while !said.windows(8).any(|word| word == b"are here") {
            let mut more = [0; 4096];
            let length = tokio::time::timeout(PATIENCE, stream.read(&mut more)).await.unwrap().unwrap();
            assert!(length > 0, "the connection ends");
            said.extend(&more[..length]);
        }
        streams.push(stream);
    }
    door.assert_there(&ada).await;
    let during = held(door.server.id());
    println!("a thousand calls that announce 16 MiB each: {before:?} {during:?}");
    assert!(during.1 < before.1 + MORE, "{before:?} {during:?}");
    drop(streams);
    let gone = async {
        while held(door.server.id()).0 > before.0 {
            door.assert_there(&ada).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, gone).await.is_ok());
}
