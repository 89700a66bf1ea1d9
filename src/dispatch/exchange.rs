//! One attempt on the wire: a connection, a request, an answer.

use std::rc::Rc;

use shard_core::{Dispatch, Failure, Input, Outcome, Report};
use tokio::sync::SemaphorePermit;

use super::{
    DispatchOptions, Sink,
    connection::{Answer, Connection, ExchangeError},
    outcome,
    pool::Pool,
    request,
};

/// New connections that may be closed by the peer before anything was written, per attempt: a peer that does
/// nothing else must not keep an attempt busy.
const FRESH_RESENDS_MAX: u32 = 1;

/// Sends an attempt and says what became of it.
pub(super) async fn run(
    pool: &Rc<Pool>,
    dispatch: Dispatch,
    options: &DispatchOptions,
    sink: &Sink,
) -> Report {
    let exchange = exchange(pool, &dispatch, options, sink);
    let result = match options.read_timeout {
        None => exchange.await,
        Some(limit) => match tokio::time::timeout(limit, exchange).await {
            Ok(result) => result,
            Err(_) => {
                let limit_ms = limit.as_millis();
                let message =
                    format!("The function did not answer within {limit_ms} ms (http-client.read-timeout-ms)");
                Err(Box::new(Failure::new(shard_core::payload::code::FUNCTION_TIMEOUT, message)))
            }
        },
    };
    result.unwrap_or_else(|failure| {
        let retryable = failure.code != outcome::RESPONSE_TOO_LARGE;
        Report::warm(Outcome::Failure { failure, retryable, retry_after_ms: None })
    })
}

async fn exchange(
    pool: &Rc<Pool>,
    dispatch: &Dispatch,
    options: &DispatchOptions,
    sink: &Sink,
) -> Result<Report, Box<Failure>> {
    let unreachable = |reason: String| {
        let message = format!("The function at {} could not be reached: {reason}", pool.address);
        Box::new(Failure::new(outcome::UNREACHABLE, message))
    };
    let _permit = match pool.permits.try_acquire() {
        Ok(permit) => Some(permit),
        Err(_) => wait_for_permit(pool, dispatch, sink).await,
    };
    let request = request::encode(pool, dispatch);
    let mut fresh_resends = 0;
    let (connection, answer) = loop {
        let (mut connection, reused) = match pool.take_idle() {
            Some(connection) => (connection, true),
            None => {
                (open(pool, dispatch, sink).await.map_err(|error| unreachable(error.to_string()))?, false)
            }
        };
        match connection.exchange(&request, options.response_bytes_max).await {
            Ok(answer) => break (connection, answer),
            // The peer had closed the connection. Another one may do.
            Err(ExchangeError::Unsent(_)) if reused || fresh_resends < FRESH_RESENDS_MAX => {
                fresh_resends += u32::from(!reused);
            }
            Err(ExchangeError::TooLarge) => {
                let limit = options.response_bytes_max;
                let message = format!(
                    "The function's answer is longer than {limit} bytes; answer less, or raise `limits.response-bytes`"
                );
                return Err(Box::new(Failure::new(outcome::RESPONSE_TOO_LARGE, message)));
            }
            Err(error) => return Err(unreachable(error.to_string())),
        }
    };
    let Answer { head, body, reusable } = answer;
    if reusable {
        pool.give_back(connection);
    }
    Ok(outcome::classify(&head, body, dispatch.payload.content_type.is_some()))
}

/// Waits until one connection fewer is in use, telling the core meanwhile that the function has not got the call.
async fn wait_for_permit<'a>(
    pool: &'a Pool,
    dispatch: &Dispatch,
    sink: &Sink,
) -> Option<SemaphorePermit<'a>> {
    sink(Input::Connecting { attempt: dispatch.attempt, connecting: true });
    // Never closed, so it always gives a permit in the end.
    let permit = pool.permits.acquire().await.ok();
    sink(Input::Connecting { attempt: dispatch.attempt, connecting: false });
    permit
}

/// Opens a connection, telling the core meanwhile that the function has not got the call yet.
async fn open(pool: &Pool, dispatch: &Dispatch, sink: &Sink) -> std::io::Result<Connection> {
    sink(Input::Connecting { attempt: dispatch.attempt, connecting: true });
    let connection = pool.connect().await?;
    sink(Input::Connecting { attempt: dispatch.attempt, connecting: false });
    Ok(connection)
}
