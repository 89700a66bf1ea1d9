//! No name and no address leads a result where it may not go.

use std::net::{IpAddr, Ipv4Addr};

use shard_core::DeliveryStatus::{Delivered, Failed, Pending, Refused};

use super::support::{Names, Receiver, Rig, answer, options};
use crate::delivery::{DeliveryOptions, address::is_public};

/// Stands for the public internet, which a test has none of.
const PUBLIC: [u8; 4] = [127, 0, 0, 2];
const PRIVATE: [u8; 4] = [127, 0, 0, 1];

fn only_public(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::from(PUBLIC))
}

fn options_of_public() -> DeliveryOptions {
    DeliveryOptions { permit: only_public, ..options() }
}

#[test]
fn a_name_that_leads_elsewhere_the_second_time_is_refused() {
    let public = Receiver::start_at(PUBLIC.into(), |_| Some(answer(500)));
    let url = format!("http://rebind.example:{}/", public.address.port());
    // The same port on the private address, so that a connection to it would be seen.
    let private = std::net::TcpListener::bind((Ipv4Addr::from(PRIVATE), public.address.port()));
    let private = private.expect("a port that is free on the other address");
    private.set_nonblocking(true).expect("a socket option");
    let names = Names::default().with("rebind.example", &[&[PUBLIC], &[PRIVATE]]);
    let rig = Rig::with_names(options_of_public(), names.clone());
    rig.deliver(1, &url);
    let (status, attempts, error) = rig.outcome();
    assert_eq!((status, attempts), (Pending, 1), "{error}");
    let post = public.post();
    assert_eq!(post.headers["host"], format!("rebind.example:{}", public.address.port()));

    let (status, attempts, error) = rig.outcome();
    assert_eq!((status, attempts), (Refused, 2), "{error}");
    assert!(error.contains("127.0.0.1") && error.contains("delivery.allow-private"), "{error}");
    assert_eq!(names.lookups().len(), 2, "one for each try, and what it said was connected to");
    assert_eq!(private.accept().expect_err("nobody came").kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(public.connections(), 1);
}

#[test]
fn a_name_with_both_kinds_of_addresses_leads_to_the_public_ones() {
    let public = Receiver::start_at(PUBLIC.into(), |_| Some(answer(200)));
    let private = std::net::TcpListener::bind((Ipv4Addr::from(PRIVATE), public.address.port()));
    let private = private.expect("a port that is free on the other address");
    private.set_nonblocking(true).expect("a socket option");
    let names = Names::default().with("both.example", &[&[PRIVATE, PUBLIC]]);
    let rig = Rig::with_names(options_of_public(), names);
    rig.deliver(1, &format!("http://both.example:{}/", public.address.port()));
    assert_eq!(rig.outcome(), (Delivered, 1, String::new()));
    assert_eq!(private.accept().expect_err("nobody came").kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn an_address_that_takes_no_connection_is_followed_by_the_next() {
    let receiver = Receiver::start(|_| Some(answer(200)));
    let names = Names::default().with("two.example", &[&[PUBLIC, PRIVATE]]);
    let rig = Rig::with_names(options(), names);
    rig.deliver(1, &format!("http://two.example:{}/", receiver.address.port()));
    assert_eq!(rig.outcome(), (Delivered, 1, String::new()));
}

#[test]
fn a_name_that_is_private_is_refused_without_another_try() {
    let names = Names::default()
        .with("intranet.example", &[&[[10, 0, 0, 1], [192, 168, 0, 1]]])
        .with("metadata.example", &[&[[169, 254, 169, 254]]]);
    let rig = Rig::with_names(DeliveryOptions { permit: is_public, ..options() }, names.clone());
    for (name, address) in [("intranet.example", "10.0.0.1"), ("metadata.example", "169.254.169.254")] {
        rig.deliver(1, &format!("https://{name}/"));
        let (status, attempts, error) = rig.outcome();
        assert_eq!((status, attempts), (Refused, 1));
        assert!(error.contains(address), "{error}");
    }
    assert_eq!(names.lookups(), ["intranet.example", "metadata.example"]);
}

#[test]
fn a_name_that_nobody_knows_may_be_known_later() {
    let rig = Rig::start(DeliveryOptions { attempts_max: 2, ..options() });
    rig.deliver(1, "http://unknown.example/");
    for (attempts, status) in [(1, Pending), (2, Failed)] {
        let (found, count, error) = rig.outcome();
        assert_eq!((found, count), (status, attempts));
        assert!(error.contains("resolve"), "{error}");
    }
}

/// An execution may be older than the settings.
#[test]
fn an_address_is_checked_again_when_it_is_used() {
    let names = Names::default();
    let rig = Rig::with_names(DeliveryOptions { permit: is_public, ..options() }, names.clone());
    let receiver = Receiver::of_status(200);
    for url in [&*receiver.url(), "http://localhost/", "http://127.1/", "ftp://example.org/", "nonsense"] {
        rig.deliver(1, url);
        let (status, attempts, error) = rig.outcome();
        assert_eq!((status, attempts), (Refused, 0), "{url}");
        assert!(error.starts_with("the address "), "{error}");
    }
    assert_eq!(receiver.connections(), 0);
    assert!(names.lookups().is_empty());
}
