//! A query: what is asked of every client, and the one text that says so. `docs/statistics.md`, `docs/decisions/0020`
//!
//! The text is served where a model is served, and its SHA-256 stands in the header, as the layout and as the model: who pins
//! the layout answers this query and no other. From the query follow the length of the vector and the largest L2 norm of what
//! one client contributes, its *natural sensitivity*:
//!
//! | kind | one client's vector, m records of at most K | norm at most |
//! |---|---|---|
//! | sum | sum of values / (K max(abs lo, abs hi)) | 1 |
//! | mean | (sum of (value - centre) / (K half-width), m / K) | sqrt 2 |
//! | histogram, heavy-hitters | records in each bin | K |
//! | quantile | records in each node of a binary tree over the bins, its root left out | K sqrt(levels) |
//!
//! All coordinates but those of sum and mean are whole numbers, so with a whole scale rounding changes nothing.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use thiserror::Error;

/// The first line of every query.
pub const FORMAT: &str = "veilsum-query-1";
/// Bins of a histogram, and entries of a domain.
pub const CELLS_MAX: u32 = 1 << 16;
/// Records of one client. Counts up to here are exact as 32-bit floats.
pub const RECORDS_MAX: u32 = 1_000_000;
/// Bytes of one entry of a domain.
const LABEL_BYTES_MAX: usize = 255;
/// Bytes of a query.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// No end of a range is farther from zero.
const REACH: f64 = 1e15;

/// What is asked.
#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    /// The sum of all values.
    Sum(Range),
    /// Their mean.
    Mean(Range),
    /// How many values lie in each of `bins` bins of one width.
    Histogram(Range, u32),
    /// The value that the fraction `q` of all values does not exceed, told to the width of a bin.
    Quantile {
        /// Of the values.
        range: Range,
        /// A power of two.
        bins: u32,
        /// Between 0 and 1.
        q: f64,
    },
    /// Which entries of a known domain occur at least `least` times.
    HeavyHitters {
        /// In order, no entry twice.
        domain: Vec<String>,
        /// At least 1.
        least: u64,
    },
}

/// Values from `lo` to `hi`, both included.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Range {
    /// The least value.
    pub lo: f64,
    /// The largest value, above `lo`.
    pub hi: f64,
}

/// What becomes of a value outside the range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outside {
    /// The client sends nothing.
    Refuse,
    /// It counts as the nearest end of the range.
    Clamp,
}

/// A query that holds. Its fields are checked once, by [`Query::new`].
#[derive(Clone, PartialEq, Debug)]
pub struct Query {
    kind: Kind,
    records_max: u32,
    outside: Outside,
    level: f64,
}

/// What a query is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Proposal {
    /// What is asked.
    pub kind: Kind,
    /// K: the most records that one client contributes.
    pub records_max: u32,
    /// Of heavy hitters always [`Outside::Refuse`].
    pub outside: Outside,
    /// The confidence that intervals have together.
    pub level: f64,
}

