//! What can be known to be wrong before a process is started, said in words for the function's author.
//!
//! Only programs of mode HTTP are started before the first call; without this, a misspelled program of another
//! mode would register and then fail every call.

use std::{
    ffi::{OsStr, OsString},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use nanofaas_wire::function::FunctionSpec;

/// Where programs are sought when the environment does not say, as `execvp` does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Checks directory, command and program. `path` is the `PATH` that the program will be sought with.
///
/// # Errors
/// What is wrong and what to do.
pub fn check(spec: &FunctionSpec, path: Option<&OsString>) -> Result<(), String> {
    let directory = spec.working_dir.as_deref().unwrap_or(".");
    match std::fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(format!("workingDir '{directory}' is not a directory")),
        Err(error) => return Err(format!("workingDir '{directory}' cannot be entered ({error}); create it")),
    }
    let command = spec.runtime_command.as_deref().unwrap_or_default();
    let words = shlex::split(command)
        .ok_or_else(|| format!("runtimeCommand `{command}` has a quote that is not closed"))?;
    let Some(program) = words.first().filter(|program| !program.is_empty()) else {
        return Err(format!("runtimeCommand `{command}` names no program"));
    };
    let path = path.map_or(OsStr::new(DEFAULT_PATH), OsString::as_os_str);
    find(program, Path::new(directory), path)
}

fn find(program: &str, directory: &Path, path: &OsStr) -> Result<(), String> {
    if program.contains('/') {
        let file = directory.join(program);
        return if is_executable(&file) {
            Ok(())
        } else {
            Err(format!("program '{program}' is not there or not executable ({})", file.display()))
        };
    }
    if std::env::split_paths(path).any(|folder| is_executable(&directory.join(folder).join(program))) {
        return Ok(());
    }
    Err(format!(
        "program '{program}' was not found in PATH ({}); install it, or name its file",
        path.display()
    ))
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::test_spec;

    #[test]
    fn what_is_wrong_is_named() {
        let root = Some("/");
        for (command, directory, path, expected) in [
            ("sh -c true", root, "/bin", Ok(())),
            ("sh", None, "/nowhere:bin:/bin", Ok(())),
            ("sh", root, "bin", Ok(())),
            ("/bin/sh", root, "", Ok(())),
            ("bin/sh", root, "", Ok(())),
            ("sh", root, "/nowhere", Err("program 'sh' was not found in PATH (/nowhere)")),
            ("./sh", root, "/bin", Err("program './sh' is not there or not executable (/./sh)")),
            ("/etc/passwd", root, "/bin", Err("not executable")),
            ("/bin", root, "/bin", Err("not executable")),
            ("sh 'x", root, "/bin", Err("quote")),
            ("  ", root, "/bin", Err("names no program")),
            ("'' x", root, "/bin", Err("names no program")),
            ("sh", Some("/nowhere"), "/bin", Err("workingDir '/nowhere' cannot be entered")),
            ("sh", Some("/etc/passwd"), "/bin", Err("workingDir '/etc/passwd' is not a directory")),
        ] {
            let mut spec = test_spec("echo");
            spec.runtime_command = Some(command.to_owned());
            spec.working_dir = directory.map(str::to_owned);
            let result = check(&spec, Some(&path.into()));
            match expected {
                Ok(()) => assert_eq!(result, Ok(()), "{command}"),
                Err(part) => {
                    let message = result.expect_err(command);
                    assert!(message.contains(part), "{command}: {message}");
                }
            }
        }
    }
}
