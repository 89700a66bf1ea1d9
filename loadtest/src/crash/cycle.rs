//! The life of the server: begun, looked at, killed, begun again; and what is read after the last time.

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    CrashError, Fault, Options,
    asking::{ASK_TIMEOUT, LETTERS_MAX, dead_letters, look},
    caller::{Enqueued, Office},
    disk::{Disk, Way},
    endpoint::Endpoint,
    judgement::is_undelivered,
    ledger::{Ledger, Seen},
    registrar,
    stall::{Stall, Trouble},
    torn,
};
use crate::{
    client::exchange::Client,
    report::{crash::Faults, table::time},
    server::{Launch, NanofaasServer},
};

/// Share of the kills that come before the server is ready.
const EARLY_KILLS: f64 = 0.15;
/// Latest moment of such a kill.
const EARLY_KILL_MS_MAX: u64 = 200;
/// Earliest moment of any other, after the server is ready.
const KILL_MS_MIN: u64 = 50;
/// Calls with a key that are repeated after each restart.
const REPEATED: usize = 20;
/// Pause between two looks at results.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How long a store may refuse records that it could write.
const ROOM_UNUSED_MAX: Duration = Duration::from_secs(10);

/// The state of a run.
pub(super) struct CrashRun<'a> {
    options: &'a Options,
    launch: Launch,
    pub(super) endpoint: Endpoint,
    random: fastrand::Rng,
    pub(super) kills: u64,
    pub(super) early_kills: u64,
    pub(super) ready_ms: Vec<f64>,
    pub(super) functions_lost: u64,
    pub(super) removals_taken_back: u64,
    disk: Option<Disk>,
    stall: Option<Stall>,
    pub(super) tears: u64,
    pub(super) tears_unsaid: u64,
}

