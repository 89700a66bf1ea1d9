//! Watches that fail: nothing is missed, and no longer than that.

use std::time::Duration;

use nanofaas_backends::{Backend, ReplicaStatus};

use crate::{
    api_server::{Fault, WatchFault},
    rig::{PATIENCE, Rig},
};

const SILENCE: Duration = Duration::from_millis(300);

fn unready(rig: &Rig, pod: &str) {
    rig.server.change_pod(pod, |pod| pod["status"]["conditions"][0]["status"] = "False".into());
}

fn ready_again(rig: &Rig, pod: &str) -> Vec<ReplicaStatus> {
    rig.server.change_pod(pod, |pod| pod["status"]["conditions"][0]["status"] = "True".into());
    rig.ready(1)
}

#[test]
fn failure_7_a_watch_that_breaks_off_goes_on_where_it_was() {
    let rig = Rig::start();
    rig.ensure("i", 1).unwrap();
    let pod = rig.pods().remove(0);
    let lists = rig.server.count("GET") - rig.server.count("watch=true");
    for _ in 0..2 {
        rig.server.fail(Fault::Watch("pods", WatchFault::HalfALine));
    }
    unready(&rig, &pod);
    rig.ready(0);
    ready_again(&rig, &pod);
    assert_eq!(rig.server.count("GET") - rig.server.count("watch=true"), lists, "nothing was listed again");
}

#[test]
fn failure_7_what_happened_while_a_watch_was_too_old_is_found() {
    let rig = Rig::start();
    let ready = rig.ensure("i", 1).unwrap().replicas;
    let pod = rig.pods().remove(0);
    rig.server.change_unheard(&pod, |pod| pod["status"]["conditions"][0]["status"] = "False".into());
    rig.server.fail(Fault::Watch("pods", WatchFault::TooOld));
    rig.ready(0);
    assert_eq!(ready_again(&rig, &pod)[0].id, ready[0].id);
}

#[test]
fn failure_7_a_silent_watch_is_not_believed() {
    let rig = Rig::at(Rig::start().server, SILENCE);
    rig.ensure("i", 1).unwrap();
    let pod = rig.pods().remove(0);
    rig.server.fail(Fault::Watch("pods", WatchFault::Silence));
    unready(&rig, &pod);
    rig.ready(0);
    assert!(rig.backend.silence().is_some_and(|silence| silence < PATIENCE));
}

#[test]
fn an_api_server_that_is_away_at_first_is_tried_again() {
    let server = Rig::start().server;
    for _ in 0..3 {
        server.fail(Fault::Refuse("GET", "/pods?", 403, "Forbidden", "not yet"));
    }
    let rig = Rig::at(server, PATIENCE);
    assert_eq!(rig.ensure("i", 1).unwrap().desired, 1);
}
