//! Signs of life: what keeps a node's lease, whatever its looks wait for.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Custody, LOOK, uptime};

/// What is told of in the log.
const LATE: Duration = Duration::from_secs(1);

/// Gives signs of life for as long as there are keys; without any, a look joins anew.
pub(super) async fn keep_lease(custody: Weak<Custody>) {
    let mut last = uptime();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(custody) = custody.upgrade() else { return };
        let Some(member) = &custody.member else { return };
        if member.left.load(Ordering::SeqCst) {
            return;
        }
        if custody.ring.epoch().is_err() || member.joining.load(Ordering::SeqCst) {
            last = uptime();
            continue;
        }
        let begun = uptime();
        let renewed = custody.renew_lease(member).await;
        let (late, took) = (begun.saturating_sub(last), begun.abs_diff(uptime()));
        if late + took > LATE {
            // A machine that has too much to do shows here before it loses its lease.
            tracing::warn!(late_ms = late.as_millis(), took_ms = took.as_millis(), "a sign of life came late");
        }
        last = uptime();
        if let Err(error) = renewed {
            tracing::debug!(%error, "no sign of life could be given");
        }
        let lapsed = !custody.parts.lease.is_valid() && custody.parts.lease.lapses() > 0;
        if lapsed && custody.ring.epoch().is_ok() && !member.joining.load(Ordering::SeqCst) {
            tracing::error!("this node could not renew its lease; it drops its keys until it can");
            custody.drop_keys(member);
        }
    }
}
