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

    /// Drops the lowest `bits`; the rest fits 128 bits.
    pub(crate) fn shifted_right(&self, bits: u32) -> u128 {
        let (limbs, bits) = (bits as usize / 64, bits % 64);
        let limb = |i: usize| u128::from(self.0.get(limbs + i).copied().unwrap_or(0));
        let low = limb(0) | limb(1) << 64;
        if bits == 0 { low } else { low >> bits | limb(2) << (128 - bits) }
    }
}
