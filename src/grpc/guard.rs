//! The last look before bytes leave: what was made ready while this node had its lease must not be sent after it.
//!
//! A process may be stopped at any point, for longer than its lease lasts, and go on as if nothing had been. The look
//! is right before the system call that sends, on every connection that was there when the lease ended. A connection
//! that was made later carries nothing from before.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

use crate::keys::lease::Lease;

/// A connection that ends with the lease.
pub struct Guarded {
    stream: TcpStream,
    lease: Arc<Lease>,
    /// How often the lease had ended when the connection was made.
    lapses: u64,
}

/// Accepts connections, each under guard.
pub fn accept(listener: TcpListener, lease: Arc<Lease>) -> impl Stream<Item = io::Result<Guarded>> {
    TcpIncoming::from(listener).with_nodelay(Some(true)).map(move |stream| {
        let lease = Arc::clone(&lease);
        Ok(Guarded { stream: stream?, lapses: lease.lapses(), lease })
    })
}

impl Guarded {
    fn look(&self) -> io::Result<()> {
        if self.lease.lapses() == self.lapses {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the lease of this node has ended"))
    }
}

impl Connected for Guarded {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Nor is anything begun whose answer could not be sent.
        self.look()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
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
