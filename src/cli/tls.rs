//! `lacuna tls`: certificates for trying out.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use serde_json::json;
use zeroize::Zeroizing;

use super::failure::Result;
use super::print::{Answer, Output};
use crate::keys::files;
use crate::model::{Clock, SystemClock, Time};

/// How long the certificates are good for.
const GOOD_FOR: Duration = Duration::from_hours(24 * 90);

/// A noun's verb.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Make an authority, a certificate for a server on this machine, and one for each caller, good for 90 days
    Dev(Dev),
}

/// Arguments of `lacuna tls dev`.
#[derive(clap::Args)]
struct Dev {
    /// Where to put them; nothing there is replaced
    #[arg(default_value = "lacuna-tls", value_name = "DIR")]
    directory: PathBuf,
    /// A caller who gets a certificate; may be given several times
    #[arg(long = "caller", value_name = "NAME", default_value = "developer")]
    callers: Vec<String>,
    /// How to show the answer
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

impl Args {
    /// How to show the answer.
    pub const fn output(&self) -> Output {
        let Verb::Dev(args) = &self.verb;
        args.output
    }
}

/// Carries out a verb and shows the answer.
pub fn run(args: &Args) -> Result<()> {
    let Verb::Dev(args) = &args.verb;
    args.callers.iter().try_for_each(|caller| check_name(caller))?;
    files::make_private_directory(&args.directory)
        .with_context(|| format!("cannot make {}", args.directory.display()))?;
    let directory = std::path::absolute(&args.directory).context("there is no working directory")?;
    let configuration = make(&directory, &args.callers, SystemClock.now())?;
    let first = args.callers.first().map(String::as_str).unwrap_or_default();
    args.output.show(&Answer::new(
        json!({ "directory": directory, "callers": args.callers, "configuration": configuration }),
        explain(&directory, first, &configuration),
    ))
}

/// Whether certificate and files can be called after a caller.
fn check_name(caller: &str) -> anyhow::Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    ensure!(
        (1..=64).contains(&caller.len()) && caller.chars().all(fits),
        "--caller {caller:?}: use letters, digits, - and _"
    );
    ensure!(!matches!(caller, "ca" | "server"), "--caller {caller}: that name is taken");
    Ok(())
}

fn explain(directory: &Path, caller: &str, configuration: &str) -> String {
    let place = directory.display();
    format!(
        "made certificates in {place}, good for 90 days. The key of their authority was not kept: nobody can make more.\n\
         \n\
         lacuna.toml there says:\n\
         \n\
         {configuration}\n\
         try:\n\
         \x20 lacuna serve --config {place}/lacuna.toml\n\
         \x20 lacuna token create --address https://127.0.0.1:50051 --ca-file {place}/ca.pem \\\n\
         \x20   --client-cert {place}/{caller}.pem --client-key {place}/{caller}.key \\\n\
         \x20   --source try:out email=ada@example.com"
    )
}

/// Makes all files, and answers the configuration that names them; the last callers come last in it.
pub fn make(directory: &Path, callers: &[String], now: Time) -> anyhow::Result<String> {
    let authority = authority(now)?;
    let key = KeyPair::generate()?;
    let own = authority.self_signed(&key)?;
    let issuer = Issuer::new(authority, key);
    let mut made = vec![("ca.pem".to_owned(), Zeroizing::new(own.pem()))];
    let hosts = [
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ];
    made.extend(issue(&issuer, "server", hosts.to_vec(), ExtendedKeyUsagePurpose::ServerAuth, now)?);
    for caller in callers {
        let names = vec![SanType::URI(spiffe_id(caller).try_into()?)];
        made.extend(issue(&issuer, caller, names, ExtendedKeyUsagePurpose::ClientAuth, now)?);
    }
    let configuration = configuration(directory, callers)?;
    made.push(("lacuna.toml".to_owned(), Zeroizing::new(configuration.clone())));
    if let Some((name, _)) = made.iter().find(|(name, _)| directory.join(name).exists()) {
        bail!("{} is there already: name another directory, or remove it", directory.join(name).display());
    }
    for (name, text) in &made {
        let path = directory.join(name);
        files::replace(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(configuration)
}

/// What a caller is called in its certificate. Nobody owns the domain (RFC 6761).
fn spiffe_id(caller: &str) -> String {
    format!("spiffe://lacuna.test/{caller}")
}

fn configuration(directory: &Path, callers: &[String]) -> anyhow::Result<String> {
    let file = |name: &str| toml::Value::String(directory.join(name).display().to_string());
    let mut text = String::new();
    writeln!(text, "[tls]")?;
    writeln!(text, "certificate_file = {}", file("server.pem"))?;
    writeln!(text, "key_file = {}", file("server.key"))?;
    writeln!(text, "client_ca_file = {}", file("ca.pem"))?;
    for caller in callers {
        writeln!(text, "\n[[callers]]\nname = \"{caller}\"\ncertificate = [\"{}\"]", spiffe_id(caller))?;
    }
    Ok(text)
}

fn authority(now: Time) -> anyhow::Result<CertificateParams> {
    let mut params = certificate("Lacuna, for trying out", now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// A certificate and its key, as files.
fn issue(
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    names: Vec<SanType>,
    usage: ExtendedKeyUsagePurpose,
    now: Time,
) -> anyhow::Result<[(String, Zeroizing<String>); 2]> {
    let mut params = certificate(name, now)?;
    params.subject_alt_names = names;
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let signed = params.signed_by(&key, issuer)?;
    Ok([
        (format!("{name}.pem"), Zeroizing::new(signed.pem())),
        (format!("{name}.key"), Zeroizing::new(key.serialize_pem())),
    ])
}

fn certificate(name: &str, now: Time) -> anyhow::Result<CertificateParams> {
    let date = |time: Time| {
        let date = jiff::Timestamp::from_microsecond(time.micros())?.to_zoned(jiff::tz::TimeZone::UTC).date();
        Ok::<_, anyhow::Error>((i32::from(date.year()), u8::try_from(date.month())?, u8::try_from(date.day())?))
    };
    let mut params = CertificateParams::default();
    let (year, month, day) = date(now)?;
    params.not_before = date_time_ymd(year, month, day);
    let (year, month, day) = date(now.plus(GOOD_FOR))?;
    params.not_after = date_time_ymd(year, month, day);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
