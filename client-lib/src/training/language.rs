//! A byte-level language model small enough for strong noise: 1,862 parameters, one matrix product deep.
//!
//! The next symbol is predicted from the two before it, additively and at low rank (a log-bilinear model, Mnih and
//! Hinton 2007):
//!
//! ```text
//! logits(next | c1, c2) = W h + 1.4 b,  h = 0.8 E1[c1] + 0.3 E2[c2]     c1 the previous symbol, c2 the one before it
//! vector = E1 98x6, E2 98x6, W 98x6, b 98, each row-major
//! ```
//!
//! The factors 0.8, 0.3, 1 and 1.4 are the layer scales. They stand inside the model, so that SGD, clip and noise all
//! happen in the same coordinates and nobody converts anything. Noise is even over coordinates, so a small factor
//! keeps it out of a layer, and a large one lets a layer go far within the clip norm. E2 says less than E1 and gets as
//! much noise: with one factor for both (0.6, and 2 for b) the model gained 0.06 nats less in the mean. Scales that act
//! on clip and noise alone, SGD staying in parameters at a local rate of 4, lost to the unigram in most runs, in
//! either direction.
//!
//! [`Unigram`] and [`Bigram`] are the yardsticks: a loss that fell says nothing, byte frequencies alone give that.

use std::fmt;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis, concatenate};

use super::sgd::{SgdConfig, SplitMix64, Stream, descend};
use super::{Evaluation, Layout, LocalTrainer, TensorLayout, TrainingError, check_finite};

/// Symbols of the alphabet: 95 printable ASCII, newline, tab, and "other" for every byte else.
pub const SYMBOLS: usize = 98;
/// Width of the context.
pub const RANK: usize = 6;
/// Parameters, and values in a vector.
pub const VECTOR_LEN: usize = SYMBOLS * (3 * RANK + 1);

const NEWLINE: u8 = 95;
const TAB: u8 = 96;
const OTHER: u8 = 97;
/// "Other" stands for `256 - 97` bytes and is uniform over them, so that losses stay per real byte.
const OTHER_BYTES: f64 = 159.0;
/// Read-out columns: one for each context dimension and one for the bias.
const READOUT: usize = RANK + 1;

/// Effective parameter over coordinate.
const PREVIOUS_SCALE: f32 = 0.8;
const BEFORE_SCALE: f32 = 0.3;
const WEIGHT_SCALE: f32 = 1.0;
const BIAS_SCALE: f32 = 1.4;

fn symbol_of(byte: u8) -> u8 {
    match byte {
        b' '..=b'~' => byte - b' ',
        b'\n' => NEWLINE,
        b'\t' => TAB,
        _ => OTHER,
    }
}

fn char_of(symbol: u8) -> char {
    match symbol {
        NEWLINE => '\n',
        TAB => '\t',
        OTHER => char::REPLACEMENT_CHARACTER,
        printable => char::from(printable + b' '),
    }
}

/// Bytes as symbols, at least one. Before the first byte stand two newlines, so that every byte is predicted.
#[derive(Clone)]
pub struct Text {
    symbols: Vec<u8>,
}

impl Text {
    /// Reads `bytes` in the model's alphabet.
    ///
    /// # Errors
    ///
    /// [`TrainingError::EmptyData`] for no bytes, [`TrainingError::NotText`] if more than half are control bytes or
    /// no UTF-8. Other scripts are text, of which the model learns little.
    pub fn new(bytes: &[u8]) -> Result<Self, TrainingError> {
        if bytes.is_empty() {
            return Err(TrainingError::EmptyData);
        }
        let (outside, total) = (bytes_of_no_text(bytes), bytes.len());
        if outside > total / 2 {
            return Err(TrainingError::NotText { outside, total });
        }
        let padded = [b'\n'; 2].iter().chain(bytes);
        Ok(Self { symbols: padded.map(|&byte| symbol_of(byte)).collect() })
    }

    /// Bytes in the text, and positions that can be predicted.
    pub fn bytes(&self) -> usize {
        self.symbols.len() - 2
    }

