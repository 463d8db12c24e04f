//! Compiles the protobuf files without protoc.

use std::{env, fs, path::PathBuf};

/// Messages that carry plaintext get no derived `Debug`: `proto.rs` writes one that shows nothing of it.
const PLAINTEXT: [&str; 7] = [
    ".lacuna.v1.FieldInput",
    ".lacuna.v1.TokenizeRequest",
    ".lacuna.v1.DetokenizeResult",
    ".lacuna.v1.DetokenizeResponse",
    ".lacuna.v1.DetokenizeStreamResponse",
    ".lacuna.v1.FindTokensRequest",
    ".lacuna.v1.UpdateTokenRequest",
];

#[expect(clippy::disallowed_methods, reason = "cargo speaks to a build script through the environment")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files([
        "lacuna/v1/error_reason.proto",
        "lacuna/v1/subject_service.proto",
        "lacuna/v1/token_service.proto",
    ])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("lacuna.binpb"), compiler.encode_file_descriptor_set())?;
    let mut config = tonic_prost_build::Config::new();
    config.skip_debug(PLAINTEXT);
    tonic_prost_build::configure().compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
