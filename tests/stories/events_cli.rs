//! `lacuna events`: following what changes, and who has been told, from a shell.

use serde_json::Value;

use crate::process::{Place, Server, run, said};

fn json(server: &Server, place: &Place, arguments: &[&str]) -> Vec<Value> {
    let output = run(server.client(place).args(arguments).args(["--output", "json"]));
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn people(server: &Server, place: &Place, arguments: &[&str]) -> String {
    let output = run(server.client(place).args(arguments));
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_changed_is_shown_and_acknowledged_from_a_shell() {
    let place = Place::new();
    let server = place.start(None);
    let created = json(&server, &place, &["token", "create", "--source", "try:out", "email=marked@example.com"]);
    let subject = created[0]["subject"].as_str().unwrap().to_owned();
    let checkpoint = json(&server, &place, &["events", "watch", "--until-now", "--checkpoints"]);
    assert_eq!((checkpoint.len(), &checkpoint[0]["event"]), (1, &Value::Null));
    let begin = checkpoint[0]["cursor"].as_str().unwrap();
    let registered = json(&server, &place, &["events", "ack", "crm", begin]);
    assert_eq!((&registered[0]["consumer"]["behind"], &registered[0]["consumer"]["lost"]), (&0.into(), &false.into()));
    json(&server, &place, &["subject", "restrict", "--ground", "art18_1_a", &subject]);
    json(&server, &place, &["subject", "erase", "--reason", "art17_1_b", "--yes", &subject]);

    let told = json(&server, &place, &["events", "watch", "--from", begin, "--until-now"]);
    let kinds: Vec<_> = told.iter().map(|told| told["event"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["EVENT_KIND_SUBJECT_RESTRICTED", "EVENT_KIND_SUBJECT_ERASED"]);
    assert!(told.iter().all(|told| told["event"]["subject"] == *subject));
    let one = ["events", "watch", "--oldest", "--until-now", "--kind", "subject-erased"];
    assert_eq!(json(&server, &place, &one), told[1..]);
    let line = people(&server, &place, &one);
    assert!(line.contains("subject_erased") && line.contains(&subject) && line.contains("ers_"), "{line}");

    let behind = people(&server, &place, &["events", "consumers"]);
    assert!(behind.contains("crm") && behind.contains("2 events"), "{behind}");
    let waiting = people(&server, &place, &["events", "deliveries", &subject]);
    assert_eq!(waiting.matches("not yet").count(), 2, "{waiting}");
    people(&server, &place, &["events", "ack", "crm", told[1]["cursor"].as_str().unwrap()]);
    let delivered = json(&server, &place, &["events", "deliveries", &subject]);
    for delivery in delivered[0]["deliveries"].as_array().unwrap() {
        assert!(delivery["acknowledgements"][0]["acknowledge_time"].is_string(), "{delivery}");
    }
    let everything = format!("{told:?}{delivered:?}{waiting}").to_lowercase();
    assert!(!everything.contains("marked") && !everything.contains("example.com"));
    people(&server, &place, &["events", "forget", "crm"]);
    assert!(people(&server, &place, &["events", "consumers"]).contains("No consumers."));

    let refused = run(server.client(&place).args(["events", "watch", "--from", "cur_nonsense"]));
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("from_cursor"), "{}", said(&refused));
    assert!(server.stop().success());
}
