//! Chains: each statement of both catalogues.

statements! { chains:
    INSERT_CHAINS,
    PUT_CHAINS,
    CHAINS_BY_ID,
    CHAINS_OF_READER,
    CHAINS_UP_TO,
    CHAINS_OF_NOTIFICATION,
    SHOWN_CHAINS,
    DUE_CHAINS,
    NEXT_STEP,
    UNTOLD_CHAINS,
    STOP_DELIVERIES,
    RECEIVED,
    CANCELLED,
    FORGET_CHAINS,
}
