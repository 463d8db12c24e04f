//! What somebody makes up to hurt: names that hide, numbers that lie, documents that take for ever.

use std::time::{Duration, Instant};

use super::*;
use crate::formats::Plain;
use crate::model::{Direction, Disposition, LegFacts, PartKind, PartyRole};

/// A call of Ana, who is a customer, with Bob Miller, who is the agent.
pub fn of_bob(body: &str) -> Value {
    json!({
        "uuid": "01928e10-193e-8231-b9a2-279e0d16bc46",
        "created_at": "2026-01-31T09:30:00Z",
        "parties": [
            { "name": "Ana Soto", "role": "customer" },
            { "name": "Bob Miller", "role": "agent" },
        ],
        "dialog": [{ "type": "text", "start": "2026-01-31T09:30:00Z", "parties": [0, 1], "body": body }],
        "analysis": [],
        "attachments": [],
    })
}

pub fn body_for_ana(document: &Value) -> String {
    let redacted: Value = serde_json::from_str(&shown(&taken(document), 0)).unwrap();
    redacted["dialog"][0]["body"].as_str().unwrap_or_default().to_owned()
}

pub fn quickly<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = act();
    assert!(begun.elapsed() < Duration::from_secs(20), "{what} took {:?}", begun.elapsed());
    done
}

#[test]
fn conditions_of_a_basis_are_withheld_with_all_other_texts() {
    let mut document = of_bob("hello");
    let grant = json!({ "purpose": "recording", "granted": true, "conditions": ["as agreed with Bob Miller"] });
    document["attachments"] = json!([{
        "purpose": "lawful_basis", "party": 0, "dialog": 0, "encoding": "json",
        "body": { "lawful_basis": "consent", "purpose_grants": [grant] },
    }]);
    // Bob is erased: what he was called is not known any more.
    document["parties"][1] = json!({ "role": "agent" });
    let mut redacted = redact(&taken(&document), 0, now(), &Seeded::new(1)).unwrap();
    assert!(write(&redacted).unwrap().expose().contains("Bob Miller"), "nobody can find him");
    withhold(&mut redacted, &[1]);
    assert!(!write(&redacted).unwrap().expose().contains("Bob"));
}

#[test]
fn notes_of_the_recipient_unmask_nobody() {
    let mut document = of_bob("Bob Miller will call you");
    document["parties"][0]["meta"] = json!({ "assigned": "Bob Miller" });
    assert_eq!(body_for_ana(&document), "[redacted] will call you");
}

#[test]
fn ids_without_a_word_are_found() {
    for id in ["4711", "a-7", "U12345", "(a-7)"] {
        let mut document = of_bob(&format!("ask {id}, or {} today", id.to_uppercase()));
        document["parties"][1]["uuid"] = json!(id);
        let body = body_for_ana(&document).replace(['(', ')'], "");
        assert_eq!(body, "ask [redacted] or [redacted] today".replace("] or", "], or"), "{id}");
    }
    let mut document = of_bob("a certain 7 of data-71");
    document["parties"][1]["uuid"] = json!("a-7");
    assert_eq!(body_for_ana(&document), "a certain 7 of data-71");
}

#[test]
fn a_name_with_a_number_is_both() {
    let mut document = of_bob("Miller, or Bob, is at 555 123 4567");
    for name in ["Bob Miller +1 555 123 4567", "+1 555 123 4567 Bob Miller"] {
        document["parties"][1]["name"] = json!(name);
        let body = body_for_ana(&document);
        assert!(!body.contains("Bob") && !body.contains("Miller") && !body.contains("4567"), "{body}");
    }
}

#[test]
fn escapes_in_what_is_no_whole_document_hide_nobody() {
    let lines = "{\"by\":\"M\\u00fcller\"}\n{\"by\":\"M\\u00fcller\"}";
    for text in [lines, &format!("data: {lines}"), "\u{feff}{\"by\":\"M\\u00fcller\"}", "\"M\\u{fc}ller\""] {
        let mut document = of_bob(text);
        document["parties"][1]["name"] = json!("Jo Müller");
        let body = body_for_ana(&document);
        assert!(!body.contains("ller"), "{text}: {body}");
    }
    assert_eq!(body_for_ana(&of_bob("C:\\users")), "C:\\users");
}

