//! What differs between SQLite and PostgreSQL; all else is one text.

use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, AnyPool, Connection as _, Executor, Row};

use super::StoreError;

/// How long a statement may wait for a connection or, on SQLite, for another process's lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// Emptied in place, so that what was erased is in no file. It waits for readers, not for ever.
const EMPTY_THE_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Changes no row: the head of the log is 0. But only who may write may say it.
const TOUCH: &str = "UPDATE log_head SET size = size WHERE head = 1";

/// `busy_timeout` first: the others may have to wait. `secure_delete` overwrites what is erased.
const SQLITE_PRAGMAS: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; \
    PRAGMA synchronous = FULL; PRAGMA secure_delete = ON";

/// Which database an address means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    pub(super) fn of(url: &str) -> Result<Self, StoreError> {
        match url.split(':').next() {
            Some("sqlite") => Ok(Engine::Sqlite),
            Some("postgres" | "postgresql") => Ok(Engine::Postgres),
            _ => Err(StoreError::Away("the address must begin with sqlite: or postgres:".to_owned())),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Engine::Sqlite => "sqlite",
            Engine::Postgres => "postgres",
        }
    }

    pub(super) async fn connect(self, url: &str) -> Result<AnyPool, sqlx::Error> {
        sqlx::any::install_default_drivers();
        let (url, connections) = match self {
            Engine::Sqlite => (creating(url), 4),     // one writes, the others read
            Engine::Postgres => (url.to_owned(), 16), // twice the gates of a round
        };
        if self == Engine::Sqlite {
            // What is wrong with a file is said at once; a pool would try again until its patience ends.
            let mut first = AnyConnection::connect(&url).await?;
            self.prepare(&mut first).await?;
            first.close().await?;
        }
        AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(PATIENCE)
            .after_connect(move |connection, _| Box::pin(self.prepare(connection)))
            .connect(&url)
            .await
    }

    async fn prepare(self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        if self == Engine::Sqlite {
            connection.execute(SQLITE_PRAGMAS).await?;
        }
        Ok(())
    }

    /// Opens a transaction that writes. SQLite takes its lock now: for one taken later, nobody waits.
    pub(super) fn begin(self) -> &'static str {
        match self {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }

    /// Fails where the file cannot be written. PostgreSQL says so by itself, see [`Engine::takes_writes`].
    pub(super) async fn touch(self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        if self == Engine::Sqlite {
            connection.execute(TOUCH).await?;
        }
        Ok(())
    }

    /// Whether transactions may write: not on a standby. SQLite says so when it is written to.
    pub(super) async fn takes_writes(self, pool: &AnyPool) -> Result<bool, sqlx::Error> {
        if self == Engine::Sqlite {
            return Ok(true);
        }
        let row = sqlx::query("SHOW transaction_read_only").fetch_one(pool).await?;
        Ok(row.try_get::<String, _>(0)? == "off")
    }

    /// Microseconds since 1970 by the database's own clock; SQLite has none but this machine's.
    pub(super) async fn clock(self, pool: &AnyPool) -> Result<Option<i64>, sqlx::Error> {
        if self == Engine::Sqlite {
            return Ok(None);
        }
        let row = sqlx::query("SELECT CAST(EXTRACT(EPOCH FROM now()) * 1000000 AS BIGINT)").fetch_one(pool).await?;
        row.try_get(0).map(Some)
    }

    /// Writers at a time in this process. SQLite has one, and a line is better than polling its lock.
    pub(super) fn writers(self) -> usize {
        match self {
            Engine::Sqlite => 1,
            Engine::Postgres => 12, // of 16 connections: reading goes on
        }
    }

    /// Takes erased bytes out of the files as well. A reader in the way delays it to the next time.
    pub(super) async fn forget(self, pool: &AnyPool) -> Result<(), sqlx::Error> {
        if self == Engine::Sqlite {
            pool.execute(EMPTY_THE_LOG).await?;
        }
        Ok(())
    }
}

/// What an error of either engine asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The transaction lost a race and left nothing behind: run it again.
    LostRace,
    /// There is no connection, or it broke.
    Away,
    /// Its disk takes nothing more.
    NoRoom,
    /// A table is missing.
    NoTable,
    /// No such role, password, database, or right.
    Denied,
    /// It takes no writes.
    ReadOnly,
    /// The file is something else.
    NoDatabase,
    /// Anything else.
    Refused,
}

pub(super) fn kind(error: &sqlx::Error) -> Kind {
    use sqlx::Error::{Database, Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
    match error {
        Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed => Kind::Away,
        Database(database) => match database.code().as_deref() {
            // serialization failure, deadlock; SQLITE_BUSY and its kinds, SQLITE_PROTOCOL
            Some("40001" | "40P01" | "5" | "261" | "517" | "773" | "15") => Kind::LostRace,
            // shutting down, starting up, too many connections, a standby; SQLITE_CANTOPEN
            Some("57P01" | "57P02" | "57P03" | "53300" | "25006" | "14") => Kind::Away,
            Some(code) if code.len() == 5 && code.starts_with("08") => Kind::Away,
            // disk full; SQLITE_FULL, SQLITE_IOERR_WRITE: a limit of the file system says so
            Some("53100" | "13" | "778") => Kind::NoRoom,
            Some("28P01" | "28000" | "3D000" | "42501") => Kind::Denied,
            Some("42P01") => Kind::NoTable,
            // SQLITE_READONLY and its kinds, SQLITE_NOTADB
            Some("8" | "264" | "520" | "776" | "1032" | "1288" | "1544") => Kind::ReadOnly,
            Some("26") => Kind::NoDatabase,
            Some("1") if database.message().starts_with("no such table") => Kind::NoTable,
            _ => Kind::Refused,
        },
        _ => Kind::Refused,
    }
}

/// SQLite makes a missing file only if asked to.
fn creating(url: &str) -> String {
    match url.split_once('?') {
        None => format!("{url}?mode=rwc"),
        Some((_, options)) if options.contains("mode=") => url.to_owned(),
        Some(_) => format!("{url}&mode=rwc"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_sqlite_file_is_made_unless_the_address_says_otherwise() {
        assert_eq!(creating("sqlite:a.db"), "sqlite:a.db?mode=rwc");
        assert_eq!(creating("sqlite:a.db?cache=private"), "sqlite:a.db?cache=private&mode=rwc");
        assert_eq!(creating("sqlite:a.db?mode=ro"), "sqlite:a.db?mode=ro");
    }

    #[test]
    fn an_address_of_another_database_is_refused() {
        assert_eq!(Engine::of("postgresql://here/db").ok(), Some(Engine::Postgres));
        assert!(Engine::of("mysql://here/db").is_err());
    }
}
