//! Which tables there are: the migrations, built in, and the version that this program needs.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyPool, AssertSqlSafe, Row, SqlSafeStr};

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
const MIGRATIONS: [(&str, &str, &str); 7] = [
    files!("0001_rounds"),
    files!("0002_log"),
    files!("0003_ledger"),
    files!("0004_exports"),
    files!("0005_sealing_keys"),
    files!("0006_kept"),
    files!("0007_leases"),
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
    if found == 0 {
        for table in tables() {
            if is_there(&pool, table).await? {
                return Err(StoreError::Foreign(format!("it has a table {table} that no migration of ours made")));
            }
        }
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

/// Refuses a schema of the right version that lacks a table.
pub(super) async fn complete(pool: &AnyPool) -> Result<(), Failure> {
    for table in tables() {
        if !is_there(pool, table).await? {
            return Err(StoreError::Incomplete(format!("table {table} is not there")).into());
        }
    }
    Ok(())
}

/// All tables, by the migrations that make them.
fn tables() -> impl Iterator<Item = &'static str> {
    let made =
        MIGRATIONS.iter().flat_map(|(_, up, _)| up.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")));
    made.map(|rest| rest.split([' ', '(']).next().expect("a name"))
}

async fn is_there(pool: &AnyPool, table: &str) -> Result<bool, Failure> {
    // Safe: a word of our own migrations.
    let looked = sqlx::query(AssertSqlSafe(format!("SELECT 1 FROM {table} WHERE 1 = 0"))).fetch_all(pool).await;
    match looked {
        Ok(_) => Ok(true),
        Err(error) if engine::kind(&error) == Kind::NoTable => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The newest migration that ended; 0 where there is none.
async fn version(pool: &AnyPool) -> Result<i64, Failure> {
    let applied = "SELECT version, description FROM _sqlx_migrations ORDER BY version";
    let rows = match sqlx::query(applied).fetch_all(pool).await {
        Ok(rows) => rows,
        Err(error) if engine::kind(&error) == Kind::NoTable => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let mut newest = 0;
    for row in &rows {
        let (number, name): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let ours = usize::try_from(number - 1).ok().and_then(|at| MIGRATIONS.get(at));
        if ours.is_some_and(|(ours, ..)| *ours != name) || (newest == 0 && ours.is_none()) {
            return Err(StoreError::Foreign(format!("a migration \"{name}\" was applied to it")).into());
        }
        newest = number;
    }
    let begun = sqlx::query("SELECT MAX(version) FROM _sqlx_migrations WHERE NOT success").fetch_one(pool).await?;
    match begun.try_get::<Option<i64>, _>(0)? {
        Some(version) => {
            let half = format!("the migration to version {version} was begun and did not end");
            Err(StoreError::Incomplete(half).into())
        }
        None => Ok(newest),
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
