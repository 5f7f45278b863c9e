//! What was taken back and has to be ended: each statement of both catalogues.

statements! { stops:
    STOP_PENDING,
    KEEP_STOP,
    OPEN_STOPS,
    END_STOP,
}
