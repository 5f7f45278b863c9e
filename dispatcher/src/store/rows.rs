//! Many rows as parameters.

use std::fmt::Write;

use serde::{Serialize, Serializer, ser::SerializeSeq};
use sqlx::{Arguments, error::BoxDynError, postgres::PgArguments};
use uuid::Uuid;

use crate::model::Micros;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Text,
    Id,
    Bytes,
}

/// A column's value of one row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Datum<'a> {
    Int(Option<i64>),
    Text(Option<&'a str>),
    Id(Option<Uuid>),
    Bytes(Option<&'a [u8]>),
}

/// What can stand in a column.
pub(super) trait Cell {
    const KIND: Kind;
    fn datum(&self) -> Datum<'_>;
}

macro_rules! cells {
    ($($kind:ident: $($type:ty => |$value:ident| $datum:expr),+;)+) => {$($(
        impl Cell for $type {
            const KIND: Kind = Kind::$kind;
            fn datum(&self) -> Datum<'_> {
                let $value = self;
                Datum::$kind($datum)
            }
        }
    )+)+};
}

cells! {
    Int:
        i64 => |value| Some(*value),
        Option<i64> => |value| *value,
        Micros => |value| Some(value.0),
        Option<Micros> => |value| value.map(|time| time.0);
    Text:
        &str => |value| Some(value),
        String => |value| Some(value.as_str()),
        &String => |value| Some(value.as_str()),
        Option<&str> => |value| *value,
        Option<String> => |value| value.as_deref(),
        &Option<String> => |value| value.as_deref();
    Id:
        Uuid => |value| Some(*value),
        Option<Uuid> => |value| *value;
    Bytes:
        Vec<u8> => |value| Some(value.as_slice()),
        &[u8] => |value| Some(value);
}

impl Serialize for Datum<'_> {
    /// As SQLite's statements expect it in JSON: ids and bytes in hexadecimal digits.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(value) => value.serialize(to),
            Self::Text(value) => value.serialize(to),
            Self::Id(Some(id)) => to.collect_str(&id.simple()),
            Self::Bytes(Some(bytes)) => {
                let mut text = String::with_capacity(bytes.len() * 2);
                for byte in *bytes {
                    write!(text, "{byte:02x}").map_err(serde::ser::Error::custom)?;
                }
                to.serialize_str(&text)
            }
            Self::Id(None) | Self::Bytes(None) => to.serialize_none(),
        }
    }
}

