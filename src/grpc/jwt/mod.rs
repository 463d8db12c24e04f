//! Bearer tokens of an issuer: JSON Web Tokens (RFC 7519), checked as RFC 8725 has it.
//!
//! The configuration says who issues them, for whom, and how they may sign. A token says only which of these keys it was
//! signed with; an algorithm is never taken from it alone.

mod fetch;
mod keep;
#[cfg(test)]
mod tests;
mod verified;

pub use keep::{complain, keep};

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::config;
use crate::crypto::jws::Algorithm;
use crate::formats::jwks::Found;
#[cfg(any(test, fuzzing))]
use crate::formats::jwks::KeySet;
use crate::model::Time;
use crate::policy::Caller;
use fetch::Source;

use verified::{Keys, Verified};

/// How long keys are not fetched again, unless the operator wants it.
const PAUSE: Duration = Duration::from_secs(10);

/// How old fetched keys may become.
const FRESH: Duration = Duration::from_mins(5);

/// No caller is in more groups.
const MOST_GROUPS: usize = 64;
const LONGEST_GROUP: usize = 128;

/// Somebody whose tokens are taken.
pub struct Issuer {
    name: String,
    audience: String,
    algorithms: Vec<Algorithm>,
    skew: Duration,
    groups_claim: Option<String>,
    /// Callers by a claim and what it says.
    callers: HashMap<(String, String), Caller>,
    source: Source,
    keys: RwLock<Arc<Keys>>,
    /// When the keys were asked for last, and when that went well. Held while they are, so that however many want them
    /// they are asked for once; nobody whose key is known waits for that.
    asked: Mutex<Asked>,
    stale: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct Asked {
    at: Option<Instant>,
    well: Option<Instant>,
    /// Of a file, its length and when it was written, as they were then.
    stamp: Option<(u64, SystemTime)>,
}

/// Why keys are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// They may be old.
    Age,
    /// A token names one that is not known. Anybody can make such a token.
    Token,
    /// The operator wants it.
    Wish,
}

/// Why a token is not taken; for the log.
pub enum Refused {
    /// It was signed with a key that is not known, and may be by now.
    Key,
    /// It is not good.
    Bad(&'static str),
}

/// The parts of a token, none of them checked.
pub struct Token<'t> {
    signed: &'t str,
    signature: Vec<u8>,
    header: Header,
    claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

impl<'t> Token<'t> {
    /// Takes a token apart; `None` when it is no JWT.
    pub fn parse(text: &'t str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).ok();
        Some(Self {
            signed,
            signature: decode(signature)?,
            header: serde_json::from_slice(&decode(header)?).ok()?,
            claims: serde_json::from_slice(&decode(claims)?).ok()?,
        })
    }

