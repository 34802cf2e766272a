DROP TABLE log_head;
DROP TABLE log_entries;
DROP TABLE statements;
