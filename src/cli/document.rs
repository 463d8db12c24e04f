//! Documents in files: TOML or JSON, with the field names of the API.

use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::proto::v1::FieldType;

/// What the vault says of a document and nobody else.
const OUTPUT_ONLY: [&str; 5] = ["version", "state", "change", "define_time", "publish_time"];

/// Reads a document that is a `noun`. What a command showed with `--output json` is taken as it is: what only the vault
/// says is passed over, and so is what is not stated.
pub fn read<T: DeserializeOwned>(path: &Path, noun: &str) -> Result<T> {
    let name = path.display();
    let document = parse(path).with_context(|| format!("cannot read {name}"))?;
    let document = match document {
        Value::Object(mut outer) if outer.len() == 1 && outer.get(noun).is_some_and(Value::is_object) => {
            outer.remove(noun).unwrap_or_default()
        }
        other => other,
    };
    let Value::Object(mut fields) = document else { bail!("{name} holds no {noun}: fields with values are expected") };
    fields.retain(|field, value| !OUTPUT_ONLY.contains(&field.as_str()) && is_stated(value));
    serde_json::from_value(Value::Object(fields)).with_context(|| format!("{name} is no {noun} as it should be"))
}

fn parse(path: &Path) -> Result<Value> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return serde_json::from_str(&text).context("JSON is expected on standard input");
    }
    let text = std::fs::read_to_string(path)?;
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => Ok(toml::from_str(&text)?),
        Some("json") => Ok(serde_json::from_str(&text)?),
        _ => bail!("the name must end in .toml or .json"),
    }
}

fn is_stated(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(word) => !word.ends_with("_UNSPECIFIED"),
        _ => true,
    }
}

/// Deserializes from text by `FromStr`.
macro_rules! from_text {
    ($name:ident) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A length of time, as `730d`, `72h`, `P365D`.
#[derive(Clone, Copy)]
pub struct Period(i64);
from_text!(Period);

impl FromStr for Period {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let span: jiff::Span = text.parse().ok().context("not a length of time: write 730d or 72h")?;
        // A month is as long as the month.
        let fixed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
        Ok(Self(fixed.ok().context("months and years differ in length: write days, as 730d")?.as_secs()))
    }
}

impl From<Period> for prost_types::Duration {
    fn from(period: Period) -> Self {
        Self { seconds: period.0, nanos: 0 }
    }
}

/// A type of values, as `email`.
#[derive(Clone, Copy)]
pub struct Category(FieldType);
from_text!(Category);

impl FromStr for Category {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        super::value::field_type(text).map(Self)
    }
}

impl From<Category> for i32 {
    fn from(category: Category) -> Self {
        category.0.into()
    }
}

/// A length of time for people: `730d`, `36h`, `90s`.
pub fn period(given: Option<prost_types::Duration>) -> String {
    match given.map(|duration| duration.seconds) {
        None => String::new(),
        Some(seconds) if seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
        Some(seconds) if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        Some(seconds) => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_have_a_fixed_length() {
        for (text, seconds) in
            [("730d", 730 * 86_400), ("72h", 72 * 3600), ("P2W", 14 * 86_400), ("31536000s", 31_536_000)]
        {
            assert_eq!(text.parse::<Period>().unwrap().0, seconds, "{text}");
        }
        for text in ["P12M", "2y", "soon", ""] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        assert_eq!(period(Some("P2W".parse::<Period>().unwrap().into())), "14d");
    }
}
