-- Roles and database, once, by a superuser:   psql -v ON_ERROR_STOP=1 -d postgres -f roles.sql
--
-- Two roles, so that the service cannot change its tables, and cannot rewrite what must never change (grants.sql):
--   veilsum_owner   owns database and tables; `veilsum migrate` uses it, and nothing else
--   veilsum         what `veilsum serve` uses
-- It may run again. Passwords are set here only if -v secrets=FOLDER names a folder with the files owner.pgpass and serve.pgpass
-- (host:port:database:role:password); else set them with \password.

SELECT 'CREATE ROLE veilsum_owner LOGIN'
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'veilsum_owner') \gexec
SELECT 'CREATE ROLE veilsum LOGIN'
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'veilsum') \gexec
SELECT 'CREATE DATABASE veilsum OWNER veilsum_owner ENCODING ''UTF8'' TEMPLATE template0'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'veilsum') \gexec

\if :{?secrets}
\set owner_password `sed -n 's/^[^:]*:[^:]*:[^:]*:veilsum_owner://p' :'secrets'/owner.pgpass`
\set serve_password `sed -n 's/^[^:]*:[^:]*:[^:]*:veilsum://p' :'secrets'/serve.pgpass`
ALTER ROLE veilsum_owner PASSWORD :'owner_password';
ALTER ROLE veilsum PASSWORD :'serve_password';
\endif

REVOKE ALL ON DATABASE veilsum FROM PUBLIC;
GRANT CONNECT ON DATABASE veilsum TO veilsum;

\connect veilsum
-- Before PostgreSQL 15 everybody could make tables here.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO veilsum_owner;
GRANT USAGE ON SCHEMA public TO veilsum;
