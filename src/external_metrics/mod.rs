//! Metrics for HorizontalPodAutoscalers: a listener of its own, on a thread of its own, that speaks
//! `external.metrics.k8s.io/v1beta1`. Only the API server of the cluster is answered, over TLS.

mod door;
mod readings;

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
};
use nanofaas_kubernetes::{
    access::Access,
    external_metrics::{
        Question, Refused,
        delegation::{AskedBy, Delegation},
        values,
    },
};
use nanofaas_web::server::{Answer, Call, Drain, answer, serve_over};
use shard_runtime::Workers;
use tokio::net::TcpListener;

pub use self::door::CertificateFiles;
use self::{door::Door, readings::Readings};
use crate::host::ShardHost;

/// Nobody sends bodies here.
const BODY_BYTES_MAX: usize = 4096;

/// What the listener is told.
pub struct ExternalMetrics {
    /// The shards.
    pub workers: Arc<Workers<ShardHost>>,
    /// Whether all functions are known.
    pub ready: Arc<AtomicBool>,
    /// The API server.
    pub access: Access,
    /// Namespace of the functions; none takes that of the access.
    pub namespace: Option<String>,
    /// What it shows to clients.
    pub files: CertificateFiles,
}

/// What answers.
struct Answers {
    ready: Arc<AtomicBool>,
    namespace: String,
    door: Door,
    readings: Readings,
}

impl ExternalMetrics {
    /// Serves until drained. Until the API server has said how it is recognised, connections are closed.
    pub async fn serve(self, listener: TcpListener, drain: &Drain) {
        let delegation = match Delegation::new(&self.access).await {
            Ok(delegation) => delegation,
            Err(error) => return tracing::error!(%error, "no external metrics are served"),
        };
        let namespace = self.namespace.unwrap_or_else(|| delegation.namespace().to_owned());
        let door = Door::new(delegation, self.files);
        let (tls, readings) = (door.tls(), Readings::new(self.workers));
        let answers = Rc::new(Answers { ready: self.ready, namespace, door, readings });
        let keeping = [
            tokio::task::spawn_local({
                let answers = Rc::clone(&answers);
                async move { answers.door.keep().await }
            }),
            tokio::task::spawn_local({
                let answers = Rc::clone(&answers);
                async move { answers.readings.keep().await }
            }),
        ];
        let admitting = Rc::clone(&answers);
        let admit = move |certificate: &Option<Vec<u8>>, request: &Request<Incoming>| {
            Ok(admitting.door.asked_by(certificate.as_deref(), &texts(request.headers())))
        };
        let words = |status: StatusCode| {
            Some(Refused::BadRequest(format!("the request is not understood ({status})")).answer().1)
        };
        serve_over(tls, listener, BODY_BYTES_MAX, drain, words, admit, move |asked_by, call| {
            let answers = Rc::clone(&answers);
            async move {
                answers.answer(asked_by, &call).await.unwrap_or_else(|refused| {
                    let (status, body) = refused.answer();
                    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    let mut answer = json(status, body);
                    if matches!(refused, Refused::Unauthenticated(_)) {
                        // There are not many connections: none is for strangers.
                        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    answer
                })
            }
        })
        .await;
        for task in keeping {
            task.abort();
        }
    }
}

impl Answers {
    async fn answer(&self, asked_by: Result<AskedBy, String>, call: &Call) -> Result<Answer, Refused> {
        let asked_by = asked_by.map_err(Refused::Unauthenticated)?;
        if call.method != Method::GET {
            return Err(Refused::MethodNotAllowed);
        }
        let question = Question::read(&call.path, call.query.as_deref().unwrap_or_default())?;
        let (namespace, metric, functions) = match question {
            Question::Values { namespace, metric, functions } => (namespace, metric, functions),
            about => return Ok(json(StatusCode::OK, about.discovery().unwrap_or_default())),
        };
        self.door.check(asked_by, &namespace, metric).await?;
        if !self.ready.load(Ordering::Relaxed) {
            return Err(Refused::Unavailable("the server has not read all of its functions yet".to_owned()));
        }
        let mut found = Vec::new();
        // Functions are in one namespace.
        for function in functions.into_iter().filter(|_| namespace == self.namespace) {
            found.extend(self.readings.read(function, metric).await?);
        }
        Ok(json(StatusCode::OK, values(metric, &found, SystemTime::now())))
    }
}

fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    answer(status, "application/json", body)
}

/// All headers that are text.
fn texts(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect()
}
