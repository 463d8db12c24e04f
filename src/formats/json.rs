//! JSON (RFC 8259) of others as a tree of plaintext: every member is kept, repeated ones too, so that they can be refused.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::Number;

use super::Plain;
use crate::model::{Error, Result};

/// A JSON value that may hold data of people: names of members are text of theirs too.
pub enum Json {
    /// `true` or `false`.
    Bool(bool),
    /// Values in their order.
    List(Vec<Json>),
    /// Nothing.
    Null,
    /// A number.
    Number(Number),
    /// Members in their order.
    Object(Vec<(Plain, Json)>),
    /// A text.
    Text(Plain),
}

impl Json {
    /// Reads a document. How deeply it nests is limited by the parser to 128 levels; whoever reads it sets a limit of their own.
    ///
    /// # Errors
    /// `ValueInvalid` with line and column, when it is not JSON.
    pub fn parse(bytes: &[u8], field: &str) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| {
            let place = format!("line {} column {}", error.line(), error.column());
            Error::invalid(field, format!("this is no JSON that can be read, at {place}; is the file whole?"))
        })
    }

    /// A document within a text, if that begins like an object or a list and is one as a whole.
    #[must_use]
    pub fn within(text: &str) -> Option<Self> {
        let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        text.starts_with(['{', '[']).then(|| Self::parse(text.as_bytes(), "").ok()).flatten()
    }

    /// The document as text.
    ///
    /// # Errors
    /// `Internal`, when it cannot be written.
    pub fn write(&self) -> Result<Plain> {
        serde_json::to_string(self).map(Plain::from).map_err(Error::internal)
    }

    /// The same value in another place.
    #[must_use]
    pub fn copy(&self) -> Self {
        match self {
            Self::Bool(truth) => Self::Bool(*truth),
            Self::List(items) => Self::List(items.iter().map(Self::copy).collect()),
            Self::Null => Self::Null,
            Self::Number(number) => Self::Number(number.clone()),
            Self::Object(members) => {
                Self::Object(members.iter().map(|(name, value)| (name.copy(), value.copy())).collect())
            }
            Self::Text(text) => Self::Text(text.copy()),
        }
    }

    /// How many levels there are: 1 for what holds nothing.
    #[must_use]
    pub fn depth(&self) -> usize {
        1 + match self {
            Self::List(items) => items.iter().map(Self::depth).max().unwrap_or_default(),
            Self::Object(members) => members.iter().map(|(_, value)| value.depth()).max().unwrap_or_default(),
            _ => 0,
        }
    }

    /// Whether a member is named twice in some object.
    #[must_use]
    pub fn repeats(&self) -> bool {
        match self {
            Self::List(items) => items.iter().any(Self::repeats),
            Self::Object(members) => repeated(members).is_some() || members.iter().any(|(_, value)| value.repeats()),
            _ => false,
        }
    }

    /// The member of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(found, _)| found.expose() == name).map(|(_, value)| value)
    }

    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text.expose()) } else { None }
    }
}

/// A member's name that stands there twice.
pub fn repeated(members: &[(Plain, Json)]) -> Option<&Plain> {
    let mut names: Vec<&Plain> = members.iter().map(|(name, _)| name).collect();
    names.sort_by(|one, other| one.expose().cmp(other.expose()));
    names.array_windows().find(|[one, other]| one.expose() == other.expose()).map(|[one, _]| *one)
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<usize> for Json {
    fn from(number: usize) -> Self {
        Self::Number(number.into())
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Json, E> {
        Ok(Json::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = entries.next_entry::<String, Json>()? {
            members.push((name.into(), value));
        }
        Ok(Json::Object(members))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(truth) => serializer.serialize_bool(*truth),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Self::Null => serializer.serialize_unit(),
            Self::Number(number) => number.serialize(serializer),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                members.iter().try_for_each(|(name, value)| map.serialize_entry(name.expose(), value))?;
                map.end()
            }
            Self::Text(text) => serializer.serialize_str(text.expose()),
        }
    }
}
