DROP INDEX deliveries_dead;
CREATE INDEX deliveries_dead ON delivery_history (tenant, updated_at, id) WHERE state = 'dead';
DROP TABLE stops;
