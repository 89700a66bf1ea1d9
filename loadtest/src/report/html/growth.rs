//! The page of `loadtest growth`: a plot and a table per curve.

use std::fmt::Write as _;

use super::{
    escape,
    page::{html_table, page, to_the_second},
    plot::{Line, Plot, Scale},
};
use crate::report::{
    growth::{Curve, Growth, Point},
    table::number,
};

/// The page.
pub fn growth(growth: &Growth) -> String {
    // Writing to a string cannot fail.
    let mut body = format!("<h1>Growth</h1><p>{}</p>", escape(&to_the_second(&growth.started_at)));
    for line in &growth.setup {
        let _ = writeln!(body, "<p>{}</p>", escape(line));
    }
    let class = if growth.is_flat { "good" } else { "bad" };
    for line in growth.verdicts() {
        let _ = writeln!(body, "<p class=\"{class}\">{}</p>", escape(&line));
    }
    let plots = growth.curves.iter().map(|curve| plot(curve, growth.deviation_max));
    let _ = writeln!(body, "<h2>Plots</h2><div class=\"plots\">{}</div>", plots.collect::<String>());
    for curve in &growth.curves {
        let _ = writeln!(body, "<h2>By {}</h2>{}", escape(&curve.what), html_table(&curve.table()));
    }
    page("Growth", &body)
}

/// Sizes from 0 to millions, side by side.
fn x(size: u64) -> f64 {
    (size as f64 + 1.0).log10()
}

fn plot(curve: &Curve, deviation_max: f64) -> String {
    let line = |name: &str, value: &dyn Fn(&Point) -> Option<f64>| {
        let points = curve.points.iter().filter_map(|point| Some((x(point.size), value(point)?)));
        Line { name: name.to_owned(), points: points.collect() }
    };
    let base = curve.points.first().and_then(|point| point.median.server_cpu_us);
    let lines = vec![
        line("median of the rounds", &|point| point.median.server_cpu_us),
        line("lowest", &|point| cpu_us(point).reduce(f64::min)),
        line("highest", &|point| cpu_us(point).reduce(f64::max)),
        line("limit", &|_| Some(base? * (1.0 + deviation_max))),
    ];
    let ends = curve.points.iter().map(|point| x(point.size));
    let (first, last) = (ends.clone().fold(f64::INFINITY, f64::min), ends.fold(0.0, f64::max));
    Plot {
        title: &format!("CPU time by {}", curve.what),
        caption: "µs of the server per answer",
        lines,
        scale: Scale::Linear,
        x_marks: curve.points.iter().map(|point| (x(point.size), number(point.size as f64))).collect(),
        x_range: (first, last),
        shaded_to: None,
        show_x: &|at: f64| format!("{} {}", number((10f64.powf(at) - 1.0).round()), curve.what),
        show_y: |us| format!("{us:.1} µs"),
    }
    .html()
}

fn cpu_us(point: &Point) -> impl Iterator<Item = f64> {
    point.rounds.iter().filter_map(|round| round.server_cpu_us)
}
