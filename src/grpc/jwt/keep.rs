//! The keys of issuers, asked for again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::super::identity::Callers;
use super::super::sparingly::Sparingly;
use super::Why;

/// How often it is seen whether keys are due.
const LOOK: Duration = Duration::from_secs(2);

/// Asks for the keys of issuers when they are due, and at once when `now` says so, until `stop` is set.
pub async fn keep(callers: Arc<Callers>, mut now: watch::Receiver<()>, mut stop: watch::Receiver<bool>) {
    let mut why = Why::Age;
    loop {
        callers.forget_expired();
        for issuer in callers.issuers() {
            if let Err(error) = issuer.look(why).await {
                complain(&error);
            }
            let stale = f64::from(u8::from(issuer.is_stale()));
            metrics::gauge!("lacuna_credentials_stale", "what" => issuer.name().to_owned()).set(stale);
        }
        why = tokio::select! {
            () = tokio::time::sleep(LOOK) => Why::Age,
            Ok(()) = now.changed() => Why::Wish,
            _ = stop.changed() => return,
        };
    }
}

/// Tells that keys cannot be had.
pub fn complain(error: &anyhow::Error) {
    static TOLD: Sparingly = Sparingly::new();
    if TOLD.may_tell() {
        tracing::error!(error = %format!("{error:#}"), "the keys of an issuer of tokens cannot be had: its former ones stay");
    }
}
