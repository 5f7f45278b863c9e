DROP TABLE totals;
DROP TABLE idempotency;
DROP TABLE scheduled;
DROP TABLE notifications;