    fn context(&self, position: usize) -> Context {
        Context { previous: self.symbols[position + 1], before: self.symbols[position] }
    }

    fn target(&self, position: usize) -> u8 {
        self.symbols[position + 2]
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(..)") // a client's own data
    }
}

fn bytes_of_no_text(bytes: &[u8]) -> usize {
    let is_control = |&byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    let chunks = bytes.utf8_chunks();
    chunks.map(|chunk| chunk.invalid().len() + chunk.valid().bytes().filter(is_control).count()).sum()
}

/// The two symbols before the one to predict.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    previous: u8,
    before: u8,
}

/// How [`Predictor::complete`] picks the next symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The most likely one.
    Greedy,
    /// One drawn by its probability, from a generator of this seed.
    Sampled {
        /// Equal seeds give equal text.
        seed: u64,
    },
}

/// Anything that predicts the next symbol, so that the model and its yardsticks are judged by the same lines.
pub trait Predictor {
    /// Probability of every symbol after `context`; sums to 1.
    fn distribution(&self, context: Context) -> [f64; SYMBOLS];

    /// Loss and hit rates over every byte of `text`. An "other" byte costs `ln 159` more and is never a hit; of
    /// equally likely symbols the lower number counts as the better guess.
    fn evaluate(&self, text: &Text) -> Evaluation {
        let mut tally = Tally::default();
        for position in 0..text.bytes() {
            let distribution = self.distribution(text.context(position));
            let target = text.target(position);
            let probability = distribution[usize::from(target)];
            let better = (0_u8..)
                .zip(&distribution)
                .filter(|&(symbol, &p)| p > probability || (p == probability && symbol < target));
            tally.add(target, -probability.ln(), better.count());
        }
        tally.evaluation()
    }

    /// `symbols` characters that continue `prefix`; "other" is shown as U+FFFD.
    fn complete(&self, prefix: &str, symbols: usize, choice: Choice) -> String {
        let padded = [b'\n'; 2].iter().chain(prefix.as_bytes()).map(|&byte| symbol_of(byte));
        let mut context = padded.fold(Context { previous: NEWLINE, before: NEWLINE }, follow);
        let mut rng = SplitMix64::new(if let Choice::Sampled { seed } = choice { seed } else { 0 });
        let mut text = String::new();
        for _ in 0..symbols {
            let distribution = self.distribution(context);
            let symbol = match choice {
                Choice::Greedy => most_likely(&distribution),
                Choice::Sampled { .. } => draw(&distribution, rng.unit()),
            };
            text.push(char_of(symbol));
            context = follow(context, symbol);
        }
        text
    }
}

fn follow(context: Context, symbol: u8) -> Context {
    Context { previous: symbol, before: context.previous }
}

fn most_likely(distribution: &[f64; SYMBOLS]) -> u8 {
    let best = (0_u8..).zip(distribution).max_by(|a, b| a.1.total_cmp(b.1));
    best.expect("the alphabet is not empty").0
}

fn draw(distribution: &[f64; SYMBOLS], unit: f64) -> u8 {
    let mut left = unit;
    let found = (0_u8..).zip(distribution).find(|&(_, &probability)| {
        left -= probability;
        left < 0.0
    });
    found.map_or(OTHER, |(symbol, _)| symbol) // rounding left a crumb
}

#[derive(Default)]
struct Tally {
    bytes: usize,
    nats: f64,
    first: usize,
    five: usize,
}

impl Tally {
    /// One byte: its symbol, what the symbol cost in nats, and how many symbols were likelier.
    fn add(&mut self, target: u8, nats: f64, better: usize) {
        let other = target == OTHER;
        self.bytes += 1;
        self.nats += if other { nats + OTHER_BYTES.ln() } else { nats };
        self.first += usize::from(!other && better < 1);
        self.five += usize::from(!other && better < 5);
    }

