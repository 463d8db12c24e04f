//! The runbook of `docs/operating.md`, command by command, through the real program. A story names the section that it
//! follows, runs every line of its commands in the order of need, and checks that people came through.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::base_backup::Cluster;
use crate::hoard::{copy_tree, pg_program, run};
use crate::process::{self, Database, Server, lacuna, said, setting, skipped};
use crate::softhsm;

const DOCUMENT: &str = include_str!("../../docs/operating.md");

/// What waits is tried again within a minute.
const PATIENCE: Duration = Duration::from_mins(1);

/// The sections of the runbook, each with its commands.
fn sections() -> Vec<(&'static str, Vec<&'static str>)> {
    let (_, runbook) = DOCUMENT.split_once("\n## Runbook\n").unwrap();
    let (runbook, _) = runbook.split_once("\n## ").unwrap();
    let section = |text: &'static str| {
        let (name, text) = text.split_once('\n').unwrap();
        let blocks = text.split("\n```").skip(1).step_by(2).flat_map(str::lines);
        let command = |line: &'static str| line.split(" #").next().unwrap().trim();
        (name, blocks.map(command).filter(|line| !line.is_empty() && !line.starts_with('#')).collect())
    };
    runbook.split("\n### ").skip(1).map(section).collect()
}

/// A section that is being followed. All of its commands must have been used when it is dropped.
struct Section {
    name: &'static str,
    commands: Vec<&'static str>,
    used: BTreeSet<&'static str>,
}

impl Section {
    fn named(name: &str) -> Self {
        let found = sections().into_iter().find(|(found, _)| *found == name);
        let (name, commands) = found.unwrap_or_else(|| panic!("the runbook has no section {name:?}"));
        Self { name, commands, used: BTreeSet::new() }
    }

    /// Takes a command of the section, with something in place of its words in capitals.
    fn command(&mut self, line: &str, words: &[(&str, &str)]) -> String {
        let known = self.commands.iter().find(|known| **known == line);
        let known = *known.unwrap_or_else(|| panic!("{} does not say {line:?}, but {:?}", self.name, self.commands));
        self.used.insert(known);
        words.iter().fold(line.to_owned(), |line, (word, meant)| line.replace(word, meant))
    }

    /// Has the shell run a command of the section, which must succeed.
    fn shell(&mut self, line: &str, words: &[(&str, &str)]) {
        run(Command::new("sh").args(["-c", &self.command(line, words)]));
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        let left: Vec<_> = self.commands.iter().filter(|command| !self.used.contains(*command)).collect();
        assert!(std::thread::panicking() || left.is_empty(), "{}: nobody ran {left:?}", self.name);
    }
}

/// A vault with a mirror, a KEK elsewhere and two sinks, as an operator has it.
struct Site {
    folder: tempfile::TempDir,
    /// By name, below the folder.
    mirror: &'static str,
    data: &'static str,
    slot: &'static str,
    more: String,
    database: Option<String>,
    server: Option<Server>,
}

/// Somebody, by pseudonym.
struct Person {
    subject: String,
    token: String,
    mail: String,
}

