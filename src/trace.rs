//! What a call is found by: the id that its caller is told, and the trace that it is part of.
//!
//! Whoever works on a call need not know of it. What is logged meanwhile names it, and so does its entry in the audit.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

tokio::task_local! {
    static TRACE: Arc<Trace>;
}

/// What one call is found by.
#[derive(Debug)]
pub struct Trace {
    request: String,
    parent: Option<Parent>,
}

/// The span of a caller that a call is part of, as the header `traceparent` tells it (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: [u8; 16],
    /// The span.
    pub span: [u8; 8],
    /// Whether the caller keeps it.
    pub sampled: bool,
}

impl Parent {
    /// Reads a `traceparent`; `None` for what is none.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let version = hex::<1>(parts.next()?)?;
        let (trace, span) = (hex(parts.next()?)?, hex(parts.next()?)?);
        let [flags] = hex::<1>(parts.next()?)?;
        // Later versions may tell more, and begin alike.
        let known = version != [0xff] && (version != [0] || parts.next().is_none());
        (known && trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

/// Bytes in hex, which must be small letters.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

impl Trace {
    /// A call that begins, with the id that its caller will be told, and what it is part of.
    #[must_use]
    pub const fn begin(request: String, parent: Option<Parent>) -> Self {
        Self { request, parent }
    }

    /// The id of the call.
    #[must_use]
    pub fn request(&self) -> &str {
        &self.request
    }

    /// The trace that it is part of, as it is written.
    #[must_use]
    pub fn id(&self) -> Option<impl fmt::Display> {
        self.parent.map(|parent| Hex(parent.trace))
    }

    /// Does something as part of this call.
    pub fn scope<F: Future>(self: Arc<Self>, work: F) -> impl Future<Output = F::Output> {
        TRACE.scope(self, work)
    }

    /// The same, of what does not wait.
    pub fn within<T>(self: Arc<Self>, work: impl FnOnce() -> T) -> T {
        TRACE.sync_scope(self, work)
    }
}

struct Hex<const N: usize>([u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The call that is being worked on; `None` of what the vault does by itself, or for many calls at once.
#[must_use]
pub fn current() -> Option<Arc<Trace>> {
    TRACE.try_with(Arc::clone).ok()
}

/// The id of the present call; empty for what the vault does by itself.
#[must_use]
pub fn request() -> String {
    TRACE.try_with(|trace| trace.request.clone()).unwrap_or_default()
}

/// Goes on with something as part of the present call, in a task of its own.
pub fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let trace = current();
    async move {
        match trace {
            Some(trace) => trace.scope(work).await,
            None => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_read_or_there_is_none() {
        let parent = Parent::parse(GOOD).unwrap();
        assert_eq!((parent.trace[0], parent.span[7], parent.sampled), (0x0a, 0x31, true));
        assert!(!Parent::parse(&GOOD.replace("-01", "-00")).unwrap().sampled);
        assert!(Parent::parse(&GOOD.replace("-01", "-03")).unwrap().sampled, "other flags may come");
        assert!(Parent::parse(&format!("{}-more", GOOD.replace("00-0", "01-0"))).is_some(), "so may other versions");
        for bad in [
            String::new(),
            GOOD.to_uppercase(),
            GOOD.replace("00-0", "ff-0"),
            format!("{GOOD}-more"),
            format!("{GOOD} "),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            GOOD.replace("b7ad6b7169203331", "b7ad6b716920333"),
            GOOD.replace("0af7", "0ag7"),
            GOOD.replace("0af7", "+af7"),
            GOOD.replace('-', "_"),
        ] {
            assert_eq!(Parent::parse(&bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_a_call_begins_in_a_task_of_its_own_is_still_part_of_it() {
        assert!(current().is_none());
        let trace = Arc::new(Trace::begin("0123".to_owned(), None));
        let found = trace.scope(async { tokio::spawn(carry(async { request() })).await.unwrap() }).await;
        assert_eq!(found, "0123");
        assert!(current().is_none());
    }
}
