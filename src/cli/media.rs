//! `lacuna media`: recordings that lie in an object store, sealed under a key of their part.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Subcommand;
use data_encoding::BASE64;
use serde_json::json;
use zeroize::Zeroizing;

use super::client::Remote;
use super::failure::Result;
use super::fresh::FreshFile;
use super::print::Answer;
use super::table;
use crate::crypto::{Secret, SystemRandom};
use crate::formats::media::{self, Header};
use crate::keys::files;
use crate::model::PartId;
use crate::proto::v1;

/// Shown below the help of the noun.
const EXAMPLES: &str = "\
Examples:
  lacuna media encrypt call.wav --part prt_aaaaaaaaaaaaaaaaaaaaaaaaaa --purpose customer_care
  lacuna media show call.wav.lacuna
  lacuna media decrypt call.wav.lacuna --purpose customer_care --out again.wav
  lacuna media decrypt call.wav.lacuna --key-file part.key

The vault gives the key for a purpose, and nothing of it is written down. Without a vault it is 32 bytes, as they are or in base64, in a file that
only its owner may read. docs/media.md describes the envelope.";

/// What the name of an envelope ends with, unless another is given.
const ENDING: &str = "lacuna";

/// Most bytes that a file with a key may have: base64 and a line end.
const KEY_FILE: u64 = 64;

