//! The report's plots: SVG drawn by plotters, recoloured for dark pages by the style sheet.
//!
//! plotters writes each colour into the drawing; [`style`] replaces it, by its light value, where the page is dark.
//! Legends are HTML, so that they wrap, can be read aloud and follow the same colours.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::outcome::{DemoDetails, DemoOutcome, RoundOutcome, Status};
use super::put;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Rounds, RangedCoordf64>>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

const SIZE: (u32, u32) = (640, 320);
/// Of the figure that takes a whole row.
const WIDE: (u32, u32) = (1_300, 400);
/// More labels than this on the axis of rounds run into each other.
const ROUND_LABELS_MAX: u32 = 16;
/// Half of a bar, where two rounds are 1 apart.
const HALF_BAR: f64 = 0.36;
/// A budget further above than this would press the curve onto the axis; it stands in the settings.
const BUDGET_DRAWN_UP_TO: f64 = 2.0;

/// A colour on light and on dark pages.
#[derive(Clone, Copy)]
struct Ink {
    /// Of the class that the legend uses.
    name: &'static str,
    /// No two inks share it: the style sheet tells them apart by it.
    light: RGBColor,
    dark: RGBColor,
}

const TEXT: Ink = Ink { name: "text", light: RGBColor(0x3c, 0x48, 0x58), dark: RGBColor(0xc3, 0xcc, 0xd9) };
const GRID: Ink = Ink { name: "grid", light: RGBColor(0xe3, 0xe7, 0xed), dark: RGBColor(0x2d, 0x37, 0x45) };
const AXIS: Ink = Ink { name: "axis", light: RGBColor(0xb4, 0xbd, 0xc9), dark: RGBColor(0x5a, 0x68, 0x7a) };
const PRIVATE: Ink = Ink { name: "private", light: RGBColor(0x1f, 0x5f, 0x99), dark: RGBColor(0x7a, 0xb8, 0xf5) };
const PLAIN: Ink = Ink { name: "plain", light: RGBColor(0xc6, 0x6a, 0x00), dark: RGBColor(0xf5, 0xae, 0x52) };
const UNIGRAM: Ink = Ink { name: "unigram", light: RGBColor(0x6b, 0x76, 0x86), dark: RGBColor(0xa3, 0xae, 0xbd) };
const ALARM: Ink = Ink { name: "abandoned", light: RGBColor(0xb3, 0x26, 0x1e), dark: RGBColor(0xff, 0x8a, 0x80) };
const IN_SUM: Ink = Ink { name: "in-sum", light: RGBColor(0xb9, 0xd2, 0xea), dark: RGBColor(0x3b, 0x5f, 0x85) };
const UNUSED: Ink = Ink { name: "unused", light: RGBColor(0xd5, 0xd9, 0xe0), dark: RGBColor(0x46, 0x50, 0x5f) };
const UP: Ink = Ink { name: "up", light: RGBColor(0x20, 0x60, 0x9a), dark: RGBColor(0x7b, 0xb9, 0xf6) };
const DOWN: Ink = Ink { name: "down", light: RGBColor(0x9a, 0xbf, 0xe0), dark: RGBColor(0x40, 0x6a, 0x96) };
/// One for each phase, in the order of the protocol; told apart by colour-blind readers too (Okabe and Ito).
const PHASES: [Ink; 6] = [
    Ink { name: "advertise", light: RGBColor(0x56, 0xb4, 0xe9), dark: RGBColor(0x6f, 0xc3, 0xf3) },
    Ink { name: "share", light: RGBColor(0x00, 0x72, 0xb2), dark: RGBColor(0x2a, 0x86, 0xc8) },
    Ink { name: "acknowledge", light: RGBColor(0x00, 0x9e, 0x73), dark: RGBColor(0x1a, 0xb1, 0x87) },
    Ink { name: "mask", light: RGBColor(0xe6, 0x9f, 0x00), dark: RGBColor(0xee, 0xb0, 0x2e) },
    Ink { name: "confirm", light: RGBColor(0xcc, 0x79, 0xa7), dark: RGBColor(0xda, 0x8e, 0xb9) },
    Ink { name: "unmask", light: RGBColor(0xd5, 0x5e, 0x00), dark: RGBColor(0xe8, 0x76, 0x22) },
];
const OTHERS: [Ink; 11] = [TEXT, GRID, AXIS, PRIVATE, PLAIN, UNIGRAM, ALARM, IN_SUM, UNUSED, UP, DOWN];

