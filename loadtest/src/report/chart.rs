//! Line charts as SVG text, without scripts and without anything from elsewhere.

use std::fmt::Write;

use super::{Mark, text::number};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// Distinct on white for most eyes (Okabe and Ito).
const COLOURS: &[&str] = &[
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a6d00",
];

/// The colour of the line with that number.
pub(super) fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// How the horizontal axis runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Across {
    /// Seconds from 0.
    Time,
    /// Percentiles, each further nine as wide as the one before.
    Percentiles,
}

/// Lines, each with a name, in one chart.
#[derive(Debug)]
pub(super) struct Chart<'a> {
    pub(super) across: Across,
    /// Of the vertical axis.
    pub(super) unit: &'a str,
    pub(super) lines: Vec<(&'a str, &'a [(f64, f64)])>,
    /// What happened meanwhile, as bands behind the lines.
    pub(super) marks: &'a [Mark],
}

impl Chart<'_> {
    /// The chart, or nothing where no line has two points.
    pub(super) fn svg(&self) -> Option<String> {
        if !self.lines.iter().any(|(_, points)| points.len() > 1) {
            return None;
        }
        let points = || self.lines.iter().flat_map(|(_, points)| points.iter());
        let top = nice(points().map(|(_, y)| *y).fold(0.0, f64::max));
        let end = points().map(|(x, _)| self.along(*x)).fold(1e-9, f64::max);
        let x = |value: f64| LEFT + self.along(value) / end * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| TOP + (1.0 - value / top) * (HEIGHT - TOP - BOTTOM);
        let mut out = format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">"#);
        let mut put = |text: String| out.push_str(&text);
        for part in 0..=4 {
            let value = top * f64::from(part) / 4.0;
            let at = y(value);
            put(format!(
                r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                number(value)
            ));
        }
        for (value, label) in self.ticks(end) {
            let at = x(value);
            put(format!(
                r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{:.1}"/><text class="tick" x="{at:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#,
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0
            ));
        }
        let across = match self.across {
            Across::Time => "seconds",
            Across::Percentiles => "percentile",
        };
        put(format!(
            r#"<text class="axis" x="{:.1}" y="{:.1}" text-anchor="middle">{across}</text><text class="axis" x="12" y="{:.1}" text-anchor="middle" transform="rotate(-90 12 {:.1})">{}</text>"#,
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 6.0,
            HEIGHT / 2.0,
            HEIGHT / 2.0,
            escape(self.unit)
        ));
        for mark in self.marks.iter().filter(|mark| mark.from <= end) {
            let (from, to) = (x(mark.from.max(0.0)), x(mark.to.clamp(0.0, end)));
            put(format!(
                r#"<rect class="band" x="{from:.1}" y="{TOP}" width="{:.1}" height="{:.1}"><title>{} ({:.0} s)</title></rect>"#,
                (to - from).max(1.5),
                HEIGHT - BOTTOM - TOP,
                escape(&mark.name),
                mark.from
            ));
        }
        for (index, (name, points)) in self.lines.iter().enumerate() {
            let mut path = String::new();
            for (at, value) in *points {
                // Writing to a string cannot fail.
                write!(path, "{:.1},{:.1} ", x(*at), y(value.min(top))).ok();
            }
            put(format!(
                r#"<polyline fill="none" stroke="{}" stroke-width="1.6" points="{}"><title>{}</title></polyline>"#,
                colour(index),
                path.trim_end(),
                escape(name)
            ));
        }
        out.push_str("</svg>");
        Some(out)
    }

    /// Where a value lies on the horizontal axis.
    fn along(&self, value: f64) -> f64 {
        match self.across {
            Across::Time => value,
            // 1.0 would lie at infinity: five nines are the end.
            Across::Percentiles => -(1.0 - value).max(1e-5).log10(),
        }
    }

    fn ticks(&self, end: f64) -> Vec<(f64, String)> {
        match self.across {
            Across::Time => {
                let step = nice(end / 6.0);
                (0..=12)
                    .map(|index| f64::from(index) * step)
                    .take_while(|value| *value <= end)
                    .map(|value| (value, number(value)))
                    .collect()
            }
            Across::Percentiles => [
                (0.0, "0"),
                (0.5, "50"),
                (0.9, "90"),
                (0.99, "99"),
                (0.999, "99.9"),
                (0.9999, "99.99"),
            ]
            .into_iter()
            .filter(|(value, _)| self.along(*value) <= end)
            .map(|(value, label)| (value, label.to_owned()))
            .collect(),
        }
    }
}

/// The next value of the row 1, 2, 2.5, 5, 10 … that is not below.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let ten = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|step| step * ten)
        .find(|step| *step >= value * (1.0 - 1e-9))
        .unwrap_or(value)
}

/// Text as HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_values() {
        for (value, wanted) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (1.1, 2.0),
            (2.2, 2.5),
            (45.0, 50.0),
            (5001.0, 10_000.0),
        ] {
            assert!(
                (nice(value) - wanted).abs() < wanted * 1e-9,
                "{value}: {}",
                nice(value)
            );
        }
    }

    #[test]
    fn lines_stay_inside_and_names_are_escaped() {
        let chart = Chart {
            across: Across::Percentiles,
            unit: "ms",
            lines: vec![("<b>", &[(0.0, 1.0), (0.5, 2.0), (1.0, 90.0)])],
            marks: &[],
        };
        let svg = chart.svg().unwrap();
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b>"), "{svg}");
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!(
                (LEFT..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y),
                "{point}"
            );
        }
        assert!(
            Chart {
                across: Across::Time,
                unit: "",
                lines: vec![("a", &[(0.0, 1.0)])],
                marks: &[],
            }
            .svg()
            .is_none(),
            "one point is no line"
        );
    }
}
