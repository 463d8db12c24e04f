//! Rows out of a file: CSV or JSON lines, one at a time.
//!
//! A thread of its own reads, so that a slow pipe holds nothing up. What cannot be read as a row is one that is refused;
//! what is no file of rows ends the import. Neither repeats what stands there.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::results::Refused;
use super::row::{COLUMNS, Row};

/// The largest row. What is larger is a quotation mark that is missing rather than a decision.
const LARGEST: usize = 1 << 20;

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Comma-separated values, after a header with the names of the columns.
    Csv,
    /// A JSON object a line.
    Jsonl,
}

/// A file of rows.
pub struct Source {
    /// What it holds.
    pub format: Format,
    name: String,
    delimiter: u8,
    input: Metered,
}

/// A row, by its line.
pub struct Read {
    /// The line at which it begins; the header of CSV is line 1.
    pub line: u64,
    /// What it says, or why it says nothing.
    pub row: Result<Row, Refused>,
}

/// An input that gives so much for a row and no more, and knows its lines. They end with a line feed, a carriage return, or both: as rows
/// of CSV do.
struct Metered {
    input: Box<dyn io::Read + Send>,
    left: usize,
    /// Bytes given so far.
    given: u64,
    /// The line of the next byte.
    line: u64,
    /// Whether nothing but its end has come of that line.
    empty: bool,
    /// Whether a carriage return came last.
    returned: bool,
    /// The first byte of each line that is not empty, with its number, as far as they have not been asked about.
    begins: VecDeque<(u64, u64)>,
}

impl Metered {
    fn new(input: Box<dyn io::Read + Send>) -> Self {
        Self { input, left: LARGEST, given: 0, line: 1, empty: true, returned: false, begins: VecDeque::new() }
    }

    /// The line of what is read from a byte on: the first that is not empty. What lies before is not asked about again.
    fn line_from(&mut self, byte: u64) -> u64 {
        while self.begins.front().is_some_and(|(begin, _)| *begin < byte) {
            self.begins.pop_front();
        }
        self.begins.front().map_or(self.line, |(_, line)| *line)
    }
}

impl io::Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        let too_large = || io::Error::other("a row is larger than 1 MiB; is a quotation mark missing?");
        self.left = self.left.checked_sub(length).ok_or_else(too_large)?;
        for byte in buffer.iter().take(length) {
            match byte {
                b'\n' if self.returned => {}
                b'\n' | b'\r' => (self.line, self.empty) = (self.line + 1, true),
                _ if self.empty => {
                    self.begins.push_back((self.given, self.line));
                    self.empty = false;
                }
                _ => {}
            }
            self.returned = *byte == b'\r';
            self.given += 1;
        }
        Ok(length)
    }
}

/// The character between columns.
pub fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" => Ok(b'\t'),
        [one] if one.is_ascii() && !one.is_ascii_alphanumeric() && *one != b'"' => Ok(*one),
        _ => Err("one character such as ; or the word tab is expected".to_owned()),
    }
}

impl Source {
    /// Opens a file, or standard input for `-`.
    pub fn open(name: &str, format: Option<Format>, delimiter: u8) -> Result<Self> {
        let ending = Path::new(name).extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        let format = match (format, ending.as_deref()) {
            (Some(format), _) => format,
            (None, Some("csv")) => Format::Csv,
            (None, Some("jsonl" | "ndjson")) => Format::Jsonl,
            _ => bail!("{name} ends neither in .csv nor in .jsonl: say what it holds with --format"),
        };
        let input: Box<dyn io::Read + Send> = match name {
            "-" => Box::new(io::stdin()),
            _ => Box::new(File::open(name).with_context(|| format!("cannot open {name}"))?),
        };
        Ok(Self::over(name, format, delimiter, input))
    }

    /// The rows of what is open already.
    pub fn over(name: &str, format: Format, delimiter: u8, input: Box<dyn io::Read + Send>) -> Self {
        Self { format, name: name.to_owned(), delimiter, input: Metered::new(input) }
    }

    /// Reads on a thread, so many rows ahead. An error is the last that comes.
    pub fn start(self, ahead: usize) -> mpsc::Receiver<Result<Read>> {
        let (rows, receiver) = mpsc::channel(ahead);
        std::thread::spawn(move || {
            let (name, format) = (self.name.clone(), self.format);
            let send = |read| rows.blocking_send(Ok(read)).is_ok();
            let end = match format {
                Format::Csv => self.csv(send),
                Format::Jsonl => self.json_lines(send),
            };
            if let Err(error) = end {
                let told = error.context(format!("stopped reading {name}; what stands before was looked at"));
                let _ = rows.blocking_send(Err(told));
            }
        });
        receiver
    }

    fn csv(self, send: impl Fn(Read) -> bool) -> Result<()> {
        let mut reader = csv::ReaderBuilder::new().delimiter(self.delimiter).flexible(true).from_reader(self.input);
        let columns = columns(reader.byte_headers()?)?;
        let mut record = csv::ByteRecord::new();
        loop {
            let begin = reader.position().byte();
            reader.get_mut().left = LARGEST;
            let more = reader.read_byte_record(&mut record);
            // Counted here: the reader counts empty lines before a row as its first.
            let line = reader.get_mut().line_from(begin);
            if !more.with_context(|| format!("line {line}"))? {
                return Ok(());
            }
            if !send(Read { line, row: from_record(&columns, &record) }) {
                return Ok(());
            }
        }
    }

