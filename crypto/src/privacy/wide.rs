//! Numbers of 256 bits, as far as the tables of noise need them. Public values only: nothing here takes constant time.

/// An unsigned number of 256 bits, lowest limb first.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limbs(pub(crate) [u64; 4]);

impl Limbs {
    /// The sum, which fits.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let (mut sum, mut carry) = (Self::default(), false);
        for ((limb, &a), &b) in sum.0.iter_mut().zip(&self.0).zip(&other.0) {
            (*limb, carry) = a.carrying_add(b, carry);
        }
        debug_assert!(!carry);
        sum
    }

    /// The product, which fits.
    pub(crate) fn times(&self, factor: u64) -> Self {
        let (mut product, mut carry) = (Self::default(), 0);
        for (limb, &a) in product.0.iter_mut().zip(&self.0) {
            (*limb, carry) = a.carrying_mul(factor, carry);
        }
        debug_assert_eq!(carry, 0);
        product
    }

    /// `floor(self factor / divisor)`, which fits.
    pub(crate) fn times_over(&self, factor: u128, divisor: u64) -> Self {
        let mut product = [0_u64; 6];
        for (j, b) in [factor as u64, (factor >> 64) as u64].into_iter().enumerate() {
            let mut carry = 0;
            for (i, &a) in self.0.iter().enumerate() {
                (product[i + j], carry) = a.carrying_mul_add(b, product[i + j], carry);
            }
            product[j + 4] = carry;
        }
        let mut rest = 0_u128;
        for limb in product.iter_mut().rev() {
            let dividend = rest << 64 | u128::from(*limb);
            *limb = (dividend / u128::from(divisor)) as u64; // the rest is below the divisor
            rest = dividend % u128::from(divisor);
        }
        debug_assert_eq!(product[4..], [0, 0]);
        Self([product[0], product[1], product[2], product[3]])
    }

    pub(crate) fn divided_by(&self, divisor: u64) -> Self {
        let (mut quotient, mut rest) = (Self::default(), 0_u128);
        for (limb, &a) in quotient.0.iter_mut().zip(&self.0).rev() {
            let dividend = rest << 64 | u128::from(a);
            *limb = (dividend / u128::from(divisor)) as u64; // the rest is below the divisor
            rest = dividend % u128::from(divisor);
        }
        quotient
    }

    pub(crate) fn without_lowest_limb(&self) -> Self {
        Self([self.0[1], self.0[2], self.0[3], 0])
    }

    /// The number of bits in use.
    pub(crate) fn bits(&self) -> u32 {
        let used = self.0.iter().rposition(|&limb| limb != 0);
        used.map_or(0, |i| 64 * i as u32 + u64::BITS - self.0[i].leading_zeros())
    }

    /// The product with 2^bits, which fits; `bits` below 64.
    pub(crate) fn shifted_left(&self, bits: u32) -> Self {
        self.times(1 << bits)
    }

    /// Drops the lowest `bits`; the rest fits 128 bits.
    pub(crate) fn shifted_right(&self, bits: u32) -> u128 {
        let (limbs, bits) = (bits as usize / 64, bits % 64);
        let limb = |i: usize| u128::from(self.0.get(limbs + i).copied().unwrap_or(0));
        let low = limb(0) | limb(1) << 64;
        if bits == 0 { low } else { low >> bits | limb(2) << (128 - bits) }
    }

    /// The difference, which is not negative.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let (mut difference, mut borrow) = (Self::default(), false);
        for ((limb, &a), &b) in difference.0.iter_mut().zip(&self.0).zip(&other.0) {
            (*limb, borrow) = a.borrowing_sub(b, borrow);
        }
        debug_assert!(!borrow);
        difference
    }

    /// The product of two numbers in units of 2^-192, in the same units, rounded down. It fits.
    pub(crate) fn times_fraction(&self, other: &Self) -> Self {
        let mut product = [0_u64; 8];
        for (i, &a) in self.0.iter().enumerate() {
            let mut carry = 0;
            for (j, &b) in other.0.iter().enumerate() {
                (product[i + j], carry) = a.carrying_mul_add(b, product[i + j], carry);
            }
            product[i + 4] = carry;
        }
        debug_assert_eq!(product[7], 0);
        Self([product[3], product[4], product[5], product[6]])
    }
}

/// One, in units of 2^-192.
pub(crate) const ONE: Limbs = Limbs([0, 0, 0, 1]);

/// `exp(-dividend/divisor)` in units of 2^-192, to 2^-170 of one.
pub(crate) fn exp_minus(dividend: u64, divisor: u64) -> Limbs {
    let (whole, rest) = (dividend / divisor, dividend % divisor);
    if whole > 140 {
        return Limbs::default(); // below 2^-201
    }
    let mut power = exp_fraction(&Limbs([0, 0, 0, rest]).divided_by(divisor), true);
    let per_one = exp_fraction(&ONE, true);
    for _ in 0..whole {
        power = power.times_fraction(&per_one);
    }
    power
}

/// `exp(-x)`, or `exp(x)` unless `minus`, for `0 <= x <= 1`: Taylor's series of `x/256`, squared eight times.
pub(crate) fn exp_fraction(x: &Limbs, minus: bool) -> Limbs {
    let x = x.divided_by(256);
    let (mut even, mut odd, mut term) = (Limbs::default(), Limbs::default(), ONE);
    let mut n = 0;
    while term.bits() > 0 {
        if n % 2 == 0 {
            even = even.plus(&term)
        } else {
            odd = odd.plus(&term)
        }
        n += 1;
        term = term.times_fraction(&x).divided_by(n);
    }
    let mut power = if minus { even.minus(&odd) } else { even.plus(&odd) };
    for _ in 0..8 {
        power = power.times_fraction(&power);
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_f64(x: &Limbs) -> f64 {
        x.0.iter().rev().fold(0.0, |sum, &limb| sum * 2.0_f64.powi(64) + limb as f64) / 2.0_f64.powi(192)
    }

    #[test]
    fn exponentials_are_those_of_f64_and_multiply() {
        for (dividend, divisor) in [(0, 1), (1, 1), (1, 3), (123_456, 789), (1, u64::MAX), (100, 1), (1 << 40, 1 << 38)]
        {
            let got = to_f64(&exp_minus(dividend, divisor));
            let expected = libm::exp(-(dividend as f64) / divisor as f64);
            assert!((got - expected).abs() <= 1e-14 * expected + 1e-50, "{dividend}/{divisor}: {got} {expected}");
        }
        assert_eq!(exp_minus(141, 1).bits(), 0);
        // exp(-1/3)^3 = exp(-1) to 2^-170
        let third = exp_minus(1, 3);
        let cube = third.times_fraction(&third).times_fraction(&third);
        let one = exp_minus(1, 1);
        let apart = if cube.bits() > 0 && to_f64(&cube) >= to_f64(&one) { cube } else { one };
        let other = if to_f64(&cube) >= to_f64(&one) { one } else { cube };
        assert!(apart.minus(&other).bits() <= 22);
    }

    /// e^-1 with 50 digits, mpmath, as 192 bits.
    #[test]
    fn the_exponential_of_minus_one_is_exact() {
        assert_eq!(exp_minus(1, 1).0[1..], E_TO_MINUS_ONE);
    }

    const E_TO_MINUS_ONE: [u64; 3] = [0xbade_c782_9054_f90d, 0x5e2d_58d8_b3bc_df1a, 0];
}
