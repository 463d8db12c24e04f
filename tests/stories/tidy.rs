//! The house rules that a compiler does not know: floors, owners of crates, twins of migrations, sizes.
//!
//! A rule reads lines, not syntax, and leans on rustfmt for that. It names the file and the line that break it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// From the ground up: each floor may use those before it, never itself under another name, one beside it or above.
const FLOORS: [&[&str]; 11] = [
    &["batch", "crash", "crypto", "platform", "trace"],
    &["model"],
    &["formats", "policy"],
    &["store"],
    &["keys"],
    &["vault"],
    &["config", "proto"],
    &["telemetry"],
    &["grpc"],
    &["cli"],
    &["fuzz"],
];

/// Crates that have owners: nobody else names them.
const OWNERS: &[(&[&str], &[&str])] = &[
    (&["rustix"], &["src/platform.rs"]),
    (&["sqlx"], &["src/store/"]),
    (&["zeroizing_alloc"], &["src/main.rs"]),
    (
        &["tonic", "prost", "tonic_types", "tonic_health", "tonic_reflection", "tonic_prost", "prost_types"],
        &["src/grpc/", "src/proto.rs", "src/cli/", "src/telemetry/otlp.rs", "src/fuzz/"],
    ),
    (&["opentelemetry_proto"], &["src/telemetry/otlp.rs"]),
    (&["cedar_policy", "miette"], &["src/policy/cedar.rs"]),
    (&["cryptoki"], &["src/keys/token/"]),
    (&["http_body"], &["src/grpc/arrival.rs", "src/grpc/gate.rs", "src/grpc/landing.rs", "src/grpc/trace.rs"]),
    (&["http_body_util"], &["src/grpc/arrival.rs", "src/grpc/jwt/fetch.rs", "src/keys/sink/bucket.rs"]),
    (&["hyper", "hyper_rustls", "hyper_util"], &["src/grpc/jwt/fetch.rs", "src/keys/sink/bucket.rs"]),
    (&["rusty_s3"], &["src/keys/sink/bucket.rs"]),
    (&["rcgen"], &["src/cli/tls.rs"]),
    (&["tokio_rustls", "webpki"], &["src/grpc/", "src/fuzz/"]),
    (&["aws_config", "aws_sdk_kms", "aws_smithy_http_client"], &["src/keys/kek/aws.rs"]),
    (&["aes", "aes_gcm", "hmac", "ring", "sha2"], &["src/crypto/"]),
];

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
/// So many functions may be longer than that, where a list is clearer in one piece.
const LONG_FUNCTIONS: usize = 3;

/// One file of the project, by its path from the root.
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    /// The lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(at, line)| (at, line.split("//").next().unwrap_or_default()))
    }

    /// `src/keys/tree.rs` stands on the floor `keys`.
    fn floor(&self) -> &str {
        let path = self.path.strip_prefix("src/").unwrap_or_default();
        path.split(['/', '.']).next().unwrap_or_default()
    }
}

/// Every file below a folder whose name ends so.
pub fn files(folder: &str, ending: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.push(File { path: name, text: fs::read_to_string(path).unwrap() });
            }
        }
    }
    assert!(!files.is_empty(), "{folder} holds no *{ending}");
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn check(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The identifiers of a line, each with what stands right before and behind it.
fn words(line: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let letter = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = 0;
    std::iter::from_fn(move || {
        let from = rest + line.get(rest..)?.find(letter)?;
        let to = line.get(from..)?.find(|c| !letter(c)).map_or(line.len(), |length| from + length);
        rest = to;
        Some((line.get(..from)?, line.get(from..to)?, line.get(to..)?))
    })
}

/// The floors that a line names: `crate::keys::Ring`, `use crate::{keys, model::Error};`.
fn floors_named(line: &str) -> Vec<&str> {
    let mut named = Vec::new();
    for (_, word, behind) in words(line) {
        let Some(path) = behind.strip_prefix("::").filter(|_| word == "crate") else { continue };
        let Some(group) = path.strip_prefix('{') else {
            named.extend(words(path).next().map(|(_, word, _)| word));
            continue;
        };
        let mut depth = 0;
        let outermost = group.split(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0 && c == ','
        });
        named.extend(outermost.filter_map(|part| words(part).next().map(|(_, word, _)| word)));
    }
    named
}

fn upward_uses(file: &File) -> Vec<String> {
    let height = |floor: &str| FLOORS.iter().position(|floors| floors.contains(&floor));
    let Some(own) = height(file.floor()) else {
        return if matches!(file.floor(), "lib" | "main") {
            Vec::new()
        } else {
            vec![format!("{}:1: stands on no floor; FLOORS in tests/stories/tidy.rs lists them", file.path)]
        };
    };
    let mut faults = Vec::new();
    for (at, line) in file.code() {
        if line.contains("crate::{") && !line.contains('}') {
            faults.push(format!("{}:{at}: name each floor in a `use` of its own", file.path));
        }
        for floor in floors_named(line) {
            if floor != file.floor() && height(floor).is_some_and(|other| other >= own) {
                faults.push(format!("{}:{at}: {} may not use {floor}: it is above or beside", file.path, file.floor()));
            }
        }
    }
    faults
}

