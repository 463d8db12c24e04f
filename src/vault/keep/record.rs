//! What the audit is told of values that are kept: how many of which type for whom, and each token that was there already.

use std::collections::BTreeMap;

use super::Keeping;
use crate::model::{Jurisdiction, Token};
use crate::vault::audit::{self, Entry, Touched, outcome};
use crate::vault::write::{NewTokens, Owner, Tokenized};

impl Keeping<'_> {
    /// Records what a write has kept. Whoever is told of a token that was there already has looked for a value.
    pub(super) fn record_kept(&mut self, new: &NewTokens, planned: &[(Token, bool)]) {
        let touched = self.touched_by(new, planned);
        self.record(new, touched);
    }

    /// Whom a write has kept something of, and what.
    pub(super) fn touched_by(&self, new: &NewTokens, planned: &[(Token, bool)]) -> Vec<Touched<'static>> {
        let mut kept: BTreeMap<(&'static str, bool), u64> = BTreeMap::new();
        for (token, _) in planned.iter().filter(|(_, made)| *made) {
            *kept.entry((token.kind.name(), audit::is_special(token))).or_default() += 1;
        }
        let owner = Touched::subject(new.owner.subject(), self.jurisdiction(&new.owner), outcome::KEPT);
        let mut touched: Vec<Touched<'static>> = kept
            .into_iter()
            .map(|((kind, special), count)| Touched { kind: kind.into(), special, count, ..owner.clone() })
            .collect();
        if planned.is_empty() {
            touched.push(owner);
        }
        touched.extend(planned.iter().filter(|(_, made)| !made).map(|(token, _)| Touched::token(token, outcome::SAME)));
        touched
    }

    /// Records that a write had been made before.
    pub(super) fn record_repeated(&mut self, new: &NewTokens, repeated: &Tokenized) {
        let touched = match repeated.subject {
            Some(id) => vec![Touched::subject(id, None, outcome::REPEATED)],
            None => repeated.tokens.iter().map(|(token, _)| Touched::token(token, outcome::REPEATED)).collect(),
        };
        self.record(new, touched);
    }

    pub(super) fn record(&mut self, new: &NewTokens, touched: Vec<Touched<'static>>) {
        let entry = Entry { touched, request: new.call.clone(), ..Entry::new(&new.caller, new.deed, self.now) };
        self.found.push(entry);
    }

    fn jurisdiction<'k>(&'k self, owner: &'k Owner) -> Option<&'k Jurisdiction> {
        match owner {
            Owner::New(subject) => subject.jurisdiction.as_ref(),
            Owner::Known(id) => self.subjects.get(id)?.jurisdiction.as_ref(),
        }
    }
}