    fn evaluation(&self) -> Evaluation {
        let bytes = self.bytes as f64;
        Evaluation {
            nats_per_byte: self.nats / bytes,
            first_guess: self.first as f64 / bytes,
            first_five: self.five as f64 / bytes,
        }
    }
}

/// The model in the coordinates of its vector, ready to compute.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    /// E1, 98 x 6: what the previous symbol says.
    previous: Array2<f32>,
    /// E2, 98 x 6: what the one before it says.
    before: Array2<f32>,
    /// W and b side by side, 98 x 7: a context ends in the constant 1.4, so the bias needs no pass of its own.
    readout: Array2<f32>,
}

impl LanguageModel {
    /// The public model before the first round: E1 and E2 normal, so that `0.8 E1` has the standard deviation
    /// `0.5 / sqrt 6` and `0.3 E2` three eighths of that; W and b zero, so that every symbol is equally likely
    /// (`ln 98 = 4.585` nats a byte on ASCII).
    pub fn initial(seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let deviation = 0.5 / (RANK as f64).sqrt() / f64::from(PREVIOUS_SCALE);
        let mut embedding = || Array2::from_shape_simple_fn((SYMBOLS, RANK), || (deviation * rng.normal()) as f32);
        let (previous, before) = (embedding(), embedding());
        Self { previous, before, readout: Array2::zeros((SYMBOLS, READOUT)) }
    }

    /// Reads a vector as published.
    ///
    /// # Errors
    ///
    /// [`TrainingError::ModelLength`] unless it has [`VECTOR_LEN`] values, [`TrainingError::NonFinite`].
    pub fn from_vector(vector: &[f32]) -> Result<Self, TrainingError> {
        if vector.len() != VECTOR_LEN {
            let (expected, actual) = (VECTOR_LEN, vector.len());
            return Err(TrainingError::ModelLength { expected, actual });
        }
        check_finite("model", vector)?;
        let mut rest = vector;
        let mut take = |columns: usize| {
            let (head, tail) = rest.split_at(SYMBOLS * columns);
            rest = tail;
            ArrayView2::from_shape((SYMBOLS, columns), head).expect("split to this size")
        };
        let (previous, before) = (take(RANK).to_owned(), take(RANK).to_owned());
        let readout = concatenate(Axis(1), &[take(RANK), take(1)]).expect("98 rows each");
        Ok(Self { previous, before, readout })
    }

    /// The vector to publish, [`VECTOR_LEN`] values.
    pub fn to_vector(&self) -> Vec<f32> {
        let tensors = [self.previous.view(), self.before.view(), self.weight(), self.bias()];
        tensors.iter().flat_map(|tensor| tensor.iter().copied()).collect()
    }

    /// W, 98 x 6.
    fn weight(&self) -> ArrayView2<'_, f32> {
        self.readout.view().split_at(Axis(1), RANK).0
    }

    /// b, 98 x 1.
    fn bias(&self) -> ArrayView2<'_, f32> {
        self.readout.view().split_at(Axis(1), RANK).1
    }

    /// Leaves the logits of `positions` in `work.scores`.
    fn forward(&self, text: &Text, positions: &[usize], work: &mut Workspace) {
        let (mut contexts, _constant) = work.hidden.view_mut().split_at(Axis(1), RANK);
        for (mut context, &position) in contexts.rows_mut().into_iter().zip(positions) {
            let Context { previous, before } = text.context(position);
            context.assign(&self.previous.row(previous.into()));
            context *= PREVIOUS_SCALE;
            context.scaled_add(BEFORE_SCALE, &self.before.row(before.into()));
        }
        general_mat_mul(1.0, &self.readout, &work.hidden.t(), 0.0, &mut work.scores);
    }

    /// Leaves in `work` what [`Self::move_along`] needs: the gradient of the *sum* of the losses over `positions`
    /// with respect to logits (`scores`) and contexts (`context_gradient`).
    fn backward(&self, text: &Text, positions: &[usize], work: &mut Workspace) {
        self.forward(text, positions, work);
        softmax(&mut work.scores, &mut work.line);
        for (mut column, &position) in work.scores.columns_mut().into_iter().zip(positions) {
            column[usize::from(text.target(position))] -= 1.0; // d loss / d logit = p - [it is the target]
        }
        general_mat_mul(1.0, &work.scores.t(), &self.weight(), 0.0, &mut work.context_gradient);
    }

    /// Adds `factor` times the gradient in `work`.
    fn move_along(&mut self, text: &Text, positions: &[usize], work: &Workspace, factor: f32) {
        general_mat_mul(factor, &work.scores, &work.hidden, 1.0, &mut self.readout);
        for (gradient, &position) in work.context_gradient.rows().into_iter().zip(positions) {
            let Context { previous, before } = text.context(position);
            self.previous.row_mut(previous.into()).scaled_add(factor * PREVIOUS_SCALE, &gradient);
            self.before.row_mut(before.into()).scaled_add(factor * BEFORE_SCALE, &gradient);
        }
    }

    fn sgd_step(&mut self, text: &Text, positions: &[usize], work: &mut Workspace, rate: f32) {
        self.backward(text, positions, work);
        self.move_along(text, positions, work, -rate / positions.len() as f32);
    }
}

