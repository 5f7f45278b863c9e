//! The filters, tests and functions that templates may call.

use minijinja::{
    Environment, Error, ErrorKind, State, filters, tests,
    value::{Rest, Value, ValueOrKwargs},
};

use super::{MAX_VALUE, NODE, charge, charge_all, is_list, made, operators, size, too_much};

/// Filters that templates may name.
pub(in crate::template) const FILTERS: [&str; 39] = [
    "abs",
    "bool",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
];

/// Tests that templates may name.
pub(in crate::template) const TESTS: [&str; 29] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "greaterthan",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "sameas",
];

/// Bytes of a text that names an attribute, a filter or a test.
const MAX_NAME: usize = 256;
/// Attributes that one `sort` may go by; it makes a list of them for each item.
const MAX_SORT_KEYS: usize = 4;

/// Numbers that a `range` has at most.
const MAX_RANGE: usize = 10_000;

/// How a filter's work grows.
#[derive(Clone, Copy)]
enum Work {
    /// It does not look into lists and maps, and gives one of its arguments, an item, or something small.
    Constant,
    /// It reads its arguments once.
    Linear,
    /// It compares all items of its first argument, and takes names.
    Sorting,
    /// It walks its first argument, and takes names.
    Walking,
    /// It puts its second argument between the items of the first.
    Joining,
    /// It puts its third argument for each occurrence of the second in the first.
    Replacing,
}

pub(super) fn install(environment: &mut Environment<'static>) {
    let f = |name, inner, work| (name, inner, work);
    for (name, inner, work) in [
        f("abs", Value::from_function(filters::abs), Work::Constant),
        f("bool", Value::from_function(filters::bool), Work::Constant),
        f(
            "capitalize",
            Value::from_function(filters::capitalize),
            Work::Linear,
        ),
        f("count", Value::from_function(filters::length), Work::Constant),
        f("d", Value::from_function(filters::default), Work::Constant),
        f("default", Value::from_function(filters::default), Work::Constant),
        f("dictsort", Value::from_function(filters::dictsort), Work::Sorting),
        f("e", Value::from_function(filters::escape), Work::Linear),
        f("escape", Value::from_function(filters::escape), Work::Linear),
        f("first", Value::from_function(filters::first), Work::Constant),
        f("float", Value::from_function(filters::float), Work::Constant),
        f("int", Value::from_function(filters::int), Work::Constant),
        f("items", Value::from_function(filters::items), Work::Linear),
        f("join", Value::from_function(filters::join), Work::Joining),
        f("last", Value::from_function(filters::last), Work::Constant),
        f("length", Value::from_function(filters::length), Work::Constant),
        f("list", Value::from_function(filters::list), Work::Linear),
        f("lower", Value::from_function(filters::lower), Work::Linear),
        f("map", Value::from_function(filters::map), Work::Walking),
        f("max", Value::from_function(filters::max), Work::Sorting),
        f("min", Value::from_function(filters::min), Work::Sorting),
        f("reject", Value::from_function(filters::reject), Work::Walking),
        f(
            "rejectattr",
            Value::from_function(filters::rejectattr),
            Work::Walking,
        ),
        f("replace", Value::from_function(filters::replace), Work::Replacing),
        f("reverse", Value::from_function(filters::reverse), Work::Linear),
        f("round", Value::from_function(filters::round), Work::Constant),
        f("select", Value::from_function(filters::select), Work::Walking),
        f(
            "selectattr",
            Value::from_function(filters::selectattr),
            Work::Walking,
        ),
        f("sort", Value::from_function(filters::sort), Work::Sorting),
        f("split", Value::from_function(filters::split), Work::Linear),
        f("string", Value::from_function(filters::string), Work::Linear),
        f("sum", Value::from_function(operators::sum), Work::Walking),
        f("title", Value::from_function(filters::title), Work::Linear),
        f("tojson", Value::from_function(tojson), Work::Linear),
        f("trim", Value::from_function(filters::trim), Work::Linear),
        f("truncate", Value::from_function(truncate), Work::Linear),
        f("unique", Value::from_function(filters::unique), Work::Sorting),
        f("upper", Value::from_function(filters::upper), Work::Linear),
        f(
            "urlencode",
            Value::from_function(filters::urlencode),
            Work::Linear,
        ),
    ] {
        environment.add_filter(
            name,
            move |state: &mut State<'_, '_>, arguments: Rest<ValueOrKwargs>| {
                bounded(state, &inner, work, &arguments.into_values())
            },
        );
    }
    environment.add_filter("_whole", |state: &State<'_, '_>, value: Value| made(state, value));

    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("divisibleby", operators::is_divisible);
    environment.add_test("even", tests::is_even);
    environment.add_test("false", tests::is_false);
    environment.add_test("float", tests::is_float);
    environment.add_test("integer", tests::is_integer);
    environment.add_test("iterable", tests::is_iterable);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("none", tests::is_none);
    environment.add_test("number", tests::is_number);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("string", tests::is_string);
    environment.add_test("true", tests::is_true);
    environment.add_test("undefined", tests::is_undefined);
    for (name, end) in [("startingwith", false), ("endingwith", true)] {
        environment.add_test(name, move |state: &State<'_, '_>, text: &str, part: &str| {
            charge(state, part.len())?;
            let found = if end {
                text.ends_with(part)
            } else {
                text.starts_with(part)
            };
            Ok::<_, Error>(found)
        });
    }
    environment.add_function("range", range);
}

