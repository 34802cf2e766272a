//! Prints whether times say something about secrets. See `verification::timing`.

use clap::Parser;
use verification::timing::{Comparison, Correlation, comparisons, sampler};

/// Times operations on two classes of secrets each, and prints Welch's t; then how time and |noise| of the sampler go together.
#[derive(Parser)]
#[command(
    after_help = "Example, on a machine that is otherwise idle: cargo run --release -p verification --bin timing"
)]
struct Arguments {
    /// Samples of each comparison; a tenth of it for the slow ones.
    #[arg(long, default_value_t = 200_000)]
    samples: usize,
    /// Draws of the sampler.
    #[arg(long, default_value_t = 1_000_000)]
    draws: usize,
}

fn main() {
    let Arguments { samples, draws } = Arguments::parse();
    println!("| what, and the two classes | samples | mean, ns | mean, ns | largest \\|t\\| |\n|---|---|---|---|---|");
    for Comparison { name, samples, mean_ns: [one, two], t } in comparisons(samples) {
        println!("| {name} | {samples} | {one:.1} | {two:.1} | {t:.1} |");
    }
    println!(
        "\n| sampler, variance | draws | mean, ns | r of \\|noise\\| and time | one standard error of r |\n|---|---|---|---|---|"
    );
    for variance in [1 << 10, 39_600, 1 << 20, 1 << 26] {
        let Correlation { variance, draws, r, chance, mean_ns } = sampler(variance, draws);
        println!("| {variance} | {draws} | {mean_ns:.1} | {r:.4} | {chance:.4} |");
    }
    println!(
        "\nWhat this shows: a dependence of running time on the class that is large beside this machine's noise, in this build. \
         The first control must be far beyond 10, the second below about 4.5, or the run says nothing.\nWhat it cannot show: \
         that there is none. It sees neither caches (another process may), nor power, nor other processors, compilers and \
         inputs than those of the two classes; and a network between hides more than any of these figures."
    );
}