impl Predictor for LanguageModel {
    fn distribution(&self, context: Context) -> [f64; SYMBOLS] {
        let (previous, before) = (context.previous.into(), context.before.into());
        let mut context = &self.previous.row(previous) * PREVIOUS_SCALE;
        context.scaled_add(BEFORE_SCALE, &self.before.row(before));
        let mut scores = self.weight().dot(&context).insert_axis(Axis(1));
        scores.scaled_add(BIAS_SCALE, &self.bias());
        softmax(&mut scores, &mut [0.0]);
        let mut distribution = [0.0; SYMBOLS];
        for (probability, &score) in distribution.iter_mut().zip(&scores) {
            *probability = f64::from(score);
        }
        distribution
    }

    /// The same as the provided method, in batches.
    fn evaluate(&self, text: &Text) -> Evaluation {
        let mut tally = Tally::default();
        let positions: Vec<usize> = (0..text.bytes()).collect();
        for batch in positions.chunks(256) {
            let mut work = Workspace::new(batch.len());
            self.forward(text, batch, &mut work);
            let better = likelier_than_target(&work.scores, text, batch);
            softmax(&mut work.scores, &mut work.line);
            for ((column, &position), better) in work.scores.columns().into_iter().zip(batch).zip(better) {
                let target = text.target(position);
                tally.add(target, -f64::from(column[usize::from(target)]).ln(), better);
            }
        }
        tally.evaluation()
    }
}

/// Room for a minibatch of fixed size, reused from step to step.
struct Workspace {
    /// Contexts and the constant 1.4, the bias's scale; positions x 7.
    hidden: Array2<f32>,
    /// Logits, then probabilities, then their gradient; 98 x positions, so that softmax runs along rows.
    scores: Array2<f32>,
    /// Positions x 6.
    context_gradient: Array2<f32>,
    /// One value for each position.
    line: Vec<f32>,
}

impl Workspace {
    fn new(positions: usize) -> Self {
        Self {
            hidden: Array2::from_elem((positions, READOUT), BIAS_SCALE),
            scores: Array2::zeros((SYMBOLS, positions)),
            context_gradient: Array2::zeros((positions, RANK)),
            line: vec![0.0; positions],
        }
    }
}

/// Softmax of every column. Works row by row on plain slices, so that every loop becomes vector instructions.
fn softmax(scores: &mut Array2<f32>, line: &mut [f32]) {
    let scores = scores.as_slice_mut().expect("a workspace is contiguous");
    line.fill(f32::NEG_INFINITY);
    for row in scores.chunks_exact(line.len()) {
        line.iter_mut().zip(row).for_each(|(max, &x)| *max = if x > *max { x } else { *max });
    }
    for row in scores.chunks_exact_mut(line.len()) {
        row.iter_mut().zip(&*line).for_each(|(x, &max)| *x = exp_of_nonpositive(*x - max));
    }
    line.fill(0.0);
    for row in scores.chunks_exact(line.len()) {
        line.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
    }
    line.iter_mut().for_each(|sum| *sum = sum.recip());
    for row in scores.chunks_exact_mut(line.len()) {
        row.iter_mut().zip(&*line).for_each(|(x, &inverse)| *x *= inverse);
    }
}

