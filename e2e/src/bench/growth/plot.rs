//! Plots as SVG: panels with lines, both axes logarithmic, so that what grows in proportion is a straight slope, and
//! what does not grow is level.

use std::fmt::Write as _;

/// One plot.
#[derive(Debug, Default)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// What is on the horizontal axis.
    pub(super) of: &'static str,
    pub(super) lines: Vec<Line>,
}

/// What was measured of one thing.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

const COLUMNS: usize = 2;
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 280.0;
/// Of a panel, around the lines: left, right, top, bottom.
const MARGINS: (f64, f64, f64, f64) = (56.0, 16.0, 56.0, 40.0);
const COLORS: [&str; 4] = ["#0b62a4", "#c44e00", "#2e7d32", "#7b1fa2"];

/// All panels in one picture.
pub(super) fn svg(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * whole(COLUMNS), HEIGHT * whole(rows));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (index, panel) in panels.iter().enumerate() {
        let (x, y) = (WIDTH * whole(index % COLUMNS), HEIGHT * whole(index / COLUMNS));
        // Writing to a string does not fail.
        let _ = writeln!(text, "<g transform=\"translate({x} {y})\">\n{}</g>", draw(panel));
    }
    text.push_str("</svg>\n");
    text
}

fn draw(panel: &Panel) -> String {
    let all = || panel.lines.iter().flat_map(|line| &line.points);
    let x = Axis::of(all().map(|point| point.0), MARGINS.0, WIDTH - MARGINS.1);
    let y = Axis::of(all().map(|point| point.1), HEIGHT - MARGINS.3, MARGINS.2);
    let mut text = format!("<text x=\"12\" y=\"20\" font-weight=\"bold\">{}</text>\n", panel.title);
    for tick in y.ticks() {
        let (at, label) = (y.at(tick), label(tick));
        let (left, right) = (MARGINS.0, WIDTH - MARGINS.1);
        let _ = writeln!(
            text,
            "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left - 6.0,
            at + 4.0,
        );
    }
    for tick in x.ticks() {
        let (at, label) = (x.at(tick), label(tick));
        let bottom = HEIGHT - MARGINS.3;
        let _ = writeln!(
            text,
            "<path d=\"M{at:.1} {}V{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            MARGINS.2,
            bottom + 16.0,
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
        WIDTH - MARGINS.1,
        HEIGHT - 8.0,
        panel.of
    );
    for (index, line) in panel.lines.iter().enumerate() {
        draw_line(&mut text, line, COLORS[index % COLORS.len()], index, (&x, &y));
    }
    text
}

fn draw_line(text: &mut String, line: &Line, color: &str, index: usize, (x, y): (&Axis, &Axis)) {
    let points: Vec<_> = line.points.iter().map(|point| (x.at(point.0), y.at(point.1))).collect();
    let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        text,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
        path.join(" ")
    );
    for (x, y) in points {
        let _ = writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>");
    }
    // Names in two columns below the title.
    let (left, top) = (MARGINS.0 + 200.0 * whole(index % 2), 36.0 + 14.0 * whole(index / 2));
    let _ = writeln!(
        text,
        "<rect x=\"{left}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{color}\"/>\
         <text x=\"{}\" y=\"{top}\">{}</text>",
        top - 9.0,
        left + 14.0,
        line.name,
    );
}

/// A logarithmic axis of whole decades.
struct Axis {
    /// Exponents of ten.
    from: i32,
    to: i32,
    /// Where the first and the last are drawn.
    place: (f64, f64),
}

impl Axis {
    /// Nothing that is not above zero has a place: it is drawn at the lower end.
    #[allow(clippy::cast_possible_truncation)] // Exponents.
    fn of(values: impl Iterator<Item = f64>, first: f64, last: f64) -> Self {
        let logs: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
        let from = logs.iter().copied().fold(f64::INFINITY, f64::min).floor();
        let to = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max).ceil();
        let (from, to) = if logs.is_empty() { (0, 1) } else { (from as i32, to as i32) };
        Self { from, to: to.max(from + 1), place: (first, last) }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        (self.from..=self.to).map(|exponent| 10f64.powi(exponent))
    }

    fn at(&self, value: f64) -> f64 {
        let from = f64::from(self.from);
        let part = (value.max(10f64.powi(self.from)).log10() - from) / (f64::from(self.to) - from);
        self.place.0 + part * (self.place.1 - self.place.0)
    }
}

fn label(tick: f64) -> String {
    tick.to_string()
}

fn whole(count: usize) -> f64 {
    super::super::sample::number(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decades_are_equally_far_from_each_other_and_zero_is_at_the_lower_end() {
        let axis = Axis::of([10.0, 5000.0].into_iter(), 0.0, 300.0);
        assert_eq!(axis.ticks().map(label).collect::<Vec<_>>(), ["10", "100", "1000", "10000"]);
        for (value, expected) in [(10.0, 0.0), (100.0, 100.0), (10_000.0, 300.0), (0.0, 0.0)] {
            assert!((axis.at(value) - expected).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn a_single_value_and_none_have_an_axis() {
        for values in [vec![], vec![1.0], vec![0.0]] {
            let axis = Axis::of(values.into_iter(), 0.0, 100.0);
            assert!(axis.at(1.0).is_finite());
        }
    }

    #[test]
    fn every_line_is_drawn_with_its_name_and_its_points() {
        let line = |name| Line { name, points: vec![(1.0, 2.0), (10.0, 20.0)] };
        let panel = Panel { title: "Memory", of: "nodes", lines: vec![line("one"), line("two")] };
        let text = svg(&[panel, Panel::default()]);
        assert_eq!(text.matches("<polyline").count(), 2);
        assert_eq!(text.matches("<circle").count(), 4);
        for word in [">Memory<", ">nodes<", ">one<", ">two<"] {
            assert!(text.contains(word), "{word}");
        }
        assert_eq!(text.matches("<g ").count(), text.matches("</g>").count());
    }
}
