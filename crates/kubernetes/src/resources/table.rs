//! What is known of resources and functions, and what follows from it. Pure.
//!
//! Nothing here is remembered that a later look would not find again: what a resource was registered with is in its status.

use std::collections::{BTreeMap, BTreeSet};

use nanofaas_wire::function::FunctionSpec;
use tokio::time::Instant;

use super::object::Function;
use crate::watching::News;

/// A function that the server has, as callers see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// How it was registered.
    pub spec: FunctionSpec,
    /// Wanted and ready replicas, when a backend runs it.
    pub replicas: Option<(u32, u32)>,
}

/// What a resource was registered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The generation that was acted on.
    pub generation: i64,
    /// Its [`Function::digest`].
    pub digest: String,
}

/// Why a resource is no function, or not the one that it describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Of which generation that is true.
    pub generation: i64,
    /// A code.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How often it was tried, when it is tried again; none: not before the resource changes.
    pub tries: Option<u32>,
    /// When it is tried again.
    pub due: Instant,
}

/// What is being done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing.
    #[default]
    Idle,
    /// It is registered.
    Registering,
    /// It has changed: the function is removed and registered anew.
    Replacing,
}

/// A resource that is this server's, or may be.
#[derive(Debug, Clone)]
pub struct KnownResource {
    /// As it is.
    pub object: Function,
    /// What was registered.
    pub observed: Option<Observed>,
    /// What went wrong.
    pub failed: Option<Failed>,
    /// What is being done.
    pub phase: Phase,
    /// What the registration says in vain.
    pub warnings: Vec<String>,
}

/// What is to be done about a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// The resource is gone, or never was.
    Remove,
    /// The function was there before resources were: it becomes one.
    Write,
    /// The resource is new, and other servers are to know that it is this one's.
    Claim,
    /// There is no such function.
    Register,
    /// There is another function of that name: it goes first.
    Replace,
    /// The function is what the resource says.
    Observe,
    /// The resource asks for so many replicas.
    Scale(u32),
    /// The resource describes no function.
    Refuse,
}

/// All resources, by name.
#[derive(Debug, Default)]
pub struct ResourceTable {
    installation: String,
    resources: BTreeMap<String, KnownResource>,
    /// Resources by the function that they describe.
    by_function: BTreeMap<String, BTreeSet<String>>,
    /// Ids of resources that this server has deleted, and of which watches may still tell.
    deleted: BTreeSet<String>,
    is_complete: bool,
    /// Functions that were there before resources were, and are to be written as such.
    unwritten: BTreeSet<String>,
}

impl ResourceTable {
    /// Nothing is known yet.
    pub fn new(installation: String) -> ResourceTable {
        ResourceTable { installation, ..ResourceTable::default() }
    }

    /// Whether all resources have been listed once.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Functions that are to become resources.
    pub fn unwritten(&mut self) -> &mut BTreeSet<String> {
        &mut self.unwritten
    }

