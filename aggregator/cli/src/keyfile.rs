//! Files that hold one secret: 64 hexadecimal digits, readable by their owner only.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Writes a new secret; never over an old one.
pub fn write(path: &Path, secret: &[u8; 32]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write a new key file at {}", path.display()))?;
    writeln!(file, "{}", hex::encode(secret))?;
    file.sync_all()?;
    Ok(())
}

/// Reads a secret; refuses a file that others can read.
pub fn read(path: &Path) -> Result<[u8; 32]> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the key file {}", path.display()))?;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("{} can be read by others (mode {:o}); run `chmod 600` on it", path.display(), mode & 0o777);
    }
    let mut secret = [0; 32];
    hex::decode_to_slice(text.trim_end(), &mut secret)
        .with_context(|| format!("{} must hold 64 hexadecimal digits and nothing else", path.display()))?;
    Ok(secret)
}

/// Reads a secret, or makes one.
pub fn read_or_make(path: &Path) -> Result<[u8; 32]> {
    if path.exists() {
        return read(path);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).context("the operating system gives no randomness")?;
    write(path, &secret)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_made_once_and_refused_when_others_can_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys/service.key");
        let made = read_or_make(&path).expect("made");
        assert_eq!(read_or_make(&path).expect("read"), made);
        assert!(write(&path, &made).is_err(), "never over an old one");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("ours");
        assert!(read(&path).expect_err("others can read it").to_string().contains("chmod 600"));
    }
}
