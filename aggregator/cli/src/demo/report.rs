//! The demo's report: one HTML file that needs nothing else, for a reader who was not there.
//!
//! It loads nothing and runs nothing: styles and plots are inside, and all text is escaped.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::display::{Decimals, bytes, epsilon_in_words, ladder, number, released_in_words, visible};
use super::outcome::{DemoDetails, DemoOutcome, RoundDetails, RoundOutcome, Status, Weight, percent, remarks};

mod plots;

const STYLE: &str = include_str!("report/style.css");
/// Stands before the report, so that a browser loads nothing even if something slipped through the escaping.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Writes the report to `path`.
///
/// # Errors
///
/// If the file cannot be written. The message names it.
pub fn write_report(path: &Path, outcome: &DemoOutcome, details: &DemoDetails) -> Result<()> {
    fs::write(path, page(outcome, details)).with_context(|| {
        format!("cannot write the report to {}; its folder must exist and be writable", path.display())
    })
}

fn page(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    let sections = [
        introduction(outcome, details),
        alarms(outcome, details),
        key_figures(outcome),
        warnings(outcome, details),
        learned(outcome, details),
        rounds(outcome, details),
        plots::figures(outcome, details),
        protection(outcome, details),
        notes(outcome, details),
        settings(outcome, details),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Veilsum: report of a private training run</title>\n<style>\n{STYLE}{}</style>\n</head>\n\
         <body>\n<main>\n{}</main>\n</body>\n</html>\n",
        plots::style(),
        sections.concat()
    )
}

fn introduction(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    let settings = &details.settings;
    let noise = if outcome.noise_is_off() {
        "In this run <strong>no noise was added</strong>: the sums themselves are not protected."
    } else {
        "Each client also adds its share of random noise, so that the sum itself tells little about any one of them."
    };
    format!(
        "<header>\n<p class=\"brand\">Veilsum</p>\n<h1>A model trained on data that nobody handed over</h1>\n\
         <p class=\"lead\">{} clients, each with text of its own, trained one small language model together in {}. \
         No text left a client. In each round a client sends one update of the model, masked so that the server \
         learns the sum over all clients and nothing about the part of any one. {noise} Some clients were made to \
         vanish in the middle of a round, as devices do; a round must end all the same, with the right sum or with \
         none.</p>\n</header>\n",
        settings.clients,
        counted(outcome.rounds.len(), "round"),
    )
}

/// The figures that a reader with ten seconds takes away.
fn key_figures(outcome: &DemoOutcome) -> String {
    let lost: u32 = outcome.rounds.iter().map(|round| round.dropped.total()).sum();
    let invited: u64 = outcome.rounds.iter().map(|round| u64::from(round.cohort)).sum();
    let up = outcome.rounds.iter().map(|round| round.bytes_up_per_client).max().unwrap_or(0);
    let (released, rounds) = (outcome.released(), outcome.rounds.len());
    let epsilon = match outcome.epsilon() {
        Some(epsilon) if !outcome.noise_is_off() => number(epsilon, Decimals(2)),
        _ => "none".to_string(),
    };
    let others = match released {
        0 => "nothing was published",
        all if all == rounds => "each published one sum",
        _ => "the others published nothing",
    };
    let figures = [
        ("Rounds released", format!("{released} of {rounds}"), others.to_string()),
        ("Sums correct to the bit", format!("{} of {released}", outcome.bit_exact()), "of those released".to_string()),
        ("Privacy loss, epsilon", epsilon, format!("all rounds, at delta {:e}", outcome.dp_delta)),
        (
            "Held-out loss",
            format!("{} → {}", number(outcome.loss_before, Decimals(2)), number(outcome.loss_after, Decimals(2))),
            format!("byte frequencies: {}", number(outcome.unigram_loss, Decimals(2))),
        ),
        ("Clients lost on the way", lost.to_string(), format!("of {invited} invitations")),
        ("Sent by a client", bytes(up), "mean over clients, in the dearest round".to_string()),
    ];
    let mut html = "<section class=\"tiles\" aria-label=\"Key figures\">\n".to_string();
    for (name, value, note) in figures {
        put(
            &mut html,
            format_args!("<div><p>{name}</p><p class=\"value\">{value}</p><p class=\"note\">{note}</p></div>\n"),
        );
    }
    html + "</section>\n"
}

