//! Accept: each statement of both catalogues.

statements! { accept:
    KNOWN_KEYS,
    KEEP_KEYS,
    AMEND_ANSWER,
    TAKE_POSITIONS,
    INSERT_NOTIFICATIONS,
    INSERT_INBOX,
    INSERT_SCHEDULED,
    INSERT_DELIVERIES,
    INSERT_JOBS,
    ADD_TOTALS,
    PRUNE_KEYS,
    IS_STORED,
    ARE_STORED,
}
