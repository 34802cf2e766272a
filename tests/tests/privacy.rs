//! The programs that plan and audit privacy, run as people run them: their figures, their refusals, and what they find.

use std::path::Path;

use verification::programs::*;

fn run(arguments: &[&str]) -> Said {
    veilsum(arguments).into()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

/// Some cells of the reference table, of both mechanisms, and one of them falsified.
#[test]
fn the_published_experiment_is_rerun_and_a_false_cell_is_found() {
    let table = root().join("tests/reference/privacy/mean_estimation_reference_public.csv");
    let table = std::fs::read_to_string(table).expect("the table");
    let (header, rows) = table.split_once('\n').expect("a header");
    let place = |name: &str| header.split(',').position(|column| column == name).expect("a column");
    let (clients, mse) = (place("n"), place("mse_mean"));
    let hundred = |row: &&str| row.split(',').nth(clients) == Some("100");
    let some: Vec<&str> = rows.lines().filter(hundred).step_by(6).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, rows: &[String]| {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("{header}\n{}\n", rows.join("\n"))).expect("written");
        file
    };
    let mut rows: Vec<String> = some.iter().map(|row| row.to_string()).collect();
    let file = write("cells.csv", &rows);
    let arguments = ["audit", "mean-estimation", text(&file), "--tight", "--seed", "1", "--json"];
    let said = run(&arguments).json(0);
    let cells = said["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), some.len());
    for mechanism in ["skellam", "ddgauss"] {
        assert!(cells.iter().any(|cell| cell["mechanism"] == mechanism), "{mechanism}");
    }
    for cell in cells {
        assert_eq!(cell["agrees"], true, "{cell}");
        if let Some(tight) = cell["mse_tight"].as_f64().filter(|_| cell["bits"] == 16) {
            let central = cell["mse_central_gaussian"].as_f64().expect("a number");
            assert!(tight < 1.1 * central, "{cell}"); // ten repeats; Renyi accounting costs 15 %
        }
    }
    assert_eq!(run(&arguments).json(0), said, "a seed gives the same run");

    let mut false_cell: Vec<String> = rows[2].split(',').map(str::to_string).collect();
    let wrong: f64 = false_cell[mse].parse().expect("a number");
    false_cell[mse] = (wrong * 1.5).to_string();
    rows[2] = false_cell.join(",");
    let file = write("false.csv", &rows);
    let said = run(&["audit", "mean-estimation", text(&file), "--seed", "1", "--json"]).json(1);
    let differ: Vec<bool> =
        said["cells"].as_array().expect("cells").iter().map(|cell| cell["agrees"] == true).collect();
    assert_eq!(differ.iter().filter(|agrees| !**agrees).count(), 1);
    assert!(!differ[2], "{said}");

    run(&["audit", "mean-estimation", "no-such.csv"]).refused(2, &["no-such.csv"]);
}
