//! Consent, to the wire and from it.

use super::super::subject::subject_id;
use super::super::{parse, status};
use crate::crypto::SecretBytes;
use crate::model::{
    Actor, Basis, Change, CollectionPoint, ConsentEvent, ConsentEventId, ConsentState, Controller, Error, EventKind,
    Evidence, FieldType, Method, Mode, Notice, NoticeText, PointKind, Purpose, PurposeState, Reason, Result, Time,
};
use crate::proto::v1;
use crate::store::consent::Recorded;
use crate::vault::consent::{Check, Checked, RecordConsent, Shown};

/// Most pieces of evidence of an event.
const MOST_EVIDENCE: usize = 20;
/// The largest personal part of a piece of evidence, in bytes.
const LARGEST_PERSONAL: usize = 16 << 10;

pub fn check_most(field: &'static str, count: usize, most: usize) -> Result<()> {
    if count <= most {
        return Ok(());
    }
    let error = Error::new(Reason::BatchTooLarge, format!("holds {count}; at most {most}")).at(field);
    Err(error.with("count", count).with("maximum", most))
}

/// An enumeration of the model from its number; 0 stands for `unstated`, when there is one.
macro_rules! from_number {
    ($type:ident, $field:literal, $number:expr) => {
        $type::from_number($number)
            .ok_or_else(|| Error::invalid($field, "is missing, or not one that this vault knows"))
    };
    ($type:ident, $field:literal, $number:expr, $unstated:expr) => {
        if $number == 0 { Ok($unstated) } else { from_number!($type, $field, $number) }
    };
}

pub fn change(number: i32) -> Result<Change> {
    from_number!(Change, "change", number, Change::Major)
}

pub fn seconds(field: &'static str, given: Option<prost_types::Duration>) -> Result<Option<u64>> {
    let whole = |duration: prost_types::Duration| {
        u64::try_from(duration.seconds)
            .ok()
            .filter(|seconds| *seconds <= 100 * 366 * 86_400)
            .ok_or_else(|| Error::invalid(field, "expected a duration of at most a hundred years"))
    };
    given.map(whole).transpose()
}

pub fn wire_seconds(seconds: u64) -> Option<prost_types::Duration> {
    let seconds = i64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Some(prost_types::Duration { seconds, nanos: 0 })
}

pub fn purpose(given: v1::Purpose) -> Result<Purpose> {
    let category = |number: &i32| parse::field_type(*number).map_err(|error| error.at("purpose.data_categories"));
    Ok(Purpose {
        code: given.code,
        version: 0,
        title: given.title,
        basis: from_number!(Basis, "purpose.basis", given.basis)?,
        mode: from_number!(Mode, "purpose.mode", given.mode, Mode::OptIn)?,
        explicit_consent: given.explicit_consent,
        direct_marketing: given.direct_marketing,
        profiling: given.profiling,
        automated_decision: given.automated_decision,
        despite_restriction: given.despite_restriction,
        double_opt_in: given.double_opt_in,
        channels: given
            .channels
            .iter()
            .map(|channel| parse::channel(*channel).map_err(|error| error.at("purpose.channels")))
            .collect::<Result<_>>()?,
        data_categories: given
            .data_categories
            .iter()
            .map(|number| category(number).map(FieldType::number))
            .collect::<Result<_>>()?,
        recipients: given.recipients,
        retention: given.retention,
        notice: given.notice,
        review_after: seconds("purpose.review_after", given.review_after)?,
        expires_after: seconds("purpose.expires_after", given.expires_after)?,
        grace: seconds("purpose.grace", given.grace)?.unwrap_or(0),
        ask_again_after: seconds("purpose.ask_again_after", given.ask_again_after)?.unwrap_or(0),
        age_rule: given.age_rule,
        assessment: given.assessment,
        dpv_term: given.dpv_term,
        state: PurposeState::Active,
        change: Change::Major,
        widens: false,
        defined_at: 0,
    })
}

pub fn wire_purpose(purpose: &Purpose) -> v1::Purpose {
    v1::Purpose {
        code: purpose.code.clone(),
        version: purpose.version.cast_signed(),
        title: purpose.title.clone(),
        basis: purpose.basis.number(),
        mode: if purpose.basis == Basis::Consent { purpose.mode.number() } else { 0 },
        explicit_consent: purpose.explicit_consent,
        direct_marketing: purpose.direct_marketing,
        profiling: purpose.profiling,
        automated_decision: purpose.automated_decision,
        despite_restriction: purpose.despite_restriction,
        double_opt_in: purpose.double_opt_in,
        channels: purpose.channels.iter().map(|channel| channel.number()).collect(),
        data_categories: purpose.data_categories.iter().map(|number| i32::from(*number)).collect(),
        recipients: purpose.recipients.clone(),
        retention: purpose.retention.clone(),
        notice: purpose.notice.clone(),
        review_after: purpose.review_after.and_then(wire_seconds),
        expires_after: purpose.expires_after.and_then(wire_seconds),
        grace: wire_seconds(purpose.grace),
        ask_again_after: wire_seconds(purpose.ask_again_after),
        age_rule: purpose.age_rule,
        assessment: purpose.assessment.clone(),
        dpv_term: purpose.dpv_term.clone(),
        state: purpose.state.number(),
        change: purpose.change.number(),
        define_time: Some(parse::wire_time(Time::from_micros(purpose.defined_at))),
    }
}

