//! One watch of all objects of a type that belong to the installation.
//!
//! All of them are listed, then every change is followed from there. A watch that ends goes on where it was; one that the
//! API server does not know any more (410), or in which nothing was said for too long, not even that there is nothing to say,
//! begins anew with a list. Whoever takes the news compares.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::StreamExt;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::{
    Api, Error, Resource, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::Pauses;

/// Objects of one answer to a list.
const PAGE: u32 = 500;
/// A watch that ends sooner is no watch.
const WATCH_MIN: Duration = Duration::from_secs(1);

/// What a watch tells.
#[derive(Debug)]
pub enum News<K> {
    /// These are all, and there are no others.
    All {
        /// The objects.
        objects: Vec<K>,
        /// Which state of the cluster that is.
        resource_version: String,
    },
    /// This one is new, or is like this now.
    Now(Box<K>),
    /// This one is gone.
    Gone(Box<K>),
}

/// How long a watch may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchLimits {
    /// The API server ends it after that time.
    pub length: Duration,
    /// Silence after which it is not believed any more.
    pub silence: Duration,
    /// Time for an answer to a list, and until a watch begins.
    pub request: Duration,
}

impl Default for WatchLimits {
    fn default() -> Self {
        WatchLimits {
            length: Duration::from_secs(200),
            silence: Duration::from_secs(210),
            request: Duration::from_secs(10),
        }
    }
}

/// When something was last heard. Shared with whoever shows it.
#[derive(Debug)]
pub struct Hearing {
    begun: std::time::Instant,
    /// Milliseconds since then.
    last_ms: AtomicU64,
}

impl Default for Hearing {
    fn default() -> Self {
        Hearing { begun: std::time::Instant::now(), last_ms: AtomicU64::new(0) }
    }
}

impl Hearing {
    fn note(&self) {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }

    /// How long ago that was.
    pub fn age(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }
}

/// What is watched.
pub struct Watch<'a, K> {
    /// Objects of one type.
    pub api: Api<K>,
    /// Which of them.
    pub selector: String,
    /// How long things may take.
    pub limits: WatchLimits,
    /// Where it is noted that something was said.
    pub hearing: &'a Hearing,
}

/// Why the objects have to be listed again.
enum Relist {
    /// The API server does not know any more what happened since.
    TooOld,
    /// Nothing was heard.
    Silent,
}

impl<K> Watch<'_, K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    /// Tells everything, for ever.
    pub async fn run(&self, mut tell: impl FnMut(News<K>)) {
        let mut pauses = Pauses::default();
        loop {
            match self.list().await {
                Ok((objects, resource_version)) => {
                    self.hearing.note();
                    pauses.reset();
                    tell(News::All { objects, resource_version: resource_version.clone() });
                    let why = self.follow(resource_version, &mut tell).await;
                    let (kind, silence_ms) = (K::kind(&()), self.limits.silence.as_millis() as u64);
                    match why {
                        Relist::TooOld => tracing::info!(%kind, "a watch is too old, listing again"),
                        Relist::Silent => {
                            tracing::warn!(%kind, silence_ms, "a watch fell silent, listing again")
                        }
                    }
                }
                Err(error) => {
                    let (kind, pause) = (K::kind(&()), pauses.longer());
                    tracing::warn!(%kind, error, pause_ms = pause.as_millis() as u64, "cannot list objects");
                    sleep(pause).await;
                }
            }
        }
    }

    async fn list(&self) -> Result<(Vec<K>, String), String> {
        let mut objects = Vec::new();
        let mut parameters = ListParams::default().labels(&self.selector).limit(PAGE);
        loop {
            let page = timeout(self.limits.request, self.api.list(&parameters)).await;
            let page =
                page.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
            objects.extend(page.items);
            let more = page.metadata.continue_.filter(|more| !more.is_empty());
            match more {
                Some(more) => parameters = parameters.continue_token(&more),
                None => return Ok((objects, page.metadata.resource_version.unwrap_or_default())),
            }
        }
    }

    async fn follow(&self, mut version: String, tell: &mut impl FnMut(News<K>)) -> Relist {
        let length_s = u32::try_from(self.limits.length.as_secs()).unwrap_or(u32::MAX).max(1);
        let parameters = WatchParams::default().labels(&self.selector).timeout(length_s);
        let mut pauses = Pauses::default();
        loop {
            let begun = Instant::now();
            let ended = self.follow_once(&parameters, &mut version, tell, &mut pauses).await;
            match ended {
                Ok(()) if begun.elapsed() >= WATCH_MIN => {}
                Ok(()) => sleep(pauses.longer()).await,
                Err(Ok(relist)) => return relist,
                Err(Err(error)) => {
                    let (kind, pause) = (K::kind(&()), pauses.longer());
                    tracing::warn!(%kind, error, pause_ms = pause.as_millis() as u64, "a watch broke off");
                    sleep(pause).await;
                }
            }
        }
    }

    /// One request, until it ends.
    async fn follow_once(
        &self,
        parameters: &WatchParams,
        version: &mut String,
        tell: &mut impl FnMut(News<K>),
        pauses: &mut Pauses,
    ) -> Result<(), Result<Relist, String>> {
        let opened = timeout(self.limits.request, self.api.watch(parameters, version)).await;
        let stream = opened
            .map_err(|_| Err::<Relist, String>("no answer in time".to_owned()))?
            .map_err(|error| failed(&error))?;
        let mut events = std::pin::pin!(stream);
        loop {
            let Ok(event) = timeout(self.limits.silence, events.next()).await else {
                return Err(Ok(Relist::Silent));
            };
            let Some(event) = event else { return Ok(()) };
            let event = event.map_err(|error| failed(&error))?;
            self.hearing.note();
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    *version = object.resource_version().unwrap_or_default();
                    tell(News::Now(Box::new(object)));
                }
                WatchEvent::Deleted(object) => {
                    *version = object.resource_version().unwrap_or_default();
                    tell(News::Gone(Box::new(object)));
                }
                WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(failed(&Error::Api(status))),
            }
            pauses.reset();
        }
    }
}

fn failed(error: &Error) -> Result<Relist, String> {
    match error {
        Error::Api(status) if status.code == 410 => Ok(Relist::TooOld),
        other => Err(other.to_string()),
    }
}
