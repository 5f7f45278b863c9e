//! Schedules: each statement of both catalogues.

statements! { schedules:
    INSERT_SCHEDULE,
    SCHEDULE,
    LOCK_SCHEDULE,
    LIST_SCHEDULES,
    CHANGE_SCHEDULE,
    DELETE_SCHEDULE,
    CLAIM_SCHEDULES,
    END_OCCURRENCE,
    PUT_OFF_SCHEDULE,
    NEXT_SCHEDULE,
}
