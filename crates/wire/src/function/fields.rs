//! Reads the members of a JSON object and collects what is wrong with them.
//!
//! Every reader answers `None` both for an absent (or null) member and for a wrong one; the wrong one has then
//! been reported. So a caller reads all members first and decides afterwards, and a user gets every violation
//! in one answer. Nothing is coerced: `"5"` is not a number, `5` is not a string, `5.0` is not an integer.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde_json::{Map, Value};

/// Violations that are listed; the rest is only counted, so that an answer stays readable whatever was sent.
const LISTED_MAX: usize = 100;

/// Characters of a user's own words (a key, a value) that a message repeats.
const QUOTED_MAX: usize = 64;

/// Everything wrong with a body so far.
#[derive(Debug, Default)]
pub(super) struct Violations {
    listed: Vec<String>,
    unlisted: usize,
}

impl Violations {
    pub(super) fn push(&mut self, field: &str, message: &str) {
        if self.listed.len() < LISTED_MAX {
            self.listed.push(format!("{field}: {message}"));
        } else {
            self.unlisted += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// One line per violation.
    pub(super) fn into_lines(mut self) -> Vec<String> {
        if self.unlisted > 0 {
            self.listed.push(format!("body: {} more violations are not listed", self.unlisted));
        }
        self.listed
    }
}

/// A closed set of words. The order is the one messages list them in.
pub(super) type Choices<T> = &'static [(&'static str, T)];

/// One JSON object and where it is in the body.
pub(super) struct Fields<'a> {
    /// `""` at the top, `scalingConfig.` inside it.
    prefix: String,
    members: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(members: &'a Map<String, Value>) -> Self {
        Fields { prefix: String::new(), members }
    }

    /// The member, unless it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// A member's name as messages give it.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn text(&self, name: &str, violations: &mut Violations) -> Option<&'a str> {
        text(&self.path(name), self.get(name)?, violations)
    }

    /// A text with at least one character that is not white space.
    pub(super) fn text_not_blank(&self, name: &str, violations: &mut Violations) -> Option<&'a str> {
        let text = self.text(name, violations)?;
        if text.trim().is_empty() {
            violations.push(&self.path(name), "must not be blank");
            return None;
        }
        Some(text)
    }

    pub(super) fn integer(
        &self,
        name: &str,
        range: RangeInclusive<i64>,
        violations: &mut Violations,
    ) -> Option<i64> {
        match integer(self.get(name)?, &range) {
            Ok(value) => Some(value),
            Err(message) => {
                violations.push(&self.path(name), &message);
                None
            }
        }
    }

    /// An integer of 32 bits.
    pub(super) fn integer_u32(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
        violations: &mut Violations,
    ) -> Option<u32> {
        let range = i64::from(*range.start())..=i64::from(*range.end());
        self.integer(name, range, violations).and_then(|value| u32::try_from(value).ok())
    }

    pub(super) fn number(&self, name: &str, violations: &mut Violations) -> Option<f64> {
        let number = self.get(name)?.as_f64();
        if number.is_none() {
            violations.push(&self.path(name), "must be a number");
        }
        number
    }

    pub(super) fn boolean(&self, name: &str, violations: &mut Violations) -> Option<bool> {
        let value = self.get(name)?.as_bool();
        if value.is_none() {
            violations.push(&self.path(name), "must be true or false");
        }
        value
    }

    pub(super) fn choice<T: Copy>(
        &self,
        name: &str,
        choices: Choices<T>,
        violations: &mut Violations,
    ) -> Option<T> {
        let word = self.get(name)?.as_str();
        let found = choices.iter().find(|(known, _)| Some(*known) == word);
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|(known, _)| *known).collect();
            violations.push(&self.path(name), &format!("must be one of {}", words.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    pub(super) fn object(&self, name: &str, violations: &mut Violations) -> Option<Fields<'a>> {
        object(&self.path(name), self.get(name)?, violations)
    }

    /// The elements of an array, each with its path.
    pub(super) fn elements(
        &self,
        name: &str,
        violations: &mut Violations,
    ) -> Option<Vec<(String, &'a Value)>> {
        let path = self.path(name);
        let Value::Array(elements) = self.get(name)? else {
            violations.push(&path, "must be an array");
            return None;
        };
        Some(elements.iter().enumerate().map(|(index, value)| (format!("{path}[{index}]"), value)).collect())
    }

    /// An array of strings.
    pub(super) fn texts(&self, name: &str, violations: &mut Violations) -> Option<Vec<String>> {
        let elements = self.elements(name, violations)?;
        let read = |(path, value): (String, &Value)| text(&path, value, violations).map(str::to_owned);
        Some(elements.into_iter().filter_map(read).collect())
    }

    /// An object with strings as values. `key_allowed` and the pattern it stands for decide about keys.
    pub(super) fn text_map(
        &self,
        name: &str,
        key_allowed: fn(&str) -> bool,
        key_pattern: &str,
        violations: &mut Violations,
    ) -> Option<BTreeMap<String, String>> {
        let fields = self.object(name, violations)?;
        let mut map = BTreeMap::new();
        for (key, value) in fields.members {
            let path = fields.path(&quote(key));
            if !key_allowed(key) {
                violations.push(&path, &format!("the key must match {key_pattern}"));
            }
            if let Some(text) = text(&path, value, violations) {
                map.insert(key.clone(), text.to_owned());
            }
        }
        Some(map)
    }
}

/// `value` as an object at `path`.
pub(super) fn object<'a>(path: &str, value: &'a Value, violations: &mut Violations) -> Option<Fields<'a>> {
    let Value::Object(members) = value else {
        violations.push(path, "must be an object");
        return None;
    };
    Some(Fields { prefix: format!("{path}."), members })
}

/// The start of a user's own words, safe to show on one line.
pub(super) fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTED_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED_MAX).is_some() {
        quoted.push('…');
    }
    quoted
}

fn text<'a>(path: &str, value: &'a Value, violations: &mut Violations) -> Option<&'a str> {
    let Value::String(text) = value else {
        violations.push(path, "must be a string");
        return None;
    };
    // No program can be given one, and finding out at the first call would be late.
    if text.contains('\0') {
        violations.push(path, "must not contain a NUL character");
        return None;
    }
    Some(text)
}

fn integer(value: &Value, range: &RangeInclusive<i64>) -> Result<i64, String> {
    /// From here on serde_json gives an integer as a float: below, a float was written as one.
    const FLOAT_INTEGER_MIN: f64 = 9_223_372_036_854_775_808.0;
    let too_small = || format!("must be greater than or equal to {}", range.start());
    let too_large = || format!("must be less than or equal to {}", range.end());
    let Value::Number(number) = value else { return Err("must be an integer".to_owned()) };
    match (number.as_i64(), number.as_f64()) {
        (Some(value), _) if value < *range.start() => Err(too_small()),
        (Some(value), _) if value > *range.end() => Err(too_large()),
        (Some(value), _) => Ok(value),
        (None, Some(float)) if float >= FLOAT_INTEGER_MIN => Err(too_large()),
        (None, Some(float)) if float <= -FLOAT_INTEGER_MIN => Err(too_small()),
        (None, _) => Err("must be an integer".to_owned()),
    }
}
