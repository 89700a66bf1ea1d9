//! What every backend does that runs jobs, and what only local processes show. Driven through the trait only.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use nanofaas_backends::{FoundJob, Job, JobEvent, JobId, JobRunner, NotCreated, Version, Workload};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    cluster::{MACHINE, RealCluster},
    memory::Cluster,
    rig::{Function, Rig, labels},
    support::{PATIENCE, eventually},
};

/// Runs each test with each backend. What a program is, is known before it starts, or only by its image.
macro_rules! every_backend {
    (all: $($test:ident),*; of_programs: $($program_test:ident),* $(,)?) => {
        mod process {
            $(#[test] fn $test() { super::$test(&super::Rig::process(stringify!($test))); })*
            $(#[test] fn $program_test() { super::$program_test(&super::Rig::process(stringify!($program_test))); })*
        }
        mod memory {
            use super::Cluster;
            $(#[test] fn $test() {
                super::$test(&super::Rig::memory(stringify!($test), Cluster::default()));
            })*
            $(#[test] fn $program_test() {
                super::$program_test(&super::Rig::memory(stringify!($program_test), Cluster::default()));
            })*
        }
        mod kubernetes {
            $(#[test] fn $test() {
                let cluster = crate::kubelet::ScriptedCluster::default();
                super::$test(&super::Rig::kubernetes(stringify!($test), cluster));
            })*
        }
        mod cluster {
            $(#[test] fn $test() {
                if let Some(cluster) = crate::cluster::RealCluster::for_test(stringify!($test)) {
                    super::$test(&super::Rig::cluster(stringify!($test), cluster));
                }
            })*
        }
    };
}

every_backend!(
    all:
    a_job_is_created_and_says_how_it_ended,
    a_job_ends_when_it_is_told_to_and_says_nothing_more,
    jobs_of_one_function_run_side_by_side,
    shutting_down_ends_jobs_and_refuses_others;
    of_programs:
    a_job_that_cannot_be_created_says_why_and_leaves_nothing,
);

const FAILS: &str = "sh -c 'echo the reason >&2; exit 3'";
const STAYS: &str = "sleep 600";

/// A job under test: its id, and what becomes of it.
struct Ordered {
    id: JobId,
    events: Receiver<JobEvent>,
}

impl Ordered {
    fn next(&self) -> JobEvent {
        self.events.recv_timeout(PATIENCE).expect("something becomes of the job")
    }
}

fn runner(rig: &Rig) -> &dyn JobRunner {
    rig.backend.jobs().expect("the backend has jobs")
}

