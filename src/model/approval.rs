//! Approvals: what one caller asks for, and another one lets them have once.

use super::numbered::numbered;
use super::{ApprovalId, Channel, Error, Reason, Redaction, Result, Time};
use crate::crypto::derive::sha256;

/// What a digest over a bulk reveal begins with, so that it is a digest of nothing else.
const DOMAIN: &[u8] = b"lacuna/bulk-reveal/v1";

numbered! {
    /// Where a request for approval is in its life. The numbers are stored, and are those of `lacuna.v1.ApprovalState`.
    ApprovalState {
        /// Nobody has decided yet.
        Pending = 1,
        /// Granted, and not used yet.
        Granted = 2,
        /// Refused.
        Refused = 3,
        /// Granted, and used.
        Used = 4,
        /// The time is over in which it could be granted or used.
        Expired = 5,
    }
}

/// Exactly what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// Who asks.
    pub caller: String,
    /// For what purpose.
    pub purpose: String,
    /// How much is to be shown.
    pub redaction: Redaction,
    /// Over which channel.
    pub channel: Channel,
    /// A ticket, or empty.
    pub justification: String,
    /// How many tokens.
    pub tokens: u64,
    /// A digest over all of this and the tokens in their order.
    pub digest: [u8; 32],
}

impl Bulk {
    /// A reveal of these tokens.
    #[must_use]
    pub fn new(
        caller: &str,
        purpose: &str,
        redaction: Redaction,
        channel: Channel,
        justification: &str,
        tokens: &[String],
    ) -> Self {
        let (channel_code, count) = (channel.number().to_be_bytes(), (tokens.len() as u64).to_be_bytes());
        // Each part with its length: no two asks make the same bytes.
        let said = [caller, purpose, redaction.name(), justification];
        let texts: Vec<&str> = said.into_iter().chain(tokens.iter().map(String::as_str)).collect();
        let lengths: Vec<[u8; 8]> = texts.iter().map(|text| (text.len() as u64).to_be_bytes()).collect();
        let framed = lengths.iter().zip(&texts).flat_map(|(length, text)| [length.as_slice(), text.as_bytes()]);
        let parts: Vec<&[u8]> = [DOMAIN, &channel_code, &count].into_iter().chain(framed).collect();
        Self {
            caller: caller.to_owned(),
            purpose: purpose.to_owned(),
            redaction,
            channel,
            justification: justification.to_owned(),
            tokens: tokens.len() as u64,
            digest: sha256(&parts),
        }
    }
}

/// A request for approval, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Its name.
    pub id: ApprovalId,
    /// What for.
    pub bulk: Bulk,
    /// When it was asked for.
    pub requested_at: Time,
    /// Until when it can be granted and used.
    pub expires_at: Time,
    /// What was decided, whatever the time is.
    pub state: ApprovalState,
    /// By whom.
    pub decided_by: String,
    /// When.
    pub decided_at: Option<Time>,
    /// Why: a code or a ticket, or empty.
    pub reason: String,
    /// When it was used.
    pub used_at: Option<Time>,
}

impl Approval {
    /// Where it is now.
    #[must_use]
    pub fn state_at(&self, now: Time) -> ApprovalState {
        match self.state {
            ApprovalState::Pending | ApprovalState::Granted if self.expires_at <= now => ApprovalState::Expired,
            state => state,
        }
    }

    /// Decides. The same decision by the same caller changes nothing.
    ///
    /// # Errors
    /// `ApprovalClosed` when it was decided otherwise, used, or came to nothing in time.
    pub fn decide(&mut self, granted: bool, by: &str, reason: &str, now: Time) -> Result<()> {
        let decision = if granted { ApprovalState::Granted } else { ApprovalState::Refused };
        let state = self.state_at(now);
        if state == decision && self.decided_by == by {
            return Ok(());
        }
        // What was granted can be taken back as long as it was not used.
        let open = state == ApprovalState::Pending || (state == ApprovalState::Granted && !granted);
        if !open {
            return Err(Error::new(
                Reason::ApprovalClosed,
                "the request is not open any more: it was decided, used, or is too old",
            )
            .with("approval", self.id)
            .with("state", state.name()));
        }
        self.state = decision;
        by.clone_into(&mut self.decided_by);
        reason.clone_into(&mut self.reason);
        self.decided_at = Some(now);
        Ok(())
    }
}

impl ApprovalState {
    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Granted => "GRANTED",
            Self::Refused => "REFUSED",
            Self::Used => "USED",
            Self::Expired => "EXPIRED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(caller: &str, purpose: &str, tokens: &[&str]) -> Bulk {
        let tokens: Vec<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
        Bulk::new(caller, purpose, Redaction::PlainText, Channel::Any, "", &tokens)
    }

    #[test]
    fn a_digest_is_of_exactly_what_is_asked() {
        let asked = bulk("a", "b", &["c", "d"]);
        assert_eq!(asked.digest, bulk("a", "b", &["c", "d"]).digest);
        for other in [
            bulk("ab", "", &["c", "d"]),
            bulk("a", "b", &["d", "c"]),
            bulk("a", "b", &["cd"]),
            bulk("a", "b", &["c", "d", "d"]),
            bulk("a", "bc", &["d"]),
            Bulk::new("a", "b", Redaction::Masked, Channel::Any, "", &["c".to_owned(), "d".to_owned()]),
            Bulk::new("a", "b", Redaction::PlainText, Channel::Email, "", &["c".to_owned(), "d".to_owned()]),
            Bulk::new("a", "b", Redaction::PlainText, Channel::Any, "c", &["d".to_owned()]),
        ] {
            assert_ne!(asked.digest, other.digest, "{other:?}");
        }
    }

    #[test]
    fn it_is_decided_once_and_taken_back_until_it_is_used() {
        let at = Time::from_micros;
        let asked = Approval {
            id: ApprovalId::from_bytes([1; 16]),
            bulk: bulk("a", "b", &["c"]),
            requested_at: at(0),
            expires_at: at(100),
            state: ApprovalState::Pending,
            decided_by: String::new(),
            decided_at: None,
            reason: String::new(),
            used_at: None,
        };
        let mut granted = asked.clone();
        granted.decide(true, "b", "", at(1)).unwrap();
        granted.decide(true, "b", "", at(2)).unwrap();
        assert_eq!(
            (granted.state_at(at(99)), granted.state_at(at(100))),
            (ApprovalState::Granted, ApprovalState::Expired)
        );
        assert!(granted.decide(true, "c", "", at(3)).is_err());
        granted.decide(false, "c", "", at(3)).unwrap();
        assert!(granted.decide(true, "b", "", at(4)).is_err());
        assert!(asked.clone().decide(true, "b", "", at(100)).is_err());
        let mut used = Approval { state: ApprovalState::Used, decided_by: "b".to_owned(), ..asked };
        assert!(used.decide(false, "b", "", at(5)).is_err());
    }
}
