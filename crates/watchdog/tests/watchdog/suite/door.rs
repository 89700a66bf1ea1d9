//! Who may call a watchdog: programs of this machine, no page in a browser on it.

#![allow(clippy::unwrap_used, reason = "a test ends where its tools fail")]

use super::support::{Folder, Watchdog, warm};

/// What a page sends without asking anybody, and what comes by a name of its own that leads here. With status and code.
const PAGES: [(&str, &str, u16, &str); 6] = [
    ("Origin", "http://evil.example", 403, "ORIGIN_NOT_ALLOWED"),
    ("Origin", "null", 403, "ORIGIN_NOT_ALLOWED"),
    ("Sec-Fetch-Site", "cross-site", 403, "ORIGIN_NOT_ALLOWED"),
    ("Sec-Fetch-Site", "same-site", 403, "ORIGIN_NOT_ALLOWED"),
    ("Host", "evil.example:8080", 421, "MISDIRECTED_REQUEST"),
    ("Host", "localhost.evil.example", 421, "MISDIRECTED_REQUEST"),
];

const ID: (&str, &str) = ("X-Execution-Id", "e1");

#[test]
fn pages_in_a_browser_of_this_machine_are_refused() {
    let folder = Folder::new("pages");
    let (ran, script) = (folder.path("ran"), "echo >> ran\necho 1\n");
    let program = folder.program("sh", &format!("cd {}\n{script}", ran.parent().unwrap().display()));
    let watchdog = Watchdog::ready(&warm("STDIO", &program));
    for (name, value, status, code) in PAGES {
        for (method, path) in
            [("POST", "/invoke"), ("OPTIONS", "/invoke"), ("GET", "/health"), ("GET", "/metrics")]
        {
            let answer = watchdog.send(method, path, &[ID, (name, value)], b"{}");
            assert_eq!((answer.status, answer.error().0.as_str()), (status, code), "{path}, {name}: {value}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    assert!(!ran.exists(), "a page ran the function");
    // Programs, and a person who types the address.
    let port = watchdog.address.unwrap().port();
    for (name, value) in [
        ("Host", format!("localhost:{port}")),
        ("Host", "127.0.0.1".to_owned()),
        ("Sec-Fetch-Site", "none".to_owned()),
    ] {
        assert_eq!(watchdog.send("GET", "/health", &[(name, &value)], b"").status, 200, "{name}: {value}");
    }
    assert_eq!(watchdog.invoke("{}").text(), "1");
}

/// In a container it has whatever name others give it, but pages have no business there either.
#[test]
fn a_watchdog_that_others_reach_answers_to_any_name() {
    let mut variables = warm("STDIO", "cat");
    variables.retain(|(name, _)| *name != "WARM_HOST");
    let watchdog = Watchdog::ready(&variables);
    for (name, value, status, _) in PAGES {
        let expected = if name == "Host" { 200 } else { status };
        let answer = watchdog.send("POST", "/invoke", &[ID, (name, value)], b"{}");
        assert_eq!(answer.status, expected, "{name}: {value}");
    }
}

/// Addresses are used again, and whoever calls may not have heard of it yet.
#[test]
fn calls_for_another_function_are_not_run_where_that_is_checked() {
    let folder = Folder::new("another");
    let (ran, script) = (folder.path("ran"), "echo >> ran\necho 1\n");
    let program = folder.program("sh", &format!("cd {}\n{script}", ran.parent().unwrap().display()));
    let ours = [("FUNCTION_NAME", "ours"), ("WATCHDOG_CHECK_FUNCTION", "true")];
    let watchdog = Watchdog::ready(&[&warm("STDIO", &program)[..], &ours].concat());
    let theirs = watchdog.send("POST", "/invoke", &[ID, ("X-Function-Name", "theirs")], b"{}");
    let (code, message) = theirs.error();
    assert_eq!((theirs.status, code.as_str()), (421, "MISDIRECTED_REQUEST"));
    assert!(message.contains("'theirs'") && message.contains("'ours'"), "{message}");
    assert_eq!(theirs.header("x-nanofaas-watchdog"), Some("not-run"));
    assert!(!ran.exists(), "another function's call was run");
    // Its own calls, and those of people, who name none.
    for headers in [&[ID, ("X-Function-Name", "ours")][..], &[ID]] {
        assert_eq!(watchdog.send("POST", "/invoke", headers, b"{}").status, 200);
    }
    // One that people start for a fixed address serves whatever is sent there.
    let watchdog = Watchdog::ready(&[&warm("STDIO", &program)[..], &ours[..1]].concat());
    let theirs = watchdog.send("POST", "/invoke", &[ID, ("X-Function-Name", "theirs")], b"{}");
    assert_eq!(theirs.status, 200);
}
