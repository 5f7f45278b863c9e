//! Records: each statement of both catalogues.

statements! { records:
    NOTIFICATION,
    DELIVERIES,
    ATTEMPTS,
    PUT_CONTACTS,
    CONTACTS,
    DELETE_CONTACT,
    INSERT_TEMPLATE,
    INSERT_TEMPLATE_VERSION,
    TEMPLATE_BY_ID,
    TEMPLATE_BY_NAME,
    TEMPLATES,
    TOTALS,
    UNREAD_OF_TENANT,
}
