//! The language in which inputs say what to do: a cursor over bytes, and edits of valid messages.

/// What is left of an input. Beyond its end everything is zero, so that every input means something.
#[derive(Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// From the beginning.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next byte as an index below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    /// The next two bytes.
    pub fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// Up to `len` bytes, as many as there are.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        front
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// One of these.
    pub fn of<'b, T>(&mut self, choices: &'b [T]) -> &'b T {
        &choices[self.below(choices.len())]
    }
}

/// Up to four edits.
pub fn edit(bytes: &mut Vec<u8>, donors: &[&[u8]], input: &mut Input<'_>) {
    for _ in 0..input.below(5) {
        edit_once(bytes, donors, input);
    }
}

/// One edit. Donors are valid messages: parts of them are spliced in.
pub fn edit_once(bytes: &mut Vec<u8>, donors: &[&[u8]], input: &mut Input<'_>) {
    let kind = input.byte();
    let at = input.number() % (bytes.len() + 1);
    let at = if kind & 0x80 == 0 { at } else { bytes.len() - at };
    match kind % 10 {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= input.byte().max(1);
            }
        }
        1 => overwrite(bytes, at, &[input.byte()]),
        2 => overwrite(bytes, at, &input.array::<4>()),
        3 => overwrite(bytes, at, &LIMITS[input.below(LIMITS.len())].to_le_bytes()[..4 << (input.byte() & 1)]),
        4 => bytes.truncate(at),
        5 => {
            let len = input.below(80);
            let new = input.take(len);
            bytes.splice(at..at, new.iter().copied());
        }
        6 => {
            let end = (at + input.below(200)).min(bytes.len());
            bytes.drain(at..end);
        }
        7 => {
            let from = input.number() % (bytes.len() + 1);
            let copied = bytes[from..(from + input.below(200)).min(bytes.len())].to_vec();
            overwrite(bytes, at, &copied);
        }
        8 => {
            if !donors.is_empty() {
                let donor = *input.of(donors);
                let len = input.below(256).max(1);
                let from = if input.byte() & 1 == 0 { at } else { input.number() }.min(donor.len());
                overwrite(bytes, at, &donor[from..(from + len).min(donor.len())]);
            }
        }
        _ => {
            let end = (at + input.below(64)).min(bytes.len());
            bytes[at..end].fill(if input.byte() & 1 == 0 { 0 } else { 0xff });
        }
    }
}

/// Numbers at which checks turn.
const LIMITS: [u64; 14] = [0, 1, 2, 7, 8, 9, 255, 256, 16_384, 16_385, 0x7fff_ffff, 0xffff_ffff, 1 << 52, u64::MAX];

fn overwrite(bytes: &mut [u8], at: usize, new: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(new) {
        *byte = *new;
    }
}
