//! What must not get in, wherever in a document it stands: card numbers, secrets in addresses, keys that were pressed.

use std::ops::Range;

use super::apart::LISTS;
use super::fields::below;
use super::model::Changes;
use crate::formats::{Json, Plain};
use crate::model::{
    Error, Reason, Result, contains_card_data, contains_card_number, is_security_code, mask_card_data,
    names_security_code,
};

/// How deeply a document may nest.
pub const DEEPEST: usize = 32;

/// How deeply within a document an entry of one of its lists stands.
const ENTRY: usize = 3;

/// Stands for what was a card number.
pub const CARD: &str = "[card]";

/// Schemes of addresses under which something can be fetched.
const SCHEMES: [&str; 15] =
    ["https", "http", "wss", "ws", "ftp", "ftps", "sftp", "s3", "gs", "azure", "az", "abfss", "wasbs", "rtsp", "rtsps"];

/// What happens to card numbers in what somebody wrote or said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardRule {
    /// They are masked, and the rest is read.
    Mask,
    /// The document is refused.
    Refuse,
}

/// Cleans a document in place and counts what that changed.
///
/// # Errors
/// `CardData` by that rule; `ValueInvalid`, when it nests too deeply. Both name the field.
pub fn clean(json: &mut Json, rule: CardRule, changes: &mut Changes) -> Result<()> {
    Cleaner { rule, changes }.value(json, "", DEEPEST)
}

/// Cleans a text in place, in the same way.
///
/// # Errors
/// `CardData` by that rule.
pub fn clean_text(text: &mut Plain, path: &str, rule: CardRule, changes: &mut Changes) -> Result<()> {
    Cleaner { rule, changes }.text(text, path, DEEPEST)
}

struct Cleaner<'c> {
    rule: CardRule,
    changes: &'c mut Changes,
}

impl Cleaner<'_> {
    fn value(&mut self, json: &mut Json, path: &str, levels: usize) -> Result<()> {
        let Some(levels) = levels.checked_sub(1) else {
            return Err(too_deep(path));
        };
        match json {
            Json::Bool(_) | Json::Null => Ok(()),
            Json::Text(text) => self.text(text, path, levels),
            Json::Number(number) => {
                if contains_card_number(&number.to_string()) {
                    self.card(path)?;
                    *json = CARD.into();
                }
                Ok(())
            }
            Json::List(items) => items
                .iter_mut()
                .enumerate()
                .try_for_each(|(at, item)| self.value(item, &format!("{path}[{at}]"), levels)),
            Json::Object(members) => self.members(members, path, levels),
        }
    }

    fn members(&mut self, members: &mut Vec<(Plain, Json)>, path: &str, levels: usize) -> Result<()> {
        let pressed = |name: &str| name.to_ascii_lowercase().contains("dtmf");
        let before = members.len();
        members.retain(|(name, _)| !pressed(name.expose()));
        self.changes.digits += before - members.len();
        let encoded =
            members.iter().any(|(name, value)| name.expose() == "encoding" && value.text() == Some("base64url"));
        let bytes = encoded && is_entry(path, levels);
        for (name, value) in members {
            let path = below(path, name.expose());
            if names_security_code(name.expose()) && is_code(value) {
                self.card(&path)?;
                *value = CARD.into();
            }
            self.text(name, &path, levels)?;
            // Bytes are looked into by whoever decodes them, if they are text.
            if !(bytes && name.expose() == "body" && value.text().is_some()) {
                self.value(value, &path, levels)?;
            }
        }
        Ok(())
    }

    /// A text, which may be a document: there the same may stand with escapes.
    fn text(&mut self, text: &mut Plain, path: &str, levels: usize) -> Result<()> {
        if let Some(mut inner) = Json::within(text.expose()) {
            let before = *self.changes;
            if inner.depth() <= levels {
                self.value(&mut inner, path, levels)?;
                if *self.changes != before {
                    *text = inner.write()?;
                }
            } else if self.rule == CardRule::Refuse {
                return Err(too_deep(path));
            } else {
                // Nobody looked into it.
                self.card(path)?;
                *text = CARD.into();
            }
        }
        self.plain(text, path)?;
        // What hides something from those who look for it hides it from nobody who reads.
        if let Some(mut bare) = bare(text.expose()) {
            let before = *self.changes;
            self.plain(&mut bare, path)?;
            if *self.changes != before {
                // It may be a document by now, or have other escapes.
                match levels.checked_sub(1) {
                    Some(levels) => self.text(&mut bare, path, levels)?,
                    None => bare = CARD.into(),
                }
                *text = bare;
            }
        }
        Ok(())
    }

    /// A text as it stands there.
    fn plain(&mut self, text: &mut Plain, path: &str) -> Result<()> {
        if let Some(shorter) = without_secrets(text.expose()) {
            self.changes.addresses += 1;
            *text = shorter.into();
        }
        match self.rule {
            CardRule::Refuse if contains_card_data(text.expose()) => self.card(path),
            CardRule::Refuse => Ok(()),
            CardRule::Mask => {
                if let Some(masked) = mask_card_data(text.expose(), CARD) {
                    self.card(path)?;
                    *text = masked.into();
                }
                Ok(())
            }
        }
    }

    fn card(&mut self, path: &str) -> Result<()> {
        self.changes.cards += 1;
        match self.rule {
            CardRule::Mask => Ok(()),
            CardRule::Refuse => {
                let message =
                    "payment card data stands there, which the vault must not hold; remove it, or have it masked";
                Err(Error::new(Reason::CardData, message).at(path))
            }
        }
    }
}

