-- The table into which a business service writes a notification in its own transaction. Its name is a setting.
CREATE TABLE IF NOT EXISTS carillon_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    -- A notification as for POST /api/v1/notifications, or an event: with `event_type`, or a CloudEvent.
    body jsonb NOT NULL,
    -- Two rows of a tenant with the same one are one notification.
    dedup_key text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Written by the dispatcher.
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Why it was not taken, with the code first.
    error text,
    -- Given up since; to try again: UPDATE … SET failed_at = NULL, attempts = 0, next_at = now().
    failed_at timestamptz
);
CREATE INDEX IF NOT EXISTS carillon_outbox_due ON carillon_outbox (id) WHERE failed_at IS NULL;
CREATE OR REPLACE FUNCTION carillon_outbox_hint() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('carillon_outbox', '');
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER carillon_outbox_hint AFTER INSERT ON carillon_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION carillon_outbox_hint();
