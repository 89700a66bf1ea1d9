//! What watches tell, and what follows from it.

use std::{collections::BTreeSet, fmt::Debug, rc::Rc, sync::Arc, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::Job as ClusterJob,
        core::v1::{Pod, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    serde::de::DeserializeOwned,
};
use kube::{Resource, core::PartialObjectMeta};
use nanofaas_backends::FunctionName;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    Hearings,
    functions::Shared,
    names::{function_of, selector},
    plan::Kind,
    thread::Owner,
    translate,
    watching::{Hearing, News, Watch, WatchLimits},
};

/// For a Pod to be removed that checked an image.
const CHECK_REMOVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is told by watches.
pub enum ClusterNews {
    /// Replicas, and what checks images or runs jobs.
    Pods(News<Pod>),
    /// Functions.
    Deployments(News<Deployment>),
    /// Attempts of mode REMOTE.
    Jobs(News<ClusterJob>),
    /// What belongs to functions.
    Owned(Kind, OwnedNews),
}

/// What is told of objects of a kind that functions own: no more than whose there are.
pub enum OwnedNews {
    /// These functions have one, and no others.
    All(Vec<FunctionName>),
    /// This one has one no more.
    Gone(FunctionName),
    /// Nothing is missing.
    Nothing,
}

fn owned<K: Resource>(news: News<PartialObjectMeta<K>>) -> OwnedNews {
    let of = |object: &PartialObjectMeta<K>| function_of(object.metadata.annotations.as_ref());
    match news {
        News::All { objects, .. } => OwnedNews::All(objects.iter().filter_map(of).collect()),
        News::Gone(object) => of(&object).map_or(OwnedNews::Nothing, OwnedNews::Gone),
        News::Now(_) => OwnedNews::Nothing,
    }
}

/// The watches, each a task.
pub struct Watches {
    tasks: JoinSet<()>,
    limits: WatchLimits,
    hearings: Arc<Hearings>,
    /// Where they tell.
    told: mpsc::UnboundedSender<ClusterNews>,
    /// Kinds that are followed: those that some function has, or had.
    owned: BTreeSet<Kind>,
}

/// It is there while Jobs are watched.
fn of_jobs(hearings: &Hearings) -> &Hearing {
    hearings.jobs.get().unwrap_or(&hearings.pods)
}

impl Watches {
    /// None yet.
    pub fn new(
        limits: WatchLimits,
        hearings: Arc<Hearings>,
        told: mpsc::UnboundedSender<ClusterNews>,
    ) -> Watches {
        Watches { tasks: JoinSet::new(), limits, hearings, told, owned: BTreeSet::new() }
    }

    /// Follows objects of these kinds, from the first function on that has one: their metadata, which says who is missing one.
    pub fn follow_owned(&mut self, shared: &Shared, kinds: impl IntoIterator<Item = Kind>) {
        for kind in kinds.into_iter().filter(|kind| self.owned.insert(*kind)).collect::<Vec<_>>() {
            match kind {
                Kind::Service => self.start_owned::<Service>(shared, kind),
                Kind::HorizontalPodAutoscaler => self.start_owned::<HorizontalPodAutoscaler>(shared, kind),
                Kind::PodDisruptionBudget => self.start_owned::<PodDisruptionBudget>(shared, kind),
                Kind::NetworkPolicy => self.start_owned::<NetworkPolicy>(shared, kind),
            }
        }
    }

    fn start_owned<K>(&mut self, shared: &Shared, kind: Kind)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug
            + 'static,
    {
        let told = move |news| ClusterNews::Owned(kind, owned::<K>(news));
        self.start::<PartialObjectMeta<K>>(shared, |hearings| &hearings.owned, told);
    }