fn alarms(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    boxes(outcome, details, Weight::Alarm)
}

fn warnings(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    boxes(outcome, details, Weight::Warning)
}

fn boxes(outcome: &DemoOutcome, details: &DemoDetails, weight: Weight) -> String {
    let class = if weight == Weight::Alarm { "alarm" } else { "warning" };
    let said = remarks(outcome, details).into_iter().filter(|remark| remark.weight == weight);
    said.map(|remark| format!("<p class=\"{class}\" role=\"note\">{}</p>\n", escaped(&remark.text))).collect()
}

/// Where the model stands, and what it writes.
fn learned(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    let ladder = ladder(outcome, details);
    let worst = ladder.iter().map(|rung| rung.loss).filter(|loss| loss.is_finite()).fold(1e-9, f64::max);
    let mut html = "<section>\n<h2>What the model learned</h2>\n\
         <p>Loss on text that belongs to no client, in nats per byte; lower is better. That it falls proves little: \
         byte frequencies alone give the third line. The plain twin, trained without any protection, shows what \
         privacy cost. It exists only because this is a demonstration.</p>\n<table class=\"ladder\">\n\
         <thead><tr><th>Model</th><th>Loss</th><th class=\"wide\"><span class=\"unseen\">As a bar</span></th>\
         <th>Remark</th></tr></thead>\n<tbody>\n"
        .to_string();
    for rung in &ladder {
        let width = if rung.loss.is_finite() { (rung.loss / worst * 100.0).clamp(0.0, 100.0) } else { 0.0 };
        put(
            &mut html,
            format_args!(
                "<tr{}><th scope=\"row\">{}</th><td class=\"n\">{}</td><td><div class=\"bar\" \
                 style=\"width:{width:.1}%\"></div></td><td>{}</td></tr>\n",
                if rung.ours { " class=\"ours\"" } else { "" },
                rung.name,
                number(rung.loss, Decimals(3)),
                escaped(&rung.remark)
            ),
        );
    }
    let (model, unigram) = (details.baselines.model_guesses, details.baselines.unigram_guesses);
    put(
        &mut html,
        format_args!(
            "</tbody></table>\n<p>The next byte was the model's first guess in <strong>{}</strong> of cases and among \
             its first five in <strong>{}</strong>. Always guessing the commonest bytes gives {} and {}.</p>\n",
            percent(model.first),
            percent(model.first_five),
            percent(unigram.first),
            percent(unigram.first_five)
        ),
    );
    html + &completions(details) + "</section>\n"
}

fn completions(details: &DemoDetails) -> String {
    if details.completions.is_empty() {
        return String::new();
    }
    let mut html = "<h3>How prefixes go on</h3>\n<p>The prefixes were fixed before training, not picked afterwards. \
         A model this small writes pieces of words at best.</p>\n<div class=\"scroll\"><table class=\"completions\">\n\
         <thead><tr><th>Prefix</th><th>This model</th><th>Byte frequencies</th></tr></thead>\n<tbody>\n"
        .to_string();
    for it in &details.completions {
        let cell = |text: &str| format!("<td><code><bdi>{}</bdi></code></td>", escaped(text));
        put(&mut html, format_args!("<tr>{}{}{}</tr>\n", cell(&it.prefix), cell(&it.model), cell(&it.unigram)));
    }
    html + "</tbody></table></div>\n"
}

fn rounds(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    let mut html = format!("<section>\n<h2>Round by round</h2>\n<p>{}</p>\n", escaped(&released_in_words(outcome)));
    if outcome.rounds.is_empty() {
        return html + "</section>\n";
    }
    html += "<div class=\"scroll\"><table class=\"rounds\">\n<thead>\n<tr><th rowspan=\"2\">Round</th>\
         <th rowspan=\"2\">Invited</th><th rowspan=\"2\">Roster</th><th rowspan=\"2\">In the<br>sum</th>\
         <th colspan=\"6\" class=\"group\">Lost in phase</th><th rowspan=\"2\">Bit-exact</th>\
         <th colspan=\"2\" class=\"group\">Loss</th><th rowspan=\"2\">Epsilon<br>so far</th>\
         <th colspan=\"2\" class=\"group\">Bytes a client</th><th rowspan=\"2\">Time</th></tr>\n\
         <tr><th>adv.</th><th>share</th><th>ackn.</th><th>mask</th><th>conf.</th><th>unm.</th>\
         <th>private</th><th>plain</th><th>up</th><th>down</th></tr>\n</thead>\n<tbody>\n";
    for (round, detail) in outcome.rounds.iter().zip(&details.rounds) {
        html += &round_row(round, detail);
    }
    html + "</tbody></table></div>\n<p class=\"note\">A client lost at confirm or unmask had already sent its masked \
         update and is still in the sum. “Bit-exact” compares the published sum with the plain sum of what the \
         survivors wrote down before masking, over the list of survivors that was signed.</p>\n</section>\n"
}

