//! What runs, as far as it is known: functions, their Deployments and Pods, and what was ordered. No I/O.
//!
//! News of the cluster go in, and what the server is to hear comes out. A replica that is asked to go, and one of a version
//! that was replaced, is draining from then on, whatever Kubernetes says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use nanofaas_backends::{
    Ensured, FoundFunction, FunctionName, ReplicaChange, ReplicaChanges, ReplicaId, ReplicaState,
    ReplicaStatus, Version, Workload, who_goes,
};

use crate::{
    probing::Probing,
    translate::{Problem, SeenDeployment, SeenPod},
};

/// What the server is to hear of a function.
pub type Report = (FunctionName, ReplicaChanges);

/// Everything that is known.
#[derive(Default)]
pub struct Table {
    pub(crate) functions: BTreeMap<FunctionName, Known>,
    /// All Pods were told at least once, and all Deployments.
    pub is_listed: [bool; 2],
    /// Functions that run, and whose Deployment somebody else has deleted.
    missing: BTreeSet<FunctionName>,
}

/// A function that exists, or is wanted.
#[derive(Default)]
pub struct Known {
    /// What this server ordered.
    pub wanted: Option<Wanted>,
    /// What the cluster has of it.
    pub deployment: Option<SeenDeployment>,
    /// Oldest first.
    pub(crate) members: Vec<Member>,
}

/// A function that was ordered.
pub struct Wanted {
    /// What is to run.
    pub workload: Arc<Workload>,
    /// The version whose replicas take calls, until another one was ensured.
    serving: Option<Version>,
    /// How many replicas.
    pub desired: u32,
    /// It was reported: changes are too.
    pub is_ensured: bool,
    /// It is being removed.
    pub is_leaving: bool,
    /// The change of the Deployment that set `desired`.
    scaled_at: u64,
}

/// A Pod.
pub(crate) struct Member {
    pub(crate) seen: SeenPod,
    /// As it was reported.
    pub(crate) status: ReplicaStatus,
    /// It was chosen to go.
    pub(crate) is_chosen: bool,
    /// It was chosen, another one went, and it was deleted for that.
    is_deleted: bool,
    /// Whether its word counts while Kubernetes does not say that it is ready.
    pub(crate) probing: Probing,
}

impl Wanted {
    fn counts(&self, version: &Version) -> bool {
        self.workload.version == *version || self.serving.as_ref() == Some(version)
    }
}

impl Known {
    fn is_nothing(&self) -> bool {
        self.wanted.is_none() && self.deployment.is_none() && self.members.is_empty()
    }

    /// Whether nothing of it is left in the cluster.
    pub fn is_gone(&self) -> bool {
        self.deployment.is_none() && self.members.is_empty()
    }

    /// How many replicas are wanted, as far as that is known.
    fn desired(&self) -> u32 {
        match (&self.wanted, &self.deployment) {
            (Some(wanted), _) => wanted.desired,
            (None, Some(deployment)) => deployment.desired,
            (None, None) => 0,
        }
    }

    /// How many replicas of a version take calls.
    pub fn ready(&self, version: &Version) -> usize {
        let ready =
            |member: &&Member| member.status.version == *version && member.status.endpoint().is_some();
        self.members.iter().filter(ready).count()
    }

    /// Why a version cannot run, and the Pod that says so; the first that there is.
    pub fn problem(&self, version: &Version) -> Option<(Problem, Option<&SeenPod>)> {
        let of_pods =
            self.members.iter().filter(|member| member.status.version == *version && !member.seen.is_ending);
        let mut problems: Vec<(Problem, Option<&SeenPod>)> =
            of_pods.filter_map(|member| Some((member.seen.problem.clone()?, Some(&member.seen)))).collect();
        let failure = self.deployment.as_ref().and_then(|deployment| deployment.failure.clone());
        problems.extend(failure.map(|failure| (failure, None)));
        // What stays says more than what may pass.
        problems.sort_by_key(|(problem, _)| problem.kind.may_pass());
        problems.into_iter().next()
    }

    /// The replicas, oldest first.
    pub fn replicas(&self) -> impl Iterator<Item = &ReplicaStatus> {
        self.members.iter().map(|member| &member.status)
    }

    /// The Pods, oldest first.
    pub fn pods(&self) -> impl Iterator<Item = &SeenPod> {
        self.members.iter().map(|member| &member.seen)
    }

    pub(crate) fn changes(&self, changes: Vec<ReplicaChange>) -> Option<ReplicaChanges> {
        let is_told = self.wanted.as_ref().is_some_and(|wanted| wanted.is_ensured) && !changes.is_empty();
        is_told.then(|| ReplicaChanges { changes, desired: self.desired() })
    }

