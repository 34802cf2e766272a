//! `veilsum audit`: checks of this program by somebody who does not take its word for it.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::exit::Code;
use crate::output::Output;

mod experiment;
mod mean_estimation;
mod noise;
mod random;
mod round;
mod tables;

/// Options of `audit`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    audit: Audit,
}

#[derive(Subcommand)]
enum Audit {
    /// Check this build's privacy and graph computations against tables from independent tools, row by row.
    #[command(after_help = tables::EXAMPLES)]
    Tables(tables::Options),
    /// Run the client's encoder many times, and bound from below how much it gives away.
    #[command(after_help = noise::EXAMPLES)]
    Noise(noise::Options),
    /// Check the export of a round against three public keys: what its clients signed must lead to what the aggregator signed.
    #[command(after_help = round::EXAMPLES)]
    Round(round::Options),
    /// Rerun the mean-estimation experiment of the noise's papers with the encoder that clients ship.
    #[command(after_help = mean_estimation::EXAMPLES)]
    MeanEstimation(mean_estimation::Options),
}

/// Runs one audit. The code says what was found; an error, that it could not be carried out.
pub fn run(options: Options, output: Output) -> Result<Option<Code>> {
    match options.audit {
        Audit::Tables(options) => tables::run(&options, output),
        Audit::Noise(options) => noise::run(&options, output),
        Audit::Round(options) => round::run(&options, output),
        Audit::MeanEstimation(options) => mean_estimation::run(&options, output),
    }
}
