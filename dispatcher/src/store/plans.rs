//! What SQLite makes of the hot statements: every table is entered by a key or an index, nothing is sorted that an index
//! gives in order, nothing is indexed on the way.

use sqlx::{AssertSqlSafe, Row};

use super::{
    Place, migrate,
    sqlite::{
        accept, chains, collapse, connect, events, history, inbox, lists, operate, queue, records, schedules,
        stops,
    },
};

/// Steps that walk something small: parameters, and what was found so far.
const SMALL: [&str; 11] = [
    "SCAN j ",
    "SCAN q ",
    "SCAN s ",
    "SCAN s",
    "SCAN u",
    "SCAN json_each ",
    "SCAN search",
    "SCAN CONSTANT ROW",
    "SCAN (subquery",
    "SCAN (join",
    // Holds only what is asked for.
    "SCAN c USING INDEX chains_untold",
];

/// Steps that enter by a part of a key under which much may lie.
const WIDE: [&str; 5] = [
    "SEARCH r USING PRIMARY KEY (tenant=? AND user=?)",
    "SEARCH receipts USING PRIMARY KEY (tenant=? AND user=?)",
    "SEARCH i USING PRIMARY KEY (key=?)",
    "SEARCH changes USING PRIMARY KEY (key=?)",
    "SEARCH scheduled USING PRIMARY KEY (visible_at=?)",
];

async fn plan(statement: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    migrate::up(&Place::File(path.clone())).await.unwrap();
    let mut conn = connect::writer(&path).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
        .fetch_all(&mut conn)
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.get::<String, _>("detail"))
        .collect()
}

