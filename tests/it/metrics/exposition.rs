//! An exposition, read strictly: whatever is not the text format 0.0.4 ends the test.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::Server;

/// A time series at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// Name, with the suffix of a bucket, a sum or a count.
    pub(super) name: String,
    /// Labels in their order, without their escapes.
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Sample {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }

    /// What names the series: with the labels but this one.
    pub(super) fn series_without(&self, label: &str) -> (String, Vec<(String, String)>) {
        let labels = self.labels.iter().filter(|(other, _)| other != label);
        (self.name.clone(), labels.cloned().collect())
    }
}

/// A family and its samples, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) help: String,
    pub(super) samples: Vec<Sample>,
}

/// Everything that a scrape tells.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Exposition(pub(super) Vec<Family>);

impl Exposition {
    pub(super) fn of(server: &Server) -> Exposition {
        Exposition::parse(&server.manage("/actuator/prometheus").text())
    }

    pub(super) fn parse(text: &str) -> Exposition {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut families: Vec<Family> = Vec::new();
        let mut names = BTreeSet::new();
        let mut series = BTreeSet::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and words");
                let kind = lines
                    .next()
                    .and_then(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name))
                    .map(str::trim);
                let kind = kind.unwrap_or_else(|| panic!("no type follows: {line}"));
                assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
                assert!(is_name(name) && !help.is_empty(), "{line}");
                assert!(names.insert(name.to_owned()), "a family in two places: {line}");
                let (name, kind, help) = (name.to_owned(), kind.to_owned(), help.to_owned());
                families.push(Family { name, kind, help, samples: Vec::new() });
                continue;
            }
            let family = families.last_mut().unwrap_or_else(|| panic!("no family: {line}"));
            let sample = parse_sample(line);
            let suffix = sample.name.strip_prefix(&family.name);
            let suffix = suffix.unwrap_or_else(|| panic!("outside its family: {line}"));
            let (suffixes, label): (&[&str], Option<&str>) = match family.kind.as_str() {
                "histogram" => (&["_bucket", "_sum", "_count"], Some("le").filter(|_| suffix == "_bucket")),
                "summary" => (&["", "_sum", "_count"], Some("quantile").filter(|_| suffix.is_empty())),
                _ => (&[""], None),
            };
            assert!(suffixes.contains(&suffix), "{line}");
            for special in ["le", "quantile"] {
                assert_eq!(sample.label(special).is_some(), label == Some(special), "{line}");
            }
            assert!(series.insert(line.rsplit_once(' ').expect("a value").0), "twice: {line}");
            family.samples.push(sample);
        }
        Exposition(families)
    }

    pub(super) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter().flat_map(|family| &family.samples)
    }

    /// Values of a function's series that have no other label, by name.
    pub(super) fn of_function(&self, function: &str) -> BTreeMap<&str, f64> {
        let own = self
            .samples()
            .filter(|sample| sample.labels.len() == 1 && sample.label("function") == Some(function));
        own.map(|sample| (sample.name.as_str(), sample.value)).collect()
    }

    /// The value of the series with this name and these labels, in any order.
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let is_it = |sample: &&Sample| {
            let all = labels.iter().all(|(label, value)| sample.label(label) == Some(value));
            sample.name == name && sample.labels.len() == labels.len() && all
        };
        self.samples().find(is_it).map(|sample| sample.value)
    }

    /// Everything that holds for every exposition: histograms and summaries are whole, counters are not negative.
    #[track_caller]
    pub(super) fn check(&self) {
        for family in &self.0 {
            match family.kind.as_str() {
                "histogram" => check_histogram(family),
                "summary" => check_summary(family),
                "counter" => {
                    assert!(family.name.ends_with("_total"), "{}", family.name);
                    assert!(family.samples.iter().all(|sample| sample.value >= 0.0), "{family:?}");
                }
                _ => assert!(family.samples.iter().all(|sample| sample.value.is_finite()), "{family:?}"),
            }
        }
        assert_eq!(self.value("nanofaas_accounting_drift", &[]), Some(0.0));
    }

    /// Everything that only grows has grown, if anything.
    #[track_caller]
    pub(super) fn check_after(&self, earlier: &Exposition) {
        for family in &earlier.0 {
            let grows = |sample: &&Sample| family.kind != "gauge" && sample.label("quantile").is_none();
            for before in family.samples.iter().filter(grows) {
                let after = self
                    .samples()
                    .find(|after| (&after.name, &after.labels) == (&before.name, &before.labels));
                let after = after.unwrap_or_else(|| panic!("gone: {before:?}"));
                assert!(after.value >= before.value, "{before:?}, then {after:?}");
            }
        }
    }
}

/// `name{label="value",…} value`.
fn parse_sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels: Vec<(String, String)> = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(label) && !label.contains(':'), "{line}");
            assert!(labels.iter().all(|(other, _)| other != label), "twice the same label: {line}");
            let (value, after) = unescape(quoted).unwrap_or_else(|| panic!("{line}"));
            labels.push((label.to_owned(), value));
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => break rest = after.strip_prefix('}').unwrap_or_else(|| panic!("{line}")),
            }
        }
    }
    let value =
        rest.strip_prefix(' ').and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    Sample { name: name.to_owned(), labels, value }
}

/// The value in front of the closing quote, and what is behind it.
fn unescape(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((index, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[index + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                letter @ ('"' | '\\') => letter,
                _ => return None,
            }),
            letter => value.push(letter),
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphabetic() || "_:".contains(letter);
    name.starts_with(is_letter) && name.chars().all(|letter| is_letter(letter) || letter.is_ascii_digit())
}

/// Counts grow with their bounds, the last bucket is the count, and there is a sum.
#[track_caller]
fn check_histogram(family: &Family) {
    let mut groups: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in family.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let bound = sample.label("le").expect("checked").parse().expect("a number");
        groups.entry(sample.series_without("le").1).or_default().push((bound, sample.value));
    }
    for (labels, buckets) in groups {
        assert!(
            buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1),
            "{labels:?}: {buckets:?}"
        );
        let last = buckets.last().expect("no group is empty");
        let value = |suffix: &str| {
            let name = format!("{}{suffix}", family.name);
            let is_it = |sample: &&Sample| sample.name == name && sample.labels == labels;
            family.samples.iter().find(is_it).map(|sample| sample.value)
        };
        assert_eq!((last.0, Some(last.1)), (f64::INFINITY, value("_count")), "{} {labels:?}", family.name);
        assert!(value("_sum").is_some_and(|sum| sum >= 0.0), "{} {labels:?}", family.name);
    }
}

/// Quantiles grow with their part, and are at most the longest, which is another family.
#[track_caller]
fn check_summary(family: &Family) {
    let mut groups: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in family.samples.iter().filter(|sample| sample.name == family.name) {
        let part = sample.label("quantile").expect("checked").parse().expect("a number");
        groups.entry(sample.series_without("quantile").1).or_default().push((part, sample.value));
    }
    for (labels, quantiles) in groups {
        assert_eq!(
            quantiles.iter().map(|(part, _)| *part).collect::<Vec<_>>(),
            [0.5, 0.95, 0.99],
            "{labels:?}"
        );
        assert!(quantiles.is_sorted_by(|one, next| one.1 <= next.1), "{labels:?}: {quantiles:?}");
    }
}
