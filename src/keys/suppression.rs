//! The suppression list: what the vault still knows of an objection to direct marketing when the person is gone.
//!
//! An identifier is on the list by a name: a keyed digest of its normal form, the one that the search index uses, under a
//! key of the vault's own that is not the index key. The list answers yes or no to whoever has the identifier, and
//! leads to nobody. The key never leaves the vault: telephone numbers can be tried through by whoever has it.

use std::collections::BTreeSet;

use super::custody::Custody;
use super::house::HouseKey;
use super::ring::Keyring;
use crate::model::{Reason, Result, Subject, SubjectId, Token, Value};
use crate::policy::{self, Upkeep};
use crate::store::Tx;
use crate::store::journal::Mark;
use crate::store::suppression::Name;

impl Keyring {
    /// The name of an identifier on the suppression list; `None` when a value is no way to reach one person.
    ///
    /// # Errors
    /// `StoreUnavailable` while this process holds no keys.
    pub fn suppression_name(&self, value: &Value) -> Result<Option<Name>> {
        let Some(normal) = value.normal().filter(|_| value.kind().reaches_a_person()) else { return Ok(None) };
        let kind = value.kind().number().to_be_bytes();
        self.name_own(HouseKey::Suppression, &[b"lacuna/suppression/v1", &kind, normal]).map(Some)
    }
}

impl Custody {
    /// The identifiers that a person has at present, with their tokens. One that does not open any more is left out.
    async fn identifiers(&self, tx: &mut dyn Tx, subject: SubjectId) -> Result<Vec<(Token, Name)>> {
        let mut found = Vec::new();
        for token in tx.sealed_tokens(&[subject]).await?.into_iter().filter(|token| token.kind.reaches_a_person()) {
            match self.ring.open(&policy::for_upkeep(token.row, Upkeep::Suppression), &token) {
                Ok(value) => found.extend(self.ring.suppression_name(&value)?.map(|name| (token, name))),
                // In a database that was restored from before a rotation; or it was damaged.
                Err(error) if matches!(error.reason, Reason::KeyRetired | Reason::SealBroken) => {
                    tracing::error!(%subject, ?error, "an identifier cannot be put on the suppression list");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Puts the identifiers on the list that a person has at present, whose row is locked. Whoever keeps one of them for
    /// somebody else meanwhile sees the list either before or after: both lock where the index has it.
    pub async fn suppress(&self, tx: &mut dyn Tx, subject: SubjectId) -> Result<()> {
        let (tokens, names): (Vec<_>, Vec<_>) = self.identifiers(tx, subject).await?.into_iter().unzip();
        if names.is_empty() {
            return Ok(());
        }
        let touched = |generations: &[_]| {
            let mut buckets = BTreeSet::new();
            for token in &tokens {
                buckets.extend(self.buckets_of_token(token, generations)?);
            }
            Ok(buckets)
        };
        super::index::lock(tx, &self.generations(), touched).await?;
        self.list(tx, &names).await
    }

    /// Takes the identifiers off the list that a person has at present.
    pub async fn release(&self, tx: &mut dyn Tx, subject: SubjectId) -> Result<()> {
        let names: Vec<Name> = self.identifiers(tx, subject).await?.into_iter().map(|(_, name)| name).collect();
        tx.release(&names).await?;
        mark(tx, &names).await
    }

    /// Puts names on the list.
    pub async fn list(&self, tx: &mut dyn Tx, names: &[Name]) -> Result<()> {
        tx.suppress(names).await?;
        mark(tx, names).await
    }

    /// By what the objection of a person to direct marketing, if there is one, outlives their keys.
    pub async fn objection(&self, tx: &mut dyn Tx, person: &Subject) -> Result<BTreeSet<Name>> {
        if person.suppressed_at.is_none() || person.alive().is_err() {
            return Ok(BTreeSet::new());
        }
        Ok(self.identifiers(tx, person.id).await?.into_iter().map(|(_, name)| name).collect())
    }

    /// Makes certain that it does. Answers how many names it is.
    pub async fn remember_objection(&self, tx: &mut dyn Tx, person: &Subject) -> Result<usize> {
        let names: Vec<Name> = self.objection(tx, person).await?.into_iter().collect();
        self.list(tx, &names).await?;
        Ok(names.len())
    }
}

/// Has the journal tell how it is with names.
async fn mark(tx: &mut dyn Tx, names: &[Name]) -> Result<()> {
    tx.mark(&names.iter().copied().map(Mark::Suppression).collect::<Vec<_>>()).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::ring::Epoch;
    use super::super::tree::Tree;
    use super::*;
    use crate::crypto::SystemRandom;
    use crate::model::{Content, FieldType};

    fn ring() -> Keyring {
        let random = SystemRandom::new();
        let genesis = Tree::genesis([1; 16], &random);
        Keyring::new(Epoch { tree: genesis.tree, number: 0 }, Arc::new(random)).unwrap()
    }

    fn value(kind: FieldType, text: &str) -> Value {
        Value::parse(kind, Content::Text(text.to_owned().into())).unwrap()
    }

    #[test]
    fn an_identifier_has_one_name_in_one_vault_however_it_is_written() {
        let (ring, other) = (ring(), ring());
        let name = |kind, text| ring.suppression_name(&value(kind, text)).unwrap().unwrap();
        assert_eq!(name(FieldType::Email, "Ada@Example.com"), name(FieldType::Email, "ada@example.com"));
        assert_eq!(name(FieldType::Phone, "0049 30 1234567"), name(FieldType::Phone, "+49301234567"));
        assert_ne!(name(FieldType::Phone, "+49301234567"), name(FieldType::Phone, "+49301234568"));
        assert_ne!(name(FieldType::DeviceId, "49301234567"), name(FieldType::Phone, "49301234567"));
        let ada = value(FieldType::Email, "ada@example.com");
        assert_ne!(ring.suppression_name(&ada).unwrap(), other.suppression_name(&ada).unwrap());
        assert_eq!(ring.suppression_name(&value(FieldType::PersonName, "Ada")).unwrap(), None);
    }
}
