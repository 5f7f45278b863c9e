//! Templates are parsed here first, and written anew for minijinja in a subset that is bounded by construction.
//!
//! minijinja's parser, code generator and destructors recurse with the length of a chain (`1+1+1…`, `{% elif %}…`), and
//! its operators make values of any size. What it gets to see is therefore what this module writes:
//!
//! - blocks and expressions nest at most [`MAX_BLOCKS`] and [`MAX_DEPTH`] deep, and a tag has at most [`MAX_OPERATORS`]
//!   operators, members, filters and brackets;
//! - operators that take time or memory with the size of their operands are calls of the filters in
//!   [`bounds`](super::bounds), which count the bytes they handle: `a ~ b` is written `a|_cat(b)`. Names that begin with
//!   two underscores or filters that begin with one cannot be written by a template;
//! - statements are `if` and `for` alone: nothing (`set`, `with`, macros, captures) binds a computed value to a name, so
//!   that values do not grow from statement to statement.
//!
//! Texts between tags, comments and raw blocks stay as they are, and each tag keeps its line ends, so that the lines of
//! later errors are those of the template.

mod expression;
mod lexer;

use self::{
    expression::Expression,
    lexer::{Token, tokens},
};

/// Blocks inside blocks.
const MAX_BLOCKS: usize = 10;
/// `elif` of the blocks that are open at one place; each is a block inside the one before.
const MAX_BRANCHES: usize = 32;
/// Expressions inside expressions; a filter or a member holds the expression it is applied to.
const MAX_DEPTH: usize = 24;
/// Brackets inside brackets.
const MAX_BRACKETS: usize = 10;
/// Operators, members, filters and brackets of one tag.
const MAX_OPERATORS: usize = 100;

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// From 1.
    pub(super) line: usize,
    /// What is wrong.
    pub(super) detail: String,
}

/// An `if` or `for` that is open.
struct Block {
    name: &'static str,
    branches: usize,
    /// `else` was seen.
    last: bool,
}

/// Writes a template for minijinja.
///
/// # Errors
/// [`Refused`] for what is no Jinja2, beyond the limits, or not supported.
pub(super) fn rewrite(source: &str) -> Result<String, Refused> {
    let mut out = String::with_capacity(source.len() + source.len() / 4);
    let mut blocks: Vec<Block> = Vec::new();
    let mut rest = source;
    while let Some((at, mark)) = next_mark(rest) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let refused = |detail: String| Refused {
            line: source[..source.len() - rest.len()].matches('\n').count() + 1,
            detail,
        };
        let length = match mark {
            b'#' => verbatim(&mut out, rest, comment(rest)).map_err(refused)?,
            b'%' if raw(rest).is_some() => verbatim(&mut out, rest, raw(rest)).map_err(refused)?,
            b'{' => tag(&mut out, rest, "}}", |tokens| Expression::of_tag(tokens)).map_err(refused)?,
            _ => tag(&mut out, rest, "%}", |tokens| statement(tokens, &mut blocks)).map_err(refused)?,
        };
        rest = &rest[length..];
    }
    out.push_str(rest);
    match blocks.last() {
        Some(block) => Err(Refused {
            line: source.lines().count(),
            detail: format!("unexpected end of input: `{0}` lacks its `end{0}`", block.name),
        }),
        None => Ok(out),
    }
}

/// The next `{{`, `{%` or `{#`: where, and its second byte.
fn next_mark(text: &str) -> Option<(usize, u8)> {
    text.as_bytes()
        .windows(2)
        .enumerate()
        .find_map(|(at, pair)| match pair {
            [b'{', mark @ (b'{' | b'%' | b'#')] => Some((at, *mark)),
            _ => None,
        })
}

/// The length of a tag's opening with its `-` or `+`.
fn opening(text: &str) -> usize {
    2 + usize::from(text[2..].starts_with(['-', '+']))
}

