//! The programs that plan and audit privacy, run as people run them: their figures, their refusals, and what they find.

use std::path::Path;

use serde_json::json;
use veilsum_aggregator::task::{Task, TaskFile};
use veilsum_crypto::plan::epsilon_of_rounds;
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

const PLAN: [&str; 14] = [
    "plan",
    "privacy",
    "--clients",
    "64",
    "--dropouts",
    "16",
    "--colluders",
    "4",
    "--elements",
    "1862",
    "--clip",
    "2",
    "--delta",
    "1e-6",
];

fn plan(more: &[&str]) -> Said {
    run(&[&PLAN, more].concat())
}

/// The worked examples of docs/privacy.md are the program's own words.
#[test]
fn the_plans_in_the_book_are_what_the_program_says() {
    let book = std::fs::read_to_string(root().join("docs/privacy.md")).expect("the book");
    let mut seen = 0;
    for block in book.split("```console\n").skip(1) {
        let (command, rest) = block.split_once('\n').expect("a command");
        let shown = rest.split("```").next().expect("its output").trim_end();
        let arguments: Vec<&str> = command.strip_prefix("$ veilsum ").expect("a command").split(' ').collect();
        let said = run(&arguments);
        assert_eq!(said.code, 0, "{command}: {}", said.err);
        assert!(shown.lines().count() >= 8 && said.out.starts_with(shown), "{command} said\n{}", said.out);
        seen += 1;
    }
    assert_eq!(seen, 3);
}

/// A plan keeps its goal with the ring asked for, is drawn, and becomes a task with the same numbers.
#[test]
fn a_plan_is_drawn_and_a_task_with_its_goal_has_its_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    for (file, bits) in [("plan.svg", None), ("plan.html", Some("18"))] {
        let drawing = folder.path().join(file);
        let mut more = vec!["--rounds", "12", "--epsilon", "4", "--plot", text(&drawing), "--json"];
        more.extend(bits.into_iter().flat_map(|bits| ["--bits", bits]));
        let found = plan(&more).json(0);
        assert!(bits.is_none_or(|bits| found["bits"] == json!(bits.parse::<u8>().expect("a number"))));
        let epsilon = number(&found["epsilon"]);
        assert!(epsilon <= 4.0 && epsilon > 3.99 && number(&found["epsilon_tight"]) < epsilon);
        assert!(number(&found["error"]) <= 1.01 * number(&found["error_least"]));
        let drawing = std::fs::read_to_string(&drawing).expect("drawn");
        for words in ["<svg", "epsilon by rounds", "bits of the ring", "</svg>"] {
            assert!(drawing.contains(words), "{file}: {words}");
        }

        let path = folder.path().join("task.toml");
        let ring = bits.map_or(String::new(), |bits| format!("ring_bits = {bits}\n"));
        let toml = format!(
            "format = \"veilsum-task-1\"\nname = \"goal\"\nrounds = 12\ninvited = 64\nroster_min = 64\nroster_max = 64\n\
             corrupt_fraction = 0.0625\ndropout_tolerance = 0.25\nmodel_len = 1862\nlayout = \"{}\"\nclip_norm = 2.0\n\
             epsilon = 4.0\ndelta = 1e-6\n{ring}windows_ms = [500, 500, 500, 500, 500, 500, 500]\ngrace_ms = 100\n\
             server_rate = [1.0, 1.0]\n",
            "00".repeat(32)
        );
        std::fs::write(&path, &toml).expect("written");
        let created = run(&["task", "create", text(&path), "--check", "--json"]).json(0);
        assert_eq!(created["params"]["scale"], found["scale"]);
        assert_eq!(created["params"]["ring_bits"], found["bits"]);
        assert!(
            (number(&created["params"]["noise_multiplier"]) / number(&found["noise_multiplier"]) - 1.0).abs() < 1e-4
        );
        assert_eq!(created["privacy"]["budget_epsilon"], json!(4.0));
        let words = run(&["task", "create", text(&path), "--check"]).out;
        assert!(
            words.contains("times the clip norm 2.0 guaranteed") && words.contains("integer steps a unit"),
            "{words}"
        );
        // What clients are sent: the header's parameters are those of the plan.
        let task = Task::new(TaskFile::parse(&toml).expect("a task file")).expect("feasible");
        assert_eq!(json!(task.params.total_variance), found["total_variance"]);
        assert_eq!(json!(task.params.max_squared_norm), found["max_squared_norm"]);
        assert_eq!(epsilon_of_rounds(&task.params, 12), epsilon);
        let contradiction = toml.replace("epsilon = 4.0", "epsilon = 4.0\nscale = 100.0");
        std::fs::write(&path, contradiction).expect("written");
        run(&["task", "create", text(&path), "--check"]).refused(2, &["scale follows from epsilon"]);
    }
}

