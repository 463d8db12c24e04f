//! `lacuna serve`: configuration, then database, then keys, then vault, then doors; and a graceful stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::open::{self, Place, Use, open};
use super::{callers, policies, preflight};
use crate::config::Config;
use crate::grpc::{self, Callers, Door, Health, Pulse, Tls};
use crate::keys::checkpoint::hex;
use crate::keys::recover::Report;
use crate::keys::status;
use crate::model::{Clock, SystemClock};
use crate::store::Store;
use crate::telemetry::otlp::{self, Exporter};
use crate::vault::{Settings, Vault};
use crate::{model, platform, telemetry};

/// How often the vault looks for what is due and how it is itself.
pub const UPKEEP: Duration = Duration::from_secs(1);

/// How long signing the end of the audit may take at a stop.
const LAST_SIGNED: Duration = Duration::from_secs(30);

/// How many files the vault has open itself, and some more.
const OWN_FILES: u64 = 512;

/// How often it looks after a custodian that has to be asked over a network, or is slow.
const LOOK: Duration = Duration::from_secs(5);

/// Arguments of `lacuna serve`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Where to listen; off loopback only with TLS. Port 0 picks one [default: 127.0.0.1:50051]
    #[arg(long, env = "LACUNA_LISTEN", value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where to serve Prometheus metrics
    #[arg(long, env = "LACUNA_METRICS_LISTEN", value_name = "ADDR")]
    metrics_listen: Option<SocketAddr>,
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(args: Args) -> Result<()> {
    let mut config = args.place.config()?;
    config.listen = args.listen.or(config.listen);
    config.metrics_listen = args.metrics_listen.or(config.metrics_listen);
    preflight::harden(config.process);
    telemetry::start_logging(&config.log)?;
    config.listen()?;
    make_room(config.limits.connections);
    preflight::require(&config, &SystemClock).await?;
    if let Some(address) = config.metrics_listen {
        telemetry::serve_metrics(address)?;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut running = Running::start(&config, Arc::new(SystemClock)).await?;
    super::print::lines(&running.greeting(&config)).map_err(|_| anyhow::anyhow!("standard output is closed"))?;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                running.reload();
                continue;
            }
            _ = terminate.recv() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
            () = running.broken() => tracing::error!("a part of the server has ended by itself"),
        }
        break;
    }
    tracing::info!("stopping: calls under way finish first");
    running.stop().await
}

/// Has room for all connections beside the vault's own files: strangers must not take these from it.
fn make_room(connections: usize) {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OWN_FILES);
    let may = platform::allow_open_files(wanted);
    if may < wanted {
        tracing::warn!(may, wanted, "the system lets this process open too few files for limits.connections");
    }
}

/// A vault that serves.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The vault behind the door.
    pub vault: Arc<Vault>,
    /// The development credential, when there is one.
    pub dev_token_file: Option<PathBuf>,
    /// What opening the keys found and did.
    pub report: Report,
    store: Arc<dyn Store>,
    stop: watch::Sender<bool>,
    door: JoinHandle<Result<()>>,
    upkeep: JoinHandle<((), (), (), (), (), (), ())>,
    exporter: Option<Exporter>,
    reload: watch::Sender<()>,
    tls: bool,
}