pub fn notice(given: v1::Notice) -> Notice {
    Notice {
        notice: given.notice,
        version: 0,
        texts: given.texts.into_iter().map(|text| NoticeText::new(text.language, text.text)).collect(),
        categories: given.categories,
        purposes: given.purposes,
        recipients: given.recipients,
        retention: given.retention,
        controller: given.controller.map(|controller| Controller {
            name: controller.name,
            address: controller.address,
            contact: controller.contact,
            jurisdiction: controller.jurisdiction,
        }),
        storage_locations: given.storage_locations,
        withdrawal_method: given.withdrawal_method,
        authority: given.authority,
        change: Change::Major,
        widens: false,
        published_at: 0,
    }
}

pub fn wire_notice(notice: Notice) -> v1::Notice {
    v1::Notice {
        notice: notice.notice,
        version: notice.version.cast_signed(),
        texts: notice
            .texts
            .into_iter()
            .map(|text| v1::NoticeText { language: text.language, text: text.text, sha256: text.sha256.to_vec() })
            .collect(),
        categories: notice.categories,
        purposes: notice.purposes,
        recipients: notice.recipients,
        retention: notice.retention,
        controller: notice.controller.map(|controller| v1::NoticeController {
            name: controller.name,
            address: controller.address,
            contact: controller.contact,
            jurisdiction: controller.jurisdiction,
        }),
        storage_locations: notice.storage_locations,
        withdrawal_method: notice.withdrawal_method,
        authority: notice.authority,
        change: notice.change.number(),
        publish_time: Some(parse::wire_time(Time::from_micros(notice.published_at))),
    }
}

pub fn point(given: v1::CollectionPoint) -> Result<CollectionPoint> {
    Ok(CollectionPoint {
        id: given.collection_point,
        version: 0,
        kind: from_number!(PointKind, "collection_point.kind", given.kind)?,
        owner: given.owner,
        notices: given.notices,
        disabled: given.disabled,
    })
}

pub fn wire_point(point: &CollectionPoint) -> v1::CollectionPoint {
    v1::CollectionPoint {
        collection_point: point.id.clone(),
        kind: point.kind.number(),
        owner: point.owner.clone(),
        notices: point.notices.clone(),
        disabled: point.disabled,
    }
}

pub fn digest(field: &str, bytes: &[u8]) -> Result<Option<[u8; 32]>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    bytes.try_into().map(Some).map_err(|_| Error::invalid(field, "expected the 32 bytes of a SHA-256"))
}

pub fn record(ask: v1::RecordConsentRequest) -> Result<RecordConsent> {
    let subject = subject_id(&ask.subject)?;
    crate::model::Label::purpose(&ask.purpose)?;
    check_most("evidence", ask.evidence.len(), MOST_EVIDENCE)?;
    let (mut evidence, mut personal) = (Vec::new(), Vec::new());
    for (at, given) in ask.evidence.into_iter().enumerate() {
        let sha256 = digest(&format!("evidence[{at}].sha256"), &given.sha256)?;
        if given.personal.len() > LARGEST_PERSONAL {
            let error = Error::new(Reason::ValueTooLarge, "the personal part of a piece of evidence is too large");
            return Err(error.at(format!("evidence[{at}].personal")).with("maximum", LARGEST_PERSONAL));
        }
        evidence.push(Evidence { kind: given.kind, sha256, token: String::new() });
        personal.push(Some(given.personal).filter(|text| !text.is_empty()).map(SecretBytes::from));
    }
    let kind = from_number!(EventKind, "kind", ask.kind)?;
    let date = |text: &str| {
        text.parse().map_err(|_| Error::invalid("birth_date", "expected a day as \"2013-03-14\"; it is not kept"))
    };
    let event = ConsentEvent {
        // The vault says what is left out here.
        id: ConsentEventId::from_bytes([0; 16]),
        subject,
        purpose: ask.purpose,
        purpose_version: 0,
        channel: parse::channel(ask.channel)?,
        kind,
        state: ConsentState::Unknown,
        method: if ask.method == 0 { None } else { Some(from_number!(Method, "method", ask.method)?) },
        affirmative_action: ask.affirmative_action,
        explicit_consent: ask.explicit_consent,
        actor: from_number!(Actor, "actor", ask.actor, usual_actor(kind))?,
        notice: ask.notice,
        notice_version: 0,
        language: String::new(),
        notice_sha256: digest("notice_sha256", &ask.notice_sha256)?,
        collection_point: ask.collection_point,
        jurisdiction: String::new(),
        effective_at: Time::from_micros(0),
        recorded_at: Time::from_micros(0),
        valid_until: None,
        of_age_at: None,
        to_be_confirmed: false,
        evidence,
        bundled: ask.bundled,
        reason: ask.reason,
        supersedes: if ask.supersedes.is_empty() {
            None
        } else {
            Some(ask.supersedes.parse().map_err(|error: Error| error.at("supersedes"))?)
        },
        along_with: None,
        caller: String::new(),
    };
    Ok(RecordConsent {
        once: false,
        event,
        effective_at: ask.effective_time.map(|time| parse::time("effective_time", time)).transpose()?,
        personal,
        birth: Some(ask.birth_date.as_str()).filter(|text| !text.is_empty()).map(date).transpose()?,
        request: parse::request_id(&ask.request_id)?,
    })
}

