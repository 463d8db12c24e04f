//! Rows of CSV: those of Asterisk, and those of anybody by a mapping.

use std::collections::BTreeMap;
use std::time::Duration;

use super::parts::{Draft, count, mapped_direction, word};
use super::{Format, Mapping, time};
use crate::model::{Direction, Disposition, Error, Result};

/// The columns of `cdr_csv`, with those that its newer versions add.
const ASTERISK: [&str; 21] = [
    "accountcode",
    "src",
    "dst",
    "dcontext",
    "clid",
    "channel",
    "dstchannel",
    "lastapp",
    "lastdata",
    "start",
    "answer",
    "end",
    "duration",
    "billsec",
    "disposition",
    "amaflags",
    "uniqueid",
    "userfield",
    "peeraccount",
    "linkedid",
    "sequence",
];

/// What of a call stands where in them.
const OF_ASTERISK: [(&str, &str); 9] = [
    ("caller_number", "src"),
    ("called_number", "dst"),
    ("direction", "dcontext"),
    ("start_time", "start"),
    ("answer_time", "answer"),
    ("end_time", "end"),
    ("disposition", "disposition"),
    ("source_call_id", "uniqueid"),
    ("group_id", "linkedid"),
];

/// What a column can hold of a call.
const FIELDS: [&str; 23] = [
    "source_call_id",
    "revision",
    "group_id",
    "direction",
    "caller_number",
    "called_number",
    "queue",
    "skill",
    "campaign",
    "contact_list",
    "start_time",
    "ring_time",
    "answer_time",
    "end_time",
    "duration_seconds",
    "hold_count",
    "hold_seconds",
    "disposition",
    "name",
    "place",
    "note",
    "agent_id",
    "agent_name",
];

/// Ways that calls go, by the words that most files have for them.
const DIRECTIONS: [(&str, Direction); 8] = [
    ("inbound", Direction::Inbound),
    ("incoming", Direction::Inbound),
    ("in", Direction::Inbound),
    ("outbound", Direction::Outbound),
    ("outgoing", Direction::Outbound),
    ("out", Direction::Outbound),
    ("internal", Direction::Internal),
    ("local", Direction::Internal),
];

/// How calls end, likewise.
const DISPOSITIONS: [(&str, Disposition); 14] = [
    ("answered", Disposition::Answered),
    ("answer", Disposition::Answered),
    ("completed", Disposition::Answered),
    ("no answer", Disposition::NoAnswer),
    ("noanswer", Disposition::NoAnswer),
    ("missed", Disposition::NoAnswer),
    ("busy", Disposition::Busy),
    ("failed", Disposition::Failed),
    ("congestion", Disposition::Congestion),
    ("abandoned", Disposition::Abandoned),
    ("cancel", Disposition::Abandoned),
    ("canceled", Disposition::Abandoned),
    ("cancelled", Disposition::Abandoned),
    ("voicemail", Disposition::Voicemail),
];

/// Completes a mapping of CSV by what the format says, and refuses one that names what there is not.
pub fn check(mapping: &mut Mapping) -> Result<()> {
    match mapping.format {
        Format::AsteriskCsv => {
            if mapping.header.is_empty() {
                mapping.header = ASTERISK.map(str::to_owned).to_vec();
            }
            let header = &mapping.header;
            let there = OF_ASTERISK.iter().filter(|(_, column)| header.iter().any(|known| known == column));
            let usual: BTreeMap<String, String> =
                there.map(|(field, column)| ((*field).to_owned(), (*column).to_owned())).collect();
            let stated = std::mem::replace(&mut mapping.columns, usual);
            mapping.columns.extend(stated);
        }
        Format::GenericCsv if mapping.header.is_empty() => {
            return Err(Error::invalid("header", "is missing: name the columns, in their order"));
        }
        Format::GenericCsv => {}
        _ if mapping.columns.is_empty() && mapping.header.is_empty() => return Ok(()),
        _ => return Err(Error::invalid("columns", "is for CSV only; this format says itself what is where")),
    }
    let delimiter = mapping.delimiter;
    if !delimiter.is_ascii() || delimiter.is_ascii_alphanumeric() || matches!(delimiter, b'"' | b'\r' | b'\n') {
        return Err(Error::invalid("delimiter", "expected one character such as ; or a tab"));
    }
    for (field, column) in &mapping.columns {
        if !FIELDS.contains(&field.as_str()) {
            let message = format!("names what no call has; there are {}", FIELDS.join(", "));
            return Err(Error::invalid("columns", message));
        }
        if mapping.header.iter().filter(|known| *known == column).count() != 1 {
            let message = format!("names a column for {field} that the header does not have exactly once");
            return Err(Error::invalid("columns", message));
        }
    }
    for field in ["source_call_id", "start_time"] {
        if !mapping.columns.contains_key(field) {
            return Err(Error::invalid("columns", format!("says of no column that it holds {field}")));
        }
    }
    Ok(())
}

/// A record with the names of its columns.
struct Cells<'m> {
    mapping: &'m Mapping,
    record: csv::StringRecord,
}

