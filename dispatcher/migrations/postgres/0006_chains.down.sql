DROP TABLE chains;