/// Who does such a thing when nobody says.
pub const fn usual_actor(kind: EventKind) -> Actor {
    match kind {
        EventKind::Request | EventKind::Revoke | EventKind::OverrideObjection => Actor::Controller,
        EventKind::Invalidate => Actor::DataProtectionOfficer,
        _ => Actor::Subject,
    }
}

pub fn wire_event(recorded: Recorded) -> v1::ConsentEvent {
    let event = recorded.event;
    v1::ConsentEvent {
        consent_event: event.id.to_string(),
        subject: event.subject.to_string(),
        purpose: event.purpose,
        purpose_version: event.purpose_version.cast_signed(),
        channel: event.channel.number(),
        kind: event.kind.number(),
        state: event.state.number(),
        method: event.method.map_or(0, Method::number),
        affirmative_action: event.affirmative_action,
        explicit_consent: event.explicit_consent,
        actor: event.actor.number(),
        notice: event.notice,
        notice_version: event.notice_version.cast_signed(),
        language: event.language,
        notice_sha256: event.notice_sha256.map(|digest| digest.to_vec()).unwrap_or_default(),
        collection_point: event.collection_point,
        effective_time: Some(parse::wire_time(event.effective_at)),
        record_time: Some(parse::wire_time(event.recorded_at)),
        valid_until: event.valid_until.map(parse::wire_time),
        evidence: event
            .evidence
            .into_iter()
            .map(|evidence| v1::ConsentEvidence {
                kind: evidence.kind,
                sha256: evidence.sha256.map(|digest| digest.to_vec()).unwrap_or_default(),
                personal: String::new(),
                token: evidence.token,
            })
            .collect(),
        bundled: event.bundled,
        reason: event.reason,
        supersedes: event.supersedes.map(|id| id.to_string()).unwrap_or_default(),
        caller: event.caller,
        previous_hash: recorded.previous_hash.map(|hash| hash.to_vec()).unwrap_or_default(),
        hash: recorded.hash.to_vec(),
    }
}

pub fn check(ask: v1::CheckPermissionRequest) -> Result<Check> {
    crate::model::Label::purpose(&ask.purpose)?;
    Ok(Check {
        subject: subject_id(&ask.subject)?,
        purpose: ask.purpose,
        channel: parse::channel(ask.channel)?,
        at: ask.at.map(|time| parse::time("at", time)).transpose()?,
    })
}

pub fn wire_permission(checked: &Checked) -> v1::Permission {
    let permission = &checked.permission;
    v1::Permission {
        allowed: permission.outcome.is_ok(),
        reason: permission.outcome.as_ref().err().map(|error| status::reason_name(error.reason)).unwrap_or_default(),
        basis: checked.basis.number(),
        evidence_event: permission.event.clone(),
        purpose_version: checked.purpose_version.cast_signed(),
        notice_version: permission.notice_version.cast_signed(),
        valid_until: permission.valid_until.map(parse::wire_time),
        state: permission.state.number(),
    }
}

pub fn wire_consent(shown: &Shown) -> v1::Consent {
    let moment = |micros: i64| parse::wire_time(Time::from_micros(micros));
    v1::Consent {
        purpose: shown.purpose.code.clone(),
        channel: shown.channel.number(),
        state: shown.state.number(),
        since: Some(shown.consent.since).filter(|_| !shown.consent.event.is_empty()).map(moment),
        valid_until: shown.consent.valid_until.map(moment),
        review_time: shown.review_at.map(parse::wire_time),
        objected: shown.objected,
        last_event: shown.consent.event.clone(),
        permission: Some(wire_permission(&shown.checked)),
    }
}