fn verbatim(out: &mut String, text: &str, length: Option<usize>) -> Result<usize, String> {
    let length = length
        .filter(|length| *length > 0)
        .ok_or("unexpected end of a comment or raw block")?;
    out.push_str(&text[..length]);
    Ok(length)
}

fn comment(text: &str) -> Option<usize> {
    let start = opening(text);
    text[start..].find("#}").map(|end| start + end + 2)
}

/// The length of a raw block, 0 where it has no end, none where the tag is another.
fn raw(text: &str) -> Option<usize> {
    let mut at = opening(text);
    at += basic(&text[at..], "raw")?;
    while let Some(start) = text[at..].find("{%") {
        at += start + 2;
        let marked = usize::from(text[at..].starts_with(['-', '+']));
        if let Some(length) = basic(&text[at + marked..], "endraw") {
            return Some(at + marked + length);
        }
    }
    Some(0)
}

/// The length of ` name %}`.
fn basic(text: &str, name: &str) -> Option<usize> {
    let blank = |c: char| c.is_ascii_whitespace();
    let rest = text
        .trim_start_matches(blank)
        .strip_prefix(name)?
        .trim_start_matches(blank);
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).strip_prefix("%}")?;
    Some(text.len() - rest.len())
}

/// Writes a tag anew.
fn tag<'a>(
    out: &mut String,
    text: &'a str,
    end: &str,
    write: impl FnOnce(&[Token<'a>]) -> Result<String, String>,
) -> Result<usize, String> {
    let start = opening(text);
    let (tokens, length) = tokens(&text[start..], end)?;
    let length = start + length;
    let code = write(&tokens)?;
    let tag = &text[..length];
    out.push_str(&tag[..start]);
    out.push(' ');
    out.push_str(&code);
    out.push(' ');
    // What is written has the line ends that are in texts; those between tokens are added.
    let lines = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count();
    out.extend(std::iter::repeat_n('\n', lines(tag).saturating_sub(lines(&code))));
    let marked = tag[..length - 2].ends_with(['-', '+']) && length - 2 > start;
    out.push_str(&tag[length - 2 - usize::from(marked)..]);
    Ok(length)
}

fn statement(tokens: &[Token<'_>], blocks: &mut Vec<Block>) -> Result<String, String> {
    let Some((Token::Name(name), rest)) = tokens.split_first() else {
        return Err("a block begins with its name".to_owned());
    };
    let open = blocks.last_mut();
    match (*name, open) {
        ("if", _) => {
            push(blocks, "if")?;
            Ok(format!("if {}", Expression::of_condition(rest)?))
        }
        ("for", _) => {
            push(blocks, "for")?;
            Expression::of_loop(rest)
        }
        ("elif", Some(block)) if block.name == "if" && !block.last => {
            block.branches += 1;
            if blocks.iter().map(|block| block.branches).sum::<usize>() > MAX_BRANCHES {
                return Err(format!("more than {MAX_BRANCHES} `elif`"));
            }
            Ok(format!("elif {}", Expression::of_condition(rest)?))
        }
        ("else", Some(block)) if !block.last && rest.is_empty() => {
            block.last = true;
            Ok("else".to_owned())
        }
        (end @ ("endif" | "endfor"), Some(block))
            if end.strip_prefix("end") == Some(block.name) && rest.is_empty() =>
        {
            blocks.pop();
            Ok(end.to_owned())
        }
        ("elif" | "else" | "endif" | "endfor" | "endraw", _) => Err(format!("unexpected `{name}`")),
        ("set" | "with", _) => Err(format!(
            "`{name}` is not supported: write the expression where it is used, or send its value as a variable"
        )),
        _ => Err(format!(
            "`{name}` is not supported: a template has `if`, `for`, `raw` and comments"
        )),
    }
}

fn push(blocks: &mut Vec<Block>, name: &'static str) -> Result<(), String> {
    if blocks.len() >= MAX_BLOCKS {
        return Err(format!("blocks are nested more than {MAX_BLOCKS} deep"));
    }
    blocks.push(Block {
        name,
        branches: 0,
        last: false,
    });
    Ok(())
}
