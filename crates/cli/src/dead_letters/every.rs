//! Doing one thing with every dead letter of a function.

use std::time::Duration;

use hyper::{Method, StatusCode, header::RETRY_AFTER};
use nanofaas_web::client::Response;

use super::{counted, every_id, letter_path};
use crate::{
    client::{ApiClient, refused},
    failure::Failure,
    progress::Progress,
};

/// How often one letter is tried while the server has no room for it.
const TRIES_MAX: usize = 60;
/// Longest pause between two tries, whatever the server asks for.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What is done with a letter.
pub(super) struct LetterAction {
    pub(super) method: Method,
    /// What follows the letter's path.
    pub(super) suffix: &'static str,
    /// The status that says it is done.
    pub(super) done: StatusCode,
    /// What has then happened to it.
    pub(super) participle: &'static str,
}

impl LetterAction {
    /// Does it with one letter.
    pub(super) async fn with_one(
        &self,
        api: &ApiClient,
        function: &str,
        id: &str,
    ) -> Result<Response, Failure> {
        let response = self.send(api, function, id).await?;
        if response.status == self.done { Ok(response) } else { Err(refused(&response)) }
    }

    /// Does it with every letter there is now and says how many those were. One that somebody else has taken
    /// meanwhile is not counted.
    pub(super) async fn with_all(&self, api: &ApiClient, function: &str) -> Result<usize, Failure> {
        let ids = every_id(api, function).await?;
        let mut progress = Progress::new();
        let mut done = 0;
        for (position, id) in ids.iter().enumerate() {
            progress.show(&format!("{position} of {} {}", counted(ids.len()), self.participle));
            match self.patiently(api, function, id, &mut progress).await {
                Ok(was_there) => done += usize::from(was_there),
                Err(failure) if done > 0 => {
                    return Err(Failure::Failed(format!(
                        "{failure}; before that, {done} {}",
                        self.participle
                    )));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(done)
    }

    /// Does it with one letter, as soon as the server has room. False when the letter is gone.
    async fn patiently(
        &self,
        api: &ApiClient,
        function: &str,
        id: &str,
        progress: &mut Progress,
    ) -> Result<bool, Failure> {
        let mut tries = 0;
        loop {
            let response = self.send(api, function, id).await?;
            tries += 1;
            match response.status {
                status if status == self.done => return Ok(true),
                StatusCode::NOT_FOUND => return Ok(false),
                // Many letters may not fit into the queue at once.
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE if tries < TRIES_MAX => {
                    let Some(pause) = pause(&response) else { return Err(refused(&response)) };
                    progress.show(&format!("waiting for a place in the queue: {}", refused(&response)));
                    tokio::time::sleep(pause).await;
                }
                _ => return Err(refused(&response)),
            }
        }
    }

    async fn send(&self, api: &ApiClient, function: &str, id: &str) -> Result<Response, Failure> {
        api.ask(self.method.clone(), &letter_path(function, id, self.suffix)).await
    }
}

/// `Retry-After`, within reason; `None` when the server does not invite another try.
fn pause(response: &Response) -> Option<Duration> {
    let seconds = response.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_PAUSE_MAX))
}
