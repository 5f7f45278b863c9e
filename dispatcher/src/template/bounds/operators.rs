//! Operators, as the filters that they are written as.

use std::fmt::{self, Write as _};

use minijinja::{
    Environment, Error, ErrorKind, State,
    value::{Kwargs, ObjectRepr, Value, ValueKind},
};

use super::{MAX_VALUE, charge, charge_all, is_list, made, size, too_much};

/// Bytes of a text that is looked up as a key.
const MAX_KEY: usize = 1024;

pub(super) fn install(environment: &mut Environment<'static>) {
    environment.add_filter("_cat", concatenate);
    environment.add_filter("_calculate", calculate);
    environment.add_filter("_compare", compare_all);
    environment.add_filter("_slice", slice);
    environment.add_filter("_item", item);
    environment.add_filter("_key", key);
    for (name, operator) in [
        ("eq", "=="),
        ("equalto", "=="),
        ("sameas", "=="),
        ("ne", "!="),
        ("lt", "<"),
        ("lessthan", "<"),
        ("le", "<="),
        ("gt", ">"),
        ("greaterthan", ">"),
        ("ge", ">="),
        ("in", "in"),
    ] {
        environment.add_test(name, move |state: &State<'_, '_>, left: &Value, right: &Value| {
            compare(state, left, operator, right)
        });
    }
}

fn given(value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    Ok(())
}

fn unsupported(operator: &str, left: &Value, right: &Value) -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!(
            "tried to use {operator} operator on unsupported types {} and {}",
            left.kind(),
            right.kind()
        ),
    )
}

/// A text that takes no more than a value may have.
#[derive(Default)]
struct Text(String);

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_VALUE {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// `a ~ b ~ c`.
fn concatenate(state: &State<'_, '_>, first: &Value, others: &[Value]) -> Result<Value, Error> {
    let mut text = Text::default();
    for value in std::iter::once(first).chain(others.iter()) {
        given(value)?;
        charge_all(state, value)?;
        write!(text, "{value}").map_err(|_| too_much())?;
    }
    made(state, Value::from(text.0))
}

/// `a + b - c`, from left to right.
fn calculate(state: &State<'_, '_>, first: &Value, others: &[Value]) -> Result<Value, Error> {
    let mut value = first.clone();
    for pair in others.chunks_exact(2) {
        let [operator, right] = pair else { continue };
        value = apply(state, &value, operator.as_str().unwrap_or_default(), right)?;
    }
    Ok(value)
}

fn apply(state: &State<'_, '_>, left: &Value, operator: &str, right: &Value) -> Result<Value, Error> {
    given(left)?;
    given(right)?;
    if let Some(value) = number(left, operator, right)? {
        return Ok(value);
    }
    match (operator, left.as_str(), right.as_str()) {
        ("+", Some(_), Some(_)) => concatenate(state, left, std::slice::from_ref(right)),
        ("+", None, None) if is_list(left) && is_list(right) => {
            charge_all(state, left)?;
            charge_all(state, right)?;
            made(state, left.try_iter()?.chain(right.try_iter()?).collect())
        }
        ("*", Some(text), None) => repeat(state, text, right),
        ("*", None, Some(text)) => repeat(state, text, left),
        _ => Err(unsupported(operator, left, right)),
    }
}

fn repeat(state: &State<'_, '_>, text: &str, times: &Value) -> Result<Value, Error> {
    let times = times.as_usize().filter(|_| times.is_integer()).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            "strings can only be multiplied with integers",
        )
    })?;
    match text.len().checked_mul(times) {
        Some(bytes) if bytes <= MAX_VALUE => made(state, Value::from(text.repeat(times))),
        _ => Err(too_much()),
    }
}

enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    fn of(value: &Value) -> Option<Self> {
        match value.kind() {
            ValueKind::Bool => Some(Self::Integer(i128::from(value.is_true()))),
            ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok().map(Self::Integer),
            ValueKind::Number => f64::try_from(value.clone()).ok().map(Self::Float),
            _ => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "as Python and minijinja do")]
    fn float(&self) -> f64 {
        match self {
            Self::Integer(number) => *number as f64,
            Self::Float(number) => *number,
        }
    }

    fn value(self) -> Value {
        match self {
            Self::Integer(number) => i64::try_from(number).map_or_else(|_| Value::from(number), Value::from),
            Self::Float(number) => Value::from(number),
        }
    }
}

/// Arithmetic as Python has it; none where one of the two is no number.
fn number(left: &Value, operator: &str, right: &Value) -> Result<Option<Value>, Error> {
    let (Some(a), Some(b)) = (Number::of(left), Number::of(right)) else {
        return Ok(None);
    };
    let failed = || {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("unable to calculate {left} {operator} {right}"),
        )
    };
    let result = match (&a, &b) {
        (Number::Integer(a), Number::Integer(b)) if operator != "/" && !(operator == "**" && *b < 0) => {
            integers(*a, operator, *b).map(Number::Integer)
        }
        _ => floats(a.float(), operator, b.float()).map(Number::Float),
    };
    result.map(|number| Some(number.value())).ok_or_else(failed)
}

