//! Who asks, and whether they may: both are the API server's to say.
//!
//! A client asks the API server, which passes the question on with a certificate of its own, the *front proxy's*, and with
//! headers that name the client. What such a certificate looks like is in a ConfigMap that every cluster has. Whether the
//! client may read a metric, the API server decides when it is asked for a review. See
//! [Kubernetes, aggregation layer](https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/).

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    core::v1::ConfigMap,
};
use kube::{Api, Client, api::PostParams};
use tokio::time::timeout;
use x509_cert::{
    Certificate,
    der::{
        Decode,
        asn1::{ObjectIdentifier, PrintableStringRef, Utf8StringRef},
    },
};

use super::{GROUP, Metric, VERSION};
use crate::access::{Access, AccessError};

const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
/// Time for the API server to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Groups of a client that count.
const GROUPS_MAX: usize = 64;
/// id-at-commonName, RFC 5280 A.1.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// How the front proxy is recognised, and how it names clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontProxy {
    /// Who signs its certificate, as PEM.
    pub authority: String,
    /// Common names that its certificate may have; any, if there are none.
    names: Vec<String>,
    /// Headers with the name of the client, in lower case: the first one that is there counts.
    users: Vec<String>,
    /// Headers with its groups.
    groups: Vec<String>,
}

/// A client of the API server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskedBy {
    /// Its name.
    pub user: String,
    /// Its groups.
    pub groups: Vec<String>,
}

/// Why the API server did not say.
#[derive(Debug, thiserror::Error)]
pub enum DelegationError {
    /// It refused, or could not be reached.
    #[error("{0}")]
    Refused(Box<kube::Error>),
    /// It said nothing in time.
    #[error("the API server did not answer within {} s", TIMEOUT.as_secs())]
    Late,
    /// The cluster has no front proxy.
    #[error(
        "ConfigMap {CONFIG_MAP} of namespace {NAMESPACE} has no {0}: the API server runs without an aggregation layer"
    )]
    Missing(&'static str),
}

/// Asks the API server.
pub struct Delegation {
    client: Client,
}

impl Delegation {
    /// One that asks it in this way.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub async fn new(access: &Access) -> Result<Delegation, AccessError> {
        Ok(Delegation { client: access.client().await? })
    }

    /// The namespace of the account.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// How the front proxy of the cluster is recognised.
    ///
    /// # Errors
    /// See [`DelegationError`].
    pub async fn front_proxy(&self) -> Result<FrontProxy, DelegationError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), NAMESPACE);
        let map = in_time(maps.get(CONFIG_MAP)).await?;
        FrontProxy::of(&map.data.unwrap_or_default())
    }

    /// Whether a client may read a metric.
    ///
    /// # Errors
    /// See [`DelegationError`].
    pub async fn allows(
        &self,
        client: &AskedBy,
        namespace: &str,
        metric: Metric,
    ) -> Result<bool, DelegationError> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(client.user.clone()),
                groups: Some(client.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(namespace.to_owned()),
                    // What names no object is a list to the API server.
                    verb: Some("list".to_owned()),
                    group: Some(GROUP.to_owned()),
                    version: Some(VERSION.to_owned()),
                    resource: Some(metric.name().to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = in_time(reviews.create(&PostParams::default(), &review)).await?;
        Ok(review.status.is_some_and(|status| status.allowed))
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, DelegationError> {
    let answered = timeout(TIMEOUT, asked).await.map_err(|_| DelegationError::Late)?;
    answered.map_err(|error| DelegationError::Refused(Box::new(error)))
}

impl FrontProxy {
    /// From the data of the ConfigMap.
    ///
    /// # Errors
    /// [`DelegationError::Missing`].
    pub fn of(data: &BTreeMap<String, String>) -> Result<FrontProxy, DelegationError> {
        const AUTHORITY: &str = "requestheader-client-ca-file";
        const USERS: &str = "requestheader-username-headers";
        let authority = data.get(AUTHORITY).filter(|pem| !pem.trim().is_empty());
        let list = |key: &str| -> Vec<String> {
            data.get(key).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
        };
        let headers = |key: &str| list(key).into_iter().map(|name| name.to_ascii_lowercase()).collect();
        let users: Vec<String> = headers(USERS);
        if users.is_empty() {
            return Err(DelegationError::Missing(USERS));
        }
        Ok(FrontProxy {
            authority: authority.ok_or(DelegationError::Missing(AUTHORITY))?.clone(),
            names: list("requestheader-allowed-names"),
            users,
            groups: headers("requestheader-group-headers"),
        })
    }

    /// Who a request is from. `certificate`: the client's of the connection, DER, verified against the authority.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn asked_by<'a>(
        &self,
        certificate: Option<&[u8]>,
        headers: impl Fn(&str) -> Vec<&'a str>,
    ) -> Result<AskedBy, String> {
        let certificate = certificate.ok_or("ask the API server of the cluster, which asks here")?;
        if !self.names.is_empty() {
            let name = common_name(certificate).unwrap_or_default();
            if !self.names.contains(&name) {
                return Err(format!("the certificate of {name:?} is not the front proxy's"));
            }
        }
        let named =
            self.users.iter().find_map(|header| headers(header).first().map(|user| (*user).to_owned()));
        let user = named.filter(|user| !user.is_empty()).ok_or("the front proxy named nobody")?;
        let groups = self.groups.iter().flat_map(|header| headers(header));
        Ok(AskedBy { user, groups: groups.take(GROUPS_MAX).map(str::to_owned).collect() })
    }
}

/// The last common name of a certificate's subject.
fn common_name(certificate: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let subject = certificate.tbs_certificate().subject();
    let name = subject.iter().filter(|attribute| attribute.oid == COMMON_NAME).last()?;
    let value = &name.value;
    let utf8 = value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
    let printable = || value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned());
    utf8.or_else(|_| printable()).ok()
}
