//! The predefined templates, ready to be rendered, for benches.

use serde_json::json;

use super::{Compiled, RenderError, Variables, compile, environment, error::InvalidTemplate, predefined};

/// All eight, compiled, with variables as a shop would give them.
#[derive(Debug)]
pub struct PredefinedTemplates(Vec<(Compiled, Variables)>);

impl PredefinedTemplates {
    /// Compiles them.
    ///
    /// # Errors
    /// Never, as the tests say.
    pub fn compile() -> Result<Self, Box<dyn std::error::Error>> {
        let environment = environment();
        let all: Result<Vec<_>, InvalidTemplate> = predefined()
            .iter()
            .map(|template| {
                let compiled = compile(&environment, &template.body)?;
                let variables = compiled
                    .variables()
                    .iter()
                    .map(|name| (name.clone(), json!("2026-11-20 21:30")))
                    .collect();
                Ok((compiled, variables))
            })
            .collect();
        Ok(Self(all?))
    }

    /// Renders each once; the bytes that came out.
    ///
    /// # Errors
    /// Never: every variable is there.
    pub fn render_all(&self) -> Result<usize, Box<dyn std::error::Error>> {
        let bytes: Result<usize, RenderError> = self
            .0
            .iter()
            .map(|(compiled, variables)| {
                let rendered = compiled.render(variables)?;
                Ok(rendered.title.len() + rendered.content.len())
            })
            .sum();
        Ok(bytes?)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_eight_are_rendered() {
        let all = PredefinedTemplates::compile().unwrap();
        assert_eq!(all.count(), 8);
        assert!(all.render_all().unwrap() > 100);
    }
}
