DROP TABLE settings;
DROP TABLE revisions;
DROP TABLE audit;
DROP TABLE audit_kept;
