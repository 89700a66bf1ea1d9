//! Plots of lines as SVG.

use std::fmt::Write as _;

use super::escape;

/// Name of the line that others are to reach.
pub(super) const INTENDED: &str = "intended";

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 240.0;
/// Room for labels.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 26.0;
/// Bytes are marked in these.
const MIB: f64 = 1024.0 * 1024.0;
/// Room for the word that says what is shaded.
const SHADE_LABEL: f64 = 52.0;
/// Lines that can be told apart; there is a colour for each.
pub(super) const LINES_MAX: usize = 6;

/// What the vertical axis shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From 0 on.
    Linear,
    /// The same for bytes: marks are round in MiB.
    Bytes,
    /// Powers of ten; for latencies, whose median and maximum are far apart.
    Log,
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A plot.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    /// What the axes are, in a few words.
    pub(super) caption: &'a str,
    pub(super) lines: Vec<Line>,
    pub(super) scale: Scale,
    /// Where the horizontal axis is marked, and how.
    pub(super) x_marks: Vec<(f64, String)>,
    pub(super) x_range: (f64, f64),
    /// Shaded from the left to here.
    pub(super) shaded_to: Option<f64>,
    pub(super) show_x: &'a dyn Fn(f64) -> String,
    pub(super) show_y: fn(f64) -> String,
}

impl Plot<'_> {
    /// The figure; empty when there is nothing to draw.
    pub(super) fn html(&self) -> String {
        let lines = self.lines.iter().filter(|line| !line.points.is_empty());
        let lines: Vec<&Line> = lines.take(LINES_MAX).collect();
        let Some((bottom, top)) = self.y_range(&lines) else { return String::new() };
        let x = |value: f64| {
            let (low, high) = self.x_range;
            LEFT + (value - low) / (high - low).max(1e-9) * (WIDTH - LEFT - RIGHT)
        };
        let y = |value: f64| {
            let (value, low, high) = match self.scale {
                Scale::Linear | Scale::Bytes => (value, bottom, top),
                Scale::Log => (value.max(bottom).log10(), bottom.log10(), top.log10()),
            };
            HEIGHT - BOTTOM - (value - low) / (high - low).max(1e-9) * (HEIGHT - TOP - BOTTOM)
        };
        // Writing to a string cannot fail.
        let mut svg = String::new();
        if let Some(end) = self.shaded_to.filter(|end| *end > self.x_range.0) {
            let _ = write!(
                svg,
                r#"<rect class="shade" x="{LEFT}" y="{TOP}" width="{:.1}" height="{}"/>"#,
                x(end) - LEFT,
                HEIGHT - TOP - BOTTOM
            );
            if x(end) - LEFT > SHADE_LABEL {
                let middle = (LEFT + x(end)) / 2.0;
                let _ = write!(
                    svg,
                    r#"<text x="{middle:.1}" y="{}" text-anchor="middle">warm-up</text>"#,
                    HEIGHT - BOTTOM - 6.0
                );
            }
        }
        for mark in y_marks(self.scale, bottom, top) {
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
                WIDTH - RIGHT,
                LEFT - 6.0,
                y(mark) + 4.0,
                escape(&whole((self.show_y)(mark))),
                at = y(mark),
            );
        }
        for (value, label) in &self.x_marks {
            let _ = write!(
                svg,
                r#"<text x="{:.1}" y="{}" text-anchor="middle">{}</text>"#,
                x(*value),
                HEIGHT - 8.0,
                escape(label)
            );
        }
        let mut legend = String::new();
        let mut data = Vec::new();
        let mut polylines = String::new();
        for (index, line) in lines.iter().enumerate() {
            let number = index + 1;
            let points: Vec<String> =
                line.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
            // The first line is drawn last: where lines meet, it is the one to be seen.
            let points = points.join(" ");
            if line.name == INTENDED {
                // Where it is met it would be covered: dashed and on top, both are seen.
                let _ = write!(polylines, r#"<polyline class="s{number} goal" points="{points}"/>"#);
            } else {
                polylines.insert_str(0, &format!(r#"<polyline class="s{number}" points="{points}"/>"#));
            }
            let _ = write!(legend, r#"<span><i class="s{number}"></i>{}<b></b></span>"#, escape(&line.name));
            let values = line.points.iter();
            let round = |value: f64| (value * 10.0).round() / 10.0;
            let values = values.map(|(px, py)| (round(x(*px)), (self.show_x)(*px), (self.show_y)(*py)));
            data.push(values.collect::<Vec<_>>());
        }
        let cursor =
            format!(r#"<line class="cursor" y1="{TOP}" y2="{}" style="display:none"/>"#, HEIGHT - BOTTOM);
        // Numbers and texts always serialise.
        let data = serde_json::to_string(&data).unwrap_or_default();
        format!(
            "<figure data-plot=\"{}\"><figcaption>{} <small>{}</small></figcaption><div class=\"legend\">{legend}</div>\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">{svg}{polylines}{cursor}</svg></figure>\n",
            escape(&data),
            escape(self.title),
            escape(self.caption),
            escape(self.title),
        )
    }

    fn y_range(&self, lines: &[&Line]) -> Option<(f64, f64)> {
        let values = || lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y).filter(|y| y.is_finite());
        let top = values().fold(f64::NEG_INFINITY, f64::max);
        match self.scale {
            _ if top <= 0.0 || !top.is_finite() => None,
            Scale::Linear | Scale::Bytes => Some((0.0, top * 1.05)),
            Scale::Log => {
                let bottom = values().filter(|y| *y > 0.0).fold(f64::INFINITY, f64::min);
                Some((10f64.powf(bottom.log10().floor()), 10f64.powf((top * 1.0001).log10().ceil())))
            }
        }
    }
}

/// Marks are round: their decimals say nothing.
fn whole(text: String) -> String {
    text.replace(".00 ", " ").replace(".0 ", " ")
}

/// Round values between two, about five of them.
pub(super) fn round_marks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low).max(1e-9) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|count| count as f64 * step).collect()
}

fn y_marks(scale: Scale, bottom: f64, top: f64) -> Vec<f64> {
    match scale {
        Scale::Linear => round_marks(bottom, top),
        Scale::Bytes => {
            let marks = round_marks(bottom / MIB, top / MIB);
            marks.into_iter().map(|mark| mark * MIB).collect()
        }
        Scale::Log => {
            let powers = bottom.log10().round() as i32..=top.log10().round() as i32;
            powers.map(|power| 10f64.powi(power)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round() {
        assert_eq!(round_marks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(round_marks(0.0, 0.9).len(), 5);
        assert_eq!(y_marks(Scale::Log, 0.1, 10.0), [0.1, 1.0, 10.0]);
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let plot = |points: Vec<(f64, f64)>| Plot {
            title: "t",
            caption: "c",
            lines: vec![Line { name: "<a>".to_owned(), points }],
            scale: Scale::Log,
            x_marks: Vec::new(),
            x_range: (0.0, 1.0),
            shaded_to: None,
            show_x: &|x: f64| x.to_string(),
            show_y: |y| y.to_string(),
        };
        assert_eq!(plot(Vec::new()).html(), "");
        assert_eq!(plot(vec![(0.0, 0.0)]).html(), "");
        let html = plot(vec![(0.0, 1.0), (1.0, 20.0)]).html();
        assert!(html.contains("&lt;a&gt;") && !html.contains("NaN") && !html.contains("inf"), "{html}");
    }
}
