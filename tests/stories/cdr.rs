//! Calls come in from the files of telephone systems, row by row: each with what became of it, in order, once.

use std::fs;
use std::path::Path;

use lacuna::proto::v1;
use lacuna::proto::v1::import_cdr_response::Outcome;
use lacuna::proto::v1::{CallDirection, CdrFormat, UpsertOutcome};
use serde_json::Value;
use tonic::Code;

use crate::house::{House, fields_at_fault, on_both_stores};
use crate::process::said;

const ASTERISK: &str = include_str!("../data/cdr/asterisk.csv");

fn mapping(format: CdrFormat) -> v1::CdrMapping {
    v1::CdrMapping { format: format.into(), source_system: "pbx".to_owned(), ..Default::default() }
}

fn asterisk() -> v1::CdrMapping {
    let ways = [("from-trunk", CallDirection::Inbound), ("from-internal", CallDirection::Outbound)];
    let directions = ways.map(|(word, way)| (word.to_owned(), way.into())).into();
    let columns = [("agent_id".to_owned(), "accountcode".to_owned())].into();
    v1::CdrMapping { directions, columns, ..mapping(CdrFormat::AsteriskCsv) }
}

/// What the rows are asked with: the first says how they are read.
fn asks(mapping: v1::CdrMapping, rows: &[String]) -> Vec<v1::ImportCdrRequest> {
    let row = |(row, content): (u64, &String)| Some(v1::CdrRow { row, content: content.clone() });
    let mut asks: Vec<_> = (1..).zip(rows).map(|each| v1::ImportCdrRequest { mapping: None, row: row(each) }).collect();
    asks[0].mapping = Some(mapping);
    asks
}

/// What became of a row: the outcome, or the field at fault.
type Became = Result<UpsertOutcome, String>;

