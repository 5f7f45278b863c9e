DROP TABLE settings;
DROP TABLE revisions;
DROP TABLE audit;
DROP FUNCTION audit_stays();
DROP TABLE audit_kept;
