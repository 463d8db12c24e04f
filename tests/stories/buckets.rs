//! A checkpoint sink in a bucket that is away, silent, or behind.

use std::fs;
use std::time::Instant;

use lacuna::proto::v1;

use crate::moto::{ACCESS_KEY_ID, Line, Mode, Moto, SECRET_ACCESS_KEY};
use crate::outside::{Outside, PATIENCE, outside_on_both_stores};
use crate::process::{run, said};

/// Two sinks: a directory, and a bucket at the other end of a line.
fn configure(vault: &Outside, line: &Line, required: u32) {
    let text = format!(
        "index_buckets = 64\nsinks_required = {required}\n[log]\nfilter = 'trace'\n\
         [slot]\nmirrors = ['mirror']\nkek_file = 'kek/kek.key'\n[[sinks]]\ndirectory = 'checkpoints'\n\
         [[sinks]]\nbucket = 'keys'\nendpoint = '{}'\naccess_key_id = '{ACCESS_KEY_ID}'\n\
         secret_access_key = '{SECRET_ACCESS_KEY}'\n",
        line.endpoint()
    );
    fs::write(vault.place.path().join("lacuna.toml"), text).unwrap();
}

/// Whether every copy of the keys is up to date, and what `lacuna keys status` says.
fn status(vault: &Outside) -> (bool, String) {
    let output = run(&mut vault.command(&["keys", "status"]));
    (output.status.success(), said(&output))
}

/// Does not wait for ever, as one would for a bucket that is silent.
async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE / 2, work).await.expect("it waits for the bucket")
}

outside_on_both_stores! {
    async fn an_erasure_waits_for_a_bucket_that_is_required_and_not_for_another(vault: Outside) {
        let Some(moto) = Moto::start("a bucket that is away") else { return };
        moto.make_bucket("keys");
        let line = moto.line();
        configure(&vault, &line, 2);
        let mut door = vault.start();
        let (ada, zoe) = (door.tokenize("ada").await, door.tokenize("zoe").await);
        assert_eq!(door.erase(&ada).await.state(), v1::ErasureState::Shredded);
        for (mode, name) in [(Mode::Cut, "bob"), (Mode::Silent, "cyd")] {
            let person = door.tokenize(name).await;
            line.set(mode);
            let erasure = within(door.erase(&person)).await;
            assert_eq!(erasure.state(), v1::ErasureState::Pending);
            assert!(erasure.pending_reason.contains("bucket keys at"), "{}", erasure.pending_reason);
            door.assert_there(&zoe).await;
            line.set(Mode::Open);
            door.shredded(&erasure.erasure).await;
            door.assert_gone(&person).await;
        }
        assert!(door.server.stop().success());

        // Enough others have it: neither a start nor an erasure waits, and the bucket catches up by itself.
        configure(&vault, &line, 1);
        line.set(Mode::Silent);
        let begun = Instant::now();
        let mut door = vault.start();
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        let dan = door.tokenize("dan").await;
        let erasure = within(door.erase(&dan)).await;
        assert_eq!(erasure.state(), v1::ErasureState::Shredded, "{erasure:?}\n{}", vault.place.log());
        line.set(Mode::Cut);
        let (good, told) = status(&vault);
        assert!(!good && told.contains("bucket keys at"), "{told}");
        line.set(Mode::Open);
        let catching_up = async {
            while !status(&vault).0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, catching_up).await.expect("the bucket does not catch up by itself");
        door.assert_gone(&dan).await;
        door.assert_there(&zoe).await;
        assert!(!vault.place.log().contains(SECRET_ACCESS_KEY) && !vault.place.log().contains("X-Amz-Signature"));
    }
}
