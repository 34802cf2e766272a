DROP TABLE sealing_keys;
ALTER TABLE round_keys DROP COLUMN sealed_by;
