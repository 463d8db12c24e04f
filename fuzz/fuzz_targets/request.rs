//! Every rpc, asked of a vault that serves in this process: through the door, with a credential, on SQLite.
//!
//! With `LACUNA_FUZZ_SEEDS` a few requests for each rpc are written into that folder, for the fuzzer to begin with.
#![no_main]

#[path = "../../tests/stories/request.rs"]
mod request;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use lacuna::cli::serve::Running;
use lacuna::config::Config;
use lacuna::model::SystemClock;
use libfuzzer_sys::fuzz_target;
use request::{Api, ask, check, named_in};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

/// How many words of answers are used again.
const KNOWN: usize = 200;

/// How many requests are made of each rpc before the fuzzer has made any.
const SEEDS: usize = 4;

/// How long such a request is before the descriptors say what it means.
const LENGTH: usize = 200;

struct House {
    runtime: Runtime,
    channel: Channel,
    credential: String,
    /// What the vault has answered. A request is repeated with the words of its own run, whichever they are.
    known: Mutex<Vec<String>>,
    /// Who was asked, and who answered, and not with a refusal.
    met: Mutex<(BTreeSet<String>, BTreeSet<String>)>,
    asked: AtomicUsize,
    _running: Running,
    _home: tempfile::TempDir,
}

static API: LazyLock<Api> = LazyLock::new(Api::new);

/// What is being asked, for whoever reads of a panic: it may be in any thread of the vault.
static ASKING: Mutex<String> = Mutex::new(String::new());

static HOUSE: LazyLock<House> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let home = tempfile::tempdir().unwrap();
    let config = Config {
        data_dir: Some(home.path().join("data")),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        index_buckets: Some(64),
        ..Config::default()
    };
    let (running, channel) = runtime.block_on(async {
        let running = Running::start(&config, Arc::new(SystemClock)).await.unwrap();
        let address = format!("http://{}", running.address);
        (running, Channel::from_shared(address).unwrap().connect().await.unwrap())
    });
    let token = std::fs::read_to_string(running.dev_token_file.as_ref().unwrap()).unwrap();
    House {
        runtime,
        channel,
        credential: format!("Bearer {}", token.trim()),
        known: Mutex::default(),
        met: Mutex::default(),
        asked: AtomicUsize::new(0),
        _running: running,
        _home: home,
    }
});

impl House {
    /// Tells how far it came, now and then.
    fn count(&self, rpc: &str, answered: bool) {
        let mut met = self.met.lock().unwrap();
        met.0.insert(rpc.to_owned());
        if answered {
            met.1.insert(rpc.to_owned());
        }
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        if asked.is_power_of_two() || asked % 1000 == 0 {
            let of = API.rpcs().len();
            eprintln!("{asked} requests: {} of {of} rpcs were asked, {} answered", met.0.len(), met.1.len());
        }
    }
}

fn asking() -> MutexGuard<'static, String> {
    ASKING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell_what_was_asked() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        eprintln!("asked {}", asking());
        before(panic);
    }));
}

/// The same each time, and different from one to the next. Every other one is of small numbers: those set each field, and to what
/// belongs there.
fn write_seeds(folder: &Path) {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    for number in 0..API.rpcs().len() * SEEDS {
        let rpc = u16::try_from(number / SEEDS).unwrap().to_be_bytes();
        let most = if number % 2 == 0 { u8::MAX } else { 6 };
        let rest: Vec<u8> = (0..LENGTH).map(|_| next() % most).collect();
        std::fs::write(folder.join(number.to_string()), [&rpc[..], &[1], &rest].concat()).unwrap();
    }
}

fuzz_target!(init: {
    tell_what_was_asked();
    if let Some(folder) = std::env::var_os("LACUNA_FUZZ_SEEDS") {
        write_seeds(Path::new(&folder));
    }
}, |bytes: &[u8]| {
    let house = &*HOUSE;
    let mut known = house.known.lock().unwrap();
    let (rpc, message) = API.request(bytes, &known);
    *asking() = format!("{} with {message:02x?}", rpc.path);
    let answer = house.runtime.block_on(ask(&house.channel, rpc, message.clone(), &house.credential));
    house.count(&rpc.path, answer.is_ok());
    match answer {
        Ok(answer) => {
            known.extend(named_in(&answer));
            let more = known.len().saturating_sub(KNOWN);
            drop(known.drain(..more));
        }
        Err(refused) => check(&rpc.path, &message, &refused),
    }
});
