//! Events and rules: each statement of both catalogues.

statements! { events:
    TAKE_EVENTS,
    PRUNE_EVENTS,
    RULES,
    RULE_VERSIONS,
    PUT_RULE,
    FORGET_RULE_VERSIONS,
}