impl Running {
    /// Opens everything and begins to serve. Makes what is missing.
    pub async fn start(config: &Config, clock: Arc<dyn Clock>) -> Result<Self> {
        let listen = config.listen()?;
        let tls = config.tls.as_ref().map(|tls| Tls::open(tls, Arc::clone(&clock))).transpose().context("[tls]")?;
        let tls = tls.map(Arc::new);
        let issuers = callers::issuers(config).await?;
        let opened = open(config, Arc::clone(&clock), Use::Serve).await?;
        let callers = Callers::new(issuers, Arc::clone(&clock));
        let (callers, dev_token_file) = callers::admit(config, callers, &*opened.random)?;
        model::warm_up();
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let (authority, files) = policies::load(config)?;
        let (custody, registered) = (Arc::new(opened.custody), policies::registered(config));
        let settings = Settings {
            events: config.events.settings(),
            audit: open::audit(config),
            brakes: config.brakes(),
            lookup_for: config.limits.lookup(),
            recording: config.recording.rules(),
        };
        let (seeds, time) = (config.seeds(), Arc::clone(&clock));
        let vault = Arc::new(Vault::start(custody, time, seeds, settings, authority, registered).await?);
        policies::record(&vault, &files).await?;
        let (health, pulse) = Health::new();
        let (stop, stopped) = watch::channel(false);
        let watching = watch_custodian(Arc::clone(&vault), pulse.clone(), stopped.clone());
        let keeping = keep_up(Arc::clone(&vault), pulse, stopped.clone());
        let journalling = keep_journal(Arc::clone(&vault), stopped.clone());
        let (reload, again) = watch::channel(());
        let rereading =
            policies::watch(Arc::clone(&vault), config.policy.clone(), files, again.clone(), stopped.clone());
        let looking = policies::watch_callers(Arc::clone(&vault), stopped.clone());
        let callers = Arc::new(callers);
        let renewing = grpc::keep_current(tls.clone(), Arc::clone(&callers), again, stopped.clone());
        let auditing = keep_audit(Arc::clone(&vault), stopped.clone());
        let upkeep = tokio::spawn(async {
            tokio::join!(keeping, watching, journalling, auditing, rereading, looking, renewing)
        });
        let with_tls = tls.is_some();
        let instance = hex(&vault.audit().chain());
        let (tracer, exporter) =
            otlp::start(&config.telemetry, instance, clock, stopped.clone()).context("[telemetry]")?.unzip();
        let door = Door { listener, callers, tls, limits: config.limits, health, tracer };
        let door = tokio::spawn(grpc::serve(door, Arc::clone(&vault), until(stopped)));
        tracing::info!(%address, report = ?opened.report, "serving");
        let (report, store) = (opened.report, opened.store);
        Ok(Self { address, vault, dev_token_file, report, store, stop, door, upkeep, exporter, reload, tls: with_tls })
    }

    /// Looks at once at the files that may be replaced while it serves.
    pub fn reload(&self) {
        self.reload.send_replace(());
    }

    /// Waits until a part of the server ends that should not: nobody may serve without its door or its upkeep.
    pub async fn broken(&mut self) {
        while !self.door.is_finished() && !self.upkeep.is_finished() {
            tokio::time::sleep(UPKEEP).await;
        }
    }