/// All figures, in one grid.
pub fn figures(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    if outcome.rounds.is_empty() {
        return String::new();
    }
    let figures = [
        losses(outcome, details),
        epsilon(outcome, details),
        clients(outcome),
        traffic(outcome),
        time(outcome, details),
    ];
    format!("<div class=\"plots\">\n{}</div>\n", figures.concat())
}

/// Colours of legends, and of drawings on dark pages.
pub fn style() -> String {
    let mut css = String::new();
    let mut dark = String::new();
    for Ink { name, light, dark: night } in OTHERS.into_iter().chain(PHASES) {
        let (light, night) = (hex(light), hex(night));
        put(&mut css, format_args!(".ink-{name} {{ background: {light}; }}\n"));
        put(
            &mut dark,
            format_args!(
                ".ink-{name} {{ background: {night}; }} svg [fill=\"{light}\"] {{ fill: {night}; }} svg \
                 [stroke=\"{light}\"] {{ stroke: {night}; }}\n"
            ),
        );
    }
    format!("{css}@media (prefers-color-scheme: dark) {{\n{dark}}}\n")
}

fn losses(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    let start = (0.0, outcome.loss_before);
    let private = outcome.rounds.iter().map(|round| (f64::from(round.round), round.held_out_loss));
    let plain = outcome.rounds.iter().zip(&details.rounds).map(|(round, it)| (f64::from(round.round), it.plain_loss));
    let [private, plain] = [finite(std::iter::once(start).chain(private)), finite(std::iter::once(start).chain(plain))];
    let unigram = finite([(0.0, outcome.unigram_loss), (last_round(outcome), outcome.unigram_loss)]);
    let abandoned: Vec<(f64, f64)> = outcome
        .rounds
        .iter()
        .filter(|round| round.status == Status::Abandoned && round.held_out_loss.is_finite())
        .map(|round| (f64::from(round.round), round.held_out_loss))
        .collect();

    let drawn = drawing("Held-out loss by round: private model, plain twin and byte frequencies", SIZE, |area| {
        let heights = padded(private.iter().chain(&plain).chain(&unigram).map(|point| point.1));
        let places = if heights.end - heights.start < 0.5 { 2 } else { 1 };
        let mut chart = chart(area, outcome, 0.0, heights, &|loss| format!("{loss:.places$}"))?;
        chart.draw_series(DashedLineSeries::new(unigram.iter().copied(), 6, 4, UNIGRAM.light.stroke_width(2)))?;
        for (line, ink) in [(&plain, PLAIN), (&private, PRIVATE)] {
            chart.draw_series(LineSeries::new(line.iter().copied(), ink.light.stroke_width(3)))?;
            chart.draw_series(line.iter().map(|point| Circle::new(*point, 3, ink.light.filled())))?;
        }
        chart.draw_series(abandoned.iter().map(|point| Cross::new(*point, 6, ALARM.light.stroke_width(3))))?;
        if private.is_empty() && plain.is_empty() {
            write_in_the_middle(area, "no loss was measured")?;
        }
        Ok(())
    });
    let mut legend = vec![
        (PRIVATE, "private model"),
        (PLAIN, "plain twin, no masks or noise"),
        (UNIGRAM, "byte frequencies (dashed)"),
    ];
    if !abandoned.is_empty() {
        legend.push((ALARM, "round abandoned, model unchanged (cross)"));
    }
    figure(
        "Loss on held-out text",
        "Nats per byte, by round; 0 is the model before training. Lower is better.",
        &legend,
        &drawn,
    )
}

