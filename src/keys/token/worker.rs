//! The thread that makes all calls into one module.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Fault, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use tokio::sync::oneshot;

use super::objects::Desk;
use super::{Options, Trouble, fingerprint};
use crate::model::{Error, Result};

/// How long a caller waits for a module. Operations take milliseconds, logins up to a second.
const PATIENCE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce(&mut Bench) + Send>;

/// The thread of a module, from outside.
pub struct Worker {
    module: PathBuf,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    patience: Duration,
    /// Since when the present job runs.
    busy: Arc<Mutex<Option<Instant>>>,
}

/// A process loads a module once, so it has one worker.
static WORKERS: Mutex<BTreeMap<PathBuf, Arc<Worker>>> = Mutex::new(BTreeMap::new());

impl Worker {
    /// The worker of a module.
    pub fn of(module: &Path) -> Arc<Self> {
        let mut workers = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(workers.entry(module.to_owned()).or_insert_with(|| Arc::new(Self::new(module, PATIENCE))))
    }

    fn new(module: &Path, patience: Duration) -> Self {
        Self { module: module.to_owned(), jobs: Mutex::default(), patience, busy: Arc::default() }
    }

    /// Runs `work` on the thread and waits for a bounded time. Work that has not begun by then is not begun.
    pub async fn run<T: Send + 'static>(
        &self,
        options: &Arc<Options>,
        work: impl FnOnce(&Desk<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T> {
        let asked = Arc::clone(options);
        self.ask(options, move |bench| bench.visit(&asked, work)).await
    }

    /// Closes what is open, so that the next call begins afresh.
    pub async fn reset(&self, options: &Arc<Options>) -> Result<()> {
        self.ask(options, |bench| {
            bench.close();
            Ok(())
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &self,
        options: &Options,
        deed: impl FnOnce(&mut Bench) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let hangs = || {
            options.unavailable(format!(
                "its module {} has not answered for {:?}: see to the token and its connection; if it does not recover \
                 then, restart this process",
                self.module.display(),
                self.patience
            ))
        };
        let since = *self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_some_and(|since| since.elapsed() > self.patience) {
            return Err(hangs());
        }
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(move |bench| {
            if !reply.is_closed() {
                // Nobody may be waiting any more when it is done.
                let _ = reply.send(deed(bench));
            }
        }))
        .map_err(|error| options.unavailable(error))?;
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(options.unavailable("the use of its module fell over; the log has more")),
            Err(_) => Err(hangs()),
        }
    }

    fn send(&self, job: Job) -> std::io::Result<()> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match jobs.take() {
            Some(sender) => sender,
            None => self.spawn()?,
        };
        // The thread takes jobs for as long as there is a sender.
        let _ = sender.send(job);
        *jobs = Some(sender);
        Ok(())
    }

    fn spawn(&self) -> std::io::Result<mpsc::Sender<Job>> {
        let (send, receive) = mpsc::channel::<Job>();
        let (module, busy) = (self.module.clone(), Arc::clone(&self.busy));
        std::thread::Builder::new().name("pkcs11".to_owned()).spawn(move || {
            let mut bench = Bench::new(&module);
            for job in receive {
                *busy.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                if catch_unwind(AssertUnwindSafe(|| job(&mut bench))).is_err() {
                    bench = Bench::new(&module);
                }
                *busy.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        })?;
        Ok(send)
    }
}

/// What the thread works with: the module, and a session for each token.
struct Bench {
    module: PathBuf,
    /// Loaded once, for ever: modules do not like to be unloaded.
    context: Option<Pkcs11>,
    initialised: bool,
    sessions: HashMap<String, (Slot, Session)>,
    /// For each token the PIN that it refused, by a name.
    refused: HashMap<String, [u8; 32]>,
}

impl Bench {
    fn new(module: &Path) -> Self {
        Self {
            module: module.to_owned(),
            context: None,
            initialised: false,
            sessions: HashMap::new(),
            refused: HashMap::new(),
        }
    }

