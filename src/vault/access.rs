//! Who may: the gate that every rpc passes, other policies in the place of those in force, callers who are disabled, and
//! what all that comes to.

mod report;
mod roll;

use std::sync::Arc;

pub use report::{Access, Simulated, Simulation};
pub use roll::{Known, Roll, refresh};

use super::Vault;
use super::audit::{Entry, Touched, outcome};
use super::read::{Ask, Found, Name};
use super::reveal::unknown;
use super::write::Record;
use crate::crypto::derive;
use crate::keys::checkpoint::hex;
use crate::model::{Facts, Result};
use crate::policy::{About, Action, Authority, Caller, Inquiry, Policies, PolicyFile};
use crate::trace;

/// Who does what the vault does by itself, in the audit log.
const ITSELF: &str = "vault";

impl Vault {
    /// Who decides.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether a caller may begin an rpc. A refusal is recorded.
    ///
    /// # Errors
    /// `CallerDisabled` or `NotPermitted`.
    pub async fn enter(&self, caller: &Caller, action: Action, rpc: &'static str) -> Result<()> {
        let policy = trace::stage("policy");
        let entered = self.authority.enter(caller, action, self.clock.now());
        drop(policy);
        match entered {
            Ok(()) => Ok(()),
            Err(error) => Err(self.record_refusal(caller, rpc, error).await),
        }
    }

    /// The facts of tokens, which are never newer than what is known of callers: nothing is decided about somebody who
    /// was disabled when the facts were read, on whatever node.
    pub(super) async fn read_facts(&self, purpose: &str, names: Vec<Name>) -> Result<Found> {
        let _reading = trace::stage("store.read");
        let mut found = self.reads.call(Ask { purpose: purpose.to_owned(), names }).await??;
        self.read_held(purpose, &mut found).await?;
        self.callers_at_least(found.iter().flatten().map(|facts| facts.callers).max()).await?;
        Ok(found)
    }

    /// Sees to it that so many changes of callers are known.
    pub(super) async fn callers_at_least(&self, generation: Option<i64>) -> Result<()> {
        if generation.is_some_and(|generation| generation > self.authority.generation()) {
            self.refresh_callers().await?;
        }
        Ok(())
    }

    /// The facts of a token whose value a caller may change. A refusal is recorded.
    pub(super) async fn facts_for(
        &self,
        caller: &Caller,
        action: Action,
        deed: &'static str,
        text: &str,
    ) -> Result<Arc<Facts>> {
        let names = vec![Name::parse(text, &self.custody)];
        let found = self.read_facts("", names).await?.into_iter().next().flatten();
        let (about, now) = (About::value(found.as_deref()), self.clock.now());
        if let Err(error) = self.authority.check(&Inquiry::new(caller, action, about, now), now) {
            let reason = outcome::refused(error.reason);
            let touched = found.iter().map(|facts| Touched::facts(facts, reason.clone())).collect();
            let entry = Entry { touched, ..Entry::new(&caller.name, deed, now) };
            return Err(self.record_refused(Record::of(entry), error).await);
        }
        found.ok_or_else(|| unknown(text, &self.custody))
    }

    /// Puts other policies in force and records that, before they decide anything.
    pub async fn replace_policies(&self, policies: Policies, files: &[PolicyFile]) -> Result<()> {
        self.record_policies(files, None).await?;
        self.authority.replace(policies);
        Ok(())
    }

    /// Records which policies there are, by a digest: the files are the operator's. With why they cannot be used, those
    /// before them stay in force.
    pub async fn record_policies(&self, files: &[PolicyFile], refused: Option<String>) -> Result<()> {
        let parts: Vec<&[u8]> =
            files.iter().flat_map(|file| [file.name.as_bytes(), b"\0", file.text.as_bytes(), b"\0"]).collect();
        let digest = derive::sha256(&parts);
        let justification = format!("sha256:{}", hex(&digest));
        let entry = Entry { justification, refused, ..Entry::new(ITSELF, "LoadPolicies", self.clock.now()) };
        self.record(Record::of(entry)).await.map(drop)
    }
}
