//! Outgoing HTTP on the hot path: calls of functions.
//!
//! A [`Dispatcher`] lives on a shard's thread and sends that shard's attempts: `pool` has those of one endpoint and the
//! tasks that make them, `origin` the connections to one host and port that are free, `request` and `response` say what goes over a `connection`, `exchange` sees one attempt through, and
//! `outcome` says what an answer means. The core decides how long an attempt may take and aborts it here; there is no
//! timer per request. `post` is for what may go to chosen addresses only.

mod connection;
mod exchange;
#[doc(hidden)]
pub mod measured;
mod origin;
pub mod outcome;
mod pool;
mod request;
pub mod response;

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use hyper::Uri;
use shard_core::{
    AttemptKey, Dispatch, DispatchEvent, EndpointId, Failure, FunctionKey, Input, Name, Outcome, Report,
};
use tokio::task::AbortHandle;

use origin::{Origin, Peer};
use pool::{AttemptStage, Pool};
pub(crate) use request::envelope;
pub(crate) use response::fuzz as fuzz_response;

/// Bounds of outgoing calls.
#[derive(Debug, Clone)]
pub struct DispatchOptions {
    /// Time to open a connection.
    pub connect_timeout: Duration,
    /// Time for one exchange, when it is to be shorter than the attempt's.
    pub read_timeout: Option<Duration>,
    /// Connections that calls to one endpoint use at once; more calls wait for one.
    pub connections_max: usize,
    /// Longest answer, in bytes.
    pub response_bytes_max: usize,
}

/// Takes what becomes of attempts.
pub type Sink = Rc<dyn Fn(Input)>;

/// What all pools of one dispatcher have in common, in one place that is always in a cache: with ten thousand
/// functions the pools are not.
struct Shared {
    options: DispatchOptions,
    sink: Sink,
    /// Attempts on their way, by the position of their keys.
    running: RefCell<Vec<Option<(AttemptKey, AttemptStage)>>>,
}

/// Sends the attempts of one shard.
pub struct Dispatcher {
    shared: Rc<Shared>,
    /// Pools by the position of their endpoint's key.
    pools: Vec<Option<(EndpointId, Rc<Pool>)>>,
    /// Where they lead to.
    origins: HashMap<Peer, Rc<Origin>>,
    /// The last probe of each endpoint that had one, by the position of its key.
    probes: HashMap<usize, AbortHandle>,
}

impl Dispatcher {
    /// A dispatcher without endpoints.
    pub fn new(options: DispatchOptions, sink: Sink) -> Dispatcher {
        let shared = Rc::new(Shared { options, sink, running: RefCell::default() });
        Dispatcher { shared, pools: Vec::new(), origins: HashMap::new(), probes: HashMap::new() }
    }

    /// Calls of a function may go to this address from now on.
    pub fn open_endpoint(&mut self, endpoint: EndpointId, function: &Name, address: &Arc<str>) {
        let index = endpoint.index();
        if self.pools.len() <= index {
            self.pools.resize_with(index + 1, || None);
        }
        let uri: Uri = address.parse().unwrap_or_default();
        let new = |peer: &Peer| Rc::new(Origin::new(peer.clone()));
        let origin = Rc::clone(self.origins.entry(Peer::of(&uri)).or_insert_with_key(new));
        let pool = Pool::new(function, address, &uri, origin, &self.shared);
        if let Some((_, before)) = self.pools[index].replace((endpoint, Rc::new(pool))) {
            self.close(&before);
        }
    }

    /// No further calls go to this address; those in flight go on.
    pub fn close_endpoint(&mut self, endpoint: EndpointId) {
        if let Some(place) = self.pools.get_mut(endpoint.index())
            && let Some((_, pool)) = place.take_if(|(open, _)| *open == endpoint)
        {
            self.close(&pool);
            if let Some(probe) = self.probes.remove(&endpoint.index()) {
                probe.abort();
            }
        }
    }

    /// Connects to an open address, and no more. The sink hears whether somebody listens there, unless the address is
    /// closed before.
    pub fn probe(&mut self, function: FunctionKey, endpoint: EndpointId) {
        let pool = self.pools.get(endpoint.index()).and_then(Option::as_ref);
        // The core closes an endpoint only after its last probe.
        let Some((_, pool)) = pool.filter(|(open, _)| *open == endpoint) else { return };
        let (origin, shared) = (Rc::clone(&pool.origin), Rc::clone(&self.shared));
        let probe = tokio::task::spawn_local(async move {
            let reachable = origin.connect(shared.options.connect_timeout).await.is_ok();
            (shared.sink)(Input::Probed { function, endpoint, reachable });
        });
        self.probes.insert(endpoint.index(), probe.abort_handle());
    }

    fn close(&mut self, pool: &Pool) {
        pool.close();
        if pool.origin.is_closed() {
            self.origins.remove(&pool.origin.peer);
        }
    }

    /// Sends an attempt. Its end is reported to the sink, unless it is aborted first.
    pub fn start(&mut self, endpoint: EndpointId, dispatch: Dispatch) {
        let pool = self.pools.get(endpoint.index()).and_then(Option::as_ref);
        if let Some((_, pool)) = pool.filter(|(open, _)| *open == endpoint) {
            pool.start(dispatch);
            return;
        }
        // The core closes an endpoint only after its last dispatch; should it not, the call must not hang.
        let failure = Failure::new(outcome::UNREACHABLE, "The endpoint was closed while the call was sent");
        let outcome = Outcome::NotRun(Box::new(failure));
        (self.shared.sink)(Input::Dispatch(dispatch.attempt, DispatchEvent::Finished(Report::warm(outcome))));
    }

    /// Drops an attempt and its connection: nothing of it is reported any more.
    pub fn abort(&mut self, attempt: AttemptKey) {
        let mut running = self.shared.running.borrow_mut();
        let Some(entry) = running.get_mut(attempt.index()) else { return };
        let aborted = entry.take_if(|(running, _)| *running == attempt);
        // Another attempt may take the place at once, and is noted as well.
        drop(running);
        if let Some((_, place)) = aborted {
            place.abort(attempt);
        }
    }
}

impl Shared {
    /// Takes note of where an attempt is; `None`: nowhere any more.
    fn note(&self, attempt: AttemptKey, place: Option<AttemptStage>) {
        let mut running = self.running.borrow_mut();
        if running.len() <= attempt.index() {
            running.resize_with(attempt.index() + 1, || None);
        }
        match place {
            Some(place) => running[attempt.index()] = Some((attempt, place)),
            None => drop(running[attempt.index()].take_if(|(running, _)| *running == attempt)),
        }
    }
}
