//! What may be given away, and what has been, `docs/protocol.md` §10.3.
//!
//! A round reserves its worst case when it opens, and spends it before masking opens. Spent is
//! spent. Charges are keyed by task and round counter, so that repeating one changes nothing: a
//! crash between writing and answering costs no budget. The caller persists [`Ledger::encode`]
//! before it acts on a charge.
//!
//! A ledger holds facts; the [`Budget`] is policy, and comes with each question.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use thiserror::Error;

use super::accountant::{CurveError, RdpCurve, default_orders};

/// The most that may ever be given away about one client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Largest epsilon.
    pub epsilon: f64,
    /// The delta at which it is stated, between 0 and 1.
    pub delta: f64,
}

/// Names one charge: the task, and the round's counter within it.
pub type ChargeKey = ([u8; 16], u64);

/// Why a charge is refused, or bytes are no ledger.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum BudgetError {
    /// The round would give away too much.
    #[error(
        "the round would bring epsilon to {would_be}, above the budget of {budget}; end the task, \
         or add noise"
    )]
    Exhausted {
        /// Epsilon with every reservation and this round.
        would_be: f64,
        /// The largest epsilon.
        budget: f64,
    },
    /// Something else was reserved under this key.
    #[error("round {counter} of this task is already reserved with another curve")]
    OtherCurve {
        /// The round's counter.
        counter: u64,
    },
    /// There is nothing to spend.
    #[error("round {counter} of this task has no reservation; reserve before spending")]
    NotReserved {
        /// The round's counter.
        counter: u64,
    },
    /// The curve is not over [`default_orders`].
    #[error(transparent)]
    Curve(#[from] CurveError),
    /// The bytes are not the encoding of a ledger.
    #[error("the bytes are no ledger of version 1; restore it from a copy, do not start afresh")]
    Encoding,
}

/// Everything reserved and spent about one client or one task, at the [`default_orders`] unless made [`Ledger::over`] others.
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    spent: RdpCurve,
    spent_keys: BTreeSet<ChargeKey>,
    reserved: BTreeMap<ChargeKey, RdpCurve>,
}

impl Default for Ledger {
    /// Nothing reserved, nothing spent.
    fn default() -> Self {
        Self {
            spent: RdpCurve::zero(&default_orders()).expect("the default orders rise from 2"),
            spent_keys: BTreeSet::new(),
            reserved: BTreeMap::new(),
        }
    }
}

impl Ledger {
    /// Nothing reserved, nothing spent, at other orders: for checks against figures that were made with those. Its bytes are
    /// not read back.
    ///
    /// # Errors
    /// [`CurveError::Orders`] unless the orders rise from 2 or more.
    pub fn over(orders: &[u32]) -> Result<Self, CurveError> {
        Ok(Self { spent: RdpCurve::zero(orders)?, ..Self::default() })
    }

    /// Epsilon of everything spent.
    pub fn epsilon_spent(&self, delta: f64) -> f64 {
        self.spent.epsilon(delta).epsilon
    }

    /// Epsilon as if everything reserved were spent too.
    pub fn epsilon_with_reservations(&self, delta: f64) -> f64 {
        self.with_reservations().epsilon(delta).epsilon
    }

    /// Epsilon with everything reserved and one more round. Ask [`Ledger::is_spent`] first where the
    /// round may have been charged before. Infinite for a curve of other orders.
    pub fn epsilon_with(&self, curve: &RdpCurve, delta: f64) -> f64 {
        let sum = self.with_reservations().plus(curve);
        sum.map_or(f64::INFINITY, |sum| sum.epsilon(delta).epsilon)
    }

    /// True if a round under this key was spent.
    pub fn is_spent(&self, key: ChargeKey) -> bool {
        self.spent_keys.contains(&key)
    }

    /// The counters that were spent of one task, ascending.
    pub fn counters_of(&self, task: [u8; 16]) -> impl Iterator<Item = u64> {
        self.spent_keys.range((task, 0)..=(task, u64::MAX)).map(|(_, counter)| *counter)
    }

