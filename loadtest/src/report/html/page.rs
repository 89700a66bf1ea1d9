//! The pages: one run, and runs side by side.

use std::fmt::Write as _;

use super::{
    escape,
    plot::{INTENDED, LINES_MAX, Line, Plot, Scale, round_marks},
};
use crate::{
    record::Row,
    report::{
        compare,
        summary::{Figures, Summary},
        table::{Table, bytes, number, percent, time},
        text,
    },
};

/// The page of one run.
pub fn report(summary: &Summary) -> String {
    // Writing to a string cannot fail.
    let mut body = String::new();
    let _ = writeln!(body, "<h1>{}</h1>", escape(&summary.name));
    let _ = writeln!(body, "<p>{}</p>", escape(&to_the_second(&summary.started_at)));
    for line in text::setup(summary) {
        let _ = writeln!(body, "<p>{}</p>", escape(&line));
    }
    if summary.is_interrupted {
        let _ = writeln!(body, "<p class=\"bad\">{}</p>", escape(text::INTERRUPTED));
    }
    let verdict = text::verdict(summary);
    let (class, mark) = if verdict.is_good { ("good", "✓") } else { ("bad", "✗") };
    let _ = writeln!(body, "<p class=\"verdict {class}\">{mark} {}</p>", escape(&verdict.words));
    body.push_str(&tiles(summary));
    body.push_str(&verdicts(summary));
    let _ = writeln!(body, "<h2>Plots</h2><div class=\"plots\">{}</div>", plots(summary));
    let _ = writeln!(body, "<h2>Latency</h2>{}", html_table(&text::latencies(summary)));
    let _ = writeln!(body, "<h2>Calls</h2>{}", html_table(&text::counts(summary)));
    if let Some(errors) = text::errors(&summary.total) {
        let _ = writeln!(body, "<h2>Failures</h2><div class=\"failures\">{}</div>", html_table(&errors));
    }
    body.push_str("<h2>Server and load generator</h2>");
    for line in text::remarks(summary).iter().filter(|line| *line != text::INTERRUPTED) {
        let _ = writeln!(body, "<p>{}</p>", escape(line));
    }
    page(&summary.name, &body)
}

/// The page of several runs.
pub fn comparison(runs: &[(String, Summary)]) -> String {
    let curves = runs.iter().map(|(name, run)| curve(name, &run.total)).collect();
    let over_time = |value: fn(&Row) -> f64| {
        let line = |(name, run): &(String, Summary)| Line { name: name.clone(), points: series(run, value) };
        runs.iter().map(line).collect::<Vec<Line>>()
    };
    let end = runs.iter().map(|(_, run)| length_s(run)).fold(1.0, f64::max);
    let plots = [
        curves_plot(curves),
        time_plot(
            "99th percentile",
            "ms over seconds",
            over_time(|row| row.p99_ms),
            Scale::Log,
            end,
            None,
            time,
        ),
        time_plot(
            "Successes",
            "per second",
            over_time(|row| row.succeeded as f64),
            Scale::Linear,
            end,
            None,
            number,
        ),
    ];
    let mut body =
        "<h1>Comparison</h1><p>Each value, and in brackets its ratio to the first run; better or worse when it is more \
         than 5 % from it.</p>"
            .to_owned();
    let _ = writeln!(body, "{}", html_table_with(&compare::table(runs), compare::class_of));
    let _ = writeln!(body, "<h2>Plots</h2><div class=\"plots\">{}</div>", plots.concat());
    page("Comparison", &body)
}

/// An instant without the fraction of its second, which nobody reads.
pub(super) fn to_the_second(instant: &str) -> String {
    instant.split_once('.').map_or_else(|| instant.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
         <style>\n{}</style>\n</head>\n<body>\n{body}<script>\n{}</script>\n</body>\n</html>\n",
        escape(title),
        include_str!("style.css"),
        include_str!("cursor.js"),
    )
}

fn tiles(summary: &Summary) -> String {
    let total = &summary.total;
    let mut tiles = vec![
        (format!("{}/s", number(total.throughput_per_s)), "successes".to_owned()),
        (time(total.latency.p50_ms), "median latency".to_owned()),
        (time(total.latency.p99_ms), "99th percentile".to_owned()),
        (time(total.latency.max_ms), "longest".to_owned()),
        (percent(total.error_rate), "failures".to_owned()),
    ];
    if let (Some(ratio), Some(intended)) = (total.achieved_ratio, total.intended_per_s) {
        tiles.push((percent(ratio), format!("of {}/s intended", number(intended))));
    }
    if let Some(server) = &summary.server {
        tiles.push((format!("{:.1} µs", server.cpu_us_per_answer), "server CPU per answer".to_owned()));
        tiles.extend(server.memory.map(|memory| {
            (format!("{:+.1} %", memory.growth_ratio * 100.0), "server memory, start to end".to_owned())
        }));
    }
    let tile = |(value, label): &(String, String)| {
        let class = if label == "failures" && total.error_rate > 0.0 { "tile bad" } else { "tile" };
        format!("<div class=\"{class}\"><b>{}</b><span>{}</span></div>", escape(value), escape(label))
    };
    format!("<div class=\"tiles\">{}</div>\n", tiles.iter().map(tile).collect::<String>())
}

