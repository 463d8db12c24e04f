//! Words of the API on the command line and in files: `key-press` for `CONSENT_METHOD_KEY_PRESS`.

use anyhow::{Result, anyhow};
use clap::ValueEnum;

use crate::proto::v1;

/// Enumerations of the API by their names on the command line. In files the API's own names are taken too.
macro_rules! named {
    ($($(#[$meta:meta])* $name:ident: $wire:ident { $($variant:ident),+ $(,)? })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
        pub enum $name { $($variant),+ }

        impl $name {
            /// The number on the wire.
            pub const fn number(self) -> i32 {
                match self { $(Self::$variant => v1::$wire::$variant as i32),+ }
            }

            /// Reads a word; tells which ones there are, and not what stands there instead.
            pub fn parse(word: &str) -> Result<Self> {
                find(word, v1::$wire::Unspecified.as_str_name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                Self::parse(&word).map_err(serde::de::Error::custom)
            }
        }
    )+};
}

named! {
    /// By which way a person is reached.
    Channel: Channel { Email, Sms, Voice, Post, Push, Web, InPerson }
    /// What is recorded, as `consent_service.proto` documents it.
    Kind: ConsentEventKind {
        Give, Refuse, Request, Confirm, Renew, Withdraw, Object, Revoke, Invalidate, Defer, WithdrawObjection,
        OverrideObjection, Acknowledge,
    }
    /// How a person decided.
    Method: ConsentMethod {
        Form, Oral, KeyPress, Signature, Message, Link, BrowserSignal, Api, PreTicked, Assumed, Silence,
    }
    /// Who decided.
    Actor: ConsentActor { Subject, Guardian, Representative, Agent, Controller, DataProtectionOfficer, Authority }
    /// On what ground a purpose processes personal data.
    Basis: LawfulBasis { Consent, Contract, LegalObligation, VitalInterests, PublicTask, LegitimateInterests }
    /// What it takes for a purpose that rests on consent.
    Mode: ConsentMode { OptIn, OptOut }
    /// How much a new version changes; a person decides that.
    Change: VersionChange { Minor, Major }
    /// Which way a leg of a call goes.
    Direction: CallDirection { Inbound, Outbound, Internal }
    /// How a leg of a call ended.
    Disposition: CallDisposition { Answered, NoAnswer, Busy, Failed, Congestion, Abandoned, Voicemail }
    /// What happens during a call.
    CallEvent: CallEventKind {
        Ring, Answer, Hold, Retrieve, Transfer, Join, Leave, RecordingStart, RecordingStop, Objection, CardPause,
        CardResume, Payment, End,
    }
    /// What has interrupted a recording.
    PauseCause: CardPauseCause { Agent, Automatic, DtmfMasking }
    /// What a party is in a call.
    Role: PartyRole { Customer, Agent, Supervisor, Sme, ThirdParty }
    /// What somebody is who is heard in a call.
    Heard: RecordingRole { Caller, Agent, Other }
    /// What a part of a call is.
    Part: PartKind { Recording, Transcript, Summary, Note, Screen, Scorecard }
    /// On what ground values are kept.
    Ground: RetentionBasis {
        Consent, Contract, LegalObligation, LegitimateInterests, LegalClaims, PublicTask, VitalInterests,
    }
    /// From when a period counts.
    Counting: RetentionCounting { FromCreation, FromEndOfYear }
    /// What a collection point is.
    PointKind: CollectionPointKind { WebForm, Ivr, Agent, App, Import, Api, Paper, BrowserSignal }
}

fn find<E: ValueEnum>(word: &str, unspecified: &str) -> Result<E> {
    let plain = |name: &str| name.trim().to_ascii_lowercase().replace('_', "-");
    let (word, unspecified) = (plain(word), plain(unspecified));
    let prefix = unspecified.trim_end_matches("unspecified");
    E::from_str(word.strip_prefix(prefix).unwrap_or(&word), false)
        .map_err(|_| anyhow!("expected one of {}", names::<E>()))
}

/// The words of an enumeration, in its order.
pub fn names<E: ValueEnum>() -> String {
    let known = E::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let names: Vec<String> = known.map(|value| value.get_name().to_owned()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_as_people_and_as_the_api_write_them() {
        for word in ["key-press", "key_press", "KEY_PRESS", " CONSENT_METHOD_KEY_PRESS"] {
            assert_eq!(Method::parse(word).unwrap().number(), v1::ConsentMethod::KeyPress as i32, "{word}");
        }
        let error = Channel::parse("MARKED").err().unwrap().to_string();
        assert!(error.contains("in-person") && !error.contains("MARKED"), "{error}");
        assert!(Channel::parse("CHANNEL_UNSPECIFIED").is_err());
    }
}
