//! One delivery: tries until the receiver takes the result, all tries are used up, or the address may not be
//! delivered to. After every try the shard that owns the execution is told how it went.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, HeaderValue, InvalidHeaderValue, USER_AGENT},
};
use nanofaas_wire::{
    headers::{DELIVERY, EXECUTION_ID, SIGNATURE},
    result,
};
use shard_core::{Delivery, DeliveryStatus, Input};
use shard_runtime::Inbox;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout_at},
};

use super::{
    DeliveryOptions, DeliveryOrder, ShutdownPhase,
    resolve::{ResolveError, Resolver, resolve},
    signature::Signer,
    target::CallbackTarget,
};
use crate::delivery::post::{Post, PostError, post};

/// What all deliveries share.
pub(super) struct DeliveryContext {
    pub(super) options: DeliveryOptions,
    pub(super) signer: Signer,
    pub(super) resolver: Box<dyn Resolver>,
    pub(super) inbox: Inbox,
    /// Tries that may run at once.
    pub(super) permits: Semaphore,
    pub(super) phase: watch::Receiver<ShutdownPhase>,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryEnding {
    /// Delivered, failed or refused, and reported as such.
    Decided,
    /// The server ends, and there is no time for another try.
    GivenUp,
}

/// Why a try did not succeed.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Post(PostError),
    #[error("the receiver did not answer within {} ms, which is delivery.timeout", .0.as_millis())]
    TimedOut(Duration),
    #[error("the receiver answered {0}, and redirects are not followed; give the address that it leads to")]
    Redirect(StatusCode),
    #[error("the receiver answered {0}, and only 2xx is success")]
    Status(StatusCode),
}

impl TryError {
    /// Another try would end like this one.
    fn is_final(&self) -> bool {
        matches!(self, TryError::Resolve(ResolveError::NotPermitted(_)))
    }
}

/// Delivers a result. `host` bounds the tries that run at once for one receiver.
pub(super) async fn deliver(
    context: &DeliveryContext,
    host: &Semaphore,
    target: &CallbackTarget,
    order: &DeliveryOrder,
) -> DeliveryEnding {
    let delivery_id = delivery_id();
    let mut phase = context.phase.clone();
    let mut delivery = Delivery { status: DeliveryStatus::Pending, attempts: 0, last_error: None };
    let mut is_ending;
    loop {
        let result = {
            // Neither is ever closed. The host's first: who waits for a slow receiver takes no place from others.
            let _of_host = host.acquire().await;
            let _of_all = context.permits.acquire().await;
            // Looked at now: a try that began before the end is not the one that the end allows.
            is_ending = *phase.borrow() != ShutdownPhase::Open;
            attempt(context, target, order, &delivery_id).await
        };
        delivery.attempts += 1;
        let is_last = delivery.attempts >= context.options.attempts_max;
        (delivery.status, delivery.last_error) = match result {
            Ok(()) => (DeliveryStatus::Delivered, delivery.last_error.take()),
            Err(error) => {
                let status = match error.is_final() {
                    true => DeliveryStatus::Refused,
                    false if is_last => DeliveryStatus::Failed,
                    false => DeliveryStatus::Pending,
                };
                (status, Some(error.to_string().into()))
            }
        };
        log(order, target, &delivery);
        let told = Input::Delivered { id: order.id, number: order.number, delivery: delivery.clone() };
        context.inbox.post(order.shard, told);
        if delivery.status != DeliveryStatus::Pending {
            return DeliveryEnding::Decided;
        }
        // A server that ends does not wait for the next try but makes it now, as the last one.
        if is_ending {
            tracing::warn!(execution = %order.id, host = %target.authority, "result not delivered before the end");
            return DeliveryEnding::GivenUp;
        }
        let pause = pause(&context.options, delivery.attempts);
        tokio::select! {
            () = sleep(pause) => {}
            _ = phase.wait_for(|phase| *phase != ShutdownPhase::Open) => {}
        }
    }
}

