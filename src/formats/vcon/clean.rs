//! What must not get in, wherever in a document it stands: card numbers, secrets in addresses, keys that were pressed.

use super::fields::below;
use super::model::Changes;
use crate::formats::{Json, Plain};
use crate::model::{
    Error, Reason, Result, contains_card_data, contains_card_number, is_security_code, mask_card_data,
    names_security_code,
};

/// How deeply a document may nest.
pub const DEEPEST: usize = 32;

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
        let bytes =
            members.iter().any(|(name, value)| name.expose() == "encoding" && value.text() == Some("base64url"));
        for (name, value) in members {
            let path = below(path, name.expose());
            if names_security_code(name.expose()) && is_code(value) {
                self.card(&path)?;
                *value = CARD.into();
            }
            self.text(name, &path, levels)?;
            // Bytes are looked into by whoever decodes them, if they are text.
            if !(bytes && name.expose() == "body") {
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
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at);
        let after = after.get(3..).unwrap_or_default();
        let scheme = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let known = SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme));
        let end = after
            .find(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '<' | '>' | '\\' | '`'))
            .unwrap_or(after.len());
        let (address, behind) = after.split_at(if known { end } else { 0 });
        let bare = address.split(['?', '#']).next().unwrap_or_default();
        let host = bare.find('/').unwrap_or(bare.len());
        let bare = match bare.get(..host).and_then(|authority| authority.rfind('@')) {
            Some(user) => bare.get(user + 1..).unwrap_or_default(),
            None => bare,
        };
        changed |= bare.len() < address.len();
        cut.push_str(before);
        cut.push_str("://");
        cut.push_str(bare);
        rest = behind;
    }
    cut.push_str(rest);
    changed.then_some(cut)
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
