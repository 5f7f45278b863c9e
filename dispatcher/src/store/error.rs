//! What the database's errors mean to callers.

use super::StoreError;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) if database.is_unique_violation() => Self::Conflict("an id"),
            sqlx::Error::Database(database)
                if database
                    .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                    .is_some() =>
            {
                let reason = error.to_string();
                of_postgres(database.code().as_deref().unwrap_or_default(), reason)
            }
            sqlx::Error::Database(database) => match primary_code(database.code().as_deref()) {
                // ERROR, INTERNAL, CORRUPT, CONSTRAINT, MISMATCH, MISUSE, NOTADB: waiting does not help.
                Some(1 | 2 | 11 | 19 | 20 | 21 | 26) => Self::Corrupt {
                    reason: error.to_string(),
                },
                _ => Self::Unavailable {
                    reason: error.to_string(),
                },
            },
            sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::Encode(_) => Self::Corrupt {
                reason: error.to_string(),
            },
            _ => Self::Unavailable {
                reason: error.to_string(),
            },
        }
    }
}

/// SQLite's primary result code; extended codes carry it in the lowest byte.
fn primary_code(code: Option<&str>) -> Option<i32> {
    code.and_then(|code| code.parse::<i32>().ok())
        .map(|code| code & 0xff)
}

/// By PostgreSQL's SQLSTATE (appendix A of its manual).
fn of_postgres(code: &str, reason: String) -> StoreError {
    match code {
        // Serialisation failure, deadlock, lock not available.
        "40001" | "40P01" | "55P03" => StoreError::Again,
        // A statement's own time ran out.
        "57014" => StoreError::Unavailable { reason },
        _ => match code.get(..2) {
            // Data that does not fit, constraints, syntax and names, internal errors: waiting does not help.
            Some("21" | "22" | "23" | "42" | "XX") => StoreError::Corrupt { reason },
            _ => StoreError::Unavailable { reason },
        },
    }
}

impl StoreError {
    /// A row that this version cannot read.
    pub(super) fn unreadable(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            reason: format!("{what}: {error}"),
        }
    }

    /// The store was closed, or its writer is gone.
    pub(super) fn closed() -> Self {
        Self::Unavailable {
            reason: "closed".to_owned(),
        }
    }
}
