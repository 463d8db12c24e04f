//! What every checkpoint sink promises, told once and kept by each kind: in a directory, and in a bucket. Then what a
//! vault makes of several of them.

use std::fs;
use std::path::PathBuf;

use lacuna::config::Sink;
use lacuna::keys::sink::{CheckpointSink, DirectorySink, Name, rebuild};
use lacuna::model::Reason;
use lacuna::proto::v1::ErasureState;

use crate::house::{House, on_both_stores};
#[cfg(feature = "s3")]
use in_a_bucket::{BucketBed, Moto};

/// Writes a story once and tells it of every kind of sink.
macro_rules! on_every_sink {
    ($($(#[$meta:meta])* async fn $name:ident($bed:ident: &dyn Bed) $body:block)+) => {
        $($(#[$meta])* async fn $name($bed: &dyn Bed) $body)+

        mod in_a_directory {
            $(#[tokio::test]
            async fn $name() { super::$name(&super::DirectoryBed::new()).await; })+
        }

        #[cfg(feature = "s3")]
        mod in_a_bucket_too {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(moto) = super::Moto::start("sinks in buckets") else { return };
                super::$name(&super::BucketBed::new(moto)).await;
            })+
        }
    };
}

/// Where a sink is tried, with a way round it.
trait Bed {
    /// The sink.
    fn sink(&self) -> Box<dyn CheckpointSink>;
    /// One that cannot be written, and what its errors must name.
    fn closed(&self) -> (Box<dyn CheckpointSink>, &'static str);
    /// One that is not there, and what its errors must name.
    fn absent(&self) -> (Box<dyn CheckpointSink>, &'static str);
    /// Puts something there behind the sink's back.
    fn plant(&self, name: &str, bytes: &[u8]);
}

struct DirectoryBed(tempfile::TempDir);

impl DirectoryBed {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Bed for DirectoryBed {
    fn sink(&self) -> Box<dyn CheckpointSink> {
        Box::new(DirectorySink::new(&self.0.path().join("checkpoints")))
    }

    fn closed(&self) -> (Box<dyn CheckpointSink>, &'static str) {
        // Not even the administrator makes files there.
        (Box::new(DirectorySink::new(&PathBuf::from("/proc"))), "/proc")
    }

    fn absent(&self) -> (Box<dyn CheckpointSink>, &'static str) {
        let file = self.0.path().join("not-a-directory");
        fs::write(&file, "x").unwrap();
        (Box::new(DirectorySink::new(&file)), "not-a-directory")
    }

    fn plant(&self, name: &str, bytes: &[u8]) {
        let place = self.0.path().join("checkpoints");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(name), bytes).unwrap();
    }
}

fn name(epoch: u8, bytes: &[u8]) -> Name {
    Name::of(epoch.into(), [epoch; 16], bytes, None, true)
}

on_every_sink! {
    async fn what_is_put_comes_back_by_its_name_until_it_is_removed(bed: &dyn Bed) {
        let sink = bed.sink();
        sink.make().await.unwrap();
        assert_eq!(sink.checkpoints().await.unwrap(), []);
        let names: Vec<_> = (0..12).map(|epoch| name(epoch, &[epoch, 0, 255])).collect();
        for (epoch, name) in (0..).zip(&names) {
            sink.put(&name.to_string(), &[epoch, 0, 255]).await.unwrap();
        }
        assert_eq!(sink.checkpoints().await.unwrap(), names, "in the order of epochs");
        assert_eq!(sink.get(&names[10].to_string()).await.unwrap().unwrap(), [10, 0, 255]);
        assert_eq!(sink.get(&name(10, b"other").to_string()).await.unwrap(), None);
        sink.remove(&names[10].to_string()).await.unwrap();
        sink.remove(&names[10].to_string()).await.unwrap();
        assert_eq!(sink.get(&names[10].to_string()).await.unwrap(), None);
        assert_eq!(sink.checkpoints().await.unwrap().len(), 11);
    }

    async fn a_large_one_comes_back_whole(bed: &dyn Bed) {
        let (sink, bytes) = (bed.sink(), (0..3_000_000_u32).map(|at| (at % 251) as u8).collect::<Vec<_>>());
        sink.make().await.unwrap();
        sink.put(&name(0, &bytes).to_string(), &bytes).await.unwrap();
        assert!(sink.get(&name(0, &bytes).to_string()).await.unwrap().unwrap() == bytes);
    }

    async fn nothing_is_written_over(bed: &dyn Bed) {
        let (sink, name) = (bed.sink(), name(0, b"first"));
        sink.make().await.unwrap();
        sink.put(&name.to_string(), b"first").await.unwrap();
        sink.put(&name.to_string(), b"first").await.unwrap();
        let error = sink.put(&name.to_string(), b"second").await.unwrap_err();
        assert!(error.reason == Reason::KeyCustodianUnavailable && error.to_string().contains(&name.to_string()), "{error}");
        assert_eq!(sink.get(&name.to_string()).await.unwrap().unwrap(), b"first");
        assert_eq!(sink.checkpoints().await.unwrap(), [name]);
    }

    async fn a_torn_one_stays_as_it_is_and_is_not_taken_for_whole(bed: &dyn Bed) {
        let (sink, name) = (bed.sink(), name(3, b"the whole of it"));
        bed.plant(&name.to_string(), b"the wh");
        assert!(sink.put(&name.to_string(), b"the whole of it").await.is_err());
        assert_eq!(sink.get(&name.to_string()).await.unwrap().unwrap(), b"the wh");
    }

    async fn what_is_not_a_checkpoint_is_left_alone(bed: &dyn Bed) {
        let (sink, name) = (bed.sink(), name(0, b"bytes"));
        bed.plant("notes.txt", b"of the operator");
        bed.plant("keys-7.checkpoint", b"of an earlier version");
        sink.put(&name.to_string(), b"bytes").await.unwrap();
        assert_eq!(sink.checkpoints().await.unwrap(), [name]);
    }

    async fn a_place_that_refuses_or_is_not_there_is_named(bed: &dyn Bed) {
        for (sink, place) in [bed.closed(), bed.absent()] {
            let error = sink.put(&name(1, b"bytes").to_string(), b"bytes").await.unwrap_err();
            assert!(error.reason == Reason::KeyCustodianUnavailable && error.message.contains(place), "{error}");
        }
        let (sink, place) = bed.absent();
        let error = sink.checkpoints().await.unwrap_err();
        assert!(error.reason == Reason::KeyCustodianUnavailable && error.message.contains(place), "{error}");
    }
}

on_both_stores! {
    async fn a_sink_that_is_not_required_holds_nothing_up_and_catches_up(house: House) {
        let mut house = house;
        let (first, second) = (house.config.data_dir().join("checkpoints"), house.home().join("second"));
        fs::create_dir(&second).unwrap();
        house.config.sinks = [first, second.clone()].map(Sink::in_directory).to_vec();
        house.config.sinks_required = Some(1);
        house.reopen().await;
        let (ada, bob) = (house.somebody("Ada").await, house.somebody("Bob").await);
        fs::remove_dir_all(&second).unwrap();
        fs::write(&second, "a file where a directory should be").unwrap();

        assert_eq!(house.erase(&ada.subject).await.state(), ErasureState::Shredded);
        let keys = house.keys().await;
        assert!(keys.sinks[0].trouble.is_none(), "{keys:?}");
        assert!(keys.sinks[1].trouble.as_ref().unwrap().contains("second"), "{keys:?}");
        // Not even a start waits for it.
        house.reopen().await;
        assert_eq!(house.reveal(&bob.tokens, "order_confirmation").await, bob.values());

        fs::remove_file(&second).unwrap();
        fs::create_dir(&second).unwrap();
        house.reopen().await;
        house.running().vault.upkeep().await.unwrap();
        let keys = house.keys().await;
        assert!(keys.sinks.iter().all(|sink| sink.trouble.is_none() && sink.epoch == Some(keys.epoch)), "{keys:?}");
        house.assert_sinks_agree().await;

        // When more are required than take it, the erasure waits.
        house.config.sinks_required = None;
        house.reopen().await;
        fs::remove_dir_all(&second).unwrap();
        fs::write(&second, "a file where a directory should be").unwrap();
        let waits = house.erase(&bob.subject).await;
        assert_eq!(waits.state(), ErasureState::Pending);
        assert!(waits.pending_reason.contains("second"), "{}", waits.pending_reason);
    }

    async fn what_changed_adds_up_to_the_same_as_the_whole(house: House) {
        let mut house = house;
        let (first, second) = (house.config.data_dir().join("checkpoints"), house.home().join("second"));
        fs::create_dir(&second).unwrap();
        house.config.sinks = [first, second.clone()].map(Sink::in_directory).to_vec();
        house.reopen().await;
        for number in 0..7 {
            let somebody = house.somebody(&format!("Somebody {number}")).await;
            assert_eq!(house.erase(&somebody.subject).await.state(), ErasureState::Shredded);
            house.assert_sinks_agree().await;
        }
        // One sink has to begin anew.
        for entry in fs::read_dir(&second).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        let last = house.somebody("Last").await;
        assert_eq!(house.erase(&last.subject).await.state(), ErasureState::Shredded);
        house.assert_sinks_agree().await;
    }
}

impl House {
    /// Every sink gives the key state of the present root, and all of them the same.
    async fn assert_sinks_agree(&self) {
        let custody = self.running().vault.custody();
        let root = custody.slot().load().await.unwrap().unwrap().current;
        let mut told = Vec::new();
        for sink in custody.sinks().iter() {
            let state = rebuild(sink, &root).await.unwrap().unwrap();
            let pages: Vec<_> = state.pages().into_iter().map(|page| (page.id, page.blob)).collect();
            let erasures: Vec<_> = state.erasures().map(|erased| (erased.erasure.clone(), erased.epoch)).collect();
            told.push((pages, state.punctured(), erasures));
        }
        assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "the sinks tell different things");
    }
}

#[cfg(feature = "s3")]
mod in_a_bucket {
    //! Stories of buckets alone.

    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt as _;

    use lacuna::keys::sink::{BucketSettings, BucketSink};
    use serde_json::Value;

    pub use super::super::moto::Moto;
    use super::super::moto::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, answering};
    use super::*;
    use crate::process::{Database, Place, lacuna, run, said};

    pub struct BucketBed(Moto);

    impl BucketBed {
        pub fn new(moto: Moto) -> Self {
            moto.make_bucket("checkpoints");
            Self(moto)
        }
    }

    fn bucket(endpoint: &str, name: &str) -> BucketSink {
        let (access_key_id, secret_access_key) = (ACCESS_KEY_ID, SECRET_ACCESS_KEY);
        let endpoint = endpoint.parse().unwrap();
        let (path_style, region, prefix) = (true, "us-east-1", "a vault/");
        BucketSink::new(&BucketSettings {
            name,
            endpoint,
            path_style,
            region,
            prefix,
            access_key_id,
            secret_access_key,
        })
        .unwrap()
    }

    impl Bed for BucketBed {
        fn sink(&self) -> Box<dyn CheckpointSink> {
            Box::new(bucket(&self.0.endpoint(), "checkpoints"))
        }

        fn closed(&self) -> (Box<dyn CheckpointSink>, &'static str) {
            (Box::new(bucket(&answering("403 Forbidden", ""), "closed")), "bucket closed at http://127.0.0.1")
        }

        fn absent(&self) -> (Box<dyn CheckpointSink>, &'static str) {
            (Box::new(bucket(&self.0.endpoint(), "missing")), "bucket missing at http://127.0.0.1")
        }

        fn plant(&self, name: &str, bytes: &[u8]) {
            self.0.put(&format!("/checkpoints/a%20vault/{name}"), bytes);
        }
    }

    #[tokio::test]
    async fn a_store_that_gives_other_bytes_back_has_not_kept_them() {
        let sink = bucket(&answering("200 OK", "something else"), "b");
        let error = sink.put(&name(1, b"bytes").to_string(), b"bytes").await.unwrap_err();
        assert!(error.message.contains("read back as something else"), "{error}");
    }

    #[tokio::test]
    async fn a_store_that_nobody_reaches_is_named_and_the_key_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = bucket(&endpoint, "b").checkpoints().await.unwrap_err();
        assert!(error.reason == Reason::KeyCustodianUnavailable && error.message.contains(&endpoint), "{error:?}");
        let refused = bucket(&answering("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"), "b");
        let refused = refused.checkpoints().await.unwrap_err();
        assert!(refused.message.contains("AccessDenied"), "{refused}");
        let unknown = bucket(&answering("403 Forbidden", "<Error><Code>InvalidAccessKeyId</Code></Error>"), "b");
        let unknown = unknown.checkpoints().await.unwrap_err();
        assert!(unknown.message.contains("secret_access_key of the sink"), "{unknown}");
        for error in [error, refused, unknown] {
            assert!(!format!("{error:?}").contains(SECRET_ACCESS_KEY) && !format!("{error:?}").contains("Signature"));
        }
    }

    #[test]
    fn a_vault_is_restored_from_its_bucket_on_sqlite() {
        if let Some(moto) = Moto::start("a vault restored from its bucket") {
            there_and_back(&moto, None);
        }
    }

    #[test]
    fn a_vault_is_restored_from_its_bucket_on_postgres() {
        let moto = Moto::start("a vault restored from its bucket");
        let database = Database::create("a vault restored from its bucket");
        if let (Some(moto), Some(database)) = (moto, database) {
            there_and_back(&moto, Some(&database.url()));
        }
    }

    /// Runs the program to a good end and answers its JSON.
    fn answer(command: &mut std::process::Command, arguments: &[&str]) -> Value {
        let output = run(command.args(arguments).args(["--output", "json"]));
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn there_and_back(moto: &Moto, database: Option<&str>) {
        moto.make_bucket("keys");
        let place = Place::new();
        let config = place.path().join("lacuna.toml");
        let secret = place.path().join("secret");
        fs::write(&secret, SECRET_ACCESS_KEY).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "[[sinks]]\nbucket = 'keys'\nendpoint = '{}'\nprefix = 'vault-1/'\naccess_key_id = '{ACCESS_KEY_ID}'\n\
             secret_access_key_file = '{}'\n",
            moto.endpoint(),
            secret.display()
        );
        fs::write(&config, text).unwrap();
        let start = || {
            let mut command = place.serve(database);
            crate::process::Server::start(command.arg("--config").arg(&config)).unwrap_or_else(|fault| {
                panic!("{fault}\n{}", place.log());
            })
        };
        let here = |verb: &[&str]| {
            let mut command = lacuna();
            command.args(verb).arg("--config").arg(&config).current_dir(place.path());
            command.env("LACUNA_DATA_DIR", place.data()).env("LACUNA_SLOT_DIR", place.slot());
            command.envs(database.map(|url| ("LACUNA_DATABASE_URL", url)));
            command
        };
        let server = start();
        let create = |value: &str| {
            let arguments = ["token", "create", "--source", "test:bucket", value];
            let token = &answer(&mut server.client(&place), &arguments)["tokens"][0];
            (token["token"].as_str().unwrap().to_owned(), token["subject"].as_str().unwrap().to_owned())
        };
        let (ada, subject) = create("email=ada@example.com");
        let (bob, _) = create("email=bob@example.com");
        let backup = place.path().join("backup");
        answer(here(&["backup"]).arg(&backup), &[]);
        let erase = ["subject", "erase", "--reason", "art17_1_b", "--yes", &subject];
        assert_eq!(answer(&mut server.client(&place), &erase)["erasure"]["state"], "ERASURE_STATE_SHREDDED");
        let status = answer(&mut here(&["keys", "status"]), &[]);
        assert_eq!(status["sinks"][0]["epoch"], status["epoch"], "{status}");
        assert!(status["sinks"][0]["place"].as_str().unwrap().contains("bucket keys"), "{status}");
        assert!(!place.data().join("checkpoints").exists(), "the bucket is all there is");
        assert!(server.stop().success());

        let report = answer(here(&["restore"]).arg(&backup), &["--replace"]);
        assert_eq!((&report["from_checkpoint"], &report["erasures_reapplied"]), (&true.into(), &1.into()), "{report}");
        let server = start();
        let reveal = |token: &str| {
            let arguments = ["token", "reveal", "--purpose", "customer_care", "--output", "json", token];
            said(&run(server.client(&place).args(arguments)))
        };
        assert!(reveal(&bob).contains("bob@example.com"));
        assert!(reveal(&ada).contains("SUBJECT_ERASED"));
        assert!(server.stop().success());
    }
}