impl House {
    async fn import(&self, mapping: v1::CdrMapping, rows: &[String]) -> Vec<Became> {
        let asks = tokio_stream::iter(asks(mapping, rows));
        let mut answers = self.calls().await.import_cdr(asks).await.unwrap().into_inner();
        let mut became = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            assert_eq!(answer.row, became.len() as u64 + 1, "in the order in which they were told");
            became.push(match answer.outcome.unwrap() {
                Outcome::Leg(leg) => {
                    assert!(leg.call.starts_with("call_"));
                    Ok(leg.outcome())
                }
                Outcome::Error(error) => {
                    let status = tonic::Status::with_details(
                        Code::from_i32(error.code),
                        error.message.clone(),
                        prost::Message::encode_to_vec(&error).into(),
                    );
                    assert!(!error.message.contains("MARKED"), "{error:?}");
                    Err(fields_at_fault(&status).join(","))
                }
            });
        }
        became
    }

    async fn import_refused(&self, asks: Vec<v1::ImportCdrRequest>) -> Vec<String> {
        let refused = self.calls().await.import_cdr(tokio_stream::iter(asks)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        fields_at_fault(&refused)
    }

    async fn all_calls(&self) -> Vec<v1::Call> {
        self.calls().await.list_calls(v1::ListCallsRequest::default()).await.unwrap().into_inner().calls
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// What is wrong with a mapping.
type Change = fn(&mut v1::CdrMapping);

on_both_stores! {
    async fn rows_are_calls_and_the_same_ones_are_recorded_once(house: House) {
        let mut rows = lines(ASTERISK);
        rows.insert(1, rows[0].replace("2026-11-21 12:00:00", "MARKED"));
        rows.insert(2, rows[0].replace("Ada Lovelace", "4111 1111 1111 1111").replace("400.118", "400.119"));
        let fresh = house.import(asterisk(), &rows).await;
        let at = |field: &str| Err(field.to_owned());
        let created = Ok(UpsertOutcome::Created);
        assert_eq!(fresh, [created.clone(), at("start"), at("parties[0].name"), created.clone(), created]);
        let kept = house.everything().await;
        let again = house.import(asterisk(), &rows).await;
        let same = Ok(UpsertOutcome::Same);
        assert_eq!(again, [same.clone(), at("start"), at("parties[0].name"), same.clone(), same]);
        assert_eq!(house.everything().await, kept, "nothing is kept twice");

        let calls = house.all_calls().await;
        assert_eq!(calls.len(), 3);
        let inbound = calls.iter().find(|call| call.legs[0].source_call_id == "1795262400.118/41").unwrap();
        assert_eq!((inbound.legs[0].dialled.as_str(), inbound.parties.len()), ("+498001234", 1));
        let request = v1::GetCallRequest {
            call: inbound.call.clone(),
            purpose: crate::asks::CARE.to_owned(),
            ..Default::default()
        };
        let shown = house.calls().await.get_call(request).await.unwrap().into_inner().call.unwrap();
        assert!(shown.parties[0].values.iter().any(|value| {
            value.outcome == Some(v1::call_value::Outcome::Value("Ada Lovelace".to_owned()))
        }));
        let stored = format!("{:?}", house.everything().await);
        assert!(!stored.contains("PJSIP") && !stored.contains("301234567"), "names of channels, or numbers in clear");
    }

    async fn the_same_caller_in_many_rows_is_one_provisional_subject(house: House) {
        let row = lines(ASTERISK)[0].clone();
        let rows: Vec<String> = (200..264).map(|at| row.replace("400.118", &format!("400.{at}"))).collect();
        assert_eq!(house.import(asterisk(), &rows).await, vec![Ok(UpsertOutcome::Created); rows.len()]);
        let calls = house.all_calls().await;
        assert_eq!(calls.len(), rows.len());
        assert!(calls.iter().all(|call| call.parties[0].subject == calls[0].parties[0].subject));
    }

    async fn a_stream_without_a_mapping_that_fits_is_refused_as_a_whole(house: House) {
        let rows = lines(ASTERISK);
        let bare = v1::ImportCdrRequest { mapping: None, row: None };
        assert_eq!(house.import_refused(vec![bare]).await, ["mapping"]);
        assert_eq!(house.import_refused(Vec::new()).await, ["mapping"]);
        let with = |change: fn(&mut v1::CdrMapping)| {
            let mut told = asterisk();
            change(&mut told);
            asks(told, &rows)
        };
        let changes: [(Change, &str); 8] = [
            (|told| told.format = 0, "mapping.format"),
            (|told| told.source_system = "MARKED".into(), "mapping.source_system"),
            (|told| told.delimiter = "ab".into(), "mapping.delimiter"),
            (|told| told.utc_offset = "1".into(), "mapping.utc_offset"),
            (|told| told.direction = 9, "mapping.direction"),
            (|told| told.header = vec!["a".to_owned(); 257], "mapping.header"),
            (|told| told.time_format = "%".into(), "mapping.time_format"),
            (|told| drop(told.columns.insert("MARKED".to_owned(), "src".to_owned())), "mapping.columns"),
        ];
        for (change, field) in changes {
            assert_eq!(house.import_refused(with(change)).await, [field]);
        }
        let mut twice = asks(asterisk(), &rows);
        twice[1].mapping = Some(asterisk());
        let mut answers =
            house.calls().await.import_cdr(tokio_stream::iter(twice)).await.unwrap().into_inner();
        let mut refused = 0;
        while let Some(answer) = answers.message().await.unwrap() {
            refused += usize::from(matches!(answer.outcome, Some(Outcome::Error(_))));
        }
        assert_eq!(refused, 1, "that message, and no other");
    }

    async fn files_of_every_system_are_imported_from_a_shell(house: House) {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cdr");
        let path = |name: &str| data.join(name).to_str().unwrap().to_owned();
        let import = |format: &str, system: &str, file: &str, more: &[&str]| {
            let file = path(file);
            let fixed = ["call", "import", "--format", format, "--system", system, &file, "--output=json"];
            let output = house.ask(&[&fixed[..], more].concat());
            let summary: Value =
                serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} {}", said(&output)));
            (output.status.code().unwrap(), summary)
        };
        let map = path("asterisk.toml");
        for (format, system, file, more, rows) in [
            ("asterisk-csv", "pbx", "asterisk.csv", &["--mapping", &map][..], 3),
            ("freeswitch-json", "fs", "freeswitch.json", &[], 1),
            ("connect", "aws", "connect.json", &[], 2),
            ("twilio", "twilio", "twilio.json", &[], 2),
        ] {
            let (status, summary) = import(format, system, file, more);
            assert_eq!((status, &summary["rows"], &summary["refused"]), (0, &rows.into(), &0.into()), "{summary}");
            let (_, again) = import(format, system, file, more);
            assert_eq!(again["outcomes"]["same"], rows, "{again}");
        }
        let map = path("generic.toml");
        let results = house.home().join("results.csv");
        let told = ["--mapping", &map, "--results", results.to_str().unwrap()];
        let (status, summary) = import("csv", "crm", "generic.csv", &told);
        assert_eq!((status, &summary["rows"], &summary["refused"]), (1, &4.into(), &2.into()), "{summary}");
        let results = fs::read_to_string(results).unwrap();
        assert!(results.contains(",3,refused,,VALUE_INVALID,Began,"), "{results}");
        assert!(results.contains(",4,refused,,CARD_DATA,parties[0].note,") && !results.contains("4111"), "{results}");
        let (_, late) = import("csv", "crm", "generic.csv", &["--mapping", &map, "--from-row", "4"]);
        assert_eq!(late["rows"], 1, "{late}");
        // The second row of Twilio is a leg of the first, and a note loses what opens a recording.
        assert_eq!(house.all_calls().await.len(), 3 + 1 + 2 + 1 + 2);
        assert!(!format!("{:?}", house.everything().await).contains("marked"));
    }
}
