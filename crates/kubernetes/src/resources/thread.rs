//! The thread of resources: hears what changes, looks at everything once a second, and has what differs settled.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs, io,
    path::Path,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use kube::{Api, Client};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Command, Registry, ResourceOptions, object::Function, reconcile::Reconciler, requests::Requests,
    status::StatusSettings, table::ResourceTable,
};
use crate::watching::{Hearing, Watch};

/// Functions that something is done about at the same time.
const TASKS_MAX: usize = 16;
/// Between two looks at everything.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A function that could not be written as a resource is tried again after so many looks.
const WRITE_LOOKS: u64 = 30;

/// Runs until it is told to end.
pub(super) async fn run(
    client: Client,
    options: ResourceOptions,
    registry: Arc<dyn Registry>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let namespace = options.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let api: Api<Function> = Api::namespaced(client, &namespace);
    let reconciler = Rc::new(Reconciler {
        requests: Requests { api: api.clone(), next_status: Cell::new(Instant::now()) },
        registry,
        settings: StatusSettings { installation: options.installation.clone(), api_url: options.api_url },
        table: RefCell::new(ResourceTable::new(options.installation)),
        dirty: RefCell::default(),
        more: Notify::new(),
        locks: RefCell::default(),
        has_begun: Cell::new(false),
        untold: RefCell::default(),
        quiet_until: Cell::new(Instant::now()),
    });
    let mark = Mark { path: options.mark.as_deref(), namespace: &namespace, is_set: Cell::new(false) };
    let hearing = Hearing::default();
    let watch = Watch { api, selector: String::new(), limits: options.limits, hearing: &hearing };
    let hear = Rc::clone(&reconciler);
    tokio::select! {
        () = watch.run(move |news| hear.hear(news)) => {}
        () = work(&reconciler, &mark, &mut commands) => {}
    }
}

async fn work(reconciler: &Rc<Reconciler>, mark: &Mark<'_>, commands: &mut mpsc::UnboundedReceiver<Command>) {
    let mut tasks: JoinSet<String> = JoinSet::new();
    let mut running = BTreeSet::new();
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None | Some(Command::End) => return,
                Some(command) => drop(tokio::task::spawn_local(carry_out(Rc::clone(reconciler), command))),
            },
            () = reconciler.more.notified() => {}
            _ = looks.tick() => {
                number += 1;
                look(reconciler, mark, number).await;
            }
            Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                if let Ok(function) = done {
                    running.remove(&function);
                }
            }
        }
        if !reconciler.has_begun.get() {
            if reconciler.table.borrow().is_complete() {
                begin(reconciler, mark).await;
            }
            continue;
        }
        while tasks.len() < TASKS_MAX {
            let next = reconciler.dirty.borrow().iter().find(|name| !running.contains(*name)).cloned();
            let Some(function) = next else { break };
            reconciler.dirty.borrow_mut().remove(&function);
            running.insert(function.clone());
            let reconciler = Rc::clone(reconciler);
            tasks.spawn_local(async move {
                reconciler.settle(function.clone()).await;
                function
            });
        }
    }
}

/// All resources and all functions are known for the first time: says which functions are to become resources.
async fn begin(reconciler: &Rc<Reconciler>, mark: &Mark<'_>) {
    let all = match reconciler.registry.all().await {
        Ok(all) => all,
        // Tried again with the next look.
        Err(error) => return tracing::warn!(%error, "cannot look all functions up"),
    };
    let mut table = reconciler.table.borrow_mut();
    let described: BTreeSet<String> = table.functions().map(str::to_owned).collect();
    let others: BTreeSet<String> = all.keys().filter(|name| !described.contains(*name)).cloned().collect();
    let is_first = !mark.is_there();
    tracing::info!(
        resources = table.resources().count(),
        functions = all.len(),
        without_resource = others.len(),
        is_first,
        "resources are listed"
    );
    reconciler.registry.announce(described.iter().cloned().collect());
    reconciler.dirty.borrow_mut().extend(described.into_iter().chain(others.iter().cloned()));
    if is_first {
        *table.unwritten() = others;
    }
    reconciler.has_begun.set(true);
}

/// Looks for functions and resources that differ, and for what could not be done.
async fn look(reconciler: &Rc<Reconciler>, mark: &Mark<'_>, number: u64) {
    if !reconciler.has_begun.get() {
        return;
    }
    let all = match reconciler.registry.all().await {
        Ok(all) => all,
        Err(error) => return tracing::debug!(%error, "cannot look all functions up"),
    };
    let mut table = reconciler.table.borrow_mut();
    if table.unwritten().is_empty() && !mark.is_set.get() {
        mark.set();
    }
    let waiting = table.unwritten().clone();
    let table = &*table;
    let now = Instant::now();
    let mut dirty = reconciler.dirty.borrow_mut();
    let without = all.keys().filter(|name| table.of(name).is_empty());
    // Those that could not be written wait longer.
    dirty.extend(
        without.filter(|name| !waiting.contains(*name) || number.is_multiple_of(WRITE_LOOKS)).cloned(),
    );
    let described = table.functions();
    dirty.extend(
        described.filter(|name| !table.is_settled(name, all.get(*name).copied(), now)).map(str::to_owned),
    );
    if now >= reconciler.quiet_until.get() {
        dirty.append(&mut reconciler.untold.borrow_mut());
    }
}

async fn carry_out(reconciler: Rc<Reconciler>, command: Command) {
    // Whoever asked may be gone: what was begun is done all the same.
    match command {
        Command::Register(spec, reply) => drop(reply.send(reconciler.create(*spec).await)),
        Command::Remove(function, reply) => drop(reply.send(reconciler.delete(function).await)),
        Command::Scale(function, replicas, reply) => {
            drop(reply.send(reconciler.scale(function, replicas).await));
        }
        Command::End => {}
    }
}

/// The file that says that all functions have become resources.
struct Mark<'a> {
    path: Option<&'a Path>,
    namespace: &'a str,
    is_set: Cell<bool>,
}

impl Mark<'_> {
    /// Whether it says so, of this namespace.
    fn is_there(&self) -> bool {
        let Some(path) = self.path else { return false };
        match fs::read_to_string(path) {
            Ok(text) => text.trim() == self.namespace,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "cannot read whether functions are resources");
                }
                false
            }
        }
    }

    fn set(&self) {
        let Some(path) = self.path else { return self.is_set.set(true) };
        match fs::write(path, format!("{}\n", self.namespace)) {
            Ok(()) => self.is_set.set(true),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot note that functions are resources");
            }
        }
    }
}
