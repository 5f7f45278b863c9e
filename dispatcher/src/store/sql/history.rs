//! What operators look at: each statement of both catalogues.

statements! { history:
    WINDOW_END,
    LIST_SENT,
    PROGRESS,
    FAILURES,
    FAN_OUT,
    WINDOW,
    SUMS,
    TENANT_DEPTHS,
}
