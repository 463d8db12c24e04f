//! Existing consents come in from files, row by row: each with what became of it, in order, once.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use lacuna::proto::v1;
use lacuna::proto::v1::ConsentEventKind::{Give, Renew, Withdraw};
use serde_json::{Value, json};

use crate::consents::{DAY, NEWS, OFFERS, Office, TEXT};
use crate::house::{House, Somebody, field, on_both_stores};
use crate::process::said;

const CSV: &str = include_str!("../data/consents/decisions.csv");
const JSON_LINES: &str = include_str!("../data/consents/decisions.jsonl");
const POINT: &str = "import:crm";
/// Of somebody who is not there.
const NOBODY: &str = "sub_aaaaaaaaaaaaaaaaaaaaaaaaaa";

/// An office that has been open since before the decisions, with three people and a place for what is taken over.
struct Import {
    office: Office,
    ada: Somebody,
    bob: Somebody,
    eve: Somebody,
}

impl Import {
    async fn open(house: House) -> Self {
        let mut office = Office::open(house).await;
        office.house.shown(&["collection-point", "define", POINT, "--kind=import"]);
        let [ada, bob, eve] = [
            office.house.somebody("Ada").await,
            office.house.somebody("Bob").await,
            office.house.somebody("Eve").await,
        ];
        Self { office, ada, bob, eve }
    }

    fn fill(&self, rows: &str) -> String {
        let names = [("ada", &self.ada.subject), ("bob", &self.bob.subject), ("eve", &self.eve.subject)];
        let filled = names.iter().fold(rows.to_owned(), |rows, (name, id)| rows.replace(&format!("{{{name}}}"), id));
        let digest = data_encoding::HEXLOWER.encode(&lacuna::crypto::derive::sha256(&[TEXT.as_bytes()]));
        filled.replace("{nobody}", NOBODY).replace("{digest}", &digest)
    }

    /// Imports a file; answers the exit status, the summary, and the lines of the results.
    fn import(&self, file: &str, more: &[&str]) -> (i32, Value, Vec<Value>) {
        let ending = file.rsplit('.').next().unwrap();
        let results = format!("results.{ending}");
        let fixed = ["consent", "import", file, "--collection-point", POINT, "--notice=privacy", "--output=json"];
        let output = self.office.house.ask(&[&fixed[..], &["--results", &results], more].concat());
        let summary =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} {}", said(&output)));
        let text = fs::read_to_string(self.office.house.home().join(results)).unwrap();
        let lines = if ending == "csv" { from_csv(&text) } else { from_json_lines(&text) };
        (output.status.code().unwrap(), summary, lines)
    }

    async fn events(&mut self, subject: &str) -> Vec<v1::ConsentEvent> {
        let request = v1::ListConsentEventsRequest { subject: subject.to_owned(), ..Default::default() };
        self.office.door.list_consent_events(request).await.unwrap().into_inner().events
    }

    async fn all_events(&mut self) -> Vec<v1::ConsentEvent> {
        let mut all = Vec::new();
        for subject in [self.ada.subject.clone(), self.bob.subject.clone(), self.eve.subject.clone()] {
            all.extend(self.events(&subject).await);
        }
        all
    }
}

fn from_json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Results of CSV, as those of JSON lines are.
fn from_csv(text: &str) -> Vec<Value> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().clone();
    assert_eq!(
        head.iter().collect::<Vec<_>>().join(","),
        "line,result,subject,consent_event,state,reason,field,message"
    );
    let record = |record: csv::StringRecord| {
        let stated = head.iter().zip(record.iter()).filter(|(_, text)| !text.is_empty());
        stated
            .map(|(name, text)| (name.to_owned(), if name == "line" { text.parse().unwrap() } else { json!(text) }))
            .collect()
    };
    reader.records().map(|row| record(row.unwrap())).collect()
}

/// A line of the results: where, what became of it, and the state or the reason and the field.
fn brief(lines: &[Value]) -> Vec<(u64, String)> {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let brief = |line: &Value| match text(line, "result").as_str() {
        "recorded" => text(line, "state"),
        "valid" => "valid".to_owned(),
        _ => format!("{} {}", text(line, "reason"), text(line, "field")),
    };
    lines.iter().map(|line| (line["line"].as_u64().unwrap(), brief(line))).collect()
}

fn expected(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
    lines.iter().map(|(line, what)| (*line, (*what).to_owned())).collect()
}

/// What becomes of the rows of the fixture.
const OUTCOMES: [(u64, &str); 12] = [
    (2, "given"),
    (4, "invalid"),
    (5, "renewed"),
    (6, "withdrawn"),
    (7, "ROW_INVALID method"),
    (8, "refused"),
    (9, "SUBJECT_UNKNOWN "),
    (10, "PURPOSE_UNKNOWN purpose"),
    (11, "VALUE_INVALID channel"),
    (12, "ROW_INVALID effective_time"),
    (13, "ROW_INVALID language"),
    (14, "ROW_INVALID "),
];

