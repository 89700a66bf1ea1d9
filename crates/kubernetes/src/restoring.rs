//! What somebody else has deleted is made again, as long as its function is wanted: the Deployment, and what belongs to it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use nanofaas_backends::{BackendError, FunctionName, Workload};
use tokio::time::{Instant, sleep};

use crate::{
    functions::{NOTE_TIMEOUT, Shared, refused},
    hearing::OwnedNews,
    plan::{self, Kind, plan},
};

/// Until it is tried again, when that went wrong.
const RESTORE_PAUSE: Duration = Duration::from_secs(5);

impl Shared {
    /// Takes over news of what belongs to functions.
    pub fn hear_owned(&self, kind: Kind, news: OwnedNews) {
        let table = self.table.borrow();
        let has_to_have = |name: &FunctionName| {
            let known = table.get(name)?;
            let wanted = known.wanted.as_ref().filter(|wanted| wanted.is_ensured && !wanted.is_leaving)?;
            plan::owned_kinds(&wanted.workload, &self.settings).any(|of| of == kind).then_some(())
        };
        let missing: Vec<FunctionName> = match news {
            OwnedNews::Nothing => return,
            OwnedNews::Gone(name) => vec![name],
            OwnedNews::All(names) => {
                let there: BTreeSet<FunctionName> = names.into_iter().collect();
                table.names().into_iter().filter(|name| !there.contains(name)).collect()
            }
        };
        let missing = missing.into_iter().filter(|name| has_to_have(name).is_some());
        self.incomplete.borrow_mut().extend(missing);
    }

    /// Makes again what is missing of a function.
    pub async fn restore(&self, name: &FunctionName) {
        let lost = self.table.borrow().lost(name);
        let (what, result) = match lost {
            Some((workload, replicas)) => {
                tracing::warn!(function = %name, "somebody has deleted the Deployment, making it again");
                ("its Deployment", self.restore_all(&workload, replicas).await)
            }
            None => {
                let Some((workload, uid)) = self.incomplete_with(name) else { return };
                tracing::warn!(function = %name, "somebody has deleted what belongs to the Deployment, making it again");
                ("what belongs to its Deployment", self.restore_owned(&workload, &uid).await)
            }
        };
        if let Err(error) = result {
            self.tell(name, "RestoringFailed", error.to_string());
            tracing::error!(function = %name, %error, "{what} was deleted and could not be made again");
            // Whatever it is, it is tried again, as long as the function is wanted.
            sleep(RESTORE_PAUSE).await;
            self.incomplete.borrow_mut().insert(name.clone());
        }
    }

    /// A function whose Deployment is there, and the id of that.
    fn incomplete_with(&self, name: &FunctionName) -> Option<(Arc<Workload>, String)> {
        let table = self.table.borrow();
        let known = table.get(name)?;
        let wanted = known.wanted.as_ref().filter(|wanted| wanted.is_ensured && !wanted.is_leaving)?;
        let deployment = known.deployment.as_ref().filter(|deployment| !deployment.is_ending)?;
        Some((Arc::clone(&wanted.workload), deployment.uid.clone()))
    }

    async fn restore_all(&self, workload: &Workload, replicas: u32) -> Result<(), BackendError> {
        let by = Instant::now() + NOTE_TIMEOUT;
        let name = &workload.name;
        let objects = plan(workload, &self.settings);
        let failed = |error| refused(name, &error);
        let there = self.cluster.deployment(&objects.name, by).await.map_err(failed)?;
        self.check_owner(name, &objects, there.as_ref(), by).await?;
        let deployment = self.cluster.apply_deployment(&objects, Some(replicas), by).await.map_err(failed)?;
        let uid = deployment.metadata.uid.clone().unwrap_or_default();
        self.cluster.apply_all_owned(&objects, &uid, true, by).await.map_err(failed)?;
        self.note(&deployment);
        Ok(())
    }

    async fn restore_owned(&self, workload: &Workload, uid: &str) -> Result<(), BackendError> {
        let by = Instant::now() + NOTE_TIMEOUT;
        let name = &workload.name;
        let objects = plan(workload, &self.settings);
        // Somebody may have made another one in its place.
        self.check_owner(name, &objects, None, by).await?;
        self.cluster.apply_all_owned(&objects, uid, true, by).await.map_err(|error| refused(name, &error))
    }
}
