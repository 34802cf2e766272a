//! `veilsum demo --statistics`, as people run it: five questions over real HTTP, the truth beside each answer.

use serde_json::Value;
use verification::programs::*;

/// Noise leaves eight of its deviations in one of 10^14 runs.
const DEVIATIONS: f64 = 8.0;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number was expected: {value}"))
}

/// C-315: the demo asks a question of every kind, each at its epsilon, and says truthfully whether the interval holds the truth; sums
/// and counts are off by their noise and no more.
#[test]
fn the_demo_asks_every_kind_of_question_and_shows_the_truth_beside_the_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("demo").display().to_string();
    let said: Said = veilsum(&["demo", "--statistics", "--clients", "12", "--json", "--data-dir", &place]).into();
    let told = said.json(0);
    let questions = told["questions"].as_array().expect("a list");
    let kinds: Vec<&str> = questions.iter().map(|question| question["kind"].as_str().expect("a word")).collect();
    assert_eq!(kinds, ["sum", "mean", "histogram", "quantile", "heavy-hitters"]);
    for question in questions {
        assert_eq!(question["clients"], 12);
        let epsilon = number(&question["epsilon"]);
        assert!((1.9..=2.0).contains(&epsilon), "{epsilon}");
        let figures = question["figures"].as_array().expect("a list");
        let mut all_hold = true;
        for figure in figures {
            let [truth, low, high] = ["truth", "low", "high"].map(|name| number(&figure[name]));
            let holds = low <= truth && truth <= high;
            assert_eq!(figure["covers"], holds, "{figure}");
            all_hold &= holds;
            if let (Some(estimate), Some(noise_std)) = (figure["estimate"].as_f64(), question["noise_std"].as_f64()) {
                assert!((estimate - truth).abs() <= DEVIATIONS * noise_std, "{figure} with noise {noise_std}");
                assert!(high - low <= 2.0 * DEVIATIONS * noise_std, "{figure} with noise {noise_std}");
            }
        }
        assert_eq!(question["covers"], all_hold);
        let expected = match question["kind"].as_str() {
            Some("histogram") => 5,
            Some("heavy-hitters") => figures.len(), // as many as are above the noise
            _ => 1,
        };
        assert_eq!(figures.len(), expected, "{question}");
    }
    // One question after another, in the clients' own ledgers: more than one costs, less than all of them added up.
    let spent = number(&told["epsilon_spent"]);
    assert!(spent > 2.0 && spent < 10.0, "{spent}");
}
