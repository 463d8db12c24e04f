//! Which node leads.
//!
//! The lead is taken by compare-and-set and kept until the leader is gone. It is there to save work: two that both
//! believe to lead do no harm, because the database's fence and the root slot compare before they set.

use std::sync::atomic::Ordering;

use super::{LOOK, Member, PATIENCE, STILL, in_time};
use crate::keys::Custody;
use crate::model::Result;
use crate::platform::uptime;
use crate::store::node::{NodeId, Pulse};

impl Custody {
    /// Whether this node leads, after taking the lead from nobody or from one who is certainly out.
    pub(super) async fn elect(&self, member: &Member, pulse: &Pulse) -> Result<bool> {
        let leads = match (pulse.leader, &pulse.led_by) {
            (Some(leader), _) if leader == member.id => true,
            (Some(leader), Some(led_by)) => {
                let out = member.state().leader.is_out(leader, led_by.renewals, &led_by.process);
                out && in_time(self.take_lead(member, pulse, Some((leader, led_by.renewals)))).await?
            }
            (_, None) | (None, _) => in_time(self.take_lead(member, pulse, None)).await?,
        };
        if leads != member.leads.swap(leads, Ordering::SeqCst) {
            tracing::info!(leads, term = pulse.term, "the lead among the nodes has changed");
        }
        Ok(leads)
    }

    async fn take_lead(&self, member: &Member, pulse: &Pulse, from: Option<(NodeId, u64)>) -> Result<bool> {
        if member.left.load(Ordering::SeqCst) {
            return Ok(false);
        }
        if let Some((leader, renewals)) = from
            && !self.expire(&leader, renewals).await?
        {
            return Ok(false);
        }
        self.store().watch().await?.take_lead(&member.id, pulse.term).await
    }

    /// Takes the lead if nobody has it. With `patience`, for as long as it takes to be certain that nobody has.
    /// Answers whether this node leads.
    pub(in crate::keys) async fn stand_for_lead(&self, patience: bool) -> Result<bool> {
        let Some(member) = &self.member else { return Ok(true) };
        let until = uptime() + STILL + PATIENCE;
        loop {
            let pulse = in_time(self.pulse()).await?;
            if self.elect(member, &pulse).await? {
                return Ok(true);
            }
            if !patience || uptime() >= until {
                return Ok(false);
            }
            self.renew_lease(member).await?;
            tokio::time::sleep(LOOK).await;
        }
    }
}
