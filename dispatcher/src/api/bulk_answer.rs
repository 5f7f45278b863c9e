//! What a request for many is told: one result for each.

use common::http::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use super::{accept::SPOOLED, dry_run::DryRun};

/// What became of each.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkAnswer {
    /// How many were sent in.
    total: usize,
    /// How many were stored now.
    created: usize,
    /// How many were stored before under the same key.
    repeated: usize,
    /// How many were refused.
    failed: usize,
    /// One for each, in order.
    results: Vec<BulkResult>,
}

/// What became of one.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct BulkResult {
    /// Which, from 0.
    index: usize,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(super) enum What {
    /// Stored now.
    Created {
        #[schema(format = "uuid")]
        id: String,
        /// `scheduled`, `pending`, `sent` or `failed`; `spooled` while the database is away.
        status: &'static str,
    },
    /// Stored before under the same key.
    Repeat {
        #[schema(format = "uuid")]
        id: String,
    },
    /// What a dry run would do.
    Planned {
        #[schema(value_type = Object)]
        plan: Box<DryRun>,
    },
    /// Refused; it may be sent again alone.
    Problem { problem: Box<Problem> },
}

impl What {
    pub(super) fn refused(problem: Problem) -> Self {
        Self::Problem {
            problem: Box::new(problem),
        }
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self, Self::Created { status, .. } if *status == SPOOLED)
    }

    /// It waits for the database.
    pub(super) fn wait(&mut self) {
        if let Self::Created { status, .. } = self {
            *status = SPOOLED;
        }
    }
}

impl BulkAnswer {
    pub(super) fn of(results: Vec<What>) -> Self {
        let count = |fits: fn(&What) -> bool| results.iter().filter(|what| fits(what)).count();
        Self {
            total: results.len(),
            created: count(|what| matches!(what, What::Created { .. })),
            repeated: count(|what| matches!(what, What::Repeat { .. })),
            failed: count(|what| matches!(what, What::Problem { .. })),
            results: results
                .into_iter()
                .enumerate()
                .map(|(index, what)| BulkResult { index, what })
                .collect(),
        }
    }
}
