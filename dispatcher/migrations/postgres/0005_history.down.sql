DROP VIEW all_deliveries;
