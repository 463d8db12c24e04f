//! The members of an object, taken out one by one; what is wrong with one is told by its name.

use serde_json::Number;

use super::model::Others;
use crate::formats::json::repeated;
use crate::formats::{Json, Plain};
use crate::model::{Error, Result, Time};

/// Names that the format has. No other is told to anybody: where a system puts people's names, a member's name may be one.
const NAMES: [&str; 95] = [
    "alg",
    "amended",
    "analysis",
    "appended",
    "application",
    "attachment",
    "attachments",
    "body",
    "button",
    "campaign",
    "ciphertext",
    "civicaddress",
    "conditions",
    "consultation",
    "contact_list",
    "content_hash",
    "created_at",
    "crit",
    "critical",
    "dept",
    "dialog",
    "did",
    "disposition",
    "duration",
    "email",
    "encoding",
    "end",
    "event",
    "expiration",
    "extensions",
    "filename",
    "gmlpos",
    "granted",
    "granted_at",
    "group",
    "header",
    "id",
    "interaction_id",
    "interaction_type",
    "kid",
    "lacuna_gaps",
    "lawful_basis",
    "mailto",
    "mediatype",
    "message",
    "message_id",
    "meta",
    "mimetype",
    "name",
    "org",
    "original",
    "originator",
    "parties",
    "party",
    "party_history",
    "payload",
    "product",
    "proof_mechanisms",
    "protected",
    "purpose",
    "purpose_grants",
    "reason",
    "recording_set",
    "recordings",
    "redacted",
    "registry",
    "role",
    "schema",
    "session_id",
    "signature",
    "signatures",
    "sip",
    "skill",
    "start",
    "status_interval",
    "stir",
    "subject",
    "tags",
    "target_dialog",
    "tel",
    "text",
    "time",
    "transcript",
    "transfer_target",
    "transferee",
    "transferor",
    "type",
    "updated_at",
    "url",
    "uuid",
    "validation",
    "vcon",
    "vendor",
    "vendor_schema",
    "x5c",
];

/// Longest code or label, and longest number, name or address of somebody, in bytes.
pub const LABEL: usize = 512;

/// Longest text, in bytes.
pub const TEXT: usize = 4 << 20;

/// Longest time that something takes, in seconds: a year.
pub const MOST_SECONDS: usize = 366 * 86_400;

/// Whether a member's name says nothing about anybody.
pub fn is_known(name: &str) -> bool {
    NAMES.binary_search(&name).is_ok()
}

/// The path of a member: `dialog[3].parties`, or that of its object when its name is not one of the format.
pub fn below(path: &str, name: &str) -> String {
    match (path.is_empty(), is_known(name)) {
        (_, false) => path.to_owned(),
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
    }
}

/// An object that is being read.
pub struct Fields {
    path: String,
    members: Others,
    /// How many times had no zone.
    pub zones: usize,
}

impl Fields {
    /// The members of an object.
    ///
    /// # Errors
    /// `ValueInvalid`, when it is no object or names a member twice.
    pub fn of(json: Json, path: &str) -> Result<Self> {
        let Json::Object(members) = json else { return Err(Error::invalid(path, "an object is expected")) };
        if let Some(name) = repeated(&members) {
            let field = below(path, name.expose());
            return Err(Error::invalid(field, "a member has the same name as another one; which of them is meant?"));
        }
        Ok(Self { path: path.to_owned(), members, zones: 0 })
    }

    /// The path of a member.
    pub fn at(&self, name: &str) -> String {
        below(&self.path, name)
    }

    /// A refusal of a member.
    pub fn refuse(&self, name: &str, message: &'static str) -> Error {
        Error::invalid(self.at(name), message)
    }

    /// Takes a member out; null is nothing.
    pub fn take(&mut self, name: &str) -> Option<Json> {
        let at = self.members.iter().position(|(found, _)| found.expose() == name)?;
        let (_, value) = self.members.remove(at);
        (!matches!(value, Json::Null)).then_some(value)
    }

