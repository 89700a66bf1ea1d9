//! Pods, asked whether they take calls, when calls wait for the first of their function.
//!
//! Kubernetes says that a Pod is ready up to a second or more after its program is: the kubelet asks once a second, and tells
//! the API server, which tells us. So as soon as a Pod has an address it is asked from here, in the way the kubelet does, every
//! 100 ms. What it says counts until Kubernetes says that it is ready, and for at most ten seconds; from then on only Kubernetes
//! is believed. A Pod that was started before this server knew it, or whose program was started again, is not asked.

use std::{collections::BTreeSet, io, rc::Rc, time::Duration};

use nanofaas_backends::{FunctionName, ReplicaId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{functions::Shared, translate::Probe};

/// From one question to the next.
const PERIOD: Duration = Duration::from_millis(100);
/// Until it counts as no answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A Pod that answers, and of which Kubernetes does not say after so long that it is ready, is out again.
const TRUST: Duration = Duration::from_secs(10);
/// Pods that are asked at one moment: others wait for their turn.
const AT_ONCE_MAX: usize = 64;
/// Of an answer, as much as has its status.
const STATUS_LINE: usize = "HTTP/1.1 200".len();

/// Pods that are asked.
pub struct Asked {
    pods: BTreeSet<ReplicaId>,
    turns: Rc<Semaphore>,
}

impl Default for Asked {
    fn default() -> Asked {
        Asked { pods: BTreeSet::new(), turns: Rc::new(Semaphore::new(AT_ONCE_MAX)) }
    }
}

impl Shared {
    /// Pods of a function that are to be asked from now on.
    pub fn to_ask(&self, name: &FunctionName) -> Vec<(ReplicaId, FunctionName)> {
        let mut asked = self.asked.borrow_mut();
        let new = self.table.borrow().to_ask(name).into_iter().filter(|id| asked.pods.insert(id.clone()));
        new.map(|id| (id, name.clone())).collect()
    }

    /// Asks a Pod until it takes calls, or need not be asked any more.
    pub async fn ask(self: Rc<Self>, name: FunctionName, id: ReplicaId) {
        let turns = Rc::clone(&self.asked.borrow().turns);
        let mut is_taken = false;
        while !is_taken {
            let Some(probe) = self.table.borrow().probe(&name, &id).cloned() else { break };
            let next = Instant::now() + PERIOD;
            // It is never closed.
            let turn = turns.acquire().await;
            let answer = timeout(TIMEOUT, takes_calls(&probe)).await;
            drop(turn);
            if matches!(answer, Ok(Ok(true))) {
                let report;
                (report, is_taken) = self.table.borrow_mut().answered(&name, &id, probe);
                self.publish(report);
                self.news.send_replace(());
            } else {
                sleep_until(next).await;
            }
        }
        self.asked.borrow_mut().pods.remove(&id);
        if is_taken {
            sleep(TRUST).await;
            let report = self.table.borrow_mut().doubt(&name, &id);
            if report.is_some() {
                tracing::warn!(function = %name, pod = %id, "a Pod answers, but Kubernetes does not say that it is ready");
            }
            self.publish(report);
        }
    }
}

/// What the kubelet asks.
async fn takes_calls(probe: &Probe) -> io::Result<bool> {
    let mut stream = TcpStream::connect(probe.address).await?;
    let Some(path) = &probe.path else { return Ok(true) };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: nanofaas-probe\r\nConnection: close\r\n\r\n",
        probe.address
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; STATUS_LINE];
    stream.read_exact(&mut head).await?;
    Ok(head.starts_with(b"HTTP/1.") && matches!(&head[8..10], b" 2" | b" 3"))
}
