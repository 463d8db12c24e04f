//! Files of telephone systems, taken apart into rows as they are sent: records of CSV, objects of JSON.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, anyhow};
use clap::ValueEnum;
use tokio::sync::{mpsc, oneshot};

use crate::formats::{Json, Plain};
use crate::proto::v1;

/// Rows that are read ahead of what the vault takes.
const AHEAD: usize = 64;

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Rows of Asterisk's `cdr_csv`
    AsteriskCsv,
    /// Objects of FreeSWITCH's `mod_json_cdr`
    FreeswitchJson,
    /// Contact records of Amazon Connect
    Connect,
    /// Calls of Twilio
    Twilio,
    /// CSV with a header, by a mapping
    Csv,
}

/// How a file is read.
pub struct Reading {
    /// What it holds.
    pub format: Format,
    /// What stands between its columns.
    pub delimiter: u8,
    /// The first row that is sent.
    pub from: u64,
}

/// A file that is being read.
pub struct Started {
    /// The names of its columns, where it has them.
    pub header: Vec<String>,
    /// Its rows.
    pub rows: mpsc::Receiver<v1::CdrRow>,
    /// How many bytes were read.
    pub read: Arc<AtomicU64>,
    /// How reading ended.
    pub end: oneshot::Receiver<Result<()>>,
}

/// An input that counts.
struct Counted<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.read.fetch_add(u64::try_from(length).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(length)
    }
}

impl Format {
    /// The same on the wire.
    pub const fn wire(self) -> v1::CdrFormat {
        match self {
            Self::AsteriskCsv => v1::CdrFormat::AsteriskCsv,
            Self::FreeswitchJson => v1::CdrFormat::FreeswitchJson,
            Self::Connect => v1::CdrFormat::Connect,
            Self::Twilio => v1::CdrFormat::Twilio,
            Self::Csv => v1::CdrFormat::GenericCsv,
        }
    }
}

impl Reading {
    /// Begins to read, on a thread of its own that the process does not wait for.
    pub fn start(self, file: &Path) -> Result<Started> {
        let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        let read = Arc::new(AtomicU64::new(0));
        let input = BufReader::new(Counted { input: opened, read: Arc::clone(&read) });
        let (sender, rows) = mpsc::channel(AHEAD);
        let (tell, end) = oneshot::channel();
        let (number, from) = (AtomicU64::new(0), self.from);
        let send = move |content: String| {
            let row = number.fetch_add(1, Ordering::Relaxed) + 1;
            row < from || sender.blocking_send(v1::CdrRow { row, content }).is_ok()
        };
        let mut header = Vec::new();
        if matches!(self.format, Format::AsteriskCsv | Format::Csv) {
            let mut reader = reader(self.delimiter, self.format == Format::Csv, input);
            if self.format == Format::Csv {
                header = names(&mut reader)?;
            }
            std::thread::spawn(move || tell.send(records(reader, self.delimiter, send)));
        } else {
            std::thread::spawn(move || tell.send(objects(input, &send)));
        }
        Ok(Started { header, rows, read, end })
    }
}

fn reader<R: Read>(delimiter: u8, has_header: bool, input: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new().delimiter(delimiter).has_headers(has_header).flexible(true).from_reader(input)
}

fn names<R: Read>(reader: &mut csv::Reader<R>) -> Result<Vec<String>> {
    let header = reader.headers().map_err(|_| anyhow!("the header cannot be read as CSV in UTF-8"))?;
    Ok(header.iter().map(|name| name.trim().trim_start_matches('\u{feff}').to_owned()).collect())
}

/// Sends each record as a row of its own. What is no UTF-8 is sent with marks in its place, for a column may be passed over.
fn records<R: Read>(mut reader: csv::Reader<R>, delimiter: u8, send: impl Fn(String) -> bool) -> Result<()> {
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|_| anyhow!("a row cannot be read as CSV"))? {
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).flexible(true).from_writer(Vec::new());
        writer.write_byte_record(&record).context("a row cannot be sent")?;
        let bytes = writer.into_inner().map_err(|_| anyhow!("a row cannot be sent"))?;
        if !send(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned()) {
            break;
        }
    }
    Ok(())
}

/// Sends each object: of a list, of the member `calls`, or one after the other.
fn objects(input: impl Read, send: &impl Fn(String) -> bool) -> Result<()> {
    for read in serde_json::Deserializer::from_reader(input).into_iter::<Json>() {
        let json = read.map_err(|error| {
            // The parser's own message may repeat what it found.
            anyhow!("line {} column {} is no JSON that can be read", error.line(), error.column())
        })?;
        let listed = match json {
            Json::List(items) => items,
            Json::Object(members) => match members.into_iter().partition::<Vec<_>, _>(is_calls) {
                (calls, _) if !calls.is_empty() => calls.into_iter().flat_map(|(_, calls)| items(calls)).collect(),
                (_, members) => vec![Json::Object(members)],
            },
            other => vec![other],
        };
        for object in listed {
            let text = object.write().map_err(|_| anyhow!("a row cannot be sent"))?;
            if !send(text.expose().to_owned()) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn is_calls((name, value): &(Plain, Json)) -> bool {
    name.expose() == "calls" && matches!(value, Json::List(_))
}

fn items(json: Json) -> Vec<Json> {
    if let Json::List(items) = json { items } else { Vec::new() }
}

/// The rows of what is in memory already.
#[cfg(any(test, fuzzing))]
pub fn of_bytes(format: Format, bytes: &[u8]) -> Vec<String> {
    let rows = std::cell::RefCell::new(Vec::new());
    let send = |row| {
        rows.borrow_mut().push(row);
        true
    };
    let _either = match format {
        Format::AsteriskCsv | Format::Csv => records(reader(b',', false, bytes), b',', send),
        _ => objects(bytes, &send),
    };
    rows.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_apart_into_rows() {
        let csv = of_bytes(Format::AsteriskCsv, b"a,\"b\nc\",d\r\n\r\n\"x,y\",,\n");
        assert_eq!(csv, ["a,\"b\nc\",d", "\"x,y\",,"]);
        for json in ["{\"a\":1} {\"b\":2}", "[{\"a\":1},{\"b\":2}]", "{\"page\":0,\"calls\":[{\"a\":1},{\"b\":2}]}"] {
            assert_eq!(of_bytes(Format::Twilio, json.as_bytes()), ["{\"a\":1}", "{\"b\":2}"], "{json}");
        }
    }
}
