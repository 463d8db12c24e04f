//! Who may: the gate that every rpc passes, and other policies in the place of those in force.

use std::sync::Arc;

use super::Vault;
use super::audit::Entry;
use super::read::{Ask, Name};
use super::reveal::{entry, unknown};
use super::write::Record;
use crate::crypto::derive;
use crate::keys::checkpoint::hex;
use crate::model::{Facts, Result};
use crate::policy::{About, Action, Authority, Caller, Inquiry, Policies, PolicyFile};

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
    /// `NotPermitted`.
    pub async fn enter(&self, caller: &Caller, action: Action, rpc: &'static str) -> Result<()> {
        match self.authority.enter(caller, action, self.clock.now()) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.record_refusal(caller, rpc, error).await),
        }
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
        let found = self.reads.call(Ask { purpose: String::new(), names }).await??.into_iter().next().flatten();
        let about = About::value(found.as_deref());
        if let Err(error) = self.authority.check(&Inquiry::new(caller, action, about, self.clock.now())) {
            return Err(self.record_refusal(caller, deed, error).await);
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
        let entry = Entry { refused, justification, ..entry(&Caller::named(ITSELF), "LoadPolicies", self.clock.now()) };
        self.record(Record { entry, spend: Vec::new() }).await.map(drop)
    }
}
