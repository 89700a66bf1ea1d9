//! The dashboard and the alert rules against a running server: what they ask for exists.
//!
//! PromQL is taken apart just far enough to tell names of metrics, labels and the rest apart.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use super::{document::described, exposition::Exposition, golden};

/// Labels that Prometheus adds when it scrapes.
const SCRAPED: [&str; 2] = ["instance", "job"];
/// The one metric that is not ours.
const UP: &str = "up";

/// Operators that are words, and words in front of a list of labels.
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    /// Metrics, with the labels that they are selected by.
    metrics: Vec<(String, BTreeSet<String>)>,
    /// Labels that the result is grouped or matched by.
    grouped: BTreeSet<String>,
    functions: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Sign(char),
}

/// Words and signs; texts in quotes, numbers, ranges and variables are left out.
fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut letters = expression.chars().peekable();
    while let Some(letter) = letters.next() {
        let is_word = |letter: &char| letter.is_ascii_alphanumeric() || "_:".contains(*letter);
        match letter {
            '"' => drop(letters.by_ref().find(|letter| *letter == '"').expect("the end of a text")),
            '[' => drop(letters.by_ref().find(|letter| *letter == ']').expect("the end of a range")),
            letter if is_word(&letter) => {
                let mut word = letter.to_string();
                while let Some(more) = letters.next_if(is_word) {
                    word.push(more);
                }
                if !letter.is_ascii_digit() {
                    tokens.push(Token::Word(word));
                }
            }
            letter if letter.is_whitespace() => {}
            letter => tokens.push(Token::Sign(letter)),
        }
    }
    tokens
}

fn parse(expression: &str) -> Query {
    let tokens = tokens(expression);
    let mut query = Query::default();
    let mut index = 0;
    let is_grouping = |token: Option<&Token>| matches!(token, Some(Token::Word(word)) if GROUPINGS.contains(&word.as_str()));
    // The words up to a closing sign, from behind the opening one.
    let list = |index: &mut usize, end: char| -> BTreeSet<String> {
        let start = *index;
        let length =
            tokens[start..].iter().position(|token| *token == Token::Sign(end)).expect("the end of a list");
        *index = start + length + 1;
        let words = tokens[start..start + length].iter();
        words
            .filter_map(|token| if let Token::Word(word) = token { Some(word.clone()) } else { None })
            .collect()
    };
    while let Some(token) = tokens.get(index) {
        index += 1;
        let Token::Word(word) = token else { continue };
        let next = tokens.get(index);
        if is_grouping(Some(token)) {
            assert_eq!(next, Some(&Token::Sign('(')), "{expression}");
            index += 1;
            query.grouped.extend(list(&mut index, ')'));
        } else if next == Some(&Token::Sign('(')) || is_grouping(next) {
            query.functions.insert(word.clone());
        } else if next == Some(&Token::Sign('{')) {
            index += 1;
            let labels = list(&mut index, '}');
            query.metrics.push((word.clone(), labels));
        } else if !OPERATORS.contains(&word.as_str()) {
            query.metrics.push((word.clone(), BTreeSet::new()));
        }
    }
    query
}

/// Words in `{{…}}` of a legend, or behind `$labels.` of an annotation.
fn labels_shown(text: &str) -> BTreeSet<String> {
    let inside = text.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim()));
    inside
        .filter_map(|inside| match inside.strip_prefix("$labels.") {
            Some(label) => Some(label.to_owned()),
            None if inside.starts_with('$') => None,
            None => Some(inside.to_owned()),
        })
        .collect()
}

/// What a server offers to queries.
struct Offer {
    exposition: Exposition,
}

impl Offer {
    /// The labels of a series; `None` when no series has this name.
    fn labels(&self, name: &str) -> Option<BTreeSet<String>> {
        if name == UP {
            return Some(BTreeSet::new());
        }
        let described = described();
        self.exposition.0.iter().find_map(|family| {
            let (suffixes, further): (&[&str], _) = match family.kind.as_str() {
                "histogram" => (&["_bucket", "_sum", "_count"], "le"),
                "summary" => (&["", "_sum", "_count"], "quantile"),
                _ => (&[""], ""),
            };
            let suffix = name.strip_prefix(family.name.as_str())?;
            suffixes.contains(&suffix).then(|| {
                let mut labels = described[&family.name].labels.clone();
                if suffix == "_bucket" || suffix.is_empty() && !further.is_empty() {
                    labels.insert(further.to_owned());
                }
                labels
            })
        })
    }