fn clients(outcome: &DemoOutcome) -> String {
    let stacks: Vec<(f64, Vec<(Ink, f64)>)> =
        outcome.rounds.iter().map(|round| (f64::from(round.round), stack_of_clients(round))).collect();
    let drawn = drawing("Clients by round: in the sum, and lost in each phase", WIDE, |area| {
        let tallest = stacks.iter().map(|(_, stack)| height(stack)).fold(1.0, f64::max);
        let mut chart = chart(area, outcome, 0.4, 0.0..tallest * 1.02, &|clients| format!("{clients:.0}"))?;
        stacked(&mut chart, &stacks)?;
        for round in &outcome.rounds {
            let (x, roster) = (f64::from(round.round), f64::from(round.roster));
            let mark = [(x - HALF_BAR - 0.08, roster), (x + HALF_BAR + 0.08, roster)];
            chart.draw_series(LineSeries::new(mark, TEXT.light.stroke_width(2)))?;
        }
        if outcome.rounds.len() <= ROUND_LABELS_MAX as usize {
            let style = letters(17).pos(Pos::new(HPos::Center, VPos::Center));
            chart.draw_series(outcome.rounds.iter().filter(|round| round.cohort > 0).map(|round| {
                let said = if round.status == Status::Released { round.survivors.to_string() } else { "–".into() };
                Text::new(said, (f64::from(round.round), tallest * 0.06), style.clone())
            }))?;
        }
        Ok(())
    });
    let mut legend = vec![(IN_SUM, "in the sum"), (UNUSED, "stayed, but in no sum")];
    legend.extend(PHASES.map(|ink| (ink, ink.name)));
    legend.push((TEXT, "roster (line)"));
    figure(
        "Who was invited, counted and lost",
        "Clients, by round. A bar is the cohort; the colours above the sum show in which phase clients were lost. Those \
         lost at confirm or unmask are still in the sum; the number is that of the survivors.",
        &legend,
        &drawn,
    )
}

/// From the bottom up; together the cohort, as long as the counts agree with each other.
fn stack_of_clients(round: &RoundOutcome) -> Vec<(Ink, f64)> {
    let in_sum_to_the_end = round.survivors.saturating_sub(round.dropped.confirm + round.dropped.unmask);
    let unused = round.cohort.saturating_sub(in_sum_to_the_end + round.dropped.total());
    let lost = PHASES.into_iter().zip(round.dropped.named()).rev().map(|(ink, (_, lost))| (ink, lost));
    [(IN_SUM, in_sum_to_the_end), (UNUSED, unused)]
        .into_iter()
        .chain(lost)
        .map(|(ink, clients)| (ink, f64::from(clients)))
        .collect()
}

fn epsilon(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    let spent = outcome.rounds.iter().filter_map(|round| Some((f64::from(round.round), round.epsilon?)));
    let spent = finite(std::iter::once((0.0, 0.0)).chain(spent));
    if outcome.noise_is_off() || spent.len() < 2 {
        return figure("Privacy loss", "No noise was added, so there is no epsilon to show.", &[], "");
    }
    let most = spent.iter().map(|point| point.1).fold(0.0, f64::max);
    let budget = details.settings.epsilon_budget.filter(|budget| *budget > 0.0 && *budget <= most * BUDGET_DRAWN_UP_TO);
    let drawn = drawing("Epsilon spent by round", SIZE, |area| {
        let top = budget.unwrap_or(0.0).max(most).max(0.5) * 1.08;
        let mut chart = chart(area, outcome, 0.0, 0.0..top, &|epsilon| format!("{epsilon:.1}"))?;
        chart.draw_series(AreaSeries::new(spent.iter().copied(), 0.0, PRIVATE.light.mix(0.15)))?;
        chart.draw_series(LineSeries::new(spent.iter().copied(), PRIVATE.light.stroke_width(3)))?;
        chart.draw_series(spent.iter().map(|point| Circle::new(*point, 3, PRIVATE.light.filled())))?;
        if let Some(budget) = budget {
            let line = [(0.0, budget), (last_round(outcome), budget)];
            chart.draw_series(DashedLineSeries::new(line, 6, 4, ALARM.light.stroke_width(2)))?;
        }
        Ok(())
    });
    let mut legend = vec![(PRIVATE, "epsilon spent")];
    if budget.is_some() {
        legend.push((ALARM, "budget of the task (dashed)"));
    }
    let about = format!(
        "Epsilon so far, by round, at delta {:e}. Lower is more private; it only ever grows, and no round opens that would \
         go beyond the budget.",
        outcome.dp_delta
    );
    figure("Privacy loss", &about, &legend, &drawn)
}

