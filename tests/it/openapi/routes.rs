//! Every described path takes the described methods, and no other.

use std::collections::BTreeSet;

use super::document::Document;
use crate::support::Server;

/// Methods that are tried on every path.
const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

#[test]
fn paths_take_the_described_methods_and_no_other() {
    let server = Server::start(&["admin.runtime-config.enabled=true"]);
    let document = Document::of(&server);
    assert!(document.paths().count() > 10, "the document lost its paths");
    for (path, _) in document.paths() {
        let described = document.methods(path);
        let unknown = path.replace("{name}", "nobody").replace("{executionId}", "0");
        for method in METHODS {
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
