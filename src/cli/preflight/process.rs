//! The process: whether what it has in memory may reach a disk.

use std::fs;

use super::Check;
use crate::config::{Config, CoreDumps, Process, Swap};
use crate::platform;

/// Keeps the memory of this process from disks as far as the system lets it. To be called before any key is read.
///
/// What the system refuses is no error here: [`check`] tells it.
pub fn harden(config: Process) {
    if config.core_dumps == CoreDumps::Refuse {
        platform::refuse_dumps();
    }
    if platform::may_lock_memory() {
        platform::lock_memory();
    }
}

pub fn check(config: &Config) -> Vec<Check> {
    let swaps = fs::read_to_string("/proc/swaps").ok();
    vec![core_dumps(config.process), swap(config.process, swaps.as_deref(), platform::may_lock_memory())]
}

fn core_dumps(config: Process) -> Check {
    const NAME: &str = "core-dumps";
    if config.core_dumps == CoreDumps::Allow {
        return Check::warn(
            NAME,
            "core dumps and debuggers are allowed; a dump holds keys and values",
            "remove process.core_dumps = \"allow\" from the configuration as soon as the fault is found",
        );
    }
    match platform::refuses_dumps() {
        Some(true) => Check::pass(NAME, "this process cannot be dumped or traced"),
        // Nothing was refused yet: this is not the process that serves.
        Some(false) => Check::pass(NAME, "lacuna serve gives up being dumped and traced"),
        None => Check::warn(
            NAME,
            "this system does not let a process refuse to be traced",
            "switch core dumps off for the service, as with `ulimit -c 0`",
        ),
    }
}

/// Swap, by what `/proc/swaps` says; `None` where there is no such file.
fn swap(config: Process, swaps: Option<&str>, locks: bool) -> Check {
    const NAME: &str = "swap";
    let Some(swaps) = swaps else {
        return Check::warn(
            NAME,
            "this system does not tell whether it swaps",
            "make sure that it does not, or that its swap is encrypted",
        );
    };
    let areas: Vec<&str> = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    if areas.is_empty() {
        return Check::pass(NAME, "there is no swap");
    }
    if locks {
        return Check::pass(NAME, format!("the process keeps its memory out of swap ({})", areas.join(", ")));
    }
    let found = format!("keys and values may be written to swap: {}", areas.join(", "));
    let fix = "swapoff -a and remove it from /etc/fstab, or let the service lock its memory (LimitMEMLOCK=infinity in \
               its systemd unit), or use encrypted swap";
    match config.swap {
        Swap::Refuse => Check::fail(NAME, found, fix),
        Swap::Warn => Check::warn(NAME, found, fix),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const NONE: &str = "Filename\tType\tSize\tUsed\tPriority\n";
    const ONE: &str = "Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition\t8388604\t0\t-2\n";

    #[test]
    fn swap_is_told_or_refused_unless_memory_is_locked() {
        let (warn, refuse) = (Process::default(), Process { swap: Swap::Refuse, ..Process::default() });
        for (config, swaps, locks, verdict) in [
            (warn, Some(NONE), false, Verdict::Pass),
            (refuse, Some(NONE), false, Verdict::Pass),
            (warn, Some(ONE), true, Verdict::Pass),
            (warn, Some(ONE), false, Verdict::Warn),
            (refuse, Some(ONE), true, Verdict::Pass),
            (refuse, Some(ONE), false, Verdict::Fail),
            (warn, None, false, Verdict::Warn),
        ] {
            let check = swap(config, swaps, locks);
            assert_eq!(check.verdict, verdict, "{config:?} {swaps:?} {locks}: {}", check.found);
        }
        let check = swap(refuse, Some(ONE), false);
        assert!(check.found.contains("/dev/sda2") && check.fix.contains("swapoff"), "{check:?}");
    }

    #[test]
    fn allowed_core_dumps_are_told() {
        let check = core_dumps(Process { core_dumps: CoreDumps::Allow, ..Process::default() });
        assert_eq!(check.verdict, Verdict::Warn);
        assert!(check.fix.contains("process.core_dumps"));
    }
}
