//! Nodes: several processes that hold keys of one vault, and how an erasure reaches them all.
//!
//! Each node has a row in the database with a [lease](super::lease). Many times a second it looks how things stand:
//! an epoch that was announced it applies to its own keys, then says so in its row. The one that leads shreds; it
//! waits until every node has applied the epoch, or until its lease has run out, judged by its row having stood still
//! for as long as a lease lasts, on the watch of the one who waits. No clocks are compared. To end a lease its row is
//! deleted if it still stands still; whoever finds their row gone drops their keys and joins anew.
//!
//! A database that one process has for itself knows none of this.

mod lead;
mod signs;
mod waiting;

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::checkpoint::hex;
use super::custody::{Custody, Parts};
use super::lease::{Lease, VALID};
use super::presence;
use super::ring::Epoch;
use crate::model::{Error, KeyEventKind, Reason, Result};
use crate::platform::{self, uptime};
use crate::store::Store;
use crate::store::node::{Node, NodeId, Pulse};
use waiting::Watched;

/// How often a node looks how things stand.
const LOOK: Duration = Duration::from_millis(50);
/// How often it gives a sign of life at least: so often that a disk that holds a commit up for two seconds ends no lease.
const RENEW: Duration = Duration::from_millis(500);
/// How long it waits for one answer of the database.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a row must have stood still before its lease is ended: the lease, and something for clocks that run unevenly.
const STILL: Duration = VALID.saturating_add(Duration::from_millis(250));
/// How long a node waits for the one that leads.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How long the leader leaves alone what it could not do.
const REST: Duration = Duration::from_secs(1);

/// This process among the nodes.
pub struct Member {
    id: NodeId,
    leads: AtomicBool,
    left: AtomicBool,
    /// The newest announced epoch whose deaths this node has applied.
    applied: AtomicU64,
    /// The newest landing that this node has answered.
    landed: AtomicU64,
    /// Whether this node is about to join the others again, and its keys are there before its lease is.
    joining: AtomicBool,
    /// One sign of life after the other, so that the newest is the last.
    telling: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

/// What a sign of life tells: the epoch applied, and the landing answered.
type Told = (u64, u64);

#[derive(Default)]
struct State {
    /// When the last sign of life was sent, and which epoch and landing it told. None while this node is not among the
    /// others: it must not be given its lease before it has caught up with them.
    renewed: Option<(Duration, Told)>,
    /// Since when the leader's row stands still.
    leader: Watched,
    /// Until when the leader leaves alone what it could not do.
    rest: Duration,
}

impl Member {
    /// Adds this process to the nodes.
    pub(super) async fn join(parts: &Parts) -> Result<Self> {
        let mut id = NodeId::default();
        parts.random.fill(&mut id);
        let member = Self {
            id,
            leads: AtomicBool::new(false),
            left: AtomicBool::new(false),
            applied: AtomicU64::new(0),
            landed: AtomicU64::new(0),
            joining: AtomicBool::new(false),
            telling: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        };
        let sent = member.enter(parts).await?;
        member.is_among_them(&parts.lease, sent, (0, 0));
        if let Err(error) = member.meet(parts).await {
            in_time(async { parts.store.watch().await?.leave_node(&member.id).await }).await?;
            presence::withdraw(parts.signer.directory(), &member.id);
            return Err(error);
        }
        parts.tell(KeyEventKind::NodeJoined, named(&member.id)).await;
        Ok(member)
    }