/// Orders attempt `number` of a function that runs `command`, with this request.
fn order(rig: &Rig, function: &Function, number: u32, changes: Value, payload: String) -> Ordered {
    let mut all = json!({ "executionMode": "REMOTE", "runtimeMode": "STDIO" });
    all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let spec = rig.spec(function, all);
    assert_eq!(rig.backend.supports(&spec), Ok(()));
    let (name, version) = (function.name.clone(), Version::of(&spec));
    let workload = Workload { name, labels: labels(), version, spec: Arc::new(spec) };
    // Jobs of several tests may be in one place.
    let digest = Sha256::digest(function.name.as_str());
    let id = JobId::from(format!("e{number}-{number}-{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]));
    let (sender, events) = channel();
    let report = move |event| drop(sender.send(event));
    runner(rig).create(Job {
        id: id.clone(),
        workload: Arc::new(workload),
        execution: format!("e{number}").into(),
        attempt: number,
        trace_id: None,
        timeout: Duration::from_secs(600),
        payload: payload.into(),
        report: Box::new(report),
    });
    Ordered { id, events }
}

fn run(rig: &Rig, function: &Function, number: u32, command: &str) -> Ordered {
    order(rig, function, number, json!({ "runtimeCommand": command }), r#"{"input":1}"#.to_owned())
}

fn list(rig: &Rig) -> Vec<FoundJob> {
    let (sender, receiver) = channel();
    runner(rig).list(Box::new(move |found| sender.send(found).unwrap()));
    receiver.recv_timeout(PATIENCE).unwrap().unwrap()
}

fn a_job_is_created_and_says_how_it_ended(rig: &Rig) {
    let function = rig.function(1);
    let job = run(rig, &function, 1, FAILS);
    assert_eq!(job.next(), JobEvent::Created);
    let JobEvent::Ended(how) = job.next() else { panic!("a job ends once") };
    for part in ["the reason", "status"] {
        assert!(how.contains(part), "{part:?} in {how}");
    }
    assert_eq!(rig.running(&function), 0, "nothing runs when its end is told");
    assert_eq!(list(rig), []);
    runner(rig).end(&job.id);
    assert!(job.events.recv().is_err(), "nothing follows its end");
}

fn a_job_ends_when_it_is_told_to_and_says_nothing_more(rig: &Rig) {
    let function = rig.function(1);
    let job = run(rig, &function, 1, STAYS);
    assert_eq!(job.next(), JobEvent::Created);
    let expected = FoundJob { id: job.id.clone(), function: function.name.clone(), labels: labels() };
    assert_eq!(list(rig), [expected]);
    runner(rig).end(&job.id);
    rig.gone(&function);
    assert!(job.events.recv().is_err(), "nothing is told of a job that was ended");
    assert_eq!(list(rig), []);
    runner(rig).end(&job.id);
}

fn a_job_that_cannot_be_created_says_why_and_leaves_nothing(rig: &Rig) {
    let function = rig.function(1);
    let job = run(rig, &function, 1, "no-such-program --fast");
    let JobEvent::NotCreated(NotCreated { reason, is_final }) = job.next() else { panic!("it was created") };
    assert!(reason.contains("no-such-program") && !is_final, "{reason}");
    assert!(job.events.recv().is_err());
    assert_eq!(rig.running(&function), 0);
    assert_eq!(list(rig), []);
}

fn jobs_of_one_function_run_side_by_side(rig: &Rig) {
    let function = rig.function(1);
    let jobs: Vec<Ordered> = (1..=3).map(|number| run(rig, &function, number, STAYS)).collect();
    for job in &jobs {
        assert_eq!(job.next(), JobEvent::Created);
    }
    runner(rig).end(&jobs[1].id);
    assert!(jobs[1].events.recv().is_err());
    let left: Vec<JobId> = list(rig).into_iter().map(|found| found.id).collect();
    assert_eq!(left, [jobs[0].id.clone(), jobs[2].id.clone()]);
    for job in [&jobs[0], &jobs[2]] {
        runner(rig).end(&job.id);
    }
    rig.gone(&function);
}

fn shutting_down_ends_jobs_and_refuses_others(rig: &Rig) {
    let function = rig.function(1);
    let job = run(rig, &function, 1, STAYS);
    assert_eq!(job.next(), JobEvent::Created);
    rig.backend.shut_down(Duration::ZERO);
    assert_eq!(rig.running(&function), 0);
    let late = run(rig, &function, 2, STAYS);
    assert!(matches!(late.next(), JobEvent::NotCreated(NotCreated { is_final: false, .. })));
    runner(rig).end(&job.id);
}

#[test]
fn the_next_server_finds_and_ends_the_jobs_that_the_last_one_left() {
    let cluster = Cluster::default();
    let first = Rig::memory("jobs", cluster.clone());
    let function = first.function(1);
    let job = run(&first, &function, 1, STAYS);
    assert_eq!(job.next(), JobEvent::Created);
    first.backend.detach(Duration::from_secs(5));
    let second = Rig::memory("jobs", cluster);
    let found = list(&second);
    assert_eq!(found.iter().map(|found| &found.id).collect::<Vec<_>>(), [&job.id]);
    runner(&second).end(&job.id);
    second.gone(&function);
}

#[test]
fn the_next_server_goes_on_with_a_job_and_hears_of_its_end() {
    let cluster = Cluster::default();
    let first = Rig::memory("jobs", cluster.clone());
    let function = first.function(1);
    let jobs = [1, 2].map(|number| run(&first, &function, number, STAYS));
    jobs.iter().for_each(|job| assert_eq!(job.next(), JobEvent::Created));
    // As after a crash.
    drop(first);
    cluster.finish_job(&jobs[0].id);
    let second = Rig::memory("jobs", cluster.clone());
    let found: Vec<JobId> = list(&second).into_iter().map(|found| found.id).collect();
    assert_eq!(found, [jobs[0].id.clone(), jobs[1].id.clone()], "also the one that has ended");
    let [ended, running] = [0, 1].map(|of| adopt(&second, &jobs[of].id));
    assert!(matches!(ended.next(), JobEvent::Ended(how) if how.contains("exit status: 1")));
    cluster.finish_job(&running.id);
    assert!(matches!(running.next(), JobEvent::Ended(how) if how.contains("exit status: 1")));
    let gone = adopt(&second, &running.id);
    assert!(matches!(gone.next(), JobEvent::Ended(_)), "it is not there any more");
    assert_eq!(list(&second), []);
    assert!(jobs.iter().all(|job| job.events.recv().is_err()), "nothing is told to the server before");
}

fn adopt(rig: &Rig, id: &JobId) -> Ordered {
    let (sender, events) = channel();
    runner(rig).adopt(id, Box::new(move |event| drop(sender.send(event))));
    Ordered { id: id.clone(), events }
}

#[test]
fn dropping_the_backend_ends_its_job_processes() {
    let rig = Rig::process("jobs-dropped");
    let function = rig.function(1);
    let job = run(&rig, &function, 1, STAYS);
    assert_eq!(job.next(), JobEvent::Created);
    drop(rig);
    eventually("no process is left", || function.processes().is_empty().then_some(()));
}

#[test]
fn a_result_is_posted_again_when_the_first_try_fails() {
    posted_again("127.0.0.1", |url| Rig::process_reporting("jobs-callback", url));
}

#[test]
fn a_result_is_posted_again_by_a_pod() {
    if let Some(cluster) = RealCluster::for_test("jobs-callback") {
        posted_again(MACHINE, |url| Rig::cluster("jobs-callback", cluster.reporting(url)));
    }
}

fn posted_again(host: &str, rig: impl FnOnce(&str) -> Rig) {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let url = format!("http://{}/v1/internal/executions", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    std::thread::spawn(move || answer_callbacks(&listener, &sender));
    let rig = rig(&url);
    let function = rig.function(1);
    let job = run(&rig, &function, 1, "cat -");
    assert_eq!(job.next(), JobEvent::Created);
    let tries = [(); 2].map(|()| requests.recv_timeout(PATIENCE).unwrap());
    assert_eq!(tries[0], tries[1], "the same result");
    let (head, body) = &tries[0];
    assert!(head.starts_with("post /v1/internal/executions/e1:complete"), "{head}");
    assert!(head.contains("x-dispatch-attempt: 1"), "{head}");
    assert_eq!(body["output"], json!({ "input": 1 }));
    let JobEvent::Ended(how) = job.next() else { panic!("it ends once") };
    assert!(how.contains("status: 0") || how.contains("status 0"), "{how}");
}

/// Answers with 503 first and with 204 from then on.
fn answer_callbacks(listener: &TcpListener, requests: &Sender<(String, Value)>) {
    let mut status = "503 Busy";
    for stream in listener.incoming().map_while(Result::ok) {
        let mut reader = BufReader::new(&stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or_default() == 0 {
                return;
            }
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        (&stream).write_all(answer.as_bytes()).unwrap();
        if requests.send((head, serde_json::from_slice(&body).unwrap())).is_err() {
            return;
        }
        status = "204 No Content";
    }
}

#[test]
fn a_request_of_any_size_reaches_the_program() {
    let rig = Rig::process("jobs-payload");
    let function = rig.function(1);
    for (number, bytes) in [(1, 1), (2, 64 << 10), (3, 1 << 20)] {
        let payload = json!({ "input": "x".repeat(bytes), "metadata": null }).to_string();
        let changes =
            json!({ "runtimeCommand": "sh -c 'cat > $EXECUTION_ID; env > $EXECUTION_ID.env; sleep 600'" });
        let job = order(&rig, &function, number, changes, payload.clone());
        assert_eq!(job.next(), JobEvent::Created);
        let path = rig.folder.path(&format!("e{number}"));
        let variables = rig.folder.path(&format!("e{number}.env"));
        let environment = eventually("the program has written its environment", || {
            let text = std::fs::read_to_string(&variables).ok()?;
            text.contains("FUNCTION_NAME=").then_some(text)
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), payload);
        for hidden in ["INVOCATION_PAYLOAD", "CALLBACK_URL", "WARM=true"] {
            assert!(!environment.contains(hidden), "{hidden} in {environment}");
        }
        for told in [format!("EXECUTION_ID=e{number}"), format!("DISPATCH_ATTEMPT={number}")] {
            assert!(environment.contains(&told), "{told} in {environment}");
        }
        runner(&rig).end(&job.id);
        rig.gone(&function);
    }
}
