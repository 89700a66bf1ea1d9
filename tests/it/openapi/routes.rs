//! Every described path takes the described methods, and no other.

use std::collections::BTreeSet;

use super::document::Document;
use crate::support::{Response, Server, eventually};

/// Methods that are tried on every path.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

#[test]
fn paths_take_the_described_methods_and_no_other() {
    let server = Server::start(&["admin.runtime-config.enabled=true"]);
    let document = Document::of(&server);
    assert!(document.paths().count() > 10, "the document lost its paths");
    for (path, _) in document.paths() {
        let mut described = document.methods(path);
        // In words, for all of them.
        if described.contains("GET") {
            described.insert("HEAD".to_owned());
        }
        let unknown = path.replace("{name}", "nobody").replace("{executionId}", "0");
        for method in METHODS {
            if method == "HEAD" {
                if described.contains(method) {
                    is_like_get(&document, &server, path, &unknown);
                } else {
                    assert_eq!(document.head(&server, path, &unknown).status, 405, "{path}");
                }
                continue;
            }
            let answer = document.send(&server, path, (method, &unknown), &[], b"");
            if described.contains(method) {
                let body = String::from_utf8_lossy(&answer.body);
                assert_ne!(answer.status, 405, "{method} {path}: {body}");
                assert!(
                    !body.starts_with(r#"{"error":"NOT_FOUND","message":"No such path"#),
                    "{method} {path}: {body}"
                );
                continue;
            }
            answer.expect_error(405, "METHOD_NOT_ALLOWED");
            document.check(path, method, &answer);
            let allow = answer.header("allow").expect("checked above");
            let allowed: BTreeSet<String> = allow.split(", ").map(str::to_owned).collect();
            assert_eq!(allowed, described, "{path}");
        }
    }
}

/// An answer to HEAD has the status and the headers of one to GET, and no body.
fn is_like_get(document: &Document, server: &Server, path: &str, sent: &str) {
    let get = document.send(server, path, ("GET", sent), &[("connection", "close")], b"");
    let head = document.head(server, path, sent);
    assert_eq!(head.status, get.status, "{path}");
    let plain = |answer: &Response| {
        // A body whose length is not known is announced only when it comes.
        let told = answer.headers.iter().map(|(name, _)| name.clone());
        let told = told.filter(|name| name != "transfer-encoding");
        told.collect::<BTreeSet<String>>()
    };
    assert_eq!(plain(&head), plain(&get), "{path}");
    for name in ["content-type", "location"] {
        assert_eq!(head.header(name), get.header(name), "{path}");
    }
}

#[test]
fn probes_have_the_paths_that_everybody_knows() {
    let server = Server::start(&[]);
    for (alias, path) in
        [("/healthz", "/actuator/health/liveness"), ("/readyz", "/actuator/health/readiness")]
    {
        eventually("it is well", || server.manage(path).status == 200);
        let (one, other) = (server.manage(alias), server.manage(path));
        assert_eq!((one.status, one.text()), (200, other.text()), "{alias}");
    }
    assert!(server.manage("/metrics").text().contains("\nnanofaas_accounting_drift 0\n"));
}

#[test]
fn other_paths_are_unknown() {
    let server = Server::start(&[]);
    for path in ["/", "/v1", "/v1/functions/", "/v1/functions/f/", "/v2/functions", "/actuator/health"] {
        server.get(path).expect_error(404, "NOT_FOUND");
    }
    for path in ["/", "/v1/functions", "/actuator/", "/actuator/env"] {
        server.manage(path).expect_error(404, "NOT_FOUND");
    }
}
