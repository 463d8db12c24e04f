//! The files of TLS, watched while they are in force.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::watch;

use super::{Look, Tls};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// How often it is told again that something is wrong with them.
const REMIND: Duration = Duration::from_mins(1);

/// Looks at the files every few seconds, and at once when `now` says so, until `stop` is set.
pub async fn keep(tls: Option<Arc<Tls>>, mut now: watch::Receiver<()>, mut stop: watch::Receiver<bool>) {
    let mut told = Instant::now();
    loop {
        publish(tls.as_deref());
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            Ok(()) = now.changed() => {}
            _ = stop.changed() => return,
        }
        let Some(tls) = &tls else { continue };
        let looking = Arc::clone(tls);
        let Ok(looked) = tokio::task::spawn_blocking(move || looking.look()).await else { continue };
        if report(tls, looked, told.elapsed() >= REMIND) {
            told = Instant::now();
        }
    }
}

/// Tells what came of a look; answers whether there was anything wrong to tell.
fn report(tls: &Tls, looked: Result<Look>, again: bool) -> bool {
    match looked {
        Ok(Look::Replaced) => {
            tracing::info!(expires = %tls.expires(), "TLS goes on with new certificates");
            false
        }
        Ok(Look::Same) if !again => false,
        Ok(Look::Same) if !tls.is_current() => {
            tracing::error!("TLS still goes on with its former certificates: the new files cannot be used");
            true
        }
        Ok(Look::Same) if tls.has_expired() => {
            tracing::error!(expires = %tls.expires(), "the certificate of this server has expired: callers will refuse it");
            true
        }
        Ok(Look::Same) => false,
        Err(error) => {
            tracing::error!(error = %format!("{error:#}"), "TLS goes on with its former certificates: the new files cannot be used");
            true
        }
    }
}

fn publish(tls: Option<&Tls>) {
    let stale = tls.is_some_and(|tls| !tls.is_current());
    metrics::gauge!("lacuna_credentials_stale", "what" => "tls").set(f64::from(u8::from(stale)));
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    let expires = tls.map_or(f64::INFINITY, |tls| (tls.expires().micros() / 1_000_000) as f64);
    metrics::gauge!("lacuna_tls_certificate_expire_seconds").set(expires);
}
