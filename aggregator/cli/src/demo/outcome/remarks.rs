//! What must be admitted about a run: at the terminal and in the report, in the same words.

use super::{DemoDetails, DemoOutcome, percent};

/// Above this much noise on the mean, in clip norms, the server's rate was found to be too high.
const NOISE_ON_MEAN_MAX: f64 = 0.1;
/// From here on an epsilon promises next to nothing: odds may change by a factor of e^10, about 22,000.
const EPSILON_WEAK_FROM: f64 = 10.0;

/// How much a remark weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// A promise did not hold, or was not made.
    Alarm,
    /// The result is worth less than it seems.
    Warning,
    /// True of every run like this one.
    Note,
}

/// Something a reader could miss and must not.
#[derive(Clone, Debug)]
pub struct Remark {
    /// The heaviest come first.
    pub weight: Weight,
    /// Whole sentences.
    pub text: String,
}

/// What must be admitted about a run, the heaviest first.
pub fn remarks(outcome: &DemoOutcome, details: &DemoDetails) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut say = |weight, text: String| remarks.push(Remark { weight, text });

    say_what_failed(outcome, details, &mut say);
    if outcome.noise_is_off() {
        say(
            Weight::Alarm,
            "NOISE IS OFF (--noise-multiplier 0). The masks still hide each update from the aggregator, but the \
             published sums promise nothing: whoever sees them may learn about a single client. Do not run real data \
             like this."
                .to_string(),
        );
    } else {
        say_noise(outcome, details, &mut say);
    }
    if outcome.released() > 0 && outcome.loss_after >= outcome.unigram_loss {
        say(
            Weight::Warning,
            "The model ended no better than byte frequencies: it learned nothing that counting bytes would not give."
                .to_string(),
        );
    }
    let settings = &details.settings;
    if settings.dropout_tolerance < settings.dropout_tolerance_asked {
        say(
            Weight::Warning,
            format!(
                "So few clients cannot bear the loss of {} of a roster: the dropout tolerance was lowered to {}, the \
                 largest that is feasible.",
                percent(settings.dropout_tolerance_asked),
                percent(settings.dropout_tolerance)
            ),
        );
    }
    if let Some(warning) = &details.corpus.warning {
        say(Weight::Warning, sentence(warning));
    }
    for assumption in &details.assumptions {
        say(Weight::Note, format!("Taken on trust: {}.", assumption.trim_end_matches('.')));
    }
    remarks.sort_by_key(|remark| remark.weight); // stable: within a weight the order is the one above
    remarks
}

/// Rounds that published something wrong, or nothing.
fn say_what_failed(outcome: &DemoOutcome, details: &DemoDetails, say: &mut impl FnMut(Weight, String)) {
    for round in outcome.rounds.iter().filter(|round| round.bit_exact == Some(false)) {
        say(
            Weight::Alarm,
            format!(
                "Round {}: the published sum is NOT the sum of the survivors' vectors. Do not use this model.",
                round.round
            ),
        );
    }
    let abandoned = outcome.rounds.len() - outcome.released();
    if outcome.released() == 0 {
        say(Weight::Alarm, "No round was released: nothing was published and the model did not change.".to_string());
    } else if abandoned > 0 {
        let of = outcome.rounds.len();
        say(
            Weight::Warning,
            format!(
                "Abandoned: {abandoned} of {of} rounds. An abandoned round publishes nothing and leaves the model as it \
                 was."
            ),
        );
    }
    let mut spent = 0.0;
    for (round, detail) in outcome.rounds.iter().zip(&details.rounds) {
        let Some(epsilon) = round.epsilon else { continue };
        if detail.abandoned_because.is_some() && epsilon > spent {
            say(
                Weight::Note,
                format!(
                    "Round {} was abandoned after masking had opened: its epsilon stays charged, although nothing \
                     was published.",
                    round.round
                ),
            );
        }
        spent = epsilon;
    }
}

/// How the real noise differs from the promised one, and whether it is too much or too little.
fn say_noise(outcome: &DemoOutcome, details: &DemoDetails, say: &mut impl FnMut(Weight, String)) {
    let mut ratios = Vec::new();
    let mut noise_on_mean: f64 = 0.0;
    for (round, detail) in outcome.rounds.iter().zip(&details.rounds) {
        if let Some(ratio) = detail.noise_ratio(round) {
            ratios.push(ratio);
            noise_on_mean = noise_on_mean.max(outcome.noise_multiplier * ratio / f64::from(round.survivors));
        }
    }
    if noise_on_mean > NOISE_ON_MEAN_MAX {
        say(
            Weight::Warning,
            format!(
                "The noise on the mean update reached {noise_on_mean:.2} of the clip norm, above {NOISE_ON_MEAN_MAX}: \
                 the model may end worse than it began. More clients, not less noise, is the honest way to a small \
                 epsilon."
            ),
        );
    }
    if let Some(epsilon) = outcome.epsilon().filter(|epsilon| *epsilon >= EPSILON_WEAK_FROM) {
        say(Weight::Warning, format!("An epsilon of {epsilon:.1} promises next to nothing to a single client."));
    }
    if let Some(ratio) = mean(&ratios) {
        say(
            Weight::Note,
            format!(
                "The real noise is {ratio:.2} times the guaranteed one (square root of survivors over the honest \
                 shares counted on): every survivor added a share, while epsilon counts only on those that remain \
                 when the tolerated number is lost and the tolerated number colludes. Epsilon is stated for the \
                 guaranteed noise."
            ),
        );
    }
    say(
        Weight::Note,
        "Every further run over the same clients' data spends epsilon again; the figures add up.".to_string(),
    );
}

/// Begins with a capital and ends with a stop.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn noise_switched_off_is_the_first_thing_said() {
        let (mut outcome, details) = samples::run(2);
        outcome.noise_multiplier = 0.0;
        let first = &remarks(&outcome, &details)[0];
        assert_eq!(first.weight, Weight::Alarm);
        assert!(first.text.starts_with("NOISE IS OFF"), "{}", first.text);
    }

    #[test]
    fn a_sum_that_is_not_exact_is_an_alarm() {
        let (mut outcome, details) = samples::run(2);
        outcome.rounds[1].bit_exact = Some(false);
        let first = &remarks(&outcome, &details)[0];
        assert!(first.weight == Weight::Alarm && first.text.contains("Round 2"), "{}", first.text);
    }

    #[test]
    fn too_much_noise_for_so_few_clients_is_a_warning() {
        let (mut outcome, details) = samples::run(2);
        let said = |outcome: &DemoOutcome| {
            let remarks = remarks(outcome, &details);
            remarks.into_iter().find(|remark| remark.text.contains("noise on the mean"))
        };
        assert!(said(&outcome).is_none());
        outcome.noise_multiplier = 8.0; // 8 * sqrt(58 / 44) / 58 = 0.158
        let warning = said(&outcome).expect("it is said");
        assert!(warning.weight == Weight::Warning && warning.text.contains("0.16"), "{}", warning.text);
    }
}