    fn json_lines(self, send: impl Fn(Read) -> bool) -> Result<()> {
        let mut reader = BufReader::new(self.input);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            reader.get_mut().left = LARGEST;
            let length = reader.read_until(b'\n', &mut line).with_context(|| format!("line {number}"))?;
            if length == 0 {
                break;
            }
            let text = line.strip_prefix("\u{feff}".as_bytes()).filter(|_| number == 1).unwrap_or(&line);
            let row = serde_json::from_slice(text).map_err(|error| not_a_row(&format!("column {}: ", error.column())));
            if !text.trim_ascii().is_empty() && !send(Read { line: number, row }) {
                break;
            }
        }
        Ok(())
    }
}

/// The names of the columns. One that nobody knows may be one that was meant otherwise, so it is not passed over.
fn columns(header: &csv::ByteRecord) -> Result<Vec<&'static str>> {
    let mut seen = BTreeSet::new();
    let known = |(at, name): (usize, &[u8])| {
        let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
        let known = COLUMNS.iter().find(|known| **known == name);
        let known = known.copied().filter(|known| seen.insert(*known));
        known.ok_or_else(|| {
            anyhow!("column {} of the header is unknown or there twice; columns are {}", at + 1, COLUMNS.join(", "))
        })
    };
    let columns: Vec<_> = header.iter().enumerate().map(known).collect::<Result<_>>()?;
    if columns.is_empty() {
        bail!("the file has no header; columns are {}", COLUMNS.join(", "));
    }
    Ok(columns)
}

/// A row of CSV is the JSON object that says the same. What is empty is not said.
fn from_record(columns: &[&'static str], record: &csv::ByteRecord) -> Result<Row, Refused> {
    if record.len() != columns.len() {
        let message = format!("has {} columns; the header has {}", record.len(), columns.len());
        return Err(Refused::row("", message));
    }
    let (mut fields, mut evidence) = (Map::new(), Map::new());
    for (column, bytes) in columns.iter().zip(record).filter(|(_, bytes)| !bytes.is_empty()) {
        let text = str::from_utf8(bytes).map_err(|_| Refused::row(column, "is no UTF-8"))?;
        match column.strip_prefix("evidence_") {
            Some(part) => evidence.insert(part.to_owned(), json!(text)),
            None => fields.insert((*column).to_owned(), json!(text)),
        };
    }
    if !evidence.is_empty() {
        fields.insert("evidence".to_owned(), json!([evidence]));
    }
    serde_json::from_value(Value::Object(fields)).map_err(|_| not_a_row(""))
}

/// The parser's own message may repeat what it found.
fn not_a_row(place: &str) -> Refused {
    Refused::row("", format!("{place}expected an object with fields of {}, each a text", COLUMNS.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows = Vec<(u64, Result<Row, Refused>)>;

    fn read(format: Format, text: impl Into<Vec<u8>>) -> (Rows, Option<String>) {
        let mut rows = Source::over("a", format, b',', Box::new(io::Cursor::new(text.into()))).start(4);
        let (mut read, mut end) = (Vec::new(), None);
        while let Some(row) = rows.blocking_recv() {
            match row {
                Ok(Read { line, row }) => read.push((line, row)),
                Err(error) => end = Some(format!("{error:#}")),
            }
        }
        (read, end)
    }

    #[test]
    fn rows_keep_their_lines_and_bad_ones_keep_nobody() {
        let csv = "\u{feff}Subject, kind,evidence_kind\nsub_a,give,scan\n\n\"sub\n_b\",give,\nsub_c,give\nsub_d,\"\u{e9}\",\n";
        let (rows, end) = read(Format::Csv, csv);
        let lines: Vec<_> = rows.iter().map(|(line, row)| (*line, row.is_ok())).collect();
        assert_eq!((lines, end), (vec![(2, true), (4, true), (6, false), (7, true)], None));
        let (rows, end) = read(Format::Csv, "kind\r\ngive\r\n\r\n\"gi\r\nve\"\r\ngive");
        assert_eq!((rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(), end), (vec![2, 4, 6], None));
        let (rows, end) = read(Format::Csv, "kind\rgive\r\r\"gi\rve\"\n\rgive\r");
        assert_eq!((rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(), end), (vec![2, 4, 7], None));
        let (rows, end) = read(Format::Jsonl, "{\"kind\":\"give\"}\n\n{\"kind\":7}\nMARKED\n{\"MARKED\":\"a\"}");
        let lines: Vec<_> = rows.iter().map(|(line, row)| (*line, row.is_ok())).collect();
        assert_eq!((lines, end), (vec![(1, true), (3, false), (4, false), (5, false)], None));
        for (_, row) in rows {
            assert!(!row.err().is_some_and(|refused| refused.message.contains("MARKED")));
        }
    }

    #[test]
    fn what_is_no_file_of_rows_ends_the_import() {
        for (csv, told) in [("", "no header"), ("subject,MARKED\n", "column 2"), ("subject,subject\n", "column 2")] {
            let end = read(Format::Csv, csv).1.unwrap();
            assert!(end.contains(told) && !end.contains("MARKED"), "{end}");
        }
        let open = format!("subject\nsub_a\n\"sub_b{}", "\n".repeat(2 * LARGEST));
        let (rows, end) = read(Format::Csv, open);
        assert!(rows.len() == 1 && end.is_some_and(|end| end.contains("quotation mark")));
        let (rows, end) = read(Format::Jsonl, vec![b' '; 2 * LARGEST]);
        assert!(rows.is_empty() && end.is_some_and(|end| end.contains("1 MiB")));
    }
}
