//! What is asked of the operating system.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit, test_kill_process};
use rustix::time::{ClockId, clock_gettime};

/// How long the machine has been up, the time that it was suspended included. Never goes back, whatever is done to
/// the clock on the wall.
#[must_use]
pub fn uptime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// How long this process has computed, on all cores together.
#[must_use]
pub fn computed() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
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
    format!("{} {id} {}", surroundings().unwrap_or_default(), begun(id).unwrap_or_default())
}

/// Whether a process, by what [`this_process`] said there, has certainly ended. One elsewhere cannot be told.
#[must_use]
pub fn has_ended(process: &str) -> bool {
    let Some(rest) = surroundings().and_then(|here| process.strip_prefix(&here)) else { return false };
    let mut words = rest.split_whitespace();
    let (Some(id), Some(then)) = (words.next().and_then(|id| id.parse().ok()), words.next()) else { return false };
    // A process that is hidden from this one still takes signals, or refuses them.
    let gone = Pid::from_raw(id).is_some_and(|id| test_kill_process(id) == Err(Errno::SRCH));
    gone || begun(id.unsigned_abs()).is_some_and(|now| now != then)
}

/// Gives up, for the rest of this process, being dumped when it crashes and being traced by others of the same account.
/// What the system does not let it give up, [`refuses_dumps`] tells.
pub fn refuse_dumps() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    memory::refuse_dumps();
}

/// Whether this process gave up being dumped and traced; `None` where the system knows no such thing.
#[must_use]
pub fn refuses_dumps() -> Option<bool> {
    memory::refuses_dumps()
}

/// Whether all memory, however much, may be kept out of swap. With a limit, what goes beyond it would be refused.
#[must_use]
pub fn may_lock_memory() -> bool {
    getrlimit(Resource::Memlock).current.is_none()
}

/// Keeps all memory of this process out of swap, as far as the system lets it.
pub fn lock_memory() {
    memory::lock();
}

/// Lets this process have so many files open, as far as the system lets it; answers how many it may have.
#[must_use]
pub fn allow_open_files(files: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < files) {
        let wanted = limit.maximum.map_or(files, |maximum| files.min(maximum));
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether this process may make and replace files in a directory.
pub fn may_write(directory: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Makes a file in a directory that has no name, readable by its owner only: it is gone when it is closed, however this process
/// ends. An error where the system, or the file system, knows no such file.
pub fn nameless_file(directory: &Path) -> io::Result<fs::File> {
    nameless::make(directory)
}

/// Gives such a file a name in the directory that it was made in. A name that something has is refused.
pub fn name_file(file: &fs::File, path: &Path) -> io::Result<()> {
    nameless::name(file, path)
}

#[cfg(target_os = "linux")]
mod nameless {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd as _;
    use std::path::Path;

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

    pub fn make(directory: &Path) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        Ok(open(directory, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    pub fn name(file: &File, path: &Path) -> io::Result<()> {
        let open = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod nameless {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    pub fn make(_: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn name(_: &File, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(target_os = "linux")]
mod memory {
    use rustix::mm::{MlockAllFlags, mlockall};
    use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};

    pub fn refuse_dumps() {
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }

    pub fn refuses_dumps() -> Option<bool> {
        dumpable_behavior().ok().map(|behaviour| behaviour == DumpableBehavior::NotDumpable)
    }

    /// Pages are locked when they are first used, so that nothing takes room before it is needed.
    pub fn lock() {
        let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    }
}

#[cfg(not(target_os = "linux"))]
mod memory {
    pub const fn refuse_dumps() {}

    pub const fn refuses_dumps() -> Option<bool> {
        None
    }

    pub const fn lock() {}
}

/// What two processes have in common if they can look at each other; `None` where that cannot be told.
fn surroundings() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {} {}", host(), boot.trim(), space.display()))
}

/// When a process began, in ticks since the machine did; `None` when it cannot be seen. Of one that has ended and was
/// not waited for, the remains began at no time.
fn begun(id: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let begun = fields.nth(18)?;
    Some(if matches!(state, "Z" | "X") { "-".to_owned() } else { begun.to_owned() })
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
        let name = format!("{} {} {}", surroundings().unwrap(), child.id(), begun(child.id()).unwrap());
        assert!(!has_ended(&name));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_ended(&name));
        assert!(!has_ended("another-machine pid:[1] 1 1"), "what runs elsewhere cannot be told");
    }
}