/// A row to be bound.
pub(super) trait Row {
    const KINDS: &'static [Kind];
    /// Shows its values in order.
    fn each<E>(&self, visit: impl FnMut(Datum<'_>) -> Result<(), E>) -> Result<(), E>;
}

macro_rules! row_of {
    ($($name:ident),+) => {
        #[allow(non_snake_case, reason = "type parameters name the values too")]
        impl<$($name: Cell),+> Row for ($($name,)+) {
            const KINDS: &'static [Kind] = &[$($name::KIND),+];
            fn each<Error>(&self, mut visit: impl FnMut(Datum<'_>) -> Result<(), Error>) -> Result<(), Error> {
                let ($($name,)+) = self;
                $(visit($name.datum())?;)+
                Ok(())
            }
        }
    };
}

macro_rules! rows_of {
    ($first:ident) => { row_of!($first); };
    ($first:ident, $($rest:ident),+) => { row_of!($first, $($rest),+); rows_of!($($rest),+); };
}

rows_of!(A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R);

/// Values of one column.
enum Column {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
    Id(Vec<Option<Uuid>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Column {
    fn new(kind: Kind, rows: usize) -> Self {
        match kind {
            Kind::Int => Self::Int(Vec::with_capacity(rows)),
            Kind::Text => Self::Text(Vec::with_capacity(rows)),
            Kind::Id => Self::Id(Vec::with_capacity(rows)),
            Kind::Bytes => Self::Bytes(Vec::with_capacity(rows)),
        }
    }

    fn push(&mut self, datum: Datum<'_>) -> Result<(), BoxDynError> {
        match (self, datum) {
            (Self::Int(column), Datum::Int(value)) => column.push(value),
            // PostgreSQL's text has no NUL; what a provider answers may.
            (Self::Text(column), Datum::Text(value)) => {
                column.push(value.map(|text| text.replace('\0', "\u{fffd}")));
            }
            (Self::Id(column), Datum::Id(value)) => column.push(value),
            (Self::Bytes(column), Datum::Bytes(value)) => column.push(value.map(<[u8]>::to_vec)),
            _ => return Err("a value of another kind than its column".into()),
        }
        Ok(())
    }

    fn bind(self, arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        match self {
            Self::Int(column) => arguments.add(column),
            Self::Text(column) => arguments.add(column),
            Self::Id(column) => arguments.add(column),
            Self::Bytes(column) => arguments.add(column),
        }
    }
}

/// Writes many values where they are expected.
pub(super) struct Rows;

impl Rows {
    pub(super) fn json<T: Row>(rows: &[T]) -> Result<String, BoxDynError> {
        struct All<'a, T>(&'a [T]);
        struct One<'a, T>(&'a T);
        impl<T: Row> Serialize for All<'_, T> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_seq(self.0.iter().map(One))
            }
        }
        impl<T: Row> Serialize for One<'_, T> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let mut row = to.serialize_seq(Some(T::KINDS.len()))?;
                self.0.each(|datum| row.serialize_element(&datum))?;
                row.end()
            }
        }
        Ok(serde_json::to_string(&All(rows))?)
    }

    pub(super) fn arrays<T: Row>(rows: &[T], arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        let mut columns: Vec<Column> = T::KINDS
            .iter()
            .map(|kind| Column::new(*kind, rows.len()))
            .collect();
        for row in rows {
            let mut columns = columns.iter_mut();
            row.each(|datum| match columns.next() {
                Some(column) => column.push(datum),
                None => Err("more values than columns".into()),
            })?;
        }
        columns.into_iter().try_for_each(|column| column.bind(arguments))
    }

    pub(super) fn list_json<T: Cell>(values: &[T]) -> Result<String, BoxDynError> {
        struct List<'a, T>(&'a [T]);
        impl<T: Cell> Serialize for List<'_, T> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_seq(self.0.iter().map(Cell::datum))
            }
        }
        Ok(serde_json::to_string(&List(values))?)
    }

    pub(super) fn list_array<T: Cell>(values: &[T], arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        let mut column = Column::new(T::KIND, values.len());
        values.iter().try_for_each(|value| column.push(value.datum()))?;
        column.bind(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_as_sqlite_expects_them() {
        let id = Uuid::from_u128(0xab);
        let rows = [
            (id, "a\"b", Some(3_i64), Option::<&str>::None, vec![1_u8, 255]),
            (id, "", None, Some("x"), Vec::new()),
        ];
        assert_eq!(
            Rows::json(&rows).unwrap(),
            "[[\"000000000000000000000000000000ab\",\"a\\\"b\",3,null,\"01ff\"],\
              [\"000000000000000000000000000000ab\",\"\",null,\"x\",\"\"]]"
        );
        assert_eq!(Rows::list_json(&["a", "b"]).unwrap(), "[\"a\",\"b\"]");
        assert_eq!(Rows::json::<(i64,)>(&[]).unwrap(), "[]");
    }

    #[test]
    fn every_column_is_a_parameter_of_postgres() {
        let mut arguments = PgArguments::default();
        Rows::arrays(&[(1_i64, "a", Uuid::nil())], &mut arguments).unwrap();
        Rows::arrays::<(i64, String)>(&[], &mut arguments).unwrap();
        Rows::list_array(&[1_i64], &mut arguments).unwrap();
        assert_eq!(arguments.len(), 6);
    }
}
