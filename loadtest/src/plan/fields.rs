//! Reads TOML tables field by field. Every mistake is collected with its line, unknown fields are mistakes too.

use std::{
    cell::{Cell, RefCell},
    fmt,
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::quantity;

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Document<'a> {
    text: &'a str,
    mistakes: RefCell<Vec<(usize, String)>>,
}

/// A table of it.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    document: &'a Document<'a>,
    table: &'a DeTable<'a>,
    /// What it is called in messages; empty at the top.
    path: String,
    start: usize,
    /// Which fields were asked for, in the order of the table.
    known: RefCell<Vec<&'static str>>,
    is_open: Cell<bool>,
}

/// A field's value and its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) value: &'a DeValue<'a>,
    start: usize,
    key: &'static str,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str) -> Document<'a> {
        Document { text, mistakes: RefCell::default() }
    }

    pub(super) fn top(&'a self, table: &'a DeTable<'a>) -> Fields<'a> {
        Fields::new(self, table, String::new(), 0)
    }

    /// Adds a mistake at an offset.
    pub(super) fn add(&self, start: usize, mistake: impl fmt::Display) {
        let line = self.text.get(..start).unwrap_or(self.text).matches('\n').count() + 1;
        self.mistakes.borrow_mut().push((line, format!("line {line}: {mistake}")));
    }

    /// Every mistake, by line.
    pub(super) fn mistakes(self) -> Vec<String> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort();
        mistakes.into_iter().map(|(_, mistake)| mistake).collect()
    }
}

impl<'a> Fields<'a> {
    fn new(document: &'a Document<'a>, table: &'a DeTable<'a>, path: String, start: usize) -> Fields<'a> {
        Fields { document, table, path, start, known: RefCell::default(), is_open: Cell::new(false) }
    }

    /// The field, if it is there.
    pub(super) fn field(&self, key: &'static str) -> Option<Field<'a>> {
        self.known.borrow_mut().push(key);
        let value = self.table.get(key)?;
        Some(Field { value: value.get_ref(), start: value.span().start, key })
    }

    /// Adds a mistake about a field.
    pub(super) fn wrong(&self, field: &Field<'_>, mistake: impl fmt::Display) {
        let place = self.place(field.key);
        self.document.add(field.start, format!("{place}: {mistake}"));
    }

    /// Adds a mistake about the table as a whole.
    pub(super) fn wrong_here(&self, mistake: impl fmt::Display) {
        let place = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        self.document.add(self.start, format!("{place}{mistake}"));
    }

    /// A text.
    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        let field = self.field(key)?;
        self.some(&field, field.value.as_str().map(str::to_owned), "a text")
    }

    /// A number that is not negative.
    pub(super) fn number(&self, key: &'static str) -> Option<f64> {
        let field = self.field(key)?;
        let number = number(field.value).filter(|number| number.is_finite() && *number >= 0.0);
        self.some(&field, number, "a number from 0 on")
    }

    /// A whole number that is not negative.
    pub(super) fn count<N: TryFrom<u64>>(&self, key: &'static str) -> Option<N> {
        let field = self.field(key)?;
        let count = integer(field.value).and_then(|count| u64::try_from(count).ok()?.try_into().ok());
        self.some(&field, count, "a whole number from 0 on")
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let field = self.field(key)?;
        self.some(&field, field.value.as_bool(), "true or false")
    }

    /// A duration as text.
    pub(super) fn duration(&self, key: &'static str) -> Option<Duration> {
        let field = self.field(key)?;
        self.parsed(&field, quantity::duration)
    }

    /// One of several names.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let field = self.field(key)?;
        let choice = field.value.as_str().and_then(|text| choices.iter().find(|(name, _)| *name == text));
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.some(&field, choice.map(|(_, choice)| *choice), &format!("one of {}", names.join(", ")))
    }

    /// A text that means something.
    pub(super) fn parsed<T>(&self, field: &Field<'_>, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        let Some(text) = field.value.as_str() else { return self.some(field, None, "a text") };
        parse(text).map_err(|error| self.wrong(field, error)).ok()
    }

    /// A table.
    pub(super) fn table(&self, key: &'static str) -> Option<Fields<'a>> {
        let field = self.field(key)?;
        let table = field.value.as_table().map(|table| self.below(table, self.place(key), field.start));
        self.some(&field, table, "a table")
    }

    /// A list of tables; empty when it is not there.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Fields<'a>> {
        let Some(field) = self.field(key) else { return Vec::new() };
        let Some(values) = field.value.as_array() else {
            self.some(&field, None::<()>, "a list of tables");
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, value) in values.iter().enumerate() {
            match value.get_ref().as_table() {
                Some(table) => {
                    let path = format!("{}[{index}]", self.place(key));
                    tables.push(self.below(table, path, value.span().start));
                }
                None => self.wrong(&field, "must be a list of tables"),
            }
        }
        tables
    }

    /// All fields, whatever they are called; none is unknown then.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, &'a Spanned<DeValue<'a>>)> + use<'a> {
        self.is_open.set(true);
        self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), value))
    }

    /// A table that stands in a value of this one.
    pub(super) fn below(&self, table: &'a DeTable<'a>, path: String, start: usize) -> Fields<'a> {
        Fields::new(self.document, table, path, start)
    }

    /// What a field of this table is called in messages.
    pub(super) fn place(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Reports the fields that nobody asked for.
    pub(super) fn finish(self) {
        if self.is_open.get() {
            return;
        }
        let known = self.known.borrow();
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let place = self.place(name);
                let list = known.join(", ");
                self.document.add(key.span().start, format!("{place}: unknown; there are {list}"));
            }
        }
    }

    fn some<T>(&self, field: &Field<'_>, value: Option<T>, expected: &str) -> Option<T> {
        if value.is_none() {
            self.wrong(field, format!("must be {expected}"));
        }
        value
    }
}

/// A number, whole or not.
pub(super) fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        value => integer(value).map(|number| number as f64),
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