/// Why a query is refused.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum QueryError {
    /// A figure outside what is accepted.
    #[error("{field} must be {expected}; it is {found}")]
    Range {
        /// Which.
        field: &'static str,
        /// What is accepted.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// The text is not the one text of a query.
    #[error("a query of the form {FORMAT} was expected: {0}")]
    Text(&'static str),
}

fn holds(field: &'static str, holds: bool, expected: &'static str, found: impl ToString) -> Result<(), QueryError> {
    if holds { Ok(()) } else { Err(QueryError::Range { field, expected, found: found.to_string() }) }
}

impl Range {
    fn check(&self) -> Result<(), QueryError> {
        holds("lo", self.lo.abs() <= REACH, "a number between -10^15 and 10^15", self.lo)?;
        holds("hi", self.hi.abs() <= REACH, "a number between -10^15 and 10^15", self.hi)?;
        holds("hi", self.lo < self.hi, "above lo", format!("{} with lo = {}", self.hi, self.lo))?;
        let apart = (self.hi - self.lo) / self.lo.abs().max(self.hi.abs());
        holds(
            "hi - lo",
            apart >= 1e-9,
            "at least 10^-9 of the larger end, or bins and means are lost in rounding",
            apart,
        )
    }

    /// Whether a value may be answered with as it is. Not if it is no number.
    pub fn contains(&self, value: f64) -> bool {
        (self.lo..=self.hi).contains(&value)
    }

    /// Where bin `i` of `bins` begins; that of `bins` is `hi`.
    pub fn edge(&self, i: u32, bins: u32) -> f64 {
        if i == bins { self.hi } else { self.lo + (self.hi - self.lo) * (f64::from(i) / f64::from(bins)) }
    }

    /// The bin of a value in the range: `edge(i) <= value < edge(i + 1)`; `hi` is in the last one.
    pub fn bin(&self, value: f64, bins: u32) -> u32 {
        let guess = (value - self.lo) / (self.hi - self.lo) * f64::from(bins);
        let mut bin = (guess as u32).min(bins - 1);
        while bin > 0 && value < self.edge(bin, bins) {
            bin -= 1;
        }
        while bin + 1 < bins && value >= self.edge(bin + 1, bins) {
            bin += 1;
        }
        bin
    }

    /// Half way between both ends.
    pub fn centre(&self) -> f64 {
        self.lo + self.half() // no overflow: ends are within 10^15
    }

    /// Half the width.
    pub fn half(&self) -> f64 {
        (self.hi - self.lo) / 2.0
    }
}

impl Kind {
    /// Its word in texts and task files.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Sum(_) => "sum",
            Self::Mean(_) => "mean",
            Self::Histogram(..) => "histogram",
            Self::Quantile { .. } => "quantile",
            Self::HeavyHitters { .. } => "heavy-hitters",
        }
    }

    /// The range of values, where records are numbers.
    pub fn range(&self) -> Option<Range> {
        match self {
            Self::Sum(range) | Self::Mean(range) | Self::Histogram(range, _) | Self::Quantile { range, .. } => {
                Some(*range)
            }
            Self::HeavyHitters { .. } => None,
        }
    }

    fn check(&self) -> Result<(), QueryError> {
        if let Some(range) = self.range() {
            range.check()?;
        }
        match self {
            Self::Sum(_) | Self::Mean(_) => Ok(()),
            Self::Histogram(range, bins) => {
                holds("bins", (1..=CELLS_MAX).contains(bins), "from 1 to 65536", bins)?;
                narrow_enough(range, *bins)
            }
            Self::Quantile { range, bins, q } => {
                let fits = (2..=CELLS_MAX).contains(bins) && bins.is_power_of_two();
                holds("bins", fits, "a power of two from 2 to 65536, for the tree over them", bins)?;
                holds("quantile", *q > 0.0 && *q < 1.0, "above 0 and below 1; 0.5 is the median", q)?;
                narrow_enough(range, *bins)
            }
            Self::HeavyHitters { domain, least } => {
                let count = domain.len();
                holds("domain", (1..=CELLS_MAX as usize).contains(&count), "of 1 to 65536 entries", count)?;
                for label in domain {
                    let plain = !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.trim() == label;
                    let plain = plain && !label.chars().any(char::is_control);
                    let expected = "of 1 to 255 bytes, without control characters and without blanks at its ends";
                    holds("an entry of the domain", plain, expected, format!("{label:?}"))?;
                }
                if let Some(pair) = domain.windows(2).find(|pair| pair[0] >= pair[1]) {
                    return holds(
                        "domain",
                        false,
                        "in the order of its bytes, no entry twice",
                        format!("{:?} before {:?}", pair[0], pair[1]),
                    );
                }
                holds("least", (1..=1 << 53).contains(least), "a count from 1", least)
            }
        }
    }
}

fn narrow_enough(range: &Range, bins: u32) -> Result<(), QueryError> {
    let apart = (0..bins).all(|i| range.edge(i, bins) < range.edge(i + 1, bins));
    holds("bins", apart, "so few that floating point tells their edges apart", bins)
}

