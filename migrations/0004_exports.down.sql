DROP TABLE task_rounds;
DROP TABLE revocations;
