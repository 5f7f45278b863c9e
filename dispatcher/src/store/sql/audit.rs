//! The audit log, revisions and settings: each statement of both catalogues.

statements! { audit:
    APPEND_AUDIT,
    AUDIT_OF_TENANT,
    AUDIT_OF_OBJECT,
    AUDIT_OF_ALL,
    MAY_FORGET_AUDIT,
    FORGET_AUDIT,
    REVISE,
    REVISIONS,
    SETTINGS,
    SETTING_VERSIONS,
    SETTING_VERSION,
    LAST_SETTING,
    PUT_SETTING,
    FORGET_SETTINGS,
}
