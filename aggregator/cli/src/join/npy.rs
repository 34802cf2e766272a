//! NumPy's `.npy`: one vector of floats in, one out. Its format is numpy.lib.format's, versions 1 to 3.
//!
//! ```text
//! "\x93NUMPY", major u8, minor u8, header length u16 (version 1) or u32, header, values
//! header = {'descr': '<f4', 'fortran_order': False, 'shape': (1862,), }, padded with spaces, "\n"
//! ```
//! Strict on purpose: what is read here is masked and cannot be looked at afterwards. So whatever is not a vector of
//! little-endian floats is refused with what came, and how to save it; nothing is converted silently but f64 to f32.

use anyhow::{Result, bail, ensure};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// A header longer than this is none.
const HEADER_MAX: usize = 64 * 1024;

/// The values of a vector, as 64-bit floats, and its type in NumPy's words.
pub fn read(bytes: &[u8]) -> Result<(Vec<f64>, &'static str)> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        bail!("a .npy file was expected, which begins with \"\\x93NUMPY\"; write one with numpy.save");
    };
    let (header, data) = split_header(rest)?;
    let Header { descr, shape } = Header::parse(header)?;
    let [len] = shape[..] else {
        let shape = in_numpy(&shape);
        bail!("one dimension was expected, the array has shape {shape}; save it with numpy.save(file, update.ravel())");
    };
    let (width, name) = match descr.as_str() {
        "<f4" => (4, "float32"),
        "<f8" => (8, "float64"),
        other => bail!(
            "little-endian 32- or 64-bit floats were expected ('<f4' or '<f8'), the array holds '{other}'; save it with \
             numpy.save(file, update.astype('<f4'))"
        ),
    };
    let expected = len.checked_mul(width);
    ensure!(
        expected == Some(data.len()),
        "{len} values of {width} bytes were expected after the header, {} bytes came; the file was cut or is not whole",
        data.len()
    );
    let values = match width {
        4 => data.as_chunks::<4>().0.iter().map(|value| f64::from(f32::from_le_bytes(*value))).collect(),
        _ => data.as_chunks::<8>().0.iter().map(|value| f64::from_le_bytes(*value)).collect(),
    };
    Ok((values, name))
}

