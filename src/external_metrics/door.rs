//! Who is let in: what the listener shows to clients, how the API server is recognised, and what it has said about those that it
//! asks for. All of it is read again from time to time, because certificates and rights change.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use nanofaas_kubernetes::external_metrics::{
    Metric, Refused,
    delegation::{AskedBy, Delegation, DelegationError, FrontProxy},
};
use nanofaas_web::tls_server::{Tls, TlsParts};

/// Time between two looks at the certificate and at how the front proxy is recognised.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// The same while one of them is missing: at first, doubled each time.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long what the API server said of a client counts.
const REVIEW_TTL: Duration = Duration::from_secs(10);
/// Clients and metrics that this is kept for.
const REVIEWS_MAX: usize = 1024;

/// Where the listener's certificate is.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate, with those that sign it, PEM.
    pub certificate: PathBuf,
    /// The key of it, PEM.
    pub key: PathBuf,
}

/// What connections are secured with.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    certificate: Vec<u8>,
    key: Vec<u8>,
    front_proxy: FrontProxy,
}

/// Who wants to read what: a client, a namespace and the name of a metric.
type About = (AskedBy, String, &'static str);

/// Whether it may, and when the API server said so.
type Review = (bool, Instant);

/// See the module.
pub(super) struct Door {
    delegation: Delegation,
    files: CertificateFiles,
    tls: Tls,
    shown: RefCell<Option<Shown>>,
    reviews: RefCell<BTreeMap<About, Review>>,
}

impl Door {
    pub(super) fn new(delegation: Delegation, files: CertificateFiles) -> Door {
        Door {
            delegation,
            files,
            tls: Tls::default(),
            shown: RefCell::default(),
            reviews: RefCell::default(),
        }
    }

    /// What secures connections.
    pub(super) fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// Looks again and again, for ever. What it had counts until there is something better.
    pub(super) async fn keep(&self) {
        let mut pause = RETRY_AFTER;
        let mut trouble = None;
        loop {
            match self.look().await {
                Ok(()) => {
                    if trouble.take().is_some() || pause == RETRY_AFTER {
                        tracing::info!("external metrics are served");
                    }
                    pause = LOOK_INTERVAL;
                }
                Err(reason) => {
                    if trouble.as_ref() != Some(&reason) {
                        tracing::warn!(reason, "external metrics: what is needed to serve them is not there");
                    }
                    trouble = Some(reason);
                    let is_served = self.shown.borrow().is_some();
                    pause = if is_served { LOOK_INTERVAL } else { (pause * 2).min(LOOK_INTERVAL) };
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn look(&self) -> Result<(), String> {
        let read = |path: &PathBuf| {
            let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
            fs::read(path).map_err(failed)
        };
        let (certificate, key) = (read(&self.files.certificate)?, read(&self.files.key)?);
        let told = self.delegation.front_proxy().await;
        let known = self.shown.borrow().as_ref().map(|shown| shown.front_proxy.clone());
        let (front_proxy, trouble) = match (told, known) {
            (Ok(front_proxy), _) => (front_proxy, None),
            // A new certificate does not wait for the API server.
            (Err(error), Some(known)) => (known, Some(error)),
            (Err(error), None) => return Err(not_told(&error)),
        };
        let shown = Shown { certificate, key, front_proxy };
        if self.shown.borrow().as_ref() != Some(&shown) {
            self.show(shown)?;
        }
        trouble.map_or(Ok(()), |error| Err(not_told(&error)))
    }

    fn show(&self, shown: Shown) -> Result<(), String> {
        let parts = TlsParts {
            certificate: &shown.certificate,
            key: &shown.key,
            clients: Some(shown.front_proxy.authority.as_bytes()),
        };
        let acceptor = parts.acceptor()?;
        self.tls.0.replace(Some(acceptor));
        self.shown.replace(Some(shown));
        Ok(())
    }

    /// Who asks.
    pub(super) fn asked_by(
        &self,
        certificate: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) -> Result<AskedBy, String> {
        let shown = self.shown.borrow();
        // Without it no connection is secured.
        let shown = shown.as_ref().ok_or("it is not known yet how the API server is recognised")?;
        shown.front_proxy.asked_by(certificate, headers)
    }

    /// Whether a client may read a metric.
    pub(super) async fn check(
        &self,
        client: AskedBy,
        namespace: &str,
        metric: Metric,
    ) -> Result<(), Refused> {
        let user = client.user.clone();
        let about = (client, namespace.to_owned(), metric.name());
        let known = self.reviews.borrow().get(&about).copied();
        let allowed = match known.filter(|(_, since)| since.elapsed() < REVIEW_TTL) {
            Some((allowed, _)) => allowed,
            None => {
                let asked = self.delegation.allows(&about.0, namespace, metric).await;
                let allowed = asked.map_err(|error| {
                    Refused::Unavailable(format!(
                        "the API server did not say whether {user} may read metrics: {error}"
                    ))
                })?;
                let mut reviews = self.reviews.borrow_mut();
                if reviews.len() >= REVIEWS_MAX {
                    reviews.retain(|_, (_, since)| since.elapsed() < REVIEW_TTL);
                }
                if reviews.len() < REVIEWS_MAX {
                    reviews.insert(about, (allowed, Instant::now()));
                }
                allowed
            }
        };
        let name = metric.name();
        allowed.then_some(()).ok_or_else(|| {
            Refused::Forbidden(format!(
                "user {user:?} may not list {name}.external.metrics.k8s.io in namespace {namespace:?}"
            ))
        })
    }
}

fn not_told(error: &DelegationError) -> String {
    format!("cannot tell how the API server is recognised: {error}")
}