async fn attempt(
    context: &DeliveryContext,
    target: &CallbackTarget,
    order: &DeliveryOrder,
    delivery_id: &str,
) -> Result<(), TryError> {
    let limit = context.options.timeout;
    let deadline = Instant::now() + limit;
    let looking_up = resolve(&*context.resolver, target, context.options.permit);
    let addresses = timeout_at(deadline, looking_up).await.map_err(|_| TryError::TimedOut(limit))??;
    // Made anew for every try: what waits for its next one keeps no second copy of the result.
    let body = Bytes::from(result::execution(&order.view));
    let headers = headers(&context.signer, order, delivery_id, &body);
    let headers = headers.map_err(|error| TryError::Post(PostError::Unsendable(error.into())))?;
    let certificate_name = target.certificate_name();
    let post = post(Post {
        addresses: &addresses,
        tls: certificate_name.as_deref(),
        authority: &target.authority,
        path: &target.path,
        headers,
        body,
        deadline,
    });
    match post.await {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) if status.is_redirection() => Err(TryError::Redirect(status)),
        Ok(status) => Err(TryError::Status(status)),
        Err(PostError::TimedOut) => Err(TryError::TimedOut(limit)),
        Err(error) => Err(TryError::Post(error)),
    }
}

fn headers(
    signer: &Signer,
    order: &DeliveryOrder,
    delivery_id: &str,
    body: &[u8],
) -> Result<HeaderMap, InvalidHeaderValue> {
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("nanofaas/", env!("CARGO_PKG_VERSION"))));
    headers.insert(EXECUTION_ID, HeaderValue::try_from(order.id.to_string())?);
    headers.insert(DELIVERY, HeaderValue::try_from(delivery_id)?);
    headers.insert(SIGNATURE, HeaderValue::try_from(signer.sign(unix_s, body))?);
    Ok(headers)
}

/// The pause after this many tries: it doubles from try to try, and half of it is random, so that deliveries that
/// failed together are not tried together.
fn pause(options: &DeliveryOptions, attempts: u32) -> Duration {
    let doubled = options.backoff_min.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    let pause = doubled.min(options.backoff_max);
    let mut random = [0];
    // Without random bytes the pause is a shorter one.
    let _ = getrandom::fill(&mut random);
    pause / 2 + (pause / 2).mul_f64(f64::from(random[0]) / 255.0)
}

/// A UUID of version 4: names the delivery to its receiver, which may see it more than once.
fn delivery_id() -> String {
    let mut random = [0; 16];
    if let Err(error) = getrandom::fill(&mut random) {
        // Receivers that look for deliveries they know would take this one for another of its kind.
        tracing::error!(%error, "no random bytes, the id of a delivery is not unique");
    }
    uuid::Builder::from_random_bytes(random).into_uuid().hyphenated().to_string()
}

fn log(order: &DeliveryOrder, target: &CallbackTarget, delivery: &Delivery) {
    // Not the whole address: its path or query may be a secret.
    let (host, attempts) = (&target.authority, delivery.attempts);
    let (status, error) = (delivery.status.as_str(), delivery.last_error.as_deref().unwrap_or_default());
    match delivery.status {
        DeliveryStatus::Pending | DeliveryStatus::Delivered => {
            tracing::debug!(execution = %order.id, %host, attempts, status, error, "result delivery tried");
        }
        DeliveryStatus::Failed | DeliveryStatus::Refused => {
            tracing::warn!(execution = %order.id, %host, attempts, status, error, "result not delivered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_half_of_them_is_random() {
        let options = DeliveryOptions {
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            ..DeliveryOptions::default()
        };
        for (attempts, longest_ms) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (100, 1000)] {
            let longest = Duration::from_millis(longest_ms);
            let pauses: Vec<Duration> = (0..100).map(|_| pause(&options, attempts)).collect();
            assert!(
                pauses.iter().all(|pause| (longest / 2..=longest).contains(pause)),
                "{attempts}: {pauses:?}"
            );
            assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{attempts}: all the same");
        }
    }

    #[test]
    fn delivery_ids_are_random_uuids() {
        let (one, other) = (delivery_id(), delivery_id());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[14..15]), (36, "4"));
    }
}