    /// Every metric of the expression exists and has the labels that it is selected by; what the result is grouped by
    /// or shows is a label of one of them.
    #[track_caller]
    fn check(&self, expression: &str, shown: &BTreeSet<String>) -> Query {
        let query = parse(expression);
        assert!(!query.metrics.is_empty(), "no metric in {expression}");
        let mut known: BTreeSet<String> = SCRAPED.map(str::to_owned).into();
        for (name, selected) in &query.metrics {
            let labels = self.labels(name).unwrap_or_else(|| panic!("no metric {name}: {expression}"));
            let unknown: Vec<_> = selected.iter().filter(|label| !labels.contains(*label)).collect();
            assert!(
                unknown.iter().all(|label| SCRAPED.contains(&label.as_str())),
                "{unknown:?} of {name}: {expression}"
            );
            known.extend(labels);
        }
        let unknown: Vec<_> = query.grouped.union(shown).filter(|label| !known.contains(*label)).collect();
        assert!(unknown.is_empty(), "no labels {unknown:?}: {expression}");
        query
    }
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(path).expect("a file of the project")
}

#[test]
fn the_dashboard_asks_for_what_exists() {
    let offer = Offer { exposition: Exposition::of(&golden::scenario()) };
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/nanofaas.json")).expect("JSON");
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["datasource", "instance", "function"]);
    for variable in &variables[1..] {
        let query = variable["query"]["query"].as_str().expect("a query");
        let arguments = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (expression, label) = arguments.and_then(|rest| rest.rsplit_once(", ")).expect("two arguments");
        offer.check(expression, &BTreeSet::from([label.to_owned()]));
    }
    let (mut rows, mut asked, mut ids) = (0, BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64()), "{title}: an id twice");
        if panel["type"] == "row" {
            rows += 1;
            continue;
        }
        assert!(
            panel["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{title}: no description"
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().expect("an expression");
            let query =
                offer.check(expression, &labels_shown(target["legendFormat"].as_str().unwrap_or_default()));
            asked.extend(query.metrics.into_iter().map(|(name, _)| name));
        }
    }
    assert_eq!(rows, 6);
    // Summaries are for other dashboards, percentiles of all functions for `top`, and one gauge has two names.
    let is_shown = |name: &str| {
        let ours = ["function_", "sync_queue_", "gateway_", "nanofaas_", "controlplane_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        let others = ["function_inFlight", "nanofaas_e2e_latency_recent_seconds"];
        ours && !name.contains("_ms_seconds") && !others.contains(&name)
    };
    for family in offer.exposition.0.iter().filter(|family| is_shown(&family.name)) {
        assert!(asked.iter().any(|name| name.starts_with(&family.name)), "no panel shows {}", family.name);
    }
}

#[test]
fn the_alerts_ask_for_what_exists() {
    let offer = Offer { exposition: Exposition::of(&golden::scenario()) };
    let rules: Value = serde_saphyr::from_str(&read("deploy/grafana/alerts.yaml")).expect("YAML");
    let mut names = BTreeSet::new();
    for group in rules["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules") {
            let name = rule["alert"].as_str().expect("a name");
            assert!(names.insert(name.to_owned()), "{name} twice");
            assert!(["warning", "critical"].map(Value::from).contains(&rule["labels"]["severity"]), "{name}");
            let text = |field: &str| rule["annotations"][field].as_str().unwrap_or_default();
            assert!(!text("summary").is_empty() && !text("description").is_empty(), "{name}");
            let shown = labels_shown(&format!("{} {}", text("summary"), text("description")));
            let shown = shown.into_iter().filter(|label| !label.contains(' ')).collect();
            offer.check(rule["expr"].as_str().expect("an expression"), &shown);
        }
    }
    for expected in ["NanofaasAccountingDrift", "NanofaasErrors", "NanofaasLoopStuck", "NanofaasQueueFull"] {
        assert!(names.contains(expected), "{names:?}");
    }
    let scraping: Value = serde_saphyr::from_str(&read("deploy/grafana/prometheus.yaml")).expect("YAML");
    assert_eq!(scraping["scrape_configs"][0]["metrics_path"], "/actuator/prometheus");
    assert_eq!(scraping["rule_files"][0], "alerts.yaml");
}

#[test]
fn expressions_are_taken_apart() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    let query = parse(
        "sum by (le, a) (rate(m_bucket{x=~\"$x\",y!=\"b(c\"}[$__rate_interval])) / on (b) group_left (c) n > 0.5 and o",
    );
    assert_eq!(query.functions, words(&["rate", "sum"]));
    assert_eq!(query.grouped, words(&["a", "b", "c", "le"]));
    let metrics = [("m_bucket", words(&["x", "y"])), ("n", words(&[])), ("o", words(&[]))]
        .map(|(name, set)| (name.to_owned(), set));
    assert_eq!(query.metrics, metrics);
    assert_eq!(labels_shown("{{a}} of {{ $labels.b }}: {{ $value | humanize }}"), words(&["a", "b"]));
}
