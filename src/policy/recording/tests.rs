//! Whatever is asked: strictness, order, duties and prints.

use proptest::prelude::*;

use super::*;
use crate::model::Reason;

const REASONS: [Option<Reason>; 12] = [
    None,
    Some(Reason::NoConsent),
    Some(Reason::ConsentExpired),
    Some(Reason::ReconfirmDue),
    Some(Reason::InvalidMethod),
    Some(Reason::ConsentRefused),
    Some(Reason::ConsentWithdrawn),
    Some(Reason::Objected),
    Some(Reason::ProfilingOff),
    Some(Reason::SubjectRestricted),
    Some(Reason::SubjectErased),
    Some(Reason::Suppressed),
];

fn stand() -> impl Strategy<Value = Stand> {
    let said = proptest::sample::select(ConsentState::ALL);
    (proptest::sample::select(&REASONS), said).prop_map(|(refusal, said)| Stand { refusal, said })
}

/// Somebody, under a law of theirs, with a stand to as many purposes as there may be.
#[derive(Clone, Debug)]
struct Somebody {
    agreement: Agreement,
    role: RecordingRole,
    stands: Option<Vec<Stand>>,
}

const MOST: usize = 4;

fn somebody() -> impl Strategy<Value = Somebody> {
    let agreement = prop_oneof![Just(Agreement::OneParty), Just(Agreement::AllParty)];
    let role = prop_oneof![Just(RecordingRole::Agent), Just(RecordingRole::Caller), Just(RecordingRole::Other)];
    let stands = proptest::option::of(proptest::collection::vec(stand(), MOST));
    (agreement, role, stands).prop_map(|(agreement, role, stands)| Somebody { agreement, role, stands })
}

type Topic = (Basis, Option<Reason>);

fn topic() -> impl Strategy<Value = Topic> {
    let closed = prop_oneof![4 => Just(None), 1 => Just(Some(Reason::PurposeInactive))];
    (proptest::sample::select(Basis::ALL), closed)
}

/// The answer to the whole.
fn decide(people: &[Somebody], topics: &[Topic]) -> Recording {
    let agreement = people.iter().map(|one| one.agreement).max().unwrap();
    let decided = topics.iter().enumerate().map(|(at, (basis, closed))| {
        let parties: Vec<Present> = people
            .iter()
            .map(|one| Present { role: one.role, stand: one.stands.as_ref().map(|stands| stands[at]) })
            .collect();
        for_purpose(agreement, *basis, *closed, &parties).recording
    });
    strictest(decided)
}

fn people() -> impl Strategy<Value = Vec<Somebody>> {
    proptest::collection::vec(somebody(), 1..5)
}

fn topics() -> impl Strategy<Value = Vec<Topic>> {
    proptest::collection::vec(topic(), 1..MOST)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn another_party_never_makes_it_laxer(people in people(), more in somebody(), topics in topics()) {
        let before = decide(&people, &topics);
        let after = decide(&[people, vec![more]].concat(), &topics);
        prop_assert!(after >= before, "{before:?} became {after:?}");
    }

    #[test]
    fn another_purpose_never_makes_it_laxer_unless_a_law_demands_it(
        people in people(), topics in topics(), more in topic(),
    ) {
        let before = decide(&people, &topics);
        let after = decide(&people, &[topics, vec![more]].concat());
        prop_assert!(after >= before, "{before:?} became {after:?}");
        if before == Recording::DoNotRecord && after != before {
            prop_assert_eq!((after, more), (Recording::MustRecord, (Basis::LegalObligation, None)));
        }
    }

    #[test]
    fn the_order_of_parties_and_purposes_is_irrelevant(people in people(), topics in topics(), turn in 0..8_usize) {
        let mut others = people.clone();
        others.rotate_left(turn % people.len());
        prop_assert_eq!(decide(&people, &topics), decide(&others, &topics));
        others.reverse();
        prop_assert_eq!(decide(&people, &topics), decide(&others, &topics));
        // The stands go with the purposes.
        let turned = turn % topics.len();
        let mut other_topics = topics.clone();
        other_topics.rotate_left(turned);
        for one in &mut others {
            if let Some(stands) = &mut one.stands {
                stands[..topics.len()].rotate_left(turned);
            }
        }
        prop_assert_eq!(decide(&people, &topics), decide(&others, &other_topics));
    }

    #[test]
    fn there_is_a_duty_exactly_where_a_law_demands_it(people in people(), topics in topics()) {
        let duty = topics.contains(&(Basis::LegalObligation, None));
        prop_assert_eq!(decide(&people, &topics) == Recording::MustRecord, duty);
    }

    #[test]
    fn nobody_is_recorded_on_consent_who_has_not_given_it(people in people(), stricter in any::<bool>()) {
        let agreement = if stricter { Agreement::AllParty } else { Agreement::OneParty };
        for one in &people {
            let party = Present { role: one.role, stand: one.stands.as_ref().map(|stands| stands[0]) };
            let verdict = for_purpose(agreement, Basis::Consent, None, &[party]).recording;
            if verdict == Recording::Record && one.role != RecordingRole::Agent {
                let stand = party.stand.unwrap();
                prop_assert!(stand.refusal.is_none() && stand.said.is_yes(), "{stand:?}");
            }
            let print = for_print(None, &[party]).recording;
            prop_assert!(print >= verdict && print != Recording::AnnounceThenRecord);
        }
    }
}

