//! Makes one function what its resource says, step by step, and carries out what the API asks for.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use nanofaas_wire::{
    error::ApiError,
    function::{FunctionSpec, SpecError},
};
use tokio::{
    sync::{Mutex, Notify},
    time::Instant,
};

use super::{
    Registry,
    object::{Function, made_of},
    requests::{Requests, refused, unchanged},
    status::{StatusSettings, status},
    table::{Failed, KnownResource, Observed, Phase, Registered, ResourceTable, Step},
};
use crate::{cluster::RequestError, watching::News};

/// Steps for one function before others have their turn.
const STEPS_MAX: usize = 8;
/// For a request that a caller waits for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// First and longest pause before a registration that failed is tried again.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];
/// Pause after a status that could not be written.
const TELL_PAUSE: Duration = Duration::from_secs(2);

/// What is shared by all that is done at the same time, on one thread.
pub(super) struct Reconciler {
    pub(super) requests: Requests,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) settings: StatusSettings,
    pub(super) table: RefCell<ResourceTable>,
    /// Functions that something may have to be done about.
    pub(super) dirty: RefCell<BTreeSet<String>>,
    /// Something is.
    pub(super) more: Notify,
    /// One thing at a time is done about a function.
    pub(super) locks: RefCell<BTreeMap<String, Rc<Mutex<()>>>>,
    /// What was registered before is known, and what is not a resource yet.
    pub(super) has_begun: Cell<bool>,
    /// Functions whose resources could not be told.
    pub(super) untold: RefCell<BTreeSet<String>>,
    /// Before that, nothing is told.
    pub(super) quiet_until: Cell<Instant>,
}

impl Reconciler {
    /// Takes news.
    pub(super) fn hear(&self, news: News<Function>) {
        let touched = self.table.borrow_mut().hear(news);
        self.dirty.borrow_mut().extend(touched);
        self.more.notify_one();
    }

    /// Something may have to be done about a function.
    pub(super) fn mark(&self, function: &str) {
        self.dirty.borrow_mut().insert(function.to_owned());
        self.more.notify_one();
    }

    fn lock(&self, function: &str) -> Rc<Mutex<()>> {
        let mut locks = self.locks.borrow_mut();
        locks.retain(|name, lock| name == function || Rc::strong_count(lock) > 1);
        Rc::clone(locks.entry(function.to_owned()).or_default())
    }

    /// Does what is to be done about a function, and tells its resources.
    pub(super) async fn settle(self: Rc<Self>, function: String) {
        let lock = self.lock(&function);
        let _held = lock.lock().await;
        for _ in 0..STEPS_MAX {
            let registered = match self.registry.find(&function).await {
                Ok(registered) => registered,
                // Asked again with the next look at everything.
                Err(error) => return tracing::debug!(function, %error, "cannot look a function up"),
            };
            let step = self.next_step(&function, registered.as_ref());
            if step != Step::Rest {
                tracing::debug!(function, ?step, "a resource and its function differ");
            }
            if !self.take(&function, step, registered.as_ref()).await {
                return;
            }
        }
        self.mark(&function);
    }

    fn next_step(&self, function: &str, registered: Option<&Registered>) -> Step {
        let table = self.table.borrow();
        let described = table.of(function).first().map(|owner| self.described(owner, registered));
        let described = described.map(|described| described.map(|(spec, _)| spec));
        table.step(function, registered, described.as_ref(), Instant::now())
    }

    /// What a resource describes, with warnings; compared with what is registered when nothing says how that came about.
    fn described(
        &self,
        known: &KnownResource,
        registered: Option<&Registered>,
    ) -> Result<(FunctionSpec, Vec<String>), Vec<String>> {
        let now = self.registry.registration();
        let against = registered.filter(|_| known.observed.is_none());
        let registration = against.map_or(now, |registered| registered.spec.defaults(&now));
        let body = known.object.body().to_string();
        FunctionSpec::parse_with_warnings(body.as_bytes(), &registration, false)
            .map_err(SpecError::into_lines)
    }