impl<'m> Cells<'m> {
    fn read(row: &str, mapping: &'m Mapping) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(mapping.delimiter)
            .from_reader(row.as_bytes());
        let mut record = csv::StringRecord::new();
        let mut more = csv::StringRecord::new();
        let one = reader.read_record(&mut record).is_ok_and(|read| read)
            && reader.read_record(&mut more).is_ok_and(|read| !read);
        if !one {
            return Err(Error::invalid("content", "is not one row of CSV; is a quotation mark missing?"));
        }
        // Asterisk leaves out the last columns, by its configuration.
        let columns = mapping.header.len();
        if record.len() > columns || record.len() < columns && mapping.format != Format::AsteriskCsv {
            let message = format!("has {} columns; the header has {columns}", record.len());
            return Err(Error::invalid("content", message));
        }
        Ok(Self { mapping, record })
    }

    fn column(&self, name: &str) -> &str {
        let at = self.mapping.header.iter().position(|known| known == name);
        at.and_then(|at| self.record.get(at)).unwrap_or_default().trim()
    }

    /// The column that holds a field, and what stands there.
    fn field(&self, field: &'static str) -> (&str, &str) {
        self.mapping.columns.get(field).map_or((field, ""), |column| (column.as_str(), self.column(column)))
    }

    fn text(&self, field: &'static str) -> String {
        self.field(field).1.to_owned()
    }

    fn time(&self, field: &'static str) -> Result<Option<crate::model::Time>> {
        let (column, text) = self.field(field);
        time::read(column, text, self.mapping)
    }

    fn count<N: std::str::FromStr + Default>(&self, field: &'static str) -> Result<N> {
        let (column, text) = self.field(field);
        count(column, text)
    }

    fn direction(&self) -> Option<Direction> {
        let text = self.field("direction").1;
        let usual = || DIRECTIONS.iter().find(|(known, _)| *known == word(text)).map(|(_, direction)| *direction);
        mapped_direction(text, self.mapping).or_else(usual)
    }

    fn disposition(&self) -> Result<Option<Disposition>> {
        let (column, text) = self.field("disposition");
        if text.is_empty() {
            return Ok(None);
        }
        let wanted = word(text);
        let mapped = self.mapping.dispositions.iter().find(|(known, _)| word(known) == wanted);
        let usual = || DISPOSITIONS.iter().find(|(known, _)| *known == wanted).map(|(_, ended)| *ended);
        let known = mapped.map(|(_, ended)| *ended).or_else(usual);
        let message = "is a word that nobody knows: say in the mapping how such a call ended";
        known.map(Some).ok_or_else(|| Error::invalid(column, message))
    }
}

/// A row by what the mapping says of its columns.
pub fn generic(row: &str, mapping: &Mapping) -> Result<Draft> {
    of_cells(&Cells::read(row, mapping)?)
}

fn of_cells(cells: &Cells<'_>) -> Result<Draft> {
    let started_at = cells.time("start_time")?;
    let lasted: u32 = cells.count("duration_seconds")?;
    let by_duration = || {
        let ended = started_at.map(|time| time.plus(Duration::from_secs(u64::from(lasted))));
        ended.filter(|_| !cells.field("duration_seconds").1.is_empty())
    };
    Ok(Draft {
        source_call_id: cells.text("source_call_id"),
        revision: cells.count("revision")?,
        group: cells.text("group_id"),
        direction: cells.direction(),
        direction_field: "direction",
        caller: cells.field("caller_number").1.into(),
        called: cells.field("called_number").1.into(),
        queue: cells.text("queue"),
        skill: cells.text("skill"),
        campaign: cells.text("campaign"),
        contact_list: cells.text("contact_list"),
        started_at,
        start_field: "start_time",
        rung_at: cells.time("ring_time")?,
        answered_at: cells.time("answer_time")?,
        ended_at: cells.time("end_time")?.or_else(by_duration),
        holds: cells.count("hold_count")?,
        held_for: cells.count("hold_seconds")?,
        disposition: cells.disposition()?,
        name: cells.field("name").1.into(),
        place: cells.field("place").1.into(),
        note: cells.field("note").1.into(),
        agent_id: cells.field("agent_id").1.into(),
        agent_name: cells.field("agent_name").1.into(),
    })
}

/// A row of Asterisk. A channel may have several, which its sequence tells apart.
pub fn asterisk(row: &str, mapping: &Mapping) -> Result<Draft> {
    let cells = Cells::read(row, mapping)?;
    let mut draft = of_cells(&cells)?;
    let sequence = cells.column("sequence");
    if !draft.source_call_id.is_empty() && !sequence.is_empty() {
        draft.source_call_id = format!("{}/{sequence}", draft.source_call_id);
    }
    if draft.direction_field == "direction" {
        draft.direction_field = "dcontext";
    }
    draft.start_field = "start";
    // Whoever called has the name; of a call that went out it is the company's own.
    if draft.direction.or(mapping.direction) == Some(Direction::Inbound) && draft.name.is_empty() {
        draft.name = shown_name(cells.column("clid")).into();
    }
    let to_voicemail = cells.column("lastapp").eq_ignore_ascii_case("voicemail");
    if to_voicemail && draft.disposition == Some(Disposition::Answered) {
        draft.disposition = Some(Disposition::Voicemail);
    }
    Ok(draft)
}

/// The name in `"Ada" <+49301234567>`; nothing where a number is all there is.
fn shown_name(clid: &str) -> String {
    let Some((name, _)) = clid.rsplit_once('<') else { return String::new() };
    name.trim().trim_matches('"').replace("\\\"", "\"").trim().to_owned()
}