impl Query {
    /// Checks everything.
    ///
    /// # Errors
    /// [`QueryError::Range`] naming the first figure that is not accepted, and what would be.
    pub fn new(proposal: Proposal) -> Result<Self, QueryError> {
        let Proposal { kind, records_max, outside, level } = proposal;
        kind.check()?;
        holds("records_max", (1..=RECORDS_MAX).contains(&records_max), "from 1 to 1000000", records_max)?;
        holds("level", (0.5..=0.999_999).contains(&level), "from 0.5 to 0.999999; 0.95 is usual", level)?;
        if kind.range().is_none() {
            holds("outside", outside == Outside::Refuse, "\"refuse\" for heavy-hitters", "\"clamp\"")?;
        }
        let query = Self { kind, records_max, outside, level };
        let bytes = query.text().len();
        holds("the query", bytes <= TEXT_BYTES_MAX, "of at most 1 MiB: a smaller domain, or shorter entries", bytes)?;
        Ok(query)
    }

    /// What is asked.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// K: the most records of one client.
    pub fn records_max(&self) -> u32 {
        self.records_max
    }

    /// What becomes of values outside the range.
    pub fn outside(&self) -> Outside {
        self.outside
    }

    /// The confidence of all intervals together.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// Elements of the vector.
    pub fn vector_len(&self) -> u32 {
        match &self.kind {
            Kind::Sum(_) => 1,
            Kind::Mean(_) => 2,
            Kind::Histogram(_, bins) => *bins,
            Kind::Quantile { bins, .. } => 2 * bins - 2,
            Kind::HeavyHitters { domain, .. } => domain.len() as u32,
        }
    }

    /// The largest L2 norm of one client's vector: with all of it or without it, the sum differs by no more.
    pub fn clip_norm(&self) -> f64 {
        let records = f64::from(self.records_max);
        match &self.kind {
            Kind::Sum(_) => 1.0,
            Kind::Mean(_) => libm::sqrt(2.0),
            Kind::Histogram(..) | Kind::HeavyHitters { .. } => records,
            Kind::Quantile { bins, .. } => libm::sqrt(records * records * f64::from(bins.ilog2())),
        }
    }

    /// Integer steps per unit unless the operator chooses: a power of two that gives the clip norm 1024 steps or a few more,
    /// so that rounding adds less than a thousandth to the sensitivity.
    pub fn default_scale(&self) -> f64 {
        let mut scale = 1.0;
        while scale * self.clip_norm() < 1024.0 {
            scale *= 2.0;
        }
        scale
    }

    /// What one unit of a coordinate of sum or mean stands for, before a mean's division: `K max(abs lo, abs hi)`, `K half`.
    pub fn unit(&self) -> f64 {
        let records = f64::from(self.records_max);
        match &self.kind {
            Kind::Sum(range) => records * range.lo.abs().max(range.hi.abs()),
            Kind::Mean(range) => records * range.half(),
            _ => 1.0,
        }
    }

    /// The one text.
    pub fn text(&self) -> String {
        let mut text = format!("{FORMAT}\nkind = {}\n", self.kind.word());
        let mut line = |name: &str, value: &dyn core::fmt::Display| text.push_str(&format!("{name} = {value}\n"));
        if let Some(Range { lo, hi }) = self.kind.range() {
            line("lo", &lo);
            line("hi", &hi);
            line("outside", &if self.outside == Outside::Clamp { "clamp" } else { "refuse" });
        }
        match &self.kind {
            Kind::Sum(_) | Kind::Mean(_) => {}
            Kind::Histogram(_, bins) => line("bins", bins),
            Kind::Quantile { bins, q, .. } => {
                line("bins", bins);
                line("quantile", q);
            }
            Kind::HeavyHitters { least, .. } => line("least", least),
        }
        line("records_max", &self.records_max);
        line("level", &self.level);
        if let Kind::HeavyHitters { domain, .. } = &self.kind {
            line("domain", &domain.len());
            domain.iter().for_each(|label| text.extend([label, "\n"]));
        }
        text
    }

