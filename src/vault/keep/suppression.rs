//! Values that are on the suppression list: whoever is given one objects to direct marketing from then on, and the other
//! identifiers of whoever objects come to be on it.

use super::Keeping;
use crate::model::{OutboxEvent, PermissionCause, Result, Subject, Token};
use crate::store::Tx;
use crate::store::journal::Mark;
use crate::store::suppression::Name;
use crate::vault::audit::{Touched, outcome};
use crate::vault::write::{NewTokens, Objection, Owner};

impl Keeping<'_> {
    /// Sees whether the values that a write makes are on the suppression list, or belong there. Answers how their person is
    /// about direct marketing then.
    pub(super) fn heed_suppression(&mut self, new: &NewTokens, planned: &[(Token, bool)]) -> Objection {
        let made = new.fields.iter().zip(planned).filter(|(_, (_, made))| *made);
        let named: Vec<(Name, &Token)> = made.filter_map(|(field, (token, _))| Some((field.name?, token))).collect();
        let hits = named.iter().filter(|(name, _)| self.suppressed.contains(name)).map(|(_, token)| *token);
        let hits: Vec<Touched<'static>> = hits.map(|token| Touched::token(token, outcome::SUPPRESSED)).collect();
        let found = !hits.is_empty();
        let objection = match &new.owner {
            // Nothing was permitted before of somebody new.
            Owner::New(_) if found => Objection::Known,
            Owner::New(_) => Objection::None,
            Owner::Known(id) => {
                let subject = self.subjects.get_mut(id);
                let news = subject.is_some_and(|subject| found && subject.recognise(self.now));
                if news {
                    self.recognised.insert(*id);
                }
                let objects = self.subjects.get(id).is_some_and(|subject| subject.suppressed_at.is_some());
                match (news, objects) {
                    (true, _) => Objection::Found,
                    (false, true) => Objection::Known,
                    (false, false) => Objection::None,
                }
            }
        };
        if found {
            self.record(new, hits);
        }
        if objection > Objection::None {
            let news = named.into_iter().map(|(name, _)| name).filter(|name| self.suppressed.insert(*name));
            self.new_names.extend(news);
        }
        objection
    }

    /// Writes who was found to object, and by which identifiers they are found again.
    pub(super) async fn store_suppression(&mut self, tx: &mut dyn Tx) -> Result<()> {
        let found: Vec<Subject> = self.recognised.iter().filter_map(|id| self.subjects.get(id).cloned()).collect();
        for person in &found {
            self.custody.remember_objection(tx, person).await?;
        }
        if !found.is_empty() {
            tx.update_subjects(&found).await?;
            let random = self.custody.ring.random();
            let tell =
                |person: &Subject| OutboxEvent::of_switch(person.id, PermissionCause::Suppression, self.now, random);
            tx.tell(&found.iter().map(tell).collect::<Vec<_>>()).await?;
            tx.mark(&found.iter().map(|person| Mark::Subject(person.id)).collect::<Vec<_>>()).await?;
        }
        self.custody.list(tx, &self.new_names).await
    }
}
