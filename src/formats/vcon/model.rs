//! A conversation as we hold it: who took part, what was said, what was made of it, and what it rests on.
//!
//! Everything but the codes is plaintext of the people in it, so nothing here has `Debug`. Numbers of parties and dialogs were
//! checked when it was read: each is one of those that are there.

use serde_json::Number;

use crate::crypto::SecretBytes;
use crate::formats::{Json, Plain};
use crate::model::Time;

/// Members of an object that the format does not know. They are written with everything and never redacted: only left out.
pub type Others = Vec<(Plain, Json)>;

/// A conversation.
pub struct Conversation {
    /// Its id, a UUID in lower case.
    pub uuid: String,
    /// When it was written down.
    pub created_at: Time,
    /// When it was changed last.
    pub updated_at: Option<Time>,
    /// What it is about.
    pub subject: Option<Plain>,
    /// Extensions that it uses.
    pub extensions: Vec<Plain>,
    /// Extensions without which it must not be read.
    pub critical: Vec<Plain>,
    /// What it was made from.
    pub earlier: Option<Earlier>,
    /// Who took part.
    pub parties: Vec<Party>,
    /// What was said, leg by leg or message by message.
    pub dialog: Vec<Dialog>,
    /// What was made of it.
    pub analysis: Vec<Analysis>,
    /// What belongs to it.
    pub attachments: Vec<Attachment>,
    /// What else it says.
    pub others: Others,
}

/// The conversation that another one was made from.
pub struct Earlier {
    /// What was done to it; `None` when it was amended.
    pub redaction: Option<Plain>,
    /// Its id.
    pub uuid: Option<String>,
    /// Where it is.
    pub url: Option<Plain>,
    /// Digests of it.
    pub hashes: Vec<Plain>,
}

/// What somebody is in a contact centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who answers.
    Agent,
    /// Who calls, or is called.
    Customer,
    /// Who is asked because they know.
    Sme,
    /// Who listens to agents.
    Supervisor,
    /// Anybody else.
    ThirdParty,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Agent, Self::Customer, Self::Sme, Self::Supervisor, Self::ThirdParty];

    /// Its name in the extension for contact centres.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Customer => "customer",
            Self::Sme => "sme",
            Self::Supervisor => "supervisor",
            Self::ThirdParty => "thirdparty",
        }
    }
}

/// Somebody who took part.
#[derive(Default)]
pub struct Party {
    /// What they are there.
    pub role: Option<Role>,
    /// What is told of them, by the names of the format ([`PARTY`]).
    pub told: Vec<(&'static str, Plain)>,
    /// Where they are.
    pub civic: Vec<(Plain, Plain)>,
    /// What else is said of them.
    pub others: Others,
}

/// What the format tells of a party, in text.
pub const PARTY: [&str; 12] =
    ["tel", "sip", "mailto", "name", "validation", "stir", "did", "gmlpos", "uuid", "type", "org", "dept"];

impl Party {
    /// What is told of them by this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.told.iter().find(|(found, _)| *found == name).map(|(_, text)| text.expose())
    }
}

/// What a dialog is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialogKind {
    /// Nobody was reached.
    Incomplete,
    /// Sound or pictures.
    Recording,
    /// Several recordings of the same.
    RecordingSet,
    /// A message.
    Text,
    /// Somebody was put through.
    Transfer,
}

impl DialogKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Incomplete, Self::Recording, Self::RecordingSet, Self::Text, Self::Transfer];

    /// Its name in the format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Recording => "recording",
            Self::RecordingSet => "recording-set",
            Self::Text => "text",
            Self::Transfer => "transfer",
        }
    }
}

/// One or several parties to whom a channel of a recording belongs, or nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seat {
    /// Nobody.
    Nobody,
    /// This party.
    One(usize),
    /// These parties.
    Several(Vec<usize>),
}

/// One leg, or one message.
pub struct Dialog {
    /// What it is.
    pub kind: DialogKind,
    /// When it began.
    pub start: Time,
    /// How long it took, in seconds.
    pub duration: Option<Number>,
    /// Who took part, channel by channel.
    pub parties: Vec<Seat>,
    /// Who began it, if not the first.
    pub originator: Option<usize>,
    /// What was said.
    pub content: Content,
    /// Why nobody was reached.
    pub disposition: Option<&'static str>,
    /// Who came and went.
    pub history: Vec<Event>,
    /// What is not in the recording because card data was told.
    pub gaps: Vec<Gap>,
    /// The channel.
    pub application: Option<Plain>,
    /// The message's id where it comes from.
    pub message_id: Option<Plain>,
    /// The sessions it was, as they were told.
    pub session: Option<Json>,
    /// Who was put through to whom, and which dialogs that concerns ([`LINKS`]).
    pub links: Vec<(&'static str, Vec<usize>)>,
    /// What else is said of it.
    pub others: Others,
}

/// References of a dialog by name; whether to a party, and whether to several.
pub const LINKS: [(&str, bool, bool); 8] = [
    ("transferee", true, false),
    ("transferor", true, false),
    ("transfer_target", true, true),
    ("original", false, true),
    ("consultation", false, true),
    ("target_dialog", false, true),
    ("recordings", false, true),
    ("recording_set", false, false),
];

impl Dialog {
    /// The first who is named in it: who began it, unless it says otherwise.
    #[must_use]
    pub fn first(&self) -> Option<usize> {
        self.parties.iter().find_map(|seat| match seat {
            Seat::Nobody => None,
            Seat::One(party) => Some(*party),
            Seat::Several(parties) => parties.first().copied(),
        })
    }

