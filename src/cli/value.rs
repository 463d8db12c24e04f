//! Arguments in, wire scalars out: `TYPE=VALUE`, times, types.
//!
//! Values arrive as plain strings and are parsed here rather than by clap, whose complaints repeat what was typed. An
//! error of this file names the type and the place, never the value.

use std::fs::File;
use std::io::Read;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::de::DeserializeOwned;

use crate::proto::v1::FieldType;

/// The most that is read from a file; the vault takes 64 KiB.
const LARGEST: u64 = 1 << 20;

/// Names that people use, beside those of the API.
const ALIASES: [(&str, FieldType); 6] = [
    ("name", FieldType::PersonName),
    ("address", FieldType::PostalAddress),
    ("birthday", FieldType::DateOfBirth),
    ("card", FieldType::PaymentCard),
    ("ip", FieldType::IpAddress),
    ("device", FieldType::DeviceId),
];

/// What a value is made of.
pub enum Content {
    /// For `FIELD_TYPE_BYTES`.
    Bytes(Vec<u8>),
    /// For every other type.
    Text(String),
}

/// A value with its type, as `email=ada@example.com` gives it.
pub struct Given {
    /// What the value is.
    pub kind: FieldType,
    /// The value.
    pub content: Content,
}

/// Reads every `TYPE=VALUE`, in order. Only one of them can be standard input.
pub fn read_all(arguments: &[String]) -> Result<Vec<Given>> {
    if arguments.iter().filter(|argument| argument.ends_with("=-")).count() > 1 {
        bail!("standard input can be read for one value only: give the others as TYPE=@FILE");
    }
    let read = |(at, argument): (usize, &String)| read(argument).with_context(|| format!("value {}", at + 1));
    arguments.iter().enumerate().map(read).collect()
}

/// Reads one `TYPE=VALUE`. `@FILE` and `-` keep a secret out of the shell's history; a leading `@` is written `@@`.
pub fn read(argument: &str) -> Result<Given> {
    let Some((name, value)) = argument.split_once('=') else {
        bail!("no type is given: write TYPE=VALUE, as email=ada@example.com or email=@FILE");
    };
    let kind = field_type(name)?;
    let content = match value.strip_prefix('@') {
        _ if value == "-" => from_reader(kind, std::io::stdin().lock()).context("cannot read standard input")?,
        Some(literal) if literal.starts_with('@') => from_text(kind, literal)?,
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot open {path}, named by {name}=@{path}"))?;
            from_reader(kind, file).with_context(|| format!("cannot read {path}"))?
        }
        None => from_text(kind, value)?,
    };
    Ok(Given { kind, content })
}

/// Reads a line of JSON of which `shape` says what is expected. The parser's own message repeats what it found, which may be a person's value, so
/// only the place is told.
pub fn json_line<T: DeserializeOwned>(line: &str, shape: &str) -> Result<T> {
    serde_json::from_str(line).map_err(|error| anyhow!("column {}: expected {shape}", error.column()))
}

/// The type by its name: `email`, `date-of-birth`, `FIELD_TYPE_EMAIL`, or an alias.
pub fn field_type(name: &str) -> Result<FieldType> {
    let lower = name.to_ascii_lowercase().replace('-', "_");
    if let Some((_, kind)) = ALIASES.iter().find(|(alias, _)| *alias == lower) {
        return Ok(*kind);
    }
    let tail = lower.strip_prefix("field_type_").unwrap_or(&lower).to_ascii_uppercase();
    match FieldType::from_str_name(&format!("FIELD_TYPE_{tail}")) {
        Some(kind) if kind != FieldType::Unspecified => Ok(kind),
        // What stands there may be a value with a `=` in it, so it is not repeated.
        _ => bail!("no such type: use one of {}", field_type_names()),
    }
}

/// A moment given as RFC 3339.
pub fn time(text: &str) -> Result<prost_types::Timestamp, String> {
    let moment: jiff::Timestamp =
        text.parse().map_err(|_| "not a time: write RFC 3339, as 2027-01-01T00:00:00Z".to_owned())?;
    Ok(prost_types::Timestamp { seconds: moment.as_second(), nanos: moment.subsec_nanosecond() })
}

/// Bytes are written in base64 where only text can stand.
fn from_text(kind: FieldType, text: &str) -> Result<Content> {
    if kind != FieldType::Bytes {
        return Ok(Content::Text(text.to_owned()));
    }
    let bytes = data_encoding::BASE64.decode(text.as_bytes());
    Ok(Content::Bytes(bytes.ok().context("bytes are written in base64, or read from a file with bytes=@FILE")?))
}

/// A file's bytes as they are; a file's text without the one line end that editors and `echo` add.
fn from_reader(kind: FieldType, reader: impl Read) -> Result<Content> {
    let mut bytes = Vec::new();
    reader.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        bail!("too large: the vault takes values of at most 64 KiB");
    }
    if kind == FieldType::Bytes {
        return Ok(Content::Bytes(bytes));
    }
    let mut text = String::from_utf8(bytes).ok().context("not UTF-8: give it as bytes=@FILE")?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Content::Text(text))
}

fn field_type_names() -> String {
    let known = (1..).map_while(|number| FieldType::try_from(number).ok());
    let names = known.map(|kind| kind.as_str_name().trim_start_matches("FIELD_TYPE_").to_ascii_lowercase());
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(argument: &str) -> String {
        match read(argument).unwrap().content {
            Content::Text(text) => text,
            Content::Bytes(_) => panic!("bytes"),
        }
    }

    #[test]
    fn types_have_their_names_and_aliases() {
        for name in ["date_of_birth", "date-of-birth", "FIELD_TYPE_DATE_OF_BIRTH", "birthday"] {
            assert_eq!(field_type(name).unwrap(), FieldType::DateOfBirth, "{name}");
        }
        assert!(field_type("unspecified").is_err());
        assert!(field_type("").is_err());
    }

    #[test]
    fn at_signs_and_equal_signs_survive() {
        assert_eq!(text("email=ada@example.com"), "ada@example.com");
        assert_eq!(text("text=@@ada"), "@ada");
        assert_eq!(text("text=a=b"), "a=b");
    }

    #[test]
    fn files_lose_one_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "ada\n\r\n").unwrap();
        assert_eq!(text(&format!("text=@{}", file.path().display())), "ada\n");
    }

    #[test]
    fn errors_do_not_repeat_the_value() {
        for argument in ["MARKED", "MARKED=x", "bytes=MARKED!"] {
            let error = format!("{:#}", read(argument).err().unwrap());
            assert!(!error.contains("MARKED"), "{error}");
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time("2027-01-01T00:00:00Z").unwrap().seconds, 1_798_761_600);
        assert!(time("tomorrow").is_err());
    }
}
