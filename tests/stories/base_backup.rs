//! PostgreSQL servers of a test's own: physical copies of the one that tests are given, and new ones.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
        let port = free_port();
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
    let mut command = as_server(&pg_program("pg_ctl"));
    command.args([verb, "--silent", "--pgdata"]).arg(folder.join("data")).current_dir(folder);
    command
}

impl Drop for BaseBackup {
    fn drop(&mut self) {
        let _ = control(self.folder.path(), "stop").args(["--mode", "immediate"]).output();
    }
}

/// A server made from nothing, which archives its log, or a standby of one. Stopped when dropped.
pub struct Cluster {
    folder: Arc<TempDir>,
    port: u16,
    data: &'static str,
}

impl Cluster {
    pub fn make() -> Self {
        let folder = Arc::new(tempfile::Builder::new().prefix("lacuna-cluster-").tempdir_in("/tmp").unwrap());
        if is_root() {
            run(Command::new("chown").args(["-R", account()]).arg(folder.path()));
        }
        let cluster = Self { folder, port: free_port(), data: "data" };
        cluster.shell("mkdir archive");
        cluster.shell("initdb --pgdata=data --auth=trust --username=postgres --no-sync --encoding=UTF8 --locale=C");
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\nwal_level = replica\n\
             archive_mode = on\narchive_command = 'cp %p {}/%f'\n",
            cluster.port,
            cluster.path("archive")
        );
        cluster.shell(&format!("cat >> data/postgresql.conf <<'END'\n{settings}END"));
        cluster.shell("pg_ctl start --pgdata=data --wait --silent --log=log");
        cluster.shell(&format!("createdb --host=127.0.0.1 --port={} --username=postgres vault", cluster.port));
        cluster
    }

    /// A standby that follows this server.
    pub fn stand_by(&self) -> Self {
        let standby = Self { folder: Arc::clone(&self.folder), port: free_port(), data: "standby" };
        let copy = "pg_basebackup --checkpoint=fast --no-sync --write-recovery-conf --pgdata=standby";
        standby.shell(&format!("{copy} --dbname={}", self.url()));
        standby.shell(&format!("echo 'port = {}' >> standby/postgresql.auto.conf", standby.port));
        standby.shell("pg_ctl start --pgdata=standby --wait --silent --log=standby-log");
        standby
    }

    /// Waits until this standby has all that the primary has committed.
    pub fn await_caught_up(&self, primary: &Self) {
        let present = primary.ask("SELECT pg_current_wal_lsn()");
        self.await_true(&format!("SELECT pg_last_wal_replay_lsn() >= '{present}'"));
    }

    /// Lets this standby hear nothing more.
    pub fn cut_off(&self) {
        self.ask("ALTER SYSTEM SET primary_conninfo = ''");
        self.ask("SELECT pg_reload_conf()");
        self.await_true("SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)");
    }

    /// The server is gone from one moment to the next.
    pub fn fail(&mut self) {
        run(&mut self.stop());
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/vault", self.port)
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Where its files are.
    pub fn data(&self) -> String {
        self.path(self.data)
    }

    /// Runs a line as the server's account, with PostgreSQL's programs in the path.
    pub fn shell(&self, line: &str) {
        let programs = pg_program("pg_ctl").parent().unwrap().display().to_string();
        let line = format!("PATH=\"{programs}:$PATH\"; umask 077; {line}");
        run(as_server(Path::new("sh")).args(["-c", &line]).current_dir(self.folder.path()));
    }

    /// What it answers to a statement.
    pub fn ask(&self, statement: &str) -> String {
        run(pg("psql", &self.url()).args(["--no-psqlrc", "--tuples-only", "--quiet", "--command", statement]))
    }

    /// Tells in which directory it runs now.
    pub fn moved_to(&mut self, data: &'static str) {
        self.data = data;
    }

    /// Waits until it has recovered and takes writes.
    pub fn await_recovered(&self) {
        self.await_true("SELECT NOT pg_is_in_recovery()");
    }

    fn await_true(&self, statement: &str) {
        let begun = Instant::now();
        while self.ask(statement) != "t" {
            assert!(begun.elapsed() < Duration::from_mins(1), "{statement}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(&self) -> Command {
        let mut stop = as_server(&pg_program("pg_ctl"));
        stop.args(["stop", "--silent", "--mode", "immediate", "--pgdata", &self.data()])
            .current_dir(self.folder.path());
        stop
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.stop().output();
    }
}

/// A program run as somebody whom the server accepts: it refuses to be root.
fn as_server(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let account = account();
    let mut command = Command::new("setpriv");
    let group = run(Command::new("id").args(["-g", account]));
    command.args([format!("--reuid={account}"), format!("--regid={group}"), "--clear-groups".to_owned()]);
    command.arg(program);
    command
}

fn is_root() -> bool {
    run(Command::new("id").arg("-u")) == "0"
}

fn account() -> &'static str {
    let users = fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
    if users.lines().any(|line| line.starts_with("postgres:")) { "postgres" } else { "nobody" }
}
