//! What a call is found by: the id that its caller is told, and the trace that it is part of.
//!
//! Whoever works on a call need not know of it. What is logged meanwhile names it, and so does its entry in the audit. If the
//! trace is kept, the stages of the call are noted here until it has ended. All that can be noted is who called, how it went
//! and which stage took how long: there is no place for anything that a caller wrote.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many stages of one call are kept. A stream may have any number.
const MOST_STAGES: usize = 64;

tokio::task_local! {
    static TRACE: Arc<Trace>;
}

/// What one call is found by.
#[derive(Debug)]
pub struct Trace {
    request: String,
    parent: Option<Parent>,
    span: Option<Span>,
}

/// The span of a call whose trace is kept.
#[derive(Debug)]
pub struct Span {
    /// The trace.
    pub trace: [u8; 16],
    /// The span.
    pub id: [u8; 8],
    /// When it began, in microseconds since 1970.
    pub begun_at: i64,
    begun: Instant,
    noted: Mutex<Noted>,
}

/// What was noted of a call.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    /// Who called, once that is known.
    pub caller: Option<String>,
    /// The reason of the error that it was answered with.
    pub reason: Option<String>,
    /// What it went through.
    pub stages: Vec<Past>,
    /// How many more stages there were.
    pub more: u64,
    /// How long it took, once it has ended.
    pub took: Option<Duration>,
}

/// A stage that is over.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// What it is called.
    pub name: &'static str,
    /// How long after the call it began.
    pub after: Duration,
    /// How long it took.
    pub took: Duration,
}

impl Span {
    /// A span that begins.
    #[must_use]
    pub fn begin(trace: [u8; 16], id: [u8; 8], begun_at: i64) -> Self {
        Self { trace, id, begun_at, begun: Instant::now(), noted: Mutex::default() }
    }

    /// What has been noted until now.
    pub fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has ended.
    pub fn end(&self) {
        self.noted().took = Some(self.begun.elapsed());
    }
}

/// A stage of a call, which is over when it is dropped.
#[must_use = "a stage is over when it is dropped"]
pub struct Stage {
    trace: Arc<Trace>,
    name: &'static str,
    begun: Instant,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let Some(span) = &self.trace.span else { return };
        let past = Past { name: self.name, after: self.begun - span.begun, took: self.begun.elapsed() };
        let mut noted = span.noted();
        if noted.stages.len() < MOST_STAGES {
            noted.stages.push(past);
        } else {
            noted.more = noted.more.saturating_add(1);
        }
    }
}

/// A stage of the present call begins, if its trace is kept.
#[must_use = "a stage is over when it is dropped"]
pub fn stage(name: &'static str) -> Option<Stage> {
    let kept = TRACE.try_with(|trace| trace.span.is_some().then(|| Arc::clone(trace)));
    Some(Stage { trace: kept.ok()??, name, begun: Instant::now() })
}

/// Notes who makes the present call.
pub fn note_caller(name: &str) {
    // Nobody need be calling.
    let _ = TRACE.try_with(|trace| trace.span.as_ref().map(|span| span.noted().caller = Some(name.to_owned())));
}

/// Notes the reason of an error that the present call is answered with.
pub fn note_reason(reason: &str) {
    let _ = TRACE.try_with(|trace| trace.span.as_ref().map(|span| span.noted().reason = Some(reason.to_owned())));
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
    /// A call that begins, with the id that its caller will be told, what it is part of, and its span if that is kept.
    #[must_use]
    pub const fn begin(request: String, parent: Option<Parent>, span: Option<Span>) -> Self {
        Self { request, parent, span }
    }

    /// Its span, if that is kept.
    #[must_use]
    pub const fn span(&self) -> Option<&Span> {
        self.span.as_ref()
    }

    /// What it is part of.
    #[must_use]
    pub const fn parent(&self) -> Option<Parent> {
        self.parent
    }

    /// The id of the call.
    #[must_use]
    pub fn request(&self) -> &str {
        &self.request
    }

    /// The trace that it is part of, as it is written.
    #[must_use]
    pub fn id(&self) -> Option<impl fmt::Display> {
        self.span.as_ref().map(|span| span.trace).or(self.parent.map(|parent| parent.trace)).map(Hex)
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
        let trace = Arc::new(Trace::begin("0123".to_owned(), None, None));
        let found = trace.scope(async { tokio::spawn(carry(async { request() })).await.unwrap() }).await;
        assert_eq!(found, "0123");
        assert!(current().is_none());
    }

    #[tokio::test]
    async fn stages_are_kept_with_their_span_and_not_without_end() {
        assert!(stage("nowhere").is_none());
        let trace = Arc::new(Trace::begin("0123".to_owned(), None, None));
        trace.scope(async { assert!(stage("not kept").is_none()) }).await;
        let span = Span::begin([1; 16], [2; 8], 0);
        let trace = Arc::new(Trace::begin("0123".to_owned(), None, Some(span)));
        let work = async {
            note_caller("shop");
            for _ in 0..100 {
                let _stage = stage("read");
            }
        };
        Arc::clone(&trace).scope(work).await;
        let noted = trace.span().unwrap().noted().clone();
        assert_eq!((noted.caller.as_deref(), noted.stages.len(), noted.more), (Some("shop"), MOST_STAGES, 36));
        assert_eq!(trace.id().unwrap().to_string(), "01".repeat(16));
    }
}
