//! The service against receivers on this machine.

mod addresses;
mod bounds;
mod support;

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nanofaas_wire::result;
use shard_core::DeliveryStatus::{Delivered, Failed, Pending};

use super::{DeliveryOptions, signature::Signer};
use support::{KEY, PATIENCE, Receiver, Rig, answer, id, options, view};

#[test]
fn a_result_arrives_signed() {
    let rig = Rig::start(options());
    let receiver = Receiver::of_status(204);
    rig.deliver(1, &receiver.url());
    let post = receiver.post();
    assert_eq!(post.request_line, "POST /results?of=test HTTP/1.1");
    assert_eq!(post.body, result::execution(&view(1)));
    let header = |name: &str| post.headers[name].as_str();
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("host"), receiver.address.to_string());
    assert_eq!(header("x-execution-id"), id(1).to_string());
    assert_eq!(header("x-nanofaas-delivery").len(), 36);
    let time = header("x-nanofaas-signature").strip_prefix("t=").and_then(|rest| rest.split_once(','));
    let time: u64 = time.expect("a time").0.parse().expect("a number");
    assert_eq!(header("x-nanofaas-signature"), Signer::new(KEY).sign(time, &post.body));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(now.abs_diff(time) < 60, "{time} is not about {now}");

    let (shard, execution, delivery) = rig.report();
    assert_eq!((shard, execution), (5, id(1)));
    assert_eq!((delivery.status, delivery.attempts, delivery.last_error), (Delivered, 1, None));
}

#[test]
fn a_receiver_that_fails_gets_it_again_after_a_pause() {
    let rig = Rig::start(options());
    let receiver = Receiver::start(|number| Some(answer(if number < 3 { 500 } else { 200 })));
    rig.deliver(1, &receiver.url());
    let posts: Vec<_> = (0..3).map(|_| receiver.post()).collect();
    for (attempts, status) in [(1, Pending), (2, Pending), (3, Delivered)] {
        let (found, count, error) = rig.outcome();
        assert_eq!((found, count), (status, attempts));
        assert!(error.contains("500"), "the newest failure stays: {error}");
    }
    for header in ["x-nanofaas-delivery", "x-execution-id"] {
        assert!(posts.iter().all(|post| post.headers[header] == posts[0].headers[header]), "{header}");
    }
    assert!(posts.iter().all(|post| post.body == posts[0].body));
    for (index, longest_ms) in [(1, 40), (2, 80)] {
        let pause = posts[index].at - posts[index - 1].at;
        assert!(pause >= Duration::from_millis(longest_ms / 2), "pause {index} was {pause:?}");
    }
    // Another result is another delivery.
    rig.deliver(2, &receiver.url());
    assert_ne!(receiver.post().headers["x-nanofaas-delivery"], posts[0].headers["x-nanofaas-delivery"]);
}

#[test]
fn a_receiver_that_never_takes_it_ends_the_delivery() {
    let rig = Rig::start(options());
    for (receiver, words) in [
        (Receiver::of_status(503), "answered 503"),
        (Receiver::of_status(404), "answered 404"),
        (Receiver::of_status(101), "answered 101"),
        (Receiver::start(|_| Some("SMTP ready\r\n\r\n".to_owned())), "did not answer as it should"),
    ] {
        rig.deliver(1, &receiver.url());
        for (attempts, status) in [(1, Pending), (2, Pending), (3, Failed)] {
            let (found, count, error) = rig.outcome();
            assert_eq!((found, count), (status, attempts), "{error}");
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(receiver.connections(), 3);
    }
}

#[test]
fn a_redirect_is_a_failure_and_leads_nowhere() {
    let rig = Rig::start(options());
    let other = Receiver::of_status(200);
    for status in [301, 302, 303, 307, 308] {
        let location = other.url();
        let receiver = Receiver::start(move |_| {
            let answer =
                format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            Some(answer)
        });
        rig.deliver(1, &receiver.url());
        let outcomes: Vec<_> = (0..3).map(|_| rig.outcome()).collect();
        assert_eq!((outcomes[2].0, outcomes[2].1), (Failed, 3));
        let error = &outcomes[2].2;
        assert!(
            error.contains(&status.to_string()) && error.contains("redirects are not followed"),
            "{error}"
        );
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_receiver_that_is_not_there_or_says_nothing_ends_the_try() {
    let silent = Receiver::silent();
    // Nothing listens on a port whose listener is gone.
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let gone = format!("http://{}/", gone.expect("a free port"));
    let short = Duration::from_millis(100);
    for (url, timeout, words) in [(silent.url(), short, "within 100 ms"), (gone, PATIENCE, "cannot connect")]
    {
        let rig = Rig::start(DeliveryOptions { attempts_max: 2, timeout, ..options() });
        rig.deliver(1, &url);
        for (attempts, status) in [(1, Pending), (2, Failed)] {
            let (found, count, error) = rig.outcome();
            assert_eq!((found, count), (status, attempts));
            assert!(error.contains(words), "{error}");
        }
    }
}

#[test]
fn only_the_status_of_the_answer_counts() {
    let rig = Rig::start(options());
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nand then nothing".to_owned(),
        format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(1 << 20)),
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n".to_owned(),
    ] {
        let receiver = Receiver::start(move |_| Some(answer.clone()));
        rig.deliver(1, &receiver.url());
        assert_eq!(rig.outcome(), (Delivered, 1, String::new()));
    }
}

#[test]
fn tls_is_not_talked_into_plain_text() {
    let rig = Rig::start(DeliveryOptions { attempts_max: 1, ..options() });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        // Until the sender closes it.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    rig.deliver(1, &format!("https://{address}/"));
    let (status, attempts, error) = rig.outcome();
    assert_eq!((status, attempts), (Failed, 1));
    assert!(error.contains("cannot secure"), "{error}");
}
