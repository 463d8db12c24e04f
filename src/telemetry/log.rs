//! Lines of the log: each one of a call names it.

use std::fmt::{self, Write as _};

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::trace::{self, Trace};

/// A format whose lines also tell which call they are of.
pub struct Named<F> {
    /// The format.
    pub format: F,
    /// Whether its lines are JSON documents.
    pub json: bool,
}

impl<S, N, F> FormatEvent<S, N> for Named<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, about: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(trace) = trace::current() else { return self.format.format_event(about, to, event) };
        let mut line = String::new();
        self.format.format_event(about, Writer::new(&mut line), event)?;
        to.write_str(&name(&line, &trace, self.json))
    }
}

/// Adds to a line of a log what its call is found by. A line that is a JSON document stays one.
fn name(line: &str, trace: &Trace, json: bool) -> String {
    let (body, end) = line.split_at(line.trim_end_matches(['\n', '\r']).len());
    let (body, closed) = match body.strip_suffix('}').filter(|_| json) {
        Some(body) => (body, "}"),
        None => (body, ""),
    };
    let mut named = String::with_capacity(line.len() + 96);
    named.push_str(body);
    let mut tell = |key: &str, value: &dyn fmt::Display| {
        // Writing to a string does not fail. Both are hex, so there is nothing to escape.
        let _ = if json { write!(named, ",\"{key}\":\"{value}\"") } else { write!(named, " {key}={value}") };
    };
    tell("request_id", &trace.request());
    if let Some(id) = trace.id() {
        tell("trace_id", &id);
    }
    named.push_str(closed);
    named.push_str(end);
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Parent;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn lines_name_their_call_and_stay_what_they_are() {
        let alone = Trace::begin("0123".to_owned(), None, None);
        assert_eq!(name("a line\n", &alone, false), "a line request_id=0123\n");
        let part = Trace::begin("0123".to_owned(), Parent::parse(PARENT), None);
        let line = name("{\"a\":{\"b\":1}}\n", &part, true);
        assert_eq!(
            line,
            "{\"a\":{\"b\":1},\"request_id\":\"0123\",\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\"}\n"
        );
    }
}
