//! TLS for listeners: a certificate of our own, and those of clients, verified if they show one.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
    server::TlsStream,
};

use crate::server::Transport;

/// Time for a client to secure its connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a listener shows and believes.
#[derive(Debug, Clone, Copy)]
pub struct TlsParts<'a> {
    /// Our certificate, with those that sign it, PEM.
    pub certificate: &'a [u8],
    /// The key of it, PEM.
    pub key: &'a [u8],
    /// Who signs the certificates of clients, PEM. None: they are not asked for any.
    pub clients: Option<&'a [u8]>,
}

impl TlsParts<'_> {
    /// What secures connections.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn acceptor(&self) -> Result<TlsAcceptor, String> {
        let chain = certificates(self.certificate).map_err(|problem| format!("the certificate {problem}"))?;
        let key = PrivateKeyDer::from_pem_slice(self.key).map_err(|_| "the key holds no key in PEM")?;
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ClientCertVerifier> = match self.clients {
            None => Arc::new(NoClientAuth),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in
                    certificates(pem).map_err(|problem| format!("the clients' authority {problem}"))?
                {
                    roots.add(certificate).map_err(|error| format!("the clients' authority: {error}"))?;
                }
                // Who shows none is told so in words.
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| format!("the clients' authority: {error}"))?
            }
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| format!("the certificate and the key: {error}"))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| "is not PEM")?;
    if found.is_empty() { Err("holds no certificate") } else { Ok(found) }
}

/// HTTP over TLS, with what the cell holds at the time. While it holds nothing, connections are closed.
#[derive(Clone, Default)]
pub struct Tls(pub Rc<RefCell<Option<TlsAcceptor>>>);

impl Transport for Tls {
    type Stream = TlsStream<TcpStream>;
    /// The client's certificate, DER, if it showed one. It was verified.
    type Peer = Option<Vec<u8>>;

    const CONNECTIONS_MAX: usize = 256;
    // A stranger must not keep others out for long.
    const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

    async fn open(&self, stream: TcpStream) -> Option<(Self::Stream, Self::Peer)> {
        let acceptor = self.0.borrow().clone()?;
        let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a connection could not be secured");
                return None;
            }
            Err(_) => return None,
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.map(|certificate| certificate.to_vec());
        Some((stream, certificate))
    }
}
