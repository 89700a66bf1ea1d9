//! TLS for https endpoints, with the machine's own roots or those that a user names. Verification is always on.

use std::{
    io,
    sync::{Arc, LazyLock},
};

use tokio::net::TcpStream;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
pub use tokio_rustls::{TlsConnector, client::TlsStream};

/// Made at the first https call: reading the roots takes a while, and most installations never need them.
static CONNECTOR: LazyLock<Result<TlsConnector, String>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err("no root certificates on this machine; install ca-certificates".to_owned());
    }
    connector(roots)
});

fn connector(roots: RootCertStore) -> Result<TlsConnector, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Trusts the certificates of a PEM text and no others.
///
/// # Errors
/// Why it holds none that can be trusted.
pub fn trusting(pem: &[u8]) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| "is not a PEM file".to_owned())?;
        roots.add(certificate).map_err(|_| "holds a certificate that cannot be read".to_owned())?;
    }
    if roots.is_empty() {
        return Err("holds no certificate; it must be a PEM file".to_owned());
    }
    connector(roots)
}

/// Secures a connection to `host`, with the machine's own roots.
///
/// # Errors
/// There are no roots, or the peer is not who it should be, or breaks off.
pub async fn connect(host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let connector = CONNECTOR.as_ref().map_err(|reason| io::Error::other(reason.clone()))?;
    connect_with(connector, host, stream).await
}

/// Secures a connection to `host`.
///
/// # Errors
/// The peer is not who it should be, or breaks off.
pub async fn connect_with(
    connector: &TlsConnector,
    host: &str,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    connector.connect(name, stream).await
}
