//! Strangers at the door who do not want to be served: nothing breaks, nothing grows, and the next caller is served.

use std::net::SocketAddr;
use std::time::Duration;

use h2::client::SendRequest;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;
use tonic::codegen::Bytes;
use tonic::codegen::http::Request;

use crate::asks::{text, tokenize};
use crate::authority::{Authority, known, secure};
use crate::house::{House, reason};
use crate::outside::Outside;

/// How long something may take that a healthy server does in a moment.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame of HTTP/2, whose length may be a lie.
fn frame(length: u32, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A frame that says how long it is.
pub fn honest(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(u32::try_from(payload.len()).unwrap(), kind, flags, stream, payload)
}

/// What no client should say.
fn rude() -> Vec<(&'static str, Vec<u8>)> {
    let settings = honest(4, 0, 0, &[]);
    let after = |more: Vec<u8>| [PREFACE, &settings, &more].concat();
    let head = [0x82, 0x86, 0x84];
    vec![
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        ("nonsense", vec![0xff; 4096]),
        ("half a preface", PREFACE[..10].to_vec()),
        ("no settings", [PREFACE, &honest(1, 5, 1, &head)].concat()),
        ("a frame of 16 MiB", after(frame(0x00ff_ffff, 0, 0, 1, &[0; 100]))),
        ("an unknown frame", after(honest(0xbb, 0xff, 0x7fff_ffff, &[1; 64]))),
        ("headers on stream 0", after(honest(1, 5, 0, &head))),
        ("headers on an even stream", after(honest(1, 5, 2, &head))),
        ("a continuation of nothing", after(honest(9, 4, 1, &head))),
        ("data on a stream that is not there", after(honest(0, 1, 99, &[0; 8]))),
        ("settings of 5 bytes", after(honest(4, 0, 0, &[0; 5]))),
        ("a window of nothing", after(honest(8, 0, 0, &[0; 4]))),
        ("a window that overflows", after(honest(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(2))),
        ("padding longer than its frame", after(honest(0, 8, 1, &[255, 0]))),
        ("headers that do not decompress", after(honest(1, 5, 1, &[0xff; 200]))),
        ("headers without an end", [after(honest(1, 0, 1, &head)), honest(9, 0, 1, &[0x00; 64]).repeat(5000)].concat()),
        ("a promise", after(honest(5, 4, 1, &[0, 0, 0, 2, 0x82]))),
        ("pings", after(honest(6, 0, 0, &[7; 8]).repeat(20_000))),
        ("settings", after(honest(4, 0, 0, &[0, 4, 0, 0, 0, 1]).repeat(20_000))),
        ("empty data", after(honest(0, 0, 1, &[]).repeat(20_000))),
        ("streams that are reset at once", {
            let pair = |number: u32| {
                let stream = number * 2 + 1;
                [honest(1, 5, stream, &head), honest(3, 0, stream, &[0, 0, 0, 8])].concat()
            };
            after((0..5000).flat_map(pair).collect())
        }),
    ]
}

/// Says something, says no more, and waits until the server has nothing more to say either.
pub async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, what: &str, bytes: &[u8]) {
    let saying = async {
        // Whoever is thrown out in the middle of it has been understood.
        let _thrown_out = stream.write_all(bytes).await;
        let _thrown_out = stream.shutdown().await;
        let _thrown_out = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    };
    assert!(tokio::time::timeout(PATIENCE, saying).await.is_ok(), "{what}: the connection stays");
}

pub async fn is_served(house: &House) {
    let (mut tokens, _) = house.connect_as(&house.bearer()).await;
    assert!(tokens.tokenize(tokenize("", vec![text("x")])).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_harm_nobody() {
    let house = House::on_sqlite().await;
    let address = house.running().address;
    for (what, bytes) in rude() {
        say(TcpStream::connect(address).await.unwrap(), what, &bytes).await;
        is_served(&house).await;
    }
    let mut random = ChaCha20Rng::seed_from_u64(7);
    for round in 0..200 {
        let mut noise = vec![0; 1 + usize::try_from(random.next_u32() % 2000).unwrap()];
        random.fill_bytes(&mut noise);
        let head = if round % 2 == 0 { PREFACE } else { &[] };
        say(TcpStream::connect(address).await.unwrap(), "noise", &[head, &noise].concat()).await;
    }
    is_served(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_handshakes_harm_nobody() {
    let (mut house, authority) = (House::on_sqlite().await, Authority::called("the authority"));
    secure(&mut house, &authority, vec![known("shop", &["dns:shop"])]).await;
    let address = house.running().address;
    for (what, bytes) in rude() {
        say(TcpStream::connect(address).await.unwrap(), what, &bytes).await;
    }
    let mut random = ChaCha20Rng::seed_from_u64(8);
    for length in 0..100_u16 {
        let mut noise = vec![0; usize::from(length) * 7];
        random.fill_bytes(&mut noise);
        // The head of a record of a handshake, with a length that may be a lie.
        let head = [0x16, 3, 1, (length % 64).to_be_bytes()[1], 0xff, 1];
        say(TcpStream::connect(address).await.unwrap(), "noise", &[&head[..], &noise].concat()).await;
    }
    is_served(&house).await;
}

/// A connection that speaks HTTP/2 well.
pub async fn polite(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    requests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_header_is_refused_and_not_kept() {
    let house = House::on_sqlite().await;
    let address = house.running().address;
    for (size, served) in [(8 << 10, true), (20 << 10, false), (1 << 20, false)] {
        let request = Request::post(format!("http://{address}/lacuna.v1.SubjectService/ListSubjects"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-padding", "x".repeat(size))
            .body(())
            .unwrap();
        let mut requests = polite(address).await.ready().await.unwrap();
        let (answer, _) = requests.send_request(request, true).unwrap();
        let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap();
        assert_eq!(answer.is_ok_and(|answer| answer.status() == 200), served, "{size} bytes");
        is_served(&house).await;
    }
    for length in [8 << 10, 15 << 10, 64 << 10] {
        let (_, mut subjects) = house.connect_as(&"x".repeat(length)).await;
        assert!(subjects.list_subjects(lacuna::proto::v1::ListSubjectsRequest::default()).await.is_err(), "{length}");
    }
    is_served(&house).await;
}

/// Waits until the server has closed a connection.
async fn closed(mut stream: TcpStream, what: &str) {
    let ended = tokio::time::timeout(PATIENCE, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await;
    assert!(ended.is_ok(), "{what}: the connection stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_too_long_to_begin_is_sent_away() {
    let mut house = House::on_sqlite().await;
    house.config.limits.handshake_seconds = 1;
    house.reopen().await;
    for said in [&b""[..], b"P", &PREFACE[..23], PREFACE, &[PREFACE, &[0, 0]].concat()] {
        let mut stream = TcpStream::connect(house.running().address).await.unwrap();
        stream.write_all(said).await.unwrap();
        closed(stream, "HTTP/2").await;
    }
    is_served(&house).await;
    let authority = Authority::called("the authority");
    secure(&mut house, &authority, vec![known("shop", &["dns:shop"])]).await;
    for said in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0, 1]] {
        let mut stream = TcpStream::connect(house.running().address).await.unwrap();
        stream.write_all(said).await.unwrap();
        closed(stream, "TLS").await;
    }
    is_served(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_answer_any_more_is_let_go() {
    let mut house = House::on_sqlite().await;
    (house.config.limits.keepalive_seconds, house.config.limits.keepalive_timeout_seconds) = (1, 1);
    house.reopen().await;
    let mut stream = TcpStream::connect(house.running().address).await.unwrap();
    stream.write_all(&[PREFACE, &honest(4, 0, 0, &[])].concat()).await.unwrap();
    closed(stream, "a client that is silent").await;
    let mut stream = TcpStream::connect(house.running().address).await.unwrap();
    let begun = [PREFACE, &honest(4, 0, 0, &[]), &honest(1, 0, 1, &[0x82, 0x86, 0x84])].concat();
    stream.write_all(&begun).await.unwrap();
    closed(stream, "a client in the middle of its headers").await;
    is_served(&house).await;
}

/// A connection from one of the addresses of this machine.
async fn from(host: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether there is a place for a connection: the server greets whoever greets it.
async fn is_let_in(stream: &mut TcpStream) -> bool {
    let hello = [PREFACE, &honest(4, 0, 0, &[])].concat();
    let mut byte = [0];
    stream.write_all(&hello).await.is_ok() && stream.read_exact(&mut byte).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn connections_are_limited_by_address_and_in_total() {
    let mut house = House::on_sqlite().await;
    (house.config.limits.connections, house.config.limits.connections_per_address) = (5, 3);
    house.reopen().await;
    let address = house.running().address;
    // The house's own is one of them.
    let mut first = Vec::new();
    for _ in 0..2 {
        let mut stream = from(1, address).await;
        assert!(is_let_in(&mut stream).await);
        first.push(stream);
    }
    assert!(!is_let_in(&mut from(1, address).await).await, "a fourth from one address");
    let mut second = Vec::new();
    for _ in 0..2 {
        let mut stream = from(2, address).await;
        assert!(is_let_in(&mut stream).await, "another address");
        second.push(stream);
    }
    assert!(!is_let_in(&mut from(3, address).await).await, "a sixth");
    assert!(house.tokens.tokenize(tokenize("", vec![text("x")])).await.is_ok(), "who is in is served");
    drop((first, second));
    while !is_let_in(&mut from(3, address).await).await {
        tokio::task::yield_now().await;
    }
    while !is_let_in(&mut from(1, address).await).await {
        tokio::task::yield_now().await;
    }
}

/// Many services are started with a limit of files that is below that of connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_do_not_take_the_files_that_the_vault_needs() {
    let vault = Outside::on_sqlite();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -Sn 64 && exec \"$0\" \"$@\""]);
    let mut door = vault.start_with(wrap(limited, &vault.serve()), &[]).unwrap();
    let ada = door.tokenize("ada").await;
    let address: SocketAddr = door.server.address().parse().unwrap();
    let mut strangers = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(is_let_in(&mut stream).await);
        strangers.push(stream);
    }
    door.assert_there(&ada).await;
    door.erase(&ada).await;
    door.assert_gone(&ada).await;
}

/// A command that is run by another.
fn wrap(mut by: std::process::Command, command: &std::process::Command) -> std::process::Command {
    by.arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        by.current_dir(folder);
    }
    by
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_takes_too_long_is_given_up() {
    let mut house = House::on_sqlite().await;
    house.config.limits.call_seconds = 1;
    house.reopen().await;
    let vault = std::sync::Arc::clone(&house.running().vault);
    // Nobody else can write meanwhile.
    let writing = vault.custody().store().write().await.unwrap();
    let refused = house.tokens.tokenize(tokenize("", vec![text("x")])).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    drop((writing, vault));
    is_served(&house).await;
}

/// How many files a process has open, and how many KiB of memory it has.
#[cfg(target_os = "linux")]
pub fn held(process: u32) -> (usize, usize) {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (files, memory.trim().trim_end_matches(" kB").parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn a_thousand_strangers_leave_nothing_behind() {
    let vault = Outside::on_sqlite();
    let mut door = vault.start();
    let ada = door.tokenize("ada").await;
    let address: SocketAddr = door.server.address().parse().unwrap();
    let rude = rude();
    let storm = async |rounds: usize| {
        for (_, bytes) in rude.iter().cycle().take(rounds) {
            say(TcpStream::connect(address).await.unwrap(), "a stranger", bytes).await;
        }
    };
    storm(100).await;
    let before = held(door.server.id());
    storm(1000).await;
    let forgotten = async {
        while held(door.server.id()).0 > before.0 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, forgotten).await.is_ok(), "{before:?} {:?}", held(door.server.id()));
    let after = held(door.server.id());
    println!("files and KiB before and after: {before:?} {after:?}");
    assert!(after.1 < before.1 + (32 << 10), "{before:?} {after:?}");
    assert!(!vault.place.log().contains("panicked"), "{}", vault.place.log());
    door.assert_there(&ada).await;
}