    fn visit<T>(&mut self, options: &Options, work: impl FnOnce(&Desk<'_>) -> Result<T, Trouble>) -> Result<T> {
        if self.is_away(options) {
            self.close();
        }
        if !self.sessions.contains_key(&options.token) {
            // The first try may only show that the module has to be initialised anew: it knows of no token that came
            // after it was, or back.
            let opened = self.open(options).or_else(|_| {
                self.close();
                self.open(options)
            });
            if let Err(trouble) = opened {
                self.close();
                return Err(self.explain(options, trouble));
            }
        }
        let missing = || options.unavailable("its session was not kept");
        let (_, session) = self.sessions.get(&options.token).ok_or_else(missing)?;
        let outcome = work(&Desk::new(session));
        // What a token answered that went away meanwhile may be nothing at all.
        if self.is_away(options) {
            self.close();
            return Err(options.unavailable("it went away: bring it back"));
        }
        outcome.map_err(|trouble| {
            if matches!(trouble, Trouble::Token(_)) {
                self.close();
            }
            self.explain(options, trouble)
        })
    }

    /// Whether there was a session and the token does not answer on it any more.
    fn is_away(&self, options: &Options) -> bool {
        let (Some(context), Some((slot, session))) = (&self.context, self.sessions.get(&options.token)) else {
            return false;
        };
        let told = context.get_token_info(*slot).map(|info| info.label().trim_end() == options.token);
        !matches!(told, Ok(true)) || session.get_session_info().is_err()
    }

    fn open(&mut self, options: &Options) -> Result<(), Trouble> {
        let context = match &self.context {
            Some(context) => context.clone(),
            None => self.context.insert(Pkcs11::new(&self.module)?).clone(),
        };
        if !self.initialised {
            match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
                Ok(()) | Err(Fault::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => self.initialised = true,
                Err(fault) => return Err(fault.into()),
            }
        }
        let slot = find(&context, options)?;
        let info = context.get_token_info(slot)?;
        if options.hardware && info.manufacturer_id().contains("SoftHSM") {
            return Err(options
                .unavailable(
                    "slot.pkcs11.assurance says IMMEDIATE, but this is SoftHSM, which keeps keys in files: no key in a \
                     file is destroyed for good. Take the setting out",
                )
                .into());
        }
        let session = context.open_rw_session(slot)?;
        self.log_in(options, &session)?;
        self.sessions.insert(options.token.clone(), (slot, session));
        Ok(())
    }

    fn log_in(&mut self, options: &Options, session: &Session) -> Result<(), Trouble> {
        let pin = options.pin()?;
        let name = fingerprint(&pin);
        if self.refused.get(&options.token) == Some(&name) {
            return Err(wrong_pin(options).into());
        }
        let text = str::from_utf8(pin.expose()).map_err(|_| options.unavailable("its PIN is not UTF-8"))?;
        match session.login(UserType::User, Some(&AuthPin::from(text))) {
            Ok(()) | Err(Fault::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                self.refused.remove(&options.token);
                Ok(())
            }
            Err(Fault::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                self.refused.insert(options.token.clone(), name);
                Err(wrong_pin(options).into())
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// Closes every session, and the module with them: most find a token that came back only after that.
    fn close(&mut self) {
        self.sessions.clear();
        if let Some(context) = self.context.clone().filter(|_| self.initialised) {
            if let Err(fault) = context.finalize() {
                tracing::debug!(%fault, "the PKCS#11 module does not finalize");
            }
            self.initialised = false;
        }
    }

    fn explain(&self, options: &Options, trouble: Trouble) -> Error {
        let module = self.module.display();
        match trouble {
            Trouble::Refused(error) => error,
            Trouble::Token(Fault::LibraryLoading(fault)) => options
                .unavailable(format!("its module {module} cannot be loaded: correct slot.pkcs11.module"))
                .because(fault),
            Trouble::Token(Fault::Pkcs11(RvError::PinLocked, _)) => {
                options.unavailable("its PIN is locked: its security officer has to set it anew")
            }
            Trouble::Token(fault) => options
                .unavailable(format!("its module {module} answers \"{fault}\": see to the token and its connection"))
                .because(fault),
        }
    }
}

fn wrong_pin(options: &Options) -> Error {
    options.unavailable(
        "its PIN is wrong: correct slot.pkcs11.pin_file. This PIN is not tried again, because a token locks itself",
    )
}

/// The one token with the label.
fn find(context: &Pkcs11, options: &Options) -> Result<Slot, Trouble> {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for slot in context.get_slots_with_token()? {
        let info = context.get_token_info(slot)?;
        match info.label().trim_end() {
            label if label == options.token => found.push(slot),
            "" => {}
            label => others.push(label.to_owned()),
        }
    }
    match (found.as_slice(), others.join(", ")) {
        ([slot], _) => Ok(*slot),
        ([], others) => Err(options
            .unavailable(format!(
                "there is none of this label, correct slot.pkcs11.token or plug it in; there are: {others}"
            ))
            .into()),
        _ => Err(options.unavailable("there are several of this label").into()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;

    use super::*;
    use crate::crypto::SecretBytes;
    use crate::keys::token::Pin;
    use crate::model::Reason;

    fn options(module: &str) -> Arc<Options> {
        let pin = Pin::Text(SecretBytes::from("1234".to_owned()));
        Arc::new(Options { module: module.into(), token: "blue".to_owned(), pin, hardware: false })
    }

    #[tokio::test]
    async fn a_module_that_is_not_there_is_named() {
        let options = options("/nowhere/module.so");
        let Err(error) = Worker::of(&options.module).run(&options, |_| Ok(())).await else { panic!("it was loaded") };
        assert_eq!(error.reason, Reason::KeyCustodianUnavailable);
        assert!(error.message.contains("/nowhere/module.so cannot be loaded"), "{error}");
    }

    #[tokio::test]
    async fn a_module_that_hangs_holds_up_nobody_for_long_and_nothing_is_begun_late() {
        let options = options("/nowhere/hanging.so");
        let worker = Worker::new(&options.module, Duration::from_millis(50));
        let (release, hang) = mpsc::channel::<()>();
        let (begun, was_begun) = mpsc::channel::<()>();
        let hanging = worker.ask(&options, move |_| {
            let _ = hang.recv();
            Ok(())
        });
        let queued = worker.ask(&options, move |_| {
            let _ = begun.send(());
            Ok(())
        });
        let (hanging, queued) = tokio::join!(hanging, queued);
        for error in [hanging.err().unwrap(), queued.err().unwrap()] {
            assert!(error.message.contains("has not answered"), "{error}");
        }
        while worker.busy.lock().unwrap().is_none_or(|since| since.elapsed() <= worker.patience) {
            std::thread::yield_now();
        }
        let mut late = std::pin::pin!(worker.ask(&options, |_| Ok(())));
        let answer = std::future::poll_fn(|context| std::task::Poll::Ready(late.as_mut().poll(context))).await;
        assert!(matches!(answer, std::task::Poll::Ready(Err(_))), "one that is known to hang is not waited for");
        release.send(()).unwrap();
        assert!(was_begun.recv().is_err(), "nobody waited for it any more");
        while worker.busy.lock().unwrap().is_some() {
            std::thread::yield_now();
        }
        while worker.ask(&options, |_| Ok(())).await.is_err() {}
    }

    #[tokio::test]
    async fn work_that_falls_over_does_not_take_the_thread_along() {
        let options = options("/nowhere/falling.so");
        let worker = Worker::of(&options.module);
        let fallen = worker.ask(&options, |_| -> Result<()> { panic!("as a module might") }).await;
        assert!(fallen.err().unwrap().message.contains("fell over"));
        worker.ask(&options, |_| Ok(())).await.unwrap();
    }
}