#[test]
fn what_repeats_is_masked_in_time() {
    let mut document = of_bob(&"ana bob@x ".repeat(6 << 10));
    document["parties"][1]["mailto"] = json!("bob@x");
    let body = quickly("one text", || body_for_ana(&document));
    assert!(!body.contains("bob"));
    let mut names: serde_json::Map<String, Value> = (0..20_000).map(|at| (format!("bob@{at:04}"), json!(0))).collect();
    names.insert("[redacted]_2".to_owned(), json!(1));
    let mut document = of_bob("x");
    document["dialog"][0]["body"] = json!(names);
    document["dialog"][0]["encoding"] = json!("json");
    let conversation = taken(&document);
    let redacted: Value = serde_json::from_str(&quickly("names", || shown(&conversation, 0))).unwrap();
    assert_eq!(redacted["dialog"][0]["body"].as_object().unwrap().len(), 20_001);
    let words: Vec<Value> = (0..20_000).map(|at| json!({ format!("w{at}"): "bob" })).collect();
    document["dialog"][0]["body"] = json!(words);
    let conversation = taken(&document);
    assert!(!quickly("items", || shown(&conversation, 0)).contains("bob"));
}

#[test]
fn too_many_notes_show_nothing() {
    let mut document = of_bob("anything at all");
    document["parties"][1]["meta"] = (0..2000).map(|at| json!(format!("note about {at}"))).collect();
    assert_eq!(body_for_ana(&document), "[redacted]");
}

#[test]
fn many_members_are_written_in_time() {
    let mut document = of_bob("x");
    for at in 0..100_000 {
        document[format!("x{at:07}")] = json!(0);
    }
    let conversation = taken(&document);
    assert!(quickly("members", || write(&conversation)).unwrap().expose().contains("x0099999"));
}

#[test]
fn events_are_counted_to_an_end() {
    let hold = |at: usize, event: &str, year: u32| json!({ "party": at, "time": format!("{year}-01-01T00:00:00Z"), "event": event });
    let mut document = of_bob("x");
    let history = [hold(0, "hold", 1970), hold(0, "unhold", 2080), hold(1, "hold", 1970), hold(1, "unhold", 2080)];
    document["dialog"][0]["party_history"] = json!(history);
    let told = apart(&taken(&document)).unwrap();
    assert_eq!((told.leg.facts.holds, told.leg.facts.held_for), (2, u32::MAX));
    let joined = |at: i64| json!({ "party": 0, "time": Time::from_micros(at).to_string(), "event": "join" });
    let dialog = |at: i64| {
        let history: Vec<Value> = (0..10_000).map(|one| joined(at * 10_000 + one)).collect();
        json!({ "type": "text", "start": "2026-01-31T09:30:00Z", "party_history": history })
    };
    document["dialog"] = (0..10).map(dialog).collect();
    let conversation = taken(&document);
    assert_eq!(quickly("events", || apart(&conversation)).unwrap().events.len(), 500);
}

fn member(role: PartyRole, note: &str) -> Member {
    let note = Some(note).filter(|note| !note.is_empty()).map(Plain::from);
    Member { role, label: None, number: None, name: None, place: None, note, agent_id: None }
}

fn call_of(pieces: Vec<Plain>) -> Call {
    Call {
        uuid: "01928e10-193e-8231-b9a2-279e0d16bc46".to_owned(),
        recorded_at: now(),
        began_at: now(),
        parties: vec![member(PartyRole::Customer, ""), member(PartyRole::Agent, "")],
        pieces,
        addresses: Vec::new(),
        legs: Vec::new(),
        others: Vec::new(),
    }
}

#[test]
fn numbers_in_pieces_are_not_believed() {
    for piece in [
        "{\"dialog\":[[4000000000,{}]]}",
        "{\"dialog\":[[18446744073709551615,{}]]}",
        "{\"head\":{\"dialog\":18446744073709551615}}",
        "{\"counts\":{\"analysis\":4000000000}}",
        "{\"dialog\":[[0,{\"type\":5}]],\"head\":{\"uuid\":7}}",
        "{\"analysis\":[[0,{\"type\":\"x\",\"dialog\":99999999}]]}",
        "no piece",
    ] {
        let conversation = together(call_of(vec![piece.into()])).unwrap_or_else(|error| panic!("{piece}: {error}"));
        assert!(conversation.dialog.len() <= 10_000 && conversation.analysis.len() <= 2000, "{piece}");
    }
}

