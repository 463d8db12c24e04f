//! `ImportVcon` and `ExportVcon`: conversations in the vCon format, each recorded as a call, and calls written as such.

use std::sync::Arc;

use tokio::sync::Mutex;
use tonic::{Request, Response, Status, Streaming};

use super::super::identity::caller;
use super::super::landing::Landing;
use super::super::stream::{self, Answers};
use super::super::{parse, status};
use super::event::Turns;
use super::import::leg;
use super::{part, wire};
use crate::crypto::derive::sha256;
use crate::formats::jwks::KeySet;
use crate::formats::vcon::{self, CardRule, Changes, Kept, KeptBody, Trust};
use crate::model::{
    CallId, Content, Error, FieldType, Label, MOST_PARTS, MediaType, PartBody, Reason, Result, SourceCallId, SubjectId,
    Value,
};
use crate::policy::Caller;
use crate::proto::v1;
use crate::vault::Vault;
use crate::vault::call::{Attach, ExportVcon, IMPORT_VCON, ImportVcon};

/// Most bytes of the keys of signers.
const LARGEST_KEYS: usize = 64 << 10;

/// What all documents of a stream have in common.
struct Import {
    vault: Arc<Vault>,
    caller: Caller,
    turns: Turns,
    reading: Mutex<()>,
    system: Label,
    signers: Option<KeySet>,
    cards: CardRule,
    class: String,
    part_class: Option<Label>,
}

/// Takes the documents of a stream in.
pub async fn documents(
    vault: &Arc<Vault>,
    request: Request<Streaming<v1::ImportVconRequest>>,
) -> Result<Response<Answers<v1::ImportVconResponse>>, Status> {
    let caller = caller(&request).map_err(|error| status::to_status(&error))?;
    let mut documents = request.into_inner();
    let mut first = documents.message().await?.unwrap_or_default();
    let mapping = first
        .mapping
        .take()
        .ok_or_else(|| Error::invalid("mapping", "is missing: the first message says how documents are read"));
    let import =
        mapping.and_then(|told| Import::of(Arc::clone(vault), caller, &told).map_err(|error| error.within("mapping")));
    let import = Arc::new(import.map_err(|error| status::to_status(&error))?);
    let deed = move |ask: v1::ImportVconRequest| {
        let import = Arc::clone(&import);
        async move { import.document(ask).await }
    };
    let number = |ask: &v1::ImportVconRequest| ask.document.as_ref().map_or(0, |document| document.number);
    let told = |number: u64, vcon: Result<v1::ImportedVcon>| {
        use v1::import_vcon_response::Outcome;
        let outcome = vcon.map_or_else(|error| Outcome::Error(status::to_item_status(&error)), Outcome::Vcon);
        v1::ImportVconResponse { number, outcome: Some(outcome) }
    };
    Ok(stream::begun((first, documents), IMPORT_VCON, number, deed, told))
}

impl Import {
    fn of(vault: Arc<Vault>, caller: Caller, told: &v1::VconMapping) -> Result<Self> {
        if told.signers.len() > LARGEST_KEYS {
            return Err(Error::invalid("signers", "is larger than 64 KiB"));
        }
        let keys = (!told.signers.is_empty()).then(|| KeySet::of_file(&told.signers)).transpose();
        let class = |field, code: &str| match parse::optional(code) {
            Some(code) => Label::retention_class(code).map(Some).map_err(|error| error.at(field)),
            None => Ok(None),
        };
        let party_class = class("retention_class", &told.retention_class)?;
        Ok(Self {
            vault,
            caller,
            turns: Turns::default(),
            reading: Mutex::default(),
            system: Label::code("source_system", &told.source_system)?,
            signers: keys.map_err(|error| error.at("signers"))?,
            cards: if told.mask_cards { CardRule::Mask } else { CardRule::Refuse },
            class: party_class.map(|class| class.as_str().to_owned()).unwrap_or_default(),
            part_class: class("part_retention_class", &told.part_retention_class)?,
        })
    }

    /// Reads a document. That is work, so it is done beside everything else, and of one stream one after the other.
    async fn read(self: &Arc<Self>, content: Vec<u8>) -> Result<(ImportVcon, Changes, bool)> {
        let _one = self.reading.lock().await;
        let import = Arc::clone(self);
        let work = move || {
            let trust = import.signers.as_ref().map_or(Trust::Anybody, Trust::Signers);
            let read = vcon::read(&content, trust, import.cards)?;
            Ok((import.told(&read.conversation)?, read.changes, read.signed))
        };
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    }

