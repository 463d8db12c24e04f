//! The way in: connections are counted, shake hands within their time, and stand under guard.
//!
//! Nobody has been recognised here. What a stranger can take is a place among the connections, for a short time and not
//! all of them, and nothing of the vault.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::guard::{Guard, Guarded};
use super::sparingly::Sparingly;
use super::tls::{Certificate, Tls};
use crate::config::Limits;

/// The first words of HTTP/2: the preface, and the head of the frame that follows (RFC 9113, section 3.4).
const GREETING: usize = 24 + 9;

/// How long nothing is accepted after the system could not.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection. Goes with every call as an extension.
#[derive(Clone)]
pub struct Peer(Arc<Identity>);

struct Identity {
    address: SocketAddr,
    certificate: Option<Certificate>,
}

impl Peer {
    /// The certificate that it showed.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.0.certificate.as_ref()
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

/// What every connection is measured by.
pub struct Entrance {
    /// How many there may be, and how long they may take to begin.
    pub limits: Limits,
    /// TLS, if the door has it.
    pub tls: Option<Arc<Tls>>,
    /// Under which guard they stand.
    pub guard: Guard,
}

/// Accepts connections. Those that have shaken hands come out, in the order in which they have.
pub fn accept(listener: TcpListener, entrance: Entrance) -> impl Stream<Item = io::Result<Connection>> {
    for cause in ["connections", "connections_per_address", "handshake", "system"] {
        metrics::counter!("lacuna_connections_refused_total", "cause" => cause).absolute(0);
    }
    let queue = Queue { listener, entrance: Arc::new(entrance), places: Arc::default(), shaking: JoinSet::new() };
    stream::unfold(queue, |mut queue| async {
        let connection = queue.next().await;
        Some((Ok(connection), queue))
    })
}

/// Those who wait at the door.
struct Queue {
    listener: TcpListener,
    entrance: Arc<Entrance>,
    places: Arc<Places>,
    shaking: JoinSet<Option<Connection>>,
}

impl Queue {
    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                Some(shaken) = self.shaking.join_next(), if !self.shaking.is_empty() => {
                    if let Ok(Some(connection)) = shaken {
                        return connection;
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, address)) => {
                        if let Some(place) = self.places.take(address, &self.entrance.limits) {
                            self.shaking.spawn(begin(Arc::clone(&self.entrance), stream, address, place));
                        }
                    }
                    Err(error) if is_about_one(&error) => {}
                    Err(error) => {
                        refused("system");
                        tracing::error!(%error, "no connection can be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }
}

/// Whether the caller who wanted to come in has gone again, which says nothing about the next.
fn is_about_one(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | Interrupted | TimedOut | WouldBlock)
}

/// Shakes hands; `None` when that failed.
async fn begin(entrance: Arc<Entrance>, stream: TcpStream, address: SocketAddr, place: Place) -> Option<Connection> {
    let deadline = Instant::now() + entrance.limits.handshake();
    // Answers are small, and waiting for more would make them late.
    stream.set_nodelay(true).ok()?;
    let guarded = entrance.guard.over(stream, place);
    let (stream, certificate) = match &entrance.tls {
        None => (Wire::Plain(guarded), None),
        Some(tls) => match tokio::time::timeout_at(deadline, tls.acceptor().accept(guarded)).await {
            Ok(Ok(stream)) => {
                let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
                (Wire::Tls(Box::new(stream)), chain.map(Certificate::new))
            }
            Ok(Err(error)) => return give_up(address, &error.to_string()),
            Err(_) => return give_up(address, "it took too long"),
        },
    };
    let greeting = Some((GREETING, Box::pin(tokio::time::sleep_until(deadline))));
    Some(Connection { stream, peer: Peer(Arc::new(Identity { address, certificate })), greeting })
}

fn give_up(address: SocketAddr, why: &str) -> Option<Connection> {
    static TOLD: Sparingly = Sparingly::new();
    refused("handshake");
    if TOLD.may_tell() {
        tracing::info!(%address, why, "a connection failed to shake hands");
    }
    None
}

/// Counts a connection that was not served.
fn refused(cause: &'static str) {
    metrics::counter!("lacuna_connections_refused_total", "cause" => cause).increment(1);
}

/// The connections there are, by where they come from.
#[derive(Default)]
struct Places(Mutex<HashMap<IpAddr, usize>>);

/// One connection's place; given back when dropped.
pub struct Place {
    places: Arc<Places>,
    from: IpAddr,
}

impl Places {
    /// A place for a connection; `None`, counted, when there is none.
    fn take(self: &Arc<Self>, address: SocketAddr, limits: &Limits) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= limits.connections {
            refused("connections");
            return None;
        }
        let from = neighbourhood(address.ip());
        let own = taken.entry(from).or_default();
        if *own >= limits.connections_per_address {
            refused("connections_per_address");
            return None;
        }
        *own += 1;
        metrics::gauge!("lacuna_connections").increment(1.0);
        Some(Place { places: Arc::clone(self), from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut own) = taken.entry(self.from) {
            *own.get_mut() = own.get().saturating_sub(1);
            if *own.get() == 0 {
                own.remove();
            }
        }
        metrics::gauge!("lacuna_connections").decrement(1.0);
    }
}

/// What counts as one address: with IPv6 everybody has 2^64 of them.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// A connection that has shaken hands.
pub struct Connection {
    stream: Wire,
    peer: Peer,
    /// How many bytes of the first words are missing, and until when.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
}

enum Wire {
    Plain(Guarded<Place>),
    Tls(Box<TlsStream<Guarded<Place>>>),
}

impl Wire {
    fn as_read(&mut self) -> Pin<&mut (dyn AsyncRead + Unpin)> {
        match self {
            Self::Plain(stream) => Pin::new(stream as &mut (dyn AsyncRead + Unpin)),
            Self::Tls(stream) => Pin::new(&mut **stream as &mut (dyn AsyncRead + Unpin)),
        }
    }

    fn as_write(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        match self {
            Self::Plain(stream) => Pin::new(stream as &mut (dyn AsyncWrite + Unpin)),
            Self::Tls(stream) => Pin::new(&mut **stream as &mut (dyn AsyncWrite + Unpin)),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some((_, deadline)) = &mut this.greeting
            && deadline.as_mut().poll(cx).is_ready()
        {
            let _none = give_up(this.peer.address(), "it did not say its first words");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        ready!(this.stream.as_read().poll_read(cx, buf))?;
        if let Some((missing, _)) = &mut this.greeting {
            *missing = missing.saturating_sub(buf.filled().len() - before);
            if *missing == 0 {
                this.greeting = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.as_write().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_write().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_write().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_write().poll_shutdown(cx)
    }
}
