//! What templates may call, each with a bound on what it makes and on what it handles.
//!
//! minijinja's fuel counts instructions, and one instruction may handle a value of any size. So:
//!
//! - **No value is larger than [`MAX_VALUE`].** Variables are checked before rendering ([`check_variables`]), literals
//!   are part of the source, and what a filter or a written list makes is measured, with all that is in it, before the
//!   template gets it. What could grow beyond any memory while it is being made is refused beforehand
//!   ([`filters`], [`operators`]).
//! - **All values handled in a render sum up to at most [`MAX_WORK`].** Filters and operators count what they read and
//!   what they make. This bounds the time, and what several large values take at once: at most 16 MiB of measured size.
//!   A measured byte takes at most some 6 bytes while it is turned into a text (escapes), one value at a time.
//!
//! A template that goes beyond ends as one that has run out of fuel.

mod filters;
mod operators;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use minijinja::{
    Environment, Error, ErrorKind, State,
    value::{Object, ObjectRepr, Value, ValueKind},
};

use super::{Variables, error::RenderError};

pub(super) use self::filters::{FILTERS, TESTS};

/// Bytes that a value may have, with all that is in it, each value counting [`NODE`] more.
const MAX_VALUE: usize = 256 * 1024;
/// Bytes that filters and operators may handle in the rendering of a part.
const MAX_WORK: usize = 16 * 1024 * 1024;
/// Bytes that a value counts apart from its text.
const NODE: usize = 16;
/// Values inside values. Variables have less, so that templates can put them into lists.
const MAX_NESTING: usize = 64;
const MAX_VARIABLE_NESTING: usize = 32;

/// Gives an environment the filters, tests and functions that templates may use, and no others.
pub(super) fn install(environment: &mut Environment<'static>) {
    filters::install(environment);
    operators::install(environment);
}

/// Checks what a caller gave.
///
/// # Errors
/// [`RenderError::Failed`] names the variable that is too large or too deep.
pub(super) fn check_variables(variables: &Variables) -> Result<(), RenderError> {
    let mut room = MAX_VALUE;
    for (name, value) in variables {
        let failed = |detail| RenderError::Failed { line: 0, detail };
        match measure_json(value, &mut room, 0) {
            Ok(()) if take(&mut room, name.len()).is_ok() => {}
            Err(TooLarge::Deep) => {
                return Err(failed(format!(
                    "the variable `{name}` is nested more than {MAX_VARIABLE_NESTING} deep"
                )));
            }
            _ => {
                return Err(failed(format!(
                    "the variables take more than {MAX_VALUE} bytes, with {NODE} for each value; `{name}` is one too much"
                )));
            }
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TooLarge {
    Bytes,
    Deep,
}

impl From<TooLarge> for Error {
    fn from(_: TooLarge) -> Self {
        too_much()
    }
}

/// The error that rendering reports as too much.
fn too_much() -> Error {
    Error::from(ErrorKind::OutOfFuel)
}

fn take(room: &mut usize, bytes: usize) -> Result<(), TooLarge> {
    *room = room.checked_sub(bytes).ok_or(TooLarge::Bytes)?;
    Ok(())
}

fn measure_json(value: &serde_json::Value, room: &mut usize, depth: usize) -> Result<(), TooLarge> {
    if depth > MAX_VARIABLE_NESTING {
        return Err(TooLarge::Deep);
    }
    take(room, NODE)?;
    match value {
        serde_json::Value::String(text) => take(room, text.len()),
        serde_json::Value::Array(items) => items
            .iter()
            .try_for_each(|item| measure_json(item, room, depth + 1)),
        serde_json::Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            take(room, NODE + name.len())?;
            measure_json(member, room, depth + 1)
        }),
        _ => Ok(()),
    }
}

/// The bytes of a value with all that is in it; looks at no more than fits.
fn measure(value: &Value) -> Result<usize, TooLarge> {
    let mut room = MAX_VALUE;
    measure_into(value, &mut room, 0)?;
    Ok(MAX_VALUE - room)
}

fn measure_into(value: &Value, room: &mut usize, depth: usize) -> Result<(), TooLarge> {
    if depth > MAX_NESTING {
        return Err(TooLarge::Deep);
    }
    take(room, size(value))?;
    let Some(object) = value.as_object() else {
        return Ok(());
    };
    match object.repr() {
        ObjectRepr::Map => object
            .try_iter_pairs()
            .into_iter()
            .flatten()
            .try_for_each(|(key, value)| {
                measure_into(&key, room, depth + 1)?;
                measure_into(&value, room, depth + 1)
            }),
        ObjectRepr::Seq | ObjectRepr::Iterable => object
            .try_iter()
            .into_iter()
            .flatten()
            .try_for_each(|item| measure_into(&item, room, depth + 1)),
        _ => Ok(()),
    }
}

/// The bytes of a value without what is in it.
fn size(value: &Value) -> usize {
    NODE + value.as_bytes().map_or(0, <[u8]>::len)
}

/// Whether a value is one that `in` and indexes look into.
fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// What a render may still handle. It lies among the variables, under a name that no template can write.
#[derive(Debug)]
pub(super) struct Budget(AtomicUsize);

impl Budget {
    /// The name to look it up by.
    pub(super) const NAME: &'static str = "<budget>";

    /// That of a new render.
    pub(super) fn value() -> Value {
        Value::from_object(Self(AtomicUsize::new(MAX_WORK)))
    }
}

impl Object for Budget {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// Counts what is being handled.
fn charge(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let budget = state.lookup(Budget::NAME);
    let left = budget
        .as_ref()
        .and_then(|value| value.downcast_object_ref::<Budget>())
        .and_then(|budget| {
            budget
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(bytes)
                })
                .ok()
        });
    // Without a budget nothing may be handled.
    left.map(|_| ()).ok_or_else(too_much)
}

/// Counts a value that is being read with all that is in it.
fn charge_all(state: &State<'_, '_>, value: &Value) -> Result<usize, Error> {
    let bytes = measure(value)?;
    charge(state, bytes)?;
    Ok(bytes)
}

/// Counts a value that was made, and refuses it where it is too large. What minijinja would make anew each time it is
/// looked into becomes a list.
fn made(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    charge_all(state, &value)?;
    if value.kind() == ValueKind::Iterable {
        return Ok(Value::from(value.try_iter()?.collect::<Vec<_>>()));
    }
    Ok(value)
}