/// Calls a filter within the bounds.
fn bounded(
    state: &mut State<'_, '_>,
    inner: &Value,
    work: Work,
    arguments: &[Value],
) -> Result<Value, Error> {
    match work {
        Work::Constant => {
            // Texts are read all the same: their characters are counted, or they are numbers. Lists may be walked, for
            // their last item, which is quick.
            let bytes = arguments
                .iter()
                .map(|argument| size(argument) + walked(argument))
                .sum();
            charge(state, bytes)?;
            return inner.call(state, arguments);
        }
        Work::Linear => {
            read(state, arguments)?;
        }
        Work::Walking => {
            names(arguments)?;
            read(state, arguments)?;
        }
        Work::Sorting => {
            names(arguments)?;
            // At most 16,384 values, each compared some 14 times.
            let bytes = read(state, arguments)?;
            charge(state, bytes.saturating_mul(14))?;
        }
        Work::Joining => {
            let bytes = read(state, arguments)?;
            names(arguments.get(1..).unwrap_or_default())?;
            let between = arguments.iter().skip(1).map(printed).max().unwrap_or(0);
            let items = arguments.first().map_or(0, items);
            fits(items.saturating_mul(between).saturating_add(bytes))?;
        }
        Work::Replacing => {
            read(state, arguments)?;
            if let [text, from, to, ..] = arguments {
                let (text, from, to) = (plain(text), plain(from), plain(to));
                // In HTML the third may be escaped first, which makes six bytes of one at most.
                let count = text.matches(from.as_str()).count();
                fits(count.saturating_mul(to.len()).saturating_mul(6))?;
            }
        }
    }
    let value = inner.call(state, arguments)?;
    made(state, value)
}

/// Counts all arguments with what is in them.
fn read(state: &State<'_, '_>, arguments: &[Value]) -> Result<usize, Error> {
    let mut sum = 0_usize;
    for argument in arguments {
        sum += charge_all(state, argument)?;
    }
    Ok(sum)
}

/// Bytes that are about to be made.
fn fits(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_VALUE {
        Err(too_much())
    } else {
        Ok(())
    }
}

/// Refuses long texts where names are meant: they are taken apart for each item.
fn names(arguments: &[Value]) -> Result<(), Error> {
    for argument in arguments.iter().skip(1) {
        let long = |value: &Value| value.as_str().is_some_and(|name| name.len() > MAX_NAME);
        let long = long(argument) || argument.is_kwargs() && members(argument).any(|value| long(&value));
        if long || argument.is_kwargs() && keys(argument) > MAX_SORT_KEYS {
            return Err(Error::new(ErrorKind::InvalidOperation, "an argument is too long"));
        }
    }
    Ok(())
}

/// The values of keyword arguments.
fn members(arguments: &Value) -> impl Iterator<Item = Value> {
    let pairs = arguments.as_object().and_then(|object| object.try_iter_pairs());
    pairs.into_iter().flatten().map(|(_, value)| value)
}

/// Bytes that an argument has at most as it prints, or the longest of keyword arguments.
fn printed(argument: &Value) -> usize {
    if argument.is_kwargs() {
        return members(argument).map(|value| printed(&value)).max().unwrap_or(0);
    }
    match argument.as_str() {
        Some(text) => text.len(),
        // Escapes in it make up to six bytes of one.
        None => super::measure(argument).map_or(usize::MAX, |bytes| bytes.saturating_mul(6)),
    }
}

/// The attributes that keyword arguments name.
fn keys(arguments: &Value) -> usize {
    arguments
        .get_attr("attribute")
        .ok()
        .and_then(|keys| keys.as_str().map(|keys| keys.split(',').count()))
        .unwrap_or(0)
}

/// A text, or a number as it prints; nothing for what else there is, which the filter refuses or which was measured.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn items(value: &Value) -> usize {
    value.len().unwrap_or(MAX_VALUE / NODE)
}

/// JSON on one line.
fn tojson(value: &Value) -> Result<Value, Error> {
    filters::tojson(value, None, std::iter::empty::<(&str, Value)>().collect())
}

/// The first `length` characters and `end`, or the text itself where it is short enough.
fn truncate(text: &str, length: Option<usize>, end: Option<&str>) -> String {
    let (length, end) = (length.unwrap_or(255), end.unwrap_or("..."));
    if text.chars().nth(length).is_none() {
        return text.to_owned();
    }
    let kept = length.saturating_sub(end.chars().count());
    text.chars().take(kept).chain(end.chars()).collect()
}

/// Numbers from `from`, or 0, to `to`.
fn range(state: &State<'_, '_>, from: i64, to: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
    // minijinja's arithmetic overflows with larger ones.
    let limit = i64::from(i32::MAX);
    let clamp = |number: i64| isize::try_from(number.clamp(-limit, limit)).unwrap_or_default();
    let numbers = minijinja::functions::range(clamp(from), to.map(clamp), step.map(clamp))?;
    if walked(&numbers) > MAX_RANGE {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("range has more than {MAX_RANGE} numbers"),
        ));
    }
    made(state, numbers)
}

/// The items of a list.
fn walked(value: &Value) -> usize {
    if is_list(value) { items(value) } else { 0 }
}
