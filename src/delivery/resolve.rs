//! Which addresses a receiver is connected to: those of its host that are permitted, looked up anew for every try.
//!
//! The connection goes to an address from this answer, never to the name again: a name that leads elsewhere a moment
//! later leads nobody anywhere.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
};

use super::{
    address::Permit,
    target::{CallbackTarget, Host},
};

/// Addresses of one host that are tried; more are ignored.
const ADDRESSES_MAX: usize = 8;

/// Addresses of a name, once they are known.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + 'a>>;

/// Knows the addresses of names.
pub trait Resolver: Send + 'static {
    /// Looks a name up.
    fn look_up<'a>(&'a self, name: &'a str) -> Lookup<'a>;
}

/// The operating system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn look_up<'a>(&'a self, name: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
        })
    }
}

/// Why there is no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// The name is not known, or nobody could be asked.
    #[error("cannot resolve the receiver's name: {0}")]
    Unknown(io::Error),
    /// It leads to addresses that are not permitted only.
    #[error(
        "the receiver's name leads to {0}, which is private, loopback, link-local or reserved; deliver to a public address, or start the server with delivery.allow-private=true"
    )]
    NotPermitted(IpAddr),
}

/// The permitted addresses of a target, at least one.
pub(super) async fn resolve(
    resolver: &dyn Resolver,
    target: &CallbackTarget,
    permit: Permit,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let found = match &target.host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => resolver.look_up(name).await.map_err(ResolveError::Unknown)?,
    };
    let mut permitted: Vec<SocketAddr> = Vec::new();
    for address in found.iter().filter(|address| permit(**address)) {
        let address = SocketAddr::new(*address, target.port);
        if permitted.len() < ADDRESSES_MAX && !permitted.contains(&address) {
            permitted.push(address);
        }
    }
    match found.first() {
        None => Err(ResolveError::Unknown(io::Error::other("it has no address"))),
        Some(address) if permitted.is_empty() => Err(ResolveError::NotPermitted(*address)),
        Some(_) => Ok(permitted),
    }
}