fn round_row(round: &RoundOutcome, details: &RoundDetails) -> String {
    let abandoned = round.status == Status::Abandoned;
    let mut html = format!(
        "<tr{}><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td>",
        if abandoned { " class=\"abandoned\"" } else { "" },
        round.round,
        round.cohort,
        round.roster,
        if abandoned { "–".to_string() } else { round.survivors.to_string() }
    );
    for (_, lost) in round.dropped.named() {
        put(&mut html, format_args!("<td{}>{lost}</td>", if lost == 0 { " class=\"zero\"" } else { "" }));
    }
    let exact = match (abandoned, round.bit_exact) {
        (true, _) => "abandoned",
        (false, Some(true)) => "yes",
        (false, Some(false)) => "<strong class=\"bad\">NO</strong>",
        (false, None) => "unknown",
    };
    put(
        &mut html,
        format_args!(
            "<td>{exact}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} s</td></tr>\n",
            number(round.held_out_loss, Decimals(3)),
            number(details.plain_loss, Decimals(3)),
            round.epsilon.map_or("none".to_string(), |epsilon| number(epsilon, Decimals(2))),
            bytes(round.bytes_up_per_client),
            bytes(round.bytes_down_per_client),
            number(round.wall_s, Decimals(1)),
        ),
    );
    if abandoned {
        let why = details.abandoned_because.as_deref().unwrap_or("no reason given");
        put(
            &mut html,
            format_args!(
                "<tr class=\"abandoned\"><td></td><td colspan=\"16\" class=\"why\">Nothing was released: {}</td></tr>\n",
                escaped(why)
            ),
        );
    }
    html
}

fn protection(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    let corrupt = percent(details.settings.corrupt_fraction);
    let noise = if outcome.noise_is_off() {
        "<strong>Nothing protects the published sums in this run</strong>: noise was switched off."
    } else {
        "The published sums, from everybody who sees them: the guaranteed noise hides whether any one client \
         contributed, to the extent that epsilon says."
    };
    format!(
        "<section>\n<h2>What is protected, and what is not</h2>\n<p>{}</p>\n<div class=\"columns\">\n<div>\n\
         <h3>Protected</h3>\n<ul>\n<li>Each client's update, from the aggregator, also when it lies to the clients \
         and up to {corrupt} of a roster collude with it. It learns the sum over one agreed set of clients.</li>\n\
         <li>{noise}</li>\n<li>The sum, from clients that vanish: within the tolerance the round still ends with the \
         exact sum, beyond it the round publishes nothing.</li>\n</ul>\n</div>\n<div>\n<h3>Not protected</h3>\n<ul>\n\
         <li>Who took part, and when. That is public.</li>\n<li>The model from a client that spoils it: nothing here \
         proves what was masked.</li>\n<li>Against an enrolment authority that certifies clients who do not exist. It \
         is trusted.</li>\n<li>This run itself: aggregator, authority and clients were parts of one program on one \
         machine, over its loopback address. It shows that the protocol works; it does not separate anybody.</li>\n\
         </ul>\n</div>\n</div>\n</section>\n",
        escaped(&epsilon_in_words(outcome)),
    )
}

fn notes(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    let notes = remarks(outcome, details).into_iter().filter(|remark| remark.weight == Weight::Note);
    let items: String = notes.map(|remark| format!("<li>{}</li>\n", escaped(&remark.text))).collect();
    if items.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>To be honest</h2>\n<ul>\n{items}</ul>\n</section>\n")
}

