//! The example calls of the reference documents, body by body as they are written there. Each test bears its row's id.

mod s0;
mod s1;
mod s3;
mod s4;

/// The documents annotate their bodies with `//` comments, which JSON does not have.
pub(crate) fn without_comments(body: &str) -> String {
    body.lines()
        .map(|line| line.split_once("  //").map_or(line, |(code, _)| code))
        .collect::<Vec<_>>()
        .join("\n")
}
