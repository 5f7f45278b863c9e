//! Expressions: a parser that writes what it reads.

mod operand;

use super::{MAX_BRACKETS, MAX_DEPTH, MAX_OPERATORS, lexer::Token};

const KEYWORDS: [&str; 10] = [
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "else",
    "elif",
    "for",
    "recursive",
];
const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];

/// An expression that was written.
struct Written {
    code: String,
    depth: usize,
    /// May be followed by a member as it stands. Anything may be followed by a filter.
    primary: bool,
}

impl Written {
    fn primary(code: impl Into<String>, depth: usize) -> Self {
        Self {
            code: code.into(),
            depth,
            primary: true,
        }
    }

    /// In brackets, where it needs them to be followed by a member or led by a sign.
    fn bracketed(self) -> Self {
        if self.primary {
            return self;
        }
        Self::primary(format!("({})", self.code), self.depth + 1)
    }
}

/// A parser at some place of a tag.
pub(super) struct Expression<'a, 't> {
    tokens: &'t [Token<'a>],
    operators: usize,
    brackets: usize,
}

impl<'a, 't> Expression<'a, 't> {
    /// The whole of `{{ … }}`.
    pub(super) fn of_tag(tokens: &'t [Token<'a>]) -> Result<String, String> {
        Self::whole(tokens, Self::conditional)
    }

    /// What follows `if`.
    pub(super) fn of_condition(tokens: &'t [Token<'a>]) -> Result<String, String> {
        Self::whole(tokens, Self::or)
    }

    /// What follows `for`.
    pub(super) fn of_loop(tokens: &'t [Token<'a>]) -> Result<String, String> {
        let mut parser = Self::new(tokens);
        let mut names = vec![parser.target()?];
        while parser.takes(",") {
            names.push(parser.target()?);
        }
        if names.len() > 8 {
            return Err("`for` takes at most 8 names".to_owned());
        }
        if !parser.takes_word("in") {
            return Err(parser.unexpected("`in`"));
        }
        let mut code = format!("for {} in {}", names.join(", "), parser.or()?.code);
        if parser.takes_word("if") {
            code.push_str(" if ");
            code.push_str(&parser.conditional()?.code);
        }
        parser.end()?;
        Ok(code)
    }

    fn new(tokens: &'t [Token<'a>]) -> Self {
        Self {
            tokens,
            operators: 0,
            brackets: 0,
        }
    }

    fn whole(
        tokens: &'t [Token<'a>],
        parse: fn(&mut Self) -> Result<Written, String>,
    ) -> Result<String, String> {
        let mut parser = Self::new(tokens);
        let written = parse(&mut parser)?;
        parser.end()?;
        Ok(written.code)
    }

    fn end(&self) -> Result<(), String> {
        if self.tokens.is_empty() {
            Ok(())
        } else {
            Err(self.unexpected("the end of the tag"))
        }
    }

    fn unexpected(&self, expected: &str) -> String {
        match self.tokens.first() {
            Some(Token::Name(text) | Token::Number(text) | Token::Sign(text)) => {
                format!("unexpected `{text}`, expected {expected}")
            }
            Some(Token::Text(_)) => format!("unexpected string, expected {expected}"),
            None => format!("unexpected end of the tag, expected {expected}"),
        }
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(*first)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = self.tokens.first() == Some(&Token::Sign(sign));
        if found {
            self.next();
        }
        found
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let found = self.tokens.first() == Some(&Token::Name(word));
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.takes(sign) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("`{sign}`")))
        }
    }

    fn name(&mut self) -> Result<&'a str, String> {
        match self.tokens.first() {
            Some(Token::Name(name)) if !KEYWORDS.contains(name) => {
                self.next();
                Ok(name)
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    /// A name that a loop gives.
    fn target(&mut self) -> Result<&'a str, String> {
        let name = self.name()?;
        // A loop must not put a value of its own in the place of a function.
        if matches!(name, "range" | "loop") {
            return Err(format!("`{name}` cannot be a loop's name"));
        }
        Ok(name)
    }

    /// Counts an operator, a member, a filter or a bracket.
    fn count(&mut self) -> Result<(), String> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return Err(format!(
                "more than {MAX_OPERATORS} operators, members and filters in one tag"
            ));
        }
        Ok(())
    }

    /// Reads something in brackets or behind `else`.
    fn inside<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        self.count()?;
        self.brackets += 1;
        if self.brackets > MAX_BRACKETS {
            return Err(format!("brackets are nested more than {MAX_BRACKETS} deep"));
        }
        let read = read(self)?;
        self.brackets -= 1;
        Ok(read)
    }

    /// `a if b else c`.
    fn conditional(&mut self) -> Result<Written, String> {
        let mut written = self.or()?;
        while self.takes_word("if") {
            self.count()?;
            let test = self.or()?;
            let mut depth = written.depth.max(test.depth);
            let mut code = format!("({} if {}", written.code, test.code);
            if self.takes_word("else") {
                let other = self.inside(Self::conditional)?;
                depth = depth.max(other.depth);
                code.push_str(" else ");
                code.push_str(&other.code);
            }
            code.push(')');
            written = deeper(code, depth)?;
        }
        Ok(written)
    }

    fn or(&mut self) -> Result<Written, String> {
        self.words("or", Self::and)
    }

    fn and(&mut self) -> Result<Written, String> {
        self.words("and", Self::not)
    }

    /// `and` and `or` stay as they are, as they do not look at their right side when the left one decides.
    fn words(
        &mut self,
        word: &str,
        part: fn(&mut Self) -> Result<Written, String>,
    ) -> Result<Written, String> {
        let mut written = part(self)?;
        if self.tokens.first() != Some(&Token::Name(word)) {
            return Ok(written);
        }
        let mut depth = written.depth;
        let mut code = format!("({}", written.code);
        let mut parts = 0;
        while self.takes_word(word) {
            self.count()?;
            let right = part(self)?;
            parts += 1;
            depth = depth.max(right.depth);
            code.push_str(&format!(" {word} {}", right.code));
        }
        code.push(')');
        // The first of them lies under all the others.
        written = deeper(code, depth + parts)?;
        Ok(written)
    }

    fn not(&mut self) -> Result<Written, String> {
        let mut negations = 0;
        while self.takes_word("not") {
            self.count()?;
            negations += 1;
        }
        let written = self.comparison()?;
        match negations {
            0 => Ok(written),
            // Twice is a truth value again.
            count => {
                let twice = if count % 2 == 0 { "not not" } else { "not" };
                deeper(format!("({twice} {})", written.code), written.depth + 2)
            }
        }
    }

    fn comparison(&mut self) -> Result<Written, String> {
        let mut call = Call::new(self.sum()?, "_compare");
        loop {
            let operator = match self.tokens {
                [Token::Sign(sign), ..] if COMPARISONS.contains(sign) => {
                    self.next();
                    *sign
                }
                [Token::Name("in"), ..] => {
                    self.next();
                    "in"
                }
                [Token::Name("not"), Token::Name("in"), ..] => {
                    self.next();
                    self.next();
                    "not in"
                }
                _ => return call.written(),
            };
            self.count()?;
            let right = self.sum()?;
            call.operator(operator, &right);
        }
    }

    fn sum(&mut self) -> Result<Written, String> {
        self.arithmetic(&["+", "-"], Self::concatenation)
    }

    fn concatenation(&mut self) -> Result<Written, String> {
        let mut call = Call::new(self.product()?, "_cat");
        while self.takes("~") {
            self.count()?;
            let right = self.product()?;
            call.argument(&right);
        }
        call.written()
    }

    fn product(&mut self) -> Result<Written, String> {
        self.arithmetic(&["*", "//", "/", "%"], Self::power)
    }

    fn power(&mut self) -> Result<Written, String> {
        self.arithmetic(&["**"], Self::filtered)
    }

    fn arithmetic(
        &mut self,
        signs: &[&str],
        part: fn(&mut Self) -> Result<Written, String>,
    ) -> Result<Written, String> {
        let mut call = Call::new(part(self)?, "_calculate");
        while let Some(Token::Sign(sign)) = self.tokens.first().filter(|token| match token {
            Token::Sign(sign) => signs.contains(sign),
            _ => false,
        }) {
            self.next();
            self.count()?;
            let right = part(self)?;
            call.operator(sign, &right);
        }
        call.written()
    }
}

