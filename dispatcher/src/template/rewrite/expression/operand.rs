//! Operands: names, literals and brackets, with their members, subscripts, calls, filters and tests.

use super::{Expression, KEYWORDS, Token, Written, deeper, filtered};
use crate::template::bounds::{FILTERS, TESTS};

impl Expression<'_, '_> {
    /// A signed operand with its filters and tests.
    pub(super) fn filtered(&mut self) -> Result<Written, String> {
        let mut written = self.signed()?;
        loop {
            if self.takes("|") {
                self.count()?;
                let name = self.name()?;
                if !FILTERS.contains(&name) {
                    return Err(format!(
                        "unknown filter `{name}`; there are {}",
                        FILTERS.join(", ")
                    ));
                }
                let (arguments, depth) = self.arguments_if_any()?;
                let depth = depth.max(written.depth);
                written = filtered(format!("{}|{name}{arguments}", written.code), depth)?;
            } else if self.takes_word("is") {
                self.count()?;
                let not = if self.takes_word("not") { "not " } else { "" };
                let name = match self.next() {
                    Some(Token::Name(name)) if TESTS.contains(&name) => name,
                    _ => return Err(format!("unknown test; there are {}", TESTS.join(", "))),
                };
                let (arguments, depth) = match self.tokens.first() {
                    Some(Token::Text(_) | Token::Number(_) | Token::Sign("[")) => {
                        let argument = self.signed()?;
                        (format!("({})", argument.code), argument.depth)
                    }
                    Some(Token::Name(name)) if !KEYWORDS.contains(name) => {
                        let argument = self.signed()?;
                        (format!("({})", argument.code), argument.depth)
                    }
                    _ => self.arguments_if_any()?,
                };
                let depth = depth.max(written.depth);
                written = deeper(format!("({} is {not}{name}{arguments})", written.code), depth)?;
            } else {
                return Ok(written);
            }
        }
    }

    fn signed(&mut self) -> Result<Written, String> {
        let mut signs = 0;
        while self.takes("-") {
            self.count()?;
            signs += 1;
        }
        let written = self.postfixed()?;
        match signs {
            0 => Ok(written),
            1 => {
                let written = written.bracketed();
                deeper(format!("(-{})", written.code), written.depth)
            }
            _ => Err("more than one `-`".to_owned()),
        }
    }

    fn postfixed(&mut self) -> Result<Written, String> {
        let name = match self.tokens.first() {
            Some(Token::Name(name)) => Some(*name),
            _ => None,
        };
        let mut written = self.primary()?;
        // What may be called.
        let mut function = name.filter(|name| *name == "range");
        loop {
            if self.takes(".") {
                self.count()?;
                let member = match self.next() {
                    Some(Token::Name(member)) => member,
                    Some(Token::Number(index)) if !index.contains('.') => {
                        function = None;
                        written = filtered(format!("{}|_item({index})", written.code), written.depth)?;
                        continue;
                    }
                    _ => return Err("unexpected token behind `.`, expected a name".to_owned()),
                };
                function =
                    (name == Some("loop") && member == "cycle" && written.code == "loop").then_some(member);
                written = written.bracketed();
                written = deeper(format!("{}.{member}", written.code), written.depth)?;
            } else if self.takes("[") {
                written = self.inside(|parser| parser.subscript(written))?;
                function = None;
            } else if self.tokens.first() == Some(&Token::Sign("(")) {
                if function.take().is_none() {
                    return Err(
                        "only `range` and `loop.cycle` can be called; use filters, as in `name|upper`"
                            .to_owned(),
                    );
                }
                let (arguments, depth) = self.arguments_if_any()?;
                // `cycle` divides by their number.
                if arguments == "()" {
                    return Err("arguments are missing".to_owned());
                }
                written = deeper(format!("{}{arguments}", written.code), depth.max(written.depth))?;
            } else {
                return Ok(written);
            }
        }
    }

