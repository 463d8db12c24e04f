//! The hour with the command line of `docs/consent.md`, as it stands there.

use std::fs;

use serde_json::Value;

use crate::consents::DAY;
use crate::house::on_both_stores;
use crate::process::said;

const DOCUMENT: &str = include_str!("../../docs/consent.md");

/// What a block of the section is.
enum Block {
    /// A file, by its name.
    File(&'static str, &'static str),
    /// Commands, line by line.
    Commands(&'static str),
}

fn blocks() -> Vec<Block> {
    let (_, section) = DOCUMENT.split_once("\n## An hour with the command line\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let block = |text: &'static str| {
        let (head, body) = text.split_once('\n').unwrap();
        match head.split_once(' ') {
            Some((_, name)) => Block::File(name, body),
            None => Block::Commands(body),
        }
    };
    section.split("\n```").skip(1).step_by(2).map(block).collect()
}

on_both_stores! {
    async fn the_hour_with_the_command_line_goes_as_it_is_written(house: House) {
        let mut house = house;
        let subject = house.somebody("Ada").await.subject;
        let other = house.somebody("Bob").await.subject;
        let key = house.config.slot_dir().join("receipt-signing.pub");
        let mut address = String::new();
        let mut commands = 0;
        for block in blocks() {
            let lines = match block {
                Block::File(name, content) => {
                    house.file(name, content.replace("SUBJECT", &subject).replace("OTHER", &other));
                    continue;
                }
                Block::Commands(lines) => lines,
            };
            for line in lines.lines().filter(|line| !line.is_empty()) {
                let (line, refused) = line.split_once("    # exit status 1").map_or((line, false), |(line, _)| (line, true));
                let filled = line.replace("SUBJECT", &subject).replace("LINK", &address);
                let filled = filled.replace("lacuna-slot/receipt-signing.pub", &key.display().to_string());
                // Every other piece stands in quotation marks.
                let pieces = filled.split('\'').enumerate();
                let words: Vec<&str> = pieces
                    .flat_map(|(at, piece)| if at % 2 == 0 { piece.split_whitespace().collect() } else { vec![piece] })
                    .collect();
                assert_eq!(words[0], "lacuna", "{line}");
                let output = house.ask(&words[1..]);
                assert_eq!(output.status.code(), Some(i32::from(refused)), "{line}: {}", said(&output));
                let told = String::from_utf8(output.stdout).unwrap();
                if words[2] == "link" {
                    told.trim().clone_into(&mut address);
                }
                commands += 1;
            }
            house.clock.advance(DAY);
        }
        assert!(commands > 25, "{commands}");
        let results = fs::read_to_string(house.home().join("results.csv")).unwrap();
        assert!(results.contains("given") && results.contains("invalid"), "{results}");
        let proof = house.told(&["consent", "verify", "proof.json"]);
        assert_eq!(proof["statement"]["decision"]["allowed"], Value::Bool(true));
    }
}