/// A filter's call on what is `below`.
fn filtered(code: String, below: usize) -> Result<Written, String> {
    let mut written = deeper(code, below)?;
    written.primary = false;
    Ok(written)
}

fn deeper(code: String, below: usize) -> Result<Written, String> {
    if below >= MAX_DEPTH {
        return Err(format!(
            "an expression is nested or chained more than {MAX_DEPTH} deep"
        ));
    }
    Ok(Written::primary(code, below + 1))
}

/// Operators of one precedence, as one call of a filter: `a + b - c` is `a|_calculate('+', b, '-', c)`, flat.
struct Call {
    first: Written,
    filter: &'static str,
    arguments: String,
    depth: usize,
}

impl Call {
    fn new(first: Written, filter: &'static str) -> Self {
        Self {
            depth: first.depth,
            first,
            filter,
            arguments: String::new(),
        }
    }

    fn argument(&mut self, right: &Written) {
        if !self.arguments.is_empty() {
            self.arguments.push_str(", ");
        }
        self.arguments.push_str(&right.code);
        self.depth = self.depth.max(right.depth);
    }

    fn operator(&mut self, operator: &str, right: &Written) {
        if !self.arguments.is_empty() {
            self.arguments.push_str(", ");
        }
        self.arguments.push_str(&format!("'{operator}', {}", right.code));
        self.depth = self.depth.max(right.depth);
    }

    fn written(self) -> Result<Written, String> {
        if self.arguments.is_empty() {
            return Ok(self.first);
        }
        let Self {
            first,
            filter,
            arguments,
            depth,
        } = self;
        filtered(format!("{}|{filter}({arguments})", first.code), depth)
    }
}
