DROP TABLE jobs;
DROP TABLE attempts;
DROP TABLE deliveries;