    /// Takes a step; whether there may be another one.
    async fn take(&self, function: &str, step: Step, registered: Option<&Registered>) -> bool {
        let owner = self.table.borrow().of(function).first().map(|owner| (*owner).clone());
        match (step, owner) {
            (Step::Rest, _) => {
                self.tell_all(function, registered).await;
                false
            }
            (Step::Remove, _) => match self.registry.remove(function).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(function, %error, "a function whose resource is gone could not be removed");
                    false
                }
            },
            (Step::Write, _) => {
                let Some(registered) = registered else { return true };
                let object = made_of(registered.spec.registration(), &self.settings.installation);
                match self.requests.create(&object).await {
                    Ok(object) => {
                        let mut table = self.table.borrow_mut();
                        table.unwritten().remove(function);
                        table.now(object);
                        true
                    }
                    Err(error) => {
                        tracing::warn!(function, %error, "a function could not be written as a resource");
                        false
                    }
                }
            }
            (_, None) => true,
            (Step::Claim, Some(owner)) => self.claim(&owner).await,
            (Step::Register, Some(owner)) => {
                self.change(&owner, |known| known.phase = Phase::Registering);
                self.register(function, &owner).await
            }
            (Step::Replace, Some(owner)) => {
                self.change(&owner, |known| {
                    known.phase = Phase::Replacing;
                    known.failed = None;
                });
                self.tell_all(function, registered).await;
                match self.registry.remove(function).await {
                    // Its Deployment was for the old one.
                    Ok(()) => self.register(function, &owner).await,
                    Err(error) => self.fail(&owner, &error),
                }
            }
            (Step::Observe, Some(owner)) => {
                self.observe(&owner, registered.and_then(|registered| registered.replicas));
                true
            }
            (Step::Scale(replicas), Some(owner)) => {
                match self.registry.scale(function, replicas).await {
                    Ok(_) => self.observe_all(&owner),
                    Err(error) => return self.fail(&owner, &error),
                }
                true
            }
            (Step::Refuse, Some(owner)) => {
                let lines = self.described(&owner, registered).err().unwrap_or_default();
                self.change(&owner, |known| {
                    known.failed = Some(Failed {
                        generation: owner.object.generation(),
                        reason: "InvalidSpec".to_owned(),
                        message: lines.join("; "),
                        tries: None,
                        due: Instant::now(),
                    });
                });
                true
            }
        }
    }

    /// Tells other servers that a resource is this one's. Whether it is.
    async fn claim(&self, owner: &KnownResource) -> bool {
        let mut claimed = owner.clone();
        claimed.phase = Phase::Registering;
        let status = status(&claimed, None, None, &self.settings, &now());
        let revision = owner.object.metadata.resource_version.as_deref();
        match self.requests.tell(&owner.object, &status, revision).await {
            Ok(object) => {
                self.table.borrow_mut().now(object);
                true
            }
            // It has changed, and the watch says how.
            Err(error) => {
                tracing::debug!(resource = owner.object.name(), %error, "a resource was not claimed");
                self.untold.borrow_mut().insert(owner.object.function().to_owned());
                false
            }
        }
    }

    async fn register(&self, function: &str, owner: &KnownResource) -> bool {
        // Nothing is registered: the server's defaults of now count.
        let (spec, warnings) = match self.described(owner, None) {
            Ok(described) => described,
            Err(_) => return true,
        };
        self.change(owner, |known| known.warnings = warnings);
        match self.registry.register(spec).await {
            Ok(_) => {
                let found = self.registry.find(function).await;
                let replicas = found.ok().flatten().and_then(|registered| registered.replicas);
                self.observe(owner, replicas);
                true
            }
            Err(error) if is_taken(&error) => {
                // A function of the last run that is just being started: the next look finds it.
                self.change(owner, |known| known.phase = Phase::Idle);
                false
            }
            Err(error) => self.fail(owner, &error),
        }
    }

    /// The function is what the resource says, but for the number of replicas when that is another one.
    fn observe(&self, owner: &KnownResource, replicas: Option<(u32, u32)>) {
        let wanted = owner.object.replicas();
        let differs = replicas.zip(wanted).is_some_and(|((has, _), wanted)| has != wanted);
        if differs {
            // As if the number had been asked for just now.
            self.observe_as(owner, owner.object.generation() - 1);
        } else {
            self.observe_all(owner);
        }
    }

    fn observe_all(&self, owner: &KnownResource) {
        self.observe_as(owner, owner.object.generation());
    }

    fn observe_as(&self, owner: &KnownResource, generation: i64) {
        let observed = Observed { generation, digest: owner.object.digest() };
        self.change(owner, |known| {
            known.observed = Some(observed);
            known.failed = None;
            known.phase = Phase::Idle;
        });
    }

    /// Notes why a resource is no function. There may be another step: to tell.
    fn fail(&self, owner: &KnownResource, error: &ApiError) -> bool {
        let generation = owner.object.generation();
        let before = owner.failed.as_ref().filter(|failed| failed.generation == generation);
        let answer = error.answer();
        let is_passing = answer.status.as_u16() != 400 && answer.status.as_u16() != 413;
        let tries = before.and_then(|failed| failed.tries).unwrap_or(0) + 1;
        let [first, longest] = RETRY_PAUSES;
        let pause = first.saturating_mul(1 << (tries - 1).min(16)).min(longest);
        let message = match error {
            ApiError::Validation(lines) => lines.join("; "),
            other => other.to_string(),
        };
        tracing::info!(
            resource = owner.object.name(),
            reason = answer.reason,
            message,
            "a resource is no function"
        );
        self.change(owner, |known| {
            known.phase = Phase::Idle;
            known.failed = Some(Failed {
                generation,
                reason: answer.reason.to_owned(),
                message,
                tries: is_passing.then_some(tries),
                due: Instant::now() + pause,
            });
        });
        true
    }

    /// Changes what is known of a resource, if it is still that one.
    fn change(&self, owner: &KnownResource, change: impl FnOnce(&mut KnownResource)) {
        let mut table = self.table.borrow_mut();
        if let Some(known) =
            table.get(owner.object.name()).filter(|known| known.object.uid() == owner.object.uid())
        {
            change(known);
        }
    }

    /// Tells all resources of a function how it is, as far as they do not say so already.
    async fn tell_all(&self, function: &str, registered: Option<&Registered>) {
        let untold: Vec<_> = {
            let table = self.table.borrow();
            let all = table.of(function);
            let first = all.first().map(|owner| owner.object.name().to_owned()).unwrap_or_default();
            let say = |known: &&KnownResource| {
                let conflict = (known.object.name() != first).then_some(first.as_str());
                let status = status(known, registered, conflict, &self.settings, &now());
                (status != known.object.status).then(|| (known.object.clone(), status))
            };
            all.iter().filter_map(say).collect()
        };
        if untold.is_empty() {
            return;
        }
        for (object, status) in untold {
            if Instant::now() < self.quiet_until.get() {
                self.untold.borrow_mut().insert(function.to_owned());
                return;
            }
            let revision = object.metadata.resource_version.as_deref();
            let is_claimed = object.is_labelled() || object.status.installation.is_some();
            match self.requests.tell(&object, &status, revision.filter(|_| !is_claimed)).await {
                Ok(object) => drop(self.table.borrow_mut().now(object)),
                Err(error) => self.not_told(function, &object, &error),
            }
        }
    }

    fn not_told(&self, function: &str, object: &Function, error: &RequestError) {
        let resource = object.name();
        if error.is_not_found() {
            // The watch says so, too.
            return;
        }
        tracing::warn!(resource, %error, "the status of a resource could not be written");
        self.untold.borrow_mut().insert(function.to_owned());
        if !matches!(error, RequestError::Refused(status) if status.code == 409) {
            self.quiet_until.set(Instant::now() + TELL_PAUSE);
        }
    }

    /// Nothing is written before it is known what there is.
    fn require_begun(&self) -> Result<(), ApiError> {
        if self.has_begun.get() {
            return Ok(());
        }
        Err(ApiError::unavailable(
            "The resources of functions could not be listed yet, so no function can be changed; calls go on. The server's log has \
             the answer of the API server"
                .to_owned(),
        ))
    }

    /// Writes a function as a resource and registers it.
    pub(super) async fn create(&self, spec: FunctionSpec) -> Result<Vec<u8>, ApiError> {
        let function = spec.name.clone();
        let lock = self.lock(&function);
        let _held = lock.lock().await;
        self.require_begun()?;
        if self.registry.find(&function).await?.is_some() {
            return Err(ApiError::FunctionExists(function));
        }
        let other = self.table.borrow().of(&function).first().map(|known| known.object.name().to_owned());
        if let Some(other) = other {
            return Err(ApiError::conflict(format!(
                "Function '{function}' is described by the resource '{other}', which has not become a function: kubectl describe nf \
                 {other} says why; change or delete that one"
            )));
        }
        let object = made_of(spec.registration(), &self.settings.installation);
        let object = self.requests.create(&object).await.map_err(|error| refused(&function, &error))?;
        self.table.borrow_mut().now(object.clone());
        let registered = self.registry.register(spec).await;
        let owner = self.table.borrow().of(&function).first().map(|known| (*known).clone());
        match (&registered, owner) {
            (Ok(_), Some(owner)) if owner.object.uid() == object.uid() => {
                // What was made is what was asked for, whatever has become of it since.
                let owner = KnownResource { object, ..owner };
                self.observe_all(&owner);
            }
            (Ok(_), _) => {}
            (Err(_), _) => match self.requests.delete(&object, Instant::now() + WRITE_TIMEOUT).await {
                Ok(()) => self.table.borrow_mut().delete(object.name(), object.uid()),
                Err(error) => {
                    tracing::warn!(function, %error, "the resource of a function that was not registered could not be deleted");
                }
            },
        }
        self.mark(&function);
        registered
    }

    /// Deletes the resource of a function, and removes the function.
    pub(super) async fn delete(&self, function: String) -> Result<(), ApiError> {
        let lock = self.lock(&function);
        let _held = lock.lock().await;
        self.require_begun()?;
        if self.registry.find(&function).await?.is_some() {
            let owner = self.table.borrow().of(&function).first().map(|known| known.object.clone());
            if let Some(object) = owner {
                let by = Instant::now() + WRITE_TIMEOUT;
                self.requests.delete(&object, by).await.map_err(|error| unchanged(&function, &error))?;
                self.table.borrow_mut().delete(object.name(), object.uid());
            }
            self.table.borrow_mut().unwritten().remove(&function);
        }
        let removed = self.registry.remove(&function).await;
        self.mark(&function);
        removed
    }

    /// Has the resource of a function ask for so many replicas, and scales the function.
    pub(super) async fn scale(&self, function: String, replicas: u32) -> Result<u32, ApiError> {
        let lock = self.lock(&function);
        let _held = lock.lock().await;
        self.require_begun()?;
        let registered = self.registry.find(&function).await?;
        let owner = self.table.borrow().of(&function).first().map(|known| (*known).clone());
        let Some(owner) = owner.filter(|_| registered.is_some_and(|found| found.replicas.is_some())) else {
            return self.registry.scale(&function, replicas).await;
        };
        let by = Instant::now() + WRITE_TIMEOUT;
        let object = self.requests.scale(&owner.object, replicas, by).await;
        let object = object.map_err(|error| unchanged(&function, &error))?;
        let scaled = self.registry.scale(&function, replicas).await;
        self.table.borrow_mut().now(object.clone());
        if scaled.is_ok()
            && owner.observed.as_ref().is_some_and(|observed| observed.digest == object.digest())
        {
            self.observe_all(&KnownResource { object, ..owner });
        }
        self.mark(&function);
        scaled
    }
}

/// The name is another function's, which was not to be seen before.
fn is_taken(error: &ApiError) -> bool {
    matches!(error, ApiError::FunctionExists(_))
}

/// In seconds, as Kubernetes tells times.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}
