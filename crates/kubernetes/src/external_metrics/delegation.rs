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
    /// Headers with its unique id.
    uids: Vec<String>,
    /// How headers with what else is known of it begin.
    extras: Vec<String>,
}

/// A client of the API server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskedBy {
    /// Its name.
    pub user: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// Its unique id.
    pub uid: Option<String>,
    /// What else is known of it. Some clusters restrict what a token is good for by this.
    pub extra: BTreeMap<String, Vec<String>>,
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
    /// It cannot be told how the front proxy is recognised.
    #[error("ConfigMap {CONFIG_MAP} of namespace {NAMESPACE}: {0} is not a list of texts")]
    Unreadable(&'static str),
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
                uid: client.uid.clone(),
                extra: (!client.extra.is_empty()).then(|| client.extra.clone()),
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
    /// [`DelegationError::Missing`], [`DelegationError::Unreadable`].
    pub fn of(data: &BTreeMap<String, String>) -> Result<FrontProxy, DelegationError> {
        const AUTHORITY: &str = "requestheader-client-ca-file";
        const USERS: &str = "requestheader-username-headers";
        let authority = data.get(AUTHORITY).filter(|pem| !pem.trim().is_empty());
        let list = |key: &'static str| -> Result<Vec<String>, DelegationError> {
            // A list of names that cannot be read must not let in any name.
            let text = data.get(key).filter(|text| !text.trim().is_empty());
            text.map_or(Ok(Vec::new()), |text| {
                serde_json::from_str(text).map_err(|_| DelegationError::Unreadable(key))
            })
        };
        let headers = |key: &'static str| -> Result<Vec<String>, DelegationError> {
            Ok(list(key)?.into_iter().map(|name| name.to_ascii_lowercase()).collect())
        };
        let users = headers(USERS)?;
        if users.is_empty() {
            return Err(DelegationError::Missing(USERS));
        }
        Ok(FrontProxy {
            authority: authority.ok_or(DelegationError::Missing(AUTHORITY))?.clone(),
            names: list("requestheader-allowed-names")?,
            users,
            groups: headers("requestheader-group-headers")?,
            uids: headers("requestheader-uid-headers")?,
            extras: headers("requestheader-extra-headers-prefix")?,
        })
    }

    /// Who a request is from. `certificate`: the client's of the connection, DER, verified against the authority. `headers`: those
    /// of the request, names in lower case.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn asked_by(&self, certificate: Option<&[u8]>, headers: &[(&str, &str)]) -> Result<AskedBy, String> {
        let certificate = certificate.ok_or("ask the API server of the cluster, which asks here")?;
        if !self.names.is_empty() {
            let name = common_name(certificate).unwrap_or_default();
            if !self.names.contains(&name) {
                return Err(format!("the certificate of {name:?} is not the front proxy's"));
            }
        }
        // In the order of the names that are wanted: the first one counts.
        let all = |wanted: &[String]| -> Vec<String> {
            let mut found = Vec::new();
            for name in wanted {
                let named = headers.iter().filter(|(header, _)| header == name);
                found.extend(named.map(|(_, value)| (*value).to_owned()));
            }
            found
        };
        let first = |wanted: &[String]| all(wanted).into_iter().find(|value| !value.is_empty());
        let user = first(&self.users).ok_or("the front proxy named nobody")?;
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for (header, value) in headers {
            if let Some(key) = self.extras.iter().find_map(|prefix| header.strip_prefix(prefix.as_str())) {
                extra.entry(unescaped(key)).or_default().push((*value).to_owned());
            }
        }
        Ok(AskedBy { user, groups: all(&self.groups), uid: first(&self.uids), extra })
    }
}

/// A key as it was before it became part of a header's name, with `%` in front of what a name cannot have.
fn unescaped(key: &str) -> String {
    // A plus stands for itself there.
    let key = key.replace('+', "%2b");
    form_urlencoded::parse(key.as_bytes()).next().map_or_else(String::new, |(key, _)| key.into_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn data(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
        let usual = [
            ("requestheader-client-ca-file", "PEM"),
            ("requestheader-allowed-names", "[]"),
            ("requestheader-username-headers", r#"["X-Remote-User","X-Other-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ];
        let all = usual.iter().chain(changes);
        all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn everything_that_is_known_of_a_client_counts() {
        let proxy = FrontProxy::of(&data(&[])).expect("whole");
        let headers = [
            ("x-remote-user", ""),
            ("x-other-user", "ann"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-uid", "1"),
            ("x-remote-extra-scopes.example.org%2fa+b", "read"),
            ("x-remote-extra-scopes.example.org%2fa+b", "write"),
            ("x-remote-extra", "no"),
        ];
        let client = proxy.asked_by(Some(b""), &headers).expect("named");
        assert_eq!((client.user.as_str(), client.uid.as_deref()), ("ann", Some("1")));
        assert_eq!(client.groups, ["a", "b"]);
        let scopes = ["read".to_owned(), "write".to_owned()].to_vec();
        assert_eq!(client.extra, BTreeMap::from([("scopes.example.org/a+b".to_owned(), scopes)]));
    }

    #[test]
    fn what_cannot_be_read_lets_nobody_in() {
        for (key, value) in [
            ("requestheader-client-ca-file", " "),
            ("requestheader-username-headers", "[]"),
            ("requestheader-username-headers", "X-Remote-User"),
            ("requestheader-allowed-names", "front-proxy-client"),
            ("requestheader-extra-headers-prefix", "{}"),
        ] {
            let told = FrontProxy::of(&data(&[(key, value)])).expect_err(key).to_string();
            assert!(told.contains(key), "{told}");
        }
        let proxy = FrontProxy::of(&data(&[("requestheader-allowed-names", r#"["proxy"]"#)])).expect("whole");
        let headers = [("x-remote-user", "ann")];
        for certificate in [None, Some(&b""[..]), Some(b"no certificate")] {
            assert!(proxy.asked_by(certificate, &headers).is_err());
        }
    }
}