impl<'a> CrashRun<'a> {
    pub(super) fn new(options: &'a Options, ledger: &Arc<Mutex<Ledger>>) -> Result<CrashRun<'a>, CrashError> {
        let mut launch = options.launch.clone();
        let (disk, stall) = match (options.fault, &launch.data_dir) {
            (Fault::Full(way), Some(data)) => (Some(Disk::new(way, data)), None),
            (Fault::Stall(trouble), Some(data)) => (None, Some(Stall::new(trouble, data)?)),
            _ => (None, None),
        };
        launch.environment.extend(stall.iter().flat_map(Stall::environment));
        Ok(CrashRun {
            options,
            launch,
            endpoint: Endpoint::start(Arc::clone(ledger))?,
            random: fastrand::Rng::with_seed(options.seed),
            kills: 0,
            early_kills: 0,
            ready_ms: Vec::new(),
            functions_lost: 0,
            removals_taken_back: 0,
            disk,
            stall,
            tears: 0,
            tears_unsaid: 0,
        })
    }

    /// The first server serves: all others do so in its place.
    pub(super) fn serves(&mut self, server: &NanofaasServer) {
        self.launch.port = server.api.port();
        // It is set once only.
        let _ = self.endpoint.api.set(server.api);
    }

    fn begin(&mut self) -> Result<NanofaasServer, CrashError> {
        let is_torn = self.options.fault == Fault::Torn && self.kills > 0;
        if let (true, Some(data)) = (is_torn, &self.launch.data_dir) {
            self.tears += u64::from(torn::tear(data, &mut self.random)?);
        }
        let server = self.launch.begin().map_err(|error| CrashError::Server(self.kills, error))?;
        if let Some(disk) = &mut self.disk {
            disk.begun(&server, &mut self.random)?;
        }
        Ok(server)
    }

    pub(super) fn start(&mut self) -> Result<NanofaasServer, CrashError> {
        let begun = Instant::now();
        let tears = self.tears;
        let mut server = self.begin()?;
        let ready = server.wait_ready(self.options.start_patience);
        self.ready_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
        ready.map_err(|error| CrashError::Server(self.kills, error))?;
        self.tears_unsaid += u64::from(self.tears > tears && !server.log().contains("torn"));
        Ok(server)
    }

    pub(super) fn kill(&mut self, server: NanofaasServer) -> Result<(), CrashError> {
        server.kill();
        // It is dead: what is sent from now on reaches the next one.
        self.endpoint.lives.fetch_add(1, Ordering::SeqCst);
        self.kills += 1;
        if let Some(disk) = &mut self.disk {
            disk.killed(&mut self.random)?;
        }
        if let Some(stall) = &mut self.stall {
            stall.killed(self.options.keep_unsynced, &mut self.random)?;
        }
        Ok(())
    }

    /// Starts it, and sometimes kills it before it is ready.
    pub(super) fn start_again(&mut self) -> Result<NanofaasServer, CrashError> {
        while self.random.f64() < EARLY_KILLS {
            let server = self.begin()?;
            thread::sleep(Duration::from_millis(self.random.u64(0..=EARLY_KILL_MS_MAX)));
            self.kill(server)?;
            self.early_kills += 1;
        }
        self.start()
    }

    /// Holds the functions against what is known of them.
    pub(super) fn check(&mut self, server: &NanofaasServer, office: &Office) -> Result<(), CrashError> {
        let checked = registrar::check(server.api, office)?;
        self.functions_lost += checked.lost;
        self.removals_taken_back += checked.came_back;
        Ok(())
    }

    /// Reads results until it is time for the next kill.
    pub(super) fn look_until_kill(
        &mut self,
        server: &mut NanofaasServer,
        office: &Office,
    ) -> Result<(), CrashError> {
        let mut serve = Duration::from_millis(self.random.u64(KILL_MS_MIN..=self.serve_ms_max()));
        let begun = Instant::now();
        let mut client = None;
        if let Some(disk) = &mut self.disk {
            disk.plan(serve, &mut self.random);
        }
        if let Some(stall) = &mut self.stall {
            serve = stall.plan(serve, &mut self.random);
        }
        while begun.elapsed() < serve {
            if server.ended().is_some() {
                return Err(CrashError::Ended(server.log()));
            }
            if let Some(disk) = &mut self.disk {
                disk.advance(begun.elapsed(), server, &mut self.random)?;
            }
            if let Some(stall) = &mut self.stall {
                stall.advance(begun.elapsed())?;
            }
            if client.is_none() {
                client = Client::connect(server.api, ASK_TIMEOUT).ok();
            }
            self.look(&mut client, office);
            thread::sleep(LOOK_INTERVAL.min(serve.saturating_sub(begun.elapsed())));
        }
        Ok(())
    }

    /// Reads one of all results.
    fn look(&mut self, client: &mut Option<Client>, office: &Office) {
        let (id, ticket) = {
            let ledger = office.ledger();
            (ledger.id(self.random.usize(..ledger.len().max(1))).map(str::to_owned), ledger.ticket())
        };
        let (Some(connected), Some(id)) = (client.as_mut(), id) else { return };
        match look(connected, &id, "") {
            Ok(seen) => office.ledger().see(&id, seen, ticket),
            Err(_) => *client = None,
        }
    }

    /// After the last restart the disk works. Whether calls are refused all the same.
    pub(super) fn make_room(&mut self, server: &NanofaasServer, office: &Office) -> Result<bool, CrashError> {
        match (&mut self.disk, &mut self.stall) {
            (Some(disk), _) => disk.free(Some(server))?,
            (_, Some(stall)) => stall.work()?,
            _ => return Ok(false),
        }
        let mut client = Client::connect(server.api, ASK_TIMEOUT)?;
        let end = Instant::now() + ROOM_UNUSED_MAX;
        while !is_accepted(&mut client, office) {
            if Instant::now() >= end {
                return Ok(true);
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(false)
    }

    fn serve_ms_max(&self) -> u64 {
        u64::try_from(self.options.serve_max.as_millis()).unwrap_or(u64::MAX).max(KILL_MS_MIN)
    }

    /// Repeats some calls with an idempotency key: the book notices an id that is not the first one.
    pub(super) fn repeat(&mut self, server: &NanofaasServer, office: &Office) {
        let count = office.ledger().len();
        let Ok(mut client) = Client::connect(server.api, ASK_TIMEOUT) else { return };
        for _ in 0..REPEATED.min(count) {
            let keyed = office.ledger().keyed(self.random.usize(..count));
            let Some((number, key)) = keyed else { continue };
            if let Ok(Enqueued::Accepted(id)) = office.enqueue(&mut client, number, Some(&key)) {
                office.ledger().accept(&id, number, Some(&key));
            }
        }
    }

    /// Reads everything until all of it has ended and was delivered, or the time is over; then the lists of dead letters.
    pub(super) fn settle(&self, server: &NanofaasServer, office: &Office) {
        let end = Instant::now() + self.options.settle;
        office.ledger().forget_latest();
        loop {
            let open = office.ledger().open();
            let Ok(mut client) = Client::connect(server.api, ASK_TIMEOUT) else { return };
            let mut unknown = 0;
            for id in &open {
                let Ok(seen) = look(&mut client, id, "") else { break };
                unknown += usize::from(seen == Seen::Unknown);
                let mut ledger = office.ledger();
                let ticket = ledger.ticket();
                ledger.see(id, seen, ticket);
            }
            let is_delivered = !office.ledger().entries.values().any(is_undelivered);
            // What is unknown does not come back.
            if unknown == open.len() && is_delivered || Instant::now() >= end {
                break;
            }
            thread::sleep(LOOK_INTERVAL * 10);
        }
        for function in 0..office.functions {
            let Ok(mut client) = Client::connect(server.api, ASK_TIMEOUT) else { return };
            let Ok(Some(letters)) = dead_letters(&mut client, function) else { continue };
            let mut ledger = office.ledger();
            let ticket = ledger.ticket();
            if letters.len() >= LETTERS_MAX {
                ledger.overflowed.insert(function);
            }
            for (id, end) in letters {
                ledger.list(&id, end, ticket);
                ledger.letters.insert(id);
            }
        }
    }

    pub(super) fn faults(&self) -> Result<Faults, CrashError> {
        let (fault, disk) = match self.options.fault {
            Fault::Kill => ("kill", None),
            Fault::Torn => ("torn", None),
            Fault::Full(Way::Tmpfs) => ("full", Some("a file system of 256 MiB in memory")),
            Fault::Full(Way::Limit) => ("full", Some("a limit on the length of files")),
            Fault::Stall(Trouble::Hung) => ("hung", None),
            Fault::Stall(Trouble::Slow) => ("slow", None),
        };
        let stall = self.stall.as_ref();
        let (syncs_hung, syncs_slow) = stall.map_or(Ok((0, 0)), Stall::noticed)?;
        Ok(Faults {
            fault: fault.to_owned(),
            disk: disk.map(str::to_owned),
            tears: self.tears,
            fills: self.disk.as_ref().map_or(0, |disk| disk.fills),
            kills_while_full: self.disk.as_ref().map_or(0, |disk| disk.kills),
            hangs: stall.map_or(0, |stall| stall.hangs),
            kills_while_hung: stall.map_or(0, |stall| stall.kills),
            cuts: stall.map_or(0, |stall| stall.cuts),
            syncs_hung,
            syncs_slow,
        })
    }

    pub(super) fn setup(&self) -> Vec<String> {
        let options = self.options;
        let data = if options.launch.data_dir.is_some() { "with a data directory" } else { "in memory" };
        vec![format!(
            "`nanofaas serve`, {} shards, {data}; {} functions, {} calls/s, killed with SIGKILL after at most {}",
            options.launch.workers,
            options.functions,
            options.rate,
            time(options.serve_max.as_secs_f64() * 1000.0)
        )]
    }
}

/// Enqueues a call; whether it is accepted.
fn is_accepted(client: &mut Client, office: &Office) -> bool {
    let number = office.numbers.fetch_add(1, Ordering::Relaxed);
    let key = office.key(number);
    match office.enqueue(client, number, key.as_deref()) {
        Ok(Enqueued::Accepted(id)) => {
            office.ledger().accept(&id, number, key.as_deref());
            true
        }
        _ => false,
    }
}