#[test]
fn what_is_left_of_a_call_is_written_when_its_customer_is_gone() {
    let mut document = of_bob("x");
    document["dialog"] = json!([{
        "type": "recording", "start": "2026-01-31T09:30:00Z", "parties": [0, 1], "url": "https://a.example/x.wav",
    }]);
    document["analysis"] =
        json!([{ "type": "scorecard", "vendor": "x", "dialog": 0, "encoding": "none", "body": "8" }]);
    let kept = apart(&taken(&document)).unwrap().parts.into_iter().filter(|part| part.party == 1);
    let pieces: Vec<Plain> =
        kept.filter_map(|part| if let KeptBody::Piece(piece) = part.body { Some(piece) } else { None }).collect();
    assert_eq!(pieces.len(), 1);
    let older = Plain::from("{\"analysis\":[[0,{\"type\":\"scorecard\",\"vendor\":\"x\",\"dialog\":0}]]}");
    for pieces in [pieces, vec![older]] {
        let left = together(call_of(pieces)).unwrap();
        assert_eq!((left.dialog.len(), left.analysis.len()), (1, 1));
        assert_eq!(left.analysis[0].dialogs, [0]);
        assert_eq!(left.analysis[0].kind.expose(), "scorecard");
    }
}

fn facts() -> LegFacts {
    LegFacts {
        direction: Direction::Inbound,
        dialled: String::new(),
        queue: String::new(),
        skill: String::new(),
        campaign: String::new(),
        contact_list: String::new(),
        started_at: Time::from_micros(0),
        rung_at: None,
        answered_at: None,
        ended_at: Some(now()),
        holds: 0,
        held_for: 0,
        disposition: Some(Disposition::Answered),
    }
}

#[test]
fn whatever_a_call_has_can_be_written() {
    let mut call = call_of(Vec::new());
    call.parties[0].place = Some("long street ".repeat(60).into());
    call.parties[0].note = Some("{\"tel\":5}".into());
    call.parties[1].number = Some("5".repeat(600).into());
    call.others.push(Other {
        party: 0,
        kind: PartKind::Recording,
        mediatype: String::new(),
        sha256: None,
        occurred_at: None,
        held: Some(Held::Address(format!("https://a.example/{}", "x".repeat(5000)).into())),
    });
    call.legs.push(Leg { facts: facts(), parties: vec![0; 9], events: Vec::new() });
    let document = write(&together(call).unwrap()).unwrap();
    let document: Value = serde_json::from_str(document.expose()).unwrap();
    assert_eq!(document["dialog"][0]["duration"], 366 * 86_400);
    assert_eq!(document["dialog"][0]["parties"], json!([0]));
    assert_eq!(document["parties"][0]["note"], "{\"tel\":5}");
    assert!(document["parties"][0]["lacuna_loc"].is_string() && document["parties"][1]["lacuna_tel"].is_string());
    assert!(document["dialog"][1]["lacuna_address"].is_string());
}

#[test]
fn ids_in_notes_are_found() {
    for id in ["agent17", "E-17", "(e-17)", "17", "x_9", "PBX-4711"] {
        let mut document = of_bob(&format!("ask {id}, or {} today", id.to_uppercase()));
        document["parties"][1]["meta"] = json!({ "login": id });
        let body = body_for_ana(&document).replace(['(', ')'], "");
        assert_eq!(body, "ask [redacted] or [redacted] today".replace("] or", "], or"), "{id}");
    }
    let mut document = of_bob("an agent in a queue of the 17th");
    document["parties"][1]["meta"] = json!({ "kind": "agent", "at": "7", "long": "a 17 of them" });
    assert_eq!(body_for_ana(&document), "an agent in a queue of the 17th");
}

#[test]
fn a_scorecard_is_shown_to_whom_it_is_about_and_nobody_else() {
    let shown_to = |document: &Value, party: usize| shown(&taken(document), party).contains("impatient");
    let mut document = of_bob("hello");
    let about = |kind: &str| json!([{ "type": kind, "vendor": "x", "encoding": "none", "body": "impatient" }]);
    for kind in ["scorecard", "Agent Score", "QA_SCORES"] {
        document["analysis"] = about(kind);
        assert!(shown_to(&document, 1) && !shown_to(&document, 0), "{kind}");
    }
    document["analysis"] = about("summary");
    assert!(shown_to(&document, 1) && shown_to(&document, 0), "what is no score is for both");
    document["analysis"] = about("scorecard");
    document["parties"].as_array_mut().unwrap().push(json!({ "name": "Eve Moss", "role": "supervisor" }));
    document["dialog"][0]["parties"] = json!([0, 1, 2]);
    assert!(shown_to(&document, 1) && !shown_to(&document, 0) && !shown_to(&document, 2));
    document["parties"][2]["role"] = json!("agent");
    assert!((0..3).all(|party| !shown_to(&document, party)), "nobody knows which agent it is about");
    let mut call = call_of(Vec::new());
    call.parties.push(member(PartyRole::Agent, ""));
    for (party, kind) in [(2, PartKind::Scorecard), (0, PartKind::Summary)] {
        let held = Some(Held::Text(format!("{kind:?} of {party}").into()));
        let (mediatype, sha256, occurred_at) = (String::new(), None, None);
        call.others.push(Other { party, kind, mediatype, sha256, occurred_at, held });
    }
    let attached = together(call).unwrap();
    for party in 0..3 {
        let shown = shown(&attached, party);
        assert_eq!(shown.contains("Scorecard of 2"), party == 2, "{shown}");
        assert!(shown.contains("Summary of 0"), "{shown}");
    }
}

