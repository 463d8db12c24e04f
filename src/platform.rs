//! What is asked of the operating system.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long the machine has been up, the time that it was suspended included. Never goes back, whatever is done to
/// the clock on the wall.
#[must_use]
pub fn uptime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What the machine calls itself.
#[must_use]
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Who runs this process, by name if the machine knows one: `ada@host`.
#[must_use]
pub fn operator() -> String {
    let id = rustix::process::getuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut columns = line.split(':');
        let name = columns.next()?;
        (columns.nth(1)? == id).then_some(name)
    });
    format!("{}@{}", name.unwrap_or(&id), host())
}

/// This process, so that others on the same machine can tell whether it still runs: the machine's boot, the namespace
/// of process ids, the id and when the process began.
#[must_use]
pub fn this_process() -> String {
    let id = std::process::id();
    format!("{} {id} {}", surroundings(), begun(id).unwrap_or_default())
}

/// Whether a process, by what [`this_process`] said there, has certainly ended. One elsewhere cannot be told.
#[must_use]
pub fn has_ended(process: &str) -> bool {
    let Some(rest) = process.strip_prefix(&surroundings()) else { return false };
    let mut words = rest.split_whitespace();
    let (Some(id), Some(then)) = (words.next().and_then(|id| id.parse().ok()), words.next()) else { return false };
    // Without /proc nothing can be told.
    begun(std::process::id()).is_some() && begun(id).is_none_or(|now| now != then)
}

/// What two processes have in common if they can look at each other.
fn surroundings() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default();
    format!("{} {space}", boot.trim())
}

/// When a process began, in ticks since the machine did; `None` when there is no such process, or only its remains.
fn begun(id: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let begun = fields.nth(18)?;
    (!matches!(state, "Z" | "X")).then(|| begun.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on() {
        assert!(uptime() <= uptime());
    }

    #[test]
    fn somebody_runs_this() {
        assert!(operator().split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()));
    }

    #[test]
    fn a_process_that_runs_has_not_ended_and_one_that_was_waited_for_has() {
        assert!(!has_ended(&this_process()));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let name = format!("{} {} {}", surroundings(), child.id(), begun(child.id()).unwrap());
        assert!(!has_ended(&name));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_ended(&name));
        assert!(!has_ended("another-machine pid:[1] 1 1"), "what runs elsewhere cannot be told");
    }
}