    /// Reads what [`Query::text`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn read(bytes: &[u8]) -> Result<Self, QueryError> {
        if bytes.len() > TEXT_BYTES_MAX {
            return Err(QueryError::Text("it is longer than 1 MiB"));
        }
        let text = core::str::from_utf8(bytes).map_err(|_| QueryError::Text("it is not UTF-8"))?;
        let mut lines = Lines(text.split('\n'));
        if lines.0.next() != Some(FORMAT) {
            return Err(QueryError::Text("its first line is another"));
        }
        let word = lines.value("kind")?;
        let is_of_numbers = word != "heavy-hitters";
        let (range, outside) = if is_of_numbers {
            let range = Range { lo: lines.number("lo")?, hi: lines.number("hi")? };
            (range, if lines.value("outside")? == "clamp" { Outside::Clamp } else { Outside::Refuse })
        } else {
            (Range { lo: 0.0, hi: 1.0 }, Outside::Refuse) // not read below
        };
        let mut kind = match word {
            "sum" => Kind::Sum(range),
            "mean" => Kind::Mean(range),
            "histogram" => Kind::Histogram(range, lines.number("bins")?),
            "quantile" => Kind::Quantile { range, bins: lines.number("bins")?, q: lines.number("quantile")? },
            "heavy-hitters" => Kind::HeavyHitters { domain: Vec::new(), least: lines.number("least")? },
            _ => return Err(QueryError::Text("its kind is none of sum, mean, histogram, quantile, heavy-hitters")),
        };
        let (records_max, level) = (lines.number("records_max")?, lines.number("level")?);
        if let Kind::HeavyHitters { domain, .. } = &mut kind {
            let count: u32 = lines.number("domain")?;
            domain.extend(lines.0.by_ref().take(count.min(CELLS_MAX) as usize).map(str::to_string));
        }
        let query = Self::new(Proposal { kind, records_max, outside, level })?;
        // What was read is what would be written: one query has one text.
        if query.text() == text {
            Ok(query)
        } else {
            Err(QueryError::Text("it is written in another way than its one text"))
        }
    }

    /// In words, for people who are asked.
    pub fn in_words(&self) -> String {
        let many = match self.records_max {
            1 => "one record of each client".to_string(),
            records => format!("up to {records} records of each client"),
        };
        let from = |Range { lo, hi }: &Range| format!("values from {lo} to {hi}, {many}");
        match &self.kind {
            Kind::Sum(range) => format!("the sum of {}", from(range)),
            Kind::Mean(range) => format!("the mean of {}", from(range)),
            Kind::Histogram(range, bins) => format!("how many lie in each of {bins} bins, of {}", from(range)),
            Kind::Quantile { range, bins, q } => format!("the quantile {q}, by {bins} bins, of {}", from(range)),
            Kind::HeavyHitters { domain, least } => {
                format!("which of {} entries occur at least {least} times, {many}", domain.len())
            }
        }
    }
}

/// `name = value`, line by line.
struct Lines<'a>(core::str::Split<'a, char>);