    async fn document(self: &Arc<Self>, ask: v1::ImportVconRequest) -> Result<v1::ImportedVcon> {
        if ask.mapping.is_some() {
            return Err(Error::invalid("mapping", "is told already: it belongs into the first message"));
        }
        let document = ask.document.ok_or_else(|| Error::invalid("document", "is missing"))?;
        if document.content.len() > ImportVcon::LARGEST {
            let message = "is larger than 8 MiB; put recordings beside it instead of into it";
            let error = Error::new(Reason::ValueTooLarge, message).at("document");
            return Err(error.with("maximum", ImportVcon::LARGEST));
        }
        let (told, changes, signed) = self.read(document.content).await?;
        // Two revisions of one conversation are taken in one after the other.
        let _turn = self.turns.of(told.upsert.source_id.as_str()).await;
        let imported = self.vault.import_vcon(&self.caller, told).await?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let Changes { addresses, cards, digits, zones } = changes;
        let signatures = signed.then(|| "signatures".to_owned());
        Ok(v1::ImportedVcon {
            call: imported.call.to_string(),
            outcome: wire::outcome(imported.outcome).into(),
            signed,
            parts: count(imported.parts),
            addresses_shortened: count(addresses),
            digits_dropped: count(digits),
            cards_masked: count(cards),
            times_without_zone: count(zones),
            left_out: signatures.into_iter().chain(imported.left_out).collect(),
        })
    }

    /// What a conversation tells, as anybody may tell it.
    fn told(&self, conversation: &vcon::Conversation) -> Result<ImportVcon> {
        let apart = vcon::apart(conversation)?;
        vcon::check_parts(&apart, MOST_PARTS)?;
        SourceCallId::parse("uuid", &apart.leg.source_call_id).map(drop)?;
        let mut ask = leg(apart.leg, self.system.as_str().to_owned());
        for party in ask.parties.iter_mut().filter(|party| party.agent_id.is_empty()) {
            party.retention_class.clone_from(&self.class);
        }
        let mut upsert = wire::upsert(ask, IMPORT_VCON)?;
        upsert.document = Some(sha256(&[vcon::write(conversation)?.expose().as_bytes()]));
        let part = |kept: Kept| Ok((kept.party, self.part(kept)?));
        Ok(ImportVcon {
            upsert,
            parts: apart.parts.into_iter().map(part).collect::<Result<_>>()?,
            events: apart.events,
        })
    }

    fn part(&self, kept: Kept) -> Result<Attach> {
        let class = self.part_class.clone().map_or_else(|| Label::retention_class(kept.kind.class()), Ok)?;
        let (body, content) = match kept.body {
            KeptBody::Address(url) => {
                (PartBody::Address, part::address(url.expose().to_owned()).map_err(|error| error.at("dialog"))?)
            }
            KeptBody::Piece(text) => {
                let value = Value::parse(FieldType::Text, Content::Text(text.expose().as_bytes().into()));
                (PartBody::Text, Arc::new(value.map_err(|error| error.at("document"))?))
            }
        };
        Ok(Attach {
            deed: IMPORT_VCON,
            part: None,
            call: CallId::from_bytes([0; 16]),
            of: None,
            party: 0,
            kind: kept.kind,
            class,
            media_type: MediaType::parse(&kept.mediatype)?,
            sha256: kept.sha256,
            occurred_at: kept.occurred_at,
            body,
            content: Some(content),
            request: None,
        })
    }
}

/// Writes a call.
pub async fn export(
    vault: &Vault,
    caller: &Caller,
    ask: v1::ExportVconRequest,
    landing: &Landing,
) -> Result<v1::ExportVconResponse> {
    let view = v1::VconView::try_from(ask.view).unwrap_or_default();
    let recipient = parse::optional(&ask.for_subject).map(SubjectId::parse).transpose();
    let recipient = recipient.map_err(|error| error.at("for_subject"))?;
    match (view, recipient) {
        (v1::VconView::Unspecified, _) => return Err(Error::invalid("view", "is missing, or not known")),
        (v1::VconView::Full, Some(_)) => return Err(Error::invalid("for_subject", "is taken of REDACTED only")),
        (v1::VconView::Redacted, None) => return Err(Error::invalid("for_subject", "is missing: say for whom it is")),
        _ => {}
    }
    let ask = ExportVcon {
        call: CallId::parse(&ask.call)?,
        recipient,
        purpose: ask.purpose,
        justification: parse::reference("justification", &ask.justification)?,
    };
    let exported = vault.export_vcon(caller, ask).await?;
    landing.carry(exported.flight)?;
    let document = exported.document.expose().as_bytes().to_vec();
    Ok(v1::ExportVconResponse { document, left_out: exported.left_out })
}
