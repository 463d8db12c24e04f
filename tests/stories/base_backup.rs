//! A physical copy of a PostgreSQL server, brought up beside it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::hoard::{pg, pg_program, run};

/// A second server on a copy of the first one's files. Stopped when dropped.
pub struct BaseBackup {
    folder: TempDir,
    /// The database in it.
    pub url: String,
}

impl BaseBackup {
    /// Copies the server that `url` is on with `pg_basebackup` and starts the copy.
    pub fn start(url: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("lacuna-base-").tempdir_in("/tmp").unwrap();
        let data = folder.path().join("data");
        let copy = || {
            let mut command = pg("pg_basebackup", url);
            command.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync", "--pgdata"]).arg(&data);
            command
        };
        // Another test may cut all connections to the server, this one among them.
        if !copy().output().unwrap().status.success() {
            let _ = fs::remove_dir_all(&data);
            run(&mut copy());
        }
        if is_root() {
            run(Command::new("chown").args(["-R", account()]).arg(folder.path()));
        }
        Self::bring_up(folder, url)
    }

    /// A new server with nothing in it, and without `fsync` like the copies.
    pub fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("lacuna-empty-").tempdir_in("/tmp").unwrap();
        if is_root() {
            run(Command::new("chown").arg(account()).arg(folder.path()));
        }
        let options = "--auth=trust --username=lacuna --encoding=UTF8 --locale=C --no-sync";
        run(control(folder.path(), "initdb").args(["--options", options]));
        Self::bring_up(folder, "postgres://lacuna@127.0.0.1/postgres")
    }

    fn bring_up(folder: TempDir, url: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut here = url::Url::parse(url).unwrap();
        here.set_port(Some(port)).unwrap();
        here.set_host(Some("127.0.0.1")).unwrap();
        let options = format!("-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= -c fsync=off");
        let server = Self { folder, url: here.into() };
        run(control(server.folder.path(), "start").args(["--log", "log", "--wait", "--options", &options]));
        server
    }

    /// The files of the one database, and the log of all of them.
    pub fn places(&self, oid: &str) -> [PathBuf; 2] {
        [self.data().join("base").join(oid), self.data().join("pg_wal")]
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// `pg_ctl`, as somebody whom the server accepts: it refuses to be root.
fn control(folder: &Path, verb: &str) -> Command {
    let program = pg_program("pg_ctl");
    let mut command = if is_root() {
        let account = account();
        let mut command = Command::new("setpriv");
        let group = run(Command::new("id").args(["-g", account]));
        command.args([format!("--reuid={account}"), format!("--regid={group}"), "--clear-groups".to_owned()]);
        command.arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args([verb, "--silent", "--pgdata"]).arg(folder.join("data")).current_dir(folder);
    command
}

impl Drop for BaseBackup {
    fn drop(&mut self) {
        let _ = control(self.folder.path(), "stop").args(["--mode", "immediate"]).output();
    }
}

fn is_root() -> bool {
    run(Command::new("id").arg("-u")) == "0"
}

fn account() -> &'static str {
    let users = fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
    if users.lines().any(|line| line.starts_with("postgres:")) { "postgres" } else { "nobody" }
}