    /// Checks that a new round would stay within the budget, with every reservation. What no
    /// number bounds is within no budget.
    ///
    /// # Errors
    /// [`BudgetError::Exhausted`].
    pub fn can_open(&self, curve: &RdpCurve, budget: Budget) -> Result<(), BudgetError> {
        let would_be = self.epsilon_with(curve, budget.delta);
        if would_be.is_finite() && would_be <= budget.epsilon {
            Ok(())
        } else {
            Err(BudgetError::Exhausted { would_be, budget: budget.epsilon })
        }
    }

    /// Sets the worst case of a round aside. Under a key that is reserved with the same curve, or
    /// spent, it changes nothing.
    ///
    /// # Errors
    /// [`BudgetError::Exhausted`], [`BudgetError::OtherCurve`] or [`BudgetError::Curve`]; nothing
    /// is changed then.
    pub fn reserve(&mut self, key: ChargeKey, curve: RdpCurve, budget: Budget) -> Result<(), BudgetError> {
        if self.is_spent(key) {
            return Ok(());
        }
        if let Some(before) = self.reserved.get(&key) {
            let same = *before == curve;
            return if same { Ok(()) } else { Err(BudgetError::OtherCurve { counter: key.1 }) };
        }
        if curve.orders() != self.spent.orders() {
            return Err(CurveError::OtherOrders.into());
        }
        self.can_open(&curve, budget)?;
        self.reserved.insert(key, curve);
        Ok(())
    }

    /// Spends what was reserved, for good. Under a spent key it changes nothing.
    ///
    /// # Errors
    /// [`BudgetError::NotReserved`]; nothing is changed then.
    pub fn spend(&mut self, key: ChargeKey) -> Result<(), BudgetError> {
        if self.is_spent(key) {
            return Ok(());
        }
        let curve = self.reserved.get(&key).ok_or(BudgetError::NotReserved { counter: key.1 })?;
        self.spent = self.spent.plus(curve)?;
        self.reserved.remove(&key);
        self.spent_keys.insert(key);
        Ok(())
    }

    /// Spends at once, whatever the budget: the caller has asked [`Ledger::epsilon_with`]. Under a
    /// spent key it changes nothing; a reservation under the key ends.
    ///
    /// # Panics
    /// If the curve is not over [`default_orders`], as that of `skellam_curve` is.
    pub fn charge(&mut self, key: ChargeKey, curve: RdpCurve) {
        if self.is_spent(key) {
            return;
        }
        self.spent = self.spent.plus(&curve).expect("curves are made over the default orders");
        self.reserved.remove(&key);
        self.spent_keys.insert(key);
    }

    /// Gives a reservation back: the round ended before masking opened. What is spent stays spent.
    pub fn lapse(&mut self, key: ChargeKey) {
        self.reserved.remove(&key);
    }

    fn with_reservations(&self) -> RdpCurve {
        self.reserved.values().fold(self.spent.clone(), |sum, curve| {
            sum.plus(curve).expect("`reserve` admits curves of this ledger's orders only")
        })
    }