/// A vector of 32-bit floats as NumPy would write it, version 1.
pub fn write(values: &[f32]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", values.len());
    // NumPy pads so that the values begin at a multiple of 64.
    let before = MAGIC.len() + 4;
    let padded = (before + header.len() + 1).next_multiple_of(64) - before - 1;
    header.push_str(&" ".repeat(padded - header.len()));
    header.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend(u16::try_from(header.len()).expect("a short header").to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// Header and values of what follows the magic bytes.
fn split_header(rest: &[u8]) -> Result<(&str, &[u8])> {
    let cut = || anyhow::anyhow!("the file ends within its header; it was cut");
    let (version, rest) = rest.split_at_checked(2).ok_or_else(cut)?;
    let (len, rest) = match version[0] {
        1 => {
            let (len, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
            (usize::from(u16::from_le_bytes(*len)), rest)
        }
        2 | 3 => {
            let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
            (usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX), rest)
        }
        other => bail!("version 1, 2 or 3 of the format was expected, version {other} came"),
    };
    ensure!(len <= HEADER_MAX, "a header of at most {HEADER_MAX} bytes was expected, one of {len} is announced");
    let (header, data) = rest.split_at_checked(len).ok_or_else(cut)?;
    Ok((std::str::from_utf8(header).map_err(|_| anyhow::anyhow!("the header should be text"))?, data))
}

/// A shape as NumPy prints it.
fn in_numpy(shape: &[usize]) -> String {
    let numbers: Vec<String> = shape.iter().map(usize::to_string).collect();
    if let [one] = &numbers[..] { format!("({one},)") } else { format!("({})", numbers.join(", ")) }
}

/// What the dictionary of a header says. Of one dimension there is only one order.
struct Header {
    descr: String,
    shape: Vec<usize>,
}

impl Header {
    /// Reads the one dictionary that numpy.save writes: these three keys, in any order.
    fn parse(text: &str) -> Result<Self> {
        let mut rest = Rest(text.trim_end());
        let (mut descr, mut order, mut shape) = (None, None, None);
        rest.expect('{')?;
        while !rest.took('}') {
            let key = rest.quoted()?;
            rest.expect(':')?;
            match key.as_str() {
                "descr" if rest.is_at('[') => {
                    bail!("plain floats were expected, the array has named fields; save one field's values")
                }
                "descr" => descr = Some(rest.quoted()?),
                "fortran_order" => order = Some(rest.boolean()?),
                "shape" => shape = Some(rest.tuple()?),
                other => bail!("the header has an unknown key '{other}'"),
            }
            if !rest.took(',') {
                rest.expect('}')?;
                break;
            }
        }
        ensure!(rest.0.trim().is_empty(), "something follows the header's dictionary");
        match (descr, order, shape) {
            (Some(descr), Some(_), Some(shape)) => Ok(Self { descr, shape }),
            _ => bail!("the header should have the keys 'descr', 'fortran_order' and 'shape'"),
        }
    }
}

/// What is still to be read of a header.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn is_at(&self, wanted: char) -> bool {
        self.0.trim_start().starts_with(wanted)
    }

    fn took(&mut self, wanted: char) -> bool {
        let Some(rest) = self.0.trim_start().strip_prefix(wanted) else { return false };
        self.0 = rest;
        true
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        ensure!(self.took(wanted), "'{wanted}' was expected in the header");
        Ok(())
    }

    fn quoted(&mut self) -> Result<String> {
        let quote = if self.took('\'') { '\'' } else { '"' };
        if quote == '"' {
            self.expect('"')?;
        }
        let (text, rest) =
            self.0.split_once(quote).ok_or_else(|| anyhow::anyhow!("a text in the header does not end"))?;
        ensure!(!text.contains('\\'), "a text in the header has an escape");
        let text = text.to_string();
        self.0 = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool> {
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.0.trim_start().strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        bail!("'fortran_order' should be True or False")
    }

    fn tuple(&mut self) -> Result<Vec<usize>> {
        self.expect('(')?;
        let mut numbers = Vec::new();
        while !self.took(')') {
            let text = self.0.trim_start();
            let end = text.find(|next: char| !next.is_ascii_digit()).unwrap_or(text.len());
            let number = text[..end].parse().map_err(|_| anyhow::anyhow!("'shape' should be a tuple of numbers"))?;
            numbers.push(number);
            self.0 = &text[end..];
            if !self.took(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this header and these bytes, version 1.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let len = (header.len() as u16).to_le_bytes();
        [MAGIC.as_slice(), &[1, 0], &len, header.as_bytes(), data].concat()
    }

    fn refused(bytes: &[u8]) -> String {
        read(bytes).expect_err("refused").to_string()
    }

    /// NumPy 2.4: numpy.save(f, numpy.array([1.5, -2.0], '<f4')), byte for byte.
    #[test]
    fn what_is_written_is_what_numpy_writes() {
        let mut expected = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }".to_vec();
        expected.resize(127, b' ');
        expected.push(b'\n');
        expected.extend([0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0]);
        assert_eq!(write(&[1.5, -2.0]), expected);
        assert_eq!(read(&expected).expect("as written"), (vec![1.5, -2.0], "float32"));
    }

    #[test]
    fn both_widths_and_all_versions_are_read() {
        let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }  \n";
        assert_eq!(read(&file(header, &0.1_f64.to_le_bytes())).expect("whole"), (vec![0.1], "float64"));
        let shuffled = "{\"shape\": (1,), 'descr': '<f4', 'fortran_order': True}\n";
        for major in [2, 3] {
            let len = (shuffled.len() as u32).to_le_bytes();
            let bytes = [MAGIC.as_slice(), &[major, 0], &len, shuffled.as_bytes(), &2_f32.to_le_bytes()].concat();
            assert_eq!(read(&bytes).expect("whole"), (vec![2.0], "float32"));
        }
    }

    #[test]
    fn another_type_or_shape_is_named_with_the_way_to_save_it() {
        let with = |descr: &str, shape: &str| {
            file(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"), &[0; 8])
        };
        assert!(refused(&with("'<i8'", "(1,)")).contains("holds '<i8'"));
        assert!(refused(&with("'>f8'", "(1,)")).contains("astype('<f4')"));
        assert!(
            refused(&with("'<f4'", "(2, 1)")).contains("shape (2, 1); save it with numpy.save(file, update.ravel())")
        );
        assert!(refused(&with("'<f4'", "()")).contains("shape ()"));
        assert!(refused(&with("[('w', '<f4')]", "(2,)")).contains("named fields"));
        assert!(refused(&with("'<f4'", "(3,)")).contains("3 values of 4 bytes were expected"));
        assert!(refused(&with("'<f4'", "(1,)")).contains("8 bytes came"));
        assert!(refused(&with("'<f8'", "(18446744073709551615,)")).contains("were expected after the header"));
        assert!(refused(&with("'<f8'", "(99999999999999999999999,)")).contains("tuple of numbers"));
    }

    /// Whatever the bytes, an answer comes back.
    #[test]
    fn cut_and_altered_files_are_refused_without_panic() {
        let whole = write(&[1.0; 5]);
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() - 20 {
            for bit in 0..8 {
                let mut altered = whole.clone();
                altered[at] ^= 1 << bit;
                let _ = read(&altered); // a digit of the minor version or a space may change unseen
            }
        }
        assert!(refused(b"PK\x03\x04").contains("numpy.save"));
    }
}