/// What cannot be is refused with the reason and what would be accepted; nothing is written.
#[test]
fn plans_that_cannot_be_are_refused_with_what_could() {
    let folder = tempfile::tempdir().expect("a folder");
    let pdf = folder.path().join("plan.pdf");
    let refused: [(&[&str], &[&str]); 9] = [
        (&["--epsilon", "4", "--bits", "8"], &["8 bits wraps", "at least"]),
        (&["--epsilon", "4", "--bits", "65"], &["from 8 to 64"]),
        (&["--epsilon", "0.0001"], &["epsilon 0.0001", "reaches", "raise epsilon or delta"]),
        (&["--epsilon", "-1"], &["unexpected argument"]),
        (&["--epsilon=-1"], &["epsilon must be above 0"]),
        (&["--epsilon", "nan"], &["epsilon must be above 0"]),
        (&["--epsilon", "4", "--rounds", "0"], &["rounds must be at least 1"]),
        (&["--epsilon", "4", "--wrap", "0.9"], &["--wrap must be from 2^-128 to 0.5"]),
        (&["--epsilon", "4", "--plot", text(&pdf)], &[".svg or .html"]),
    ];
    for (more, words) in refused {
        plan(more).refused(2, words);
    }
    let of = |clients: &str, dropouts: &str, colluders: &str, delta: &str| -> Said {
        run(&[
            "plan",
            "privacy",
            "--clients",
            clients,
            "--dropouts",
            dropouts,
            "--colluders",
            colluders,
            "--delta",
            delta,
            "--clip",
            "1",
            "--elements",
            "100",
            "--epsilon",
            "4",
        ])
    };
    of("2", "0", "0", "1e-5").refused(2, &["from 3 to 16384"]);
    of("64", "64", "0", "1e-5").refused(2, &["below --clients"]);
    of("64", "1.5", "0", "1e-5").refused(2, &["a number of clients or a fraction"]);
    of("64", "40", "4", "1e-5").refused(2, &["infeasible", "lost would be feasible"]);
    of("64", "32", "32", "1e-5").refused(2, &["no honest client is left"]);
    of("64", "6", "4", "1").refused(2, &["delta must be above 0 and below 1"]);
    assert!(!pdf.exists());
}

/// The command as built, with a fixed seed: bounds beside claims, and every law.
#[test]
fn the_noise_audit_finds_nothing_in_what_is_shipped() {
    let arguments = ["audit", "noise", "--trials", "20000", "--canaries", "512", "--seed", "7"];
    let said = run(&[&arguments[..], &["--json"]].concat()).json(0);
    assert_eq!(said["holds"], true, "{said}");
    let bounds = said["bounds"].as_array().expect("bounds");
    assert_eq!(bounds.len(), 3);
    for bound in bounds {
        let [least, tight, claim] =
            ["epsilon_at_least", "claim_tight", "claim"].map(|name| bound[name].as_f64().expect("a number"));
        assert!(least <= tight && tight <= claim && claim <= 2.0, "{bound}");
    }
    let sharpest = bounds.iter().filter_map(|bound| bound["epsilon_at_least"].as_f64()).fold(0.0, f64::max);
    assert!(sharpest > 1.0, "{sharpest}");
    assert!(said["laws"].as_array().expect("laws").iter().all(|law| law["holds"] == true));
    let words = run(&arguments);
    assert!(
        words.code == 0 && words.out.contains("confidence 0.99") && words.out.ends_with("nothing found\n"),
        "{}",
        words.out
    );
    run(&["audit", "noise", "--trials", "5"]).refused(2, &["--trials must be from 1000"]);
    run(&["audit", "noise", "--canaries", "5"]).refused(2, &["--canaries must be from 64"]);
    run(&["audit", "noise", "--confidence", "1"]).refused(2, &["--confidence must be"]);
    run(&["audit", "noise", "--epsilon", "0"]).refused(2, &["epsilon must be above 0"]);
}