    /// The state that is reported for a Pod.
    pub(crate) fn state(&self, seen: &SeenPod, is_chosen: bool, probing: &Probing) -> ReplicaState {
        let is_old = self.wanted.as_ref().is_some_and(|wanted| {
            wanted.is_leaving || (wanted.is_ensured && !wanted.counts(&seen.status.version))
        });
        match (is_chosen || is_old, probing) {
            (true, _) => ReplicaState::Draining,
            (false, Probing::Answered { probe, .. }) => ReplicaState::Ready(Arc::clone(&probe.endpoint)),
            (false, _) => seen.status.state.clone(),
        }
    }

    /// Takes over a Pod; what is different.
    fn see(&mut self, seen: SeenPod) -> Vec<ReplicaChange> {
        let position = self.members.iter().position(|member| member.status.id == seen.status.id);
        let since = seen.status.since;
        let Some(position) = position else {
            let probing = Probing::of(&seen);
            let state = self.state(&seen, false, &probing);
            let status = ReplicaStatus { state, ..seen.status.clone() };
            // Of those of one second, the one that was seen first.
            let place = self.members.partition_point(|member| member.seen.created <= seen.created);
            let change = ReplicaChange::Now(status.clone());
            self.members.insert(place, Member { seen, status, is_chosen: false, is_deleted: false, probing });
            return vec![change];
        };
        let member = &mut self.members[position];
        if !member.probing.goes_on(&member.seen, &seen) {
            member.probing = Probing::Over;
        }
        let member = &self.members[position];
        let state = self.state(&seen, member.is_chosen, &member.probing);
        let member = &mut self.members[position];
        let mut changes = Vec::new();
        let was_ready = member.status.endpoint().is_some();
        if was_ready && seen.restarts > member.seen.restarts && matches!(state, ReplicaState::Ready(_)) {
            // Its program ended and is ready again, all in one event: calls to it were lost.
            let reason = seen.last_end.clone().unwrap_or_else(|| "its program was started again".to_owned());
            changes.extend(change(&mut member.status, ReplicaState::Failed(reason.into()), since));
        }
        changes.extend(change(&mut member.status, state, since));
        member.seen = seen;
        changes
    }
}

/// Changes a state, unless it is the last one. Times do not go back.
pub(crate) fn change(
    status: &mut ReplicaStatus,
    state: ReplicaState,
    since: SystemTime,
) -> Option<ReplicaChange> {
    if status.state == state || status.state == ReplicaState::Draining {
        return None;
    }
    status.state = state;
    status.since = status.since.max(since);
    Some(ReplicaChange::Now(status.clone()))
}

/// Changes of an object are numbered. The numbers mean nothing else, and one that is none counts as new.
pub(crate) fn number(resource_version: &str) -> u64 {
    resource_version.parse().unwrap_or(u64::MAX)
}

impl Table {
    /// Whether everything was told once.
    pub fn is_complete(&self) -> bool {
        self.is_listed == [true, true]
    }

    /// A function, if there is something of it.
    pub fn get(&self, name: &FunctionName) -> Option<&Known> {
        self.functions.get(name)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, name: &FunctionName) -> Option<&mut Known> {
        self.functions.get_mut(name)
    }

    /// Names of all functions.
    pub fn names(&self) -> Vec<FunctionName> {
        self.functions.keys().cloned().collect()
    }

    /// Everything that the cluster has.
    pub fn found(&self) -> Vec<FoundFunction> {
        let found = self.functions.iter().filter(|(_, known)| !known.is_gone());
        found
            .map(|(name, known)| FoundFunction {
                name: name.clone(),
                labels: known
                    .deployment
                    .as_ref()
                    .map(|deployment| deployment.labels.clone())
                    .unwrap_or_default(),
                desired: known.desired(),
                replicas: known.replicas().cloned().collect(),
            })
            .collect()
    }

    /// Functions that run, and whose Deployment somebody else has deleted.
    pub fn missing(&self) -> &BTreeSet<FunctionName> {
        &self.missing
    }

    /// What is to be made of such a function, and how many replicas of it.
    pub fn lost(&self, name: &FunctionName) -> Option<(Arc<Workload>, u32)> {
        let wanted = self.missing.get(name).and_then(|name| self.get(name)?.wanted.as_ref())?;
        Some((Arc::clone(&wanted.workload), wanted.desired))
    }

