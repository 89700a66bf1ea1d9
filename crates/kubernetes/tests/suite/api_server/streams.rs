//! Answers that go on: watches and logs.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    ApiServer, Fault, WatchFault,
    http::{begin, chunk, end, reply},
    status,
};

impl ApiServer {
    pub(super) fn watch(&self, stream: &TcpStream, kind: &str, query: &str) {
        let parameter = |name: &str| {
            let part = query.split('&').find_map(|part| part.strip_prefix(name));
            part.and_then(|value| value.parse::<u64>().ok())
        };
        let mut from = parameter("resourceVersion=").unwrap_or(0);
        let until = Instant::now() + Duration::from_secs(parameter("timeoutSeconds=").unwrap_or(200));
        if !begin(stream) {
            return;
        }
        let mut is_silent = false;
        let mut world = self.world();
        loop {
            let is_ours = |fault: &Fault| matches!(fault, Fault::Watch(of, _) if *of == kind);
            let position = world.faults.iter().position(is_ours);
            match position.and_then(|position| world.faults.remove(position)) {
                Some(Fault::Watch(_, WatchFault::HalfALine)) => {
                    let _ = chunk(stream, b"{\"type\":\"MODIFIED\",\"object\":{\"kind\":");
                    return;
                }
                Some(Fault::Watch(_, WatchFault::TooOld)) => {
                    let error = status(410, "Expired", "too old resource version");
                    let event = json!({ "type": "ERROR", "object": error });
                    let _ = chunk(stream, format!("{event}\n").as_bytes());
                    return;
                }
                Some(Fault::Watch(_, WatchFault::Silence)) => is_silent = true,
                _ => {}
            }
            let due: Vec<Value> = world
                .changes
                .iter()
                .filter(|(version, of, ..)| *version > from && of == kind)
                .map(|(_, _, what, object)| json!({ "type": what, "object": object }))
                .collect();
            from = from.max(world.version);
            let now = Instant::now();
            if world.is_over || now >= until {
                let _ = end(stream);
                return;
            }
            if !is_silent && !due.is_empty() {
                drop(world);
                for event in due {
                    if !chunk(stream, format!("{event}\n").as_bytes()) {
                        return;
                    }
                }
                world = self.world();
                continue;
            }
            world = self.0.changed.wait_timeout(world, until - now).unwrap().0;
        }
    }

    pub(super) fn log(&self, stream: &TcpStream, name: &str, query: &str) {
        let Some(pod) = self.object("pods", name) else {
            reply(stream, 404, &status(404, "NotFound", "no such pod"));
            return;
        };
        let tail = query.split('&').find_map(|part| part.strip_prefix("tailLines=")?.parse().ok());
        let follow = query.contains("follow=true");
        if begin(stream) {
            let mut line = |text: &str| chunk(stream, format!("{text}\n").as_bytes());
            self.0.kubelet.log(&pod, tail.unwrap_or(usize::MAX), follow, &mut line);
            let _ = end(stream);
        }
    }
}
