//! API keys: each statement of both catalogues.

statements! { api_keys:
    INSERT_KEY,
    FORGET_KEYS,
    KEY,
    LIST_KEYS,
    ROTATE_KEY,
    REVOKE_KEY,
    KEY_RECORDS,
    CHANGED_KEYS,
    USED_KEYS,
}
