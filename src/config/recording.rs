//! Configuration of whether calls may be recorded: whose law says what, and which calls have to be.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::model::{Agreement, Jurisdiction, Label, Span};
use crate::policy::RecordingRules;

/// How many purposes a queue may have.
const MOST: usize = 16;

/// The recording of calls.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recording {
    /// Who has to agree, by jurisdiction, where the vault's own table is not to decide.
    pub jurisdictions: BTreeMap<String, Agreement>,
    /// Queues whose calls are recorded for purposes in any case.
    pub queues: BTreeMap<String, Queue>,
    /// What becomes of what was recorded of a call until somebody objected.
    pub after_objection: Span,
}

/// A queue.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// The purposes.
    pub purposes: Vec<String>,
}

impl Recording {
    pub(super) fn check(&self) -> Result<()> {
        for code in self.jurisdictions.keys() {
            Jurisdiction::parse(code).with_context(|| format!("recording.jurisdictions.{code}"))?;
        }
        for (name, queue) in &self.queues {
            Label::queue(name).with_context(|| format!("recording.queues.{name:?}"))?;
            ensure!(
                (1..=MOST).contains(&queue.purposes.len()),
                "recording.queues.{name:?}.purposes must hold between 1 and {MOST}"
            );
            for code in &queue.purposes {
                Label::purpose(code).with_context(|| format!("recording.queues.{name:?}.purposes: {code:?}"))?;
            }
        }
        Ok(())
    }

    /// What the operator says.
    #[must_use]
    pub fn rules(&self) -> RecordingRules {
        let queues = self.queues.iter().map(|(name, queue)| (name.clone(), queue.purposes.clone()));
        RecordingRules {
            jurisdictions: self.jurisdictions.clone(),
            queues: queues.collect(),
            after_objection: self.after_objection,
        }
    }
}