on_both_stores! {
    async fn every_row_has_a_result_and_bad_methods_are_recorded_as_what_they_are(house: House) {
        let mut import = Import::open(house).await;
        import.office.house.file("decisions.csv", import.fill(CSV));
        let (status, summary, lines) = import.import("decisions.csv", &[]);
        assert_eq!(brief(&lines), expected(&OUTCOMES));
        assert_eq!((status, &summary["rows"], &summary["recorded"], &summary["refused"]), (1, &json!(12), &json!(5), &json!(7)));
        assert_eq!(summary["reasons"]["ROW_INVALID"], 4);
        let messages = lines.iter().map(|line| line["message"].as_str().unwrap_or_default()).collect::<String>();
        assert!(!messages.contains("pigeon") && !messages.contains("February"), "{messages}");

        let [ada, bob, eve] = [&import.ada, &import.bob, &import.eve].map(|one| one.subject.clone());
        let events = import.events(&ada).await;
        let kinds: Vec<_> = events.iter().map(v1::ConsentEvent::kind).collect();
        assert_eq!(kinds, [Give, Renew, Withdraw], "in the order of the file");
        assert_eq!(lines[0]["consent_event"], events[0].consent_event.as_str());
        assert_eq!(events[0].affirmative_action, "ticked \"I agree\", then pressed Send");
        assert_eq!((events[0].collection_point.as_str(), events[0].language.as_str()), (POINT, "de"));
        let evidence = vec![events[0].evidence[0].token.clone()];
        assert_eq!(import.office.house.reveal(&evidence, "customer_care").await, [Ok("call 4711,\nfrom 00:31".to_owned())]);
        // Was it allowed on 3 March at 10:00?
        for (subject, moment, allowed) in
            [(&ada, "2026-03-03T10:00:00Z", true), (&ada, "2026-03-10T08:00:01Z", false), (&bob, "2026-03-03T10:00:00Z", false)]
        {
            let check = ["consent", "check", subject, NEWS, "--channel=email", "--at", moment];
            assert_eq!(import.office.house.ask(&check).status.success(), allowed, "{moment}");
        }
        assert_eq!(import.office.check(&bob, NEWS).await.reason, "INVALID_METHOD");
        assert_eq!(import.events(&eve).await, []);
    }

    async fn the_same_file_again_records_nothing_and_put_right_only_what_was_refused(house: House) {
        let mut import = Import::open(house).await;
        import.office.house.file("decisions.csv", import.fill(CSV));
        let dry = import.import("decisions.csv", &["--dry-run"]);
        assert_eq!((dry.0, &dry.1["valid"]), (1, &json!(6)), "that a channel is not used, only the vault can say");
        assert_eq!(import.all_events().await, []);
        let (_, _, first) = import.import("decisions.csv", &[]);
        let events = import.all_events().await;
        assert_eq!(events.len(), 5);
        // What is published meanwhile changes nothing about which rows they are.
        import.office.house.clock.advance(DAY);
        let other = v1::NoticeText { language: "de".to_owned(), text: "Neu".to_owned(), sha256: Vec::new() };
        import.office.publish(v1::Notice { texts: vec![other], ..crate::consents::notice() }, v1::VersionChange::Minor).await;
        let (_, _, again) = import.import("decisions.csv", &[]);
        assert_eq!(again, first);
        assert_eq!(import.all_events().await, events);

        // Without what comes before it, and put right.
        let row = "{eve},marketing.email.promotions,email,give,2026-02-05T09:00:00Z,form,ticked,de,1,,";
        let short: Vec<&str> = CSV.lines().take(1).chain(CSV.lines().skip(3).take(3)).chain([row]).collect();
        import.office.house.file("rest.csv", import.fill(&short.join("\n")));
        let (status, summary, lines) = import.import("rest.csv", &[]);
        assert_eq!((status, &summary["recorded"]), (0, &json!(4)));
        assert_eq!(lines[0]["consent_event"], first[1]["consent_event"], "the same row, wherever it stands");
        assert_eq!(import.all_events().await.len(), 6);
        let eve = import.eve.subject.clone();
        import.office.house.erase(&eve).await;
        let (_, _, lines) = import.import("decisions.csv", &["--dry-run"]);
        assert_eq!(brief(&lines)[8], (11, "SUBJECT_ERASED subject".to_owned()));
    }

    async fn people_are_found_by_their_identifiers_in_lines_of_json(house: House) {
        let mut import = Import::open(house).await;
        let shared = |house: &mut House| {
            let mut house = house.tokens.clone();
            async move {
                let request = v1::TokenizeRequest {
                    source: "web_form:checkout".to_owned(),
                    fields: vec![
                        field(v1::FieldType::Email, "info@example.com"),
                        field(v1::FieldType::Phone, "+493012345678"),
                    ],
                    ..Default::default()
                };
                house.tokenize(request).await.unwrap().into_inner().subject
            }
        };
        let carol = shared(&mut import.office.house).await;
        import.office.house.tokenize("", vec![field(v1::FieldType::Email, "info@example.com")]).await;
        import.office.house.file("decisions.jsonl", import.fill(JSON_LINES));
        let more = ["--identifier-type=email", "--purpose", NEWS, "--channel=email"];
        let (_, _, lines) = import.import("decisions.jsonl", &more);
        assert_eq!(brief(&lines)[0], (1, "ROW_INVALID identifier".to_owned()), "nobody is searched for no purpose");
        let searched = [&more[..], &["--search-purpose=customer_care"]].concat();
        let (status, _, lines) = import.import("decisions.jsonl", &searched);
        let outcomes = [
            (1, "given"),
            (2, "given"),
            (3, "IDENTIFIER_UNKNOWN identifier"),
            (4, "IDENTIFIER_AMBIGUOUS identifier"),
            (6, "ROW_INVALID explicit_consent"),
            (7, "ROW_INVALID effective_time"),
            (8, "ROW_INVALID "),
        ];
        assert_eq!((status, brief(&lines)), (1, expected(&outcomes)));
        assert_eq!((&lines[0]["subject"], &lines[1]["subject"]), (&json!(import.ada.subject), &json!(carol)));
        let told = format!("{lines:?}");
        assert!(!told.contains("example.com") && !told.contains("MARKED"), "no result names a person: {told}");
        let given = import.events(&carol).await;
        assert_eq!(given[0].evidence.len(), 2);
        assert!(import.office.house.ask(&["consent", "check", &carol, NEWS]).status.success());

        // An erased person is found by nothing any more.
        import.office.house.erase(&carol).await;
        let (_, _, lines) = import.import("decisions.jsonl", &searched);
        assert_eq!(brief(&lines)[1], (2, "IDENTIFIER_UNKNOWN identifier".to_owned()));
    }

    async fn an_import_that_was_cut_goes_on_without_repeating_or_reordering(house: House) {
        let mut import = Import::open(house).await;
        let mut people = Vec::new();
        for number in 0..6 {
            people.push(import.office.house.somebody(&format!("P{number}")).await.subject);
        }
        // Each row makes sense after the one before it only.
        let kinds = ["give", "renew", "withdraw", "give", "withdraw", "give", "renew"];
        let mut rows = "subject,purpose,channel,kind,effective_time,method,affirmative_action\n".to_owned();
        for (day, kind) in kinds.iter().enumerate() {
            for person in &people {
                let time = format!("2026-02-{:02}T09:00:00Z", day + 1);
                writeln!(rows, "{person},{OFFERS},email,{kind},{time},form,ticked").unwrap();
            }
        }
        import.office.house.file("rows.csv", &rows);
        let mut cut = import.office.house.client();
        cut.args(["consent", "import", "rows.csv", "--collection-point", POINT, "--notice=privacy", "--in-flight=4"]);
        tokio::task::block_in_place(|| {
            let mut child = cut.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert!(lines.nth(10).unwrap().unwrap().contains("recorded"));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let (status, summary, lines) = import.import("rows.csv", &["--in-flight=4"]);
        assert_eq!((status, &summary["recorded"]), (0, &json!(42)), "{lines:?}");
        assert!(lines.iter().map(|line| line["line"].as_u64().unwrap()).eq(2..44));
        for person in people {
            let recorded = import.events(&person).await;
            let words: Vec<_> = recorded.iter().map(|event| event.kind().as_str_name().to_lowercase()).collect();
            let words: Vec<_> = words.iter().map(|word| word.trim_start_matches("consent_event_kind_")).collect();
            assert_eq!(words, kinds, "each once, in order");
        }
    }

    async fn an_import_ends_when_nothing_can_go_further(house: House) {
        let mut import = Import::open(house).await;
        import.office.house.file("rows.txt", "subject,MARKED\n");
        let ask = |arguments: &[&str]| {
            let output = import.office.house.ask(&[&["consent", "import"], arguments].concat());
            (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
        };
        let (status, told) = ask(&["rows.txt"]);
        assert!(status == 2 && told.contains("--format"), "{told}");
        let (status, told) = ask(&["rows.txt", "--format=csv"]);
        assert!(status == 2 && told.contains("column 2") && !told.contains("MARKED"), "{told}");
        let (status, told) = ask(&["-"]);
        assert!(status == 2 && told.contains("--format"), "{told}");
        let (status, told) = ask(&["rows.txt", "--format=csv", "--output=json"]);
        assert_eq!((status, told.as_str()), (2, ""), "told in JSON");
        import.office.house.file("decisions.csv", import.fill(CSV));
        import.office.house.file("other-token", "nobody");
        let (status, told) = ask(&["decisions.csv", "--results=./decisions.csv"]);
        assert!(status == 2 && told.contains("--results"), "{told}");
        let foreign = ["decisions.csv", "--token-file=other-token", "--collection-point", POINT, "--notice=privacy"];
        let (status, told) = ask(&foreign);
        assert!(status == 1 && told.contains("CALLER_UNKNOWN") && told.contains("0 of"), "{told}");
        assert_eq!(import.all_events().await, []);
    }
}
