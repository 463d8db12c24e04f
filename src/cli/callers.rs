//! Who may call: those in the configuration, by what each of them is known.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::policies;
use crate::config::Config;
use crate::crypto::{Random, Secret};
use crate::grpc::{Callers, Issuer};
use crate::keys::files;
use crate::policy::Caller;

/// Those who issue tokens, and whom they know.
pub async fn issuers(config: &Config) -> Result<Vec<Issuer>> {
    let mut issuers = Vec::new();
    for settings in &config.issuers {
        let mut issuer = Issuer::of(settings).with_context(|| format!("the issuer {}", settings.issuer))?;
        for caller in &config.callers {
            let Some(claim) = &caller.jwt else { continue };
            if claim.issuer(&config.issuers)?.issuer == settings.issuer {
                issuer.add(claim, policies::caller(caller));
            }
        }
        issuer.prepare().await?;
        issuers.push(issuer);
    }
    Ok(issuers)
}

/// Admits those in the configuration, or else whoever holds the development credential; answers where that is.
pub fn admit(config: &Config, mut callers: Callers, random: &dyn Random) -> Result<(Callers, Option<PathBuf>)> {
    for caller in &config.callers {
        let known = policies::caller(caller);
        for name in &caller.certificate {
            callers.add_certificate(name, known.clone());
        }
        if let Some(token) = caller.token()? {
            let added = callers.add(token.expose(), known);
            ensure!(added, "caller {} has the token of another caller", caller.name);
        }
    }
    if !config.callers.is_empty() {
        return Ok((callers, None));
    }
    let path = config.data_dir().join("dev-token");
    let token = dev_token(&path, random).with_context(|| format!("the credential in {}", path.display()))?;
    callers.add(&token, Caller::named(policies::DEVELOPMENT));
    Ok((callers, Some(path)))
}

fn dev_token(path: &Path, random: &dyn Random) -> Result<String> {
    if let Some(bytes) = files::read_if_there(path)? {
        files::check_private(path)?;
        return Ok(String::from_utf8(bytes)?.trim().to_owned());
    }
    let token = data_encoding::BASE64URL_NOPAD.encode(Secret::<32>::random(random).expose());
    files::replace(path, format!("{token}\n").as_bytes())?;
    Ok(token)
}
