//! Scenario files: TOML to [`Scenario`]. README.md describes the format.
//!
//! Paths in a file are relative to it. What a value means for the run as a whole is checked by [`Scenario::plan`].

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    Arrivals, FunctionSpec, LoadSpec, Mistakes, Mode, Payload, Rate, Scenario, Threshold,
    fields::{Document, Fields},
    payload::{Order, Sizes},
    quantity,
    rate::Stage,
};

/// Names of orders.
const ORDERS: [(&str, Order); 2] = [("sequential", Order::Sequential), ("random", Order::Random)];
/// Names of arrivals.
const ARRIVALS: [(&str, Arrivals); 2] = [("uniform", Arrivals::Uniform), ("poisson", Arrivals::Poisson)];

/// Reads a scenario file.
pub fn read(path: &Path) -> Result<Scenario, Mistakes> {
    let place = path.display();
    let text =
        fs::read_to_string(path).map_err(|error| Mistakes(vec![format!("cannot read {place}: {error}")]))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let named = |mistakes: Vec<String>| Mistakes(mistakes.iter().map(|m| format!("{place}: {m}")).collect());
    let mut scenario = parse(&text, folder).map_err(named)?;
    if scenario.name.is_empty() {
        scenario.name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    }
    Ok(scenario)
}

/// Parses the text of a scenario file; paths in it are relative to `folder`.
pub fn parse(text: &str, folder: &Path) -> Result<Scenario, Vec<String>> {
    let document = Document::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        document.add(error.span().map_or(0, |span| span.start), error.message());
    }
    // What is left of a broken file is a guess: complaints about it would hide the real mistake.
    let scenario = errors.is_empty().then(|| scenario(document.top(table.get_ref()), folder));
    let mistakes = document.mistakes();
    match scenario {
        Some(scenario) if mistakes.is_empty() => Ok(scenario),
        _ => Err(mistakes),
    }
}

fn scenario(top: Fields<'_>, folder: &Path) -> Scenario {
    let default = Scenario::default();
    let bind = top.field("callback_bind");
    let bind =
        bind.and_then(|field| top.parsed(&field, |text| text.parse().map_err(|_| not_an_address(text))));
    let scenario = Scenario {
        name: top.text("name").unwrap_or_default(),
        endpoint: top.text("endpoint"),
        warm_up: top.duration("warm_up").unwrap_or(default.warm_up),
        duration: top.duration("duration"),
        timeout: top.duration("timeout").unwrap_or(default.timeout),
        threads: top.count("threads").unwrap_or(default.threads),
        saturation: top.number("saturation"),
        callback_bind: bind.unwrap_or(default.callback_bind),
        loads: top.tables("load").into_iter().map(|table| load(table, folder)).collect(),
        thresholds: top.table("thresholds").map(thresholds).unwrap_or_default(),
    };
    top.finish();
    scenario
}

fn not_an_address(text: &str) -> String {
    format!("{text:?} is no address with a port (write for example 127.0.0.1:0)")
}

fn load(table: Fields<'_>, folder: &Path) -> LoadSpec {
    let default = LoadSpec::default();
    let mode = table.choice("mode", &Mode::NAMES).unwrap_or(default.mode);
    let load = LoadSpec {
        name: table.text("name").unwrap_or_default(),
        connections: table.count("connections").unwrap_or(default.connections),
        rate: rate(&table),
        arrivals: table.choice("arrivals", &ARRIVALS).unwrap_or_default(),
        mode,
        obey_retry_after: table.flag("obey_retry_after").unwrap_or_default(),
        functions: table.tables("function").into_iter().map(|table| function(table, mode, folder)).collect(),
    };
    table.finish();
    load
}

fn rate(table: &Fields<'_>) -> Option<Rate> {
    let stages = table.tables("stages");
    let field = table.field("rate");
    if !stages.is_empty() {
        if let Some(field) = field {
            table.wrong(&field, "give either rate or stages");
        }
        return Some(Rate::Stages(stages.into_iter().map(stage).collect()));
    }
    let field = field?;
    match field.value {
        DeValue::String(_) => table.parsed(&field, quantity::rate),
        _ => table.number("rate").map(Rate::Constant),
    }
}

