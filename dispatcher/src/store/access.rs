//! Running statements on either database: one body above, two catalogues below.
//!
//! A [`Statement`] is the same question to both. Its parameters are bound in the same order; the one difference is
//! [`Query::rows`], which is one parameter to SQLite (a JSON text) and one array for each column to PostgreSQL.

use sqlx::{
    Encode, FromRow, PgConnection, Postgres, Sqlite, SqliteConnection, Type,
    error::BoxDynError,
    postgres::{PgArguments, PgRow},
    query::{Query as SqlxQuery, QueryAs},
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{
    StoreError,
    rows::{Cell, Rows},
};

/// One question, as each database puts it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

/// A connection of either kind that is lent.
pub(super) enum Access<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection, Prepared),
}

/// Whether statements are prepared once a connection, or for each use: behind a pooler that gives every transaction
/// another connection, a prepared one is not found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepared {
    Kept,
    EachTime,
}

/// What can be a parameter of both databases.
pub(super) trait Value:
    for<'q> Encode<'q, Sqlite> + Type<Sqlite> + for<'q> Encode<'q, Postgres> + Type<Postgres>
{
}

impl<T> Value for T where
    T: for<'q> Encode<'q, Sqlite> + Type<Sqlite> + for<'q> Encode<'q, Postgres> + Type<Postgres>
{
}

/// What can be read from a row of both databases.
pub(super) trait Record:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> Record for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

enum Arguments {
    Sqlite(SqliteArguments),
    Postgres(PgArguments),
}

/// A statement with its parameters so far.
pub(super) struct Query<'a> {
    conn: Access<'a>,
    statement: Statement,
    arguments: Arguments,
    failed: Option<BoxDynError>,
}

impl Access<'_> {
    pub(super) fn query(&mut self, statement: Statement) -> Query<'_> {
        let (conn, arguments) = match self {
            Self::Sqlite(conn) => (
                Access::Sqlite(conn),
                Arguments::Sqlite(SqliteArguments::default()),
            ),
            Self::Postgres(conn, prepared) => (
                Access::Postgres(conn, *prepared),
                Arguments::Postgres(PgArguments::default()),
            ),
        };
        Query {
            conn,
            statement,
            arguments,
            failed: None,
        }
    }

    /// Several statements without parameters.
    pub(super) async fn script(
        &mut self,
        sqlite: &'static str,
        postgres: &'static str,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(conn) => sqlx::raw_sql(sqlite).execute(&mut **conn).await.map(|_| ())?,
            Self::Postgres(conn, _) => sqlx::raw_sql(postgres).execute(&mut **conn).await.map(|_| ())?,
        }
        Ok(())
    }
}

/// Makes one of the two queries of sqlx and lets it run.
macro_rules! run {
    ($self:ident, $make:ident $(::<$row:ty>)?, $call:ident) => {{
        if let Some(error) = $self.failed {
            return Err(sqlx::Error::Encode(error).into());
        }
        match ($self.conn, $self.arguments) {
            (Access::Sqlite(conn), Arguments::Sqlite(arguments)) => {
                let query: make!($make, Sqlite $(, $row)?) =
                    sqlx::$make($self.statement.sqlite, arguments);
                query.$call(conn).await?.into()
            }
            (Access::Postgres(conn, prepared), Arguments::Postgres(arguments)) => {
                let query: make!($make, Postgres $(, $row)?) =
                    sqlx::$make($self.statement.postgres, arguments);
                query
                    .persistent(prepared == Prepared::Kept)
                    .$call(conn)
                    .await?
                    .into()
            }
            _ => return Err(StoreError::unreadable("connection", "its parameters are of the other database")),
        }
    }};
}

/// The type of such a query.
macro_rules! make {
    (query_with, $db:ty) => { SqlxQuery<'_, $db, <$db as sqlx::Database>::Arguments> };
    (query_as_with, $db:ty, $row:ty) => { QueryAs<'_, $db, $row, <$db as sqlx::Database>::Arguments> };
}

struct Affected(u64);

impl From<sqlx::sqlite::SqliteQueryResult> for Affected {
    fn from(result: sqlx::sqlite::SqliteQueryResult) -> Self {
        Self(result.rows_affected())
    }
}

impl From<sqlx::postgres::PgQueryResult> for Affected {
    fn from(result: sqlx::postgres::PgQueryResult) -> Self {
        Self(result.rows_affected())
    }
}

impl Query<'_> {
    /// The next parameter.
    pub(super) fn bind<T: Value>(mut self, value: T) -> Self {
        let added = match &mut self.arguments {
            Arguments::Sqlite(arguments) => sqlx::Arguments::add(arguments, value),
            Arguments::Postgres(arguments) => sqlx::Arguments::add(arguments, value),
        };
        self.note(added)
    }

    /// Many scalars as one parameter: to SQLite a JSON text, to PostgreSQL an array.
    pub(super) fn list<T: Cell>(mut self, values: &[T]) -> Self {
        let added = match &mut self.arguments {
            Arguments::Sqlite(arguments) => {
                Rows::list_json(values).and_then(|json| sqlx::Arguments::add(arguments, json))
            }
            Arguments::Postgres(arguments) => Rows::list_array(values, arguments),
        };
        self.note(added)
    }

    /// Many rows: to SQLite one parameter, a JSON array of arrays; to PostgreSQL one array for each column.
    pub(super) fn rows<T: super::rows::Row>(mut self, rows: &[T]) -> Self {
        let added = match &mut self.arguments {
            Arguments::Sqlite(arguments) => {
                Rows::json(rows).and_then(|json| sqlx::Arguments::add(arguments, json))
            }
            Arguments::Postgres(arguments) => Rows::arrays(rows, arguments),
        };
        self.note(added)
    }

    fn note(mut self, added: Result<(), BoxDynError>) -> Self {
        if let Err(error) = added {
            self.failed.get_or_insert(error);
        }
        self
    }

    pub(super) async fn all<T: Record>(self) -> Result<Vec<T>, StoreError> {
        Ok(run!(self, query_as_with::<T>, fetch_all))
    }

    /// The only column of the only row.
    pub(super) async fn scalar<T: Send>(self) -> Result<T, StoreError>
    where
        (T,): Record,
    {
        let (value,) = self.one().await?;
        Ok(value)
    }

    /// The only column of the row, where there is one.
    pub(super) async fn scalar_optional<T: Send>(self) -> Result<Option<T>, StoreError>
    where
        (T,): Record,
    {
        let row: Option<(T,)> = self.optional().await?;
        Ok(row.map(|(value,)| value))
    }

    /// The only column of every row.
    pub(super) async fn scalars<T: Send>(self) -> Result<Vec<T>, StoreError>
    where
        (T,): Record,
    {
        let rows: Vec<(T,)> = self.all().await?;
        Ok(rows.into_iter().map(|(value,)| value).collect())
    }

    pub(super) async fn one<T: Record>(self) -> Result<T, StoreError> {
        let row: Option<T> = self.optional().await?;
        row.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    pub(super) async fn optional<T: Record>(self) -> Result<Option<T>, StoreError> {
        Ok(run!(self, query_as_with::<T>, fetch_optional))
    }

    /// The rows that were changed.
    pub(super) async fn run(self) -> Result<u64, StoreError> {
        let Affected(rows) = run!(self, query_with, execute);
        Ok(rows)
    }
}
