//! Files that hold one secret: 64 hexadecimal digits, readable by their owner only.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use zeroize::Zeroizing;

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
    if path.exists() { read(path) } else { make(path) }
}

/// Makes a secret where there is none.
pub fn make(path: &Path) -> Result<[u8; 32]> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).context("the operating system gives no randomness")?;
    write(path, &secret)?;
    Ok(secret)
}

/// Puts secrets, one in each line, in the place of what a file holds: whoever reads it, also after a crash, reads all of the old or
/// all of the new. The new file belongs to whom the old one does, and to nobody else.
pub fn replace(path: &Path, secrets: &[Zeroizing<String>]) -> Result<()> {
    let owner = std::fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    let mut name = path.file_name().context("a file has a name")?.to_os_string();
    name.push(".new");
    let new = path.with_file_name(name);
    let cannot = || format!("cannot write {}", new.display());
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(cannot),
        _ => {} // what an interrupted one left was never in force
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).with_context(cannot)?;
    for secret in secrets {
        file.write_all(secret.as_bytes()).with_context(cannot)?;
        file.write_all(b"\n").with_context(cannot)?;
    }
    std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid())).with_context(cannot)?;
    file.sync_all().with_context(cannot)?;
    std::fs::rename(&new, path).with_context(|| format!("cannot replace {}", path.display()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all().with_context(|| format!("cannot write down {}", folder.display()))
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
    #[test]
    fn a_replaced_file_is_whole_and_its_owners_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sealing.key");
        write(&path, &[1; 32]).expect("room");
        std::fs::write(folder.path().join("sealing.key.new"), "torn").expect("room"); // a crash left it
        let lines = [Zeroizing::new("second".to_string()), Zeroizing::new("first".to_string())];
        replace(&path, &lines).expect("room");
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "second\nfirst\n");
        assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 1);
    }
}
