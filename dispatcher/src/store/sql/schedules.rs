//! Schedules: each statement of both catalogues.

statements! { schedules:
    INSERT,
    GET,
    GET_FOR_UPDATE,
    LIST,
    CHANGE,
    DELETE,
    CLAIM,
    END,
    PUT_OFF,
    NEXT,
}