    /// The canonical bytes, little-endian throughout:
    ///
    /// ```text
    /// version u16 = 1,
    /// orders u32, then so many: order u32, spent divergence f64,
    /// spent keys u32, then so many, ascending: task[16], counter u64,
    /// reservations u32, then so many, ascending: task[16], counter u64, a divergence f64 per order
    /// ```
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(VERSION.to_le_bytes());
        put_count(&mut bytes, self.spent.orders().len());
        for (order, divergence) in self.spent.orders().iter().zip(self.spent.divergences()) {
            bytes.extend(order.to_le_bytes());
            put_f64(&mut bytes, *divergence);
        }
        put_count(&mut bytes, self.spent_keys.len());
        for &key in &self.spent_keys {
            put_key(&mut bytes, key);
        }
        put_count(&mut bytes, self.reserved.len());
        for (&key, curve) in &self.reserved {
            put_key(&mut bytes, key);
            for divergence in curve.divergences() {
                put_f64(&mut bytes, *divergence);
            }
        }
        bytes
    }

    /// Reads [`Ledger::encode`]'s bytes, whole.
    ///
    /// # Errors
    /// [`BudgetError::Encoding`] for anything that `encode` does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, BudgetError> {
        let mut rest = Bytes(bytes);
        if u16::from_le_bytes(rest.take()?) != VERSION {
            return Err(BudgetError::Encoding);
        }
        let (mut orders, mut spent) = (Vec::new(), Vec::new());
        for _ in 0..rest.count(4 + 8)? {
            orders.push(u32::from_le_bytes(rest.take()?));
            spent.push(rest.f64()?);
        }
        if orders != default_orders() {
            return Err(BudgetError::Encoding);
        }
        let mut ledger = Self { spent: curve(&orders, spent)?, ..Self::default() };
        for _ in 0..rest.count(24)? {
            let key = rest.key()?;
            if ledger.spent_keys.last().is_some_and(|last| *last >= key) {
                return Err(BudgetError::Encoding);
            }
            ledger.spent_keys.insert(key);
        }
        for _ in 0..rest.count(24 + 8 * orders.len())? {
            let key = rest.key()?;
            let ascending = ledger.reserved.last_key_value().is_none_or(|(last, _)| *last < key);
            if !ascending || ledger.is_spent(key) {
                return Err(BudgetError::Encoding);
            }
            let divergences = orders.iter().map(|_| rest.f64()).collect::<Result<_, _>>()?;
            ledger.reserved.insert(key, curve(&orders, divergences)?);
        }
        if rest.0.is_empty() { Ok(ledger) } else { Err(BudgetError::Encoding) }
    }
}

const VERSION: u16 = 1;

fn curve(orders: &[u32], divergences: Vec<f64>) -> Result<RdpCurve, BudgetError> {
    if divergences.iter().any(|divergence| divergence.is_sign_negative()) {
        return Err(BudgetError::Encoding); // -0.0 would be a second way to write zero
    }
    RdpCurve::from_parts(orders.to_vec(), divergences).map_err(|_| BudgetError::Encoding)
}

fn put_f64(bytes: &mut Vec<u8>, number: f64) {
    bytes.extend(number.to_bits().to_le_bytes());
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("a ledger holds fewer than 2^32 rounds");
    bytes.extend(count.to_le_bytes());
}

fn put_key(bytes: &mut Vec<u8>, (task, counter): ChargeKey) {
    bytes.extend(task);
    bytes.extend(counter.to_le_bytes());
}

