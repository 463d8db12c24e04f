//! Configuration of callers: by what each is known.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::{Authorization, Budget, Claim, Config, Hidden, read_secret};
use crate::model::Label;

/// Someone who may call.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caller {
    /// Their name; it stands in the audit log.
    pub name: String,
    /// Their bearer token, for development: on loopback only.
    pub token: Option<Hidden>,
    /// A file that holds it.
    pub token_file: Option<PathBuf>,
    /// Names in their client certificate, of which any will do: `spiffe://TRUST-DOMAIN/PATH` or `dns:NAME`.
    pub certificate: Vec<String>,
    /// What a token of an issuer says of them.
    pub jwt: Option<Claim>,
    /// The purposes they may name, whatever the policies permit; no limit when not said.
    pub purposes: Option<Vec<String>>,
    /// The groups they are in, which policies speak of; those that a token of an issuer names come to them.
    pub groups: Vec<String>,
    /// How many values they may be shown; as `brakes.reveal_budget` says when not said.
    pub reveal_budget: Option<Budget>,
    /// How many values they may ask for at once without the approval of another; as `brakes.approval_above` says when not
    /// said.
    pub approval_above: Option<u64>,
    /// What the register of authorised persons says of them.
    pub authorization: Authorization,
}

/// The fewest characters that a configured bearer token may have.
const SHORTEST_TOKEN: usize = 16;

impl Caller {
    /// Whether they have a token that is the same every time.
    #[must_use]
    pub const fn has_token(&self) -> bool {
        self.token.is_some() || self.token_file.is_some()
    }

    /// The bearer token, if they have one.
    ///
    /// # Errors
    /// When the file that should hold it cannot be read, or the token is too short to be secret.
    pub fn token(&self) -> Result<Option<Hidden>> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => read_secret(path)?,
            (None, None) => return Ok(None),
        };
        ensure!(
            token.expose().len() >= SHORTEST_TOKEN,
            "the token of caller {} is too short: at least {SHORTEST_TOKEN} characters",
            self.name
        );
        Ok(Some(token))
    }

    fn check(&self, place: &str) -> Result<()> {
        ensure!(self.token.is_none() || self.token_file.is_none(), "{place} needs token or token_file, and not both");
        ensure!(
            self.has_token() || !self.certificate.is_empty() || self.jwt.is_some(),
            "{place} cannot be told from others: give certificate or jwt, or on loopback token or token_file"
        );
        for group in &self.groups {
            ensure!(!group.trim().is_empty(), "{place} is in a group without a name");
        }
        self.reveal_budget.iter().try_for_each(|budget| budget.check(&format!("{place}.reveal_budget")))?;
        self.authorization.check().with_context(|| place.to_owned())?;
        for code in self.purposes.iter().flatten() {
            Label::purpose(code).with_context(|| format!("{place} is granted {code:?}"))?;
        }
        self.certificate.iter().try_for_each(|name| check_name(name).with_context(|| format!("{place}.certificate")))
    }
}

/// Checks callers by themselves, against each other, and against what they need.
pub(super) fn check(config: &Config) -> Result<()> {
    let mut owners = BTreeMap::new();
    let mut take = |what: String, caller: &Caller| match owners.insert(what.clone(), caller.name.clone()) {
        Some(other) => bail!("callers {other} and {} both claim {what}", caller.name),
        None => Ok(()),
    };
    for (at, caller) in config.callers.iter().enumerate() {
        ensure!(!caller.name.is_empty(), "callers[{at}].name is empty");
        let place = format!("callers[{at}] ({})", caller.name);
        caller.check(&place)?;
        take(format!("the name {}", caller.name), caller)?;
        for name in &caller.certificate {
            take(format!("the certificate {name}"), caller)?;
        }
        if let Some(claim) = &caller.jwt {
            let issuer = claim.issuer(&config.issuers).with_context(|| format!("{place}.jwt"))?;
            take(format!("the tokens of {} whose {} is {:?}", issuer.issuer, claim.claim, claim.value), caller)?;
        }
        let asks = config.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        ensure!(caller.certificate.is_empty() || asks, "{place}.certificate needs tls.client_ca_file");
    }
    Ok(())
}

/// Whether a certificate could bear this name. Names are compared as they stand, so they have one form only.
///
/// # Errors
/// Saying what it is not: a SPIFFE ID (SPIFFE-ID, section 2), or the DNS name of one host.
pub fn check_name(name: &str) -> Result<()> {
    if let Some(id) = name.strip_prefix("spiffe://") {
        let (domain, path) = id.split_once('/').unwrap_or((id, ""));
        let fits = |part: &str, more: &str| {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c);
            !part.is_empty() && part.chars().all(good)
        };
        let upper = "-._ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let whole = fits(domain, "-._") && path.split('/').all(|part| fits(part, upper) && part != "." && part != "..");
        ensure!(whole && name.len() <= 2048, "{name:?} is no SPIFFE ID: write spiffe://TRUST-DOMAIN/PATH");
        return Ok(());
    }
    let Some(host) = name.strip_prefix("dns:") else {
        bail!("{name:?} is neither spiffe://TRUST-DOMAIN/PATH nor dns:NAME");
    };
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.chars().all(good);
    ensure!(
        host.len() <= 253 && host.split('.').all(label),
        "{name:?} is no DNS name of one host: write it in lower case and without a wildcard"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_certificates_have_one_form() {
        for good in
            ["spiffe://example.org/mailer", "spiffe://example.org/ns/shop/sa/Mailer_1", "dns:mailer", "dns:a.b-c.d"]
        {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "mailer",
            "spiffe://",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://Example.org/a",
            "spiffe://example.org/a/",
            "spiffe://example.org/a//b",
            "spiffe://example.org/../a",
            "spiffe://example.org/a?b",
            "spiffe://example.org/ä",
            "spiffe://u@example.org/a",
            "spiffe://example.org:1/a",
            "https://example.org/a",
            "dns:",
            "dns:*.example.org",
            "dns:A",
            "dns:a.",
            "dns:.a",
            "dns:a..b",
            "dns:a b",
            "uri:a",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
