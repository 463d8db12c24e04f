//! Keys of parts that lie elsewhere, given as values are: for a purpose, decided, counted, and on record before.

use super::part::unknown_part;
use crate::keys::flight::Flight;
use crate::model::{Channel, Content, Error, PartId, Reason, Redaction, Reference, Result, SubjectId};
use crate::policy::{Action, Caller};
use crate::vault::Vault;
use crate::vault::reveal::{By, Detokenize, Revealed};

/// The rpc.
const DEED: &str = "GetMediaKey";

impl Vault {
    /// The key of a part that lies elsewhere, and whose that is. It may leave only while the flight may land.
    pub async fn media_key_of(
        &self,
        caller: &Caller,
        id: PartId,
        purpose: String,
        justification: Option<Reference>,
    ) -> Result<(Content, SubjectId, Flight)> {
        // Nobody is told which parts there are who may not name the purpose.
        self.admit(&self.claim(caller, Action::Reveal), DEED, &purpose).await?;
        let part = self.custody.store().read().await?.parts(&[id]).await?.pop();
        let row = part.as_ref().and_then(|part| part.media_key);
        // Of what is not there the refusal is that for a token which is not, so that it is decided, and counted, alike.
        let token = row.map(|row| self.custody.ring.opaque(row).to_string()).unwrap_or_default();
        let ask = Detokenize {
            tokens: vec![token],
            purpose,
            channel: Channel::Any,
            redaction: Redaction::PlainText,
            justification,
            by: By { deed: DEED, ..By::default() },
        };
        let (mut revealed, flight) = self.detokenize(caller, &ask).await?;
        let Revealed { outcome, known, shown, .. } = revealed.pop().ok_or_else(|| Error::internal("no answer"))?;
        let key = match outcome {
            Err(error) if error.reason == Reason::TokenUnknown && row.is_some() => {
                return Err(
                    Error::new(Reason::PartErased, "the part was destroyed, and its key with it").with("part", id)
                );
            }
            Err(error) if error.reason == Reason::TokenUnknown => {
                let kept = "has no key, because it itself is kept in the vault: GetCall shows it";
                return Err(if part.is_some() { Error::invalid("part", kept) } else { unknown_part(id) });
            }
            outcome => outcome.map_err(|error| error.with("part", id))?,
        };
        if shown != Redaction::PlainText {
            let message = "the policies show less than all of the value, and a key in part is none";
            return Err(Error::new(Reason::NotPermitted, message).with("part", id));
        }
        let (_, subject) = known.ok_or_else(|| Error::internal("a key of nobody"))?;
        Ok((key, subject, flight))
    }
}
