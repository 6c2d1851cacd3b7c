//! Applying the buckets to a call: one per (subscription, caller) and one per subscription. What is left
//! goes into the `x-ms-ratelimit-remaining-*` headers; an empty bucket is 429 with `Retry-After`.

use axum::response::Response;

use crate::bucket::{self, GLOBAL_FACTOR, Limit};
use crate::call;
use crate::clock;
use crate::state::World;

/// What is left after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    own: u32,
    global: u32,
}

/// Take one call out of both buckets; the error is seconds to wait.
pub(crate) fn spend(
    world: &mut World,
    kind: &str,
    limit: Limit,
    scope: &str,
    caller: &str,
) -> Result<Option<Left>, u64> {
    if !world.limits.enabled {
        return Ok(None);
    }
    let (subscription, now) = (subscription_of(scope), clock::monotonic());
    let wide = Limit {
        capacity: limit.capacity * GLOBAL_FACTOR,
        refill_per_second: limit.refill_per_second * GLOBAL_FACTOR,
    };
    let own = world.buckets.take(&format!("{kind}/{subscription}/{caller}"), limit, now);
    let own = own.map_err(bucket::retry_after)?;
    let global = world.buckets.take(&format!("{kind}/{subscription}"), wide, now);
    Ok(Some(Left { own, global: global.map_err(bucket::retry_after)? }))
}

/// Put ARM's remaining-reads headers on an answer.
pub(crate) fn label(response: Response, left: Option<Left>) -> Response {
    let Some(left) = left else {
        return response;
    };
    let response =
        call::with_header(response, "x-ms-ratelimit-remaining-subscription-reads", &left.own.to_string());
    call::with_header(
        response,
        "x-ms-ratelimit-remaining-subscription-global-reads",
        &left.global.to_string(),
    )
}

/// The subscription of a scope, lower case; tenant-level scopes share one name.
pub(crate) fn subscription_of(scope: &str) -> String {
    let lower = scope.to_ascii_lowercase();
    let mut parts = lower.split('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some("subscriptions"), Some(id)) => id.to_owned(),
        _ => "tenant".to_owned(),
    }
}
