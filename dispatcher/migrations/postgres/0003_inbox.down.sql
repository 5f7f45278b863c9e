DROP TABLE receipts;
DROP TABLE readers;
DROP TABLE changes;
DROP TABLE inbox;
DROP TABLE counters;