/// `e^x` for `x <= 0` within 2 ulp, without a call or a branch, so that the compiler makes vectors of it. NaN stays
/// NaN; below -87 the result is that of -87, which is small but not zero.
fn exp_of_nonpositive(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4; // 9 bits: a multiple of it is exact
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the lowest bits
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let exponent = shifted - ROUND;
    let r = x - exponent * LN_2_HIGH - exponent * LN_2_LOW; // |r| <= ln 2 / 2
    // Taylor's polynomial with the coefficients of Cephes' expf, which spread its error over the interval.
    let tail = 1.987_569_1e-4 * r + 1.398_2e-3;
    let tail = ((tail * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 1.666_666_5e-1;
    let mantissa = (tail * r + 0.5) * r * r + r + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23); // 2^exponent
    mantissa * power
}

/// For each position, how many symbols score above its target; ties go to the lower number.
fn likelier_than_target(scores: &Array2<f32>, text: &Text, positions: &[usize]) -> Vec<usize> {
    let targets: Vec<u8> = positions.iter().map(|&position| text.target(position)).collect();
    let columns = scores.columns().into_iter().zip(&targets);
    let bar: Vec<f32> = columns.map(|(column, &target)| column[usize::from(target)]).collect();
    let mut better = vec![0; positions.len()];
    for (symbol, row) in (0_u8..).zip(scores.rows()) {
        let others = row.into_iter().zip(&bar).zip(&targets);
        for (count, ((score, bar), &target)) in better.iter_mut().zip(others) {
            *count += usize::from(score > bar || (score == bar && symbol < target));
        }
    }
    better
}

/// Trains a [`LanguageModel`] on one client's text.
#[derive(Debug)]
pub struct LanguageTrainer {
    text: Text,
    config: SgdConfig,
    seed: u64,
    client: u64,
}

/// Whose trainer: its random positions follow from this and the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainerId {
    /// One for the whole run.
    pub seed: u64,
    /// The client's number in the run.
    pub client: u64,
}

impl LanguageTrainer {
    /// A trainer over `data`, which stays here.
    ///
    /// # Errors
    ///
    /// Those of [`Text::new`].
    pub fn new(data: &[u8], config: SgdConfig, id: TrainerId) -> Result<Self, TrainingError> {
        Ok(Self { text: Text::new(data)?, config, seed: id.seed, client: id.client })
    }
}

/// The layout of the model's vector.
pub fn layout() -> Layout {
    let tensor = |name, columns: &[usize], scale| {
        let shape = [&[SYMBOLS], columns].concat();
        TensorLayout { name, shape: shape.into_iter().map(|size| size as u32).collect(), scale }
    };
    Layout {
        tensors: vec![
            tensor("embedding_previous", &[RANK], PREVIOUS_SCALE),
            tensor("embedding_before", &[RANK], BEFORE_SCALE),
            tensor("weight", &[RANK], WEIGHT_SCALE),
            tensor("bias", &[], BIAS_SCALE),
        ],
    }
}

impl LocalTrainer for LanguageTrainer {
    fn layout(&self) -> Layout {
        layout()
    }

    fn train(&mut self, model: &[f32], round: u64) -> Result<Vec<f32>, TrainingError> {
        let start = LanguageModel::from_vector(model)?;
        let mut trained = start.clone();
        let mut work = Workspace::new(self.config.positions);
        let stream = Stream { seed: self.seed, client: self.client, round };
        let mut rng = SplitMix64::for_stream(stream);
        descend(&self.config, self.text.bytes(), &mut rng, |positions, rate| {
            trained.sgd_step(&self.text, positions, &mut work, rate);
        });
        let moved = trained.to_vector().into_iter().zip(start.to_vector());
        let update: Vec<f32> = moved.map(|(after, before)| after - before).collect();
        check_finite("update", &update)?;
        Ok(update)
    }
}

