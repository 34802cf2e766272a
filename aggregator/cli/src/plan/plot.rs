//! The drawing of a plan: epsilon by rounds beside error by bits.

use std::path::Path;

use anyhow::{Result, bail};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::Report;

/// Of the file that is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// A drawing.
    Svg,
    /// A page with the drawing and the figures.
    Html,
}

impl Format {
    /// By the file's name.
    pub fn of(file: &Path) -> Result<Self> {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Ok(Self::Svg),
            Some("html") => Ok(Self::Html),
            _ => bail!("--plot: a name that ends in .svg or .html was expected; it is {}", file.display()),
        }
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

const SIZE: (u32, u32) = (1_200, 440);
const LEDGER: RGBColor = RGBColor(0x1f, 0x5f, 0x99);
const TIGHT: RGBColor = RGBColor(0xc6, 0x6a, 0x00);
const CHOSEN: RGBColor = RGBColor(0xb3, 0x26, 0x1e);

/// A curve: its colour, its name, its points.
type Curve<'a> = (RGBColor, &'a str, Vec<(f64, f64)>);

/// The contents of the file. `words` is the plan as a terminal shows it.
pub fn draw(report: &Report, words: &str, format: Format) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        paint(&area, report)
            .and_then(|()| area.present())
            .expect("a String takes everything, and all numbers are finite");
    }
    match format {
        Format::Svg => svg,
        Format::Html => format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Veilsum: plan of privacy</title>\n\
             <body style=\"font-family: sans-serif; max-width: 1200px; margin: 2em auto\">\n<h1>Plan of privacy</h1>\n{svg}\n\
             <pre>{}</pre>\n</body>\n</html>\n",
            words.replace('&', "&amp;").replace('<', "&lt;")
        ),
    }
}

fn paint(area: &Area<'_>, report: &Report) -> Drawn {
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    let of_rounds = |epsilon: &dyn Fn(&super::OfRounds) -> Option<f64>| {
        let points = report.by_rounds.iter().filter_map(|of| Some((f64::from(of.rounds), epsilon(of)?)));
        points.filter(|point| point.1.is_finite()).collect::<Vec<_>>()
    };
    let curves = [
        (LEDGER, "as ledgers account", of_rounds(&|of| Some(of.epsilon))),
        (TIGHT, "by the tight account", of_rounds(&|of| of.epsilon_tight)),
    ];
    let caption = format!("epsilon by rounds, at delta {:e}", report.delta);
    panel(&left, &caption, ("rounds", "epsilon"), &curves, (report.rounds.into(), report.epsilon))?;
    let errors: Vec<(f64, f64)> = report.by_bits.iter().map(|of| (of.bits.into(), of.error)).collect();
    let least = report.by_bits.iter().map(|of| (of.bits.into(), report.error_least)).collect();
    let curves = [(LEDGER, "the best scale", errors), (TIGHT, "the least possible", least)];
    let caption = "standard error of a coordinate of the mean, by bits";
    panel(&right, caption, ("bits of the ring", "error"), &curves, (report.bits.into(), report.error))
}

fn panel(area: &Area<'_>, caption: &str, axes: (&str, &str), curves: &[Curve<'_>], chosen: (f64, f64)) -> Drawn {
    let points = || curves.iter().flat_map(|curve| curve.2.iter().copied()).chain([chosen]);
    let reach = |value: fn((f64, f64)) -> f64| {
        let least = points().map(value).fold(f64::INFINITY, f64::min);
        let most = points().map(value).fold(least, f64::max);
        (least, most)
    };
    let ((first, last), (_, highest)) = (reach(|point| point.0), reach(|point| point.1));
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 18))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(first..last * 1.02, 0.0..highest * 1.1)?;
    chart
        .configure_mesh()
        .x_desc(axes.0)
        .y_desc(axes.1)
        .light_line_style(WHITE)
        .x_label_formatter(&|x| if x.fract() == 0.0 { format!("{x}") } else { format!("{x:.1}") })
        .y_label_formatter(&|y| if (0.01..1e4).contains(y) { format!("{y:.3}") } else { format!("{y:.1e}") })
        .draw()?;
    for (ink, name, line) in curves.iter().filter(|curve| !curve.2.is_empty()) {
        let ink = *ink;
        chart
            .draw_series(LineSeries::new(line.iter().copied(), ink.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], ink.stroke_width(2)));
        chart.draw_series(line.iter().map(|point| Circle::new(*point, 3, ink.filled())))?;
    }
    chart.draw_series([Circle::new(chosen, 6, CHOSEN.stroke_width(2))])?;
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()
}
