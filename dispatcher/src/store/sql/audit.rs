//! The audit log, and revisions: each statement of both catalogues.

statements! { audit:
    APPEND_AUDIT,
    AUDIT_OF_TENANT,
    AUDIT_OF_OBJECT,
    AUDIT_OF_ALL,
    MAY_FORGET_AUDIT,
    FORGET_AUDIT,
    REVISE,
    REVISIONS,
}