    /// Follows all objects of a type that belong to the installation.
    pub fn start<K>(
        &mut self,
        shared: &Shared,
        hearing: impl Fn(&Hearings) -> &Hearing + 'static,
        told: impl Fn(News<K>) -> ClusterNews + 'static,
    ) where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Debug
            + 'static,
    {
        let (api, selector) = (shared.cluster.api::<K>(), selector(&shared.settings.installation));
        let (limits, hearings, sender) = (self.limits, Arc::clone(&self.hearings), self.told.clone());
        self.tasks.spawn_local(async move {
            let watch = Watch { api, selector, limits, hearing: hearing(&hearings) };
            watch.run(|news| drop(sender.send(told(news)))).await;
        });
    }

    /// Follows all Jobs, from the first one on: who has no functions with jobs needs no rights for it.
    pub fn follow_jobs(&mut self, shared: &Shared) {
        if self.hearings.jobs.set(Hearing::default()).is_ok() {
            self.start(shared, of_jobs, ClusterNews::Jobs);
        }
    }
}

impl Owner {
    pub(crate) fn hear(&mut self, news: ClusterNews) {
        if let ClusterNews::Pods(news) = &news {
            self.shared.hear_job_pods(news);
            let left = self.shared.checks.borrow_mut().hear(news);
            for pod in left {
                let shared = Rc::clone(&self.shared);
                self.tasks.spawn_local(async move { shared.remove_check(&pod, CHECK_REMOVE_TIMEOUT).await });
            }
        }
        // Of a change the function that it is of, of a list all.
        let asked = match &news {
            ClusterNews::Pods(News::Now(pod) | News::Gone(pod)) => {
                Some(function_of(pod.metadata.annotations.as_ref()).into_iter().collect())
            }
            ClusterNews::Pods(News::All { .. }) => None,
            _ => Some(Vec::new()),
        };
        let reports = {
            let mut table = self.shared.table.borrow_mut();
            match news {
                ClusterNews::Pods(News::All { objects, .. }) => {
                    table.all_pods(objects.iter().filter_map(translate::pod).collect())
                }
                ClusterNews::Pods(News::Now(pod)) => {
                    translate::pod(&pod).and_then(|seen| table.pod_now(seen)).into_iter().collect()
                }
                ClusterNews::Pods(News::Gone(pod)) => {
                    let id = pod.metadata.uid.map(nanofaas_backends::ReplicaId::from);
                    let name = function_of(pod.metadata.annotations.as_ref());
                    name.zip(id).and_then(|(name, id)| table.pod_gone(&name, &id)).into_iter().collect()
                }
                ClusterNews::Deployments(News::All { objects, resource_version }) => {
                    let seen = objects.iter().filter_map(translate::deployment).collect();
                    table.all_deployments(seen, &resource_version)
                }
                ClusterNews::Deployments(News::Now(deployment)) => {
                    let seen = translate::deployment(&deployment);
                    seen.and_then(|seen| table.deployment_now(seen)).into_iter().collect()
                }
                ClusterNews::Deployments(News::Gone(deployment)) => {
                    if let Some(seen) = translate::deployment(&deployment) {
                        table.deployment_gone(&seen.function, &seen.uid);
                    }
                    Vec::new()
                }
                ClusterNews::Owned(kind, news) => {
                    drop(table);
                    self.shared.hear_owned(kind, news);
                    Vec::new()
                }
                ClusterNews::Jobs(news) => {
                    drop(table);
                    self.shared.hear_jobs(&news);
                    Vec::new()
                }
            }
        };
        for (name, _) in &reports {
            let left = self.shared.table.borrow_mut().left_over(name);
            if !left.is_empty() {
                let shared = Rc::clone(&self.shared);
                self.tasks.spawn_local(async move { shared.delete_left_over(left).await });
            }
        }
        self.shared.publish(reports);
        self.shared.news.send_replace(());
        for name in asked.unwrap_or_else(|| self.shared.table.borrow().names()) {
            for (id, name) in self.shared.to_ask(&name) {
                self.tasks.spawn_local(Rc::clone(&self.shared).ask(name, id));
            }
        }
    }
}
