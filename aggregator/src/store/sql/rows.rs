//! Reading columns back, and writing many rows at once.

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row};
use veilsum_crypto::server::PhaseKind;

use super::{Failure, StoreError};

/// Rows of one statement: five columns of so many stay below every limit of bound values.
pub(super) const ROWS_AT_ONCE: usize = 1_000;

pub(super) type Query = sqlx::query::Query<'static, Any, sqlx::any::AnyArguments>;

/// One statement with a row of placeholders for each of `rows`, bound by `bind`; not kept prepared,
/// because the next one has another number of rows.
///
/// `{rows}` in `text` becomes `($1,$2,$3),($1,$4,$5)..`: the first `shared` stand in every row.
pub(super) fn many<T>(
    text: &str,
    columns: Columns,
    rows: &[T],
    first: impl FnOnce(Query) -> Query,
    bind: impl FnMut(Query, &T) -> Query,
) -> Query {
    let text = text.replace("{rows}", &columns.placeholders(rows.len()));
    // Safe: our own words and numbers only.
    let query = first(sqlx::query(AssertSqlSafe(text)).persistent(false));
    rows.iter().fold(query, bind)
}

/// One statement over a list of ids: `{list}` becomes `$3,$4..`, after those that `first` binds.
pub(super) fn listed<'a>(
    text: &str,
    bound_first: usize,
    ids: impl ExactSizeIterator<Item = &'a [u8]>,
    first: impl FnOnce(Query) -> Query,
) -> Query {
    let numbers = bound_first + 1..=bound_first + ids.len();
    let list = numbers.map(|number| format!("${number}")).collect::<Vec<_>>().join(",");
    let query = first(sqlx::query(AssertSqlSafe(text.replace("{list}", &list))).persistent(false));
    ids.fold(query, |query, id| query.bind(id.to_vec()))
}

/// How many columns of a row are the same in all rows, and how many are its own.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub(super) shared: usize,
    pub(super) own: usize,
}

impl Columns {
    fn placeholders(self, rows: usize) -> String {
        let Columns { shared, own } = self;
        let row = |row: usize| {
            let first_own = shared + row * own + 1;
            let numbers: Vec<_> =
                (1..=shared).chain(first_own..first_own + own).map(|number| format!("${number}")).collect();
            format!("({})", numbers.join(","))
        };
        (0..rows).map(row).collect::<Vec<_>>().join(",")
    }
}

/// An id or a digest.
pub(super) fn fixed<const N: usize>(row: &AnyRow, column: usize) -> Result<[u8; N], Failure> {
    let bytes: Vec<u8> = row.try_get(column)?;
    bytes.try_into().map_err(|bytes: Vec<u8>| damaged(format!("{} bytes stand where {N} belong", bytes.len())))
}

/// A count or a time: never negative.
pub(super) fn number<T: TryFrom<i64>>(row: &AnyRow, column: usize) -> Result<T, Failure> {
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|_| damaged(format!("{number} is out of its range")))
}

/// A time that may not be there yet.
pub(super) fn maybe(row: &AnyRow, column: usize) -> Result<Option<u64>, Failure> {
    let number: Option<i64> = row.try_get(column)?;
    number.map(|number| u64::try_from(number).map_err(|_| damaged(format!("{number} is no time")))).transpose()
}

pub(super) fn phase(row: &AnyRow, column: usize) -> Result<PhaseKind, Failure> {
    let number = number(row, column)?;
    PhaseKind::from_number(number).ok_or_else(|| damaged(format!("there is no phase {number}")))
}

pub(super) fn damaged(what: String) -> Failure {
    StoreError::Damaged(what).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_columns_are_bound_once() {
        let columns = Columns { shared: 1, own: 2 };
        assert_eq!(columns.placeholders(2), "($1,$2,$3),($1,$4,$5)");
    }
}
