//! The update of `veilsum join`: floats from a file, looked at whole before anything is sent.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use safetensors::{Dtype, SafeTensors};
use veilsum_client::LocalWork;
use veilsum_client::participant::Trained;
use veilsum_crypto::messages::Header;
use veilsum_crypto::update::ModelUpdate;
use zeroize::Zeroizing;

use super::npy;
use crate::exit::Ends as _;

/// No task has longer vectors; the file's own header comes on top.
const FILE_BYTES_MAX: u64 = (8 << 28) + (1 << 20);

/// A vector from a file. Secret: it is the client's data.
pub struct Vector {
    values: Zeroizing<Vec<f32>>,
    /// What the file holds, for errors: `update.npy (float64[1862])`.
    described: String,
    weight: Option<f32>,
}

impl Vector {
    /// Reads `.npy` or `.safetensors`, by the name's end. Of several tensors all are taken, one behind the other in the order
    /// of their names, or the one that is named.
    pub fn read(path: &Path, tensor: Option<&str>, weight: Option<f32>) -> Result<Self> {
        Self::from_file(path, tensor, weight).with_context(|| format!("{}", path.display())).or_usage()
    }

    fn from_file(path: &Path, tensor: Option<&str>, weight: Option<f32>) -> Result<Self> {
        let bytes_len = std::fs::metadata(path).context("the update cannot be read")?.len();
        ensure!(bytes_len <= FILE_BYTES_MAX, "at most {FILE_BYTES_MAX} bytes were expected, {bytes_len} came");
        let bytes = Zeroizing::new(std::fs::read(path).context("the update cannot be read")?);
        let (values, kind) = match path.extension().and_then(|end| end.to_str()) {
            Some("npy") => {
                ensure!(tensor.is_none(), "a .npy file has no names in it; leave --tensor out");
                let (values, kind) = npy::read(&bytes)?;
                (Zeroizing::new(values), kind.to_string())
            }
            Some("safetensors") => from_tensors(&bytes, tensor)?,
            _ => bail!("a file whose name ends in .npy or .safetensors was expected; save the update as one of them"),
        };
        let values = narrowed(&values)?;
        let described = format!("{} ({kind}[{}])", path.display(), values.len());
        Ok(Self { values, described, weight })
    }

    /// How it is called in words.
    pub fn described(&self) -> &str {
        &self.described
    }
}

/// All tensors by name, or one.
fn from_tensors(bytes: &[u8], tensor: Option<&str>) -> Result<(Zeroizing<Vec<f64>>, String)> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| anyhow!("a safetensors file was expected, it is not one or was cut: {error}"))?;
    let mut tensors = file.tensors();
    tensors.sort_by(|(one, _), (other, _)| one.cmp(other));
    if let Some(wanted) = tensor {
        let names = tensors.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        tensors.retain(|(name, _)| name == wanted);
        ensure!(!tensors.is_empty(), "a tensor \"{wanted}\" was expected; there are: {names}");
    }
    let mut values = Zeroizing::new(Vec::with_capacity(tensors.iter().map(|(_, view)| view.data().len() / 4).sum()));
    for (name, view) in &tensors {
        match view.dtype() {
            Dtype::F32 => {
                values.extend(view.data().as_chunks::<4>().0.iter().map(|value| f64::from(f32::from_le_bytes(*value))));
            }
            Dtype::F64 => values.extend(view.data().as_chunks::<8>().0.iter().map(|value| f64::from_le_bytes(*value))),
            other => bail!(
                "tensor \"{name}\" should hold F32 or F64, it holds {other:?}; convert it, or choose another with --tensor"
            ),
        }
    }
    let kind = match &tensors[..] {
        [(name, view)] => format!("\"{name}\", {:?}", view.dtype()),
        several => format!("{} tensors by name, ", several.len()),
    };
    Ok((values, kind))
}

/// As the protocol takes them: 32-bit floats, all finite. A NaN passes every comparison of norms.
fn narrowed(values: &[f64]) -> Result<Zeroizing<Vec<f32>>> {
    ensure!(!values.is_empty(), "at least one value was expected, the file has none");
    let mut narrow = Zeroizing::new(Vec::with_capacity(values.len()));
    for (index, value) in values.iter().enumerate() {
        let narrowed = *value as f32;
        ensure!(
            !value.is_nan(),
            "finite values were expected, value {index} is NaN; training diverged, most likely: do not send this update"
        );
        ensure!(
            narrowed.is_finite(),
            "values that fit 32-bit floats were expected, value {index} is beyond them or infinite; do not send this update"
        );
        narrow.push(narrowed);
    }
    Ok(narrow)
}

