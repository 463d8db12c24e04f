use jiff::tz::Offset;

use super::*;
use crate::model::Time;

const ASTERISK: &str = include_str!("../../../tests/data/cdr/asterisk.csv");
const FREESWITCH: &str = include_str!("../../../tests/data/cdr/freeswitch.json");
const CONNECT: &str = include_str!("../../../tests/data/cdr/connect.json");
const TWILIO: &str = include_str!("../../../tests/data/cdr/twilio.json");
const NOON: i64 = 1_795_262_400_000_000;

fn mapping(format: Format) -> Mapping {
    Mapping {
        format,
        header: Vec::new(),
        delimiter: b',',
        columns: BTreeMap::new(),
        direction: None,
        directions: BTreeMap::new(),
        dispositions: BTreeMap::new(),
        offset: Offset::UTC,
        time_format: None,
    }
}

fn names(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect()
}

fn asterisk() -> Mapping {
    let ways = [("from-trunk", Direction::Inbound), ("from-internal", Direction::Outbound)];
    let directions = ways.map(|(word, way)| (word.to_owned(), way)).into();
    let columns = names(&[("agent_id", "accountcode")]);
    Mapping { columns, directions, ..mapping(Format::AsteriskCsv) }.checked().unwrap()
}

fn of(row: &str, mapping: &Mapping) -> Told {
    read(row, mapping).unwrap_or_else(|error| panic!("{error:?}"))
}

fn refused(row: &str, mapping: &Mapping) -> String {
    read(row, mapping).err().and_then(|error| error.field).unwrap()
}

/// Who took part, as: role, number or agent id, name.
fn parties(told: &Told) -> Vec<(PartyRole, String, String)> {
    let who = |party: &Party| if party.agent_id.is_empty() { party.number.copy() } else { party.agent_id.copy() };
    told.parties.iter().map(|one| (one.role, who(one).expose().to_owned(), one.name.expose().to_owned())).collect()
}

fn customer(number: &str, name: &str) -> (PartyRole, String, String) {
    (PartyRole::Customer, number.to_owned(), name.to_owned())
}

#[test]
fn rows_of_asterisk_are_calls() {
    let mapping = asterisk();
    let rows: Vec<Told> = ASTERISK.lines().map(|row| of(row, &mapping)).collect();
    let [inbound, outbound, voicemail] = &rows[..] else { panic!("three rows") };
    assert_eq!((inbound.source_call_id.as_str(), inbound.group.as_str()), ("1795262400.118/41", "1795262400.118"));
    assert_eq!((inbound.facts.direction, inbound.facts.dialled.as_str()), (Direction::Inbound, "+498001234"));
    assert_eq!(inbound.facts.started_at, Time::from_micros(NOON));
    assert_eq!(inbound.facts.answered_at, Some(Time::from_micros(NOON + 9_000_000)));
    assert_eq!(inbound.facts.ended_at, Some(Time::from_micros(NOON + 300_000_000)));
    assert_eq!(parties(inbound), [customer("+49301234567", "Ada Lovelace")]);
    assert_eq!(outbound.facts.dialled, "", "whoever was called is a party");
    assert_eq!(parties(outbound), [customer("+49897654321", ""), (PartyRole::Agent, "7001".to_owned(), String::new())]);
    assert_eq!((outbound.facts.disposition, outbound.facts.answered_at), (Some(Disposition::NoAnswer), None));
    assert_eq!(voicemail.facts.disposition, Some(Disposition::Voicemail));
}

#[test]
fn what_is_wrong_with_a_row_is_told_by_its_column() {
    let mapping = asterisk();
    let row = ASTERISK.lines().next().unwrap();
    for (from, to, field) in [
        ("2026-11-21 12:00:00", "yesterday", "start"),
        ("2026-11-21 12:00:00", "", "start"),
        ("\"ANSWERED\"", "\"MARKED\"", "disposition"),
        ("from-trunk", "MARKED", "dcontext"),
    ] {
        assert_eq!(refused(&row.replacen(from, to, 1), &mapping), field, "{to}");
    }
    assert_eq!(refused(&format!("{row},one,more"), &mapping), "content");
    assert_eq!(refused(&format!("{row}\n{row}"), &mapping), "content");
}

#[test]
fn objects_of_freeswitch_are_calls() {
    let told = of(FREESWITCH, &mapping(Format::FreeswitchJson));
    assert_eq!(
        (told.facts.queue.as_str(), told.facts.held_for, told.facts.dialled.as_str()),
        ("billing-default", 12, "+498001234")
    );
    let agent = (PartyRole::Agent, "1000@default".to_owned(), String::new());
    assert_eq!(parties(&told), [customer("+49301234567", "Ada Lovelace"), agent]);
    assert_eq!(told.facts.disposition, Some(Disposition::Answered));
    assert_eq!(told.facts.rung_at, Some(Time::from_micros(NOON + 2_000_000)));
    let way = [("public".to_owned(), Direction::Outbound)].into();
    let told = of(FREESWITCH, &Mapping { directions: way, ..mapping(Format::FreeswitchJson) });
    assert_eq!(
        (told.facts.direction, told.facts.dialled.as_str()),
        (Direction::Outbound, ""),
        "the context stands above the channel"
    );
    assert_eq!(refused("{}", &mapping(Format::FreeswitchJson)), "variables");
    assert_eq!(refused("{", &mapping(Format::FreeswitchJson)), "content");
}

