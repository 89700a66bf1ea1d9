//! The text being written: families, samples, escaping. Knows the format 0.0.4, not what is in it.

use std::fmt::{Display, Write};

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
    /// Quantiles, a sum and a count.
    Summary,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        }
    }
}

/// Labels of a series, as they are written: made once, used for many samples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// No labels.
    pub const NONE: Labels = Labels(String::new());

    /// These labels, in this order.
    pub fn of(pairs: &[(&str, &str)]) -> Labels {
        let mut labels = Labels::NONE;
        for (label, value) in pairs {
            let comma = if labels.0.is_empty() { "" } else { "," };
            labels.0.push_str(comma);
            labels.0.push_str(label);
            labels.0.push_str("=\"");
            escape(value, &mut labels.0);
            labels.0.push('"');
        }
        labels
    }
}

/// In a label's value, three characters stand for something else.
fn escape(value: &str, text: &mut String) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            letter => text.push(letter),
        }
    }
}

/// See the module. Samples belong to the family before them.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// An empty text with room for this many bytes.
    pub fn with_capacity(bytes: usize) -> Exposition {
        Exposition { text: String::with_capacity(bytes) }
    }

    /// Length so far, in bytes.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.text
    }

    /// Starts a family. `help` is one line.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = kind.word();
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One sample.
    pub fn sample(&mut self, name: &str, labels: &Labels, value: impl Display) {
        self.plain(name, "", labels, value);
    }

    /// One sample with one label more, whose value needs no escaping; the empty label is none.
    pub fn sample_with(&mut self, name: &str, labels: &Labels, more: (&str, &str), value: impl Display) {
        self.line(name, "", labels, (!more.0.is_empty()).then_some(more), value);
    }

    /// A histogram: upper bounds, numbers up to each of them and, last, of all; the sum.
    pub fn histogram(
        &mut self,
        name: &str,
        labels: &Labels,
        bounds: impl Iterator<Item = f64>,
        cumulative: &[u64],
        sum: f64,
    ) {
        let count = cumulative.last().copied().unwrap_or(0);
        for (bound, count) in bounds.zip(cumulative) {
            self.line(name, "_bucket", labels, Some(("le", bound)), count);
        }
        self.line(name, "_bucket", labels, Some(("le", "+Inf")), count);
        self.plain(name, "_sum", labels, sum);
        self.plain(name, "_count", labels, count);
    }

    /// A summary: quantiles (which part, value), sum and count.
    pub fn summary(
        &mut self,
        name: &str,
        labels: &Labels,
        quantiles: impl Iterator<Item = (f64, f64)>,
        sum: f64,
        count: u64,
    ) {
        for (part, value) in quantiles {
            self.line(name, "", labels, Some(("quantile", part)), value);
        }
        self.plain(name, "_sum", labels, sum);
        self.plain(name, "_count", labels, count);
    }

    fn plain(&mut self, name: &str, suffix: &str, labels: &Labels, value: impl Display) {
        self.line(name, suffix, labels, None::<(&str, &str)>, value);
    }

    fn line<V: Display>(
        &mut self,
        name: &str,
        suffix: &str,
        labels: &Labels,
        more: Option<(&str, V)>,
        value: impl Display,
    ) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        if !labels.0.is_empty() || more.is_some() {
            self.text.push('{');
            self.text.push_str(&labels.0);
            if let Some((label, value)) = more {
                let comma = if labels.0.is_empty() { "" } else { "," };
                self.write(format_args!("{comma}{label}=\"{value}\""));
            }
            self.text.push('}');
        }
        self.write(format_args!(" {value}\n"));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = self.text.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_form_of_the_format() {
        let mut text = Exposition::default();
        text.family("f", Kind::Gauge, "help");
        text.sample("f", &Labels::NONE, 1.0);
        text.sample("f", &Labels::of(&[("a", "x\"y\\z\n"), ("b", "ü")]), f64::NAN);
        text.sample_with("f", &Labels::NONE, ("c", "d"), 2);
        text.sample_with("f", &Labels::of(&[("a", "b")]), ("", ""), 0.5);
        text.histogram("h", &Labels::of(&[("a", "b")]), [0.5].into_iter(), &[1, 3], 9.5);
        text.summary("s", &Labels::NONE, [(0.5, 1.5)].into_iter(), 2.0, 2);
        let expected = concat!(
            "# HELP f help\n# TYPE f gauge\n",
            "f 1\n",
            "f{a=\"x\\\"y\\\\z\\n\",b=\"ü\"} NaN\n",
            "f{c=\"d\"} 2\n",
            "f{a=\"b\"} 0.5\n",
            "h_bucket{a=\"b\",le=\"0.5\"} 1\nh_bucket{a=\"b\",le=\"+Inf\"} 3\n",
            "h_sum{a=\"b\"} 9.5\nh_count{a=\"b\"} 3\n",
            "s{quantile=\"0.5\"} 1.5\ns_sum 2\ns_count 2\n",
        );
        assert_eq!(text.finish(), expected);
    }
}