/// Whether a file has a module of its own by the name of a crate.
fn has_module(file: &File, name: &str) -> bool {
    file.text.contains(&format!("mod {name};")) || file.text.contains(&format!("mod {name} {{"))
}

fn foreign_crates(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for (names, homes) in OWNERS {
        if homes.iter().any(|home| file.path.starts_with(home)) {
            continue;
        }
        for (at, line) in file.code() {
            for (before, word, behind) in words(line) {
                let inner = before.strip_suffix("::").is_some_and(|path| path.ends_with(char::is_alphanumeric));
                let crate_named = !inner && (behind.starts_with("::") || before.trim_end().ends_with("use"));
                if names.contains(&word) && crate_named && !has_module(file, word) {
                    faults.push(format!("{}:{at}: only {} may name the crate {word}", file.path, homes.join(", ")));
                }
            }
        }
    }
    faults
}

fn permits_made(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, line) in file.code().filter(|_| file.path != "src/policy/mod.rs") {
        for (before, word, behind) in words(line) {
            let made = word == "Permit" && behind.starts_with(" {") && !before.ends_with("-> ");
            if made {
                faults.push(format!("{}:{at}: only src/policy/mod.rs may make a Permit", file.path));
            }
        }
    }
    faults
}

fn unfinished_work(file: &File) -> Vec<String> {
    let marked = |line: &str| words(line).any(|(_, word, _)| matches!(word, "FIXME" | "TODO" | "XXX"));
    let fault = |(at, _)| format!("{}:{at}: finish it, or open an issue and say so in a sentence", file.path);
    file.lines().filter(|(_, line)| marked(line)).map(fault).collect()
}

/// Functions with more lines than they should have: from `fn` to the brace that stands below it.
fn long_functions(file: &File) -> Vec<String> {
    let mut long = Vec::new();
    let mut open: Vec<(usize, usize, &str)> = Vec::new();
    for (at, line) in file.lines() {
        let indent = line.len() - line.trim_start().len();
        let begins = !line.trim_start().starts_with("//")
            && line.split_whitespace().take_while(|word| !word.contains('"')).take(6).any(|word| word == "fn");
        if begins && !line.ends_with(['}', ';']) {
            open.push((indent, at, line.trim()));
        } else if let Some(&(_, from, name)) = open.last().filter(|(depth, ..)| *depth == indent) {
            let ends = matches!(line.trim(), "}" | "},") || (line.trim().starts_with(')') && line.ends_with(';'));
            if ends {
                open.pop();
                if at - from >= FUNCTION_LINES {
                    long.push(format!("{}:{from}: {} lines: {name}", file.path, at - from + 1));
                }
            }
        }
    }
    long
}

/// The columns of every table, in order: `CREATE TABLE name (column TYPE ..., PRIMARY KEY (...));`.
fn columns(sql: &str) -> BTreeMap<String, Vec<String>> {
    let mut bare = String::new();
    for line in sql.lines() {
        writeln!(bare, "{}", line.split("--").next().unwrap_or_default()).unwrap();
    }
    let mut tables = BTreeMap::new();
    for statement in bare.split(';') {
        let Some((table, body)) = statement.trim().strip_prefix("CREATE TABLE ").and_then(|rest| rest.split_once('('))
        else {
            continue;
        };
        let mut depth = 0;
        let parts = body.split(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            depth == 0 && c == ','
        });
        let names = parts.filter_map(|part| part.split_whitespace().next());
        let names = names.filter(|name| !matches!(*name, "CHECK" | "CONSTRAINT" | "FOREIGN" | "PRIMARY" | "UNIQUE"));
        tables.insert(table.trim().to_owned(), names.map(str::to_owned).collect());
    }
    tables
}

#[test]
fn code_flows_downward() {
    check(&files("src", ".rs").iter().flat_map(upward_uses).collect::<Vec<_>>());
}

#[test]
fn crates_stay_with_their_owners() {
    check(&files("src", ".rs").iter().flat_map(foreign_crates).collect::<Vec<_>>());
}

