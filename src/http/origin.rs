//! Decides whether a request may come in at all, by the name that it was sent to and the page that sent it.
//!
//! A server on loopback is within reach of every page that a browser of this machine shows. Such a page can send
//! requests without asking anybody (forms, images, `fetch` without CORS), and a name of its own that leads to 127.0.0.1
//! (DNS rebinding) makes it read the answers too. So `Host` has to be a name of this server, and what a page of
//! another origin sends is refused before anything of it is read, unless the configuration lists the origin.
//!
//! [`OriginPolicy`] is the one place that knows these rules for the server; both kinds of listeners ask it, once per request. What
//! it has in common with watchdogs, which let no page in, is in [`nanofaas_web::host`]. It looks
//! at the headers in one pass and allocates nothing for a request that may come in.

use std::{cell::RefCell, net::SocketAddr, sync::Arc};

use hyper::{
    HeaderMap, Method, Uri, Version,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderName, HeaderValue, ORIGIN,
        TRANSFER_ENCODING, VARY,
    },
};
use nanofaas_web::host::{self, BadHost, Named, SEC_FETCH_SITE};
use nanofaas_wire::error::ApiError;

use super::request::CallHeaders;
use crate::config::{AllowedHost, AllowedOrigin, is_loopback};

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
/// Headers of answers that a page of a listed origin may read.
const EXPOSED: &str = "location, retry-after, allow, x-execution-id, x-execution-status, x-execution-error, \
                       x-queue-reject-reason";
/// Seconds for which a browser may remember a preflight.
const PREFLIGHT_MAX_AGE_S: &str = "600";
/// How our own origin begins.
const SCHEME: &str = "http://";

/// Who may talk to one listener.
#[derive(Debug, Clone)]
pub struct OriginPolicy {
    /// Only this machine reaches the listener.
    is_on_loopback: bool,
    hosts: Arc<[AllowedHost]>,
    origins: Arc<[AllowedOrigin]>,
    /// Value of `Host` of the last request that came in: most come by the same name.
    last_host: RefCell<Vec<u8>>,
}

/// A request that may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Sent by a program or by a page of our own, or to a path that is everybody's.
    Own,
    /// Sent by a page of this origin, which `cors.allowed-origins` lists: it may read the answer.
    Listed(HeaderValue),
}

/// What is done with requests that a page of another origin sends to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Refused, whatever the method.
    Refuse,
    /// Answered; the browser keeps the answer from the page.
    Answer,
}

impl Rule {
    /// Everything is refused that is not named here. Paths are as sent, like those of the routes.
    fn of(path: &str) -> Rule {
        match path {
            "/openapi.yaml" => Rule::Answer,
            path if path.starts_with("/modules/") => Rule::Answer,
            _ => Rule::Refuse,
        }
    }
}

/// What this module, [`super::framing`] and handlers of calls have to know of a request's headers, found in one pass.
#[derive(Debug, Default)]
pub(crate) struct Seen<'a> {
    host: Option<&'a HeaderValue>,
    hosts: usize,
    origin: Option<&'a HeaderValue>,
    origins: usize,
    /// A browser says that a page of another origin is behind it.
    is_foreign: bool,
    transfer_encodings: usize,
    has_other_coding: bool,
    /// What they say about a call.
    pub(super) call: CallHeaders<'a>,
}

impl<'a> Seen<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Seen<'a> {
        let mut seen = Seen::default();
        for (name, value) in headers {
            if *name == HOST {
                seen.host = Some(value);
                seen.hosts += 1;
            } else if *name == ORIGIN {
                seen.origin = Some(value);
                seen.origins += 1;
            } else if *name == TRANSFER_ENCODING {
                seen.transfer_encodings += 1;
                seen.has_other_coding |= !value.as_bytes().eq_ignore_ascii_case(b"chunked");
            } else if *name == SEC_FETCH_SITE {
                seen.is_foreign |= host::is_foreign_site(value);
            } else {
                seen.call.look_at(name, value);
            }
        }
        seen
    }

    /// Whether the body comes in chunks.
    pub(super) fn is_chunked(&self) -> bool {
        self.transfer_encodings > 0
    }

    /// Whether the body is coded in a way that is not understood: only `chunked`, once, is.
    pub(crate) fn has_strange_coding(&self) -> bool {
        self.transfer_encodings > 1 || self.has_other_coding
    }
}

