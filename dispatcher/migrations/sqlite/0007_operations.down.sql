DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (lane, due_at, id) WHERE state = 'pending';
DROP INDEX deliveries_dead;
DROP TABLE delivery_edits;
DROP TABLE pauses;
ALTER TABLE notifications DROP COLUMN cancelled_at;