/// What is still to be read.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BudgetError> {
        let (now, later) = self.0.split_first_chunk().ok_or(BudgetError::Encoding)?;
        self.0 = later;
        Ok(*now)
    }

    fn f64(&mut self) -> Result<f64, BudgetError> {
        Ok(f64::from_bits(u64::from_le_bytes(self.take()?)))
    }

    fn key(&mut self) -> Result<ChargeKey, BudgetError> {
        Ok((self.take()?, u64::from_le_bytes(self.take()?)))
    }

    /// A count of items of `item_bytes`, which are there.
    fn count(&mut self, item_bytes: usize) -> Result<usize, BudgetError> {
        let count = u32::from_le_bytes(self.take()?) as usize;
        if count > self.0.len() / item_bytes {
            return Err(BudgetError::Encoding);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::accountant::{IntegerRound, skellam_curve};
    use proptest::prelude::*;

    const BUDGET: Budget = Budget { epsilon: 1.0, delta: 1e-5 };

    fn key(counter: u64) -> ChargeKey {
        ([7; 16], counter)
    }

    fn round(variance: u64) -> RdpCurve {
        skellam_curve(IntegerRound { max_squared_norm: 10_000, dim: 100, variance })
    }

    /// A release is charged once, however often the charge is repeated.
    #[test]
    fn repeating_a_charge_changes_nothing() {
        let mut ledger = Ledger::default();
        ledger.reserve(key(1), round(10_000_000), BUDGET).expect("within the budget");
        let reserved = ledger.clone();
        ledger.reserve(key(1), round(10_000_000), BUDGET).expect("the same again");
        assert_eq!(ledger, reserved);
        let other = ledger.reserve(key(1), round(20_000_000), BUDGET).expect_err("another curve");
        assert_eq!(other, BudgetError::OtherCurve { counter: 1 });
        ledger.spend(key(1)).expect("reserved");
        let spent = ledger.clone();
        ledger.spend(key(1)).expect("the same again");
        ledger.charge(key(1), round(10_000_000));
        ledger.reserve(key(1), round(10_000_000), BUDGET).expect("spent already");
        ledger.lapse(key(1));
        assert_eq!(ledger, spent);
        assert!(ledger.is_spent(key(1)) && ledger.epsilon_spent(1e-5) > 0.0);
    }

    #[test]
    fn charging_at_once_is_reserving_and_spending() {
        let (mut at_once, mut in_two) = (Ledger::default(), Ledger::default());
        let foreseen = at_once.epsilon_with(&round(1_000_000), 1e-5);
        at_once.charge(key(4), round(1_000_000));
        in_two.reserve(key(4), round(1_000_000), BUDGET).expect("within the budget");
        in_two.spend(key(4)).expect("reserved");
        assert_eq!(at_once, in_two);
        assert_eq!(at_once.epsilon_spent(1e-5), foreseen);
    }

    #[test]
    fn reservations_count_until_they_lapse() {
        let mut ledger = Ledger::default();
        let mut opened = 0;
        assert_eq!(ledger.epsilon_with_reservations(1e-5), 0.0, "nothing charged is nothing spent");
        while ledger.reserve(key(opened), round(2_000_000), BUDGET).is_ok() {
            opened += 1;
        }
        assert!(opened > 1);
        assert!(ledger.epsilon_with_reservations(1e-5) <= BUDGET.epsilon);
        assert!(ledger.epsilon_with_reservations(1e-5) > 0.0);
        assert_eq!(ledger.epsilon_spent(1e-5), 0.0, "what is reserved is not spent");
        let refused = ledger.can_open(&round(2_000_000), BUDGET).expect_err("nothing is left");
        assert!(matches!(refused, BudgetError::Exhausted { would_be, .. } if would_be > 1.0));
        ledger.lapse(key(0));
        ledger.can_open(&round(2_000_000), BUDGET).expect("room for one again");
        assert_eq!(ledger.spend(key(0)), Err(BudgetError::NotReserved { counter: 0 }));
        ledger.can_open(&round(1_000), BUDGET).expect_err("too little noise");
    }

    #[test]
    fn a_curve_of_other_orders_or_of_no_noise_is_refused() {
        let mut ledger = Ledger::default();
        let other = RdpCurve::zero(&[2, 3]).expect("rising");
        assert_eq!(ledger.epsilon_with(&other, 1e-5), f64::INFINITY);
        let refused = ledger.reserve(key(1), other, BUDGET).expect_err("other orders");
        assert_eq!(refused, BudgetError::Curve(CurveError::OtherOrders));
        assert!(ledger.reserve(key(1), round(0), BUDGET).is_err());
        for (epsilon, delta) in [(0.0, 1e-5), (f64::NAN, 1e-5), (1.0, 0.0), (1.0, f64::NAN)] {
            ledger.can_open(&round(1_000_000), Budget { epsilon, delta }).expect_err("no budget");
        }
        let boundless = Budget { epsilon: f64::INFINITY, delta: 1e-5 };
        ledger.can_open(&round(0), boundless).expect_err("nothing bounds a round without noise");
    }

    fn some_ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for counter in [3, 1, 2, 300] {
            ledger.reserve(key(counter), round(100_000_000), BUDGET).expect("within the budget");
        }
        ledger.spend(key(2)).expect("reserved");
        ledger.spend(key(300)).expect("reserved");
        ledger
    }

    #[test]
    fn a_ledger_survives_its_bytes_and_no_others() {
        let bytes = some_ledger().encode();
        assert_eq!(Ledger::decode(&bytes), Ok(some_ledger()));
        for end in 0..bytes.len() {
            assert_eq!(Ledger::decode(&bytes[..end]), Err(BudgetError::Encoding));
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Ledger::decode(&longer), Err(BudgetError::Encoding));
    }

    proptest! {
        /// Whatever decodes is written in no other way, and nothing panics.
        #[test]
        fn decoding_is_canonical(position: prop::sample::Index, byte: u8) {
            let mut bytes = some_ledger().encode();
            let at = position.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = Ledger::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }
    }
}
