//! The decision against a naive interpreter of the ledger, which knows the table of transitions and nothing else.

use std::time::Duration;

use proptest::prelude::*;

use super::{Catalogue, Question, permission};
use crate::crypto::testing::Seeded;
use crate::model::{
    Actor, Basis, Channel, ConsentEvent, ConsentEventId, ConsentState, EventKind, Method, Mode, PersonFacts, Purpose,
    Reason, Standing, SubjectId, SubjectState, Time,
};

const HOUR: i64 = 3_600_000_000;
/// How long a yes is valid here, in hours.
const VALID: i64 = 200;

/// Which state an event leads to from which: `*` is any, and what is not in the table changes nothing.
const TABLE: &[(&str, &str, &str)] = &[
    ("unknown requested deferred expired", "GIVE invalid", "invalid"),
    ("unknown requested deferred refused withdrawn revoked invalidated expired invalid", "GIVE to confirm", "pending"),
    ("unknown requested deferred pending refused withdrawn revoked invalidated expired invalid", "GIVE", "given"),
    ("given renewed", "GIVE", "renewed"),
    ("given renewed", "RENEW", "renewed"),
    ("pending", "CONFIRM", "given"),
    ("unknown requested deferred refused withdrawn revoked invalidated expired invalid", "REQUEST", "requested"),
    ("requested", "DEFER", "deferred"),
    ("*", "WITHDRAW", "withdrawn"),
    ("*", "REFUSE", "refused"),
    ("*", "REVOKE", "revoked"),
    ("*", "INVALIDATE", "invalidated"),
];

/// An event as the interpreter sees it.
#[derive(Clone, Debug)]
struct Told {
    hour: i64,
    channel: Channel,
    what: &'static str,
}

