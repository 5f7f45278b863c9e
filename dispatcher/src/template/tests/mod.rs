//! Templates as a whole: what works, and what must not end the process, take its memory or its time.

mod hostile;
mod random;
mod supported;

use serde_json::{Map, json};

use super::{InvalidTemplate, RenderError, Variables, compile, environment};
use crate::model::{NewTemplate, Syntax};

/// The stack of a worker thread of the runtime.
const STACK: usize = 2 * 1024 * 1024;
/// What the tests take of it: the rest is for the server's own frames.
const PART_OF_STACK: usize = STACK / 4;

fn template(content: &str) -> NewTemplate {
    NewTemplate {
        name: "t".to_owned(),
        title: "T".to_owned(),
        content: content.to_owned(),
        html: Some(content.to_owned()),
        channels: Vec::new(),
        priority: None,
        kind: None,
        variables: Vec::new(),
        syntax: Syntax::Jinja,
    }
}

/// Runs on a thread with little stack; an overflow ends the test process.
fn on_small_stack<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new()
        .stack_size(PART_OF_STACK)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap()
}

#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Refused(InvalidTemplate),
    Failed(RenderError),
    Rendered(String),
}

fn run(content: &str, variables: serde_json::Value) -> Outcome {
    let content = content.to_owned();
    let variables: Variables = match variables {
        serde_json::Value::Object(map) => map,
        _ => Map::new(),
    };
    on_small_stack(move || match compile(&environment(), &template(&content)) {
        Err(error) => Outcome::Refused(error),
        Ok(compiled) => match compiled.render(&variables) {
            Err(error) => Outcome::Failed(error),
            Ok(rendered) => Outcome::Rendered(rendered.content),
        },
    })
}

fn is_refused(content: &str) -> bool {
    matches!(
        run(content, json!({"x": "a"})),
        Outcome::Refused(InvalidTemplate::Syntax { part: "content", .. })
    )
}
