//! Bounds on what is kept after its end, and on idempotency keys, are the server's: a busy function uses what the others
//! leave, and they get their share when they need it.

use serde_json::json;

use crate::support::{Client, Server, eventually};

const BOUND: usize = 2048;
const SHARDS: usize = 4;
const SETTINGS: [&str; 3] = ["workers=4", "executions.max-count=2048", "idempotency.max-count=2048"];

/// Calls a function with a key; the id of the execution.
#[track_caller]
fn call(client: &mut Client, function: &str, key: &str) -> String {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let body = json!({ "input": 1 }).to_string();
    let response =
        client.send("POST", &format!("/v1/functions/{function}:invoke"), &headers, body.as_bytes());
    assert_eq!(response.status, 200, "{}", response.text());
    response.header("x-execution-id").expect("an id").to_owned()
}

fn is_kept(client: &mut Client, id: &str) -> bool {
    let response = client.send("GET", &format!("/v1/executions/{id}"), &[], b"");
    assert!(matches!(response.status, 200 | 404), "{}", response.text());
    response.status == 200
}

/// What all shards keep: executions and keys.
fn kept(server: &Server) -> [usize; 2] {
    ["executions", "idempotency_keys"].map(|what| {
        let of = |shard| server.metric(&format!("nanofaas_shard_{what}{{shard=\"{shard}\"}}")) as usize;
        (0..SHARDS).map(of).sum()
    })
}

#[test]
fn a_busy_function_uses_what_others_leave_and_they_get_their_share() {
    let server = Server::start(&SETTINGS);
    let names: Vec<String> = (0..16).map(|number| format!("f{number}")).collect();
    for name in &names {
        server.register(json!({ "name": name, "executionMode": "LOCAL" }));
    }
    let mut client = server.client();
    // More than three of four shares.
    const MANY: usize = 1800;
    let ids: Vec<String> = (0..MANY).map(|number| call(&mut client, "f0", &format!("k{number}"))).collect();
    assert_eq!(kept(&server), [MANY; 2]);
    assert!(is_kept(&mut client, &ids[0]));
    assert_eq!(call(&mut client, "f0", "k0"), ids[0], "the key is forgotten");

    for number in MANY..MANY + 600 {
        call(&mut client, "f0", &format!("k{number}"));
    }
    let [executions, keys] = kept(&server);
    assert!((MANY..=BOUND).contains(&executions) && (MANY..=BOUND).contains(&keys), "{executions}, {keys}");
    assert!(!is_kept(&mut client, &ids[0]));
    assert_ne!(call(&mut client, "f0", "k0"), ids[0]);

    // The shards of the others have next to nothing, and f0 has all the rest.
    for name in &names[1..] {
        let mut number = 0;
        eventually(&format!("{name} has room"), || {
            let keys: Vec<String> = (number..number + 50).map(|number| format!("k{number}")).collect();
            number += 50;
            let ids: Vec<String> = keys.iter().map(|key| call(&mut client, name, key)).collect();
            ids.iter().all(|id| is_kept(&mut client, id))
                && keys.iter().zip(&ids).all(|(key, id)| call(&mut client, name, key) == *id)
        });
        let [executions, keys] = kept(&server);
        assert!(executions <= BOUND && keys <= BOUND, "{executions}, {keys}");
    }
}