fn stage(table: Fields<'_>) -> Stage {
    let rate = table.number("rate");
    let (from, to) = (table.number("from"), table.number("to"));
    let length = table.duration("for");
    if length.is_none() && table.field("for").is_none() {
        table.wrong_here("for is missing (for example \"10s\")");
    }
    let (from, to) = match (rate, from, to) {
        (Some(rate), None, None) => (rate, rate),
        (None, Some(from), Some(to)) => (from, to),
        _ => {
            table.wrong_here("give either rate, or from and to");
            (0.0, 0.0)
        }
    };
    let stage =
        Stage { name: table.text("name").unwrap_or_default(), from, to, length: length.unwrap_or_default() };
    table.finish();
    stage
}

fn function(table: Fields<'_>, mode: Mode, folder: &Path) -> FunctionSpec {
    let url = table.text("url");
    let name = table.text("name").or_else(|| url.clone());
    match (mode, &url) {
        (Mode::Url, None) if table.field("url").is_none() => table.wrong_here("url is missing"),
        (Mode::Url, _) => {}
        (_, Some(_)) => table.wrong_here("url needs mode = \"url\" in its load"),
        (_, None) if name.is_none() && table.field("name").is_none() => table.wrong_here("name is missing"),
        _ => {}
    }
    let default =
        if mode == Mode::Url { Payload::None } else { Payload::Text(r#"{"input":null}"#.to_owned()) };
    let function = FunctionSpec {
        name: name.unwrap_or_default(),
        url,
        copies: table.count("count"),
        weight: table.count("weight").unwrap_or(1),
        method: table.text("method"),
        content_type: table.text("content_type"),
        headers: table.table("headers").map(headers).unwrap_or_default(),
        payload: payload(&table, folder).unwrap_or(default),
    };
    table.finish();
    function
}

fn headers(table: Fields<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in table.all() {
        match value.get_ref().as_str() {
            Some(text) => headers.push((name.to_owned(), text.to_owned())),
            None => table.wrong_here(format!("{name} must be a text")),
        }
    }
    headers
}

fn payload(function: &Fields<'_>, folder: &Path) -> Option<Payload> {
    let field = function.field("payload")?;
    if let Some(text) = field.value.as_str() {
        return Some(Payload::Text(text.to_owned()));
    }
    let table = function.table("payload")?;
    let path = |key| table.text(key).map(|path| folder.join(PathBuf::from(path)));
    let mut given: Vec<Payload> = Vec::new();
    let order = table.choice("order", &ORDERS).unwrap_or_default();
    given.extend(table.text("text").map(Payload::Text));
    given.extend(path("file").map(Payload::File));
    given.extend(path("directory").map(|path| Payload::Directory(path, order)));
    given.extend(table.number("bytes").map(|bytes| Payload::Sizes(Sizes::Fixed(bytes))));
    given.extend(table.number("bytes_mean").map(|mean| Payload::Sizes(Sizes::Exponential(mean))));
    let pair = |low, high, sizes: fn(f64, f64) -> Sizes| match (table.number(low), table.number(high)) {
        (Some(low), Some(high)) if low > 0.0 && high >= low => Some(Payload::Sizes(sizes(low, high))),
        (None, None) => None,
        _ => {
            table.wrong_here(format!(
                "give both {low} and {high}, the second not below the first, and both over 0"
            ));
            None
        }
    };
    given.extend(pair("bytes_min", "bytes_max", Sizes::Uniform));
    given.extend(pair("bytes_median", "bytes_p99", Sizes::LogNormal));
    if given.len() > 1 {
        table.wrong_here("gives more than one payload");
    }
    table.finish();
    given.pop()
}

fn thresholds(table: Fields<'_>) -> Vec<Threshold> {
    let mut thresholds = limits(&table, None);
    if let Some(functions) = table.table("function") {
        for (name, value) in functions.all() {
            match value.get_ref().as_table() {
                Some(limited) => {
                    let limited = functions.below(limited, functions.place(name), value.span().start);
                    thresholds.extend(limits(&limited, Some(name)));
                    limited.finish();
                }
                None => functions.wrong_here(format!("{name} must be a table")),
            }
        }
    }
    table.finish();
    thresholds
}

fn limits(table: &Fields<'_>, function: Option<&str>) -> Vec<Threshold> {
    let keys =
        Threshold::KEYS.iter().filter(|(_, measure, _)| function.is_none() || !measure.is_about_the_server());
    keys.filter_map(|(key, ..)| Threshold::new(key, table.number(key)?, function)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_whole_scenario() {
        let text = r#"
            name = "everything"
            endpoint = "http://127.0.0.1:1"
            warm_up = "2s"
            duration = "1m"
            threads = 2
            saturation = 1000

            [[load]]
            name = "open"
            connections = 8
            rate = "70%"
            arrivals = "poisson"
            [[load.function]]
            name = "echo"
            weight = 3
            headers = { X-One = "1" }
            payload = { bytes_min = 10, bytes_max = 20 }
            [[load.function]]
            name = "other"
            payload = { directory = "bodies", order = "random" }

            [[load]]
            name = "steps"
            mode = "url"
            stages = [{ rate = 10, for = "5s", name = "slow" }, { from = 10, to = 20.5, for = "10s" }]
            function = [{ url = "http://127.0.0.1:2/x", method = "PUT", payload = "hello" }]

            [thresholds]
            p99_ms = 50
            [thresholds.function.echo]
            error_rate = 0.01
        "#;
        let scenario = parse(text, Path::new("folder")).expect("a scenario");
        assert_eq!(
            (scenario.warm_up, scenario.duration),
            (Duration::from_secs(2), Some(Duration::from_secs(60)))
        );
        let [open, steps] = scenario.loads.as_slice() else { panic!("{:?}", scenario.loads) };
        assert_eq!((open.connections, open.arrivals, open.mode), (8, Arrivals::Poisson, Mode::Sync));
        assert_eq!(open.rate, Some(Rate::Percent(70.0)));
        assert_eq!(open.functions[0].payload, Payload::Sizes(Sizes::Uniform(10.0, 20.0)));
        assert_eq!(open.functions[0].headers, [("X-One".to_owned(), "1".to_owned())]);
        assert_eq!(
            open.functions[1].payload,
            Payload::Directory(PathBuf::from("folder/bodies"), Order::Random)
        );
        assert_eq!(steps.functions[0].payload, Payload::Text("hello".to_owned()));
        let Some(Rate::Stages(stages)) = &steps.rate else { panic!("{:?}", steps.rate) };
        assert_eq!((stages[1].from, stages[1].to, stages[0].name.as_str()), (10.0, 20.5, "slow"));
        let limits: Vec<(&str, Option<&str>)> =
            scenario.thresholds.iter().map(|limit| (limit.key.as_str(), limit.function.as_deref())).collect();
        assert_eq!(limits, [("p99_ms", None), ("error_rate", Some("echo"))]);
    }

    #[test]
    fn every_mistake_is_found_at_once() {
        let text = "duration = 5\nthreds = 1\n[[load]]\nmode = \"sink\"\nrate = \"fast\"\n[[load.function]]\n\
                    weight = -1\npayload = { bytes = 1, text = \"x\" }\n[thresholds]\np98_ms = 1\n";
        let mistakes = parse(text, Path::new(".")).expect_err("mistakes");
        let expected = [
            ("line 1: duration", "must be a text"),
            ("line 2: threds", "unknown"),
            ("line 4: load[0].mode", "one of sync"),
            ("line 5: load[0].rate", "no rate"),
            ("load[0].function[0]", "name is missing"),
            ("line 7: load[0].function[0].weight", "whole number"),
            ("load[0].function[0].payload", "more than one"),
            ("line 10: thresholds.p98_ms", "unknown; there are p50_ms"),
        ];
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
        for (place, what) in expected {
            assert!(
                mistakes.iter().any(|m| m.contains(place) && m.contains(what)),
                "{place} in {mistakes:#?}"
            );
        }
        let broken = parse("a = \nb = ]\n", Path::new(".")).expect_err("mistakes");
        assert!(broken.len() >= 2, "{broken:#?}");
    }
}
