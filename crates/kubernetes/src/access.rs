//! Where the API server is, and who we are to it: the account of a Pod, or a kubeconfig. Its certificate is always verified.

use std::path::{Path, PathBuf};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// What Kubernetes mounts into every Pod that has an account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A way to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// The account of this server's own Pod.
    InCluster {
        /// `KUBERNETES_SERVICE_HOST`.
        host: String,
        /// `KUBERNETES_SERVICE_PORT`.
        port: u16,
    },
    /// The current context of a kubeconfig.
    Kubeconfig(PathBuf),
    /// An address without credentials, as `kubectl proxy` gives one.
    Plain(String),
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Neither a Pod nor a kubeconfig.
    #[error(
        "the Kubernetes backend does not know a cluster: this server runs in no Pod with a service account, and there is no \
         kubeconfig; set k8s.kubeconfig"
    )]
    Nowhere,
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {path}: {reason}")]
    Kubeconfig {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        reason: Box<KubeconfigError>,
    },
    /// It says that certificates are not to be verified.
    #[error("the kubeconfig {0} has insecure-skip-tls-verify; name the certificate authority instead")]
    Insecure(PathBuf),
    /// The address is none.
    #[error("{0} is not the address of an API server")]
    Address(String),
    /// No client can be made of it.
    #[error("cannot talk to the API server: {0}")]
    Client(Box<kube::Error>),
}

impl Access {
    /// The way that there is, from the setting and the environment. A kubeconfig that is named counts more than the account
    /// of the Pod, and that more than one that is only there.
    ///
    /// # Errors
    /// [`AccessError::Nowhere`].
    pub fn find(
        kubeconfig: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Access, AccessError> {
        if let Some(path) = kubeconfig {
            return Ok(Access::Kubeconfig(path.to_owned()));
        }
        let port = variable("KUBERNETES_SERVICE_PORT").and_then(|port| port.parse().ok());
        if let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), port)
            && Path::new(ACCOUNT).join("token").exists()
        {
            return Ok(Access::InCluster { host, port });
        }
        let named = variable("KUBECONFIG").filter(|paths| !paths.is_empty());
        let named = named.and_then(|paths| std::env::split_paths(&paths).next());
        let usual = variable("HOME").map(|home| Path::new(&home).join(".kube/config"));
        let path = named.or_else(|| usual.filter(|path| path.exists()));
        path.map(Access::Kubeconfig).ok_or(AccessError::Nowhere)
    }

    /// A client.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub(crate) async fn client(&self) -> Result<Client, AccessError> {
        let mut config = self.config().await?;
        // Requests are repeated here, within the time that an order has.
        config.default_retry = false;
        Client::try_from(config).map_err(|error| AccessError::Client(Box::new(error)))
    }

    async fn config(&self) -> Result<Config, AccessError> {
        let parse = |address: String| address.parse().map_err(|_| AccessError::Address(address));
        match self {
            Access::Plain(address) => Ok(Config::new(parse(address.clone())?)),
            Access::InCluster { host, port } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let mut config = Config::new(parse(format!("https://{host}:{port}"))?);
                let file = |name: &str| Path::new(ACCOUNT).join(name);
                // Both are read again when they change.
                config.root_cert_file = Some(file("ca.crt"));
                config.auth_info.token_file = Some(file("token").display().to_string());
                if let Ok(namespace) = std::fs::read_to_string(file("namespace")) {
                    config.default_namespace = namespace.trim().to_owned();
                }
                Ok(config)
            }
            Access::Kubeconfig(path) => {
                let failed =
                    |reason| AccessError::Kubeconfig { path: path.clone(), reason: Box::new(reason) };
                let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)?;
                if config.accept_invalid_certs {
                    return Err(AccessError::Insecure(path.clone()));
                }
                Ok(config)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_cluster() {
        let none = |_: &str| None;
        assert!(matches!(Access::find(None, none), Err(AccessError::Nowhere)));
        let named = Path::new("/k");
        assert_eq!(Access::find(Some(named), none).ok(), Some(Access::Kubeconfig("/k".into())));
        let variable = |name: &str| (name == "KUBECONFIG").then(|| "/a:/b".to_owned());
        assert_eq!(Access::find(None, variable).ok(), Some(Access::Kubeconfig("/a".into())));
        // Without an account a Pod's variables lead nowhere.
        let variable = |name: &str| name.starts_with("KUBERNETES").then(|| "443".to_owned());
        assert!(matches!(Access::find(None, variable), Err(AccessError::Nowhere)));
    }
}
