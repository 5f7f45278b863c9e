DROP INDEX deliveries_dead;
CREATE INDEX deliveries_dead ON deliveries (tenant, updated_at, id) WHERE state = 'dead';
DROP TABLE stops;