    /// Lets the calls under way finish, then closes everything.
    pub async fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        self.door.await??;
        self.upkeep.await?;
        if let Some(exporter) = self.exporter {
            exporter.finish().await;
        }
        if let Err(error) = self.vault.ship_journal().await {
            tracing::warn!(%error, "the last entries of the journal are written at the next start");
        }
        if tokio::time::timeout(LAST_SIGNED, sign_audit(&self.vault)).await.is_err() {
            tracing::warn!("the end of the audit is signed at the next start: a place outside does not answer");
        }
        if let Err(error) = self.vault.custody().leave().await {
            tracing::warn!(%error, "the others will learn of this node's end by its silence");
        }
        // The root slot stays ours until nothing is written any more.
        self.store.close().await;
        self.vault.close().await;
        Ok(())
    }

    fn greeting(&self, config: &Config) -> Vec<String> {
        let mut lines = vec![format!("listening on {}", self.address)];
        if self.report.created {
            lines.push(format!("made a new vault in {}", config.data_dir().display()));
        }
        lines.push(format!("its root slot is in {}: never back it up together with the data", config.slot_place()));
        let Some(token) = &self.dev_token_file else { return lines };
        let (warning, scheme) = if self.tls { ("ON", "https") } else { ("WITHOUT TLS, on", "http") };
        lines.push(format!("{warning} loopback only, with a development credential: for trying out"));
        let program = std::env::args().next().unwrap_or_else(|| "lacuna".to_owned());
        let remote = format!("--address {scheme}://{} --token-file {}", self.address, token.display());
        lines.extend([
            String::new(),
            "try:".to_owned(),
            format!("  {program} token create {remote} --source try:out email=ada@example.com phone=+493012345678"),
            format!("  {program} token reveal {remote} --purpose customer_care TOKEN"),
            format!("  {program} subject erase {remote} --reason try-out --yes SUBJECT"),
        ]);
        lines
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that nobody is left who could say stop.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Looks once a second for what is due, and tells health and metrics how the vault is.
async fn keep_up(vault: Arc<Vault>, pulse: Pulse, mut stopped: watch::Receiver<bool>) {
    let (mut serving, mut rest) = (false, Rest::default());
    loop {
        let checked = vault.check().await;
        if let Err(error) = &checked {
            tracing::error!(%error, "the vault cannot serve");
        }
        if serving != checked.is_ok() {
            serving = checked.is_ok();
            tracing::info!(serving, "health changed");
        }
        pulse.set(serving).await;
        metrics::gauge!("lacuna_serving").set(f64::from(u8::from(serving)));
        if serving && rest.is_over() {
            match vault.upkeep().await {
                Ok(0) => rest = Rest::default(),
                Ok(waiting) => rest.lengthen(waiting),
                Err(error) => {
                    tracing::warn!(%error, "what is due has to wait");
                    rest.lengthen(1);
                }
            }
        }
        if let Err(error) = vault.custody().refresh_signer().await {
            tracing::warn!(%error, "the former key goes on signing receipts");
        }
        tokio::select! {
            () = tokio::time::sleep(UPKEEP) => {}
            _ = stopped.changed() => return pulse.set(false).await,
        }
    }
}

/// Writes what was decided into the journal, once a second. Beside [`keep_up`], because a sink may be long in answering.
async fn keep_journal(vault: Arc<Vault>, mut stopped: watch::Receiver<bool>) {
    loop {
        if let Err(error) = vault.ship_journal().await {
            tracing::warn!(%error, "the journal in the sinks lags behind; a restore would not know what was decided since");
        }
        tokio::select! {
            () = tokio::time::sleep(UPKEEP) => {}
            _ = stopped.changed() => return,
        }
    }
}

/// Signs how far the audit has come, every so often, and cuts off what was kept long enough. Beside [`keep_up`], because the
/// places outside may be long in answering.
async fn keep_audit(vault: Arc<Vault>, mut stopped: watch::Receiver<bool>) {
    loop {
        sign_audit(&vault).await;
        if let Err(error) = vault.cut_audit().await {
            tracing::warn!(%error, "old entries of the audit are removed later");
        }
        tokio::select! {
            () = tokio::time::sleep(vault.audit().every()) => {}
            _ = stopped.changed() => return,
        }
    }
}

async fn sign_audit(vault: &Vault) {
    match vault.checkpoint_audit().await {
        Ok(signed) => {
            for (_, error) in signed.failed {
                tracing::error!(%error, "how far a chain of the audit has come is not signed");
            }
        }
        Err(error) => tracing::error!(%error, "how far the audit has come is not signed"),
    }
}

/// Looks after whoever keeps the root, and tells health and metrics. Beside [`keep_up`], because a custodian may be long
/// in answering.
async fn watch_custodian(vault: Arc<Vault>, pulse: Pulse, mut stopped: watch::Receiver<bool>) {
    let (mut answers, mut told) = (None, None);
    let pause = if vault.custody().is_kept_nearby() { UPKEEP } else { LOOK };
    loop {
        let checked = vault.check_custodian().await;
        if answers != Some(checked.is_ok()) {
            answers = Some(checked.is_ok());
            match &checked {
                Ok(()) => tracing::info!("the custodian of the root answers"),
                Err(error) => tracing::error!(%error, "no key can change: erasures wait, everything else goes on"),
            }
        }
        pulse.set_custodian(checked.is_ok()).await;
        metrics::gauge!("lacuna_custodian_up").set(f64::from(u8::from(checked.is_ok())));
        told = publish(&vault, told).await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.changed() => return pulse.set_custodian(false).await,
        }
    }
}

/// How long to leave alone what could not be done: a second, then twice as long each time, up to a minute.
#[derive(Default)]
struct Rest {
    rounds: u32,
    left: u32,
}

impl Rest {
    fn lengthen(&mut self, waiting: usize) {
        self.rounds = (self.rounds * 2).clamp(1, 60);
        self.left = self.rounds;
        tracing::warn!(waiting, again_in_seconds = self.rounds, "erasures wait");
    }

    fn is_over(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }
}

/// Publishes how the keys are: what is quickly told always, the size of the tree once for each epoch.
async fn publish(vault: &Vault, told: Option<u64>) -> Option<u64> {
    let custody = vault.custody();
    match status::ask_briefly(custody.store(), custody.slot(), custody.sinks()).await {
        Ok(status) => telemetry::publish_copies(&status),
        Err(error) => tracing::debug!(%error, "the copies of the keys cannot be told"),
    }
    let epoch = custody.slot().load().await.ok().flatten().map(|content| content.current.epoch);
    if epoch == told {
        return told;
    }
    match status::ask(custody.store(), custody.slot(), custody.sinks()).await {
        Ok(status) => {
            telemetry::publish(&status);
            epoch
        }
        Err(error) => {
            tracing::debug!(%error, "the status of the keys cannot be told");
            told
        }
    }
}
