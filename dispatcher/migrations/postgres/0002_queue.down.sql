DROP TABLE jobs;
DROP TABLE attempts;
DROP TABLE delivery_history;
DROP TABLE deliveries;
DROP FUNCTION delivery_recipient(TEXT, TEXT, TEXT);