fn settings(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    let (settings, corpus) = (&details.settings, &details.corpus);
    let tolerance = if settings.dropout_tolerance < settings.dropout_tolerance_asked {
        format!("{}, lowered from {}", percent(settings.dropout_tolerance), percent(settings.dropout_tolerance_asked))
    } else {
        percent(settings.dropout_tolerance)
    };
    let noise = if outcome.noise_is_off() {
        "OFF".to_string()
    } else {
        format!("{} times the clip norm, guaranteed", outcome.noise_multiplier)
    };
    let masked = u64::from(outcome.vector_len) * u64::from(outcome.ring_bits);
    let ratios: Vec<f64> =
        outcome.rounds.iter().zip(&details.rounds).filter_map(|(round, detail)| detail.noise_ratio(round)).collect();
    let noises = || details.rounds.iter().filter_map(|round| round.noise);
    let rows = [
        ("Clients enrolled", settings.clients.to_string()),
        ("Clients invited to a round", settings.cohort.to_string()),
        ("Rounds", settings.rounds.to_string()),
        ("Clients made to vanish", format!("{} of each cohort", percent(settings.dropout))),
        ("Dropout tolerance", tolerance),
        ("Assumed to collude, at most", format!("{} of each roster", percent(settings.corrupt_fraction))),
        ("Neighbours of each client (k)", outcome.degree.to_string()),
        ("Shares that open a secret (t)", outcome.threshold.to_string()),
        (
            "Update",
            format!(
                "{} numbers of {} bits, {} masked",
                outcome.vector_len,
                outcome.ring_bits,
                bytes(masked.div_ceil(8))
            ),
        ),
        ("Clip norm", plain(settings.clip_norm)),
        ("Scale, integer units to 1", plain(settings.scale)),
        ("Noise on the sum, standard deviation", noise),
        ("Honest shares counted on (h)", range(noises().map(|noise| f64::from(noise.honest_shares)), Decimals(0))),
        ("Variance of one client's share", range(noises().map(|noise| noise.share_variance), Decimals(0))),
        ("Real noise over guaranteed noise", range(ratios.into_iter(), Decimals(2))),
        ("Budget, epsilon", settings.epsilon_budget.map_or("none".to_string(), |budget| number(budget, Decimals(2)))),
        ("Seed (data, model, who is lost)", format!("{}; keys, masks and noise never come from it", settings.seed)),
        ("Text", format!("{}: {} files, {}", escaped(&corpus.source), corpus.files, bytes(corpus.bytes as u64))),
        ("SHA-256 of the text", format!("<code class=\"digest\">{}</code>", escaped(&corpus.digest))),
    ];
    let mut html = "<section>\n<h2>Settings</h2>\n<dl>\n".to_string();
    for (name, value) in rows {
        put(&mut html, format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"));
    }
    html + "</dl>\n<p class=\"note\">The text may change between runs; the digest names what was used in this \
         one.</p>\n</section>\n"
}

/// "44", or "41 to 44" where rosters differed, or a dash.
fn range(values: impl Iterator<Item = f64>, Decimals(places): Decimals) -> String {
    let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    let (Some(least), Some(most)) = (values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max))
    else {
        return "–".to_string();
    };
    let (least, most) = (number(least, Decimals(places)), number(most, Decimals(places)));
    if least == most { least } else { format!("{least} to {most}") }
}

/// As short as the number allows.
fn plain(value: f64) -> String {
    if value.is_finite() { format!("{}", (value * 1e4).round() / 1e4) } else { "–".to_string() }
}

fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

fn put(html: &mut String, piece: std::fmt::Arguments<'_>) {
    html.write_fmt(piece).expect("a String takes everything");
}