fn too_deep(path: &str) -> Error {
    Error::invalid(path, format!("it nests too deeply; {DEEPEST} levels are the most"))
}

/// Whether it is an entry of one of the lists of a conversation, the only objects whose bytes anybody decodes. The path alone does not tell:
/// names that are not of the format do not stand in it.
fn is_entry(path: &str, levels: usize) -> bool {
    let entry = path.strip_suffix(']').and_then(|path| path.split_once('['));
    let named = entry.is_some_and(|(list, at)| LISTS.contains(&list) && at.bytes().all(|c| c.is_ascii_digit()));
    named && levels == DEEPEST - ENTRY
}

/// The text as it reads where noughts and escapes are taken for what they are: in UTF-16 a nought stands beside every figure. `None` when
/// there are none.
fn bare(text: &str) -> Option<Plain> {
    if !text.contains(['\0', '\\']) {
        return None;
    }
    let joined = Plain::from(text.replace('\0', ""));
    let bare: String = Signs(joined.expose()).map(|(c, _)| c).filter(|c| *c != '\0').collect();
    (bare.len() < text.len()).then(|| bare.into())
}

/// The characters of a text, each with how many bytes it takes: what JSON writes with an escape is taken for what it means, also in a
/// document within a document, where there are several backslashes.
struct Signs<'t>(&'t str);

impl Iterator for Signs<'_> {
    type Item = (char, usize);

    fn next(&mut self) -> Option<(char, usize)> {
        let mut c = self.0.chars().next()?;
        let rest = self.0.trim_start_matches('\\');
        let mut length = self.0.len() - rest.len();
        if length == 0 {
            length = c.len_utf8();
        } else if rest.starts_with('/') {
            (c, length) = ('/', length + 1);
        } else if let Some(number) = rest.strip_prefix('u').and_then(|rest| rest.get(..4))
            && number.bytes().all(|c| c.is_ascii_hexdigit())
        {
            let number = u32::from_str_radix(number, 16).ok();
            (c, length) = (number.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER), length + 5);
        }
        self.0 = self.0.get(length..).unwrap_or_default();
        Some((c, length))
    }
}

/// Whether a member of the right name would be a security code.
fn is_code(json: &Json) -> bool {
    match json {
        Json::Number(number) => is_security_code(&number.to_string()),
        _ => json.text().is_some_and(is_security_code),
    }
}

/// The text with every address in it cut off before its query or fragment and without user and password; `None` when there is
/// nothing to cut. A query is where a signature stands that opens a recording to whoever has it.
#[must_use]
pub fn without_secrets(text: &str) -> Option<String> {
    let mut cut = String::new();
    let mut rest = text;
    let mut changed = false;
    while let Some((before, behind)) = rest.split_once(':') {
        cut.push_str(before);
        cut.push(':');
        rest = behind;
        let mut signs = Signs(behind);
        if (signs.next().map(|(c, _)| c), signs.next().map(|(c, _)| c)) != (Some('/'), Some('/')) || !is_scheme(before)
        {
            continue;
        }
        let (slashes, address) = behind.split_at(behind.len() - signs.0.len());
        let (bare, whole) = shown(address);
        let shown = address.get(bare).unwrap_or_default();
        changed |= shown.len() < whole;
        cut.push_str(slashes);
        cut.push_str(shown);
        rest = address.get(whole..).unwrap_or_default();
    }
    cut.push_str(rest);
    changed.then_some(cut)
}

/// Whether a text ends with the scheme of an address, perhaps behind an escape as that of a new line.
fn is_scheme(text: &str) -> bool {
    let word = text.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let escaped =
        text.len() > word.len() && text.get(..text.len() - word.len()).is_some_and(|text| text.ends_with('\\'));
    let ends = |scheme: &&str| word.len().checked_sub(scheme.len()).and_then(|at| word.get(at..));
    let is = |scheme: &&str| ends(scheme).is_some_and(|end| end.eq_ignore_ascii_case(scheme));
    SCHEMES.iter().any(|scheme| is(scheme) && (escaped || word.len() == scheme.len()))
}

/// Which bytes of the address that a text begins with may be shown, and how many it has.
fn shown(text: &str) -> (Range<usize>, usize) {
    let (mut from, mut to, mut at, mut path) = (0, None, 0, false);
    for (c, length) in Signs(text) {
        if c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '<' | '>' | '\\' | '`') {
            break;
        }
        at += length;
        match c {
            '?' | '#' => to = to.or(Some(at - length)),
            '/' => path = true,
            '@' if !path && to.is_none() => from = at,
            _ => {}
        }
    }
    (from..to.unwrap_or(at), at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_what_opens_them() {
        for (text, bare) in [
            ("https://a.example/x.mp3?X-Amz-Signature=1", "https://a.example/x.mp3"),
            ("https://u:p@a.example/x#t=1", "https://a.example/x"),
            ("HTTPS://a.example?b", "HTTPS://a.example"),
            ("see https://a.example/b?c=d, or s3://e/f?g", "see https://a.example/b or s3://e/f"),
            ("{\"url\":\"https://a.example/b?c\"}", "{\"url\":\"https://a.example/b\"}"),
            ("https://a.example/ü?ü ü", "https://a.example/ü ü"),
        ] {
            assert_eq!(without_secrets(text).as_deref(), Some(bare));
            assert_eq!(without_secrets(bare), None, "{bare}");
        }
        for text in ["", "what? #1", "://", "sip:a@b.example", "x://y?z", "ü://?"] {
            assert_eq!(without_secrets(text), None, "{text}");
        }
    }
}
