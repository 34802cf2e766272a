//! The reference tables hold; each checked column, once falsified, is found; and nothing in a file stops the check.

use std::path::PathBuf;

use indicatif::ProgressBar;

use super::check::{Check, Outcome};
use super::csv::{Row, Table};
use super::{Checker, Report, check, checker, tables_in};

/// How a cell is falsified.
#[derive(Clone, Copy)]
enum How {
    /// By its relative tolerance.
    Relative(f64),
    /// By its absolute tolerance.
    Absolute(f64),
    /// By another word, or the next number.
    Exactly,
    /// By an exact value above the bound in the other column.
    AboveBound(&'static str),
    /// One number of a list, by its relative tolerance.
    InList(f64),
    /// A fraction, or the last of a list of them, by the smallest step its denominator has.
    Fraction,
}
use How::{AboveBound, Absolute, Exactly, Fraction, InList, Relative};

/// Every checked column of every kind of table, as tests/reference/privacy/README.md lists them.
const CHECKED: &[(&str, &[(&str, How)])] = &[
    ("gaussian", &[("eps_exact_analytic", Relative(1e-9))]),
    ("analytic_gaussian", &[("delta", Relative(1e-9)), ("sigma_for_unit_sensitivity", Relative(1e-9))]),
    (
        "discrete_gaussian",
        &[
            ("delta_exact", Relative(1e-9)),
            ("eps where row_kind is eps_of_delta", Relative(1e-9)),
            ("rho_zcdp", Relative(1e-9)),
            ("delta_via_zcdp", Relative(1e-9)),
        ],
    ),
    ("discrete_gaussian_rdp", &[("rdp_exact", Relative(1e-9)), ("rdp_bound_alpha_rho", Relative(1e-9))]),
    ("zcdp", &[("eps_standard", Relative(1e-9)), ("eps_optimal", Relative(1e-9))]),
    (
        "distributed_bounds",
        &[
            ("tau", Relative(1e-9)),
            ("rdp_alpha2", Relative(1e-9)),
            ("rdp_alpha8", Relative(1e-9)),
            ("rdp_alpha32", Relative(1e-9)),
            ("rdp_alpha128", Relative(1e-9)),
            ("eps_bound", Relative(1e-9)),
            ("best_order", Exactly),
        ],
    ),
    ("distributed_exact", &[("rdp_exact", AboveBound("rdp_bound")), ("rdp_bound", Relative(1e-9))]),
    ("distributed_exact_delta", &[("delta_exact", AboveBound("delta_bound")), ("delta_bound", Relative(1e-9))]),
    ("convolution_closeness", &[("published_bound", Relative(1e-9))]),
    (
        "rounding",
        &[
            ("l2_bound_int", Relative(1e-9)),
            ("l1_bound_int", Relative(1e-9)),
            ("active_branch", Exactly),
            ("max_integer_squared_norm", Exactly),
        ],
    ),
    (
        "params",
        &[
            ("scale", Relative(1e-6)),
            ("central_sigma_int", Relative(1e-6)),
            ("local_sigma_int", Relative(1e-6)),
            ("l2_bound_int", Relative(1e-6)),
            ("l1_bound_int", Relative(1e-6)),
        ],
    ),
    (
        "mean_estimation_reference",
        &[("scale", Relative(1e-6)), ("central_sigma_int", Relative(1e-6)), ("l2_bound_int", Relative(1e-6))],
    ),
    ("dropout_degradation", &[("local_sigma_int", Relative(1e-6)), ("eps_without_compensation", Relative(1e-6))]),
    (
        "ledger",
        &[
            ("cumulative_eps_after_accepted_rounds", InList(1e-9)),
            ("first_refused_round", Exactly),
            ("eps_if_it_had_been_accepted", Relative(1e-9)),
        ],
    ),
    (
        "xnoise",
        &[
            ("inflation_kappa", Fraction),
            ("component_variances", Fraction),
            ("removed_component_indices", Exactly),
            ("per_client_uploaded_variance", Fraction),
            ("per_client_residual_variance", Fraction),
            ("total_residual_variance", Fraction),
            ("honest_residual_variance", Fraction),
            ("total_if_no_removal", Fraction),
            ("total_plain_no_xnoise", Fraction),
            ("expected", Exactly),
        ],
    ),
    (
        "adaptive_clipping",
        &[("z_delta", Relative(1e-9)), ("z_delta where z_delta is reject", Exactly), ("C_after", Relative(1e-9))],
    ),
    ("audit_power", &[("expected_eps_lower_bound", Absolute(1e-4)), ("expected_eps_lower_bound_gdp", Absolute(1e-4))]),
    (
        "one_run_pvalue",
        &[
            ("p_value_at_eps1", Relative(1e-9)),
            ("p_value_at_eps3", Relative(1e-9)),
            ("eps_lower_bound_95", Relative(1e-4)),
        ],
    ),
    ("sampler_pmf", &[("prob", Relative(1e-9)), ("lo", Exactly), ("hi", Exactly)]),
    (
        "sampler_moments",
        &[
            ("mean", Absolute(1e-9)),
            ("variance", Relative(1e-9)),
            ("fourth_central_moment", Relative(1e-9)),
            ("prob_zero", Relative(1e-9)),
            ("prob_odd", Relative(1e-9)),
            ("prob_abs_dev_gt_3sd", Relative(1e-9)),
            ("entropy_bits", Relative(1e-9)),
        ],
    ),
    ("graph_params", GRAPH),
    ("graph_params_protocol", GRAPH),
];

const GRAPH: &[(&str, How)] = &[
    ("graph", Exactly),
    ("k", Exactly),
    ("t_min", Exactly),
    ("t_max", Exactly),
    ("log2_pA", Absolute(1e-6)),
    ("log2_pB", Absolute(1e-6)),
    ("log2_pC", Absolute(1e-6)),
];

fn tables() -> Vec<(String, Table)> {
    let reference = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference");
    let mut tables = Vec::new();
    for folder in ["privacy", "graph"] {
        for file in tables_in(&reference.join(folder)).expect("the reference tables are part of the repository") {
            let kind = file.file_stem().expect("a name").to_string_lossy().trim_end_matches("_public").to_string();
            tables.push((kind, Table::read(&std::fs::read_to_string(file).expect("readable"))));
        }
    }
    tables
}

fn audit(kind: &str, table: &Table) -> Report {
    check(format!("{kind}_heldout"), table, false, &ProgressBar::hidden())
}

#[test]
fn every_row_of_every_reference_table_holds() {
    for (kind, table) in tables() {
        let report = audit(&kind, &table);
        assert_eq!(report.failed, 0, "{kind}: {:?}", report.remarks);
        match checker(&kind, false) {
            Some(Checker::Rows(_) | Checker::Table(_)) => {
                assert!(report.rows >= 6, "{kind}: {} rows", report.rows);
            }
            _ => assert_eq!((report.rows, report.skipped), (0, table.rows.len()), "{kind}"),
        }
    }
}

/// The two replacements of a cell: one that must be found, one that must not.
fn falsified(table: &Table, row: &Row, cell: &str, how: How) -> Option<(String, Option<String>)> {
    let scaled = |text: &str, by: f64| {
        let number: f64 = text.parse().ok()?;
        (number != 0.0 && number.is_finite()).then(|| format!("{:e}", number * by))
    };
    let shifted = |by: f64| Some(format!("{:e}", cell.parse::<f64>().ok().filter(|x| x.is_finite())? + by));
    Some(match how {
        Relative(tolerance) => (scaled(cell, 1.0 + 2.5 * tolerance)?, scaled(cell, 1.0 + 0.4 * tolerance)),
        Absolute(tolerance) => (shifted(2.5 * tolerance)?, shifted(0.1 * tolerance)),
        Exactly => match cell.parse::<u64>() {
            Ok(number) => ((number + 1).to_string(), None),
            Err(_) if cell.is_empty() => return None,
            Err(_) => (format!("not_{cell}"), None),
        },
        AboveBound(bound) => {
            let column = table.header.iter().position(|name| name == bound)?;
            (scaled(&row.cells[column], 1.0 + 3e-9)?, scaled(&row.cells[column], 1.0 - 1e-9))
        }
        Fraction => {
            let (before, last) = cell.rsplit_once(';').map_or(("", cell), |(list, _)| cell.split_at(list.len() + 1));
            let (above, below) = last.split_once('/')?;
            let (above, below): (u128, u128) = (above.parse().ok()?, below.parse().ok()?);
            (format!("{before}{}/{below}", above + 1), Some(format!("{before}{}/{}", 3 * above, 3 * below)))
        }
        InList(tolerance) => {
            let (first, rest) = cell.split_once(';')?;
            let with = |by| Some(format!("{};{rest}", scaled(first, by)?));
            (with(1.0 - 2.5 * tolerance)?, with(1.0 - 0.4 * tolerance))
        }
    })
}

/// What becomes of a row if one of its cells holds something else. Rows that only make sense together, those of one law, stay
/// together.
fn with_cell(kind: &str, table: &Table, row: &Row, (at, cell): (usize, &str)) -> Outcome {
    let changed = |row: &Row| {
        let mut cells = row.cells.clone();
        cells[at] = cell.to_string();
        Row { id: row.id.clone(), cells }
    };
    match checker(kind, false) {
        Some(Checker::Rows(check_row)) => Check::row(&table.header, &changed(row), check_row),
        Some(Checker::Table(check_table)) => {
            let law = |row: &Row| [row.cells[1].clone(), row.cells[2].clone()];
            let copy = |other: &Row| {
                let same = Row { id: other.id.clone(), cells: other.cells.clone() };
                if other.id == row.id { changed(other) } else { same }
            };
            let rows = table.rows.iter().filter(|other| law(other) == law(row)).map(copy).collect();
            let alone = Table { header: table.header.clone(), rows };
            let outcomes = check_table(&alone, &ProgressBar::hidden());
            outcomes.into_iter().find(|outcome| outcome.id == row.id).expect("an outcome for each row")
        }
        _ => panic!("{kind} is not checked"),
    }
}

#[test]
fn every_checked_column_is_found_when_it_is_falsified_and_not_before() {
    for (kind, table) in tables() {
        if matches!(checker(&kind, false), Some(Checker::Skipped(_))) {
            continue;
        }
        let (_, columns) =
            CHECKED.iter().find(|(name, _)| *name == kind).unwrap_or_else(|| panic!("{kind} is not listed"));
        for &(column, how) in *columns {
            let (column, condition) = column.split_once(" where ").unwrap_or((column, ""));
            let place =
                |column: &str| table.header.iter().position(|name| name == column).expect("a column of the table");
            let at = place(column);
            let applies =
                |row: &Row| condition.split_once(" is ").is_none_or(|(name, word)| row.cells[place(name)] == word);
            // a row in which this column is checked: leaving it out breaks it
            let outcome = |row: &Row, cell: &str| with_cell(&kind, &table, row, (at, cell));
            let row = table.rows.iter().filter(|row| applies(row)).find(|row| {
                falsified(&table, row, &row.cells[at], how).is_some() && !outcome(row, "").failures.is_empty()
            });
            let row = row.unwrap_or_else(|| panic!("{kind}: no row shows {column}"));
            let (wrong, near) = falsified(&table, row, &row.cells[at], how).expect("just found");
            let found = outcome(row, &wrong);
            assert!(!found.failures.is_empty(), "{kind}: {column} = {wrong} was not found in {}", row.id);
            assert_eq!(found.id, row.id);
            if let Some(near) = near {
                let passed = outcome(row, &near);
                assert!(passed.failures.is_empty(), "{kind}: {column} = {near} was refused: {:?}", passed.failures);
            }
        }
    }
}

/// Deterministic damage to every kind of table: cells that are empty, huge, negative, words; rows that are cut or missing.
#[test]
fn damaged_rows_fail_by_id_and_stop_nothing() {
    let junk = ["", "x", "-1", "0", "1e400", "nan", "inf", "99999999999999999999", "1;2", "|", "é"];
    for (kind, table) in tables() {
        if matches!(checker(&kind, false), Some(Checker::Skipped(_))) {
            continue;
        }
        // for tables of laws: one that is not drawn, which takes seconds
        let row = table.rows.iter().rev().find(|row| row.cells[1].contains("poisson"));
        let row = row.unwrap_or(&table.rows[table.rows.len() / 2]);
        for (at, word) in (0..row.cells.len()).flat_map(|at| junk.map(|word| (at, word))) {
            let outcome = with_cell(&kind, &table, row, (at, word));
            let broken = outcome.failures.iter().any(|why| why.contains("broke off"));
            assert!(!broken, "{kind} {} {word}", table.header[at]);
        }
        let mut cut = Table { header: table.header.clone(), rows: vec![] };
        for row in table.rows.iter().take(12) {
            cut.rows.push(Row { id: row.id.clone(), cells: row.cells.clone() });
        }
        let removed = (cut.rows.len() > 10).then(|| cut.rows.remove(4).id);
        cut.rows[2].cells.pop();
        let report = audit(&kind, &cut);
        let expected = 1 + usize::from(removed.as_ref().is_some_and(|id| !id.starts_with("line")));
        assert_eq!(report.first_failure.as_ref(), Some(&cut.rows[2].id), "{kind}");
        match checker(&kind, false) {
            // what is left is no partition, for one
            Some(Checker::Table(_)) => assert!(report.failed >= expected, "{kind}"),
            _ => assert_eq!(report.failed, expected, "{kind}"),
        }
        let empty = audit(&kind, &Table::read("id,x\n"));
        assert_eq!((empty.failed, empty.first_failure.as_deref()), (1, Some("line 2")), "{kind}");
    }
}

#[test]
fn a_table_of_no_known_kind_is_named_as_such() {
    let report = audit("astrology", &Table::read("id,x\na,1\n"));
    assert!(report.unknown && report.rows == 0 && report.skipped == 1 && report.failed == 0);
}
