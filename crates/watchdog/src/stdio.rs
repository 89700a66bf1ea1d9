//! Mode `STDIO`: one process per call, request on standard input, answer on standard output.

use std::{cell::RefCell, process::Stdio};

use super::{
    invocation::{Failure, Invocation, Output},
    launcher::Launcher,
    output::{Tail, feed, keep, log},
    program::Program,
};

/// Runs one call. `None` when it was interrupted; the process group is gone in any case.
pub async fn run(
    launcher: &Launcher,
    invocation: &Invocation,
    interrupted: impl Future<Output = ()>,
) -> Option<Result<Output, Failure>> {
    let mut program = match launcher.start_call(invocation, [], Stdio::piped()) {
        Ok(program) => program,
        Err(failure) => return Some(Err(failure)),
    };
    let result = tokio::select! {
        result = converse(&mut program, invocation) => Some(result),
        () = interrupted => None,
    };
    program.end().await;
    result
}

async fn converse(program: &mut Program, invocation: &Invocation) -> Result<Output, Failure> {
    let (stdin, stdout, stderr) = (program.stdin.take(), program.stdout.take(), program.stderr.take());
    let mut answer = Vec::new();
    let tail = RefCell::new(Tail::default());
    // All three at once: a program that writes before it reads must not block for ever.
    let streams = async {
        let rest = async {
            tokio::join!(
                feed(stdin, &invocation.body),
                log(stderr, "stderr", &invocation.execution_id, &tail)
            );
            Ok(())
        };
        tokio::try_join!(keep(stdout, &mut answer), rest).map(drop)
    };
    let status = program.ended_after(streams).await?;
    if !status.success() {
        return Err(Failure::Exited { status, stderr: tail.borrow().text() });
    }
    Output::from_bytes(answer, invocation.raw).map_err(Failure::InvalidOutput)
}