    /// `[index]` or `[from:to]`, behind the `[`.
    fn subscript(&mut self, of: Written) -> Result<Written, String> {
        // As it stands, so that the path of a variable that is missing is known.
        if let [Token::Text(key), Token::Sign("]"), ..] = self.tokens {
            self.next();
            self.next();
            let of = of.bracketed();
            return deeper(format!("{}[{key}]", of.code), of.depth);
        }
        let mut depth = of.depth;
        let mut bounds = ["none".to_owned(), "none".to_owned()];
        let mut sliced = false;
        for (index, bound) in bounds.iter_mut().enumerate() {
            if !matches!(self.tokens.first(), Some(Token::Sign(":" | "]"))) {
                let written = self.conditional()?;
                depth = depth.max(written.depth);
                *bound = written.code;
            } else if index == 0 && self.tokens.first() == Some(&Token::Sign("]")) {
                return Err("empty subscript".to_owned());
            }
            if index == 0 {
                sliced = self.takes(":");
                if !sliced {
                    break;
                }
            }
        }
        self.expect("]")?;
        let [from, to] = bounds;
        let code = if sliced {
            format!("{}|_slice({from}, {to})", of.code)
        } else {
            format!("{}|_item({from})", of.code)
        };
        filtered(code, depth)
    }

    fn primary(&mut self) -> Result<Written, String> {
        match self.tokens.first() {
            Some(Token::Name(name)) if name.starts_with("__") => {
                Err("names that begin with `__` are reserved".to_owned())
            }
            Some(Token::Name(_)) => Ok(Written::primary(self.name()?, 1)),
            Some(Token::Number(text) | Token::Text(text)) => {
                self.next();
                Ok(Written::primary(*text, 1))
            }
            Some(Token::Sign("(")) => {
                self.next();
                self.inside(|parser| {
                    let written = parser.conditional()?;
                    parser.expect(")")?;
                    Ok(written)
                })
            }
            Some(Token::Sign("[")) => {
                self.next();
                self.inside(|parser| {
                    let (items, depth) = parser.items("]", Self::conditional_code)?;
                    filtered(format!("[{items}]|_whole"), depth + 1)
                })
            }
            Some(Token::Sign("{")) => {
                self.next();
                self.inside(|parser| {
                    let (items, depth) = parser.items("}", |parser| {
                        let key = parser.conditional()?;
                        parser.expect(":")?;
                        let value = parser.conditional()?;
                        let depth = (key.depth + 1).max(value.depth);
                        Ok((format!("{}|_key: {}", key.code, value.code), depth))
                    })?;
                    filtered(format!("{{{items}}}|_whole"), depth + 1)
                })
            }
            _ => Err(self.unexpected("an expression")),
        }
    }

    fn conditional_code(&mut self) -> Result<(String, usize), String> {
        let written = self.conditional()?;
        Ok((written.code, written.depth))
    }

    /// Things between commas up to the closing bracket.
    fn items(
        &mut self,
        close: &str,
        item: impl Fn(&mut Self) -> Result<(String, usize), String>,
    ) -> Result<(String, usize), String> {
        let mut items = String::new();
        let mut depth = 0;
        while !self.takes(close) {
            if !items.is_empty() {
                self.expect(",")?;
                if self.takes(close) {
                    break;
                }
                items.push_str(", ");
            }
            let (code, below) = item(self)?;
            items.push_str(&code);
            depth = depth.max(below);
        }
        Ok((items, depth))
    }

    /// `(a, b, name=c)`, or nothing.
    fn arguments_if_any(&mut self) -> Result<(String, usize), String> {
        if !self.takes("(") {
            return Ok((String::new(), 0));
        }
        self.inside(|parser| {
            let (items, depth) = parser.items(")", |parser| {
                if let [Token::Name(name), Token::Sign("="), ..] = parser.tokens {
                    parser.next();
                    parser.next();
                    let (code, depth) = parser.conditional_code()?;
                    return Ok((format!("{name}={code}"), depth));
                }
                parser.conditional_code()
            })?;
            Ok((format!("({items})"), depth + 1))
        })
    }
}