fn traffic(outcome: &DemoOutcome) -> String {
    let kilobytes = |bytes: u64| bytes as f64 / 1e3;
    let most = outcome.rounds.iter().map(|round| round.bytes_up_per_client.max(round.bytes_down_per_client)).max();
    let drawn = drawing("Kilobytes sent and received by a client, by round", SIZE, |area| {
        let top = kilobytes(most.unwrap_or(0)).max(1.0) * 1.05;
        let mut chart = chart(area, outcome, 0.4, 0.0..top, &|kilobytes| format!("{kilobytes:.0}"))?;
        for round in &outcome.rounds {
            let x = f64::from(round.round);
            let up = [(x - HALF_BAR, 0.0), (x, kilobytes(round.bytes_up_per_client))];
            let down = [(x, 0.0), (x + HALF_BAR, kilobytes(round.bytes_down_per_client))];
            chart.draw_series([Rectangle::new(up, UP.light.filled()), Rectangle::new(down, DOWN.light.filled())])?;
        }
        Ok(())
    });
    figure(
        "Traffic of one client",
        "Kilobytes, mean over the clients invited, by round.",
        &[(UP, "up: sent by the client"), (DOWN, "down: received by it")],
        &drawn,
    )
}

fn time(outcome: &DemoOutcome, details: &DemoDetails) -> String {
    let seconds = |ms: f64| if ms.is_finite() && ms > 0.0 { ms / 1e3 } else { 0.0 };
    let stacks: Vec<(f64, Vec<(Ink, f64)>)> = outcome
        .rounds
        .iter()
        .zip(&details.rounds)
        .map(|(round, it)| {
            let stack = PHASES.into_iter().zip(it.phases_ms.named()).map(|(ink, (_, ms))| (ink, seconds(ms)));
            (f64::from(round.round), stack.collect())
        })
        .collect();
    let drawn = drawing("Seconds spent in each phase, by round", SIZE, |area| {
        let tallest = stacks.iter().map(|(_, stack)| height(stack)).fold(0.001, f64::max);
        let places = if tallest < 0.5 { 2 } else { 1 };
        let mut chart = chart(area, outcome, 0.4, 0.0..tallest * 1.05, &|seconds| format!("{seconds:.places$}"))?;
        stacked(&mut chart, &stacks)
    });
    figure("Time in each phase", "Seconds, by round.", &PHASES.map(|ink| (ink, ink.name)), &drawn)
}

/// Axes over the rounds, from `first` on.
fn chart<'a, 'b>(
    area: &'a Area<'b>,
    outcome: &DemoOutcome,
    first: f64,
    heights: Range<f64>,
    label: &dyn Fn(&f64) -> String,
) -> Result<Chart<'a, 'b>, DrawingAreaErrorKind<std::io::Error>> {
    let last = last_round(outcome) + if first > 0.0 { 0.6 } else { 0.2 };
    let rounds = Rounds { reach: (first..last).into() };
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(30)
        .y_label_area_size(48)
        .build_cartesian_2d(rounds, heights)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .bold_line_style(GRID.light)
        .axis_style(AXIS.light)
        .label_style(letters(17))
        .y_labels(6)
        .x_label_formatter(&|round| format!("{round:.0}"))
        .y_label_formatter(&label)
        .draw()?;
    Ok(chart)
}

/// An axis with a label at whole rounds and nowhere else.
struct Rounds {
    reach: RangedCoordf64,
}

impl Ranged for Rounds {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, round: &f64, limit: (i32, i32)) -> i32 {
        self.reach.map(round, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        labelled(self.range())
    }

    fn range(&self) -> Range<f64> {
        self.reach.range()
    }
}

/// Whole rounds in `reach`, few enough to be read.
fn labelled(reach: Range<f64>) -> Vec<f64> {
    let (first, last) = (reach.start.ceil() as u32, reach.end.floor() as u32);
    let step = [1, 2, 5, 10, 20, 50].into_iter().find(|step| (last - first) / step < ROUND_LABELS_MAX);
    (first..=last).filter(|round| round % step.unwrap_or(last) == 0).map(f64::from).collect()
}

