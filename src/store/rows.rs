//! Many rows in one parameter: a JSON array of arrays, which both databases unfold by the same statement.
//!
//! One statement text for any number of rows is prepared once; binding hundreds of values one by one costs more than
//! the database's work on them.

use data_encoding::HEXLOWER;

/// Rows to be bound as one parameter. Blobs travel as lower-case hex.
#[derive(Default)]
pub struct Rows {
    json: String,
}

impl Rows {
    /// No rows yet.
    pub fn new() -> Self {
        Self { json: String::from("[") }
    }

    /// Rows of one blob each.
    pub fn of_blobs<B: AsRef<[u8]>>(blobs: impl IntoIterator<Item = B>) -> Self {
        let mut rows = Self::new();
        for blob in blobs {
            rows.row().blob(blob.as_ref());
        }
        rows
    }

    /// Rows of one number each.
    pub fn of_numbers(numbers: impl IntoIterator<Item = i64>) -> Self {
        let mut rows = Self::new();
        for number in numbers {
            rows.row().number(number);
        }
        rows
    }

    /// Begins a row.
    pub fn row(&mut self) -> &mut Self {
        if self.json.len() > 1 {
            self.json.push_str("],");
        }
        self.json.push('[');
        self
    }

    /// The next column, bytes.
    pub fn blob(&mut self, bytes: &[u8]) -> &mut Self {
        self.comma().json.push('"');
        HEXLOWER.encode_append(bytes, &mut self.json);
        self.json.push('"');
        self
    }

    /// The next column, text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        let quoted = serde_json::Value::from(text).to_string();
        self.comma().json.push_str(&quoted);
        self
    }

    /// The next column, a number.
    pub fn number(&mut self, number: i64) -> &mut Self {
        let digits = number.to_string();
        self.comma().json.push_str(&digits);
        self
    }

    /// The next column, yes or no.
    pub fn flag(&mut self, flag: bool) -> &mut Self {
        self.comma().json.push_str(if flag { "true" } else { "false" });
        self
    }

    /// The next column, nothing.
    pub fn null(&mut self) -> &mut Self {
        self.comma().json.push_str("null");
        self
    }

    /// The next column, bytes or nothing.
    pub fn maybe_blob(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.blob(bytes),
            None => self.null(),
        }
    }

    /// The next column, text or nothing.
    pub fn maybe_text(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    /// The next column, a number or nothing.
    pub fn maybe_number(&mut self, number: Option<i64>) -> &mut Self {
        match number {
            Some(number) => self.number(number),
            None => self.null(),
        }
    }

    /// The parameter.
    pub fn into_json(mut self) -> String {
        if self.json.len() > 1 {
            self.json.push(']');
        }
        self.json.push(']');
        self.json
    }

    fn comma(&mut self) -> &mut Self {
        if !self.json.ends_with('[') {
            self.json.push(',');
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_an_array_of_arrays() {
        let mut rows = Rows::new();
        rows.row().blob(&[0xab, 1]).text("it's \"so\"").number(-7).flag(true).null();
        rows.row().maybe_text(None).maybe_number(Some(3));
        assert_eq!(rows.into_json(), r#"[["ab01","it's \"so\"",-7,true,null],[null,3]]"#);
        assert_eq!(Rows::new().into_json(), "[]");
    }
}
