-- What `veilsum serve` may do, by the owner of the tables, after every `veilsum migrate`:
--   psql -v ON_ERROR_STOP=1 -U veilsum_owner -d veilsum -f grants.sql
--
-- Where a row is written once and stays, the service cannot change or delete it: statements, log, faults, models, revocation
-- lists. tests/tests/deploy.rs plays rounds under exactly these rights.

BEGIN;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM veilsum;

-- Which version the tables have: looked at, at the start and for /readyz.
GRANT SELECT ON _sqlx_migrations TO veilsum;

-- Written once, never changed, never deleted.
GRANT SELECT, INSERT ON models, statements, log_entries, faults, revocations, task_rounds TO veilsum;

-- Changed, never deleted.
GRANT SELECT, INSERT, UPDATE ON tasks, log_head, sealing_keys TO veilsum;

-- Written once, erased with the round.
GRANT SELECT, INSERT, DELETE ON claims, mail, partial_sums TO veilsum;

-- Changed, and deleted when retention ends; of the ledger, only what lapsed; of keys of rounds, what is sealed anew.
GRANT SELECT, INSERT, UPDATE, DELETE ON rounds, gates, received, ledger, round_keys, leases TO veilsum;
COMMIT;
