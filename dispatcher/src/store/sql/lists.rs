//! Lists of the inbox: each statement of both catalogues.

statements! { lists:
    LIST,
    LIST_REOPENED,
    LIST_KEPT,
    LIST_GROUP,
    GROUPS,
    GROUPS_THERE,
    PASSED,
}