    /// A function is ordered.
    pub fn want(&mut self, workload: Arc<Workload>, desired: u32) {
        self.missing.remove(&workload.name);
        let known = self.functions.entry(workload.name.clone()).or_default();
        let before = known.wanted.take();
        let serving = before
            .as_ref()
            .map(|before| before.serving.clone().unwrap_or_else(|| before.workload.version.clone()));
        known.wanted = Some(Wanted {
            workload,
            serving,
            desired,
            is_ensured: before.as_ref().is_some_and(|before| before.is_ensured),
            is_leaving: false,
            scaled_at: before.map_or(0, |before| before.scaled_at),
        });
    }

    /// An ordered function runs: what the server has to know. What is old goes from now on.
    pub fn settle(&mut self, name: &FunctionName) -> Option<Ensured> {
        let known = self.functions.get_mut(name)?;
        let wanted = known.wanted.as_mut()?;
        wanted.is_ensured = true;
        wanted.serving = None;
        let desired = wanted.desired;
        let old: Vec<SeenPod> = known.pods().cloned().collect();
        old.into_iter().for_each(|seen| drop(known.see(seen)));
        Some(Ensured { replicas: known.replicas().cloned().collect(), desired })
    }

    /// A function is not wanted any more, and nothing is to be reported of it.
    pub fn forget(&mut self, name: &FunctionName) {
        self.missing.remove(name);
        if let Some(known) = self.functions.get_mut(name) {
            known.wanted = None;
        }
        self.tidy(name);
    }

    /// A function is being removed: all of its replicas go.
    pub fn leave(&mut self, name: &FunctionName) -> Option<Report> {
        self.missing.remove(name);
        let known = self.functions.get_mut(name)?;
        if let Some(wanted) = known.wanted.as_mut() {
            wanted.is_leaving = true;
            wanted.desired = 0;
        }
        let all: Vec<SeenPod> = known.pods().cloned().collect();
        let changes = all.into_iter().rev().flat_map(|seen| known.see(seen)).collect();
        known.changes(changes).map(|changes| (name.clone(), changes))
    }

    /// There are to be so many replicas. Chooses who goes.
    pub fn resize(
        &mut self,
        name: &FunctionName,
        replicas: u32,
        first_to_go: &[ReplicaId],
    ) -> Option<(Vec<String>, Option<Report>)> {
        let known = self.functions.get_mut(name)?;
        let wanted = known.wanted.as_mut().filter(|wanted| wanted.is_ensured && !wanted.is_leaving)?;
        let had = wanted.desired;
        wanted.desired = replicas;
        // What the cluster says of changes before this one is old.
        wanted.scaled_at = u64::MAX;
        let is_live = |member: &Member| member.status.state != ReplicaState::Draining;
        let live = (0..).zip(&known.members).filter(|(_, member)| is_live(member));
        // So many that do not exist yet are never made.
        let surplus = live.clone().count().saturating_sub(replicas as usize);
        let going = who_goes(live.map(|(at, member)| (at, &member.status)), first_to_go, surplus);
        let mut changes = Vec::new();
        let mut pods = Vec::new();
        for at in going {
            let member = &mut known.members[at];
            member.is_chosen = true;
            pods.push(member.seen.name.clone());
            let now = SystemTime::now();
            changes.extend(change(&mut member.status, ReplicaState::Draining, now));
        }
        let is_told = had != replicas || !changes.is_empty();
        let report = is_told.then(|| (name.clone(), ReplicaChanges { changes, desired: replicas }));
        Some((pods, report))
    }

    /// The cluster has taken over the number of replicas with this change.
    pub fn resized(&mut self, name: &FunctionName, resource_version: Option<&str>) {
        let wanted = self.functions.get_mut(name).and_then(|known| known.wanted.as_mut());
        if let Some(wanted) = wanted {
            wanted.scaled_at = resource_version.map_or(0, number);
        }
    }

    /// The cluster has not taken it over: what it says itself holds.
    pub fn not_resized(&mut self, name: &FunctionName) -> Option<Report> {
        let known = self.functions.get_mut(name)?;
        let wanted = known.wanted.as_mut().filter(|wanted| wanted.is_ensured)?;
        wanted.scaled_at = 0;
        let desired = known.deployment.as_ref().map_or(wanted.desired, |deployment| deployment.desired);
        let is_other = std::mem::replace(&mut wanted.desired, desired) != desired;
        is_other.then(|| (name.clone(), ReplicaChanges { changes: Vec::new(), desired }))
    }

    /// Pods that were chosen to go and have to be deleted, because others went in their place. Each is named once.
    pub fn left_over(&mut self, name: &FunctionName) -> Vec<String> {
        let Some(known) = self.functions.get_mut(name) else { return Vec::new() };
        let desired = known.desired() as usize;
        let live = known.members.iter().filter(|member| !member.seen.is_ending).count();
        if live > desired {
            return Vec::new();
        }
        let left = known.members.iter_mut().filter_map(|member| {
            let is_left = member.is_chosen && !member.seen.is_ending && !member.is_deleted;
            member.is_deleted |= is_left;
            is_left.then(|| member.seen.name.clone())
        });
        left.collect()
    }

