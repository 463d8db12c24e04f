//! Links by which a person withdraws without logging in (Art. 7(3) GDPR; RFC 8058 for the header of an e-mail).
//!
//! A link is all there is of it: the vault keeps no row. What it is for is sealed in it under a key of the vault's own,
//! so it works under every later root and on a restored backup, for as long as there is the vault.

use data_encoding::BASE64URL_NOPAD;

use super::record::{Age, RecordConsent};
use crate::keys::house::HouseKey;
use crate::model::{
    Actor, Basis, Channel, ConsentEvent, ConsentEventId, ConsentState, Error, EventKind, Method, Reason, Result,
    SubjectId, Time,
};
use crate::policy::{Caller, unknown_purpose};
use crate::vault::Vault;

/// The first byte of what is sealed: the version of the rest.
const VERSION: u8 = 1;
/// The longest code of a purpose. Shorter ones are filled up, so that the length of a link tells nothing.
const CODE: usize = 64;

/// What became of a withdrawal.
pub struct Withdrawn {
    /// From what.
    pub purpose: String,
    /// How the consent stands then.
    pub state: ConsentState,
    /// Since when.
    pub since: Option<Time>,
}

/// What a link withdraws.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    subject: SubjectId,
    purpose: String,
    channel: Channel,
}

impl Target {
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let channel = u8::try_from(self.channel.number()).map_err(Error::internal)?;
        let mut plain = [&[VERSION][..], self.subject.as_bytes(), &[channel], self.purpose.as_bytes()].concat();
        plain.resize(2 + 16 + CODE, 0);
        Ok(plain)
    }

    pub(crate) fn decode(plain: &[u8]) -> Option<Self> {
        let (&version, rest) = plain.split_first()?;
        let (subject, rest) = rest.split_first_chunk::<16>()?;
        let (&channel, code) = rest.split_first()?;
        if version != VERSION || code.len() != CODE {
            return None;
        }
        Some(Self {
            subject: SubjectId::from_bytes(*subject),
            purpose: str::from_utf8(code).ok()?.trim_end_matches('\0').to_owned(),
            channel: Channel::from_number(channel.into())?,
        })
    }
}

impl Vault {
    /// Makes a link that withdraws one consent of one person.
    pub async fn create_withdrawal_link(
        &self,
        caller: &Caller,
        subject: SubjectId,
        purpose: &str,
        channel: Channel,
    ) -> Result<String> {
        let catalogue = self.library.refreshed().await?;
        let known = catalogue.purpose(purpose).ok_or_else(|| unknown_purpose(purpose))?;
        if known.basis != Basis::Consent {
            return Err(Error::invalid("purpose", "does not rest on consent; there is nothing to withdraw"));
        }
        if !known.uses(channel) {
            return Err(Error::invalid("channel", "the purpose does not use this channel"));
        }
        self.subject(subject).await?.alive()?;
        self.record_asked(caller, "CreateWithdrawalLink", subject).await?;
        let target = Target { subject, purpose: purpose.to_owned(), channel };
        let sealed = self.custody.ring.seal_own(HouseKey::WithdrawalLink, &target.encode()?)?;
        Ok(BASE64URL_NOPAD.encode(&sealed))
    }

    /// Withdraws by a link; `purpose` is what the person believes to withdraw from, or empty. Where there is nothing left
    /// to withdraw nothing is recorded, and the answer is the same: so it is when the link is followed again, and when
    /// the person has been erased since.
    pub async fn withdraw_by_link(&self, caller: &Caller, link: &str, purpose: &str) -> Result<Withdrawn> {
        let sealed = BASE64URL_NOPAD.decode(link.as_bytes()).map_err(|_| invalid())?;
        let plain = self.custody.ring.open_own(HouseKey::WithdrawalLink, &sealed)?.ok_or_else(invalid)?;
        let target = Target::decode(plain.expose()).ok_or_else(invalid)?;
        if !purpose.is_empty() && purpose != target.purpose {
            return Err(invalid());
        }
        self.record_asked(caller, "WithdrawByLink", target.subject).await?;
        match self.append(caller, withdrawal(&target), Age::NotAsked).await {
            Ok(_) => {}
            Err(error) => return self.withdrawn_without(target, error).await,
        }
        // Also when nothing was recorded: whoever followed the link a moment ago may still wait for this.
        self.custody.land_all().await?;
        let of = [(target.subject, target.purpose.as_str())];
        let stood = self.custody.store().read().await?.standings(&of).await?.pop();
        let consent = stood.map(|stood| stood.standing.consent(target.channel)).unwrap_or_default();
        let since = Some(Time::from_micros(consent.since)).filter(|_| !consent.event.is_empty());
        Ok(Withdrawn { purpose: target.purpose, state: consent.state, since })
    }

    /// What a link comes to that nothing could be recorded by. Whose it is must not be told.
    async fn withdrawn_without(&self, target: Target, error: Error) -> Result<Withdrawn> {
        match error.reason {
            Reason::SubjectErased | Reason::ErasurePending => {
                let since = self.subject(target.subject).await?.erased_at;
                Ok(Withdrawn { purpose: target.purpose, state: ConsentState::Withdrawn, since })
            }
            // A backup was restored that is older than the person or the purpose.
            Reason::SubjectUnknown | Reason::PurposeUnknown => Err(invalid()),
            _ => Err(error),
        }
    }
}

/// Which of the possible reasons it is is not told: that would help only whoever made the link up.
fn invalid() -> Error {
    let message = "this is no link that the vault has made for this purpose";
    Error::new(Reason::LinkInvalid, message).at("link")
}

fn withdrawal(target: &Target) -> RecordConsent {
    let event = ConsentEvent {
        id: ConsentEventId::from_bytes([0; 16]),
        subject: target.subject,
        purpose: target.purpose.clone(),
        purpose_version: 0,
        channel: target.channel,
        kind: EventKind::Withdraw,
        state: ConsentState::Unknown,
        method: Some(Method::Link),
        affirmative_action: "followed the link to withdraw".to_owned(),
        explicit_consent: false,
        actor: Actor::Subject,
        notice: String::new(),
        notice_version: 0,
        language: String::new(),
        notice_sha256: None,
        collection_point: String::new(),
        jurisdiction: String::new(),
        effective_at: Time::from_micros(0),
        recorded_at: Time::from_micros(0),
        valid_until: None,
        of_age_at: None,
        to_be_confirmed: false,
        evidence: Vec::new(),
        bundled: false,
        reason: String::new(),
        supersedes: None,
        along_with: None,
        caller: String::new(),
    };
    RecordConsent { event, effective_at: None, personal: Vec::new(), birth: None, once: true, request: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Label;

    #[test]
    fn targets_are_of_one_length_and_read_back() {
        let target = |purpose: &str| Target {
            subject: SubjectId::from_bytes([7; 16]),
            purpose: purpose.to_owned(),
            channel: Channel::Sms,
        };
        let longest = "a".repeat(CODE);
        assert!(Label::purpose(&longest).is_ok() && Label::purpose(&format!("{longest}a")).is_err());
        let lengths = ["a", "marketing.email", &longest].map(|code| {
            let plain = target(code).encode().unwrap();
            assert_eq!(Target::decode(&plain), Some(target(code)));
            plain.len()
        });
        assert_eq!(lengths, [82; 3]);
    }
}