/// Text as text, wherever it stands in the page: also inside a quoted attribute.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in visible(text).chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::outcome::samples;
    use super::*;

    fn written(outcome: &DemoOutcome, details: &DemoDetails) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.html");
        write_report(&path, outcome, details).expect("it is written");
        let html = fs::read_to_string(path).expect("it is there");
        assert!(!html.contains("NaN") && !html.contains("inf%") && !html.contains("\"inf\""));
        for outside in ["http://", "https://", "src=", "@import", "url(", "<script"] {
            assert!(!html.contains(outside), "the report reaches outside itself: {outside}");
        }
        html
    }

    #[test]
    fn a_whole_run_is_told_with_its_numbers() {
        let (outcome, details) = samples::run(12);
        let html = written(&outcome, &details);
        for expected in [
            "11 of 12",
            "4.02",
            "3.027",
            "3.413",
            "2.842",
            "3.7 kB masked",
            "the core has 40 clients",
            "unwitnessed",
            "gamma is assumed",
            "9f86d081884c7d65",
            "1.15 to 1.18",
        ] {
            assert!(html.contains(expected), "{expected} is missing");
        }
        assert_eq!(html.matches("<svg").count(), 5);
    }

    #[test]
    fn one_round_is_enough_for_a_report() {
        let (outcome, details) = samples::run(1);
        let html = written(&outcome, &details);
        assert!(html.contains("in 1 round.") && html.contains("4.260") && html.contains("1 of 1 rounds released"));
    }

    #[test]
    fn a_run_that_was_abandoned_throughout_is_told_too() {
        let (outcome, details) = samples::all_abandoned();
        let html = written(&outcome, &details);
        assert!(html.contains("No round was released") && html.contains("only 3 of 64 clients shared, 44 are needed"));
        assert!(html.contains("0 of 3 rounds released"));
    }

    #[test]
    fn no_rounds_no_clients_and_no_time_do_not_panic() {
        let (outcome, details) = samples::run(0);
        written(&outcome, &details);
        let (mut outcome, mut details) = samples::run(2);
        for (round, detail) in outcome.rounds.iter_mut().zip(&mut details.rounds) {
            (round.cohort, round.roster, round.survivors, round.dropped) = (0, 0, 0, Default::default());
            (round.bytes_up_per_client, round.bytes_down_per_client) = (0, 0);
            (round.epsilon, round.wall_s, round.held_out_loss) = (None, f64::INFINITY, f64::INFINITY);
            detail.phases_ms = Default::default();
            detail.phases_ms.mask = f64::NAN;
        }
        written(&outcome, &details);
    }

    #[test]
    fn two_hundred_rounds_fit() {
        let (mut outcome, mut details) = samples::run(12);
        for round in 13..=200 {
            outcome.rounds.push(RoundOutcome { round, ..outcome.rounds[11].clone() });
            details.rounds.push(details.rounds[11].clone());
        }
        written(&outcome, &details);
    }

    #[test]
    fn without_noise_the_report_says_so_before_anything_else() {
        let (mut outcome, mut details) = samples::run(12);
        outcome.noise_multiplier = 0.0;
        for (round, detail) in outcome.rounds.iter_mut().zip(&mut details.rounds) {
            (round.epsilon, detail.noise) = (None, None);
        }
        let html = written(&outcome, &details);
        let place = |words: &str| html.find(words).expect("it is there");
        assert!(place("NOISE IS OFF") < place("Key figures"));
    }

    #[test]
    fn a_hostile_text_stays_text() {
        let (mut outcome, mut details) = samples::run(4);
        let hostile = "</code><script>alert('x')</script><img src=x onerror=\"y\">&\u{202e}\u{1b}";
        details.completions[0].model = hostile.to_string();
        details.completions[0].prefix = hostile.to_string();
        details.corpus.source = hostile.to_string();
        details.corpus.warning = Some(hostile.to_string());
        details.assumptions.push(hostile.to_string());
        details.rounds[3].abandoned_because = Some(hostile.to_string());
        outcome.report = Some(hostile.to_string());
        let path = tempfile::tempdir().expect("a folder");
        let path = path.path().join("report.html");
        write_report(&path, &outcome, &details).expect("it is written");
        let html = fs::read_to_string(path).expect("it is there");
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("onerror=\""));
        assert!(!html.contains('\u{202e}') && !html.contains('\u{1b}'));
        assert_eq!(html.matches("&lt;script&gt;alert(&#39;x&#39;)").count(), 6);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let (outcome, details) = samples::run(1);
        let refused = write_report(Path::new("/nowhere/report.html"), &outcome, &details).expect_err("it cannot be");
        assert!(refused.to_string().contains("/nowhere/report.html"));
    }

    /// For a look at the report: `REPORT_SAMPLES=DIR cargo test` leaves samples there.
    #[test]
    fn samples_can_be_looked_at() {
        let Some(folder) = std::env::var_os("REPORT_SAMPLES") else { return };
        for (name, (outcome, details)) in [
            ("whole.html", samples::run(12)),
            ("one.html", samples::run(1)),
            ("abandoned.html", samples::all_abandoned()),
        ] {
            write_report(&Path::new(&folder).join(name), &outcome, &details).expect("it is written");
        }
    }
}