    /// A Pod is new, or is like this now.
    pub fn pod_now(&mut self, seen: SeenPod) -> Option<Report> {
        let name = seen.function.clone();
        let known = self.functions.entry(name.clone()).or_default();
        let changes = known.see(seen);
        known.changes(changes).map(|changes| (name, changes))
    }

    /// A Pod is gone.
    pub fn pod_gone(&mut self, name: &FunctionName, id: &ReplicaId) -> Option<Report> {
        let known = self.functions.get_mut(name)?;
        let position = known.members.iter().position(|member| member.status.id == *id)?;
        let member = known.members.remove(position);
        let mut changes = Vec::new();
        let mut status = member.status;
        changes.extend(change(&mut status, ReplicaState::Draining, SystemTime::now()));
        changes.push(ReplicaChange::Gone(id.clone()));
        let report = known.changes(changes).map(|changes| (name.clone(), changes));
        self.tidy(name);
        report
    }

    /// These are all Pods.
    pub fn all_pods(&mut self, pods: Vec<SeenPod>) -> Vec<Report> {
        self.is_listed[0] = true;
        let known = self.functions.iter().flat_map(|(name, known)| {
            known.replicas().map(move |replica| (name.clone(), replica.id.clone()))
        });
        let there: BTreeSet<&ReplicaId> = pods.iter().map(|pod| &pod.status.id).collect();
        let gone: Vec<(FunctionName, ReplicaId)> = known.filter(|(_, id)| !there.contains(id)).collect();
        let mut reports: Vec<Report> = Vec::new();
        reports.extend(gone.iter().filter_map(|(name, id)| self.pod_gone(name, id)));
        reports.extend(pods.into_iter().filter_map(|pod| self.pod_now(pod)));
        reports
    }

    /// A Deployment is new, or is like this now.
    pub fn deployment_now(&mut self, seen: SeenDeployment) -> Option<Report> {
        let name = seen.function.clone();
        let known = self.functions.entry(name.clone()).or_default();
        // What a request was answered with may be newer than what the watch tells.
        let is_old = known.deployment.as_ref().is_some_and(|old| {
            old.uid == seen.uid && number(&old.resource_version) > number(&seen.resource_version)
        });
        if is_old {
            return None;
        }
        let (desired, version) = (seen.desired, number(&seen.resource_version));
        let is_ending = seen.is_ending;
        known.deployment = Some(seen);
        self.missing.remove(&name);
        let wanted = known.wanted.as_mut().filter(|wanted| wanted.is_ensured && !wanted.is_leaving)?;
        // Somebody else scales it.
        if wanted.desired == desired || version <= wanted.scaled_at || is_ending {
            return None;
        }
        wanted.desired = desired;
        Some((name, ReplicaChanges { changes: Vec::new(), desired }))
    }

    /// A Deployment is gone.
    pub fn deployment_gone(&mut self, name: &FunctionName, uid: &str) {
        if let Some(known) = self.functions.get_mut(name)
            && known.deployment.as_ref().is_some_and(|deployment| deployment.uid == uid)
        {
            known.deployment = None;
            if known.wanted.as_ref().is_some_and(|wanted| wanted.is_ensured && !wanted.is_leaving) {
                self.missing.insert(name.clone());
            }
        }
        self.tidy(name);
    }

    /// These are all Deployments, in a state of the cluster.
    pub fn all_deployments(
        &mut self,
        deployments: Vec<SeenDeployment>,
        resource_version: &str,
    ) -> Vec<Report> {
        self.is_listed[1] = true;
        let there: BTreeSet<&str> = deployments.iter().map(|deployment| deployment.uid.as_str()).collect();
        let is_missing = |old: &SeenDeployment| {
            // One that was made after the list is not in it.
            number(&old.resource_version) <= number(resource_version) && !there.contains(old.uid.as_str())
        };
        let old = self.functions.values().filter_map(|known| known.deployment.as_ref());
        let gone: Vec<_> =
            old.filter(|old| is_missing(old)).map(|old| (old.function.clone(), old.uid.clone())).collect();
        gone.iter().for_each(|(name, uid)| self.deployment_gone(name, uid));
        deployments.into_iter().filter_map(|deployment| self.deployment_now(deployment)).collect()
    }

    fn tidy(&mut self, name: &FunctionName) {
        if self.functions.get(name).is_some_and(Known::is_nothing) {
            self.functions.remove(name);
        }
    }
}
