//! Replacing: each statement of both catalogues.

statements! { collapse:
    TAKE_COLLAPSES,
    INBOX_KEYS,
    REPLACED_BY,
    LEAVE_COLLAPSE,
    PRUNE_COLLAPSES,
}
