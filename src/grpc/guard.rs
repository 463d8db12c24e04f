//! The last look before bytes leave: what was made ready while this node had its lease must not be sent after it.
//!
//! A process may be stopped at any point, for longer than its lease lasts, and go on as if nothing had been. The look
//! is right before the system call that sends, on every connection that was there when the lease ended. A connection
//! that was made later carries nothing from before.
//!
//! A connection also ends some time after the server was asked to stop: a client that reads no more keeps its answer from
//! ending for as long as it likes, and must not keep the server from doing so.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::keys::lease::Lease;

/// Puts connections under guard.
pub struct Guard {
    /// What they end with.
    pub lease: Arc<Lease>,
    /// Set when the server is to stop.
    pub stop: watch::Receiver<bool>,
    /// How long they may go on after that.
    pub patience: Duration,
}

/// A connection that ends with the lease.
pub struct Guarded<T> {
    stream: TcpStream,
    lease: Arc<Lease>,
    /// How often the lease had ended when the connection was made.
    lapses: u64,
    /// Ready when it is too late for everything.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
    /// What is given back with the connection.
    _place: T,
}

impl Guard {
    /// A connection, with what is to be kept as long as it is.
    pub fn over<T>(&self, stream: TcpStream, place: T) -> Guarded<T> {
        let lease = Arc::clone(&self.lease);
        let end = Box::pin(end(self.stop.clone(), self.patience));
        Guarded { stream, lapses: lease.lapses(), lease, end, ended: false, _place: place }
    }
}

async fn end(mut stop: watch::Receiver<bool>, patience: Duration) {
    // An error means that nobody is left who could say stop: it has been said.
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(patience).await;
}

impl<T> Guarded<T> {
    fn look(&self) -> io::Result<()> {
        if self.lease.lapses() == self.lapses {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the lease of this node has ended"))
    }
}

impl<T: Unpin> AsyncRead for Guarded<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Nor is anything begun whose answer could not be sent.
        self.look()?;
        self.ended = self.ended || self.end.as_mut().poll(cx).is_ready();
        if self.ended {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server has stopped")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.look()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.look()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_ends_with_the_patience_of_a_server_that_stops() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stopping, stop) = watch::channel(false);
        let lease = Arc::new(Lease::unlimited());
        let guard = Guard { lease, stop, patience: Duration::from_millis(1) };
        let _client = TcpStream::connect(address).await.unwrap();
        let mut connection = guard.over(listener.accept().await.unwrap().0, ());
        let reading = tokio::spawn(async move {
            let mut byte = [0];
            let first = connection.read(&mut byte).await.map_err(|error| error.kind());
            (first, connection.read(&mut byte).await.map_err(|error| error.kind()))
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!reading.is_finished(), "the client may take its time until then");
        stopping.send_replace(true);
        let ended = Err(io::ErrorKind::ConnectionAborted);
        assert_eq!(reading.await.unwrap(), (ended, ended));
    }
}