/// Byte frequencies: what a model has to beat before it has learnt anything.
#[derive(Clone, Debug)]
pub struct Unigram {
    distribution: [f64; SYMBOLS],
}

impl Unigram {
    /// Counts of all `texts` together, plus one half for each symbol.
    pub fn fit<'a>(texts: impl IntoIterator<Item = &'a Text>) -> Self {
        let mut counts = [0.5; SYMBOLS];
        for text in texts {
            for position in 0..text.bytes() {
                counts[usize::from(text.target(position))] += 1.0;
            }
        }
        let total: f64 = counts.iter().sum();
        Self { distribution: counts.map(|count| count / total) }
    }
}

impl Predictor for Unigram {
    fn distribution(&self, _: Context) -> [f64; SYMBOLS] {
        self.distribution
    }
}

/// Pair frequencies over all data in one place: what a context of one symbol could reach without any privacy.
#[derive(Clone, Debug)]
pub struct Bigram {
    /// One for each previous symbol.
    rows: Vec<[f64; SYMBOLS]>,
}

impl Bigram {
    /// Counts of all `texts` together, plus one half for each pair.
    pub fn fit<'a>(texts: impl IntoIterator<Item = &'a Text>) -> Self {
        let mut rows = vec![[0.5; SYMBOLS]; SYMBOLS];
        for text in texts {
            for position in 0..text.bytes() {
                let previous = usize::from(text.context(position).previous);
                rows[previous][usize::from(text.target(position))] += 1.0;
            }
        }
        for row in &mut rows {
            let total: f64 = row.iter().sum();
            *row = row.map(|count| count / total);
        }
        Self { rows }
    }
}