fn verdicts(summary: &Summary) -> String {
    if summary.thresholds.is_empty() {
        return String::new();
    }
    let mut rows = String::new();
    for verdict in &summary.thresholds {
        let (class, word) = if verdict.is_met { ("good", "✓ holds") } else { ("bad", "✗ broken") };
        let _ = write!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{word}</td></tr>",
            escape(&text::place(verdict)),
            verdict.limit,
            escape(&text::value(verdict)),
        );
    }
    format!(
        "<h2>Thresholds</h2><div class=\"scroll\"><table><tr><th>key</th><th>limit</th><th>value</th><th></th></tr>{rows}</table></div>\n"
    )
}

pub(super) fn html_table(table: &Table) -> String {
    html_table_with(table, |_| None)
}

/// A table whose cells have the classes that `class_of` gives them.
fn html_table_with(table: &Table, class_of: fn(&str) -> Option<&'static str>) -> String {
    let mut html = "<div class=\"scroll\"><table>".to_owned();
    for (index, row) in table.rows().iter().enumerate() {
        let tag = if index == 0 { "th" } else { "td" };
        let cells = row.iter().map(|cell| {
            let class = class_of(cell).map(|class| format!(" class=\"{class}\"")).unwrap_or_default();
            format!("<{tag}{class}>{}</{tag}>", escape(cell))
        });
        let _ = write!(html, "<tr>{}</tr>", cells.collect::<String>());
    }
    html + "</table></div>"
}

fn plots(summary: &Summary) -> String {
    let mut curves = Vec::new();
    if summary.functions.len() != 1 {
        curves.push(curve("all", &summary.total));
    }
    for function in summary.functions.iter().take(LINES_MAX - curves.len()) {
        curves.push(curve(&function.name, &function.figures));
    }
    let line =
        |name: &str, value: fn(&Row) -> f64| Line { name: name.to_owned(), points: series(summary, value) };
    let end = length_s(summary);
    let warm_up = Some(summary.setup.warm_up_s);
    let latency =
        vec![line("p50", |row| row.p50_ms), line("p99", |row| row.p99_ms), line("max", |row| row.max_ms)];
    let mut rates = vec![line("successes", |row| row.succeeded as f64)];
    if summary.series.iter().any(|row| row.intended > 0) {
        rates.push(line(INTENDED, |row| row.intended as f64));
    }
    let failures = vec![line("failures", |row| row.failed as f64)];
    let cores = vec![line("server", |row| row.server_cores.unwrap_or(f64::NAN))];
    let memory = vec![line("server", |row| row.server_resident_bytes.map_or(f64::NAN, |bytes| bytes as f64))];
    let cores_text = |cores: f64| format!("{cores:.2}");
    [
        curves_plot(curves),
        time_plot("Latency over time", "of answers in each second", latency, Scale::Log, end, warm_up, time),
        time_plot("Throughput", "per second", rates, Scale::Linear, end, warm_up, number),
        time_plot("Failures", "per second", failures, Scale::Linear, end, warm_up, number),
        time_plot("CPU", "cores in use", cores, Scale::Linear, end, warm_up, cores_text),
        time_plot("Memory", "resident", memory, Scale::Bytes, end, warm_up, bytes),
    ]
    .concat()
}

/// Values of the seconds in which calls began. What comes later are the last answers, which no rate describes; and a
/// second that the end cut off would look like a breakdown.
fn series(summary: &Summary, value: fn(&Row) -> f64) -> Vec<(f64, f64)> {
    let whole_s = length_s(summary).max(1.0) + 1e-3;
    let rows = summary.series.iter().filter(|row| f64::from(row.second) + 1.0 <= whole_s);
    let rows = rows.map(|row| (f64::from(row.second) + 0.5, value(row)));
    rows.filter(|(_, value)| value.is_finite()).collect()
}

fn length_s(summary: &Summary) -> f64 {
    summary.setup.warm_up_s + summary.setup.duration_s
}

/// Quantiles at the distance of their nines: 90 % is 1, 99 % is 2. The maximum has none.
fn curve(name: &str, figures: &Figures) -> Line {
    let points = figures.curve.iter().filter(|(quantile, _)| *quantile < 1.0);
    let points = points.map(|(quantile, ms)| (nines(*quantile), *ms)).filter(|(_, ms)| *ms > 0.0);
    Line { name: name.to_owned(), points: points.collect() }
}

fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn curves_plot(lines: Vec<Line>) -> String {
    let show_x = |nines: f64| {
        let text = format!("{:.3}", 100.0 - 10f64.powf(2.0 - nines));
        format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
    };
    let marks = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999].map(nines);
    Plot {
        title: "Latency by percentile",
        caption: "from the intended start",
        lines,
        scale: Scale::Log,
        x_marks: marks.iter().map(|mark| (*mark, show_x(*mark))).collect(),
        x_range: (0.0, 5.0),
        shaded_to: None,
        show_x: &show_x,
        show_y: time,
    }
    .html()
}

fn time_plot(
    title: &str,
    caption: &str,
    lines: Vec<Line>,
    scale: Scale,
    end: f64,
    warm_up: Option<f64>,
    show_y: fn(f64) -> String,
) -> String {
    let marks = round_marks(0.0, end);
    Plot {
        title,
        caption,
        lines,
        scale,
        x_marks: marks.into_iter().map(|mark| (mark, format!("{} s", number(mark)))).collect(),
        x_range: (0.0, end),
        shaded_to: warm_up,
        show_x: &|second: f64| format!("second {}", second.floor()),
        show_y,
    }
    .html()
}