impl Site {
    fn new(database: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for sink in ["sink-a", "sink-b"] {
            fs::create_dir(folder.path().join(sink)).unwrap();
        }
        let database = database.map(str::to_owned);
        let (mirror, data, slot) = ("mirror", "data", "slot");
        Self { folder, mirror, data, slot, more: String::new(), database, server: None }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// What `$EDITOR "$LACUNA_CONFIG"` leaves behind.
    fn configure(&self) {
        let mirror = if self.more.contains("pkcs11") { String::new() } else { format!("{:?}", self.text(self.mirror)) };
        let database = self.database.as_ref().map(|url| format!("database_url = {url:?}\n")).unwrap_or_default();
        let text = format!(
            "data_dir = {:?}\nlisten = \"127.0.0.1:0\"\nindex_buckets = 64\n{database}[slot]\ndirectory = {:?}\nmirrors = [{mirror}]\n\
             kek_file = {:?}\n{}\n[[sinks]]\ndirectory = {:?}\n[[sinks]]\ndirectory = {:?}\n",
            self.text(self.data),
            self.text(self.slot),
            self.text(&format!("{}-kek/kek.key", self.slot)),
            self.more,
            self.text("sink-a"),
            self.text("sink-b"),
        );
        fs::write(self.at("lacuna.toml"), text).unwrap();
    }

    /// `lacuna`, as the operator has it in their shell.
    fn lacuna(&self, arguments: &str) -> Command {
        let mut command = lacuna();
        command.env("LACUNA_CONFIG", self.at("lacuna.toml")).current_dir(self.folder.path());
        command.env("LACUNA_TOKEN_FILE", self.at(self.data).join("dev-token"));
        if let Some(server) = &self.server {
            command.env("LACUNA_ADDRESS", format!("http://{}", server.address()));
        }
        command.env("SOFTHSM2_CONF", softhsm::conf(&self.at("hsm")));
        // The programs of PostgreSQL come from wherever the tests have theirs.
        let programs = pg_program("pg_dump").parent().unwrap().to_owned();
        let path = setting("PATH").unwrap_or_default();
        let folders = std::iter::once(programs).chain(std::env::split_paths(&path)).filter(|path| path.is_absolute());
        command.env("PATH", std::env::join_paths(folders).unwrap());
        command.args(arguments.split_whitespace());
        command
    }

    /// Runs a `lacuna` line of a section and answers how it ended.
    fn follow(&self, section: &mut Section, line: &str, words: &[(&str, &str)]) -> Output {
        let command = section.command(line, words);
        process::run(&mut self.lacuna(command.strip_prefix("lacuna ").unwrap()))
    }

    /// The same, which must succeed.
    fn succeed(&self, section: &mut Section, line: &str, words: &[(&str, &str)]) -> String {
        let output = self.follow(section, line, words);
        assert!(output.status.success(), "{line}: {}\n{}", said(&output), self.log());
        said(&output)
    }

    /// The same, which must fail and say why.
    fn fail(&self, section: &mut Section, line: &str, words: &[(&str, &str)], why: &str) {
        let output = self.follow(section, line, words);
        assert!(!output.status.success() && said(&output).contains(why), "{line}: {}", said(&output));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    fn try_start(&mut self) -> Result<(), String> {
        self.configure();
        let log = fs::File::options().create(true).append(true).open(self.at("log")).unwrap();
        self.server = Some(Server::start(self.lacuna("serve").stderr(log))?);
        Ok(())
    }

    fn start(&mut self) {
        self.try_start().unwrap_or_else(|fault| panic!("{fault}\n{}", self.log()));
    }

    fn stop(&mut self) {
        assert!(self.server.take().unwrap().stop().success());
    }

    /// `systemctl`, of the section.
    fn systemctl(&mut self, section: &mut Section, verb: &str) {
        section.command(&format!("systemctl {verb} lacuna"), &[]);
        if self.server.is_some() {
            self.stop();
        }
        if verb != "stop" {
            self.start();
        }
    }

    fn edit(&self, section: &mut Section) {
        section.command("$EDITOR \"$LACUNA_CONFIG\"", &[]);
        self.configure();
    }

    fn ask(&self, arguments: &str) -> Result<Value, String> {
        let output = process::run(self.lacuna(arguments).args(["--output", "json"]));
        let json = serde_json::from_slice(&output.stdout).map_err(|_| said(&output))?;
        if output.status.success() { Ok(json) } else { Err(said(&output)) }
    }

    fn somebody(&self, name: &str) -> Person {
        let mail = format!("{name}@example.com");
        let created = self.ask(&format!("token create --source test:runbook email={mail}")).unwrap();
        let text = |name: &str| created["tokens"][0][name].as_str().unwrap().to_owned();
        Person { subject: text("subject"), token: text("token"), mail }
    }

    fn people<const N: usize>(&self, names: [&str; N]) -> [Person; N] {
        let people = names.map(|name| self.somebody(name));
        for person in &people {
            self.assert_readable(person);
        }
        people
    }

    fn reveal(&self, person: &Person) -> Result<Value, String> {
        self.ask(&format!("token reveal --purpose customer_care {}", person.token))
    }

    fn assert_readable(&self, person: &Person) {
        assert_eq!(self.reveal(person).unwrap()["results"][0]["value"], person.mail);
    }

    fn assert_refused(&self, person: &Person, reason: &str) {
        let why = self.reveal(person).unwrap_err();
        assert!(why.contains(reason), "{} is {why}", person.mail);
    }

    /// Asks for an erasure and answers its id, and its state or why it waits.
    fn erase(&self, person: &Person) -> (String, String) {
        let answer = self.ask(&format!("subject erase --reason art17_1_b --yes {}", person.subject)).unwrap();
        let erasure = &answer["erasure"];
        let text = |name: &str| erasure[name].as_str().unwrap().to_owned();
        (text("erasure"), format!("{} {}", text("state"), text("pending_reason")))
    }

    fn assert_erases(&self, person: &Person) {
        let (_, state) = self.erase(person);
        assert!(state.contains("SHREDDED"), "{state}");
        self.assert_refused(person, "SUBJECT_ERASED");
    }

    /// An erasure that cannot be completed now, because of `what`.
    fn assert_erasure_waits(&self, person: &Person, what: &str) -> String {
        let (id, state) = self.erase(person);
        assert!(state.contains("PENDING") && state.contains(what), "{state}");
        self.assert_refused(person, "ERASURE_PENDING");
        id
    }

    /// Waits until the vault has completed an erasure by itself.
    fn await_shredded(&self, section: &mut Section, erasure: &str, person: &Person) {
        let begun = Instant::now();
        let line = "lacuna erasure show ERASURE";
        while !self.succeed(section, line, &[("ERASURE", erasure)]).contains("shredded") {
            assert!(
                begun.elapsed() < PATIENCE,
                "{}\n{}",
                self.ask(&format!("erasure show {erasure}")).unwrap(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        self.assert_refused(person, "SUBJECT_ERASED");
    }

    /// What has to be so after everything that may befall a vault.
    fn assert_well(&self, living: &[&Person], erased: &[&Person]) {
        for person in living {
            self.assert_readable(person);
        }
        for person in erased {
            self.assert_refused(person, "SUBJECT_ERASED");
        }
        let newcomer = self.somebody("newcomer");
        self.assert_readable(&newcomer);
        self.assert_erases(&newcomer);
        for person in living {
            self.assert_readable(person);
        }
    }
}

/// Tells a story on both stores.
fn on_both(what: &str, story: fn(Option<&Database>)) {
    story(None);
    if let Some(database) = Database::create(what) {
        story(Some(&database));
    }
}

#[test]
fn a_mirror_of_the_slot_is_gone() {
    let mut section = Section::named("A mirror of the root slot is gone");
    let mut site = Site::new(None);
    site.start();
    let [ada, bob, cyd] = site.people(["ada", "bob", "cyd"]);

    fs::rename(site.at("mirror"), site.at("away")).unwrap();
    let erasure = site.assert_erasure_waits(&ada, "mirror");
    site.fail(&mut section, "lacuna keys status", &[], "mirror");
    site.assert_readable(&bob);
    // The disk comes back as it went, with the old root in it.
    let old = fs::read(site.at("away/root.slot")).unwrap();
    fs::rename(site.at("away"), site.at("mirror")).unwrap();
    site.await_shredded(&mut section, &erasure, &ada);
    site.succeed(&mut section, "lacuna keys status", &[]);
    assert_ne!(fs::read(site.at("mirror/root.slot")).unwrap(), old, "the mirror has forgotten the old root");

    fs::remove_dir_all(site.at("mirror")).unwrap();
    let erasure = site.assert_erasure_waits(&bob, "mirror");
    section.shell("mkdir -m 700 NEW_MIRROR", &[("NEW_MIRROR", &site.text("new-mirror"))]);
    site.mirror = "new-mirror";
    site.edit(&mut section);
    site.systemctl(&mut section, "restart");
    site.await_shredded(&mut section, &erasure, &bob);
    site.succeed(&mut section, "lacuna keys status", &[]);
    assert!(site.at("new-mirror/root.slot").exists());
    site.assert_well(&[&cyd], &[&ada, &bob]);
}

#[test]
fn every_copy_of_the_slot_is_gone() {
    let mut section = Section::named("Every copy of the root slot is gone");
    let mut site = Site::new(None);
    site.start();
    let [ada] = site.people(["ada"]);
    run(&mut site.lacuna("backup backup"));
    site.stop();
    fs::remove_file(site.at("slot/root.slot")).unwrap();
    // One copy would have been enough.
    site.start();
    site.assert_readable(&ada);
    site.stop();
    for copy in ["slot/root.slot", "mirror/root.slot"] {
        let _the_one_may_be_gone_already = fs::remove_file(site.at(copy));
    }
    assert!(site.try_start().is_err() && site.log().contains("root slot is empty"), "{}", site.log());
    site.fail(&mut section, "lacuna keys status", &[], "root slot is empty");
    let refused = process::run(&mut site.lacuna("restore backup --replace"));
    assert!(!refused.status.success() && said(&refused).contains("root slot is empty"), "{}", said(&refused));

    (site.data, site.slot, site.mirror) = ("new-data", "new-slot", "new-mirror");
    for sink in ["sink-a", "sink-b"] {
        fs::rename(site.at(sink), site.at(&format!("old-{sink}"))).unwrap();
        fs::create_dir(site.at(sink)).unwrap();
    }
    site.edit(&mut section);
    site.succeed(&mut section, "lacuna init", &[]);
    site.systemctl(&mut section, "start");
    site.assert_refused(&ada, "TOKEN_UNKNOWN");
    site.assert_well(&[&site.somebody("bob")], &[]);
}

#[test]
fn the_key_that_signs_receipts_is_lost() {
    let mut section = Section::named("The key that signs receipts is lost");
    let mut site = Site::new(None);
    site.start();
    let [ada, bob, cyd] = site.people(["ada", "bob", "cyd"]);
    let (erasure, _) = site.erase(&ada);
    let receipt = |site: &Site, erasure: &str, name: &str| {
        site.ask(&format!("erasure receipt {erasure} --file {}", site.text(name))).unwrap();
        site.text(name)
    };
    let before = receipt(&site, &erasure, "before.json");
    site.stop();
    fs::copy(site.at("slot/receipt-signing.pub"), site.at("published.pub")).unwrap();

    // A mirror that is new gets a copy, and is enough.
    site.mirror = "new-mirror";
    site.start();
    fs::remove_file(site.at("slot/receipt-signing.key")).unwrap();
    site.stop();
    site.start();
    site.assert_erases(&bob);
    assert_eq!(
        fs::read(site.at("slot/receipt-signing.pub")).unwrap(),
        fs::read(site.at("new-mirror/receipt-signing.pub")).unwrap()
    );
    let refused = process::run(&mut site.lacuna("keys make-signing-key"));
    assert!(!refused.status.success() && said(&refused).contains("there is one"), "{}", said(&refused));
    site.systemctl(&mut section, "stop");
    for place in ["slot", "new-mirror"] {
        for file in ["receipt-signing.key", "receipt-signing.pub"] {
            fs::remove_file(site.at(place).join(file)).unwrap();
        }
    }
    assert!(site.try_start().is_err() && site.log().contains("make-signing-key"), "{}", site.log());

    let words = [("PUBLISHED", site.text("published.pub")), ("SLOT", site.text("slot"))];
    let words = [(words[0].0, words[0].1.as_str()), (words[1].0, words[1].1.as_str())];
    section.shell("cp PUBLISHED SLOT/receipt-signing.pub", &words);
    site.succeed(&mut section, "lacuna keys make-signing-key", &[]);
    site.systemctl(&mut section, "start");
    let (erasure, _) = site.erase(&cyd);
    let after = receipt(&site, &erasure, "after.json");
    let list = site.text("slot/receipt-signing.pub");
    for receipt in [before, after] {
        run(&mut site.lacuna(&format!("receipt verify --public-key {list} {receipt}")));
    }
    assert_eq!(fs::read_to_string(list).unwrap().lines().count(), 2);
    site.assert_well(&[], &[&ada, &bob, &cyd]);
}

#[test]
fn a_sink_is_lost() {
    on_both("a lost sink", |database| {
        let mut section = Section::named("A checkpoint sink is lost");
        let mut site = Site::new(database.map(Database::url).as_deref());
        site.start();
        let [ada, bob] = site.people(["ada", "bob"]);
        fs::remove_dir_all(site.at("sink-b")).unwrap();
        let erasure = site.assert_erasure_waits(&ada, "sink-b");
        site.fail(&mut section, "lacuna keys status", &[], "sink-b");
        site.assert_readable(&bob);
        section.shell("mkdir -m 700 SINK", &[("SINK", &site.text("sink-b"))]);
        site.await_shredded(&mut section, &erasure, &ada);
        site.succeed(&mut section, "lacuna keys status", &[]);
        site.assert_well(&[&bob], &[&ada]);
    });
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and a notice, for somebody who may not mount.
    fn mount(path: PathBuf, kilobytes: u32, story: &str) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k,mode=0700"), "tmpfs"]).arg(&path);
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(path));
        }
        skipped(story, "the right to mount a file system");
        None
    }

    /// Leaves no room.
    fn fill(&self) {
        use std::io::Write as _;
        let mut filler = fs::File::create(self.0.join("filler")).unwrap();
        for size in [4096, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[test]
fn the_disk_of_a_sink_is_full() {
    let mut section = Section::named("The disk of a checkpoint sink is full");
    let mut site = Site::new(None);
    let Some(disk) = SmallDisk::mount(site.at("sink-b"), 1024, "a full sink") else {
        section.commands.clear();
        return;
    };
    site.start();
    let [ada, bob] = site.people(["ada", "bob"]);
    disk.fill();
    let erasure = site.assert_erasure_waits(&ada, "sink-b");
    site.assert_readable(&bob);
    section.shell("df SINK", &[("SINK", &site.text("sink-b"))]);
    disk.make_room();
    site.await_shredded(&mut section, &erasure, &ada);
    site.assert_well(&[&bob], &[&ada]);
    site.stop();
}

#[test]
fn the_disk_of_the_database_is_full() {
    let mut section = Section::named("The disk of the database is full");
    let mut site = Site::new(None);
    let Some(disk) = SmallDisk::mount(site.at("data"), 8192, "a full disk under the database") else {
        section.commands.clear();
        return;
    };
    site.start();
    let [ada, bob, cyd] = site.people(["ada", "bob", "cyd"]);
    site.assert_erases(&ada);
    disk.fill();
    section.shell("df DATA", &[("DATA", &site.text("data"))]);
    let mut refused = 0;
    // The log of the database may have room for a few more.
    let mut kept = Vec::new();
    while refused < 3 && kept.len() < 1000 {
        match site.ask("token create --source test:runbook text=more") {
            Ok(created) => kept.push(created),
            Err(why) => {
                assert!(why.contains("STORE_UNAVAILABLE"), "{why}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "there was room");
    let why = site.reveal(&bob).unwrap_err();
    assert!(why.contains("STORE_UNAVAILABLE") || why.contains("AUDIT_UNAVAILABLE"), "{why}");
    let outcome = site.ask(&format!("subject erase --reason art17_1_b --yes {}", cyd.subject));
    assert!(
        !outcome.is_ok_and(|answer| answer["erasure"]["state"] == "ERASURE_STATE_SHREDDED"),
        "it cannot be complete"
    );

    disk.make_room();
    site.succeed(&mut section, "lacuna keys status", &[]);
    site.assert_readable(&bob);
    site.assert_erases(&cyd);
    for created in &kept {
        let token = created["tokens"][0]["token"].as_str().unwrap();
        let revealed = site.ask(&format!("token reveal --purpose customer_care {token}")).unwrap();
        assert_eq!(revealed["results"][0]["value"], "more", "what was answered is there");
    }
    site.assert_well(&[&bob], &[&ada, &cyd]);
    site.stop();
    site.start();
    site.assert_well(&[&bob], &[&ada, &cyd]);
    site.stop();
}

#[test]
fn the_database_is_lost() {
    on_both("a lost database", |database| {
        let mut section = Section::named("The database is lost");
        let mut site = Site::new(database.map(Database::url).as_deref());
        site.start();
        let [ada, bob, eve] = site.people(["ada", "bob", "eve"]);
        site.assert_erases(&eve);
        run(&mut site.lacuna("backup backup"));
        site.assert_erases(&ada);
        let lost = site.somebody("lost");
        site.systemctl(&mut section, "stop");
        match database {
            None => fs::remove_dir_all(site.at("data")).unwrap(),
            Some(database) => database.empty(),
        }
        fs::create_dir_all(site.at("data")).unwrap();
        assert!(site.try_start().is_err(), "there is no vault without its database");
        let told = site.succeed(&mut section, "lacuna restore --replace BACKUP", &[("BACKUP", "backup")]);
        assert!(told.contains("erasures applied again      1\n"), "{told}");
        site.systemctl(&mut section, "start");
        site.succeed(&mut section, "lacuna keys status", &[]);
        site.assert_refused(&lost, "TOKEN_UNKNOWN");
        site.assert_well(&[&bob], &[&ada, &eve]);
    });
}

#[test]
fn a_standby_that_lags_takes_over() {
    if setting("LACUNA_TEST_POSTGRES").is_none() {
        return skipped("a failover", "LACUNA_TEST_POSTGRES");
    }
    let mut section = Section::named("A failover to a standby that lags");
    let mut primary = Cluster::make();
    let mut site = Site::new(Some(&primary.url()));
    site.start();
    let [ada, bob] = site.people(["ada", "bob"]);
    let standby = primary.stand_by();
    standby.await_caught_up(&primary);
    standby.cut_off();
    site.assert_erases(&ada);
    let lost = site.somebody("lost");
    primary.fail();
    site.systemctl(&mut section, "stop");
    standby.shell(&section.command("pg_ctl promote --pgdata=STANDBY", &[("STANDBY", &standby.data())]));
    site.database = Some(standby.url());
    site.edit(&mut section);
    site.systemctl(&mut section, "start");
    site.succeed(&mut section, "lacuna keys status", &[]);
    site.assert_refused(&lost, "TOKEN_UNKNOWN");
    site.assert_well(&[&bob], &[&ada]);
    site.stop();
}

#[test]
fn the_database_goes_back_to_a_point_in_time() {
    if setting("LACUNA_TEST_POSTGRES").is_none() {
        return skipped("point-in-time recovery", "LACUNA_TEST_POSTGRES");
    }
    let mut section = Section::named("Point-in-time recovery");
    let mut cluster = Cluster::make();
    let mut site = Site::new(Some(&cluster.url()));
    site.start();
    let [ada, bob] = site.people(["ada", "bob"]);
    let line = "pg_basebackup --checkpoint=fast --pgdata=BASE --dbname=URL";
    let (base, url, archive) = (cluster.path("base"), cluster.url(), cluster.path("archive"));
    cluster.shell(&section.command(line, &[("BASE", &base), ("URL", &url)]));
    let cyd = site.somebody("cyd");
    let time = cluster.ask("SELECT clock_timestamp()");
    site.assert_erases(&ada);
    let lost = site.somebody("lost");
    site.systemctl(&mut section, "stop");
    cluster.shell(&section.command("pg_ctl stop --pgdata=DATA", &[("DATA", &cluster.data())]));
    for setting in [
        "echo \"restore_command = 'cp ARCHIVE/%f %p'\" >> BASE/postgresql.auto.conf",
        "echo \"recovery_target_time = 'TIME'\" >> BASE/postgresql.auto.conf",
        "echo \"recovery_target_action = 'promote'\" >> BASE/postgresql.auto.conf",
        "touch BASE/recovery.signal",
    ] {
        cluster.shell(&section.command(setting, &[("BASE", &base), ("ARCHIVE", &archive), ("TIME", &time)]));
    }
    cluster.shell(&(section.command("pg_ctl start --pgdata=BASE", &[("BASE", &base)]) + " --wait --silent --log=log"));
    cluster.moved_to("base");
    cluster.await_recovered();
    site.systemctl(&mut section, "start");
    site.succeed(&mut section, "lacuna keys status", &[]);
    site.assert_refused(&lost, "TOKEN_UNKNOWN");
    site.assert_well(&[&bob, &cyd], &[&ada]);
    site.stop();
}

/// Whether the attack of a drill reads the sample of a backup, with a copy of the slot and none of its mirrors.
fn thief_reads(site: &Site, backup: &str, slot: &str) -> bool {
    let loot = site.at("thief.toml");
    let config = fs::read_to_string(site.at("lacuna.toml")).unwrap();
    fs::write(&loot, config.replace(&format!("mirrors = [{:?}]", site.text("mirror")), "")).unwrap();
    let arguments = format!("keys drill --backup {backup} --slot-dir {} --output json", site.text(slot));
    let output = process::run(site.lacuna(&arguments).env("LACUNA_CONFIG", loot));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let checks = report["checks"].as_array().unwrap();
    let attack = checks.iter().find(|check| check["check"] == "the attack reads whoever was not erased");
    attack.unwrap_or_else(|| panic!("{report}"))["held"] == true
}

#[test]
fn somebody_has_copied_the_slot() {
    let mut section = Section::named("Somebody has copied the root slot");
    let mut site = Site::new(None);
    site.start();
    let [ada, bob] = site.people(["ada", "bob"]);
    run(&mut site.lacuna("backup old-backup"));
    copy_tree(&site.at("slot"), &site.at("stolen"));
    assert!(thief_reads(&site, "old-backup", "stolen"), "with a copy of that time they read everybody");

    let create = "lacuna token create --source runbook:rotation text=rotation";
    site.succeed(&mut section, create, &[]);
    let created = site.ask(create.strip_prefix("lacuna ").unwrap()).unwrap();
    let subject = created["tokens"][0]["subject"].as_str().unwrap();
    let (quarantine, sinks) = (site.text("quarantine"), ["sink-a", "sink-b"]);
    for sink in sinks {
        let aside = format!("{quarantine}/{sink}");
        fs::create_dir_all(&aside).unwrap();
        section.shell("mv SINK/keys-* QUARANTINE", &[("SINK", &site.text(sink)), ("QUARANTINE", &aside)]);
    }
    let erase = "lacuna subject erase --reason runbook:stolen_slot --yes SUBJECT";
    site.succeed(&mut section, erase, &[("SUBJECT", subject)]);
    let late = site.somebody("late");
    site.succeed(&mut section, "lacuna keys status", &[]);
    site.succeed(&mut section, "lacuna backup NEW_BACKUP", &[("NEW_BACKUP", "new-backup")]);
    assert!(!thief_reads(&site, "new-backup", "stolen"), "the copy of the slot is worthless");
    for file in checkpoints(&site.at("quarantine/sink-a")) {
        fs::copy(&file, site.at("sink-a").join(file.file_name().unwrap())).unwrap();
    }
    assert!(thief_reads(&site, "new-backup", "stolen"), "but not to whoever has a checkpoint of that time");
    for file in checkpoints(&site.at("quarantine/sink-a")) {
        fs::remove_file(site.at("sink-a").join(file.file_name().unwrap())).unwrap();
    }
    section.shell("rm -r QUARANTINE", &[("QUARANTINE", &quarantine)]);
    assert!(thief_reads(&site, "new-backup", "slot"), "and with the present one everybody is read");
    site.succeed(&mut section, "lacuna keys drill --backup NEW_BACKUP", &[("NEW_BACKUP", "new-backup")]);
    site.assert_erases(&bob);
    site.assert_well(&[&ada, &late], &[&bob]);
}

fn checkpoints(sink: &Path) -> Vec<PathBuf> {
    fs::read_dir(sink).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn the_hsm_does_not_answer() {
    let mut section = Section::named("The HSM does not answer");
    let Some(module) = softhsm::module("an HSM that is down") else {
        section.commands.clear();
        return;
    };
    let mut site = Site::new(None);
    let folder = site.at("hsm");
    softhsm::make(&folder);
    site.more = format!(
        "kind = \"pkcs11\"\n[slot.pkcs11]\nmodule = {module:?}\ntoken = {:?}\npin = {:?}\n",
        softhsm::TOKEN,
        softhsm::PIN
    );
    site.start();
    let [ada, bob, cyd] = site.people(["ada", "bob", "cyd"]);
    site.assert_erases(&ada);
    softhsm::pull_out(&folder);
    let erasure = site.assert_erasure_waits(&bob, "");
    site.assert_readable(&cyd);
    site.fail(&mut section, "lacuna keys status", &[], "the PKCS#11 token story cannot be used");
    softhsm::plug_in(&folder);
    site.await_shredded(&mut section, &erasure, &bob);
    site.succeed(&mut section, "lacuna keys status", &[]);
    site.assert_well(&[&cyd], &[&ada, &bob]);
}

#[test]
fn every_section_of_the_runbook_has_a_story() {
    let stories = include_str!("runbook.rs");
    let sections = sections();
    assert!(sections.len() >= 10, "{sections:?}");
    for (name, commands) in sections {
        assert!(stories.contains(&format!("Section::named({name:?})")), "no story follows {name:?}");
        assert!(!commands.is_empty(), "{name:?} has no commands");
    }
}
