//! What was measured, over all runs, and what it has to be.

use std::path::Path;

use anyhow::{Context, bail};

use crate::report::Report;

/// What a figure has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// It is only told.
    None,
    /// At least: what it must be, and what it should.
    Least(f64, f64),
    /// At most, likewise.
    Most(f64, f64),
}

/// One figure.
#[derive(Debug, Clone)]
struct Figure {
    id: String,
    what: String,
    unit: String,
    bound: Bound,
    /// By run.
    values: Vec<f64>,
}

/// All figures, in the order in which they first came.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    all: Vec<Figure>,
}

impl Figures {
    /// Takes a run's value.
    pub(crate) fn add(&mut self, id: &str, what: impl Into<String>, value: f64, unit: &str, bound: Bound) {
        let what = what.into();
        eprintln!("  {id} {what}: {} {unit}", number(value));
        match self
            .all
            .iter_mut()
            .find(|figure| figure.id == id && figure.what == what)
        {
            Some(figure) => figure.values.push(value),
            None => self.all.push(Figure {
                id: id.to_owned(),
                what,
                unit: unit.to_owned(),
                bound,
                values: vec![value],
            }),
        }
    }

    /// As figures and checks of a report.
    pub(crate) fn tell(&self, report: &mut Report) {
        for figure in &self.all {
            let name = format!("{} {}, {}", figure.id, figure.what, figure.unit);
            report.figure(&name, figure.median());
            if let Some((must, _)) = figure.judged() {
                report.check(&name, must, figure.detail());
            }
        }
    }

    fn table(&self) -> String {
        let mut out =
            "| id | what | median (least to most) | must | goal | |\n| --- | --- | --- | --- | --- | --- |\n"
                .to_owned();
        for figure in &self.all {
            let (must, goal) = match figure.bound {
                Bound::None => (String::new(), String::new()),
                Bound::Least(must, goal) | Bound::Most(must, goal) => (number(must), number(goal)),
            };
            let verdict = match figure.judged() {
                None => "",
                Some((_, true)) => "goal",
                Some((true, false)) => "must",
                Some((false, _)) => "**missed**",
            };
            let unit = &figure.unit;
            out.push_str(&format!(
                "| {} | {} | {} {unit} | {must} | {goal} | {verdict} |\n",
                figure.id,
                figure.what,
                figure.spread()
            ));
        }
        out
    }

    /// Puts the table into a document, between the marks of this name.
    ///
    /// # Errors
    /// A document without the marks.
    pub(crate) fn write_into(&self, path: &Path, name: &str) -> anyhow::Result<()> {
        let (begin, end) = (
            format!("<!-- {name}: from here -->"),
            format!("<!-- {name}: to here -->"),
        );
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let Some((before, after)) = text
            .split_once(&begin)
            .and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)))
        else {
            bail!("{} has no `{begin}` and `{end}`", path.display());
        };
        let text = format!("{before}{begin}\n{}{end}{after}", self.table());
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }
}

impl Figure {
    fn median(&self) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        }
    }

    /// Whether it is what it must be, and what it should.
    fn judged(&self) -> Option<(bool, bool)> {
        let value = self.median();
        match self.bound {
            Bound::None => None,
            Bound::Least(must, goal) => Some((value >= must, value >= goal)),
            Bound::Most(must, goal) => Some((value <= must, value <= goal)),
        }
    }

    fn spread(&self) -> String {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if self.values.len() < 2 {
            return number(self.median());
        }
        format!(
            "{} ({} to {})",
            number(self.median()),
            number(least),
            number(most)
        )
    }

    fn detail(&self) -> String {
        let wanted = match self.bound {
            Bound::None => String::new(),
            Bound::Least(must, goal) => format!("; at least {}, better {}", number(must), number(goal)),
            Bound::Most(must, goal) => format!("; at most {}, better {}", number(must), number(goal)),
        };
        format!("{} {}{wanted}", self.spread(), self.unit)
    }
}

fn number(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(values: &[f64], bound: Bound) -> Figures {
        let mut figures = Figures::default();
        for value in values {
            figures.add("C1", "of it", *value, "%", bound);
        }
        figures
    }

    #[test]
    fn the_median_decides() {
        let good = |values: &[f64], bound| {
            let mut report = Report::default();
            figures(values, bound).tell(&mut report);
            report.good()
        };
        assert!(good(&[10.0, 70.0, 80.0], Bound::Least(60.0, 85.0)));
        assert!(!good(&[10.0, 50.0, 80.0], Bound::Least(60.0, 85.0)));
        assert!(good(&[1.0, 9.0, 2.0], Bound::Most(3.0, 1.0)));
        assert!(!good(&[1.0, 9.0, 8.0, 9.0], Bound::Most(3.0, 1.0)));
    }

    #[test]
    fn the_table_takes_its_place_in_the_document_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.md");
        std::fs::write(&path, "a\n<!-- t: from here -->\nold\n<!-- t: to here -->\nb\n").unwrap();
        let figures = figures(&[61.0, 64.0, 62.0], Bound::Least(60.0, 85.0));
        figures.write_into(&path, "t").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("| C1 | of it | 62.0 (61.0 to 64.0) % | 60.0 | 85.0 | must |"),
            "{text}"
        );
        assert!(text.starts_with("a\n") && text.ends_with("-->\nb\n") && !text.contains("old"));
        std::fs::write(&path, "nothing").unwrap();
        assert!(figures.write_into(&path, "t").is_err());
    }
}