impl LocalWork for Vector {
    fn suits(&mut self, header: &Header) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let params = &header.params;
        let weighted = usize::from(params.weight_max > 0);
        let (expected, found) = (params.vector_len as usize - weighted, self.values.len());
        if found != expected {
            let words = "give the whole update of this task's model, tensor by tensor in the order of its layout";
            return Err(
                format!("the task's model has {expected} values, {} has {found}; {words}", self.described).into()
            );
        }
        match (params.weight_max, self.weight) {
            (0, Some(_)) => Err("the task counts every client the same; leave --weight out".into()),
            (max, Some(weight)) if !(weight > 0.0 && f64::from(weight) <= f64::from(max)) => {
                Err(format!("a weight above 0 and at most {max} was expected, --weight is {weight}").into())
            }
            _ => Ok(()),
        }
    }

    fn train(&mut self, header: &Header, _model: &[u8]) -> Trained {
        let update = ModelUpdate::new(self.values.to_vec())?;
        match header.params.weight_max {
            0 => Ok(update),
            weight_max => Ok(update.with_weight(self.weight.unwrap_or(1.0), weight_max)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use safetensors::tensor::TensorView;

    use super::*;
    use crate::exit::{Code, code_of};

    fn refused(path: &Path, tensor: Option<&str>) -> String {
        let error = Vector::read(path, tensor, None).err().expect("refused");
        assert_eq!(code_of(&error), Code::Usage);
        format!("{error:#}")
    }

    fn safetensors(path: &Path, tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) {
        let views: BTreeMap<&str, TensorView<'_>> = tensors
            .iter()
            .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).expect("in form")))
            .collect();
        std::fs::write(path, safetensors::serialize(views, None).expect("in form")).expect("room");
    }

    #[test]
    fn tensors_stand_one_behind_the_other_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("update.safetensors");
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        safetensors(
            &path,
            &[
                ("b.weight", Dtype::F32, vec![2, 1], floats(&[3.0, 4.0])),
                ("a.bias", Dtype::F32, vec![1], floats(&[1.0])),
                ("a.weight", Dtype::F64, vec![1, 1], 2_f64.to_le_bytes().to_vec()),
            ],
        );
        assert_eq!(*Vector::read(&path, None, None).expect("whole").values, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(*Vector::read(&path, Some("b.weight"), None).expect("one").values, [3.0, 4.0]);
        assert!(refused(&path, Some("c")).contains("there are: a.bias, a.weight, b.weight"));
        safetensors(&path, &[("ids", Dtype::I64, vec![1], vec![0; 8])]);
        assert!(refused(&path, None).contains("\"ids\" should hold F32 or F64, it holds I64"));
        std::fs::write(&path, b"no tensors").expect("room");
        assert!(refused(&path, None).contains("was cut"));
    }

    #[test]
    fn what_cannot_be_an_update_is_refused_with_where_and_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for (value, words) in [(f32::NAN, "value 1 is NaN"), (f32::INFINITY, "value 1 is beyond them or infinite")] {
            std::fs::write(path("bad.npy"), npy::write(&[0.0, value])).expect("room");
            assert!(refused(&path("bad.npy"), None).contains(words));
        }
        let huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }";
        let bytes = [b"\x93NUMPY\x01\x00".as_slice(), &[huge.len() as u8, 0], huge, &1e300_f64.to_le_bytes()].concat();
        std::fs::write(path("huge.npy"), bytes).expect("room");
        assert!(refused(&path("huge.npy"), None).contains("value 0 is beyond them"));
        std::fs::write(path("none.npy"), npy::write(&[])).expect("room");
        assert!(refused(&path("none.npy"), None).contains("at least one value"));
        std::fs::write(path("update.csv"), b"1,2").expect("room");
        assert!(refused(&path("update.csv"), None).contains("safetensors was expected"));
        assert!(refused(&path("absent.npy"), None).contains("cannot be read"));
        assert!(refused(&path("none.npy"), Some("x")).contains("leave --tensor out"));
    }
}
