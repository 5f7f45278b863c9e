//! What was measured, as `loadtest dispatch --more` reads it.

use std::fmt::Write as _;

/// What must be and what should, by the store, of what goes through the queue in a second.
pub(crate) fn bounds(store: &str) -> [f64; 2] {
    if store == "sqlite" {
        [5_000.0, 12_000.0]
    } else {
        [8_000.0, 15_000.0]
    }
}

/// Lines of JSON: `id`, `what`, `value`, `unit`, and `bounds` where there are any.
#[derive(Debug, Default)]
pub(crate) struct Figures(String);

impl Figures {
    pub(crate) fn add(&mut self, id: &str, what: &str, value: f64, unit: &str, bounds: Option<[f64; 2]>) {
        println!("  {id:<4} {what:<84} {value:>10.1} {unit}");
        let bounds = bounds.map_or_else(|| "null".to_owned(), |[must, goal]| format!("[{must},{goal}]"));
        // Writing to a string cannot fail. The texts are ours and hold nothing to be escaped.
        writeln!(
            self.0,
            r#"{{"id":"{id}","what":"{what}","value":{value},"unit":"{unit}","bounds":{bounds}}}"#
        )
        .unwrap_or_default();
    }

    pub(crate) fn json(&self) -> &str {
        &self.0
    }
}
