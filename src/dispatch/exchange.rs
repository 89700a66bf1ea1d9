//! One attempt on the wire: a connection, a request, an answer.

use std::{task::Waker, time::Duration};

use shard_core::{Dispatch, DispatchEvent, Failure, Input, Outcome, Report};

use super::{
    connection::{Answer, Connection, ExchangeError},
    outcome,
    pool::Pool,
    request,
};

/// New connections that may be closed by the peer before anything was written, per attempt: a peer that does
/// nothing else must not keep an attempt busy.
const FRESH_RESENDS_MAX: u32 = 1;

/// Time to connect that an attempt has at least, however little is left of it: a lost packet is sent again after a second.
const CONNECT_TIMEOUT_MIN: Duration = Duration::from_millis(1500);

/// Sends an attempt and says what became of it. Leaves the connection for the next one, if there may be a next one.
pub(super) async fn run(pool: &Pool, connection: &mut Option<Connection>, dispatch: &Dispatch) -> Report {
    let exchange = exchange(pool, connection, dispatch);
    let result = match pool.shared.options.read_timeout {
        None => exchange.await,
        Some(limit) => match tokio::time::timeout(limit, exchange).await {
            Ok(result) => result,
            Err(_) => {
                let limit_ms = limit.as_millis();
                let message =
                    format!("The function did not answer within {limit_ms} ms (http-client.read-timeout-ms)");
                Err(failed(Failure::new(shard_core::payload::code::FUNCTION_TIMEOUT, message), true))
            }
        },
    };
    result.unwrap_or_else(Report::warm)
}

fn failed(failure: Failure, retryable: bool) -> Outcome {
    Outcome::Failure { failure: Box::new(failure), retryable, retry_after_ms: None }
}

async fn exchange(
    pool: &Pool,
    kept: &mut Option<Connection>,
    dispatch: &Dispatch,
) -> Result<Report, Outcome> {
    let unreachable = |reason: String| {
        let message = format!("The function at {} could not be reached: {reason}", pool.address);
        Failure::new(outcome::UNREACHABLE, message)
    };
    let not_run = |error: std::io::Error| Outcome::NotRun(Box::new(unreachable(error.to_string())));
    let request = request::encode(&pool.prefix, dispatch);
    let mut fresh_resends = 0;
    let answer = loop {
        // The event queue may have had news since it became free.
        kept.take_if(|connection| connection.is_stale(Waker::noop()));
        // Taken out until the answer is whole: given up in between, it must not be used again.
        let (mut connection, reused) = match kept.take() {
            Some(connection) => (connection, true),
            None => (open(pool, dispatch).await.map_err(not_run)?, false),
        };
        match connection.exchange(&request, pool.shared.options.response_bytes_max).await {
            Ok(answer) => {
                *kept = Some(connection).filter(|_| answer.reusable);
                break answer;
            }
            // The peer had closed the connection. Another one may do.
            Err(ExchangeError::Unsent(_)) if reused || fresh_resends < FRESH_RESENDS_MAX => {
                fresh_resends += u32::from(!reused);
            }
            Err(ExchangeError::TooLarge) => {
                let limit = pool.shared.options.response_bytes_max;
                let message = format!(
                    "The function's answer is longer than {limit} bytes; answer less, or raise `limits.response-bytes`"
                );
                return Err(failed(Failure::new(outcome::RESPONSE_TOO_LARGE, message), false));
            }
            Err(ExchangeError::Unsent(error)) => return Err(not_run(error)),
            // It may have run the call before.
            Err(error @ (ExchangeError::Closed | ExchangeError::Broken(_))) => {
                return Err(Outcome::Crashed(Box::new(unreachable(error.to_string()))));
            }
            Err(error) => return Err(failed(unreachable(error.to_string()), true)),
        }
    };
    let Answer { head, body, .. } = answer;
    Ok(outcome::classify(&head, body, dispatch.payload.content_type.is_some()))
}

/// Opens a connection, telling the core meanwhile that the function has not got the call yet.
async fn open(pool: &Pool, dispatch: &Dispatch) -> std::io::Result<Connection> {
    (pool.shared.sink)(Input::Dispatch(dispatch.attempt, DispatchEvent::Connecting));
    // Half of its time, so that another address has the other half.
    let share = Duration::from_millis(u64::from(dispatch.remaining_ms) / 2).max(CONNECT_TIMEOUT_MIN);
    let connection = pool.origin.connect(pool.shared.options.connect_timeout.min(share)).await?;
    (pool.shared.sink)(Input::Dispatch(dispatch.attempt, DispatchEvent::Sent));
    Ok(connection)
}