    /// Who it says that it is from.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }
}

impl Issuer {
    /// An issuer as it is configured. Its keys are not known yet.
    ///
    /// # Errors
    /// When its keys cannot be asked for.
    pub fn of(config: &config::Issuer) -> Result<Self> {
        Ok(Self {
            name: config.issuer.clone(),
            audience: config.audience.clone(),
            algorithms: config.algorithms.iter().copied().map(Into::into).collect(),
            skew: config.clock_skew(),
            groups_claim: config.groups_claim.clone(),
            callers: HashMap::new(),
            source: Source::of(config)?,
            keys: RwLock::default(),
            asked: Mutex::default(),
            stale: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// What `iss` is in its tokens.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its newest keys could not be had.
    pub fn is_stale(&self) -> bool {
        self.stale.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Gives it keys that were not asked for.
    #[cfg(any(test, fuzzing))]
    pub fn set_keys(&self, keys: KeySet) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Keys::of(keys));
    }

    /// Admits a caller by a claim in its tokens, which the configuration gives to one of them only.
    pub fn add(&mut self, claim: &config::Claim, caller: Caller) {
        self.callers.insert((claim.claim.clone(), claim.value.clone()), caller);
    }

    /// Reads the keys if they are in a file: one that cannot be read at the start is a fault in the configuration.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn prepare(&self) -> Result<()> {
        match self.source {
            Source::File(_) => self.look(Why::Wish).await,
            Source::Address { .. } => Ok(()),
        }
    }

    /// Asks for the keys if that is due, by why they are wanted.
    ///
    /// # Errors
    /// When they cannot be had; those that were known stay.
    pub async fn look(&self, why: Why) -> Result<()> {
        let mut asked = self.asked.lock().await;
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| at.elapsed());
        let due = match &self.source {
            Source::File(path) => {
                let stamp = fetch::stamp(path).await;
                // A stranger's token has the file looked at, and not read again and again.
                let before = std::mem::replace(&mut asked.stamp, stamp);
                why != Why::Token || stamp != before
            }
            Source::Address { .. } => match why {
                Why::Age => since(asked.at) >= PAUSE && since(asked.well) >= FRESH,
                Why::Token => since(asked.at) >= PAUSE,
                Why::Wish => true,
            },
        };
        if !due {
            return Ok(());
        }
        asked.at = Some(Instant::now());
        let fetched = self.source.fetch().await;
        self.stale.store(fetched.is_err(), std::sync::atomic::Ordering::Relaxed);
        let fetched = fetched.with_context(|| format!("the keys of {}", self.name))?;
        asked.well = Some(Instant::now());
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let others = keys.set != fetched;
        if others {
            tracing::info!(issuer = self.name, keys = fetched.count(), "an issuer of tokens has other keys");
        }
        // What was verified with the former ones goes with them, and so does everything when the operator wants it.
        if others || why == Why::Wish {
            *keys = Arc::new(Keys::of(fetched));
        }
        Ok(())
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whom a token names that was checked before, and until when it is good; by its digest.
    pub fn recall(&self, digest: &[u8; 32], now: Time) -> Option<(Caller, Time)> {
        self.keys().recall(digest, now).map(|known| (known.caller, known.until))
    }

    /// Forgets tokens that have expired.
    pub fn forget_expired(&self, now: Time) {
        self.keys().forget_expired(now);
    }

    /// Checks a token of this issuer, which has that digest; answers whom it names, and until when it is good.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self, token: &Token<'_>, digest: [u8; 32], now: Time) -> Result<(Caller, Time), Refused> {
        let bad = |condition: bool, what| if condition { Err(Refused::Bad(what)) } else { Ok(()) };
        let algorithm = Algorithm::called(&token.header.alg).filter(|algorithm| self.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or(Refused::Bad("its algorithm is not taken"))?;
        let kind = token.header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
        bad(!matches!(kind.trim_start_matches("application/"), "jwt" | "at+jwt"), "it is a token of another kind")?;
        bad(token.header.crit.is_some(), "it demands what is not known here")?;
        let keys = self.keys();
        let Found::Key(key) = keys.set.find(token.header.kid.as_deref(), algorithm) else { return Err(Refused::Key) };
        bad(!key.verify(token.signed.as_bytes(), &token.signature), "its signature is not that of its issuer")?;
        bad(token.issuer() != Some(&self.name), "it is from another issuer")?;
        let claims = &token.claims;
        bad(!says(claims.get("aud"), &self.audience), "it is for another audience")?;
        let skew = i64::try_from(self.skew.as_micros()).unwrap_or(i64::MAX);
        let (now, mut from) = (now.micros(), i64::MIN);
        let expires = time(claims.get("exp")).ok_or(Refused::Bad("it does not say when it expires"))?;
        let until = expires.saturating_add(skew);
        bad(until <= now, "it has expired")?;
        for name in ["nbf", "iat"] {
            let begins = claims.get(name).map(|claim| time(Some(claim)).ok_or(Refused::Bad("a time in it is none")));
            let begins = begins.transpose()?.unwrap_or(i64::MIN);
            from = from.max(begins.saturating_sub(skew));
        }
        bad(from > now, "it is not valid yet")?;
        let mut caller = self.caller(claims)?.clone();
        caller.groups.extend(self.groups(claims)?);
        let (from, until) = (Time::from_micros(from), Time::from_micros(until));
        keys.remember(digest, Verified { caller: caller.clone(), from, until });
        Ok((caller, until))
    }

    fn caller(&self, claims: &Map<String, Value>) -> Result<&Caller, Refused> {
        let mut found =
            self.callers.iter().filter(|((claim, value), _)| claims.get(claim).and_then(Value::as_str) == Some(value));
        let (_, caller) = found.next().ok_or(Refused::Bad("no caller is configured for what it says"))?;
        if found.any(|(_, other)| other.name != caller.name) {
            return Err(Refused::Bad("it names several callers"));
        }
        Ok(caller)
    }

    fn groups(&self, claims: &Map<String, Value>) -> Result<BTreeSet<String>, Refused> {
        let Some(claim) = self.groups_claim.as_ref().and_then(|claim| claims.get(claim)) else {
            return Ok(BTreeSet::new());
        };
        let bad = || Refused::Bad("its groups are no list of names");
        let list = claim.as_array().filter(|list| list.len() <= MOST_GROUPS).ok_or_else(bad)?;
        let name =
            |value: &Value| value.as_str().filter(|name| (1..=LONGEST_GROUP).contains(&name.len())).map(str::to_owned);
        list.iter().map(|value| name(value).ok_or_else(bad)).collect()
    }
}

/// Whether a claim is this, or has it among several.
fn says(claim: Option<&Value>, what: &str) -> bool {
    match claim {
        Some(Value::String(text)) => text == what,
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(what)),
        _ => false,
    }
}

/// A time in a token, in microseconds: a number of seconds, which may have a fraction.
fn time(claim: Option<&Value>) -> Option<i64> {
    let number = claim?.as_number()?;
    if let Some(seconds) = number.as_i64() {
        return seconds.checked_mul(1_000_000);
    }
    #[expect(clippy::cast_possible_truncation, reason = "it was compared with what fits")]
    let micros = |seconds: f64| (seconds * 1e6) as i64;
    number.as_f64().filter(|seconds| seconds.abs() < 9e12).map(micros)
}
