//! Sealing values that come: under which keys of their subject, and the tokens that stand for them.

use std::collections::HashMap;
use std::sync::Arc;

use super::Vault;
use super::token::{Field, Tokenize};
use super::write::{NewToken, Owner};
use crate::keys::Place;
use crate::keys::leaves::{self, Leaf};
use crate::model::{
    Cohort, KeyState, Label, PartId, Reason, Result, SubjectId, Time, Token, TokenFormat, TokenRow, shape,
};
use crate::store::index::Generation;
use crate::store::key::SubjectKey;

/// For each retention class, and month where it has a period, the leaf of its key and the key's version.
pub(super) type Places = HashMap<(String, Option<Cohort>), (u32, u32)>;

impl Vault {
    /// Of a subject with these keys, the keys that are new, and for each class of the values, which are of a part of a call or
    /// of none, the leaf and version of its key.
    pub(super) async fn keys_for(
        &self,
        subject: SubjectId,
        known: &[SubjectKey],
        part: Option<PartId>,
        fields: &[Field],
        now: Time,
    ) -> Result<(Vec<SubjectKey>, Vec<Leaf>, Places)> {
        let active = known.iter().filter(|key| key.state == KeyState::Active && key.part == part);
        let place = |key: &SubjectKey| ((key.class.clone(), key.cohort), (key.leaf, key.version));
        let mut places: Places = active.map(place).collect();
        let (mut keys, mut leaves) = (Vec::new(), Vec::new());
        for field in fields {
            let (class, cohort) = (field.class.as_str(), self.cohort_of(field.class.as_str(), now));
            if !places.contains_key(&(class.to_owned(), cohort)) {
                let leaf = self.custody.take_leaf(cohort.map(|cohort| (class.to_owned(), cohort))).await?;
                let versions = known.iter().filter(|key| key.class == class).map(|key| key.version);
                let version = versions.max().unwrap_or_default() + 1;
                let key = SubjectKey::active(leaf.number(), subject, class.to_owned(), version, now);
                let key = SubjectKey { cohort, part, ..key };
                places.extend([place(&key)]);
                keys.push(key);
                leaves.push(leaf);
            }
        }
        Ok((keys, leaves, places))
    }

    /// Seals the values, each under the leaf of its class.
    pub(super) fn seal_all(&self, owner: &Owner, places: &Places, ask: &Tokenize, now: Time) -> Result<Vec<NewToken>> {
        let generations = self.custody.generations();
        let seal = |(at, field)| {
            let sealed = self.seal_new(owner.subject(), places, &ask.source, field, &generations, now);
            sealed.map_err(|error| match error.reason {
                Reason::KeyRetired => error,
                _ => error.within(&format!("fields[{at}]")),
            })
        };
        ask.fields.iter().enumerate().map(seal).collect()
    }

    pub(super) fn seal_new(
        &self,
        subject: SubjectId,
        places: &Places,
        source: &Label,
        field: &Field,
        generations: &[Generation],
        now: Time,
    ) -> Result<NewToken> {
        let shaped = match field.format {
            TokenFormat::Opaque => None,
            TokenFormat::Shaped => Some(shape(&field.value, self.custody.ring.random())?),
        };
        let class = field.class.as_str().to_owned();
        let cohort = self.cohort_of(&class, now);
        let place = (class.clone(), cohort);
        let &(leaf, key_version) = places.get(&place).ok_or_else(leaves::given_up)?;
        let mut token = Token {
            row: TokenRow::new(now, self.custody.ring.random()),
            subject,
            kind: field.value.kind(),
            class,
            format: field.format,
            shaped,
            tags: field.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            expires_at: field.expires_at,
            single_use: field.single_use,
            created_at: now,
            leaf,
            key_version,
            source: source.as_str().to_owned(),
            version: 1,
            spent_at: None,
            deleted_at: None,
            ended_at: None,
            sealed: None,
        };
        token.sealed = Some(self.custody.ring.seal(&Place::of(&token), &field.value)?);
        let spots = self.custody.spots_near(&field.value, generations)?;
        let name = self.custody.ring.suppression_name(&field.value)?;
        let deduplicate = field.deduplicate && !field.single_use && field.expires_at.is_none();
        Ok(NewToken { token, cohort, spots, name, deduplicate, value: Arc::clone(&field.value) })
    }
}
