//! How the vault is, as those see it who run it: health, metrics, files, and the end.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lacuna::proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::events::{Watcher, acknowledge};
use crate::house::outcome;
use crate::outside::{PATIENCE, Person, free_address, metrics, outside_on_both_stores};
use crate::process::{Server, execute, run, said, setting};

/// The names in the table at the head of `src/telemetry.rs`.
fn documented_metrics() -> BTreeSet<String> {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry.rs")).unwrap();
    let rows = source.lines().filter_map(|line| line.strip_prefix("//! | `")?.split('|').next());
    let names = rows.flat_map(|names| names.split('`')).filter(|name| name.starts_with("lacuna_"));
    names.map(str::to_owned).collect()
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/grafana/lacuna.json");
    let dashboard: serde_json::Value = serde_json::from_slice(&fs::read(dashboard).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let asked: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    let words =
        asked.iter().flat_map(|asked| asked.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_'));
    let shown: BTreeSet<&str> = words
        .filter(|word| word.starts_with("lacuna_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect();
    let documented = documented_metrics();
    assert_eq!(shown, documented.iter().map(String::as_str).collect());
}

outside_on_both_stores! {
    async fn without_the_slot_keys_cannot_change_and_reveals_go_on(vault: Outside) {
        let mut door = vault.start();
        door.custodian(true).await;
        let ada = door.tokenize("ada").await;
        let slots = vault.slots();
        for slot in &slots {
            fs::rename(slot, slot.with_extension("away")).unwrap();
        }
        door.custodian(false).await;
        door.serving(true).await;
        door.assert_there(&ada).await;
        for slot in &slots {
            fs::rename(slot.with_extension("away"), slot).unwrap();
        }
        door.custodian(true).await;

        let whole = slots.each_ref().map(|slot| fs::read(slot).unwrap());
        fs::write(&slots[0], "no slot").unwrap();
        fs::write(&slots[1], "no slot").unwrap();
        door.custodian(false).await;
        // One of them is enough to go on with.
        fs::write(&slots[1], &whole[1]).unwrap();
        door.custodian(true).await;
        fs::write(&slots[0], &whole[0]).unwrap();
        door.assert_there(&ada).await;
    }

    async fn health_follows_the_database(vault: Outside) {
        let mut door = vault.start();
        door.serving(true).await;
        let ada = door.tokenize("ada").await;
        if let Some(database) = &vault.database {
            let (server, url) = (setting("LACUNA_TEST_POSTGRES").unwrap(), database.url());
            let name = url.rsplit('/').next().unwrap();
            execute(&server, &format!(
                "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
                 SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            )).unwrap();
            door.serving(false).await;
            execute(&server, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).unwrap();
        } else {
            let file = vault.place.data().join("vault.db");
            fs::rename(&file, file.with_extension("away")).unwrap();
            door.serving(false).await;
            fs::rename(file.with_extension("away"), &file).unwrap();
        }
        door.serving(true).await;
        door.assert_there(&ada).await;
    }

    async fn a_stop_lets_the_calls_under_way_finish(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        let ask = v1::DetokenizeRequest {
            tokens: ada.tokens.clone(),
            purpose: "customer_care".to_owned(),
            ..Default::default()
        };
        let (send, requests) = mpsc::channel(1);
        send.send(ask.clone()).await.unwrap();
        let mut answers = door.tokens.detokenize_stream(ReceiverStream::new(requests)).await.unwrap().into_inner();
        assert!(answers.message().await.unwrap().is_some());
        door.server.terminate();
        vault.logged("stopping").await;
        send.send(ask).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        let Some(v1::detokenize_stream_response::Outcome::Response(response)) = answer.outcome else {
            panic!("a call under way was refused");
        };
        assert_eq!(outcome(&response.results[0]), Ok(ada.values[0].clone()));
        drop(send);
        assert!(answers.message().await.unwrap().is_none());
        assert!(door.server.wait().success());
    }

    async fn an_embedded_vault_has_one_server_and_nothing_else_is_done_beside_any(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        let mut refused = vec![run(&mut vault.command(&["init"]))];
        if vault.database.is_none() {
            let fault = Server::start(&mut vault.serve()).err().expect("two servers hold one embedded vault");
            assert!(fault.contains("exit status: ") && !fault.contains("exit status: 0"), "{fault}");
            refused.push(run(&mut vault.serve()));
        } else {
            // On PostgreSQL they share it, and take turns at writing it.
            door = vault.start();
        }
        for output in refused {
            assert!(!output.status.success());
            let log = said(&output) + &vault.place.log();
            assert!(log.contains("another lacuna process holds this root slot; stop it first"), "{log}");
            assert!(log.contains("slot/root.lock"), "{log}");
        }
        door.assert_there(&ada).await;
        door.kill();
        let output = run(&mut vault.command(&["init"]));
        assert!(output.status.success(), "{}", said(&output));
    }

    async fn the_metrics_page_has_what_is_documented_and_nothing_else(vault: Outside) {
        let address = free_address();
        let mut command = vault.serve();
        command.args(["--metrics-listen", &address.to_string()]);
        let mut door = vault.start_with(command, &[]).unwrap();
        let ada = door.tokenize("ada").await;
        door.reveal(&ada).await;
        door.erase(&ada).await;
        let (_watcher, cursor) = Watcher::from_now(&mut door.events).await;
        acknowledge(&mut door.events, "crm", &cursor).await.unwrap();
        // What is told of the audit is told when a checkpoint is signed.
        door.audits.get_checkpoint(v1::GetCheckpointRequest::default()).await.unwrap();
        let documented = documented_metrics();
        assert!(documented.len() > 10, "{documented:?}");
        let looking = async {
            loop {
                let page = String::from_utf8(metrics(address)).unwrap();
                let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
                let told: BTreeSet<String> = types.filter(|name| name.starts_with("lacuna_")).map(str::to_owned).collect();
                let unknown: Vec<_> = told.difference(&documented).collect();
                assert!(unknown.is_empty(), "not documented: {unknown:?}");
                // Upkeep publishes some of them once a second.
                if told == documented && page.contains("\nlacuna_key_epoch 1\n") {
                    return page;
                }
                tokio::task::yield_now().await;
            }
        };
        let page = tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| {
            panic!("documented: {documented:?}\n{}", String::from_utf8_lossy(&metrics(address)))
        });
        assert!(page.contains("lacuna_calls_total{rpc=\"Tokenize\",reason=\"OK\"} 1"), "{page}");
        assert!(page.contains("\nlacuna_erasures_pending 0\n"), "{page}");
    }

    async fn files_that_hold_keys_or_credentials_are_for_their_owner_only(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        door.erase(&ada).await;
        let [slot, mirror] = vault.slots();
        let keys = [vault.kek(), vault.place.slot().join("receipt-signing.key")];
        for file in [vec![slot, mirror, vault.place.token()], keys.to_vec()].concat() {
            let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{} has mode {mode:o}", file.display());
        }
        for folder in [vault.place.slot(), vault.place.data()] {
            let mode = fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o700, "{} has mode {mode:o}", folder.display());
        }
    }

    async fn an_erasure_that_waits_survives_a_stop_and_goes_on_afterwards(vault: Outside) {
        let mut door = vault.start();
        let (ada, bob): (Person, Person) = (door.tokenize("ada").await, door.tokenize("bob").await);
        // Where the slot's mirror should be is something else.
        fs::rename(vault.mirror(), vault.mirror().with_extension("away")).unwrap();
        fs::write(vault.mirror(), "no directory").unwrap();
        let erasure = door.erase(&ada).await;
        assert_eq!(erasure.state(), v1::ErasureState::Pending);
        assert!(erasure.pending_reason.contains("mirror"), "{}", erasure.pending_reason);
        assert_eq!(door.reveal(&ada).await, vec![Err("ERASURE_PENDING".to_owned()); 2]);
        assert!(door.server.stop().success());

        fs::remove_file(vault.mirror()).unwrap();
        fs::rename(vault.mirror().with_extension("away"), vault.mirror()).unwrap();
        let mut door = vault.start();
        door.shredded(&erasure.erasure).await;
        door.assert_gone(&ada).await;
        door.assert_there(&bob).await;
    }
}