/// A state, since when, and until when a yes is valid.
type Stand = (&'static str, i64, i64);

/// What the first events come to at an hour: what the last of them made of what the others came to.
fn interpret(told: &[Told], hour: i64) -> Stand {
    let Some((last, earlier)) = told.split_last() else { return ("unknown", 0, i64::MAX) };
    let (before, since, until) = interpret(earlier, last.hour);
    let known = |states: &str| states == "*" || states.split(' ').any(|state| state == before);
    let step = TABLE.iter().find(|(from, what, to)| *what == last.what && known(from) && *to != before);
    let renewed = before == "renewed" && ["GIVE", "RENEW"].contains(&last.what);
    let (state, since, until) = match step {
        Some((_, _, to)) => (
            *to,
            last.hour,
            if last.what.starts_with("GIVE") || ["RENEW", "CONFIRM"].contains(&last.what) {
                last.hour + VALID
            } else {
                i64::MAX
            },
        ),
        None if renewed => ("renewed", last.hour, last.hour + VALID),
        None => (before, since, until),
    };
    match state {
        "pending" if since + 72 <= hour => ("deferred", since, until),
        "given" | "renewed" if until <= hour => ("expired", since, until),
        state => (state, since, until),
    }
}

fn reason(state: &str) -> Option<Reason> {
    match state {
        "given" | "renewed" => None,
        "expired" => Some(Reason::ConsentExpired),
        "withdrawn" | "revoked" | "invalidated" => Some(Reason::ConsentWithdrawn),
        "refused" => Some(Reason::ConsentRefused),
        "invalid" => Some(Reason::InvalidMethod),
        _ => Some(Reason::NoConsent),
    }
}

/// Whether silence permits where the purpose lets it: until there was an answer, and after a yes.
fn silence_permits(told: &[Told], hour: i64) -> bool {
    let ends = told.iter().skip(1).map(|next| next.hour).chain([hour]);
    let stands = (1..).zip(told).zip(ends).flat_map(|((count, last), end)| {
        let so_far = told.get(..count).unwrap();
        [interpret(so_far, last.hour).0, interpret(so_far, end).0]
    });
    stands.fold(true, |permits, state| match state {
        "given" | "renewed" => true,
        "unknown" | "requested" | "deferred" | "pending" => permits,
        _ => false,
    })
}

fn event(told: &Told, number: u64) -> ConsentEvent {
    let mut random = [0; 16];
    random[..8].copy_from_slice(&number.to_be_bytes());
    let kind = match told.what.split(' ').next().unwrap() {
        "GIVE" => EventKind::Give,
        "RENEW" => EventKind::Renew,
        "CONFIRM" => EventKind::Confirm,
        "REQUEST" => EventKind::Request,
        "DEFER" => EventKind::Defer,
        "WITHDRAW" => EventKind::Withdraw,
        "REFUSE" => EventKind::Refuse,
        "REVOKE" => EventKind::Revoke,
        _ => EventKind::Invalidate,
    };
    let at = Time::from_micros(told.hour * HOUR);
    let yes = matches!(kind, EventKind::Give | EventKind::Renew | EventKind::Confirm);
    ConsentEvent {
        id: ConsentEventId::from_bytes(random),
        subject: SubjectId::from_bytes([1; 16]),
        purpose: "news".to_owned(),
        purpose_version: 1,
        channel: told.channel,
        kind,
        state: ConsentState::Unknown,
        method: Some(if told.what == "GIVE invalid" { Method::PreTicked } else { Method::Form }),
        affirmative_action: String::new(),
        explicit_consent: false,
        actor: Actor::Subject,
        notice: String::new(),
        notice_version: 0,
        language: String::new(),
        notice_sha256: None,
        collection_point: String::new(),
        jurisdiction: String::new(),
        effective_at: at,
        recorded_at: at,
        valid_until: yes.then(|| at.plus(Duration::from_hours(VALID.unsigned_abs()))),
        of_age_at: None,
        to_be_confirmed: told.what == "GIVE to confirm",
        evidence: Vec::new(),
        bundled: false,
        reason: String::new(),
        supersedes: None,
        along_with: None,
        caller: String::new(),
    }
}

fn told() -> impl Strategy<Value = Told> {
    let what = prop::sample::select(vec![
        "GIVE",
        "GIVE",
        "GIVE to confirm",
        "GIVE invalid",
        "RENEW",
        "CONFIRM",
        "REQUEST",
        "DEFER",
        "WITHDRAW",
        "REFUSE",
        "REVOKE",
        "INVALIDATE",
    ]);
    let channel = prop::sample::select(vec![Channel::Any, Channel::Email, Channel::Sms]);
    (0..1000_i64, channel, what).prop_map(|(hour, channel, what)| Told { hour, channel, what })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_decision_is_what_a_naive_reading_of_the_ledger_gives_at_every_past_instant(
        told in prop::collection::vec(told(), 0..14),
    ) {
        // Recorded in this order, expressed in another: some are told late.
        let events: Vec<_> = (0..).zip(&told).map(|(number, told)| event(told, number)).collect();
        let purpose = Purpose { channels: vec![Channel::Email, Channel::Sms], ..Purpose::seed("news", Basis::Consent, false) };
        let lenient = Purpose { mode: Mode::OptOut, ..purpose.clone() };
        let mut catalogue = Catalogue::default();
        catalogue.add_purpose(purpose.clone());
        let person = PersonFacts {
            subject: SubjectId::new(Time::from_micros(0), &Seeded::new(1)),
            state: SubjectState::Active,
            profiling: true,
            restricted_at: None,
            erasure: None,
            execute_at: None,
            erased_at: None,
            suppressed_at: None,
        };
        let mut in_order = told.clone();
        in_order.sort_by_key(|told| told.hour);
        let instants = in_order.iter().flat_map(|told| [told.hour - 1, told.hour, told.hour + 71, told.hour + 72, told.hour + VALID]);
        for hour in instants.chain([1500]).filter(|hour| *hour >= 0) {
            let at = Time::from_micros(hour * HOUR);
            let standing = Standing::of(&events, at);
            for channel in [Channel::Email, Channel::Sms] {
                let question = Question { catalogue: &catalogue, purpose: &purpose, channels: &[channel], at };
                let decided = |question| permission(question, &person, &standing).outcome.err().map(|error| error.reason);
                let about: Vec<_> = in_order
                    .iter()
                    .filter(|told| told.hour <= hour && (told.channel == channel || told.channel == Channel::Any))
                    .cloned()
                    .collect();
                let expected = reason(interpret(&about, hour).0);
                prop_assert_eq!(decided(&question), expected, "{:?} at {}: {:?}", channel, hour, about);
                let silent = expected == Some(Reason::NoConsent) && silence_permits(&about, hour);
                let expected = expected.filter(|_| !silent);
                let question = Question { purpose: &lenient, ..question };
                prop_assert_eq!(decided(&question), expected, "OPT_OUT, {:?} at {}: {:?}", channel, hour, about);
            }
        }
    }
}
