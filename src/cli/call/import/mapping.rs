//! The mapping of an import: a file of TOML that says how rows are read.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;

use super::rows::Format;
use crate::cli::names::{Direction, Disposition};
use crate::proto::v1;

/// What the file says.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Told {
    header: Vec<String>,
    delimiter: String,
    columns: BTreeMap<String, String>,
    direction: Option<Direction>,
    directions: BTreeMap<String, Direction>,
    dispositions: BTreeMap<String, Disposition>,
    utc_offset: String,
    time_format: String,
}

impl Told {
    /// Reads the file; without one nothing is said.
    pub fn read(file: Option<&Path>) -> Result<Self> {
        let Some(file) = file else { return Ok(Self::default()) };
        let name = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the mapping {name}"))?;
        toml::from_str(&text).map_err(|error| anyhow!("the mapping {name}: {}", error.message()))
    }

    /// What stands between columns.
    pub fn delimiter(&self) -> Result<u8> {
        match self.delimiter.as_bytes() {
            [] => Ok(b','),
            [one] => Ok(*one),
            _ => Err(anyhow!("the delimiter of the mapping is not one character such as ;")),
        }
    }

    /// The same for the vault, with the header of the file at hand.
    pub fn wire(&self, format: Format, system: &str, header: Vec<String>) -> Result<v1::CdrMapping> {
        let header = match (format, self.header.is_empty()) {
            (Format::Csv, true) => header,
            (Format::Csv, false) => return Err(anyhow!("the header of csv stands in the file, not in the mapping")),
            _ => self.header.clone(),
        };
        Ok(v1::CdrMapping {
            format: format.wire().into(),
            source_system: system.to_owned(),
            header,
            delimiter: self.delimiter.clone(),
            columns: self.columns.clone().into_iter().collect(),
            direction: self.direction.map_or(0, Direction::number),
            directions: self.directions.iter().map(|(word, way)| (word.clone(), way.number())).collect(),
            dispositions: self.dispositions.iter().map(|(word, ended)| (word.clone(), ended.number())).collect(),
            utc_offset: self.utc_offset.clone(),
            time_format: self.time_format.clone(),
        })
    }
}
