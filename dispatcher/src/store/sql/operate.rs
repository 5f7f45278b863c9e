//! What operators do: each statement of both catalogues.

statements! { operate:
    PAUSES,
    PAUSE,
    RESUME,
    FORGET_PAUSES,
    MARK_CANCELLED,
    REPLACEABLE,
    REPLACED_DELIVERIES,
    FORGET_DELIVERIES,
    DROP_CHAINS,
    FORGET_JOB,
    FORGET_NOTIFICATION,
    DEAD_LETTERS,
    DEAD_LETTER,
    REDRIVE,
    ADDRESS_TAKEN,
    EDIT_ADDRESS,
    EDIT_CONTENT,
    FORGET_EDITS,
    DISCARD,
}
