//! Images, tried out before anything of their function is made: a Pod per check, which is removed whatever comes of it.
//!
//! The Pods have the labels of the installation, so the watch of all Pods tells of them, too. One that an earlier run of a
//! server left is removed when Pods are listed for the first time; one of this run that nobody waits for, when it is heard of.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use nanofaas_backends::Workload;
use tokio::time::{Instant, timeout_at};

use crate::{
    cluster::{RequestError, random},
    functions::Shared,
    names::image_check_name,
    plan,
    translate::{self, CheckState, Problem, SeenCheck, pull_timed_out},
    watching::News,
};

/// For the Pod to be removed, while the order waits for it.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why it is not known that an image can be pulled.
#[derive(Debug)]
pub enum ImageError {
    /// The Pod could not be made.
    Request(RequestError),
    /// What the cluster says.
    Found(Problem),
    /// It was never heard of the Pod.
    Unheard,
    /// The Pod was gone before it was known.
    Removed,
}

/// What is known of a Pod that an order waits for.
enum Told {
    Nothing,
    Now(CheckState),
    Gone,
}

/// The checks that are under way.
pub struct Checks {
    /// Tells this run of the server from others.
    server: String,
    /// How many there were.
    count: u64,
    /// By the names of their Pods.
    told: BTreeMap<String, Told>,
    /// Pods were listed.
    is_listed: bool,
}

impl Default for Checks {
    fn default() -> Checks {
        // As much of it as makes a name that can be read.
        let server = format!("{:08x}", random() as u32);
        Checks { server, count: 0, told: BTreeMap::new(), is_listed: false }
    }
}

impl Checks {
    /// Names of the Pods.
    pub fn names(&self) -> Vec<String> {
        self.told.keys().cloned().collect()
    }

    /// Takes over news of Pods; names of those that are to be removed.
    pub fn hear(&mut self, news: &News<Pod>) -> Vec<String> {
        match news {
            News::All { objects, .. } => {
                let is_first = !std::mem::replace(&mut self.is_listed, true);
                let seen: Vec<SeenCheck> = objects.iter().filter_map(translate::image_check).collect();
                for (name, told) in &mut self.told {
                    // One that was made after the list is not in it.
                    if matches!(told, Told::Now(_)) && seen.iter().all(|seen| seen.name != *name) {
                        *told = Told::Gone;
                    }
                }
                seen.into_iter().filter_map(|seen| self.now(seen, is_first)).collect()
            }
            News::Now(pod) => {
                translate::image_check(pod).and_then(|seen| self.now(seen, false)).into_iter().collect()
            }
            News::Gone(pod) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                if let Some(told) = self.told.get_mut(name) {
                    *told = Told::Gone;
                }
                Vec::new()
            }
        }
    }

    /// Takes over how a Pod is; its name if it is left over.
    fn now(&mut self, seen: SeenCheck, is_first: bool) -> Option<String> {
        match self.told.get_mut(&seen.name) {
            Some(told) => {
                *told = Told::Now(seen.state);
                None
            }
            // Another server of the installation may be about to take over, and checks are its own.
            None => (!seen.is_ending && (is_first || seen.server == self.server)).then_some(seen.name),
        }
    }

    /// What came of a check, if something did.
    fn outcome(&self, name: &str) -> Option<Result<(), ImageError>> {
        match self.told.get(name)? {
            Told::Now(CheckState::Pulled) => Some(Ok(())),
            Told::Now(CheckState::Failed(problem)) => Some(Err(ImageError::Found(problem.clone()))),
            Told::Gone => Some(Err(ImageError::Removed)),
            Told::Nothing | Told::Now(CheckState::Waiting(_)) => None,
        }
    }

    /// What came of one whose time is over.
    fn too_late(&self, name: &str, image: &str) -> ImageError {
        match self.told.get(name) {
            Some(Told::Now(CheckState::Waiting(Some(problem)))) => ImageError::Found(problem.clone()),
            Some(Told::Now(_)) => ImageError::Found(pull_timed_out(image)),
            _ => ImageError::Unheard,
        }
    }
}

impl Shared {
    /// Finds out whether the image of a function can be pulled.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub async fn check_image(&self, workload: &Workload, limit: Duration) -> Result<(), ImageError> {
        let by = Instant::now() + limit;
        let (name, server) = {
            let mut checks = self.checks.borrow_mut();
            checks.count += 1;
            let name = image_check_name(workload.name.as_str(), &checks.server, checks.count);
            checks.told.insert(name.clone(), Told::Nothing);
            (name, checks.server.clone())
        };
        let pod = plan::image_check(workload, &self.settings, &name, &server, limit);
        let result = match self.cluster.make_pod(&name, &pod, by).await {
            Ok(()) => self.checked(&name, workload, by).await,
            Err(error) => Err(ImageError::Request(error)),
        };
        // Also when it was refused: an earlier try may have made it.
        self.remove_check(&name, REMOVE_TIMEOUT).await;
        self.checks.borrow_mut().told.remove(&name);
        result
    }

    /// Waits for what comes of a check.
    async fn checked(&self, name: &str, workload: &Workload, by: Instant) -> Result<(), ImageError> {
        let mut news = self.news.subscribe();
        let outcome = async {
            loop {
                if let Some(outcome) = self.checks.borrow().outcome(name) {
                    return outcome;
                }
                // The sender lives as long as `self`.
                let _ = news.changed().await;
            }
        };
        let image = workload.spec.image.as_deref().unwrap_or_default();
        let late = |_| Err(self.checks.borrow().too_late(name, image));
        timeout_at(by, outcome).await.unwrap_or_else(late)
    }

    /// Removes the Pod of a check at once: nothing runs in it that could use time.
    pub async fn remove_check(&self, pod: &str, limit: Duration) {
        if let Err(error) = self.cluster.delete_pod(pod, Some(0), Instant::now() + limit).await {
            tracing::warn!(pod, %error, "a Pod that checked an image could not be deleted; it ends by itself");
        }
    }
}
