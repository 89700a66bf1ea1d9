//! `nanofaas context`, and what a context says besides the address.

use std::os::unix::fs::PermissionsExt;

use super::{
    fake::Fake,
    program::{Folder, Run, program, run},
};

fn context(folder: &Folder, arguments: &[&str]) -> Run {
    run(program(&[&["context"], arguments].concat()).env("HOME", folder.path()))
}

#[test]
fn contexts_are_made_chosen_listed_and_deleted() {
    let folder = Folder::new();
    let fake = Fake::start(vec![("GET /v1/functions", 200, "[]".to_owned())]);
    let secret = fake.endpoint.replace("http://", "http://u:secret@");
    for (arguments, code, stdout) in [
        (&["list"][..], 0, "  NAME  ENDPOINT  HEADERS\n"),
        (&["use", "here"], 1, ""),
        (&["set", "here", "--endpoint", &secret, "--header", "X-Team: blue"], 0, "here is set\n"),
        (&["set", "there", "--endpoint", "https://there"], 0, "there is set\n"),
        (&["use", "here"], 0, "here is in use\n"),
        (&["set", "here", "--management", "http://m:1"], 0, "here is set\n"),
    ] {
        let run = context(&folder, arguments);
        assert_eq!((run.code, run.stdout.as_str()), (code, stdout), "{arguments:?} {run:?}");
    }
    let list = context(&folder, &["list"]);
    let shown = fake.endpoint.replace("http://", "http://***@");
    assert!(list.stdout.contains(&format!("*  here   {shown}")), "{list:?}");
    assert!(list.stdout.contains("   there  https://there"), "{list:?}");
    let json = context(&folder, &["list", "-o", "json"]);
    let values: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((&values[0]["current"], &values[0]["headers"][0]), (&true.into(), &"X-Team".into()));
    for printed in [&list.stdout, &json.stdout] {
        assert!(!printed.contains("secret") && !printed.contains("blue"), "{printed}");
    }

    // Commands use what was chosen.
    let listed = run(program(&["fn", "list"]).env("HOME", folder.path()));
    assert_eq!(listed.code, 0, "{listed:?}");
    let request = &fake.requests()[0];
    assert!(request.has("authorization: basic dtpzzwnyzxq="), "{request:?}");
    assert!(request.has("x-team: blue"), "{request:?}");

    let file = folder.path().join(".config/nanofaas/config.toml");
    let mode = std::fs::metadata(&file).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(context(&folder, &["delete", "here"]).code, 0);
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(!text.contains("secret") && !text.contains("current-context"), "{text}");
    let unknown = context(&folder, &["delete", "here"]);
    let message = "error: there is no context \"here\"; known: there\n";
    assert_eq!((unknown.code, unknown.stderr.as_str()), (1, message));
}

#[test]
fn a_change_keeps_what_it_does_not_know() {
    let folder = Folder::new();
    let file = folder.write(
        ".config/nanofaas/config.toml",
        "currentContext = 'a'\nfuture = 1\n[contexts.a]\nendpoint = 'http://a'\nnamespace = 'n'\n",
    );
    assert_eq!(context(&folder, &["set", "a", "--endpoint", "http://b"]).code, 0);
    let text = std::fs::read_to_string(&file).expect("the file");
    for kept in ["future = 1", "namespace = \"n\"", "endpoint = \"http://b\"", "currentContext = \"a\""] {
        assert!(text.contains(kept), "{kept} in {text}");
    }
    std::fs::write(&file, "[contexts").expect("a file");
    assert_eq!(context(&folder, &["list"]).code, 64);
}

/// No message shows a password, wherever the address was written.
#[test]
fn passwords_are_in_no_message() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    for endpoint in [
        format!("http://u:secret@{address}"),
        format!("https://u:secret@{address}"),
        "ftp://u:secret@h".to_owned(),
        "u:secret@h".to_owned(),
    ] {
        let by_flag = run(&mut program(&["fn", "list", "--endpoint", &endpoint]));
        let by_variable = run(program(&["fn", "list"]).env("NANOFAAS_ENDPOINT", &endpoint));
        for failed in [by_flag, by_variable] {
            assert_ne!(failed.code, 0);
            assert!(!failed.stderr.contains("secret") && !failed.stderr.is_empty(), "{failed:?}");
        }
    }
}