    /// Makes sure that every node uses the directory of the slot that this one uses. Waits until those who do not seem
    /// to are certainly out.
    async fn meet(&self, parts: &Parts) -> Result<()> {
        let directory = parts.signer.directory();
        let (mut watched, until) = (Watched::default(), uptime() + STILL + PATIENCE);
        loop {
            let nodes = in_time(async { parts.store.watch().await?.nodes().await }).await?;
            let is_elsewhere = |node: &&Node| node.id != self.id && !presence::is_here(directory, &node.id);
            let elsewhere: Vec<_> = nodes.iter().filter(is_elsewhere).collect();
            // Each is looked at, so that each is known to stand still or not.
            let alive = elsewhere.iter().filter(|node| !watched.is_out(node.id, node.renewals, &node.process));
            let Some(node) = alive.collect::<Vec<_>>().first().copied() else {
                return presence::clear(directory, &nodes.iter().map(|node| node.id).collect::<Vec<_>>());
            };
            if uptime() >= until {
                return Err(presence::elsewhere(directory, &node.name));
            }
            let (sent, now) = (uptime(), parts.clock.now());
            in_time(async { parts.store.watch().await?.renew_node(&self.id, 0, 0, now).await }).await?;
            parts.lease.extend(sent);
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn enter(&self, parts: &Parts) -> Result<Duration> {
        let (sent, now) = (uptime(), parts.clock.now());
        let (name, process) = (platform::host(), platform::this_process());
        // Where the count begins nobody can have seen before.
        let mut begin = [0; 4];
        parts.random.fill(&mut begin);
        let renewals = u32::from_be_bytes(begin).into();
        presence::announce(parts.signer.directory(), &self.id)?;
        let node = Node { id: self.id, name, process, joined_at: now, renewals, epoch: 0, landed: 0, seen_at: now };
        let joining = async {
            let mut tx = parts.store.watch().await?;
            tx.join_node(&node).await?;
            tx.begin_writer(&self.id).await
        };
        in_time(joining).await?;
        self.applied.store(0, Ordering::SeqCst);
        Ok(sent)
    }

    /// Begins the lease with the sign of life that was sent then.
    fn is_among_them(&self, lease: &Lease, sent: Duration, told: Told) {
        self.state().renewed = Some((sent, told));
        lease.extend(sent);
    }

    fn news(&self) -> Told {
        (self.applied.load(Ordering::SeqCst), self.landed.load(Ordering::SeqCst))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until nobody uses the keys of the vault in a database, which is about to be replaced.
///
/// # Errors
/// `KeyCustodianUnavailable` when a node does and goes on.
pub async fn await_nobody(store: &dyn Store) -> Result<()> {
    let (mut watched, until) = (Watched::default(), uptime() + STILL + PATIENCE);
    loop {
        let mut nodes = in_time(async { store.watch().await?.nodes().await }).await?;
        nodes.retain(|node| !watched.is_out(node.id, node.renewals, &node.process));
        let Some(node) = nodes.first() else { return Ok(()) };
        if uptime() >= until {
            let message = format!("the node {} serves this database: stop every node first", node.name);
            return Err(Error::new(Reason::KeyCustodianUnavailable, message));
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Custody {
    /// Which node this is: all zero in a vault of one process.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.member.as_ref().map_or(NodeId::default(), |member| member.id)
    }

    /// Whether this node is the one that shreds and rotates.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.member.as_ref().is_none_or(|member| member.leads.load(Ordering::SeqCst))
    }

    /// Every node, this one among them. None in a vault of one process.
    pub async fn nodes(&self) -> Result<Vec<Node>> {
        let mut nodes = self.store().read().await?.nodes().await?;
        if let Some(member) = &self.member {
            // The row of this node tells of its last sign of life.
            for node in nodes.iter_mut().filter(|node| node.id == member.id) {
                node.epoch = member.applied.load(Ordering::SeqCst);
            }
        }
        Ok(nodes)
    }

    /// Leaves the nodes in good order. This one must answer nobody any more.
    pub async fn leave(&self) -> Result<()> {
        let Some(member) = &self.member else { return self.end_to_write().await };
        member.left.store(true, Ordering::SeqCst);
        member.leads.store(false, Ordering::SeqCst);
        let _not_meanwhile = self.base.lock().await;
        self.end_to_write().await?;
        in_time(async { self.store().watch().await?.leave_node(&member.id).await }).await?;
        presence::withdraw(self.parts.signer.directory(), &member.id);
        self.parts.tell(KeyEventKind::NodeLeft, format!("{} in good order", named(&member.id))).await;
        Ok(())
    }

    /// Keeps this node's lease and keys up to date for as long as the custody is there. The lease on its own: what a
    /// look leads to may wait for as long as a lease lasts.
    pub fn keep_up(custody: &Arc<Self>) {
        if custody.member.is_some() {
            tokio::spawn(signs::keep_lease(Arc::downgrade(custody)));
            tokio::spawn(keep_up(Arc::downgrade(custody)));
        }
    }

    /// One look at how things stand, and what follows from it.
    async fn look(self: &Arc<Self>, member: &Member) -> Result<()> {
        if self.ring.epoch().is_err() {
            return self.join_anew(member).await;
        }
        // Before the look, during which a run of this node may come further.
        let applied = member.applied.load(Ordering::SeqCst);
        let pulse = in_time(self.pulse()).await?;
        if pulse.fence < applied {
            // A standby that lagged behind has taken over, or a copy was put in place.
            tracing::error!("the database has gone back in time; this node drops its keys");
            self.drop_keys(member);
            return Ok(());
        }
        if pulse.fence > member.applied.load(Ordering::SeqCst) {
            self.catch_up(member).await?;
            self.renew_lease(member).await?;
        }
        if let Err(error) = in_time(self.mark_doubtful()).await {
            tracing::warn!(%error, "buckets of the search index stay in doubt");
        }
        if pulse.landing > member.landed.load(Ordering::SeqCst) {
            self.flights.fence().await;
            member.landed.store(pulse.landing, Ordering::SeqCst);
            self.renew_lease(member).await?;
        }
        if !self.elect(member, &pulse).await? {
            return Ok(());
        }
        if (pulse.pending || pulse.wanted > pulse.epoch) && uptime() >= member.state().rest {
            let custody = Arc::clone(self);
            tokio::spawn(async move { custody.do_what_waits().await });
        }
        Ok(())
    }

    async fn pulse(&self) -> Result<Pulse> {
        let missing = || Error::internal("the database holds no vault any more");
        self.store().watch().await?.pulse().await?.ok_or_else(missing)
    }

    /// Gives a sign of life when it is time, or when there is news. Joins anew when the lease was ended.
    async fn renew_lease(&self, member: &Member) -> Result<()> {
        let _one_at_a_time = member.telling.lock().await;
        let (now, news) = (uptime(), member.news());
        let Some((at, told)) = member.state().renewed else { return Ok(()) };
        if self.parts.lease.is_valid() && told == news && now < at + RENEW {
            return Ok(());
        }
        if in_time(self.tell(member, news)).await? {
            // Unless the keys were dropped meanwhile.
            if let Some(renewed) = &mut member.state().renewed {
                *renewed = (now, news);
                self.parts.lease.extend(now);
            }
            return Ok(());
        }
        tracing::warn!("the lease of this node was ended; it drops its keys and joins anew");
        self.drop_keys(member);
        Err(Error::new(Reason::StoreUnavailable, "the lease of this node was ended by another"))
    }

    async fn tell(&self, member: &Member, (epoch, landed): Told) -> Result<bool> {
        self.store().watch().await?.renew_node(&member.id, epoch, landed, self.parts.clock.now()).await
    }

    fn drop_keys(&self, member: &Member) {
        self.ring.drop_keys();
        // What was handed out may be handed out again by a database that has gone back.
        self.forget_leaves();
        member.leads.store(false, Ordering::SeqCst);
        member.state().renewed = None;
        if let Ok(mut base) = self.base.try_lock() {
            *base = None;
        }
    }

    /// Joins the others again, as if just started. When that fails this node is none of them, and rests before it tries
    /// again.
    async fn join_anew(&self, member: &Member) -> Result<()> {
        if uptime() < member.state().rest || member.left.load(Ordering::SeqCst) {
            return Ok(());
        }
        member.joining.store(true, Ordering::SeqCst);
        let joined = self.try_to_join(member).await;
        if joined.is_err() {
            self.ring.drop_keys();
        }
        member.joining.store(false, Ordering::SeqCst);
        if joined.is_err() {
            member.state().rest = uptime() + REST;
            in_time(async { self.store().watch().await?.leave_node(&member.id).await }).await?;
        }
        joined
    }

    async fn try_to_join(&self, member: &Member) -> Result<()> {
        let sent = member.enter(&self.parts).await?;
        let (content, tree) = super::recover::present(&self.parts).await?;
        let tree = tree.ok_or_else(|| super::recover::behind(&content))?;
        {
            let _one_at_a_time = self.applying.lock().await;
            self.ring.replace(Epoch { tree, number: content.current.epoch });
            member.applied.store(content.current.epoch, Ordering::SeqCst);
        }
        self.catch_up(member).await?;
        let _one_at_a_time = member.telling.lock().await;
        let news = member.news();
        if !in_time(self.tell(member, news)).await? {
            return Err(Error::new(Reason::StoreUnavailable, "this node was too slow to join"));
        }
        member.is_among_them(&self.parts.lease, sent, news);
        self.parts.tell(KeyEventKind::NodeJoined, format!("{} anew", named(&member.id))).await;
        tracing::info!("this node is back among the others");
        Ok(())
    }

    /// Applies the deaths that were announced: nothing dead can be derived here when this returns, and no flight that
    /// may have derived it is still under way.
    pub(super) async fn catch_up(&self, member: &Member) -> Result<()> {
        let _one_at_a_time = self.applying.lock().await;
        let applied = member.applied.load(Ordering::SeqCst);
        let (fence, dead) = in_time(async {
            let mut tx = self.store().watch().await?;
            let fence = tx.tree_head().await?.map_or(applied, |head| head.fence);
            // Everything announced since, also what was announced after the fence was read.
            Ok((fence, tx.announced_after(applied).await?))
        })
        .await?;
        let ranges: Vec<_> = dead.iter().map(|range| range.first..=range.last).collect();
        let epoch = self.ring.epoch()?;
        let tree = if ranges.is_empty() { epoch.tree } else { epoch.tree.puncture(&ranges, self.ring.random()).tree };
        if let Ok(mut base) = self.base.try_lock() {
            // It holds what has just died.
            *base = None;
        }
        // They are closed, and die with that epoch.
        self.forget_leaves();
        self.put_to_use(Epoch { tree, number: fence }).await;
        Ok(())
    }

    /// Uses the tree of an epoch from now on, unless this node has come further meanwhile.
    pub(super) async fn advance_to(&self, epoch: Epoch) {
        let _one_at_a_time = self.applying.lock().await;
        let applied = self.member.as_ref().map(|member| member.applied.load(Ordering::SeqCst));
        if applied.is_none_or(|applied| applied < epoch.number) {
            self.put_to_use(epoch).await;
        }
    }

    /// Uses a tree from now on; returns when nothing of the one before can still be seen.
    async fn put_to_use(&self, epoch: Epoch) {
        let number = epoch.number;
        self.ring.replace(epoch);
        self.flights.fence().await;
        self.ring.forget();
        if let Some(member) = &self.member {
            member.applied.fetch_max(number, Ordering::SeqCst);
        }
    }

    /// Ends the lease of a node that gives no sign of life.
    async fn expire(&self, node: &NodeId, renewals: u64) -> Result<bool> {
        let ended = self.store().watch().await?.expire_node(node, renewals).await?;
        if ended {
            self.parts.tell(KeyEventKind::NodeLeft, format!("{} gave no sign of life", named(node))).await;
        }
        Ok(ended)
    }

    async fn do_what_waits(&self) {
        if let Err(error) = self.attempt_if_idle().await {
            tracing::warn!(%error, "what waits has to wait longer");
            if let Some(member) = &self.member {
                member.state().rest = uptime() + REST;
            }
        }
    }

    /// Renews the lease for as long as `work` takes, which nobody else does before [`Custody::keep_up`].
    pub async fn with_lease<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(member) = &self.member else { return work.await };
        let renewing = async {
            loop {
                if let Err(error) = self.renew_lease(member).await
                    && !self.parts.lease.is_valid()
                {
                    return Err(error);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            done = work => done,
            failed = renewing => failed,
        }
    }

    /// Waits until this node leads (`true`) or `done` says that another has done the work.
    pub(super) async fn await_leader<F, D>(&self, done: F) -> Result<bool>
    where
        F: Fn() -> D + Send + Sync,
        D: Future<Output = Result<bool>> + Send,
    {
        let until = uptime() + LONGEST_WAIT;
        loop {
            if self.leads() {
                return Ok(true);
            }
            if done().await? {
                return Ok(false);
            }
            if uptime() >= until {
                return Err(Error::new(
                    Reason::KeyCustodianUnavailable,
                    "the node that holds the lead has not done it yet; it goes on when it can",
                ));
            }
            tokio::time::sleep(LOOK / 2).await;
        }
    }
}

async fn keep_up(custody: Weak<Custody>) {
    let mut blind = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(custody) = custody.upgrade() else { return };
        let Some(member) = &custody.member else { return };
        if member.left.load(Ordering::SeqCst) {
            return;
        }
        match custody.look(member).await {
            Ok(()) => blind = false,
            Err(error) if !blind => {
                tracing::warn!(%error, "this node cannot see how things stand");
                blind = true;
            }
            Err(_) => {}
        }
    }
}

fn named(id: &NodeId) -> String {
    format!("node {}", hex(id))
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::new(Reason::StoreUnavailable, "the database does not answer in time");
    tokio::time::timeout(PATIENCE, work).await.map_err(late)?
}
