//! Which tables there are: the migrations, built in, and the version that this program needs.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyPool, Row, SqlSafeStr};

use super::engine::{self, Kind};
use super::{Engine, Failure, StoreError};

macro_rules! files {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../../migrations/", $name, ".up.sql")),
            include_str!(concat!("../../../../migrations/", $name, ".down.sql")),
        )
    };
}

/// Name, up and down of each, by number from 1.
const MIGRATIONS: [(&str, &str, &str); 5] = [
    files!("0001_rounds"),
    files!("0002_log"),
    files!("0003_ledger"),
    files!("0004_exports"),
    files!("0005_sealing_keys"),
];

/// The schema version that this program was built for.
pub const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings the tables of `url` up to [`SCHEMA_VERSION`]; a missing SQLite file is made.
///
/// # Errors
/// [`StoreError::Schema`] if they are newer already, [`StoreError::Refused`] if a migration fails.
pub async fn migrate(url: &str) -> Result<(), StoreError> {
    let pool = Engine::of(url)?.connect(url).await.map_err(Failure::from)?;
    let found = version(&pool).await?;
    if found > SCHEMA_VERSION {
        return Err(StoreError::Schema { found, needed: SCHEMA_VERSION });
    }
    let done = migrator().run(&pool).await;
    pool.close().await;
    done.map_err(failed)
}

/// Drops all tables, in reverse. For tests: nothing else takes back what has been released.
///
/// # Errors
/// [`StoreError::Refused`] if a migration fails.
pub async fn undo(url: &str) -> Result<(), StoreError> {
    let pool = Engine::of(url)?.connect(url).await.map_err(Failure::from)?;
    let done = migrator().undo(&pool, 0).await;
    pool.close().await;
    done.map_err(failed)
}

/// Refuses tables of another version.
pub(super) async fn check(pool: &AnyPool) -> Result<(), Failure> {
    match version(pool).await? {
        SCHEMA_VERSION => Ok(()),
        found => Err(StoreError::Schema { found, needed: SCHEMA_VERSION }.into()),
    }
}

async fn version(pool: &AnyPool) -> Result<i64, Failure> {
    let newest = sqlx::query("SELECT MAX(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(pool)
        .await
        .and_then(|row| row.try_get::<Option<i64>, _>(0));
    match newest {
        Ok(version) => Ok(version.unwrap_or(0)),
        Err(error) if engine::kind(&error) == Kind::NoTable => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Without the advisory lock, which not every engine has: two migrating at once is one that fails.
fn migrator() -> Migrator {
    let steps = MIGRATIONS.iter().zip(1..).flat_map(|(&(name, up, down), number)| {
        let step = |kind, text: &'static str| Migration::new(number, name.into(), kind, text.into_sql_str(), false);
        [step(MigrationType::ReversibleUp, up), step(MigrationType::ReversibleDown, down)]
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    migrator.set_locking(false);
    migrator
}

fn failed(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => Failure::from(error).into(),
        other => StoreError::Refused(other.to_string()),
    }
}
