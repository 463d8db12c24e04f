//! Call detail records: rows in which telephone systems tell of calls, read one at a time.
//!
//! A row is a record of CSV or an object of JSON. What is taken of it is what a vault keeps of a call; names of channels,
//! addresses of networks, arguments of applications, pressed digits and attributes that anybody can set are passed over.

mod connect;
mod csv;
mod freeswitch;
mod parts;
#[cfg(test)]
mod tests;
mod time;
mod twilio;

use std::collections::BTreeMap;

use jiff::tz::Offset;

use crate::model::{Direction, Disposition, Error, LegFacts, PartyRole, Result};

use super::{Json, Plain};
use parts::Draft;

/// The largest row.
const LARGEST: usize = 1 << 20;

/// What tells of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The file that Asterisk's `cdr_csv` writes.
    AsteriskCsv,
    /// What `mod_json_cdr` of FreeSWITCH writes.
    FreeswitchJson,
    /// A contact record of Amazon Connect.
    Connect,
    /// A call of Twilio, as a resource or as its callbacks tell of it.
    Twilio,
    /// CSV of anybody, by a mapping.
    GenericCsv,
}

/// How rows are read.
pub struct Mapping {
    /// What tells of calls.
    pub format: Format,
    /// The names of the columns of CSV, in their order; those of the format when there are none.
    pub header: Vec<String>,
    /// What stands between columns.
    pub delimiter: u8,
    /// What of a call stands in which column.
    pub columns: BTreeMap<String, String>,
    /// Which way a call goes whose row does not say.
    pub direction: Option<Direction>,
    /// Which way a call goes, by a word of its row: a context, or what stands in the column of the direction.
    pub directions: BTreeMap<String, Direction>,
    /// How a call ended, by a word of its row.
    pub dispositions: BTreeMap<String, Disposition>,
    /// Of times without a zone, how far they are ahead of UTC.
    pub offset: Offset,
    /// How times are written, as `strptime` has it.
    pub time_format: Option<String>,
}

/// A leg of a call, as its row tells of it.
pub struct Told {
    /// What the system calls it.
    pub source_call_id: String,
    /// Counts what the system says of it.
    pub revision: u64,
    /// What the legs of the call have in common.
    pub group: String,
    /// What is known in clear.
    pub facts: LegFacts,
    /// Who took part.
    pub parties: Vec<Party>,
}

/// Somebody who took part.
pub struct Party {
    /// What they are in the call.
    pub role: PartyRole,
    /// What the system calls them, of whoever serves.
    pub agent_id: Plain,
    /// Their number.
    pub number: Plain,
    /// Their name.
    pub name: Plain,
    /// Where they are.
    pub place: Plain,
    /// What else is written of them.
    pub note: Plain,
}

impl Mapping {
    /// The mapping, if rows can be read by it.
    ///
    /// # Errors
    /// `ValueInvalid`, with the part of it that does not fit.
    pub fn checked(mut self) -> Result<Self> {
        csv::check(&mut self)?;
        if let Some(format) = &self.time_format {
            time::check_format(format)?;
        }
        Ok(self)
    }
}

/// Reads a row.
///
/// # Errors
/// `ValueInvalid` or `CardData`, with the column or member at fault, never with what stands there.
pub fn read(row: &str, mapping: &Mapping) -> Result<Told> {
    if row.len() > LARGEST {
        return Err(Error::invalid("content", "is larger than 1 MiB; is a quotation mark missing?"));
    }
    let json = || Json::parse(row.as_bytes(), "content");
    let draft: Draft = match mapping.format {
        Format::AsteriskCsv => csv::asterisk(row, mapping)?,
        Format::GenericCsv => csv::generic(row, mapping)?,
        Format::FreeswitchJson => freeswitch::read(&json()?, mapping)?,
        Format::Connect => connect::read(&json()?, mapping)?,
        Format::Twilio => twilio::read(&json()?, mapping)?,
    };
    draft.told(mapping)
}
