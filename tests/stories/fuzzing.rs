//! Nothing that reads bytes from outside is forgotten by the fuzzer. A rule reads lines, not syntax, as in `tidy.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::tidy::files;

/// What a line of a parser has in it.
const READS: [&str; 14] = [
    "serde_json::from_",
    "toml::from_str",
    "NOPAD.decode(",
    "BASE64.decode(",
    "BASE64URL.decode(",
    "HEXLOWER.decode(",
    "PERMISSIVE.decode(",
    "pem_slice",
    "ReaderBuilder",
    "::try_parse(",
    "split_first_chunk",
    "EndEntityCert::try_from",
    "T::decode(",
    "from_mut_slice",
];

/// What a function is called that is one.
const PARSERS: [&str; 6] = ["decode", "from_str", "glance", "parse", "unflatten", "public_keys"];

/// The functions of a file that read bytes.
fn parsers(text: &str) -> BTreeSet<&str> {
    let (mut found, mut function) = (BTreeSet::new(), "");
    for line in text.lines().take_while(|line| !line.starts_with("mod tests {")) {
        let code = line.split("//").next().unwrap_or_default();
        let begins = code.split_once("fn ").filter(|(before, _)| before.is_empty() || before.ends_with(' '));
        let signature = begins.map(|(_, rest)| rest.split_once(['(', '<']).unwrap_or((rest, "")));
        if let Some((name, _)) = signature {
            function = name;
        }
        let given = |rest: &str| rest.contains("str") || rest.contains("[u8]");
        if READS.iter().any(|word| code.contains(word))
            || signature.is_some_and(|(name, rest)| PARSERS.contains(&name) && given(rest))
        {
            found.insert(function);
        }
    }
    found
}

/// What `tests/data/parsers.txt` says of each.
fn listed() -> BTreeMap<String, String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parsers.txt")).unwrap();
    let entry = |line: &str| {
        let at = line.match_indices(' ').nth(1).map_or_else(|| panic!("what is {line}?"), |(at, _)| at);
        (line[..at].to_owned(), line[at + 1..].to_owned())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(entry).collect()
}

#[test]
fn every_parser_is_fuzzed() {
    let mut found = BTreeSet::new();
    let sources = files("src", ".rs");
    let own = |path: &str| {
        path.starts_with("src/fuzz")
            || path.ends_with("/tests.rs")
            || path.contains("/tests/")
            || path.ends_with("/testing.rs")
    };
    for file in sources.iter().filter(|file| !own(&file.path)) {
        found.extend(parsers(&file.text).iter().map(|name| format!("{} {name}", file.path)));
    }
    assert!(found.len() > 60, "{found:?}");
    let listed = listed();
    let names: BTreeSet<String> = listed.keys().cloned().collect();
    let forgotten: Vec<_> = found.difference(&names).collect();
    assert!(
        forgotten.is_empty(),
        "give them a target in src/fuzz and a line in tests/data/parsers.txt: {forgotten:#?}"
    );
    let gone: Vec<_> = names.difference(&found).collect();
    assert!(gone.is_empty(), "they are in tests/data/parsers.txt and not in the code: {gone:#?}");

    let mut targets: BTreeSet<String> = sources
        .iter()
        .filter(|file| file.path.starts_with("src/fuzz/"))
        .flat_map(|file| file.text.split("(\"").skip(1))
        .filter_map(|rest| rest.split_once("\", ").map(|(name, _)| name.to_owned()))
        .collect();
    targets.insert("request".to_owned());
    let mut reached = BTreeSet::new();
    for (parser, how) in &listed {
        let Some(by) = how.strip_prefix("= ") else {
            assert!(how.starts_with("- ") && how.len() > 10, "{parser}: why is it not fuzzed?");
            continue;
        };
        for target in by.split(' ') {
            assert!(targets.contains(target), "{parser}: there is no target {target}");
            reached.insert(target.to_owned());
        }
    }
    assert!(reached.len() > 25, "{reached:?}");
}

/// The fuzzer has a lock file of its own, and what it fuzzes must be what is shipped.
#[test]
fn what_is_fuzzed_is_built_of_what_is_shipped() {
    let versions = |path: &str| -> BTreeSet<(String, String)> {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let packages = text.split("[[package]]").skip(1);
        let field = |package: &str, name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_matches(['"', ' ', '=']).to_owned()
        };
        packages.map(|package| (field(package, "name = "), field(package, "version = "))).collect()
    };
    let (ours, theirs) = (versions("Cargo.lock"), versions("fuzz/Cargo.lock"));
    let names: BTreeSet<_> = ours.iter().map(|(name, _)| name.clone()).collect();
    let other: Vec<_> = theirs.difference(&ours).filter(|(name, _)| names.contains(name)).collect();
    assert!(other.is_empty(), "cp Cargo.lock fuzz/ && cargo metadata --manifest-path fuzz/Cargo.toml: {other:#?}");
}

#[test]
fn the_rule_bites() {
    assert_eq!(parsers("    pub fn parse(text: &str) -> Self {\n    }\n").into_iter().collect::<Vec<_>>(), ["parse"]);
    assert_eq!(parsers("fn a() {\n  serde_json::from_str(b)\n}\n").into_iter().collect::<Vec<_>>(), ["a"]);
    assert!(parsers("fn a() {}\nmod tests {\n fn parse(a: &str) {}\n").is_empty());
    assert!(parsers("// fn parse(a: &str)\nfn prefix(a: &str) {}\n").is_empty());
}