    /// Names of all functions that resources describe.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.by_function.keys().map(String::as_str)
    }

    /// All resources.
    pub fn resources(&self) -> impl Iterator<Item = &KnownResource> {
        self.resources.values()
    }

    /// A resource by its name.
    pub fn get(&mut self, name: &str) -> Option<&mut KnownResource> {
        self.resources.get_mut(name)
    }

    /// Resources of a function, the one that counts first: that is the oldest.
    pub fn of(&self, function: &str) -> Vec<&KnownResource> {
        let names = self.by_function.get(function).into_iter().flatten();
        let mut known: Vec<&KnownResource> = names.filter_map(|name| self.resources.get(name)).collect();
        known.sort_by_key(|known| {
            let made = known.object.metadata.creation_timestamp.as_ref();
            (made.map(|made| made.0), known.object.name().to_owned())
        });
        known
    }

    /// Takes news; names of functions that something may have to be done about.
    pub fn hear(&mut self, news: News<Function>) -> BTreeSet<String> {
        let mut touched = BTreeSet::new();
        match news {
            News::Now(object) => touched.extend(self.now(*object)),
            News::Gone(object) => {
                self.deleted.remove(object.uid());
                touched.extend(self.gone(object.name(), object.uid()));
            }
            News::All { objects, resource_version } => {
                let listed = resource_version.parse().unwrap_or(u64::MAX);
                let there: BTreeSet<String> = objects.iter().map(|object| object.uid().to_owned()).collect();
                // What was made after the list began is not in it.
                let is_gone = |known: &&KnownResource| {
                    !there.contains(known.object.uid()) && known.object.revision() <= listed
                };
                let gone: Vec<_> = self.resources.values().filter(is_gone).cloned().collect();
                for known in gone {
                    touched.extend(self.gone(known.object.name(), known.object.uid()));
                }
                self.deleted.retain(|uid| there.contains(uid));
                for object in objects {
                    touched.extend(self.now(object));
                }
                self.is_complete = true;
            }
        }
        touched
    }

    /// A resource is like this. Also what a request was answered with.
    pub fn now(&mut self, object: Function) -> BTreeSet<String> {
        let mut touched = BTreeSet::new();
        if self.deleted.contains(object.uid()) {
            return touched;
        }
        let name = object.name().to_owned();
        if object.is_leaving() || !object.is_of(&self.installation) {
            touched.extend(self.gone(&name, object.uid()));
            return touched;
        }
        let old = self.resources.get(&name).filter(|old| old.object.uid() == object.uid());
        // Told late: of what this server has written itself, mostly.
        if old.is_some_and(|old| old.object.revision() >= object.revision()) {
            return touched;
        }
        let known = match old.cloned() {
            Some(old) => KnownResource { object, ..old },
            None => {
                let status = &object.status;
                let observed = status.observed_generation.zip(status.observed_spec.clone());
                let observed = observed.map(|(generation, digest)| Observed { generation, digest });
                KnownResource { object, observed, failed: None, phase: Phase::Idle, warnings: Vec::new() }
            }
        };
        touched.extend(self.forget(&name));
        let function = known.object.function().to_owned();
        self.by_function.entry(function.clone()).or_default().insert(name.clone());
        self.resources.insert(name, known);
        touched.insert(function);
        touched
    }

    /// A resource was deleted by this server.
    pub fn delete(&mut self, name: &str, uid: &str) {
        self.deleted.insert(uid.to_owned());
        self.gone(name, uid);
    }

    /// A resource is gone; the function that it described.
    pub fn gone(&mut self, name: &str, uid: &str) -> Option<String> {
        self.resources.get(name).filter(|known| known.object.uid() == uid)?;
        self.forget(name)
    }

    fn forget(&mut self, name: &str) -> Option<String> {
        let function = self.resources.remove(name)?.object.function().to_owned();
        if let Some(names) = self.by_function.get_mut(&function) {
            names.remove(name);
            if names.is_empty() {
                self.by_function.remove(&function);
            }
        }
        Some(function)
    }

    /// Whether there is certainly nothing to be done about a function that has these replicas, and nothing to be told.
    pub fn is_settled(&self, function: &str, replicas: Option<Option<(u32, u32)>>, now: Instant) -> bool {
        let Some(owner) = self.of(function).into_iter().next() else { return replicas.is_none() };
        let generation = owner.object.generation();
        if let Some(failed) = owner.failed.as_ref().filter(|failed| failed.generation == generation) {
            return failed.tries.is_none() || now < failed.due;
        }
        let told = &owner.object.status;
        replicas.is_some_and(|replicas| told.replicas.zip(told.ready_replicas) == replicas)
            && owner.observed.as_ref().is_some_and(|observed| observed.generation == generation)
    }

    /// What is to be done about a function, `registered` being what the server has, and `described` what the resource that
    /// counts describes.
    pub fn step(
        &self,
        function: &str,
        registered: Option<&Registered>,
        described: Option<&Result<FunctionSpec, Vec<String>>>,
        now: Instant,
    ) -> Step {
        let owner = self.of(function).into_iter().next();
        let (Some(owner), Some(described)) = (owner, described) else {
            return match registered {
                None => Step::Rest,
                Some(_) if self.unwritten.contains(function) => Step::Write,
                Some(_) => Step::Remove,
            };
        };
        let generation = owner.object.generation();
        let failed = owner.failed.as_ref().filter(|failed| failed.generation == generation);
        if failed.is_some_and(|failed| failed.tries.is_none() || now < failed.due) {
            return Step::Rest;
        }
        if let Some(registered) = registered {
            let digest = owner.object.digest();
            match &owner.observed {
                Some(observed) if observed.digest == digest => {
                    return match owner.object.replicas() {
                        _ if observed.generation == generation => Step::Rest,
                        Some(replicas) if registered.replicas.is_some() => Step::Scale(replicas),
                        _ => Step::Observe,
                    };
                }
                _ => {}
            }
            return match described {
                Err(_) => Step::Refuse,
                Ok(spec) if owner.observed.is_none() && spec.is_same_registration(&registered.spec) => {
                    Step::Observe
                }
                Ok(_) => Step::Replace,
            };
        }
        match described {
            Err(_) => Step::Refuse,
            Ok(_) if owner.object.status.installation.is_none() && !owner.object.is_labelled() => Step::Claim,
            Ok(_) => Step::Register,
        }
    }
}