/// A noun's verb.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Subcommand)]
enum Verb {
    /// Seal a recording under the key of its part
    Encrypt {
        /// The recording; `-` for standard input
        file: PathBuf,
        #[command(flatten)]
        key: KeySource,
        /// The part of a call that it is; it will stand in the envelope in clear
        #[arg(long, value_name = "PART")]
        part: PartId,
        /// The envelope, which must not be there yet; `-` for standard output [default: FILE.lacuna]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Open an envelope
    ///
    /// A file appears only when all of it is known to be genuine. On standard output each chunk of 64 KiB appears as soon
    /// as it is: a true beginning of the recording may have appeared when the exit status tells of a fault.
    Decrypt {
        /// The envelope; `-` for standard input
        file: PathBuf,
        #[command(flatten)]
        key: KeySource,
        /// Refuse an envelope of any other part
        #[arg(long, value_name = "PART")]
        part: Option<PartId>,
        /// The recording, which must not be there yet; `-` for standard output [default: FILE without .lacuna]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Tell of which part an envelope is and how large the recording is; needs no key, and proves nothing
    Show {
        /// The envelope; `-` for standard input
        file: PathBuf,
    },
}

/// Where the key comes from.
#[derive(clap::Args)]
struct KeySource {
    /// What the key is needed for: it is asked of the vault
    #[arg(long)]
    purpose: Option<String>,
    /// Ticket or case that says why; kept with the audit entry
    #[arg(long, value_name = "TICKET", default_value = "", hide_default_value = true, requires = "purpose")]
    justification: String,
    /// File with the key, where no vault is to be asked; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "purpose", required_unless_present = "purpose")]
    key_file: Option<PathBuf>,
}

/// Carries out a verb and shows the answer.
pub async fn run(args: Args) -> Result<()> {
    let remote = &args.remote;
    let answer = match args.verb {
        Verb::Encrypt { file, key, part, out } => encrypt(remote, &file, &key, part, out).await?,
        Verb::Decrypt { file, key, part, out } => decrypt(remote, &file, &key, part, out).await?,
        Verb::Show { file } => Some(show(&file)?),
    };
    answer.map_or(Ok(()), |answer| remote.output.show(&answer))
}

async fn encrypt(
    remote: &Remote,
    file: &Path,
    key: &KeySource,
    part: PartId,
    out: Option<PathBuf>,
) -> Result<Option<Answer>> {
    let out = out.or_else(|| (!is_standard(file)).then(|| with_ending(file)));
    let out = out.context("say where the envelope goes: --out FILE")?;
    let mut from = open(file)?;
    let key = key.get(remote, file, part).await?;
    let length = into(&out, |to| media::encrypt(&key, part, &SystemRandom::new(), &mut from, to))?;
    Ok(told(&out, "envelope", part, length))
}

async fn decrypt(
    remote: &Remote,
    file: &Path,
    key: &KeySource,
    part: Option<PartId>,
    out: Option<PathBuf>,
) -> Result<Option<Answer>> {
    let out = out.or_else(|| file.extension().is_some_and(|ending| ending == ENDING).then(|| file.with_extension("")));
    let out = out.context("say where the recording goes: --out FILE")?;
    let mut from = open(file)?;
    // The envelope says of which part it is; nothing is asked of the vault for another one.
    let head = head(&mut from)?;
    let header = Header::read(&mut head.as_slice()).map_err(anyhow::Error::from)?;
    if part.is_some_and(|part| part != header.part) {
        return Err(anyhow::Error::from(media::Fault::OtherPart).into());
    }
    let key = key.get(remote, file, header.part).await?;
    let mut from = head.as_slice().chain(from);
    let (part, length) = into(&out, |to| media::decrypt(&key, part, &mut from, to))?;
    Ok(told(&out, "recording", part, length))
}

/// What was written; nothing where it is on standard output itself.
fn told(out: &Path, what: &str, part: PartId, length: u64) -> Option<Answer> {
    let human = format!("The {what} of {part} ({length} bytes of recording) is in {}.", out.display());
    let json = json!({ "part": part.to_string(), "bytes": length, "file": out });
    (!is_standard(out)).then(|| Answer::new(json, human))
}

fn show(file: &Path) -> anyhow::Result<Answer> {
    let mut from = open(file)?;
    let header = Header::read(&mut from)?;
    let envelope = media::HEADER as u64 + io::copy(&mut from, &mut io::sink()).context("cannot read the envelope")?;
    let bytes = media::plain_size(envelope).ok_or(media::Fault::Truncated)?;
    let part = header.part.to_string();
    let human = table::record(&[
        ("part", part.clone()),
        ("version", media::VERSION.to_string()),
        ("recording", format!("{bytes} bytes")),
        ("envelope", format!("{envelope} bytes")),
    ]);
    let json = json!({ "part": part, "version": media::VERSION, "bytes": bytes, "envelope_bytes": envelope });
    Ok(Answer::new(json, human))
}

/// The beginning of an envelope, as far as there is one.
fn head(from: &mut dyn Read) -> anyhow::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(media::HEADER);
    from.take(media::HEADER as u64).read_to_end(&mut head).context("cannot read the envelope")?;
    Ok(head)
}

impl KeySource {
    /// The key of the part that `file` is, or is to be: from a file, or from the vault.
    async fn get(&self, remote: &Remote, file: &Path, part: PartId) -> Result<Secret<32>> {
        match (&self.key_file, &self.purpose) {
            (Some(key_file), _) => Ok(read(key_file, file)?),
            (None, Some(purpose)) => {
                let (purpose, justification) = (purpose.clone(), self.justification.clone());
                let request = v1::GetMediaKeyRequest { part: part.to_string(), purpose, justification };
                let given = remote.open().await?.calls.get_media_key(request).await?.into_inner();
                let key = Zeroizing::new(given.media_key);
                Ok(Secret::from_slice(&key).ok_or_else(|| anyhow!("the vault gave no key of 32 bytes"))?)
            }
            (None, None) => {
                Err(anyhow!("say what the key is needed for (--purpose), or where it is (--key-file)").into())
            }
        }
    }
}

/// Reads a key; `file` is what is to be sealed or opened with it.
fn read(key_file: &Path, file: &Path) -> anyhow::Result<Secret<32>> {
    if is_standard(key_file) && is_standard(file) {
        bail!("key and file cannot both come from standard input");
    }
    let name = key_file.display();
    if !is_standard(key_file) {
        files::check_private(key_file).context("cannot use the key")?;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(128));
    open(key_file)?.take(KEY_FILE).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    key_in(&bytes).ok_or_else(|| anyhow!("{name} holds no key: 32 bytes are expected, as they are or in base64"))
}

/// A key as it is, or in base64 with the line end that editors add.
fn key_in(bytes: &[u8]) -> Option<Secret<32>> {
    if bytes.len() == 32 {
        return Secret::from_slice(bytes);
    }
    let decoded = BASE64.decode(bytes.trim_ascii_end()).ok().map(Zeroizing::new)?;
    Secret::from_slice(&decoded)
}

/// Writes to standard output, or to a file that appears when everything went well.
fn into<T>(out: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T, media::Fault>) -> anyhow::Result<T> {
    if is_standard(out) {
        return Ok(write(&mut io::stdout().lock())?);
    }
    let cannot = || format!("cannot write {}", out.display());
    let mut fresh = FreshFile::begin(out).with_context(cannot)?;
    let written = write(fresh.file())?;
    fresh.keep().with_context(cannot)?;
    Ok(written)
}

fn open(file: &Path) -> anyhow::Result<Box<dyn Read>> {
    if is_standard(file) {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(File::open(file).with_context(|| format!("cannot read {}", file.display()))?))
}

fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

fn with_ending(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(ENDING);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bytes_or_base64() {
        let key = [7; 32];
        let text = BASE64.encode(&key);
        for bytes in [&key[..], text.as_bytes(), format!("{text}\r\n").as_bytes()] {
            assert_eq!(key_in(bytes).unwrap().expose(), &key);
        }
        for bytes in [&key[..31], &[7; 33], b"", text.get(..40).unwrap().as_bytes(), &[b'A'; 64]] {
            assert!(key_in(bytes).is_none());
        }
    }
}
