DROP TABLE rules;
DROP TABLE events;
