//! Tables of requests: by which names they come in, and from which pages.

use super::*;

const LOOPBACK: &str = "127.0.0.1:8080";
const EVERYWHERE: &str = "0.0.0.0:8080";

fn policy(listener: &str) -> OriginPolicy {
    let hosts = ["faas.example", "10.9.9.9"].map(|host| AllowedHost::parse(host).expect(host));
    let origins = ["https://console.example", "http://127.0.0.1:3000"];
    let origins = origins.map(|origin| AllowedOrigin::parse(origin).expect(origin));
    OriginPolicy::new(listener.parse().expect("an address"), &hosts, &origins)
}

/// What becomes of a request with these headers, one per line: `own`, `listed` or the status of its refusal.
fn verdict(policy: &OriginPolicy, request: &str) -> String {
    let (line, headers) = request.split_once('\n').unwrap_or((request, ""));
    let mut words = line.split(' ');
    let uri: Uri = words.next().expect("a path").parse().expect("a target");
    let version = match words.next() {
        None => Version::HTTP_11,
        Some("1.0") => Version::HTTP_10,
        Some(_) => Version::HTTP_2,
    };
    let mut map = HeaderMap::new();
    for header in headers.lines() {
        let (name, value) = header.split_once(':').expect("a header");
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).expect("a value");
        map.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value);
    }
    match policy.check(&Seen::of(&map), version, &uri) {
        Ok(Pass::Own) => "own".to_owned(),
        Ok(Pass::Listed(_)) => "listed".to_owned(),
        Err(error) => error.answer().status.as_u16().to_string(),
    }
}

#[test]
fn hosts() {
    for (host, on_loopback, elsewhere) in [
        ("127.0.0.1:8080", "own", "own"),
        ("127.0.0.1", "own", "own"),
        ("127.0.0.1.", "own", "own"),
        ("127.9.9.9:1", "own", "own"),
        ("localhost", "own", "own"),
        ("LocalHost.:8080", "own", "own"),
        ("a.localhost:8080", "own", "own"),
        ("[::1]:8080", "own", "own"),
        ("[::ffff:127.0.0.1]", "own", "own"),
        ("faas.example", "own", "own"),
        ("FAAS.example.:80", "own", "own"),
        ("10.9.9.9", "own", "own"),
        ("10.0.0.1:8080", "421", "own"),
        ("[2001:db8::1]", "421", "own"),
        ("0.0.0.0:8080", "421", "own"),
        ("evil.example", "421", "421"),
        ("evil.example:8080", "421", "421"),
        ("localhost.evil.example", "421", "421"),
        ("notlocalhost", "421", "421"),
        ("127.0.0.1.evil.example", "421", "421"),
        ("x.faas.example", "421", "421"),
        ("127.1", "421", "421"),
        ("2130706433", "421", "421"),
        ("0x7f.0.0.1", "421", "421"),
        ("", "400", "400"),
        (".", "400", "400"),
        (":8080", "400", "400"),
        ("localhost:", "own", "own"),
        ("localhost:80x", "400", "400"),
        ("localhost:8080:1", "400", "400"),
        ("user@localhost", "400", "400"),
        ("localhost, evil.example", "400", "400"),
        ("localhost evil", "400", "400"),
        ("local%68ost", "400", "400"),
        ("[::1", "400", "400"),
        ("[::1]x", "400", "400"),
        ("[::1%25lo]", "400", "400"),
        ("l\u{f6}calhost", "400", "400"),
    ] {
        for (listener, expected) in
            [(LOOPBACK, on_loopback), ("[::1]:1", on_loopback), (EVERYWHERE, elsewhere)]
        {
            let policy = policy(listener);
            // The second time the answer may come from what is remembered.
            for _ in 0..2 {
                assert_eq!(
                    verdict(&policy, &format!("/v1/functions\nhost: {host}")),
                    expected,
                    "{host} at {listener}"
                );
            }
        }
    }
}

#[test]
fn one_host_and_the_same_everywhere() {
    let policy = policy(LOOPBACK);
    for (request, expected) in [
        ("/v1/functions", "400"),
        ("/openapi.yaml", "400"),
        ("/v1/functions\nhost: localhost\nhost: localhost", "400"),
        ("/v1/functions\nhost: localhost\nhost: evil.example", "400"),
        ("/v1/functions 1.0", "own"),
        ("/v1/functions 1.0\nhost: evil.example", "421"),
        ("/v1/functions 1.0\norigin: http://localhost", "403"),
        ("http://localhost/v1/functions\nhost: localhost", "own"),
        ("http://LOCALHOST/v1/functions\nhost: localhost", "own"),
        ("http://localhost/v1/functions", "400"),
        ("http://localhost/v1/functions\nhost: evil.example", "400"),
        ("http://evil.example/v1/functions\nhost: localhost", "400"),
        ("http://evil.example/v1/functions\nhost: evil.example", "421"),
        ("http://localhost/v1/functions 2", "own"),
        ("http://evil.example/v1/functions 2", "421"),
    ] {
        assert_eq!(verdict(&policy, request), expected, "{request}");
    }
}

