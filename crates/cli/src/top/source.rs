//! Where the numbers come from: `/actuator/prometheus` on the management address, and the functions' modes from the
//! API, which no metric tells.

use std::{collections::BTreeMap, time::Duration};

use hyper::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use super::{picture::Picture, scrape::Scrape};
use crate::{
    client::{ApiClient, refused},
    failure::Failure,
};

/// A server gives its shards five seconds for a scrape; after that it says so.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(6);
/// Modes are worth no more waiting.
const MODES_TIMEOUT: Duration = Duration::from_secs(2);
/// How long modes are believed, and how long a function without one has to wait for it.
const MODES_AGE_MAX: Duration = Duration::from_secs(30);
const UNKNOWN_MODES_AGE_MAX: Duration = Duration::from_secs(3);

/// Takes a look at a time and makes a picture of the last two.
pub(super) struct Source {
    management: ApiClient,
    api: ApiClient,
    before: Option<(Scrape, Instant)>,
    modes: BTreeMap<String, String>,
    /// When the modes were last asked for.
    modes_asked: Option<Instant>,
}

impl Source {
    pub(super) fn new(management: ApiClient, api: ApiClient) -> Source {
        Source { management, api, before: None, modes: BTreeMap::new(), modes_asked: None }
    }

    /// Takes a look.
    ///
    /// # Errors
    /// When the server does not answer, or not with metrics of ours.
    pub(super) async fn look(&mut self) -> Result<Picture, Failure> {
        let (scrape, at) = match self.scrape().await {
            Ok(scrape) => (scrape, Instant::now()),
            Err(failure) => {
                // Numbers over a gap would look like numbers of a second.
                self.before = None;
                return Err(failure);
            }
        };
        if self.wants_modes(&scrape, at) {
            self.modes_asked = Some(at);
            // A server that cannot tell the modes has other problems, which its metrics show.
            if let Ok(modes) = self.fetch_modes().await {
                self.modes = modes;
            }
        }
        let before = self.before.as_ref().map(|(scrape, then)| (scrape, at.duration_since(*then)));
        let picture = Picture::of(&scrape, before, &self.modes);
        self.before = Some((scrape, at));
        Ok(picture)
    }

    async fn scrape(&self) -> Result<Scrape, Failure> {
        let path = "/actuator/prometheus";
        let (headers, body) = (HeaderMap::new(), hyper::body::Bytes::new());
        let response = self.management.send(Method::GET, path, headers, body, SCRAPE_TIMEOUT).await?;
        if response.status != StatusCode::OK {
            return Err(refused(&response));
        }
        Scrape::read(&String::from_utf8_lossy(&response.body)).ok_or_else(|| {
            let address = self.management.address();
            Failure::Failed(format!("{address} answers, but not with metrics of nanofaas; see --management"))
        })
    }

    fn wants_modes(&self, scrape: &Scrape, now: Instant) -> bool {
        let Some(asked) = self.modes_asked else { return true };
        let age = now.duration_since(asked);
        let is_known = |name: &String| self.modes.contains_key(name);
        age >= MODES_AGE_MAX || (age >= UNKNOWN_MODES_AGE_MAX && !scrape.functions.keys().all(is_known))
    }

    async fn fetch_modes(&self) -> Result<BTreeMap<String, String>, Failure> {
        let (functions, _) = self.api.get_within("/v1/functions", MODES_TIMEOUT).await?;
        let mode = |function: &Value| {
            let text = |name: &str| function.get(name).and_then(Value::as_str).map(str::to_owned);
            Some((text("name")?, text("effectiveExecutionMode").or_else(|| text("executionMode"))?))
        };
        Ok(functions.as_array().into_iter().flatten().filter_map(mode).collect())
    }
}
