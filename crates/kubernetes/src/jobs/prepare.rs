//! A function of mode REMOTE before its first call: whether the cluster would take its Jobs, and whether there is its image.

use std::{rc::Rc, sync::Arc, time::Duration};

use nanofaas_backends::{BackendError, Job, PrepareReply, Workload};
use tokio::time::Instant;

use crate::{
    functions::{Shared, not_checked, refused},
    plan,
    thread::too_late,
};

/// Tells what became of it, once, and when it is dropped that it came too late.
pub struct Reply(Option<PrepareReply>);

impl Reply {
    /// Tells it there.
    pub fn new(reply: PrepareReply) -> Reply {
        Reply(Some(reply))
    }

    fn send(mut self, result: Result<(), BackendError>) {
        if let Some(reply) = self.0.take() {
            reply(result);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Err(too_late()));
        }
    }
}

impl Shared {
    /// Finds out whether jobs of a function could run.
    pub fn prepare_jobs(self: &Rc<Self>, workload: Arc<Workload>, reply: Reply) {
        let shared = Rc::clone(self);
        self.jobs.spawn(async move { reply.send(shared.try_prepare(&workload).await) });
    }

    async fn try_prepare(&self, workload: &Arc<Workload>) -> Result<(), BackendError> {
        let name = &workload.name;
        let sample = Job {
            id: format!("try-{}", crate::names::label_value(name.as_str())).into(),
            workload: Arc::clone(workload),
            execution: "try".into(),
            attempt: 1,
            trace_id: None,
            timeout: Duration::from_millis(workload.spec.timeout_ms.into()),
            payload: (&b"null"[..]).into(),
            report: Box::new(|_| {}),
        };
        let objects = plan::job(&sample, &self.settings);
        let by = Instant::now() + self.ready_timeout;
        self.cluster.try_job(&objects, by).await.map_err(|error| refused(name, &error))?;
        let Some(limit) = self.image_check else { return Ok(()) };
        self.check_image(workload, limit).await.map_err(|error| not_checked(name, error))
    }
}
