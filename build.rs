//! Compiles the protobuf files without protoc. Messages that carry plaintext get no derived `Debug`, but one that names them and
//! hides what they carry.

use std::{env, fmt::Write as _, fs, path::PathBuf};

/// Messages beside requests that carry plaintext, or in which a caller could put it.
const PLAINTEXT: [&str; 21] = [
    "AuditFilter",
    "CallPart",
    "CallValue",
    "CdrMapping",
    "CdrRow",
    "ConsentEvidence",
    "CreateWithdrawalLinkResponse",
    "DetokenizeResponse",
    "DetokenizeResult",
    "DetokenizeStreamResponse",
    "ExportVconResponse",
    "FieldInput",
    "GetMediaKeyResponse",
    "LookupByCallerResponse",
    "PartyInput",
    "PartyJurisdiction",
    "RecordingParty",
    "RecordingTerms",
    "SubjectFilter",
    "VconDocument",
    "VconMapping",
];

#[expect(clippy::disallowed_methods, reason = "cargo speaks to a build script through the environment")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files([
        "lacuna/v1/access_service.proto",
        "lacuna/v1/audit_service.proto",
        "lacuna/v1/call_service.proto",
        "lacuna/v1/channel.proto",
        "lacuna/v1/consent_service.proto",
        "lacuna/v1/error_reason.proto",
        "lacuna/v1/event_service.proto",
        "lacuna/v1/key_service.proto",
        "lacuna/v1/retention_service.proto",
        "lacuna/v1/subject_service.proto",
        "lacuna/v1/token_service.proto",
    ])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("lacuna.binpb"), compiler.encode_file_descriptor_set())?;
    let descriptors = compiler.file_descriptor_set();
    let (mut hidden, mut opaque) = (Vec::new(), String::from("opaque_debug!(\n"));
    let ours = descriptors.file.iter().filter(|file| file.package() == "lacuna.v1");
    for message in ours.flat_map(|file| &file.message_type) {
        let name = message.name();
        // Every request is one of them, because a caller may put a value where it does not belong.
        if !name.ends_with("Request") && !PLAINTEXT.contains(&name) {
            continue;
        }
        hidden.push(format!(".lacuna.v1.{name}"));
        writeln!(opaque, "    v1::{name},")?;
        for choice in &message.oneof_decl {
            writeln!(opaque, "    v1::{}::{},", module(name), capital(choice.name()))?;
        }
    }
    opaque.push_str(");\n");
    fs::write(out.join("opaque.rs"), opaque)?;
    let mut config = tonic_prost_build::Config::new();
    config.skip_debug(&hidden);
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}

/// The module in which the choices of a message stand: `FieldInput` has them in `field_input`.
fn module(message: &str) -> String {
    let mut name = String::new();
    for (at, letter) in message.chars().enumerate() {
        if at > 0 && letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// A choice as a type: `outcome` is `Outcome`.
fn capital(choice: &str) -> String {
    let mut letters = choice.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}
