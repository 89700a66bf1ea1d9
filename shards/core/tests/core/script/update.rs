//! Writes what a script did behind its arrows, in the source file in which the script is a literal.
//!
//! A script keeps its lines, so the line numbers of all others stay right while tests run side by side. The file is
//! locked while it is read and written. A script that is put together by code is in no file: it is changed by hand.

use std::{
    fs::OpenOptions,
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

/// The source file that the compiler calls `file`: as it was told, below the workspace.
pub(super) fn path(file: &str) -> Option<PathBuf> {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    folders.map(|folder| folder.join(file)).find(|path| path.exists())
}

/// Puts `effects`, one for each line that is not empty, into the script that begins at or below `line` of a file.
pub(super) fn update(path: &Path, line: u32, script: &str, effects: &[String]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot be rewritten: {error}");
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    file.lock().map_err(failed)?;
    let mut source = String::new();
    file.read_to_string(&mut source).map_err(failed)?;
    let updated = with_script(&source, line, script, effects)
        .ok_or("is not rewritten, for this script is no literal here")?;
    file.rewind().map_err(failed)?;
    file.write_all(updated.as_bytes()).map_err(failed)?;
    file.set_len(updated.len() as u64).map_err(failed)
}

/// The same source with the script's arrows set, if the script is there.
fn with_script(source: &str, line: u32, script: &str, effects: &[String]) -> Option<String> {
    let call: usize = source.split_inclusive('\n').take(line as usize - 1).map(str::len).sum();
    let literal = format!("\"{}\"", escaped(script));
    let begin = call + source[call..].find(&literal)?;
    let updated = format!("\"{}\"", escaped(&with_effects(script, effects)));
    Some([&source[..begin], &updated, &source[begin + literal.len()..]].concat())
}

/// Lines that are right stay as they are, with their white space.
fn with_effects(script: &str, effects: &[String]) -> String {
    let mut effects = effects.iter();
    let mut updated = String::new();
    for line in script.split_inclusive('\n') {
        let text = line.trim_end();
        let effect = if text.trim_start().is_empty() { None } else { effects.next() };
        let (input, expected) = text.split_once("->").unwrap_or((text, ""));
        match effect {
            Some(effect) if effect != expected.trim() => {
                updated.push_str(input.trim_end());
                if !effect.is_empty() {
                    // White space in front of an arrow may be there for the looks of it.
                    let space = &input[input.trim_end().len()..];
                    let space = if space.is_empty() { " " } else { space };
                    updated.push_str(&format!("{space}-> {effect}"));
                }
                updated.push_str(&line[text.len()..]);
            }
            _ => updated.push_str(line),
        }
    }
    updated
}

/// As it is written in a literal.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process, thread};

    use super::{escaped, update};
    use crate::script::play;

    /// Three scripts: one is right, one lacks arrows and has wrong ones, and one comes twice.
    const SOURCE: &str = r#"//! Tests.

#[test]
fn right() {
    check(
        "
        0 r register f slots=2 -> open F, r: registered

        1 a invoke f -> dispatch a#1 to F for 1000
        ",
    );
}

#[test]
fn wrong() {
    check(
        "
        0 r register f slots=1   -> open G, \"r\": registered
        0 a invoke f
        1 b invoke f -> dispatch b#1 to F for 1000
        2 answer a#1 ok -> a: success a
        ",
    );
}

#[test]
fn twice() {
    check("0 a invoke f");
    check("0 a invoke f");
}
"#;
    const RIGHT: &str = r#"//! Tests.

#[test]
fn right() {
    check(
        "
        0 r register f slots=2 -> open F, r: registered

        1 a invoke f -> dispatch a#1 to F for 1000
        ",
    );
}

#[test]
fn wrong() {
    check(
        "
        0 r register f slots=1   -> open F, r: registered
        0 a invoke f -> dispatch a#1 to F for 1000
        1 b invoke f
        2 answer a#1 ok -> note 0+2 of 2 ms, a: success a, dispatch b#1 to F for 999
        ",
    );
}

#[test]
fn twice() {
    check("0 a invoke f -> a: refused FunctionNotFound");
    check("0 a invoke f -> a: refused FunctionNotFound");
}
"#;

    /// Lines and texts of the scripts in a source, as the compiler would give them.
    fn scripts(source: &str) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        for (index, _) in source.match_indices("check(") {
            let line = source[..index].lines().count() as u32;
            let (_, rest) = source[index..].split_once('"').expect("a literal");
            let unescaped = rest.replace("\\\"", "\u{0}");
            let (script, _) = unescaped.split_once('"').expect("its end");
            found.push((line, script.replace('\u{0}', "\"")));
        }
        found
    }

    #[test]
    fn wrong_expectations_are_rewritten_and_right_ones_stay() {
        let path = env::temp_dir().join(format!("scripts-{}.rs", process::id()));
        fs::write(&path, SOURCE).expect("a file");
        // All at once, as tests run: none of them may undo another.
        thread::scope(|scope| {
            for (line, script) in scripts(SOURCE) {
                let path = &path;
                scope.spawn(move || {
                    update(path, line, &script, &play(&script).effects).expect("the script is there");
                });
            }
        });
        let updated = fs::read_to_string(&path).expect("the file");
        assert_eq!(updated, RIGHT);
        for (line, script) in scripts(&updated) {
            let played = play(&script);
            assert!(played.is_expected, "{}", played.log);
            update(&path, line, &script, &played.effects).expect("the script is there");
        }
        assert_eq!(fs::read_to_string(&path).expect("the file"), RIGHT, "another run changes nothing");
        fs::remove_file(&path).expect("it is removed");
    }

    #[test]
    fn a_script_that_is_in_no_file_is_left_alone() {
        let path = env::temp_dir().join(format!("generated-{}.rs", process::id()));
        fs::write(&path, SOURCE).expect("a file");
        update(&path, 1, "0 b invoke f", &[String::from("b: refused FunctionNotFound")])
            .expect_err("it is not there");
        assert_eq!(fs::read_to_string(&path).expect("the file"), SOURCE);
        fs::remove_file(&path).expect("it is removed");
    }

    #[test]
    fn a_literal_escapes_what_would_end_it() {
        assert_eq!(escaped(r#"says "no\""#), r#"says \"no\\\""#);
    }
}
