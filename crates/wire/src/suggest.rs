//! "Did you mean": the known name that a mistyped one is nearest to.

/// The nearest of `known`, when it is near enough that a typing mistake explains the difference.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let allowed = (name.len() / 4).max(2);
    let by_distance = known.clone().map(|candidate| (distance(name, candidate), candidate));
    match by_distance.min_by_key(|(distance, _)| *distance) {
        Some((distance, candidate)) if distance <= allowed => Some(candidate),
        _ => only_with_leaf(name, known),
    }
}

/// The only known name with the same last part, when the group is what went wrong.
pub fn only_with_leaf<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let leaf = |name: &str| name.rsplit('.').next().unwrap_or_default().replace('_', "-");
    let wanted = leaf(name);
    let mut matching = known.filter(|candidate| leaf(candidate) == wanted);
    let found = matching.next()?;
    if matching.next().is_none() { Some(found) } else { None }
}

/// Levenshtein distance: insertions, deletions and replacements of characters.
pub fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, a) in from.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (column, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("port", "prot", 2), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn suggestions() {
        let known = ["server.port", "server.host", "management.port", "data-dir", "limits.request-bytes"];
        for (name, expected) in [
            ("server.prot", Some("server.port")),
            ("data_dir", Some("data-dir")),
            ("request-bytes", Some("limits.request-bytes")),
            ("port", None),
            ("colour.of.the.sky", None),
        ] {
            assert_eq!(nearest(name, known.iter().copied()), expected, "{name}");
        }
    }
}