#[test]
fn what_was_let_in_opens_the_door_for_nobody_else() {
    let policy = policy(LOOPBACK);
    for (host, expected) in [("localhost", "own"), ("evil.example", "421"), ("localhost", "own"), ("", "400")]
    {
        assert_eq!(verdict(&policy, &format!("/v1/functions\nhost: {host}")), expected, "{host}");
    }
}

#[test]
fn origins() {
    let policy = policy(LOOPBACK);
    for (headers, guarded, open) in [
        ("", "own", "own"),
        ("origin: http://localhost:8080", "own", "own"),
        ("origin: HTTP://Localhost:8080", "own", "own"),
        ("sec-fetch-site: same-origin", "own", "own"),
        ("sec-fetch-site: none", "own", "own"),
        ("origin: http://localhost:8080\nsec-fetch-site: same-origin", "own", "own"),
        ("origin: https://console.example", "listed", "listed"),
        ("origin: https://Console.example\nsec-fetch-site: cross-site", "listed", "listed"),
        ("origin: http://127.0.0.1:3000\nsec-fetch-site: same-site", "listed", "listed"),
        // Everybody else.
        ("origin: http://127.0.0.1:8080", "403", "own"),
        ("origin: http://localhost", "403", "own"),
        ("origin: https://localhost:8080", "403", "own"),
        ("origin: http://localhost:8081", "403", "own"),
        ("origin: http://evil.example", "403", "own"),
        ("origin: https://console.example.evil.example", "403", "own"),
        ("origin: https://console.example:444", "403", "own"),
        ("origin: http://console.example", "403", "own"),
        ("origin: null", "403", "own"),
        ("origin:", "403", "own"),
        ("origin: *", "403", "own"),
        ("origin: http://localhost:8080\norigin: http://localhost:8080", "403", "own"),
        ("origin: http://localhost:8080\norigin: http://evil.example", "403", "own"),
        ("origin: https://console.example\norigin: http://evil.example", "403", "own"),
        ("origin: http://localhost:8080\nsec-fetch-site: cross-site", "403", "own"),
        ("sec-fetch-site: cross-site", "403", "own"),
        ("sec-fetch-site: same-site", "403", "own"),
        ("sec-fetch-site: Same-Origin", "403", "own"),
        ("sec-fetch-site:", "403", "own"),
        ("sec-fetch-site: none\nsec-fetch-site: cross-site", "403", "own"),
    ] {
        for path in ["/v1/functions", "/v1/functions/f:invoke", "/nothing", "/", "/actuator/prometheus"] {
            assert_eq!(
                verdict(&policy, &format!("{path}\nhost: localhost:8080\n{headers}")),
                guarded,
                "{headers} {path}"
            );
        }
        for path in ["/openapi.yaml", "/modules/build-metadata"] {
            assert_eq!(
                verdict(&policy, &format!("{path}\nhost: localhost:8080\n{headers}")),
                open,
                "{headers} {path}"
            );
        }
    }
}

#[test]
fn only_listed_origins_are_answered_to_a_preflight() {
    let mut headers = HeaderMap::new();
    let listed = Pass::Listed(HeaderValue::from_static("https://console.example"));
    assert_eq!(listed.preflight(&Method::OPTIONS, &headers, "GET"), None, "nothing is asked");
    headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
    headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("content-type"));
    assert_eq!(listed.preflight(&Method::POST, &headers, "GET"), None, "not a preflight");
    assert_eq!(Pass::Own.preflight(&Method::OPTIONS, &headers, "GET"), None, "not another origin");
    let answer = listed.preflight(&Method::OPTIONS, &headers, "GET, POST").expect("a preflight");
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "GET, POST");
    assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "content-type");
    assert!(!answer.contains_key(ALLOW_PRIVATE_NETWORK));
    headers.insert(REQUEST_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    let answer = listed.preflight(&Method::OPTIONS, &headers, "GET").expect("a preflight");
    assert_eq!(answer[ALLOW_PRIVATE_NETWORK], "true");
}

#[test]
fn codings() {
    for (headers, is_strange) in [
        (&[][..], false),
        (&["chunked"], false),
        (&["Chunked"], false),
        (&["chunked", "chunked"], true),
        (&["chunked, chunked"], true),
        (&["gzip, chunked"], true),
        (&["gzip"], true),
        (&[""], true),
    ] {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(TRANSFER_ENCODING, HeaderValue::from_static(value));
        }
        assert_eq!(Seen::of(&map).has_strange_coding(), is_strange, "{headers:?}");
    }
}