impl Predictor for Bigram {
    fn distribution(&self, context: Context) -> [f64; SYMBOLS] {
        self.rows[usize::from(context.previous)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::UNIFORM_NATS_PER_BYTE;
    use super::super::finite::compare_gradient;
    use super::*;

    const ID: TrainerId = TrainerId { seed: 7, client: 3 };
    const SAMPLE: &str = "fn main() {\n\tlet total = sum(&values); // 17 \u{2264} x\n}\n";

    fn text(sample: &str) -> Text {
        Text::new(sample.as_bytes()).expect("the sample is text")
    }

    /// A model that is nowhere zero, so that every gradient is.
    fn busy_model(seed: u64) -> Vec<f32> {
        let mut rng = SplitMix64::new(seed);
        (0..VECTOR_LEN).map(|_| 0.5 * rng.normal() as f32).collect()
    }

    #[test]
    fn the_alphabet_covers_every_byte_once() {
        let mut bytes_of = [0; SYMBOLS];
        (0..=255_u8).for_each(|byte| bytes_of[usize::from(symbol_of(byte))] += 1);
        assert!(bytes_of[..usize::from(OTHER)].iter().all(|&count| count == 1));
        assert_eq!(f64::from(bytes_of[usize::from(OTHER)]), OTHER_BYTES);
        assert!((b' '..=b'~').all(|byte| char_of(symbol_of(byte)) == char::from(byte)));
        assert_eq!((char_of(NEWLINE), char_of(TAB)), ('\n', '\t'));
    }

    #[test]
    fn the_layout_describes_the_vector() {
        assert_eq!((layout().vector_len(), VECTOR_LEN), (1862, 1862));
        let vector = busy_model(1);
        let back = LanguageModel::from_vector(&vector).expect("right length").to_vector();
        assert_eq!(vector, back);
        let model = LanguageModel::from_vector(&vector).expect("right length");
        assert_eq!(model.readout[[1, RANK]], vector[VECTOR_LEN - SYMBOLS + 1]);
        assert_eq!(model.before[[0, 2]], vector[SYMBOLS * RANK + 2]);
    }

    /// Gradient of the mean loss against `finite`, in every coordinate of the vector.
    #[test]
    fn gradients_agree_with_finite_differences() {
        let (text, point) = (text(SAMPLE), busy_model(2));
        let positions: Vec<usize> = (0..text.bytes()).collect();
        let model = LanguageModel::from_vector(&point).expect("right length");
        let mut work = Workspace::new(positions.len());
        model.backward(&text, &positions, &mut work);
        let mut gradient = LanguageModel::from_vector(&[0.0; VECTOR_LEN]).expect("right length");
        gradient.move_along(&text, &positions, &work, 1.0 / positions.len() as f32);
        let worst = compare_gradient(&point, &gradient.to_vector(), 0..VECTOR_LEN, 1e-2, |moved| {
            let model = LanguageModel::from_vector(moved).expect("right length");
            model.evaluate(&text).nats_per_byte
        });
        let worst = worst.expect("there are coordinates");
        assert!(worst.relative_error < 5e-3, "{worst:?}");
    }

    #[test]
    fn batches_and_single_predictions_agree() {
        struct OneByOne(LanguageModel);
        impl Predictor for OneByOne {
            fn distribution(&self, context: Context) -> [f64; SYMBOLS] {
                self.0.distribution(context)
            }
        }
        let model = LanguageModel::from_vector(&busy_model(3)).expect("right length");
        let text = text(&SAMPLE.repeat(20));
        let (batched, single) = (model.evaluate(&text), OneByOne(model).evaluate(&text));
        assert!((batched.nats_per_byte - single.nats_per_byte).abs() < 1e-5);
        assert_eq!(batched.first_five, single.first_five);
    }

    #[test]
    fn the_fast_exponential_is_exact_enough() {
        for step in 0..87_000 {
            let x = -(step as f32) * 1e-3;
            let (fast, exact) = (f64::from(exp_of_nonpositive(x)), f64::from(x).exp());
            assert!((fast / exact - 1.0).abs() < 3e-7, "e^{x}: {fast} against {exact}");
        }
        assert!(exp_of_nonpositive(f32::NEG_INFINITY) < 2e-38);
        assert!(exp_of_nonpositive(f32::NAN).is_nan());
    }

    /// Knowing nothing costs `ln 98` for a symbol of the alphabet and `ln 98 + ln 159` for any other byte.
    #[test]
    fn the_initial_model_knows_nothing() {
        let model = LanguageModel::initial(1);
        let ascii = model.evaluate(&text("plain\n"));
        assert!((ascii.nats_per_byte - 98_f64.ln()).abs() < 1e-6, "{ascii:?}");
        let half = model.evaluate(&Text::new(b"a\xff").expect("half of it is text"));
        let expected = 98_f64.ln() + OTHER_BYTES.ln() / 2.0;
        assert!((half.nats_per_byte - expected).abs() < 1e-6, "{half:?}");
        assert_eq!(half.first_five, 0.0);
        assert!((UNIFORM_NATS_PER_BYTE - 5.545).abs() < 1e-3);
        for (table, scale, share) in [(&model.previous, PREVIOUS_SCALE, 1.0), (&model.before, BEFORE_SCALE, 0.375)] {
            let deviation = f64::from(table.std(0.0) * scale);
            assert!((deviation / share - 0.5 / 6_f64.sqrt()).abs() < 0.02, "{deviation}");
        }
    }

    /// By hand: counts a 3, b 1, and one half for each of 98 symbols.
    #[test]
    fn baselines_are_add_half_counts() {
        let sample = text("aaab");
        let unigram = Unigram::fit([&sample]);
        let nats = |p: f64| -p.ln();
        let expected = (3.0 * nats(3.5 / 53.0) + nats(1.5 / 53.0)) / 4.0;
        let judged = unigram.evaluate(&sample);
        assert!((judged.nats_per_byte - expected).abs() < 1e-12);
        assert_eq!((judged.first_guess, judged.first_five), (0.75, 1.0));
        // After a newline: a 1 of 1. After an a: a 2, b 1 of 3.
        let expected = (nats(1.5 / 50.0) + 2.0 * nats(2.5 / 52.0) + nats(1.5 / 52.0)) / 4.0;
        let judged = Bigram::fit([&sample]).evaluate(&sample);
        assert!((judged.nats_per_byte - expected).abs() < 1e-12);
        for distribution in [unigram.distribution, Bigram::fit([&sample]).rows[0]] {
            assert!((distribution.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn training_repeats_itself_and_differs_by_client_and_round() {
        let model = LanguageModel::initial(1).to_vector();
        let config = SgdConfig { steps: 3, positions: 16, rate: 1.0 };
        let update = |client, round| {
            let id = TrainerId { client, ..ID };
            let mut trainer = LanguageTrainer::new(SAMPLE.as_bytes(), config, id).expect("text");
            trainer.train(&model, round).expect("a finite model")
        };
        assert_eq!(update(3, 1), update(3, 1));
        assert_ne!(update(3, 1), update(4, 1));
        assert_ne!(update(3, 1), update(3, 2));
    }

    /// One client, no noise: it learns an easy text well below its byte frequencies, and completes it.
    #[test]
    fn a_client_alone_learns_its_text() {
        let sample = "the sum and nothing else\n".repeat(40);
        let text = text(&sample);
        let config = SgdConfig { steps: 400, positions: 64, rate: 1.0 };
        let mut trainer = LanguageTrainer::new(sample.as_bytes(), config, ID).expect("text");
        let mut model = LanguageModel::initial(1).to_vector();
        let update = trainer.train(&model, 1).expect("a finite model");
        model.iter_mut().zip(update).for_each(|(value, change)| *value += change);
        let model = LanguageModel::from_vector(&model).expect("right length");
        let (reached, unigram) = (model.evaluate(&text), Unigram::fit([&text]).evaluate(&text));
        assert!(reached.nats_per_byte < unigram.nats_per_byte - 1.5, "{reached:?} {unigram:?}");
        assert_eq!(model.complete("the sum an", 7, Choice::Greedy), "d nothi");
        let sampled = |seed| model.complete("the ", 30, Choice::Sampled { seed });
        assert_eq!(sampled(1), sampled(1));
        assert_ne!(sampled(1), sampled(2));
    }

    #[test]
    fn bad_data_and_bad_models_are_refused() {
        let config = SgdConfig::default();
        let trainer = |data: &[u8]| LanguageTrainer::new(data, config, ID);
        assert!(matches!(trainer(b""), Err(TrainingError::EmptyData)));
        let refused = trainer(&[0xff, 0x00, b'a']);
        assert!(matches!(refused, Err(TrainingError::NotText { outside: 2, total: 3 })));
        assert!(trainer("\u{434}\u{430}\r\n".as_bytes()).is_ok()); // a script of which it learns little
        let mut trainer = trainer(b"x").expect("one byte is text");
        let refused = trainer.train(&[0.0; 3], 1);
        assert!(matches!(refused, Err(TrainingError::ModelLength { expected: 1862, actual: 3 })));
        let mut model = LanguageModel::initial(1).to_vector();
        model[5] = f32::NAN;
        let refused = trainer.train(&model, 1);
        assert!(matches!(refused, Err(TrainingError::NonFinite { what: "model", index: 5 })));
    }

    /// Values that are finite but absurd overflow inside: the trainer says so instead of returning NaN.
    #[test]
    fn an_update_that_overflows_is_refused() {
        let mut trainer = LanguageTrainer::new(b"xyz", SgdConfig::default(), ID).expect("text");
        let refused = trainer.train(&[f32::MAX; VECTOR_LEN], 1);
        assert!(matches!(refused, Err(TrainingError::NonFinite { .. })), "{refused:?}");
    }

    #[test]
    fn a_text_does_not_show_itself() {
        assert_eq!(format!("{:?}", text("secret")), "Text(..)");
    }
}