impl OriginPolicy {
    /// The policy of a listener at this address.
    pub fn new(listener: SocketAddr, hosts: &[AllowedHost], origins: &[AllowedOrigin]) -> OriginPolicy {
        OriginPolicy {
            is_on_loopback: is_loopback(listener.ip()),
            hosts: hosts.into(),
            origins: origins.into(),
            last_host: RefCell::default(),
        }
    }

    /// Looks at a request before anything of it is read or run.
    ///
    /// # Errors
    /// 400 without one `Host`, 421 for another server's name, 403 for a page of an origin that is not listed.
    pub(crate) fn check(&self, seen: &Seen<'_>, version: Version, uri: &Uri) -> Result<Pass, ApiError> {
        let host = self.check_host(seen, version, uri)?;
        let Some(origin) = seen.origin else {
            let refused = seen.is_foreign && Rule::of(uri.path()) == Rule::Refuse;
            return if refused { Err(not_allowed(None)) } else { Ok(Pass::Own) };
        };
        if seen.origins == 1 {
            let is_own = host.is_some_and(|host| is_origin_of(origin.as_bytes(), host));
            if is_own && !seen.is_foreign {
                return Ok(Pass::Own);
            }
            if self.origins.iter().any(|listed| origin.as_bytes().eq_ignore_ascii_case(listed.as_bytes())) {
                return Ok(Pass::Listed(origin.clone()));
            }
        }
        match Rule::of(uri.path()) {
            Rule::Refuse => Err(not_allowed(Some(origin))),
            Rule::Answer => Ok(Pass::Own),
        }
    }

    /// The host that a request is for: name or address, with a port when there is one. `None` where HTTP/1.0 has none.
    fn check_host<'a>(
        &self,
        seen: &Seen<'a>,
        version: Version,
        uri: &'a Uri,
    ) -> Result<Option<&'a [u8]>, ApiError> {
        let Some(host) = host::target(seen.host, seen.hosts, version, uri).map_err(bad_request)? else {
            return Ok(None);
        };
        if !host.is_empty() && *self.last_host.borrow() == host {
            return Ok(Some(host));
        }
        let name = Named::of(host).map_err(bad_request)?;
        if !self.answers_to(&name) {
            return Err(ApiError::Misdirected(String::from_utf8_lossy(host).into_owned()));
        }
        let mut last = self.last_host.borrow_mut();
        last.clear();
        last.extend_from_slice(host);
        Ok(Some(host))
    }

    fn answers_to(&self, host: &Named<'_>) -> bool {
        // A page cannot make an address lead elsewhere, and who came from another machine has to use one.
        let is_address = matches!(host, Named::Address(_)) && !self.is_on_loopback;
        host.is_local() || is_address || self.hosts.iter().any(|allowed| is_allowed(host, allowed))
    }
}

impl Pass {
    /// Lets the page behind a request read its answer, when it may.
    pub(crate) fn mark(self, headers: &mut HeaderMap) {
        if let Pass::Listed(origin) = self {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            headers.insert(VARY, HeaderValue::from_static("origin"));
        }
    }

    /// The headers of an answer to a preflight, if this request is one: what a browser asks before it sends a request of
    /// a page that takes more than a form can do. `allow` are the methods of the path.
    pub(crate) fn preflight(
        &self,
        method: &Method,
        headers: &HeaderMap,
        allow: &'static str,
    ) -> Option<HeaderMap> {
        let is_preflight = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if *self == Pass::Own || !is_preflight {
            return None;
        }
        let mut answer = HeaderMap::new();
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(allow));
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_MAX_AGE_S));
        if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        if headers.contains_key(REQUEST_PRIVATE_NETWORK) {
            answer.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
        Some(answer)
    }
}

fn is_allowed(host: &Named<'_>, allowed: &AllowedHost) -> bool {
    match host {
        Named::Address(address) => allowed.address().is_some_and(|allowed| allowed == *address),
        Named::Name(name) => allowed.as_str().eq_ignore_ascii_case(name),
    }
}

/// Whether a page of this origin came from the server that is called by this host.
fn is_origin_of(origin: &[u8], host: &[u8]) -> bool {
    let (scheme, rest) = origin.split_at(SCHEME.len().min(origin.len()));
    scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) && rest.eq_ignore_ascii_case(host)
}

fn bad_request(reason: BadHost) -> ApiError {
    ApiError::BadRequest(reason.0.into())
}

fn not_allowed(origin: Option<&HeaderValue>) -> ApiError {
    let origin = origin.map(|origin| String::from_utf8_lossy(origin.as_bytes()).into_owned());
    ApiError::OriginNotAllowed(origin.unwrap_or_else(|| "another site".to_owned()))
}

#[cfg(test)]
mod tests;
