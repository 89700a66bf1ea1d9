//! Paths to routes. Case-sensitive, no trailing slashes, matched on percent-decoded segments.

use std::borrow::Cow;

use hyper::Method;

/// A path that exists. Names and ids are as sent, decoded, not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/v1/functions`
    Functions,
    /// `/v1/functions/{name}`
    Function(Cow<'a, str>),
    /// `/v1/functions/{name}/replicas`
    Replicas(Cow<'a, str>),
    /// `/v1/functions/{name}/scaling`
    Scaling(Cow<'a, str>),
    /// `/v1/functions/{name}/dead-letters`
    DeadLetters(Cow<'a, str>),
    /// `/v1/functions/{name}/dead-letters/{id}`
    DeadLetter(Cow<'a, str>, Cow<'a, str>),
    /// `/v1/functions/{name}/dead-letters/{id}:replay`
    Replay(Cow<'a, str>, Cow<'a, str>),
    /// `/v1/functions/{name}:invoke`
    Invoke(Cow<'a, str>),
    /// `/v1/functions/{name}:enqueue`
    Enqueue(Cow<'a, str>),
    /// `/v1/executions/{id}`
    Execution(Cow<'a, str>),
    /// `/v1/internal/executions/{id}:complete`
    Complete(Cow<'a, str>),
    /// `/v1/internal/functions/{name}:drain-once`
    DrainOnce(Cow<'a, str>),
    /// `/v1/admin/runtime-config`
    RuntimeConfig,
    /// `/v1/admin/runtime-config/validate`
    ValidateRuntimeConfig,
    /// `/modules/build-metadata`
    BuildMetadata,
    /// `/openapi.yaml`
    OpenApi,
}

/// Templates of the routes, by `Route::number`; the last is for paths that are none.
pub const TEMPLATES: [&str; 17] = [
    "/v1/functions",
    "/v1/functions/{name}",
    "/v1/functions/{name}/replicas",
    "/v1/functions/{name}/scaling",
    "/v1/functions/{name}/dead-letters",
    "/v1/functions/{name}/dead-letters/{id}",
    "/v1/functions/{name}/dead-letters/{id}:replay",
    "/v1/functions/{name}:invoke",
    "/v1/functions/{name}:enqueue",
    "/v1/executions/{id}",
    "/v1/internal/executions/{id}:complete",
    "/v1/internal/functions/{name}:drain-once",
    "/v1/admin/runtime-config",
    "/v1/admin/runtime-config/validate",
    "/modules/build-metadata",
    "/openapi.yaml",
    "other",
];

/// The number of what is no route.
pub(super) const NO_ROUTE: usize = TEMPLATES.len() - 1;

impl<'a> Route<'a> {
    /// Its place among [`TEMPLATES`].
    pub(super) fn number(&self) -> usize {
        match self {
            Route::Functions => 0,
            Route::Function(_) => 1,
            Route::Replicas(_) => 2,
            Route::Scaling(_) => 3,
            Route::DeadLetters(_) => 4,
            Route::DeadLetter(..) => 5,
            Route::Replay(..) => 6,
            Route::Invoke(_) => 7,
            Route::Enqueue(_) => 8,
            Route::Execution(_) => 9,
            Route::Complete(_) => 10,
            Route::DrainOnce(_) => 11,
            Route::RuntimeConfig => 12,
            Route::ValidateRuntimeConfig => 13,
            Route::BuildMetadata => 14,
            Route::OpenApi => 15,
        }
    }

    /// Finds the route of a path, the query not included.
    pub(super) fn of(path: &'a str) -> Option<Route<'a>> {
        if let Some(rest) = path.strip_prefix("/v1/functions") {
            return Route::of_function(rest);
        }
        match path {
            "/v1/admin/runtime-config" => return Some(Route::RuntimeConfig),
            "/v1/admin/runtime-config/validate" => return Some(Route::ValidateRuntimeConfig),
            "/openapi.yaml" => return Some(Route::OpenApi),
            "/modules/build-metadata" => return Some(Route::BuildMetadata),
            _ => {}
        }
        if let Some(segment) = path.strip_prefix("/v1/executions/") {
            return last_segment(segment).map(Route::Execution);
        }
        if let Some(segment) = path.strip_prefix("/v1/internal/functions/") {
            return strip_suffix(last_segment(segment)?, ":drain-once").ok().map(Route::DrainOnce);
        }
        let segment = last_segment(path.strip_prefix("/v1/internal/executions/")?)?;
        strip_suffix(segment, ":complete").ok().map(Route::Complete)
    }

    fn of_function(rest: &'a str) -> Option<Route<'a>> {
        if rest.is_empty() {
            return Some(Route::Functions);
        }
        let rest = rest.strip_prefix('/')?;
        if let Some(slash) = rest.bytes().position(|byte| byte == b'/') {
            let (name, below) = (last_segment(&rest[..slash])?, &rest[slash + 1..]);
            return match below.strip_prefix("dead-letters") {
                Some(rest) => Route::of_dead_letters(name, rest),
                None if below == "replicas" => Some(Route::Replicas(name)),
                None if below == "scaling" => Some(Route::Scaling(name)),
                None => None,
            };
        }
        let segment = last_segment(rest)?;
        Some(match strip_suffix(segment, ":invoke") {
            Ok(name) => Route::Invoke(name),
            Err(segment) => match strip_suffix(segment, ":enqueue") {
                Ok(name) => Route::Enqueue(name),
                Err(name) => Route::Function(name),
            },
        })
    }

    fn of_dead_letters(name: Cow<'a, str>, rest: &'a str) -> Option<Route<'a>> {
        if rest.is_empty() {
            return Some(Route::DeadLetters(name));
        }
        let segment = last_segment(rest.strip_prefix('/')?)?;
        Some(match strip_suffix(segment, ":replay") {
            Ok(id) => Route::Replay(name, id),
            Err(id) => Route::DeadLetter(name, id),
        })
    }

    /// Methods that the route takes, for `Allow`.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Route::Functions => "GET, HEAD, POST",
            Route::Function(_) => "GET, HEAD, DELETE",
            Route::Replicas(_) => "GET, HEAD, PUT",
            Route::RuntimeConfig => "GET, HEAD, PUT, PATCH",
            Route::DeadLetter(..) => "DELETE",
            Route::ValidateRuntimeConfig
            | Route::Invoke(_)
            | Route::Enqueue(_)
            | Route::Replay(..)
            | Route::Complete(_)
            | Route::DrainOnce(_) => "POST",
            Route::Execution(_) => "GET, HEAD, DELETE",
            Route::Scaling(_) | Route::DeadLetters(_) | Route::BuildMetadata | Route::OpenApi => "GET, HEAD",
        }
    }

    /// Whether the route takes this method.
    pub(super) fn allows(&self, method: &Method) -> bool {
        // Bytes: a search for text would cost as much as the rest of the routing.
        let allowed = self.allow().as_bytes().split(|byte| *byte == b',');
        allowed.map(<[u8]>::trim_ascii).any(|allowed| allowed == method.as_str().as_bytes())
    }

    /// Whether the route is there only when the admin API is on.
    pub(super) fn is_admin(&self) -> bool {
        matches!(self, Route::RuntimeConfig | Route::ValidateRuntimeConfig)
    }

    /// Whether the route belongs to the internal listener when there is one.
    pub(super) fn is_internal(&self) -> bool {
        matches!(self, Route::Complete(_) | Route::DrainOnce(_))
    }
}

/// The only segment of what is left of a path, decoded. `None` when there are more, or it is empty or not UTF-8.
fn last_segment(text: &str) -> Option<Cow<'_, str>> {
    if text.is_empty() || text.bytes().any(|byte| byte == b'/') {
        return None;
    }
    if text.bytes().any(|byte| byte == b'%') {
        decode(text).map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(text))
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
            bytes.push((digit(0)? << 4 | digit(1)?) as u8);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Cuts a suffix off, or gives the text back.
fn strip_suffix<'a>(text: Cow<'a, str>, suffix: &str) -> Result<Cow<'a, str>, Cow<'a, str>> {
    match text {
        Cow::Borrowed(text) => match text.strip_suffix(suffix) {
            Some(stem) => Ok(Cow::Borrowed(stem)),
            None => Err(Cow::Borrowed(text)),
        },
        Cow::Owned(text) => match text.strip_suffix(suffix) {
            Some(stem) => Ok(Cow::Owned(stem.to_owned())),
            None => Err(Cow::Owned(text)),
        },
    }
}

/// What must hold of every path, for [`crate::fuzzing`]: its last segment means the same however it is encoded.
pub(crate) fn fuzz(bytes: &[u8]) -> Result<(), String> {
    let Ok(path) = std::str::from_utf8(bytes) else { return Ok(()) };
    let Some(route) = Route::of(path) else { return Ok(()) };
    let allowed = route.allow().split(", ").filter_map(|method| Method::try_from(method).ok());
    if allowed.clone().count() == 0 || !allowed.clone().all(|method| route.allows(&method)) {
        return Err(format!("{route:?} does not take what it allows"));
    }
    let Some((above, last)) = path.rsplit_once('/').filter(|(_, last)| !last.contains('%')) else {
        return Ok(());
    };
    let encoded: String = last.bytes().map(|byte| format!("%{byte:02X}")).collect();
    match Route::of(&format!("{above}/{encoded}")) {
        // Words of the path are matched as they are written.
        None => Ok(()),
        Some(other) if other == route => Ok(()),
        other => Err(format!("{route:?} becomes {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_its_template() {
        for (number, template) in TEMPLATES.iter().enumerate() {
            let path = template.replace("{name}", "f").replace("{id}", "7");
            assert_eq!(Route::of(&path).map_or(NO_ROUTE, |route| route.number()), number, "{template}");
        }
    }

    #[test]
    fn table() {
        for (path, expected) in [
            ("/v1/functions", "Functions"),
            ("/v1/functions/", "-"),
            ("/v1/functions/echo", "Function(\"echo\")"),
            ("/v1/functions/echo/", "-"),
            ("/v1/functions/echo:invoke", "Invoke(\"echo\")"),
            ("/v1/functions/echo%3Ainvoke", "Invoke(\"echo\")"),
            ("/v1/functions/a:b:invoke", "Invoke(\"a:b\")"),
            ("/v1/functions/:invoke", "Invoke(\"\")"),
            ("/v1/functions/echo:enqueue", "Enqueue(\"echo\")"),
            ("/v1/functions/%zz", "-"),
            ("/v1/functions/%ff", "-"),
            ("/v1/functions/%", "-"),
            ("/v1/functions/a%2Fb", "Function(\"a/b\")"),
            ("/v1/functions/echo/replicas", "Replicas(\"echo\")"),
            ("/v1/functions/echo/replicas/", "-"),
            ("/v1/functions/echo/dead-letters", "DeadLetters(\"echo\")"),
            ("/v1/functions/echo/dead-letters/7", "DeadLetter(\"echo\", \"7\")"),
            ("/v1/functions/echo/dead-letters/7:replay", "Replay(\"echo\", \"7\")"),
            ("/v1/functions/echo/dead-letters/", "-"),
            ("/v1/functions/echo/dead-letters/7/", "-"),
            ("/v1/functions/echo/dead-lettersx", "-"),
            ("/v1/functions/a/b/dead-letters", "-"),
            ("/v1/internal/functions/echo:drain-once", "DrainOnce(\"echo\")"),
            ("/v1/internal/functions/echo", "-"),
            ("/v1/functionsx", "-"),
            ("/V1/functions", "-"),
            ("/v1/executions/7", "Execution(\"7\")"),
            ("/v1/executions/", "-"),
            ("/v1/internal/executions/7:complete", "Complete(\"7\")"),
            ("/v1/internal/executions/7", "-"),
            ("/modules/build-metadata", "BuildMetadata"),
            ("/openapi.yaml", "OpenApi"),
            ("/", "-"),
            ("*", "-"),
        ] {
            let route = Route::of(path).map_or("-".to_owned(), |route| format!("{route:?}"));
            assert_eq!(route, expected, "{path}");
        }
    }
}