    /// Whether one of these may have taken part: of what names one person alone nobody knows whom it was with.
    #[must_use]
    pub fn may_include(&self, some: &[usize]) -> bool {
        let people = self.people();
        people.len() < 2 || people.iter().any(|party| some.contains(party))
    }

    /// Everybody who is named in it.
    #[must_use]
    pub fn people(&self) -> Vec<usize> {
        let seated = self.parties.iter().flat_map(|seat| match seat {
            Seat::Nobody => Vec::new(),
            Seat::One(party) => vec![*party],
            Seat::Several(parties) => parties.clone(),
        });
        let linked =
            self.links.iter().filter(|(name, _)| LINKS.iter().any(|(known, party, _)| known == name && *party));
        let mut people: Vec<usize> = seated
            .chain(self.originator)
            .chain(self.history.iter().map(|event| event.party))
            .chain(linked.flat_map(|(_, parties)| parties.iter().copied()))
            .collect();
        people.sort_unstable();
        people.dedup();
        people
    }
}

/// Somebody came, went, held or pressed a button. Which button is never kept: it may be a digit of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who.
    pub party: usize,
    /// When.
    pub time: Time,
    /// What, by the name that the format has for it ([`EVENTS`]).
    pub event: &'static str,
}

/// What the format has events for.
pub const EVENTS: [&str; 8] = ["join", "drop", "hold", "unhold", "mute", "unmute", "keydown", "keyup"];

/// A part of a recording that was never recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it begins.
    pub from: Time,
    /// Where it ends; `None` when it lasts to the end.
    pub to: Option<Time>,
}

/// What was recorded or written, or where it is.
#[derive(Default)]
pub struct Content {
    /// What kind of content, as `audio/wav`, with parameters.
    pub mediatype: Option<Plain>,
    /// What the file was called.
    pub filename: Option<Plain>,
    /// The content.
    pub body: Option<Body>,
    /// Where the content is, without the secrets of an address.
    pub url: Option<Plain>,
    /// Digests of the content.
    pub hashes: Vec<Plain>,
}

/// Content that is in the document.
pub enum Body {
    /// Bytes.
    Bytes(SecretBytes),
    /// A document.
    Json(Json),
    /// Text.
    Text(Plain),
}

/// What was made of dialogs.
pub struct Analysis {
    /// What it is, as they call it.
    pub kind: Plain,
    /// Who made it.
    pub vendor: Option<Plain>,
    /// With what.
    pub product: Option<Plain>,
    /// In what form.
    pub schema: Option<Plain>,
    /// Of which dialogs.
    pub dialogs: Vec<usize>,
    /// Of which attachments.
    pub attachments: Vec<usize>,
    /// Whom it is about, if a call says so; a document does not.
    pub about: Option<usize>,
    /// What came out.
    pub content: Content,
    /// What else is said of it.
    pub others: Others,
}

impl Analysis {
    /// Whether it assesses how somebody works, which is nobody's business but theirs.
    #[must_use]
    pub fn is_score(&self) -> bool {
        self.kind.expose().to_ascii_lowercase().contains("score")
    }
}

/// What belongs to a conversation.
pub struct Attachment {
    /// What it is for, as they call it.
    pub purpose: Option<Plain>,
    /// When it was sent.
    pub start: Option<Time>,
    /// Whose it is.
    pub party: Option<usize>,
    /// Which dialog it belongs to.
    pub dialog: Option<usize>,
    /// What it is.
    pub content: Content,
    /// What the processing rests on, if that is what it says.
    pub basis: Option<LawfulBasis>,
    /// What else is said of it.
    pub others: Others,
}

/// What an attachment is called that says what the processing rests on.
pub const LAWFUL_BASIS: &str = "lawful_basis";

/// What the processing of somebody's data rests on, and what they agreed to.
pub struct LawfulBasis {
    /// The basis, by its name in the format ([`BASES`]).
    pub basis: &'static str,
    /// Until when.
    pub expiration: Option<Time>,
    /// What for.
    pub grants: Vec<Grant>,
    /// What else is said of it.
    pub others: Others,
}

/// The bases of article 6 of the GDPR.
pub const BASES: [&str; 6] =
    ["consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests"];

/// Whether one purpose is agreed to.
pub struct Grant {
    /// The purpose.
    pub purpose: Plain,
    /// Whether it is.
    pub granted: bool,
    /// Since when.
    pub granted_at: Option<Time>,
    /// Under which conditions.
    pub conditions: Vec<Plain>,
}

/// What a reader changed, because the vault must not hold it or cannot tell it apart; counts only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Addresses that lost a query, a fragment or a password.
    pub addresses: usize,
    /// Texts in which card numbers were masked.
    pub cards: usize,
    /// Digits pressed that were dropped.
    pub digits: usize,
    /// Times without a zone, taken for UTC.
    pub zones: usize,
}
