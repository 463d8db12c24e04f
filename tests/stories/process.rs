//! The real program as a server, on either store: what stories start, speak to, kill and start again.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

/// How long a server may take to start, to stop, or a program to end. A healthy one takes a second.
const PATIENCE: Duration = Duration::from_mins(1);

/// A setting of `tests/run`, if the tests run under it.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration but this")]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Says on the real standard error, which the test harness does not swallow, that something was not tested.
pub fn skipped(what: &str, setting: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}: {setting} is not set; `tests/run` sets it");
}

/// The program, ready to be given arguments. It sees nothing of the environment's settings for Lacuna.
pub fn lacuna() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lacuna"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LACUNA_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a program to its end and keeps what it said.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.code().is_some(), "{command:?} was killed: {}", said(&output));
    output
}

/// Both outputs of a program, for a message.
pub fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{err}", output.status)
}

/// A folder for a vault: its data, its root slot, and its log, in places of their own.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn slot(&self) -> PathBuf {
        self.path().join("slot")
    }

    /// The bearer token that a vault without configuration writes for its developer.
    pub fn token(&self) -> PathBuf {
        self.data().join("dev-token")
    }

    /// What servers here said on standard error, all of them one after the other.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    /// `lacuna serve` here, on a free port, ready to be given more arguments.
    pub fn serve(&self, database: Option<&str>) -> Command {
        let log = fs::File::options().create(true).append(true).open(self.path().join("log")).unwrap();
        let mut command = lacuna();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(self.data());
        command.arg("--slot-dir").arg(self.slot()).current_dir(self.path()).stderr(log);
        if let Some(url) = database {
            command.args(["--database-url", url]);
        }
        command
    }

    /// Starts a server here and waits until it listens.
    pub fn start(&self, database: Option<&str>) -> Server {
        Server::start(&mut self.serve(database)).unwrap_or_else(|fault| panic!("{fault}\n{}", self.log()))
    }
}

/// What the servers said last tells why a story fails.
impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the log of the servers here ends with\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

/// A running server. Dropped, it is killed, as a power cut would.
pub struct Server {
    child: Child,
    address: String,
    output: Arc<Mutex<String>>,
}

impl Server {
    /// Starts it and waits for its first line, `listening on ADDRESS`; answers what came instead.
    pub fn start(command: &mut Command) -> Result<Self, String> {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        // Kills the child if what follows panics.
        let mut server = Self { child, address: String::new(), output: Arc::default() };
        let kept = Arc::clone(&server.output);
        let (send, lines) = mpsc::channel();
        // Reads to the end, so that the server never waits for somebody to read.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                writeln!(kept.lock().unwrap(), "{line}").unwrap();
                let _ = send.send(line);
            }
        });
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => match line.strip_prefix("listening on ") {
                Some(address) => address.clone_into(&mut server.address),
                None => return Err(format!("the server's first line is {line:?}")),
            },
            Err(RecvTimeoutError::Timeout) => return Err(format!("the server said nothing for {PATIENCE:?}")),
            Err(RecvTimeoutError::Disconnected) => return Err(format!("the server ended: {}", server.wait())),
        }
        Ok(server)
    }

    /// Where it listens, as `127.0.0.1:50051`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it has said on standard output until now.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// The program as a client of this server.
    pub fn client(&self, place: &Place) -> Command {
        let mut command = lacuna();
        command.env("LACUNA_ADDRESS", format!("http://{}", self.address)).env("LACUNA_TOKEN_FILE", place.token());
        command
    }

    /// Asks it to stop, as a service manager does, and answers how it ended.
    pub fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// Asks it to stop, and does not wait.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        // Of the shell, because `kill` is in no package that every system has.
        let arguments = ["-c", "kill -\"$0\" \"$1\"", name, &self.child.id().to_string()];
        assert!(Command::new("sh").args(arguments).status().unwrap().success(), "the server has ended before {name}");
    }

    /// Lets no file of it grow beyond so many bytes, as on a full disk; `None` lifts that. It must ignore `SIGXFSZ`.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        // The soft limit alone, so that it can be lifted by anybody.
        let arguments = [format!("--pid={}", self.child.id()), format!("--fsize={limit}:")];
        assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An empty database on the PostgreSQL that the tests were given, dropped with it.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// `None`, and a notice, without a PostgreSQL.
    pub fn create(story: &str) -> Option<Self> {
        let Some(server) = setting("LACUNA_TEST_POSTGRES") else {
            skipped(&format!("{story} on PostgreSQL"), "LACUNA_TEST_POSTGRES");
            return None;
        };
        Some(Self::named(server, ""))
    }

    fn named(server: String, how: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lacuna_story_{}_{count}", std::process::id());
        execute(&server, &format!("CREATE DATABASE {name} {how}")).unwrap();
        Self { server, name }
    }

    /// A copy, raw, of a database that nobody is connected to.
    pub fn copy(&self) -> Self {
        Self::named(self.server.clone(), &format!("TEMPLATE {}", self.name))
    }

    /// Loses all that is in it.
    pub fn empty(&self) {
        execute(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).unwrap();
        execute(&self.server, &format!("CREATE DATABASE {}", self.name)).unwrap();
    }

    /// What `--database-url` takes.
    pub fn url(&self) -> String {
        let (before, _) = self.server.rsplit_once('/').unwrap();
        format!("{before}/{}", self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let dropped = execute(&self.server, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        if !std::thread::panicking() {
            dropped.unwrap();
        }
    }
}

/// Makes every statement of this kind fail, as a broken disk might, or a full one.
pub fn forbid(url: &str, event: &str, table: &str) {
    let statements = if url.starts_with("sqlite:") {
        format!("CREATE TRIGGER forbidden BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, 'forbidden'); END")
    } else {
        format!(
            "CREATE OR REPLACE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'forbidden' USING ERRCODE = 'disk_full'; END $$; \
             CREATE TRIGGER forbidden BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION forbid()"
        )
    };
    execute(url, &statements).unwrap();
}

/// Lets them succeed again.
pub fn allow(url: &str, table: &str) {
    let on = if url.starts_with("sqlite:") { String::new() } else { format!(" ON {table}") };
    execute(url, &format!("DROP TRIGGER forbidden{on}")).unwrap();
}

/// Copies a SQLite database while nobody writes to it: file and log, copied one after the other, belong together then.
pub fn between_writes(database: &Path, copy: impl FnOnce() + Send) {
    let url = format!("sqlite:{}", database.display());
    beside(async || {
        let mut connection = SqliteConnection::connect(&url).await?;
        sqlx::raw_sql("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE").execute(&mut connection).await?;
        copy();
        sqlx::raw_sql("ROLLBACK").execute(&mut connection).await?;
        connection.close().await
    })
    .unwrap();
}

/// Runs statements on a database, beside whoever uses it.
pub fn execute(url: &str, sql: &str) -> Result<(), sqlx::Error> {
    beside(async || {
        if url.starts_with("sqlite:") {
            let mut connection = SqliteConnection::connect(url).await?;
            let sql = format!("PRAGMA busy_timeout = 10000; {sql}");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
            return connection.close().await;
        }
        let mut connection = PgConnection::connect(url).await?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        connection.close().await
    })
}

/// Does something in a thread of its own, so that a story with a runtime may do it too.
fn beside(work: impl AsyncFnOnce() -> Result<(), sqlx::Error> + Send) -> Result<(), sqlx::Error> {
    std::thread::scope(|scope| {
        let task = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work())
        });
        task.join().unwrap()
    })
}
