//! Settings at run time: each statement of both catalogues.

statements! { settings:
    SETTINGS,
    SETTING_VERSIONS,
    PUT_SETTING,
    FORGET_SETTINGS,
}
