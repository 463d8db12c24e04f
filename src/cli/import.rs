//! One line of `token create --from`: the JSON form of a tokenize request.
//!
//! An error names the place in the line and what is expected, never what stands there.

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;

use super::value;
use crate::proto::v1;

/// What serves lines that say nothing of it.
pub struct Defaults {
    /// The subject.
    pub subject: Option<String>,
    /// The source.
    pub source: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    subject: Option<String>,
    source: Option<String>,
    #[serde(default)]
    request_id: String,
    fields: Vec<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    r#type: String,
    value: Option<String>,
    bytes_value: Option<String>,
    #[serde(default)]
    format: String,
    #[serde(default)]
    retention_class: String,
    #[serde(default)]
    deduplicate: bool,
    #[serde(default)]
    tags: Vec<String>,
    expire_time: Option<String>,
    #[serde(default)]
    single_use: bool,
}

/// What a line looks like.
const SHAPE: &str = "{\"subject\"?, \"source\"?, \"request_id\"?, \"fields\": [{\"type\", \"value\" or \"bytes_value\", \"format\"?, \
                     \"retention_class\"?, \"deduplicate\"?, \"tags\"?, \"expire_time\"?, \"single_use\"?}]}";

/// The request that a line describes.
pub fn request(line: &str, defaults: &Defaults) -> Result<v1::TokenizeRequest> {
    let line: Line = value::json_line(line, SHAPE)?;
    let source = line.source.or_else(|| defaults.source.clone());
    let fields = line.fields.into_iter().enumerate();
    Ok(v1::TokenizeRequest {
        subject: line.subject.or_else(|| defaults.subject.clone()).unwrap_or_default(),
        source: source.context("no source: name one in the line or with --source")?,
        fields: fields
            .map(|(at, field)| field.input().with_context(|| format!("fields[{at}]")))
            .collect::<Result<_>>()?,
        request_id: line.request_id,
    })
}

impl Field {
    fn input(self) -> Result<v1::FieldInput> {
        use v1::field_input::Content;
        let content = match (self.value, self.bytes_value) {
            (Some(text), None) => Content::Value(text),
            (None, Some(text)) => {
                let bytes = data_encoding::BASE64.decode(text.as_bytes());
                Content::BytesValue(bytes.ok().context("bytes_value is not base64")?)
            }
            _ => return Err(anyhow!("give either value or bytes_value")),
        };
        let expire_time = self.expire_time.map(|text| value::time(&text)).transpose();
        Ok(v1::FieldInput {
            r#type: value::field_type(&self.r#type)?.into(),
            content: Some(content),
            format: format(&self.format)?.into(),
            retention_class: self.retention_class,
            deduplicate: self.deduplicate,
            tags: self.tags,
            expire_time: expire_time.map_err(|error| anyhow!("expire_time: {error}"))?,
            single_use: self.single_use,
        })
    }
}

fn format(name: &str) -> Result<v1::TokenFormat> {
    match name.to_ascii_lowercase().trim_start_matches("token_format_") {
        "" | "opaque" => Ok(v1::TokenFormat::Opaque),
        "shaped" => Ok(v1::TokenFormat::Shaped),
        _ => Err(anyhow!("format is neither opaque nor shaped")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Defaults = Defaults { subject: None, source: None };

    #[test]
    fn line_wins_over_defaults() {
        let defaults = Defaults { subject: Some("sub_a".into()), source: Some("import:a".into()) };
        let line = r#"{"source":"import:b","fields":[{"type":"email","value":"ada@example.com","single_use":true}]}"#;
        let request = request(line, &defaults).unwrap();
        assert_eq!((request.subject.as_str(), request.source.as_str()), ("sub_a", "import:b"));
        assert!(request.fields[0].single_use);
    }

    #[test]
    fn errors_do_not_repeat_the_line() {
        for line in [
            r#"{"fields":"MARKED"}"#,
            r#"{"source":"a","fields":[{"type":"MARKED","value":"x"}]}"#,
            r#"{"source":"a","fields":[{"type":"email","MARKED":"x"}]}"#,
            r#"{"source":"a","fields":[{"type":"email","value":"x","expire_time":"MARKED"}]}"#,
            r#"{"fields":[{"type":"email","value":"MARKED"}]}"#,
        ] {
            let error = format!("{:#}", request(line, &NONE).err().unwrap());
            assert!(!error.contains("MARKED"), "{error}");
        }
    }
}
