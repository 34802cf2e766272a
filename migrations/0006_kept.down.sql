DROP INDEX rounds_kept;
ALTER TABLE rounds DROP COLUMN bodies_gone;
