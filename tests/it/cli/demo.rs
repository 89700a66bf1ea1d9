//! What `nanofaas demo` says before it starts anything.

use super::{
    FILE,
    program::{Folder, program, run},
};

#[test]
fn the_demo_says_which_port_is_busy() {
    let folder = Folder::new();
    folder.write("f/function.yaml", FILE);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let examples = folder.path().to_str().expect("text");
    for (flags, named) in [
        (["--port", &port, "--management-port", "0"], "with --port"),
        (["--port", "0", "--management-port", &port], "with --management-port"),
    ] {
        let run = run(program(&["demo", "--once", "--examples", examples]).args(flags));
        assert_eq!(run.code, 1, "{run:?}");
        assert!(
            run.stderr.contains(&format!("port {port} is busy")) && run.stderr.contains(named),
            "{run:?}"
        );
    }
}

#[test]
fn the_demo_says_where_it_looked_for_examples() {
    let folder = Folder::new();
    let examples = folder.path().to_str().expect("text");
    let run = run(&mut program(&["demo", "--once", "--examples", examples]));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("no example") && run.stderr.contains(examples), "{run:?}");
}