fn integers(a: i128, operator: &str, b: i128) -> Option<i128> {
    match operator {
        "+" => a.checked_add(b),
        "-" => a.checked_sub(b),
        "*" => a.checked_mul(b),
        "**" => a.checked_pow(u32::try_from(b).ok()?),
        // Rounded down, so that the rest has the divisor's sign.
        "//" => {
            let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
            if rest != 0 && (rest < 0) != (b < 0) {
                quotient.checked_sub(1)
            } else {
                Some(quotient)
            }
        }
        "%" => {
            let rest = a.checked_rem(b)?;
            Some(if rest != 0 && (rest < 0) != (b < 0) {
                rest + b
            } else {
                rest
            })
        }
        _ => None,
    }
}

fn floats(a: f64, operator: &str, b: f64) -> Option<f64> {
    match operator {
        "+" => Some(a + b),
        "-" => Some(a - b),
        "*" => Some(a * b),
        "**" if a == 0.0 && b < 0.0 => None,
        "**" => Some(a.powf(b)),
        _ if b == 0.0 => None,
        "/" => Some(a / b),
        "//" => Some((a / b).floor()),
        "%" => {
            let rest = a % b;
            Some(if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
                rest + b
            } else {
                rest
            })
        }
        _ => None,
    }
}

/// The sum of a list's numbers.
#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja gives keyword arguments by value"
)]
pub(super) fn sum(list: &Value, attribute: Option<&str>, options: Kwargs) -> Result<Value, Error> {
    let attribute = match attribute {
        Some(attribute) => Some(attribute),
        None => options.get::<Option<&str>>("attribute")?,
    };
    options.assert_all_used()?;
    let mut sum = Value::from(0);
    for item in list.try_iter()? {
        let item = match attribute {
            Some(path) => path
                .split('.')
                .try_fold(item, |item, member| item.get_attr(member))
                .unwrap_or_default(),
            None => item,
        };
        if item.is_undefined() {
            continue;
        }
        sum = number(&sum, "+", &item)?.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOperation,
                format!("can only sum numbers, got {}", item.kind()),
            )
        })?;
    }
    Ok(sum)
}

/// Whether one integer goes into another.
pub(super) fn is_divisible(value: &Value, by: &Value) -> bool {
    matches!(number(value, "%", by), Ok(Some(rest)) if rest == Value::from(0))
}

/// `a < b == c`: whether all neighbours compare so.
fn compare_all(state: &State<'_, '_>, first: &Value, others: &[Value]) -> Result<bool, Error> {
    let mut left = first;
    for pair in others.chunks_exact(2) {
        let [operator, right] = pair else { continue };
        if !compare(state, left, operator.as_str().unwrap_or_default(), right)? {
            return Ok(false);
        }
        left = right;
    }
    Ok(true)
}

fn compare(state: &State<'_, '_>, left: &Value, operator: &str, right: &Value) -> Result<bool, Error> {
    given(left)?;
    given(right)?;
    charge_all(state, left)?;
    let is_map = |value: &Value| {
        value
            .as_object()
            .is_some_and(|object| object.repr() == ObjectRepr::Map)
    };
    if operator.ends_with("in") && is_map(right) {
        // A map is looked into by key, in some 14 steps.
        charge(state, size(left).saturating_mul(14))?;
    } else {
        charge_all(state, right)?;
    }
    Ok(match operator {
        "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        ">=" => left >= right,
        "in" => contains(right, left)?,
        _ => !contains(right, left)?,
    })
}

fn contains(container: &Value, value: &Value) -> Result<bool, Error> {
    if let Some(text) = container.as_str() {
        return Ok(match value.as_str() {
            Some(part) => text.contains(part),
            None => text.contains(&value.to_string()),
        });
    }
    match container.as_object() {
        Some(object) if object.repr() == ObjectRepr::Map => Ok(object.get_value(value).is_some()),
        Some(_) => Ok(container.try_iter()?.any(|item| item == *value)),
        None => Err(Error::new(
            ErrorKind::InvalidOperation,
            "cannot perform a containment check on this value",
        )),
    }
}

/// `a[from:to]`, where negative numbers count from the end.
fn slice(state: &State<'_, '_>, value: &Value, from: Option<i64>, to: Option<i64>) -> Result<Value, Error> {
    given(value)?;
    charge_all(state, value)?;
    let bounds = |length: usize| {
        let place = |at: i64| {
            let distance = usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX);
            if at < 0 {
                length.saturating_sub(distance)
            } else {
                distance
            }
        };
        let from = from.map_or(0, place);
        (from, to.map_or(length, place).saturating_sub(from))
    };
    if let Some(text) = value.as_str() {
        let (skip, take) = bounds(text.chars().count());
        return made(
            state,
            Value::from(text.chars().skip(skip).take(take).collect::<String>()),
        );
    }
    if !is_list(value) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("value of type {} cannot be sliced", value.kind()),
        ));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    let (skip, take) = bounds(items.len());
    made(state, items.into_iter().skip(skip).take(take).collect())
}

/// `a[key]`, undefined where there is none.
fn item(state: &State<'_, '_>, value: &Value, key: Value) -> Result<Value, Error> {
    given(value)?;
    let key = self::key(key)?;
    // The characters of a text are counted.
    charge(state, size(value))?;
    value.get_item(&key)
}

/// A key of a map, which is compared with the others.
fn key(value: Value) -> Result<Value, Error> {
    given(&value)?;
    let scalar = !matches!(
        value.kind(),
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable | ValueKind::Plain
    );
    if !scalar || size(&value) > MAX_KEY {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "not a key: a number or a short text is",
        ));
    }
    Ok(value)
}
