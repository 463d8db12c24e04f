//! Addresses of services to which secrets are sent.

use anyhow::{Result, bail};
use url::{Host, Url};

/// An address as `https://…`, or `http://…` on loopback: nobody on the way may read what is sent there.
pub(super) fn parse(text: &str) -> Result<Url> {
    let url: Url = text.parse()?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => bail!("it names no host"),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => bail!("it must be https://…; plain http is for loopback only"),
    }
}
