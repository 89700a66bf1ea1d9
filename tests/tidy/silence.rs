//! No step of a shard ends in silence without a reason.

use crate::{assert_none, sources};

/// Where the steps of a shard are.
const SHARD: &str = "shards/core/src/shard/";

#[test]
fn a_step_that_ends_early_says_why_or_counts_as_impossible() {
    let sources = sources();
    let shard = sources.iter().filter(|source| source.is_program() && source.path.starts_with(SHARD));
    assert_none(
        "what is missing here may be stale: say why in a comment before the line or within the block; or it \
         cannot be missing: return self.impossible()",
        shard.flat_map(|source| {
            let lines: Vec<&str> = source.lines_without_tests().map(|(_, line)| line.trim()).collect();
            let silent = (0..lines.len()).filter(|index| ends_in_silence(&lines, *index)).collect::<Vec<_>>();
            silent.into_iter().map(|index| format!("{}:{}", source.path, index + 1))
        }),
    );
}

/// Whether the `else` of a `let` in this line returns nothing, without a comment.
fn ends_in_silence(lines: &[&str], index: usize) -> bool {
    let line = lines[index];
    let returns_here = line.ends_with("else { return };");
    // With a comment in the block, the next line is that.
    let returns_next = line.ends_with("else {") && lines.get(index + 1) == Some(&"return;");
    let start = lines[..=index].iter().rposition(|line| line.starts_with("let "));
    let is_explained = start.is_some_and(|start| start > 0 && lines[start - 1].starts_with("// "));
    let is_else_of_if = line.starts_with("} else");
    (returns_here || returns_next) && !is_else_of_if && !is_explained
}

#[test]
fn a_silent_return_is_told_from_one_with_a_reason() {
    for (text, silent) in [
        ("let Some(one) = two else { return };", true),
        ("\nlet Some(one) = two\n    .three()\nelse {\n    return;\n};", true),
        ("let Some(one) = two else {\n    return;\n};", true),
        ("/// Not a reason.\nlet Some(one) = two else { return };", true),
        ("// A reason.\nlet Some(one) = two else { return };\nlet Some(three) = four else { return };", true),
        ("// A reason.\nlet Some(one) = two else { return };", false),
        ("// A reason.\nlet Some(one) = two\n    .three()\nelse {\n    return;\n};", false),
        ("let Some(one) = two else {\n    // A reason.\n    return;\n};", false),
        ("let Some(one) = two else { return self.impossible() };", false),
        ("let Some(one) = two else { return None };", false),
        ("let Some(one) = two else {\n    fx.reply(ticket, answer);\n    return;\n};", false),
    ] {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!((0..lines.len()).any(|index| ends_in_silence(&lines, index)), silent, "{text}");
    }
}