    /// Whether there is such a member, and it is not null.
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(found, value)| found.expose() == name && !matches!(value, Json::Null))
    }

    /// A member that stays.
    pub fn peek(&self, name: &str) -> Option<&Json> {
        self.members.iter().find(|(found, _)| found.expose() == name).map(|(_, value)| value)
    }

    /// Text of so many bytes at most; empty text is nothing.
    pub fn text(&mut self, name: &str, limit: usize) -> Result<Option<Plain>> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::Text(text)) if text.expose().len() <= limit => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(Json::Text(_)) => {
                Err(Error::invalid(self.at(name), format!("the text is too long; {limit} bytes are the most")))
            }
            Some(_) => Err(self.refuse(name, "a text is expected, in quotation marks")),
        }
    }

    /// Text by the first of several names that is there.
    pub fn any_text(&mut self, names: &[&str], limit: usize) -> Result<Option<Plain>> {
        for name in names {
            if let Some(text) = self.text(name, limit)? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// One text, or several.
    pub fn texts(&mut self, name: &str, most: usize) -> Result<Vec<Plain>> {
        let items = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Json::List(items)) if items.len() <= most => items,
            Some(Json::List(_)) => return Err(self.refuse(name, "there are too many")),
            Some(one) => vec![one],
        };
        let text = |(at, item)| match item {
            Json::Text(text) if text.expose().len() <= LABEL => Ok(text),
            _ => Err(Error::invalid(format!("{}[{at}]", self.at(name)), "a text of 512 bytes at most is expected")),
        };
        items.into_iter().enumerate().map(text).collect()
    }

    /// A list of so many items at most; none when it is not there. Null is no list.
    pub fn list(&mut self, name: &str, most: usize) -> Result<Vec<Json>> {
        let there = self.members.iter().any(|(found, _)| found.expose() == name);
        match self.take(name) {
            None if !there => Ok(Vec::new()),
            Some(Json::List(items)) if items.len() <= most => Ok(items),
            Some(Json::List(_)) => {
                Err(Error::invalid(self.at(name), format!("there are too many; {most} are the most")))
            }
            _ => Err(self.refuse(name, "a list is expected; leave it out when there is nothing to tell")),
        }
    }

    /// A moment. One without a zone is taken for UTC, and counted.
    pub fn time(&mut self, name: &str) -> Result<Option<Time>> {
        let Some(text) = self.text(name, LABEL)? else { return Ok(None) };
        let text = text.expose();
        let zoneless = || {
            let civil: jiff::civil::DateTime = text.contains(['T', 't', ' ']).then(|| text.parse().ok()).flatten()?;
            Some(Time::from_micros(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond()))
        };
        let time = Time::parse(text).or_else(|| zoneless().inspect(|_| self.zones += 1));
        let time = time.filter(|time| *time <= Time::LAST && time.micros() >= -62_135_596_800_000_000);
        time.map(Some).ok_or_else(|| self.refuse(name, "a time is expected, as 2026-01-31T09:30:00Z (RFC 3339)"))
    }

    /// A UUID, in lower case.
    pub fn uuid(&mut self, name: &str) -> Result<Option<String>> {
        let Some(text) = self.text(name, LABEL)? else { return Ok(None) };
        let shaped = text.expose().len() == 36;
        let uuid = uuid::Uuid::try_parse(text.expose()).ok().filter(|_| shaped);
        uuid.map(|uuid| Some(uuid.hyphenated().to_string()))
            .ok_or_else(|| self.refuse(name, "a UUID is expected, as 01928e10-193e-8231-b9a2-279e0d16bc46"))
    }

    /// The number of something of which there are so many, counted from nothing.
    pub fn index(&mut self, name: &str, count: usize) -> Result<Option<usize>> {
        self.take(name).map(|json| index(&json, count, &self.at(name))).transpose()
    }

    /// One such number, or several.
    pub fn indices(&mut self, name: &str, count: usize) -> Result<Vec<usize>> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Json::List(items)) => numbered(&items, count, &self.at(name)),
            Some(one) => Ok(vec![index(&one, count, &self.at(name))?]),
        }
    }

    /// How long something took: seconds, from nothing to a year.
    pub fn duration(&mut self, name: &str) -> Result<Option<Number>> {
        let Some(json) = self.take(name) else { return Ok(None) };
        let most = f64::from(u32::try_from(MOST_SECONDS).unwrap_or(u32::MAX));
        match json {
            Json::Number(number) if number.as_f64().is_some_and(|seconds| (0.0..=most).contains(&seconds)) => {
                Ok(Some(number))
            }
            _ => Err(self.refuse(name, "a number of seconds is expected, zero or more and at most a year")),
        }
    }

    /// One of these words.
    pub fn word(&mut self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>> {
        let Some(text) = self.text(name, LABEL)? else { return Ok(None) };
        let found = words.iter().find(|word| **word == text.expose());
        let expected = || Error::invalid(self.at(name), format!("expected one of {}", words.join(", ")));
        found.map(|word| Some(*word)).ok_or_else(expected)
    }

    /// What nobody took.
    pub fn rest(self) -> Others {
        self.members.into_iter().filter(|(_, value)| !matches!(value, Json::Null)).collect()
    }
}

/// The numbers in a list.
pub fn numbered(items: &[Json], count: usize, path: &str) -> Result<Vec<usize>> {
    if items.len() > count.max(1) * 4 {
        return Err(Error::invalid(path, "there are more numbers than there are things to number"));
    }
    items.iter().enumerate().map(|(at, item)| index(item, count, &format!("{path}[{at}]"))).collect()
}

/// A number of something of which there are so many.
pub fn index(json: &Json, count: usize, path: &str) -> Result<usize> {
    let number = if let Json::Number(number) = json { number.as_u64() } else { None };
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.filter(|number| *number < count).ok_or_else(|| {
        let message = "it is no number of one that is there, counted from 0; there";
        let are = if count == 1 { "is 1".to_owned() } else { format!("are {count}") };
        Error::invalid(path, format!("{message} {are}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order() {
        assert!(NAMES.is_sorted());
    }

    #[test]
    fn a_path_tells_no_name_of_anybody() {
        assert_eq!(below("dialog[3]", "parties"), "dialog[3].parties");
        assert_eq!(below("", "uuid"), "uuid");
        assert_eq!(below("attachments[0].body", "Alice"), "attachments[0].body");
    }
}
