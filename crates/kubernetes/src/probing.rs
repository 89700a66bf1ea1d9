//! What is known of Pods that are asked whether they take calls: when they are, and how long their word counts. No I/O.

use std::time::SystemTime;

use nanofaas_backends::{FunctionName, ReplicaId, ReplicaState};

use crate::{
    table::{Known, Member, Report, Table, change},
    translate::{Probe, SeenPod},
};

/// What a Pod that is started says itself. Kubernetes says the same a second later; once it has, only that counts.
pub(crate) enum Probing {
    /// It may be asked.
    Open,
    /// It takes calls.
    Answered {
        probe: Probe,
        /// As it was then: if this changes, Kubernetes has changed its mind.
        ready_changed: Option<SystemTime>,
    },
    /// It is not asked any more.
    Over,
}

impl Probing {
    pub(crate) fn of(seen: &SeenPod) -> Probing {
        if seen.is_fresh { Probing::Open } else { Probing::Over }
    }

    /// Whether it still holds after news of the Pod.
    pub(crate) fn goes_on(&self, before: &SeenPod, now: &SeenPod) -> bool {
        let is_same = now.restarts == before.restarts && now.status.endpoint().is_none();
        is_same
            && match self {
                Probing::Open => true,
                Probing::Answered { probe, ready_changed } => {
                    let is_unchanged = ready_changed.is_none() || *ready_changed == now.ready_changed;
                    now.probe.as_ref() == Some(probe) && is_unchanged
                }
                Probing::Over => false,
            }
    }
}

impl Member {
    /// How it is asked, if it is.
    fn probe(&self) -> Option<&Probe> {
        let is_open = matches!(self.probing, Probing::Open) && self.status.state == ReplicaState::Starting;
        self.seen.probe.as_ref().filter(|_| is_open)
    }
}

impl Known {
    /// Whether Pods are asked themselves: when calls have nowhere else to go.
    fn has_to_ask(&self) -> bool {
        let is_waited_for =
            self.wanted.as_ref().is_some_and(|wanted| wanted.is_ensured && !wanted.is_leaving);
        is_waited_for && self.members.iter().all(|member| member.status.endpoint().is_none())
    }
}

impl Table {
    /// Pods of a function that are to be asked whether they take calls.
    pub fn to_ask(&self, name: &FunctionName) -> Vec<ReplicaId> {
        let known = self.functions.get(name).filter(|known| known.has_to_ask());
        let members = known.into_iter().flat_map(|known| &known.members);
        let asked = members.filter(|member| member.probe().is_some());
        asked.map(|member| member.status.id.clone()).collect()
    }

    /// How one of them is asked; none when that is over.
    pub fn probe(&self, name: &FunctionName, id: &ReplicaId) -> Option<&Probe> {
        let known = self.functions.get(name).filter(|known| known.has_to_ask())?;
        known.members.iter().find(|member| member.status.id == *id)?.probe()
    }

    /// A Pod that was asked like this takes calls, unless something has happened to it meanwhile. The second is true if it
    /// was taken at its word.
    pub fn answered(&mut self, name: &FunctionName, id: &ReplicaId, probe: Probe) -> (Option<Report>, bool) {
        if self.probe(name, id) != Some(&probe) {
            return (None, false);
        }
        let answered =
            |member: &Member| Probing::Answered { probe, ready_changed: member.seen.ready_changed };
        (self.hear_of(name, id, answered), true)
    }

    /// Kubernetes should have said by now that a Pod is ready: if it has not, that counts.
    pub fn doubt(&mut self, name: &FunctionName, id: &ReplicaId) -> Option<Report> {
        self.hear_of(name, id, |_| Probing::Over)
    }

    fn hear_of(
        &mut self,
        name: &FunctionName,
        id: &ReplicaId,
        now: impl FnOnce(&Member) -> Probing,
    ) -> Option<Report> {
        let known = self.functions.get_mut(name)?;
        let position = known.members.iter().position(|member| member.status.id == *id)?;
        known.members[position].probing = now(&known.members[position]);
        let member = &known.members[position];
        let state = known.state(&member.seen, member.is_chosen, &member.probing);
        let changed = change(&mut known.members[position].status, state, SystemTime::now());
        known.changes(changed.into_iter().collect()).map(|changes| (name.clone(), changes))
    }
}
