//! Jobs at a scripted API server: how they are made, what is told of their end, and how they are removed.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use nanofaas_backends::{
    Backend, BackendError, FoundJob, ImageProblem, Job, JobEvent, JobId, JobRunner, Labels, NotCreated,
    Version, Workload,
};
use nanofaas_wire::function::FunctionSpec;
use serde_json::{Value, json};

use crate::{
    api_server::Fault,
    golden::REGISTRATION,
    rig::{PATIENCE, Rig},
};

/// A job under test, and what is told of it.
struct Ordered {
    id: JobId,
    name: String,
    events: Receiver<JobEvent>,
}

impl Ordered {
    #[track_caller]
    fn next(&self) -> JobEvent {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    #[track_caller]
    fn ended(&self) -> String {
        match self.next() {
            JobEvent::Ended(how) => how,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refused(&self) -> NotCreated {
        match self.next() {
            JobEvent::NotCreated(why) => why,
            other => panic!("{other:?}"),
        }
    }

    /// Nothing more can be told.
    #[track_caller]
    fn is_over(&self) {
        assert_eq!(self.events.recv_timeout(PATIENCE), Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
    }
}

fn workload(rig: &Rig, image: &str) -> Workload {
    let body = json!({ "name": "f", "image": image, "executionMode": "REMOTE" });
    let spec = FunctionSpec::parse(body.to_string().as_bytes(), &REGISTRATION).unwrap();
    assert_eq!(rig.backend.supports(&spec), Ok(()));
    Workload {
        name: "f".into(),
        labels: Labels::from([("managed-by".into(), "nanofaas".into())]),
        version: Version::of(&spec),
        spec: Arc::new(spec),
    }
}

fn order(rig: &Rig, number: u32, image: &str, timeout: Duration, payload: &str) -> Ordered {
    let (id, (sender, events)) = (JobId::from(format!("e{number}-1-a")), channel());
    rig.backend.create(Job {
        id: id.clone(),
        workload: Arc::new(workload(rig, image)),
        execution: format!("e{number}").into(),
        attempt: 1,
        trace_id: None,
        timeout,
        payload: payload.to_owned().into(),
        report: Box::new(move |event| drop(sender.send(event))),
    });
    Ordered { name: id.to_string(), id, events }
}

fn run(rig: &Rig, image: &str) -> Ordered {
    order(rig, 1, image, PATIENCE, r#"{"input":1}"#)
}

/// One that runs, with the name of its Pod.
fn running(rig: &Rig) -> (Ordered, String) {
    let job = run(rig, "i");
    assert_eq!(job.next(), JobEvent::Created);
    rig.server.wait_for("pods", 1);
    let pod = rig.pods().remove(0);
    (job, pod)
}

fn list(rig: &Rig) -> Vec<FoundJob> {
    let (sender, receiver) = channel();
    JobRunner::list(&rig.backend, Box::new(move |found| sender.send(found).unwrap()));
    receiver.recv_timeout(PATIENCE).unwrap().unwrap()
}

fn adopt(rig: &Rig, id: &JobId) -> Ordered {
    let (sender, events) = channel();
    rig.backend.adopt(id, Box::new(move |event| drop(sender.send(event))));
    Ordered { id: id.clone(), name: id.to_string(), events }
}

fn is_empty(rig: &Rig) -> bool {
    ["jobs", "secrets", "pods"].iter().all(|kind| rig.server.objects(kind).is_empty())
}

/// The Pod of a job becomes like this, and then the Job.
fn finish(pod: &mut Value, phase: &str, terminated: &Value) {
    pod["status"]["phase"] = phase.into();
    pod["status"]["containerStatuses"][0]["state"] = json!({ "terminated": terminated });
}

#[test]
fn an_attempt_is_a_job_that_says_how_it_ended() {
    let rig = Rig::start();
    let job = run(&rig, "crash");
    assert_eq!(job.next(), JobEvent::Created);
    let how = job.ended();
    assert!(how.contains("exited with status 3; it wrote: e1-1-a-"), "{how}");
    job.is_over();
    assert_eq!(list(&rig), [], "its end was told");
    let object = rig.server.object("jobs", &job.name).unwrap();
    assert_eq!(object["metadata"]["labels"]["executionId"], "e1");
    // Asked first, then made.
    assert_eq!((rig.server.count("/pods?&dryRun=All"), rig.server.count("POST /apis/batch")), (1, 1));
    let well = order(&rig, 2, "done", PATIENCE, "{}");
    assert_eq!(well.next(), JobEvent::Created);
    let how = well.ended();
    assert!(how.starts_with("the program exited with status 0"), "{how}");
    assert_eq!(rig.server.count("/log?"), 1, "nobody reads the log of one that went well");
    assert_eq!(rig.list(), Ok(Vec::new()), "a job is no replica");
}

#[test]
fn why_a_program_ended_is_told() {
    for (status, parts) in [
        (json!({ "exitCode": 137, "reason": "OOMKilled" }), &["status 137 (OOMKilled)", "it wrote: "][..]),
        (json!({ "exitCode": 1, "reason": "Error", "message": "bye" }), &["status 1: bye"]),
    ] {
        let rig = Rig::start();
        let (job, pod) = running(&rig);
        rig.server.change_pod(&pod, |pod| finish(pod, "Failed", &status));
        let how = job.ended();
        assert!(parts.iter().all(|part| how.contains(part)), "{how}");
        job.is_over();
    }
    let rig = Rig::start();
    let (job, pod) = running(&rig);
    rig.server.change_pod(&pod, |pod| {
        pod["status"]["phase"] = "Failed".into();
        pod["status"]["reason"] = "Evicted".into();
        pod["status"]["message"] = "The node was low on resource: memory.".into();
    });
    let how = job.ended();
    assert!(how.contains("Evicted: The node was low on resource: memory."), "{how}");
}

#[test]
fn a_deadline_of_kubernetes_is_told_as_one() {
    let rig = Rig::start();
    let (job, pod) = running(&rig);
    // First the Pod is asked to go and ends, and then the Job says why.
    rig.server.change_pod(&pod, |pod| {
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        pod["status"]["phase"] = "Running".into();
    });
    let mut object = rig.server.object("jobs", &job.name).unwrap();
    object["status"]["conditions"] = json!([{
        "type": "Failed", "status": "True", "reason": "DeadlineExceeded",
        "message": "Job was active longer than specified deadline",
    }]);
    rig.server.put("jobs", &job.name, object);
    let how = job.ended();
    assert!(how.contains("DeadlineExceeded: Job was active longer than specified deadline"), "{how}");
    job.is_over();
}

#[test]
fn a_job_that_cannot_start_is_over_at_once_and_removed() {
    for (image, part) in [
        ("missing", "Image not found in registry: missing"),
        ("secret", "Image pull authentication failed for: secret"),
        ("away", "connection refused"),
        ("config", "secret \"keys\" not found"),
    ] {
        let rig = Rig::start();
        let begun = Instant::now();
        let job = run(&rig, image);
        assert_eq!(job.next(), JobEvent::Created);
        let how = job.ended();
        assert!(how.contains(part), "{how}");
        assert!(begun.elapsed() < PATIENCE / 2, "{image}: not at the deadline");
        rig.server.wait_for("jobs", 0);
        assert!(is_empty(&rig), "{image}");
    }
    // A node may come.
    let rig = Rig::start();
    let job = run(&rig, "large");
    assert_eq!(job.next(), JobEvent::Created);
    rig.server.wait_for("pods", 1);
    assert!(job.events.try_recv().is_err());
    rig.backend.end(&job.id);
    rig.server.wait_for("jobs", 0);
    job.is_over();
}

#[test]
fn a_job_that_gets_no_pod_says_why() {
    let rig = Rig::start();
    let job = run(&rig, "no-room");
    assert_eq!(job.next(), JobEvent::Created);
    let sentence = "pods \"e1-1-a\" is forbidden: exceeded quota: tight";
    rig.server.fail(Fault::Refuse("POST", "dryRun=All", 403, "Forbidden", sentence));
    let how = job.ended();
    assert!(how.contains(&format!("no Pod can be made: {sentence}")), "{how}");
    rig.server.wait_for("jobs", 0);
}

#[test]
fn what_the_api_server_refuses_is_not_made() {
    let rig = Rig::start();
    for (path, code, reason, sentence, is_final) in [
        (
            "dryRun=All",
            403,
            "Forbidden",
            "pods is forbidden: violates PodSecurity \"restricted:latest\"",
            false,
        ),
        ("dryRun=All", 422, "Invalid", "spec.containers[0].image: Invalid value", true),
        ("/jobs?", 403, "Forbidden", "jobs.batch is forbidden: exceeded quota: tight", false),
    ] {
        rig.server.fail(Fault::Refuse("POST", path, code, reason, sentence));
        let job = run(&rig, "i");
        let why = job.refused();
        assert!(why.reason.contains(sentence) && why.is_final == is_final, "{why:?}");
        job.is_over();
        assert!(is_empty(&rig), "{sentence}");
    }
    // The Job goes with its Secret.
    let sentence = "secrets is forbidden: exceeded quota: tight";
    rig.server.fail(Fault::Refuse("POST", "/secrets?", 403, "Forbidden", sentence));
    let job = order(&rig, 1, "i", PATIENCE, &"1".repeat(70_000));
    assert!(job.refused().reason.contains(sentence));
    assert!(is_empty(&rig));
}

#[test]
fn what_may_pass_is_tried_again_within_the_attempt() {
    let rig = Rig::start();
    for (path, code, reason) in [
        ("dryRun=All", 429, "TooManyRequests"),
        ("/jobs?", 500, "InternalError"),
        ("/jobs?", 409, "Conflict"),
        ("/secrets?", 503, "ServiceUnavailable"),
    ] {
        rig.server.fail(Fault::Refuse("POST", path, code, reason, "again"));
    }
    let job = order(&rig, 1, "i", PATIENCE, &"1".repeat(70_000));
    assert_eq!(job.next(), JobEvent::Created);
    let object = rig.server.object("jobs", &job.name).unwrap();
    let secret = rig.server.object("secrets", &job.name).unwrap();
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], object["metadata"]["uid"]);
    rig.server.fail(Fault::Refuse("DELETE", "/jobs/", 500, "InternalError", "again"));
    rig.backend.end(&job.id);
    rig.server.wait_for("jobs", 0);
    job.is_over();
    for kind in ["secrets", "pods"] {
        rig.server.wait_for(kind, 0);
    }
    // Beyond the attempt's time it is not.
    for _ in 0..20 {
        rig.server.fail(Fault::Refuse("POST", "dryRun=All", 429, "TooManyRequests", "too many"));
    }
    let late = order(&rig, 2, "i", Duration::from_millis(500), "{}");
    let why = late.refused();
    assert!(why.reason.contains("too many") && !why.is_final, "{why:?}");
    assert!(is_empty(&rig));
}

#[test]
fn a_request_that_is_too_long_is_told_so() {
    let rig = Rig::start();
    let most = order(&rig, 1, "i", PATIENCE, &"1".repeat(900 << 10));
    assert_eq!(most.next(), JobEvent::Created);
    let job = order(&rig, 2, "i", PATIENCE, &"1".repeat((900 << 10) + 1));
    let why = job.refused();
    assert!(
        why.is_final && why.reason.contains("921601 bytes") && why.reason.contains("921600 at most"),
        "{why:?}"
    );
    assert_eq!(rig.server.objects("jobs").len(), 1);
}

#[test]
fn an_answer_that_was_lost_makes_no_second_job() {
    let rig = Rig::start();
    let job = order(&rig, 1, "i", PATIENCE, "{}");
    assert_eq!(job.next(), JobEvent::Created);
    rig.backend.detach(PATIENCE);
    // As the next try finds it whose first answer was lost.
    let next = Rig::at(rig.server.clone(), PATIENCE);
    let again = order(&next, 1, "i", PATIENCE, "{}");
    assert_eq!(again.next(), JobEvent::Created);
    assert_eq!(next.server.objects("jobs").len(), 1);
    // One of somebody else is left alone.
    let mut theirs = next.server.object("jobs", &job.name).unwrap();
    theirs["metadata"]["name"] = "e2-1-a".into();
    theirs["metadata"]["annotations"]["nanofaas.io/job"] = "e2-1-a".into();
    theirs["metadata"]["labels"]["nanofaas.io/installation"] = "staging".into();
    next.server.put("jobs", "e2-1-a", theirs);
    let taken = order(&next, 2, "i", PATIENCE, "{}");
    assert!(taken.refused().reason.contains("has not made"));
    next.backend.end(&taken.id);
    assert_eq!(list(&next).len(), 1);
    assert_eq!(next.server.objects("jobs").len(), 2);
}

#[test]
fn a_job_is_removed_whenever_it_is_ended() {
    let rig = Rig::start();
    // While it is being made.
    for _ in 0..3 {
        rig.server.fail(Fault::Refuse("POST", "dryRun=All", 429, "TooManyRequests", "again"));
    }
    let job = run(&rig, "i");
    rig.backend.end(&job.id);
    job.is_over();
    assert_eq!(list(&rig), []);
    let job = order(&rig, 2, "i", PATIENCE, "{}");
    assert_eq!(job.next(), JobEvent::Created);
    let expected = FoundJob {
        id: job.id.clone(),
        function: "f".into(),
        labels: Labels::from([("managed-by".into(), "nanofaas".into())]),
    };
    assert_eq!(list(&rig), [expected]);
    rig.backend.end(&job.id);
    rig.server.wait_for("jobs", 0);
    job.is_over();
    assert_eq!(list(&rig), []);
    // Of one that is not there, nothing is to do.
    rig.backend.end(&job.id);
    rig.backend.end(&JobId::from("other".to_owned()));
    assert_eq!(list(&rig), []);
}

#[test]
fn a_job_that_somebody_deletes_is_over() {
    let rig = Rig::start();
    let (job, _) = running(&rig);
    assert!(rig.server.delete_job(&job.name, false));
    let how = job.ended();
    assert!(how.contains("somebody has deleted its Job"), "{how}");
    job.is_over();
}

#[test]
fn a_watch_that_missed_the_end_finds_it() {
    let rig = Rig::at(Rig::start().server, Duration::from_millis(300));
    let (job, pod) = running(&rig);
    rig.server.change_unheard(&pod, |pod| {
        finish(pod, "Failed", &json!({ "exitCode": 9, "reason": "Error" }));
    });
    let how = job.ended();
    assert!(how.contains("status 9"), "{how}");
}

#[test]
fn the_next_server_goes_on_with_what_it_finds() {
    let first = Rig::start();
    let (running, pod) = running(&first);
    let ended = order(&first, 2, "slow", PATIENCE, "{}");
    assert_eq!(ended.next(), JobEvent::Created);
    first.backend.detach(PATIENCE);
    running.is_over();
    let slow = first
        .server
        .objects("pods")
        .into_iter()
        .find(|pod| pod["metadata"]["name"] != "" && pod["spec"]["containers"][0]["image"] == "slow");
    let slow = slow.unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
    first.server.change_pod(&slow, |pod| finish(pod, "Failed", &json!({ "exitCode": 4, "reason": "Error" })));

    let second = Rig::at(first.server.clone(), PATIENCE);
    let found: Vec<JobId> = list(&second).into_iter().map(|found| found.id).collect();
    assert_eq!(found, [running.id.clone(), ended.id.clone()], "also the one that has ended");
    let how = adopt(&second, &ended.id).ended();
    assert!(how.contains("status 4; it wrote: "), "{how}");
    let adopted = adopt(&second, &running.id);
    second.server.change_pod(&pod, |pod| finish(pod, "Failed", &json!({ "exitCode": 5, "reason": "Error" })));
    let how = adopted.ended();
    assert!(how.contains("status 5"), "{how}");
    let gone = adopt(&second, &JobId::from("other".to_owned()));
    assert!(gone.ended().contains("not there any more"));
    assert_eq!(list(&second), []);
    // One that it does not want is ended.
    let third = order(&second, 3, "i", PATIENCE, "{}");
    assert_eq!(third.next(), JobEvent::Created);
    second.backend.detach(PATIENCE);
    let last = Rig::at(first.server.clone(), PATIENCE);
    last.backend.end(&third.id);
    last.server.wait_for("jobs", 2);
    assert!(last.server.object("jobs", &third.name).is_none());
}

#[test]
fn shutting_down_ends_all_jobs_and_refuses_others() {
    let rig = Rig::start();
    let (job, _) = running(&rig);
    rig.backend.shut_down(Duration::ZERO);
    job.is_over();
    assert!(is_empty(&rig));
    let late = order(&rig, 2, "i", PATIENCE, "{}");
    assert!(late.refused().reason.contains("shutting down"));
    rig.backend.end(&job.id);
}

#[test]
fn without_an_address_to_report_to_no_function_has_jobs() {
    let rig = Rig::mute();
    let body = json!({ "name": "f", "image": "i", "executionMode": "REMOTE" });
    let spec = FunctionSpec::parse(body.to_string().as_bytes(), &REGISTRATION).unwrap();
    assert!(rig.backend.supports(&spec).unwrap_err().contains("k8s.callback-url"));
}

fn prepare(rig: &Rig, image: &str) -> Result<(), BackendError> {
    let (sender, receiver) = channel();
    rig.backend
        .prepare(&Arc::new(workload(rig, image)), Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn a_function_with_jobs_is_tried_out_before_it_is_registered() {
    let rig = Rig::start();
    assert_eq!(prepare(&rig, "missing"), Ok(()), "images are not checked");
    assert_eq!((rig.server.count("/jobs?&dryRun=All"), rig.server.count("/pods/check-")), (1, 0));
    rig.server.fail(Fault::Refuse("POST", "/jobs?", 429, "TooManyRequests", "again"));
    assert_eq!(prepare(&rig, "i"), Ok(()));
    rig.server.fail(Fault::Refuse("POST", "/jobs?", 422, "Invalid", "spec.template: Invalid value"));
    let Err(BackendError::Provisioning(text)) = prepare(&rig, "i") else { panic!("it was taken") };
    assert!(text.contains("Invalid value"), "{text}");
    let rig = Rig::checking(None, PATIENCE);
    assert_eq!(prepare(&rig, "i"), Ok(()));
    let Err(BackendError::Image { problem: ImageProblem::NotFound, text }) = prepare(&rig, "missing") else {
        panic!("there is no such image")
    };
    assert!(text.contains("missing"), "{text}");
    assert!(is_empty(&rig), "nothing of it is left");
    rig.backend.detach(PATIENCE);
    assert!(matches!(prepare(&rig, "i"), Err(BackendError::Unavailable(_))));
}

#[test]
fn a_function_that_is_tried_out_when_the_server_ends_is_answered() {
    let rig = Rig::checking(None, PATIENCE);
    let (sender, receiver) = channel();
    rig.backend
        .prepare(&Arc::new(workload(&rig, "slow")), Box::new(move |result| sender.send(result).unwrap()));
    rig.server.wait_for("pods", 1);
    rig.backend.detach(PATIENCE);
    assert!(matches!(receiver.recv_timeout(PATIENCE).unwrap(), Err(BackendError::Unavailable(_))));
    assert!(is_empty(&rig), "the Pod of the check is removed");
}