impl<'a> Lines<'a> {
    fn value(&mut self, name: &'static str) -> Result<&'a str, QueryError> {
        let line = self.0.next().and_then(|line| line.strip_prefix(name)).and_then(|rest| rest.strip_prefix(" = "));
        line.ok_or(QueryError::Text("a line is missing, or not in its place"))
    }

    fn number<N: core::str::FromStr>(&mut self, name: &'static str) -> Result<N, QueryError> {
        self.value(name)?.parse().map_err(|_| QueryError::Text("a number was expected in one of its lines"))
    }
}

/// Where node `node` of `level` stands in the vector of a quantile: level 1 has two nodes, the last one a node for each bin.
pub fn tree_index(level: u32, node: u32) -> usize {
    ((1_usize << level) - 2) + node as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    const RANGE: Range = Range { lo: 0.0, hi: 120.0 };

    fn query(kind: Kind) -> Result<Query, QueryError> {
        Query::new(Proposal { kind, records_max: 3, outside: Outside::Refuse, level: 0.95 })
    }

    fn heavy(labels: &[&str]) -> Kind {
        Kind::HeavyHitters { domain: labels.iter().map(|label| label.to_string()).collect(), least: 2 }
    }

    fn kinds() -> Vec<Kind> {
        vec![
            Kind::Sum(RANGE),
            Kind::Mean(Range { lo: -1e-3, hi: 1e-3 }),
            Kind::Histogram(RANGE, 12),
            Kind::Quantile { range: RANGE, bins: 64, q: 0.5 },
            heavy(&["Berlin", "a = b", "ärztin"]),
        ]
    }

    #[test]
    fn a_query_has_one_text() {
        for kind in kinds() {
            let query = query(kind).expect("it holds");
            let text = query.text();
            assert_eq!(Query::read(text.as_bytes()), Ok(query));
            for other in
                [format!("{text}\n"), text.replace("= 3", "= 03"), text.replace("0.95", "0.950"), text[1..].into()]
            {
                assert!(Query::read(other.as_bytes()).is_err(), "{other}");
            }
        }
        let expected = "veilsum-query-1\nkind = quantile\nlo = 0\nhi = 120\noutside = refuse\nbins = 64\nquantile = 0.5\nrecords_max = 3\n\
                        level = 0.95\n";
        assert_eq!(query(kinds().remove(3)).expect("it holds").text(), expected);
        let text = query(heavy(&["a", "b"])).expect("it holds").text();
        assert!(Query::read(text.replace("a\nb", "b\na").as_bytes()).is_err(), "entries are in order");
        assert!(Query::read(text.replace("domain = 2", "domain = 1").as_bytes()).is_err());
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_what_could() {
        let words = |kind| query(kind).expect_err("refused").to_string();
        assert_eq!(words(Kind::Sum(Range { lo: 5.0, hi: 5.0 })), "hi must be above lo; it is 5 with lo = 5");
        assert_eq!(words(Kind::Histogram(RANGE, 0)), "bins must be from 1 to 65536; it is 0");
        assert!(words(Kind::Mean(Range { lo: f64::NAN, hi: 1.0 })).starts_with("lo must be a number"));
        assert!(words(Kind::Mean(Range { lo: 1e14, hi: 1e14 + 1.0 })).contains("lost in rounding"));
        assert!(words(Kind::Quantile { range: RANGE, bins: 12, q: 0.5 }).contains("a power of two"));
        for q in [0.0, 1.0, f64::NAN] {
            assert!(words(Kind::Quantile { range: RANGE, bins: 8, q }).contains("0.5 is the median"));
        }
        assert!(words(heavy(&[])).contains("1 to 65536 entries"));
        assert!(words(heavy(&["b", "a"])).contains("order"));
        assert!(words(heavy(&["a", "a"])).contains("no entry twice"));
        for label in ["", " a", "a\n", "\t"] {
            assert!(words(heavy(&[label])).contains("without control"), "{label:?}");
        }
        let of = |records_max, level| {
            Query::new(Proposal { kind: Kind::Sum(RANGE), records_max, outside: Outside::Refuse, level })
        };
        assert!(of(0, 0.95).is_err() && of(RECORDS_MAX + 1, 0.95).is_err());
        assert!(of(1, 1.0).is_err() && of(1, 0.4).is_err() && of(1, f64::NAN).is_err());
        let clamped = Proposal { kind: heavy(&["a"]), records_max: 1, outside: Outside::Clamp, level: 0.95 };
        assert!(Query::new(clamped).is_err());
    }

    #[test]
    fn lengths_and_norms_are_those_of_the_table() {
        let of = |kind| query(kind).map(|query| (query.vector_len(), query.clip_norm())).expect("it holds");
        let found: Vec<(u32, f64)> = kinds().into_iter().map(of).collect();
        let root = libm::sqrt;
        assert_eq!(found, [(1, 1.0), (2, root(2.0)), (12, 3.0), (126, root(54.0)), (3, 3.0)]);
        for kind in kinds() {
            let query = query(kind).expect("it holds");
            let steps = query.default_scale() * query.clip_norm();
            assert!((1024.0..2048.0).contains(&steps) && query.default_scale() % 1.0 == 0.0);
        }
    }

    proptest! {
        #[test]
        fn a_value_lies_between_the_edges_of_its_bin(lo in -1e6..1e6_f64, width in 1e-2..1e6_f64, part in 0.0..=1.0_f64, bins in 1..5_000_u32) {
            let range = Range { lo, hi: lo + width };
            let value = (lo + width * part).clamp(range.lo, range.hi);
            let bin = range.bin(value, bins);
            prop_assert!(range.edge(bin, bins) <= value);
            prop_assert!(value < range.edge(bin + 1, bins) || bin + 1 == bins);
        }

        #[test]
        fn no_text_is_read_but_a_query_s_own(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Query::read(&bytes).is_err());
        }
    }
}