#[test]
fn of_whoever_is_erased_nothing_is_left_that_systems_noted_beside_the_format() {
    let mut document = of_bob("Hello, I am Bob Miller");
    document["agent_name"] = json!("Bob Miller at the root");
    let leg = |parties: Value| {
        json!({
            "type": "recording", "start": "2026-01-31T09:30:00Z", "parties": parties, "message_id": "bob.miller@m",
            "session_id": { "local": "bob.miller@s", "remote": "ana" }, "meta": { "agent_name": "Bob Miller, noted" },
        })
    };
    document["parties"].as_array_mut().unwrap().push(json!({ "name": "Eve Moss", "role": "thirdparty" }));
    document["dialog"].as_array_mut().unwrap().extend([leg(json!([0, 1])), leg(json!([0, 2])), leg(json!([0]))]);
    let pieces = || {
        let kept = apart(&taken(&document)).unwrap().parts.into_iter();
        let pieces = kept.filter_map(|part| if let KeptBody::Piece(piece) = part.body { Some(piece) } else { None });
        let mut call = call_of(pieces.collect());
        call.parties.push(member(PartyRole::ThirdParty, ""));
        call
    };
    let written =
        |call: Call| -> Value { serde_json::from_str(write(&together(call).unwrap()).unwrap().expose()).unwrap() };
    let whole = written(pieces());
    assert_eq!(whole["agent_name"], "Bob Miller at the root");
    for at in 1..4 {
        assert_eq!(whole["dialog"][at]["meta"]["agent_name"], "Bob Miller, noted");
    }
    let mut call = pieces();
    call.parties[1].label = Some("former agent");
    call.legs.push(Leg {
        facts: LegFacts { skill: "sales".to_owned(), ..facts() },
        parties: vec![1],
        events: Vec::new(),
    });
    let left = written(call);
    assert!(left.get("agent_name").is_none());
    // Of what names one alone nobody knows who else was there.
    for (at, stays) in [(1, false), (2, true), (3, false)] {
        for name in ["meta", "message_id", "session_id"] {
            assert_eq!(left["dialog"][at].get(name).is_some(), stays, "dialog {at}: {name}");
        }
        assert_eq!(left["dialog"][at]["type"], "recording");
    }
    assert_eq!(left["dialog"][4]["skill"], "sales", "a leg tells codes alone");
}

#[test]
fn many_analyses_of_a_long_dialog_are_made_in_time() {
    let mut document = of_bob("x");
    let joined = |at: i64| json!({ "party": at % 2, "time": Time::from_micros(at).to_string(), "event": "join" });
    document["dialog"][0]["party_history"] = (0..10_000).map(joined).collect();
    let small = json!({ "type": "text", "start": "2026-01-31T09:30:00Z", "parties": [0, 1] });
    document["dialog"].as_array_mut().unwrap().resize(5000, small);
    let made = json!({ "type": "x", "dialog": vec![0; 20_000], "encoding": "none", "body": "made of it" });
    document["analysis"] = json!(vec![made; 10]);
    let conversation = taken(&document);
    let redacted: Value = serde_json::from_str(&quickly("analyses", || shown(&conversation, 0))).unwrap();
    assert_eq!(redacted["analysis"][9]["body"], "made of it");
}

#[test]
fn of_more_legs_than_fit_the_first_are_written() {
    let mut call = call_of(vec!["{\"counts\":{\"dialog\":10000}}".into()]);
    for at in 0..5000 {
        let facts = LegFacts { started_at: Time::from_micros(at), ..facts() };
        call.legs.push(Leg { facts, parties: vec![0], events: Vec::new() });
    }
    let (mediatype, sha256, occurred_at) = ("audio/wav".to_owned(), None, None);
    call.others.push(Other { party: 0, kind: PartKind::Recording, mediatype, sha256, occurred_at, held: None });
    let conversation = together(call).unwrap();
    assert_eq!(conversation.dialog.len(), 10_000 + 4096);
    assert_eq!(conversation.dialog[14_094].start, Time::from_micros(4094), "the first of them, in their order");
    let last = conversation.dialog.last().unwrap();
    assert!(last.content.mediatype.as_ref().is_some_and(|kind| kind.expose() == "audio/wav"), "and what is attached");
}
