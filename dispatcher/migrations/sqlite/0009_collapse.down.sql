DROP TABLE collapses;