#[tokio::test]
async fn hot_statements_use_indexes() {
    let mut faults = Vec::new();
    for (name, statement, may_sort) in [
        ("known keys", accept::KNOWN_KEYS, false),
        ("flows", queue::FLOWS, false),
        ("claim", queue::CLAIM, false),
        ("expiry step", queue::EXPIRY_STEP, false),
        ("claim expired", queue::CLAIM_EXPIRED, false),
        ("claimed notifications", queue::CLAIMED_NOTIFICATIONS, false),
        ("begin", queue::BEGIN_ATTEMPTS, false),
        ("begin with the claim", queue::BEGIN_CLAIMED, false),
        ("settle", queue::SETTLE, false),
        ("end attempts", queue::END_ATTEMPTS, false),
        ("extend", queue::EXTEND, false),
        ("release", queue::RELEASE, false),
        ("expired leases", queue::EXPIRED_LEASES, false),
        ("mark unknown", queue::MARK_UNKNOWN, false),
        ("next due", queue::NEXT_DUE, false),
        ("due scheduled", queue::DUE_SCHEDULED, false),
        ("deliver visible", queue::DELIVER_VISIBLE, false),
        ("claim job", queue::CLAIM_JOB, false),
        ("job contacts", queue::JOB_CONTACTS, false),
        ("job contacts of all", queue::JOB_CONTACTS_ALL, false),
        ("job memberships", queue::JOB_MEMBERSHIPS, false),
        ("counters", inbox::COUNTERS, false),
        ("floors", inbox::FLOORS, false),
        ("list", lists::LIST, false),
        ("list reopened", lists::LIST_REOPENED, false),
        ("list kept", lists::LIST_KEPT, false),
        ("list of a group", lists::LIST_GROUP, false),
        // Of several groups, and each notification once.
        ("groups", lists::GROUPS, true),
        ("groups there", lists::GROUPS_THERE, false),
        ("passed", lists::PASSED, true),
        ("due snoozes", inbox::DUE_SNOOZES, false),
        ("contents", inbox::CONTENTS, false),
        ("states", inbox::STATES, false),
        ("unread", inbox::UNREAD_PLAIN, false),
        // The union drops what several keys hold.
        ("unread of expressions", inbox::UNREAD_FILTERED, true),
        ("arrivals", inbox::FEED_ARRIVALS, false),
        ("changes", inbox::FEED_CHANGES, false),
        ("newest before", inbox::NEWEST_BEFORE, false),
        ("memberships", inbox::KNOWN_MEMBERSHIPS, false),
        ("current memberships", inbox::CURRENT_MEMBERSHIPS, false),
        ("refreshed memberships", inbox::REFRESH_MEMBERSHIPS, false),
        ("close reopened", inbox::CLOSE_REOPENED, false),
        ("recount", inbox::RECOUNT, false),
        ("withdraw rows", inbox::WITHDRAW_ROWS, false),
        ("uncount reopened", inbox::UNCOUNT_REOPENED, false),
        ("clear reopened", inbox::CLEAR_REOPENED, false),
        ("delete scheduled", queue::DELETE_SCHEDULED, false),
        ("prune changes", inbox::PRUNE_CHANGES, false),
        ("old changes", inbox::OLD_CHANGES, false),
        ("prune keys", accept::PRUNE_KEYS, false),
        ("notification", records::NOTIFICATION, false),
        // A notification's deliveries are few, and shown in the order of their ids.
        ("deliveries", records::DELIVERIES, true),
        ("attempts", records::ATTEMPTS, true),
        ("contacts", records::CONTACTS, false),
        ("template by name", records::TEMPLATE_BY_NAME, false),
        ("totals", records::TOTALS, false),
        ("unread of a tenant", records::UNREAD_OF_TENANT, false),
        ("rescue jobs", queue::RESCUE_JOBS, false),
        ("chains by id", chains::CHAINS_BY_ID, false),
        ("chains of a reader", chains::CHAINS_OF_READER, false),
        ("chains up to a position", chains::CHAINS_UP_TO, false),
        ("chains of a notification", chains::CHAINS_OF_NOTIFICATION, false),
        ("shown chains", chains::SHOWN_CHAINS, false),
        ("due chains", chains::DUE_CHAINS, false),
        ("untold chains", chains::UNTOLD_CHAINS, false),
        ("put chains", chains::PUT_CHAINS, false),
        ("next step", chains::NEXT_STEP, false),
        ("stop deliveries", chains::STOP_DELIVERIES, false),
        ("received", chains::RECEIVED, false),
        ("cancelled", chains::CANCELLED, false),
        ("forget chains", chains::FORGET_CHAINS, false),
        ("inbox keys", collapse::INBOX_KEYS, true),
        ("replaced by", collapse::REPLACED_BY, false),
        ("leave a place", collapse::LEAVE_COLLAPSE, false),
        ("prune collapses", collapse::PRUNE_COLLAPSES, false),
        ("end of a window", history::WINDOW_END, false),
        ("what was sent", history::LIST_SENT, false),
        // A notification's deliveries are few, those of a window are counted.
        ("progress", history::PROGRESS, true),
        ("failures", history::FAILURES, true),
        ("fan-out", history::FAN_OUT, false),
        ("window", history::WINDOW, false),
        ("sums", history::SUMS, true),
        ("dead letters", operate::DEAD_LETTERS, false),
        ("dead letter", operate::DEAD_LETTER, false),
        // One notification's, in the order of their ids.
        ("dead of a notification", operate::DEAD_OF, true),
        ("named deliveries", operate::NAMED_OF, false),
        ("redrive", operate::REDRIVE, false),
        ("address taken", operate::ADDRESS_TAKEN, false),
        ("discard", operate::DISCARD, false),
        ("forget edits", operate::FORGET_EDITS, false),
        ("stop pending", stops::STOP_PENDING, false),
        ("open stops", stops::OPEN_STOPS, false),
        ("end stop", stops::END_STOP, false),
        ("cancel counts", operate::CANCEL_COUNTS, false),
        ("replace a notification", operate::REPLACE_NOTIFICATION, false),
        ("replaced deliveries", operate::REPLACED_DELIVERIES, false),
        ("schedule", schedules::SCHEDULE, false),
        ("schedules", schedules::LIST_SCHEDULES, false),
        ("claim schedules", schedules::CLAIM_SCHEDULES, false),
        ("end occurrence", schedules::END_OCCURRENCE, false),
        ("change schedule", schedules::CHANGE_SCHEDULE, false),
        ("next schedule", schedules::NEXT_SCHEDULE, false),
        ("take events", events::TAKE_EVENTS, false),
        ("prune events", events::PRUNE_EVENTS, false),
        ("rules", events::RULES, false),
        ("rule versions", events::RULE_VERSIONS, false),
    ] {
        for step in plan(statement).await {
            let scans = step.starts_with("SCAN") && !SMALL.iter().any(|small| step.starts_with(small));
            let sorts = step.contains("TEMP B-TREE") && !may_sort;
            if scans || sorts || WIDE.contains(&step.as_str()) || step.contains("AUTOMATIC") {
                faults.push(format!("{name}: {step}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