fn items(text: &str) -> Vec<String> {
    let Json::List(items) = Json::parse(text.as_bytes(), "content").unwrap() else { panic!("a list") };
    items.iter().map(|item| item.write().unwrap().expose().to_owned()).collect()
}

#[test]
fn contact_records_are_calls() {
    let mapping = mapping(Format::Connect);
    let [talked, busy] = &items(CONNECT)[..] else { panic!("two") };
    let told = of(talked, &mapping);
    assert_eq!((told.facts.queue.as_str(), told.facts.holds, told.facts.held_for), ("billing-german", 1, 12));
    assert_eq!((told.facts.direction, told.facts.disposition), (Direction::Inbound, Some(Disposition::Answered)));
    let agent = (PartyRole::Agent, "6b000000-0000-4000-8000-000000000002".to_owned(), "bob".to_owned());
    assert_eq!(parties(&told), [customer("+49301234567", ""), agent]);
    assert!(told.revision > 1_795_000_000_000 && told.group.ends_with("001"));
    let told = of(busy, &mapping);
    assert_eq!((told.facts.disposition, told.revision), (Some(Disposition::Busy), 1));
    assert_eq!(parties(&told), [customer("+49897654321", "")]);
    assert_eq!(refused(&talked.replace("VOICE", "CHAT"), &mapping), "Channel");
    assert_eq!(refused(&talked.replace("TRANSFER", "MARKED"), &mapping), "InitiationMethod");
}

#[test]
fn resources_and_callbacks_of_twilio_are_calls() {
    let mapping = mapping(Format::Twilio);
    let (list, callback) = TWILIO.trim().split_once('\n').unwrap();
    let calls = Json::parse(list.as_bytes(), "content").unwrap();
    let Some(Json::List(calls)) = calls.get("calls") else { panic!("a list") };
    let told = of(calls[0].write().unwrap().expose(), &mapping);
    assert_eq!(parties(&told), [customer("+49301234567", "Ada Lovelace")]);
    assert_eq!((told.facts.started_at, told.facts.disposition), (Time::from_micros(NOON), Some(Disposition::Answered)));
    let leg = of(callback, &mapping);
    assert_eq!(leg.group, told.source_call_id, "both are legs of one call");
    assert_eq!(
        (leg.facts.direction, leg.facts.started_at),
        (Direction::Outbound, Time::from_micros(NOON + 60_000_000))
    );
    let later = of(&callback.replace("\"3\"", "\"4\""), &mapping);
    assert!(later.revision > leg.revision);
    assert_eq!(refused(&callback.replace("\"Timestamp\"", "\"Other\""), &mapping), "start_time");
    assert_eq!(refused("{}", &mapping), "sid");
}

#[test]
fn a_mapping_that_names_what_there_is_not_is_refused() {
    let generic = |columns: &[(&str, &str)]| Mapping {
        header: ["id", "began", "way"].map(str::to_owned).to_vec(),
        columns: names(columns),
        ..mapping(Format::GenericCsv)
    };
    let good = [("source_call_id", "id"), ("start_time", "began"), ("direction", "way")];
    let field = |mapping: Mapping| mapping.checked().err().and_then(|error| error.field);
    assert_eq!(field(generic(&good)), None);
    assert_eq!(field(generic(&good[1..])).as_deref(), Some("columns"));
    assert_eq!(field(generic(&[good[0], good[1], ("queue", "MARKED")])).as_deref(), Some("columns"));
    assert_eq!(field(generic(&[good[0], good[1], ("MARKED", "way")])).as_deref(), Some("columns"));
    assert_eq!(field(mapping(Format::GenericCsv)).as_deref(), Some("header"));
    assert_eq!(field(Mapping { columns: names(&good), ..mapping(Format::Twilio) }).as_deref(), Some("columns"));
    assert_eq!(field(Mapping { delimiter: b'a', ..generic(&good) }).as_deref(), Some("delimiter"));
    for format in ["%H:%M", "MARKED", "%"] {
        let time_format = Some(format.to_owned());
        assert_eq!(field(Mapping { time_format, ..generic(&good) }).as_deref(), Some("time_format"), "{format}");
    }
}

#[test]
fn times_are_read_as_they_are_written() {
    let offset = Offset::constant(1);
    let mapping = Mapping { offset, ..mapping(Format::AsteriskCsv) };
    for text in [
        "2026-11-21 13:00:00",
        "2026-11-21T12:00:00Z",
        "1795262400",
        "1795262400.000",
        "1795262400000",
        "1795262400000000",
        "Sat, 21 Nov 2026 12:00:00 +0000",
    ] {
        assert_eq!(time::read("start", text, &mapping).unwrap(), Some(Time::from_micros(NOON)), "{text}");
    }
    for none in ["", "0", "0000-00-00 00:00:00"] {
        assert_eq!(time::read("start", none, &mapping).unwrap(), None);
    }
    for wrong in ["noon", "2026-11-21", "99999999999999999999", "-1", "1.2.3"] {
        assert!(time::read("start", wrong, &mapping).is_err(), "{wrong}");
    }
}

#[test]
fn names_become_codes() {
    for (name, code) in
        [("Billing  (German)", "billing-german"), ("VIP", "vip"), ("", ""), ("ö", ""), ("sales:de", "sales:de")]
    {
        assert_eq!(parts::code(name), code);
    }
    assert_eq!(parts::code(&"x".repeat(100)).len(), 64);
}