fn caller(refusal: Option<Reason>, said: ConsentState) -> Present {
    Present { role: RecordingRole::Caller, stand: Some(Stand { refusal, said }) }
}

#[test]
fn each_ground_has_its_answer() {
    use Agreement::{AllParty, OneParty};
    use Recording::{AnnounceThenRecord, Ask, DoNotRecord, MustRecord, Record};
    let silent = caller(Some(Reason::NoConsent), ConsentState::Unknown);
    let yes = caller(None, ConsentState::Given);
    let no = caller(Some(Reason::ConsentRefused), ConsentState::Refused);
    let objects = caller(Some(Reason::Objected), ConsentState::Unknown);
    let erased = caller(Some(Reason::SubjectErased), ConsentState::Unknown);
    let assumed = caller(None, ConsentState::Unknown);
    let said_no = caller(None, ConsentState::Refused);
    let stranger = Present { role: RecordingRole::Caller, stand: None };
    for (agreement, basis, party, expected, reason) in [
        (AllParty, Basis::Consent, silent, Ask, Some(Reason::NoConsent)),
        (AllParty, Basis::Consent, stranger, Ask, Some(Reason::NoConsent)),
        (AllParty, Basis::Consent, yes, Record, None),
        (AllParty, Basis::Consent, no, DoNotRecord, Some(Reason::ConsentRefused)),
        (OneParty, Basis::Consent, objects, DoNotRecord, Some(Reason::Objected)),
        (OneParty, Basis::Consent, erased, DoNotRecord, Some(Reason::SubjectErased)),
        (OneParty, Basis::Consent, assumed, AnnounceThenRecord, None),
        (AllParty, Basis::Consent, assumed, Ask, Some(Reason::NoConsent)),
        (AllParty, Basis::Contract, assumed, AnnounceThenRecord, None),
        (OneParty, Basis::Contract, said_no, AnnounceThenRecord, Some(Reason::ConsentRefused)),
        (AllParty, Basis::Contract, said_no, DoNotRecord, Some(Reason::ConsentRefused)),
        (OneParty, Basis::LegitimateInterests, objects, DoNotRecord, Some(Reason::Objected)),
        (OneParty, Basis::LegitimateInterests, stranger, AnnounceThenRecord, None),
        (AllParty, Basis::LegalObligation, said_no, MustRecord, Some(Reason::ConsentRefused)),
        (AllParty, Basis::LegalObligation, stranger, MustRecord, None),
    ] {
        let decided = for_purpose(agreement, basis, None, &[party]);
        assert_eq!(decided.parties, [Verdict::new(expected, reason)], "{agreement:?} {basis:?} {party:?}");
    }
    assert_eq!(for_print(None, &[assumed]).recording, Ask);
    assert_eq!(for_print(None, &[yes]).recording, Record);
}

#[test]
fn the_duty_is_named_and_so_is_who_is_against_it() {
    let purpose = Purpose {
        title: "Recording of orders".to_owned(),
        assessment: "MiFID II Art. 16(7)".to_owned(),
        ..Purpose::seed("mifid.voice", Basis::LegalObligation, false)
    };
    let party = caller(None, ConsentState::Refused);
    let decided = for_purpose(Agreement::OneParty, purpose.basis, closed(&purpose), &[party]);
    let told = explain(&purpose, &decided);
    for word in ["mifid.voice", "Recording of orders", "MiFID II Art. 16(7)", "parties[0]"] {
        assert!(told.contains(word), "{told}");
    }
}