/// Bars of one colour on the other.
fn stacked(chart: &mut Chart<'_, '_>, stacks: &[(f64, Vec<(Ink, f64)>)]) -> Drawn {
    for (x, stack) in stacks {
        let mut foot = 0.0;
        for (ink, height) in stack.iter().filter(|(_, height)| *height > 0.0) {
            let corners = [(x - HALF_BAR, foot), (x + HALF_BAR, foot + height)];
            chart.draw_series([Rectangle::new(corners, ink.light.filled())])?;
            foot += height;
        }
    }
    Ok(())
}

fn height(stack: &[(Ink, f64)]) -> f64 {
    stack.iter().map(|(_, height)| height).sum()
}

fn last_round(outcome: &DemoOutcome) -> f64 {
    f64::from(outcome.rounds.iter().map(|round| round.round).max().unwrap_or(0).max(1))
}

/// Without the points that cannot be drawn.
fn finite(points: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    points.into_iter().filter(|point| point.1.is_finite()).collect()
}

/// Holds all `values`, with air above and below; never empty.
fn padded(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), it| (least.min(it), most.max(it)));
    if least > most {
        return 0.0..1.0;
    }
    let air = ((most - least) * 0.08).max(0.1);
    least - air..most + air
}

fn letters(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&TEXT.light)
}

fn write_in_the_middle(area: &Area<'_>, words: &str) -> Drawn {
    let place = (SIZE.0 as i32 / 2, SIZE.1 as i32 / 3);
    area.draw(&Text::new(words, place, letters(20).pos(Pos::new(HPos::Center, VPos::Center))))
}

/// An SVG that scales with the page. `about` is what it shows, for those who cannot see it.
fn drawing(about: &str, size: (u32, u32), paint: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    paint(&area).and_then(|()| area.present()).expect("a String takes everything, and all numbers are finite");
    drop(area);
    // Inside HTML the namespace goes without saying, and nothing in the report looks like an address.
    let svg = svg.replace(" xmlns=\"http://www.w3.org/2000/svg\"", "");
    svg.replacen("<svg", &format!("<svg role=\"img\" aria-label=\"{about}\""), 1)
}

fn figure(title: &str, about: &str, legend: &[(Ink, &str)], drawing: &str) -> String {
    let mut html = format!("<figure>\n<figcaption><h2>{title}</h2><p>{about}</p></figcaption>\n");
    if !legend.is_empty() {
        html += "<ul class=\"legend\">";
        for (ink, words) in legend {
            put(&mut html, format_args!("<li><i class=\"ink-{}\"></i>{words}</li>", ink.name));
        }
        html += "</ul>\n";
    }
    html + drawing + "</figure>\n"
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}") // as plotters writes it: the style sheet compares letter by letter
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::super::outcome::samples;
    use super::*;

    #[test]
    fn no_two_inks_look_alike_to_the_style_sheet() {
        let inks = OTHERS.into_iter().chain(PHASES);
        assert_eq!(inks.map(|ink| hex(ink.light)).collect::<BTreeSet<_>>().len(), OTHERS.len() + PHASES.len());
    }

    #[test]
    fn every_colour_drawn_is_known_to_the_style_sheet() {
        let (outcome, details) = samples::run(12);
        let (html, known) = (figures(&outcome, &details), style());
        for piece in html.split("\"#").skip(1) {
            let colour = &piece[..6];
            assert!(known.contains(colour), "#{colour} stays as it is on dark pages");
        }
    }

    #[test]
    fn a_stack_of_clients_is_the_cohort() {
        for (outcome, _) in [samples::run(12), samples::all_abandoned()] {
            for round in &outcome.rounds {
                assert_eq!(height(&stack_of_clients(round)), f64::from(round.cohort));
            }
        }
    }

    #[test]
    fn few_rounds_are_all_labelled_and_many_are_thinned() {
        assert_eq!(labelled(0.0..1.2), [0.0, 1.0]);
        assert_eq!(labelled(0.4..3.6), [1.0, 2.0, 3.0]);
        assert!(labelled(0.4..200.6).len() <= 20);
        assert!(!labelled(0.4..100_000.6).is_empty());
    }
}