#[test]
fn only_the_policy_makes_permits() {
    check(&files("src", ".rs").iter().flat_map(permits_made).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_unfinished() {
    check(&files("src", ".rs").iter().flat_map(unfinished_work).collect::<Vec<_>>());
}

#[test]
fn files_and_functions_stay_short() {
    let files = files("src", ".rs");
    let functions: Vec<_> = files.iter().flat_map(long_functions).collect();
    println!("functions over {FUNCTION_LINES} lines: {}\n{}", functions.len(), functions.join("\n"));
    let size = |file: &File| file.text.lines().count();
    let long = files.iter().filter(|file| size(file) > FILE_LINES);
    let mut faults: Vec<_> =
        long.map(|file| format!("{}:1: {} lines, {FILE_LINES} at most", file.path, size(file))).collect();
    if functions.len() > LONG_FUNCTIONS {
        faults.extend(functions.into_iter().map(|function| format!("{function}; {LONG_FUNCTIONS} such at most")));
    }
    check(&faults);
}

#[test]
fn migrations_are_twins() {
    let sqlite = files("migrations/sqlite", ".sql");
    let postgres = files("migrations/postgres", ".sql");
    let names = |files: &[File]| -> Vec<String> {
        files.iter().map(|file| file.path.rsplit('/').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&sqlite), names(&postgres), "each migration has a twin of the same name in the other folder");
    let mut faults = Vec::new();
    for (number, (sqlite, postgres)) in sqlite.iter().zip(&postgres).enumerate() {
        if !sqlite.path.contains(&format!("/{:04}_", number + 1)) {
            faults.push(format!("{}:1: migrations are numbered without gaps", sqlite.path));
        }
        let (ours, theirs) = (columns(&sqlite.text), columns(&postgres.text));
        if ours != theirs {
            faults.push(format!("{}:1: other columns than {}: {ours:?} {theirs:?}", sqlite.path, postgres.path));
        }
    }
    check(&faults);
}

#[test]
fn every_rpc_has_a_story() {
    // The canned vault of `cli_client.rs` has every rpc, and asks none.
    let mut stories = files("tests/stories", ".rs");
    stories.retain(|file| !file.path.ends_with("/cli_client.rs"));
    stories.extend(files("tests/python", ".py"));
    let mut faults = Vec::new();
    for file in files("proto", ".proto") {
        for (at, line) in file.code() {
            let Some(name) = line.trim().strip_prefix("rpc ").and_then(|rest| rest.split('(').next()) else { continue };
            let mut snake = String::new();
            for letter in name.chars() {
                if letter.is_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.extend(letter.to_lowercase());
            }
            let calls = [format!(".{name}("), format!(".{snake}(")];
            if !stories.iter().any(|story| calls.iter().any(|call| story.text.contains(call))) {
                faults.push(format!("{}:{at}: no story calls {name}", file.path));
            }
        }
    }
    check(&faults);
}

#[test]
fn unsafe_code_is_forbidden() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let after = manifest.lines().skip_while(|line| *line != "[lints.rust]").skip(1);
    let forbidden = after.take_while(|line| !line.starts_with('[')).any(|line| line == "unsafe_code = \"forbid\"");
    assert!(forbidden, "Cargo.toml: `unsafe_code = \"forbid\"` is missing from [lints.rust]");
}

#[test]
fn the_wire_is_spoken_by_one_version_of_each_crate() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let count = |name: &str| lock.lines().filter(|line| *line == format!("name = \"{name}\"")).count();
    for name in ["h2", "hyper", "opentelemetry", "prost", "ring", "rustls", "tonic", "tower", "tracing"] {
        assert_eq!(count(name), 1, "Cargo.lock: so many versions of {name}");
    }
}

#[test]
fn rules_bite() {
    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    let faults = |rule: fn(&File) -> Vec<String>, path: &str, text: &str| rule(&file(path, text)).len();

    assert_eq!(faults(upward_uses, "src/store/mod.rs", "use crate::keys::Ring;"), 1);
    assert_eq!(faults(upward_uses, "src/policy/mod.rs", "let a = crate::store::open();"), 1);
    assert_eq!(faults(upward_uses, "src/model/id.rs", "use crate::{crypto::{self, Random}, store, vault};"), 2);
    assert_eq!(faults(upward_uses, "src/vault/mod.rs", "use crate::config::Config;"), 1);
    assert_eq!(faults(upward_uses, "src/attic.rs", ""), 1);
    assert_eq!(
        faults(upward_uses, "src/keys/mod.rs", "use crate::store::Store; // crate::vault\nuse crate::keys::a;"),
        0
    );

    assert_eq!(faults(foreign_crates, "src/vault/mod.rs", "use sqlx::Row;"), 1);
    assert_eq!(faults(foreign_crates, "src/model/id.rs", "use tonic;\nlet hash = ::sha2::Sha256::new();"), 2);
    assert_eq!(faults(foreign_crates, "src/keys/mod.rs", "mod ring;\npub use ring::Keyring;"), 0);
    assert_eq!(faults(foreign_crates, "src/crypto/sign.rs", "use ring::signature;"), 0);

    assert_eq!(faults(permits_made, "src/vault/mod.rs", "let leave = Permit { row };"), 1);
    assert_eq!(faults(permits_made, "src/vault/mod.rs", "fn leave() -> Permit {"), 0);

    assert_eq!(faults(unfinished_work, "src/batch.rs", "// TODO: the rest"), 1);

    let long = "    fn long(\n    ) -> A {\n".to_owned() + &"        a();\n".repeat(FUNCTION_LINES) + "    }\n";
    assert_eq!(faults(long_functions, "src/batch.rs", &long), 1);
    let short = "fn a();\nfn b() {\n}\n".repeat(FUNCTION_LINES);
    assert_eq!(faults(long_functions, "src/batch.rs", &short), 0);

    let tables =
        columns("CREATE TABLE a (\n  -- x\n  b BLOB CHECK (b IN (1, 2)), -- y\n  c TEXT,\n  PRIMARY KEY (b, c)\n);");
    assert_eq!(tables.get("a").map(Vec::as_slice), Some(["b".to_owned(), "c".to_owned()].as_slice()));
}
