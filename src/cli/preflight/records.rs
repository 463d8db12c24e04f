//! The database: whether its commits last, and whether the clock agrees with it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::Check;
use crate::config::Config;
use crate::model::{Clock, Time};
use crate::store::{self, Store};

const DURABILITY: &str = "durability";
const CLOCK: &str = "clock";

/// 2026-01-01T00:00:00Z: before this program was written no clock can have stood right.
const WRITTEN: Time = Time::from_micros(1_767_225_600_000_000);
/// How far behind the newest record the clock may stand: it may have been set a little.
const BEHIND: Duration = Duration::from_mins(1);
/// How far this machine's clock and the database's may be apart.
const APART: Duration = Duration::from_mins(5);

pub async fn check(config: &Config, clock: &dyn Clock) -> Result<Vec<Check>> {
    let url = config.database_url()?;
    if url.expose().strip_prefix("sqlite:").is_some_and(|path| !Path::new(path).exists()) {
        return Ok(vec![
            Check::pass(DURABILITY, "SQLite, not made yet; it will sync every commit"),
            look_at_clock(clock.now(), None, None),
        ]);
    }
    let store = store::open(url.expose()).await?;
    let checks = look_at_store(&*store, clock).await;
    store.close().await;
    checks
}

async fn look_at_store(store: &dyn Store, clock: &dyn Clock) -> Result<Vec<Check>> {
    let about = store.describe().await?;
    let mut checks = Vec::new();
    for setting in store.durability().await? {
        let store::Setting { name, value, wanted } = &setting;
        let found = format!("{about}: {name} is {value}");
        checks.push(if setting.is_good() {
            Check::pass(DURABILITY, found)
        } else {
            let fix = format!("set {name} = {} in the configuration of the database", wanted.join(" or "));
            Check::fail(DURABILITY, format!("{found}: acknowledged commits may be lost"), fix)
        });
    }
    let newest = if store.is_migrated().await? { store.read().await?.newest_record().await? } else { None };
    // Between two looks at our own, so that a slow answer counts for neither side.
    let before = clock.now();
    let theirs = store.server_time().await?;
    checks.push(look_at_clock(clock.now(), newest, theirs.map(|theirs| (before, theirs))));
    Ok(checks)
}

/// The clock, beside the newest record and beside what the database's own clock said after a moment of ours.
fn look_at_clock(now: Time, newest: Option<Time>, theirs: Option<(Time, Time)>) -> Check {
    const FIX: &str = "set this machine's clock, and keep it with NTP (chronyd, systemd-timesyncd)";
    if now < WRITTEN {
        return Check::fail(CLOCK, format!("it is {now} here, before this program was written"), FIX);
    }
    if let Some(newest) = newest.filter(|newest| now.plus(BEHIND) < *newest) {
        let found = format!("it is {now} here, and the newest record in the database is of {newest}");
        return Check::fail(CLOCK, format!("{found}: retention, schedules and the audit log would go backwards"), FIX);
    }
    if let Some((before, theirs)) =
        theirs.filter(|(before, theirs)| now.plus(APART) < *theirs || theirs.plus(APART) < *before)
    {
        let found = format!("it is {before} here and {theirs} on the database server");
        return Check::fail(CLOCK, found, format!("{FIX}; the same on the database server"));
    }
    Check::pass(CLOCK, "it stands after every record, and with the database's own")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_that_cannot_be_right_is_refused() {
        let minutes = |minutes: i64| Time::from_micros(WRITTEN.micros() + minutes * 60_000_000);
        let verdict = |now, newest, theirs| look_at_clock(now, newest, theirs).verdict;
        assert_eq!(verdict(minutes(0), None, None), Verdict::Pass);
        assert_eq!(verdict(minutes(-1), None, None), Verdict::Fail);
        assert_eq!(verdict(minutes(10), Some(minutes(11)), None), Verdict::Pass);
        assert_eq!(verdict(minutes(10), Some(minutes(12)), None), Verdict::Fail);
        for (theirs, expected) in
            [(4, Verdict::Fail), (5, Verdict::Pass), (10, Verdict::Pass), (15, Verdict::Pass), (16, Verdict::Fail)]
        {
            assert_eq!(verdict(minutes(10), None, Some((minutes(10), minutes(theirs)))), expected, "{theirs}");
        }
    }
}
