//! The two files a client is given: who it is, and what it joins.
//!
//! `identity.toml` is secret and written by the enrolment authority's tool for one client. `join.toml` is public: where
//! the aggregator is, which keys are pinned, and on what the client insists.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use veilsum_crypto::client::Policy;
use veilsum_crypto::client::policy::{AllowedModels, GammaBasis};
use veilsum_crypto::ids::{ClientId, Digest, TaskId};
use veilsum_crypto::messages::Certificate;
use veilsum_crypto::primitives::seal::SavingKey;
use veilsum_crypto::primitives::signature::{IdentityPublicKey, IdentitySecretKey};
use veilsum_crypto::privacy::Budget;
use zeroize::{Zeroize, Zeroizing};

const IDENTITY_FORMAT: &str = "veilsum-identity-1";
const JOIN_FORMAT: &str = "veilsum-join-1";
/// Both files are small; a policy that names models may be some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a file is refused. Each says what was expected, what came and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The operating system refuses.
    #[error("{what} {} failed: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read a secret.
    #[error(
        "{} holds secrets: only its owner may have access (0600), its mode is {mode:04o}; run `chmod 600` on it, and \
         enrol again if others could have read it", path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another kind of file, or another version.
    #[error("{} should say format = \"{expected}\"; it says {found}; get the file anew from the tool of this version", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// The format wanted.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// The right kind of file, but a field is wrong.
    #[error("{}: {problem}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Who a client is. Secret.
#[derive(Debug)]
pub struct Identity {
    pub(crate) secret: IdentitySecretKey,
    pub(crate) certificate: Certificate,
    saving_key: Box<Zeroizing<[u8; 32]>>, // at one place of the heap: moving it leaves no copy behind
}

#[derive(Serialize, Deserialize, Zeroize)]
#[serde(deny_unknown_fields)]
#[zeroize(drop)]
struct IdentityFile {
    format: String,
    client: String,
    secret_seed: String,
    certificate: String,
    saving_key: String,
}

impl Identity {
    /// Puts an identity together; `None` if the certificate is for another key. `saving_key` seals the client's state:
    /// 32 random bytes, made once.
    pub fn new(secret: IdentitySecretKey, certificate: Certificate, saving_key: [u8; 32]) -> Option<Self> {
        let saving_key = Box::new(Zeroizing::new(saving_key));
        (secret.public() == certificate.body().identity).then_some(Self { secret, certificate, saving_key })
    }

    /// The client's id, as the authority named it.
    pub fn client(&self) -> ClientId {
        self.certificate.body().client
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(crate) fn saving_key(&self) -> SavingKey {
        SavingKey::from_bytes(**self.saving_key)
    }

    /// Reads `identity.toml`.
    ///
    /// # Errors
    /// [`ConfigError`]; [`ConfigError::Exposed`] if others than the owner may read it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path, refuse_exposed)?;
        let file: IdentityFile = parse(path, &text, IDENTITY_FORMAT)?;
        let problem = content(path);
        let seed = Zeroizing::new(bytes_32("secret_seed", &file.secret_seed).map_err(&problem)?);
        let saving_key = Zeroizing::new(bytes_32("saving_key", &file.saving_key).map_err(&problem)?);
        let certificate = hex::decode(&file.certificate)
            .map_err(|error| format!("certificate should be hexadecimal: {error}; enrol again"))
            .and_then(|bytes| {
                Certificate::decode(&bytes).map_err(|error| format!("certificate is none: {error}; enrol again"))
            })
            .map_err(&problem)?;
        if ClientId::from_hex(&file.client) != Some(certificate.body().client) {
            let expected = certificate.body().client;
            return Err(problem(format!(
                "client should be {expected}, as in the certificate; it is \"{}\"",
                file.client
            )));
        }
        Self::new(IdentitySecretKey::from_bytes(&seed), certificate, *saving_key)
            .ok_or_else(|| problem("secret_seed is not that of the key in the certificate; enrol again".to_string()))
    }

    /// The same client under a new certificate, with its keys and the key of its saved state: ledger and counters go on.
    /// `None` if the certificate is for another client or key. R-36
    pub fn renewed(self, certificate: Certificate) -> Option<Self> {
        let is_same = certificate.body().client == self.client()
            && certificate.body().identity == self.certificate.body().identity;
        is_same.then_some(Self { certificate, ..self })
    }

    /// The same client under new keys, with the key of its saved state: what its data cost stays on the books. `None` if the
    /// certificate is for another client, or not for this key. R-36
    pub fn succeeded_by(self, secret: IdentitySecretKey, certificate: Certificate) -> Option<Self> {
        let body = certificate.body();
        let is_meant = body.client == self.client() && body.identity == secret.public();
        is_meant.then_some(Self { secret, certificate, ..self })
    }

    /// Writes `identity.toml` for its owner only; refuses to replace a file.
    ///
    /// # Errors
    /// [`ConfigError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), ConfigError> {
        let file = IdentityFile {
            format: IDENTITY_FORMAT.to_string(),
            client: self.client().to_string(),
            secret_seed: hex::encode(*self.secret.to_bytes()),
            certificate: hex::encode(self.certificate.encode()),
            saving_key: hex::encode(self.saving_key.as_slice()),
        };
        let text = Zeroizing::new(toml::to_string(&file).map_err(|error| content(path)(error.to_string()))?);
        write_new(path, &text)
    }
}

/// What a client joins, and on what it insists. Public, but it pins keys: get it over a channel you trust.
#[derive(Clone, PartialEq, Debug)]
pub struct Join {
    /// Address of the aggregator, for the transport.
    pub server: String,
    /// Certificates (PEM) to believe over TLS instead of the system's. A relative path is meant from the file's folder.
    pub ca_file: Option<PathBuf>,
    /// Which task.
    pub task: TaskId,
    /// Floors, ceilings and pinned keys.
    pub policy: Policy,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinFile {
    format: String,
    server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    task: String,
    aggregator_key: String,
    authority_key: String,
    #[serde(default)]
    policy: PolicyFile,
}

/// Every field is optional: what is absent is as [`Policy::new`] has it. Names are those of [`Policy`].
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PolicyFile {
    cohort_min: Option<u32>,
    corrupt_fraction_min: Option<u32>,
    dropout_tolerance_max: Option<u32>,
    security_bits_min: Option<u16>,
    completion_bits_min: Option<u16>,
    noise_multiplier_min: Option<f64>,
    wrap_bits_min: Option<u8>,
    clip_norm_max: Option<f64>,
    dp_delta_max: Option<f64>,
    budget_epsilon: Option<f64>,
    budget_delta: Option<f64>,
    layout: Option<String>,
    models: Option<Vec<String>>,
    clock_apart_max_s: Option<u64>,
    roster_deadline_ms: Option<u64>,
    window_max_s: Option<u64>,
    rounds_max: Option<u64>,
    rounds_apart_min: Option<u64>,
    group: Option<GroupFile>,
}

/// The roster must cover a certified group; absent, gamma is assumed per roster.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupFile {
    coverage_min: u32,
    corrupt_of_group: u32,
}

impl Join {
    /// Joins a task under the default policy.
    pub fn new(server: &str, task: TaskId, aggregator: IdentityPublicKey, authority: IdentityPublicKey) -> Self {
        Self { server: server.to_string(), ca_file: None, task, policy: Policy::new(aggregator, authority) }
    }

    /// Reads `join.toml`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path, |_, _| Ok(()))?;
        let file: JoinFile = parse(path, &text, JOIN_FORMAT)?;
        let mut join = Self::from_file(file).map_err(content(path))?;
        join.ca_file = join.ca_file.map(|file| path.with_file_name(file)); // an absolute one stays as it is
        Ok(join)
    }

    fn from_file(file: JoinFile) -> Result<Self, String> {
        let task = TaskId::from_hex(&file.task)
            .ok_or_else(|| format!("task should be 32 lower-case hexadecimal digits; it is \"{}\"", file.task))?;
        let aggregator = public_key("aggregator_key", &file.aggregator_key)?;
        let authority = public_key("authority_key", &file.authority_key)?;
        let policy = file.policy.over(Policy::new(aggregator, authority))?;
        Ok(Self { server: file.server, ca_file: file.ca_file, task, policy })
    }

    /// Writes `join.toml`, with every floor spelt out; refuses to replace a file.
    ///
    /// # Errors
    /// [`ConfigError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), ConfigError> {
        let file = JoinFile {
            format: JOIN_FORMAT.to_string(),
            server: self.server.clone(),
            ca_file: self.ca_file.clone(),
            task: self.task.to_string(),
            aggregator_key: hex::encode(self.policy.aggregator.as_bytes()),
            authority_key: hex::encode(self.policy.authority.as_bytes()),
            policy: PolicyFile::of(&self.policy),
        };
        write_new(path, &toml::to_string(&file).map_err(|error| content(path)(error.to_string()))?)
    }
}

impl PolicyFile {
    fn over(self, base: Policy) -> Result<Policy, String> {
        let budget = Budget {
            epsilon: positive("budget_epsilon", self.budget_epsilon.unwrap_or(base.budget.epsilon))?,
            delta: positive("budget_delta", self.budget_delta.unwrap_or(base.budget.delta))?,
        };
        let layout = self.layout.map(|text| digest("layout", &text)).transpose()?;
        let models = match self.models {
            None => base.models,
            Some(hashes) => {
                let hashes: Result<BTreeSet<_>, _> = hashes.iter().map(|text| digest("models", text)).collect();
                AllowedModels::OneOf(hashes?)
            }
        };
        let gamma = self.group.map_or(base.gamma, |GroupFile { coverage_min, corrupt_of_group }| {
            GammaBasis::CertifiedGroup { coverage_min, corrupt_of_group }
        });
        Ok(Policy {
            cohort_min: self.cohort_min.unwrap_or(base.cohort_min),
            corrupt_fraction_min: self.corrupt_fraction_min.unwrap_or(base.corrupt_fraction_min),
            dropout_tolerance_max: self.dropout_tolerance_max.unwrap_or(base.dropout_tolerance_max),
            security_bits_min: self.security_bits_min.unwrap_or(base.security_bits_min),
            completion_bits_min: self.completion_bits_min.unwrap_or(base.completion_bits_min),
            noise_multiplier_min: not_negative(
                "noise_multiplier_min",
                self.noise_multiplier_min.unwrap_or(base.noise_multiplier_min),
            )?,
            wrap_bits_min: self.wrap_bits_min.unwrap_or(base.wrap_bits_min),
            clip_norm_max: positive("clip_norm_max", self.clip_norm_max.unwrap_or(base.clip_norm_max))?,
            dp_delta_max: positive("dp_delta_max", self.dp_delta_max.unwrap_or(base.dp_delta_max))?,
            clock_apart_max_s: self.clock_apart_max_s.unwrap_or(base.clock_apart_max_s),
            roster_deadline_ms: self.roster_deadline_ms.unwrap_or(base.roster_deadline_ms),
            window_max_s: counted("window_max_s", self.window_max_s.unwrap_or(base.window_max_s))?,
            rounds_max: self.rounds_max.map(|max| counted("rounds_max", max)).transpose()?.or(base.rounds_max),
            rounds_apart_min: counted("rounds_apart_min", self.rounds_apart_min.unwrap_or(base.rounds_apart_min))?,
            layout: layout.or(base.layout),
            budget,
            models,
            gamma,
            ..base
        })
    }

    fn of(policy: &Policy) -> Self {
        Self {
            cohort_min: Some(policy.cohort_min),
            corrupt_fraction_min: Some(policy.corrupt_fraction_min),
            dropout_tolerance_max: Some(policy.dropout_tolerance_max),
            security_bits_min: Some(policy.security_bits_min),
            completion_bits_min: Some(policy.completion_bits_min),
            noise_multiplier_min: Some(policy.noise_multiplier_min),
            wrap_bits_min: Some(policy.wrap_bits_min),
            clip_norm_max: Some(policy.clip_norm_max),
            dp_delta_max: Some(policy.dp_delta_max),
            budget_epsilon: Some(policy.budget.epsilon),
            budget_delta: Some(policy.budget.delta),
            layout: policy.layout.map(|layout| layout.to_string()),
            models: match &policy.models {
                AllowedModels::Any => None,
                AllowedModels::OneOf(models) => Some(models.iter().map(Digest::to_string).collect()),
            },
            clock_apart_max_s: Some(policy.clock_apart_max_s),
            roster_deadline_ms: Some(policy.roster_deadline_ms),
            window_max_s: Some(policy.window_max_s),
            rounds_max: policy.rounds_max,
            rounds_apart_min: (policy.rounds_apart_min > 1).then_some(policy.rounds_apart_min),
            group: match policy.gamma {
                GammaBasis::AssumedPerRoster => None,
                GammaBasis::CertifiedGroup { coverage_min, corrupt_of_group } => {
                    Some(GroupFile { coverage_min, corrupt_of_group })
                }
            },
        }
    }
}

fn content(path: &Path) -> impl Fn(String) -> ConfigError {
    move |problem| ConfigError::Content { path: path.to_path_buf(), problem }
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> ConfigError {
    move |source| ConfigError::Io { what, path: path.to_path_buf(), source }
}

/// `check` looks at the file that was opened, not at what may stand at its path a moment later.
fn read(path: &Path, check: fn(&Path, &File) -> Result<(), ConfigError>) -> Result<Zeroizing<String>, ConfigError> {
    let file = File::open(path).map_err(failed("opening", path))?;
    check(path, &file)?;
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed("reading", path))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(content(path)("the file is longer than 1 MiB; is it the right one?".to_string()));
    }
    Ok(text)
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, file: &File) -> Result<(), ConfigError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_err(failed("examining", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(ConfigError::Exposed { path: path.to_path_buf(), mode }) }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path, _: &File) -> Result<(), ConfigError> {
    Ok(()) // access lists are the platform's there
}

/// The format is judged before anything else: another version may have other fields.
fn parse<T: DeserializeOwned>(path: &Path, text: &str, expected: &'static str) -> Result<T, ConfigError> {
    #[derive(Deserialize)]
    struct Format {
        format: Option<toml::Value>,
    }
    // Of an error only its message: a whole one quotes the line, which may be a secret.
    let problem = |error: toml::de::Error| content(path)(error.message().to_string());
    match toml::from_str::<Format>(text).map_err(problem)?.format {
        Some(toml::Value::String(found)) if found == expected => toml::from_str(text).map_err(problem),
        found => {
            // A secret that slipped into this line stays out of the error, too: names of formats are short.
            let found = match found {
                None => "nothing".to_string(),
                Some(toml::Value::String(name)) if name.len() <= 24 && name.starts_with("veilsum-") => {
                    format!("\"{name}\"")
                }
                Some(_) => "something else".to_string(),
            };
            Err(ConfigError::Format { path: path.to_path_buf(), expected, found })
        }
    }
}

fn write_new(path: &Path, text: &str) -> Result<(), ConfigError> {
    let file = crate::saved::private(&mut OpenOptions::new()).create_new(true).open(path);
    let mut file = file.map_err(failed("creating", path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("writing", path))
}

/// Never prints what came: it may be a secret.
fn bytes_32(field: &str, text: &str) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| format!("{field} should be 64 hexadecimal digits; {} characters came", text.len()))?;
    Ok(bytes)
}

fn public_key(field: &str, text: &str) -> Result<IdentityPublicKey, String> {
    IdentityPublicKey::from_bytes(bytes_32(field, text)?).map_err(|error| format!("{field} is no Ed25519 key: {error}"))
}

fn digest(field: &str, text: &str) -> Result<Digest, String> {
    Digest::from_hex(text)
        .ok_or_else(|| format!("{field} should be 64 lower-case hexadecimal digits; it is \"{text}\""))
}

fn not_negative(field: &str, value: f64) -> Result<f64, String> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(format!("{field} should be 0 or more; it is {value}"))
    }
}

fn counted(field: &str, value: u64) -> Result<u64, String> {
    if value > 0 { Ok(value) } else { Err(format!("{field} should be 1 or more; it is 0")) }
}

fn positive(field: &str, value: f64) -> Result<f64, String> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(format!("{field} should be above 0; it is {value}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veilsum_crypto::testing::{TASK, World, small_params};

    fn identity() -> (Identity, World) {
        let world = World::new(small_params(3, 4));
        let member = &world.members[0];
        let secret = IdentitySecretKey::from_bytes(&member.identity.to_bytes());
        let identity = Identity::new(secret, member.certificate.clone(), [9; 32]).expect("its own key");
        (identity, world)
    }

    fn join(world: &World) -> Join {
        Join::new("http://127.0.0.1:7400", TASK, world.aggregator.public(), world.authority.public())
    }

    #[test]
    fn an_identity_is_read_as_it_was_written_and_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("identity.toml");
        let (identity, _) = identity();
        identity.write(&path).expect("room");
        let read = Identity::read(&path).expect("as written");
        assert_eq!(read.client(), identity.client());
        assert_eq!(read.secret.to_bytes(), identity.secret.to_bytes());
        assert_eq!(read.saving_key, identity.saving_key);
        assert!(matches!(identity.write(&path), Err(ConfigError::Io { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn an_identity_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("identity.toml");
        identity().0.write(&path).expect("room");
        for mode in [0o644, 0o640, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("ours");
            let refused = Identity::read(&path).expect_err("exposed");
            assert!(matches!(refused, ConfigError::Exposed { mode: found, .. } if found == mode), "{refused}");
        }
    }

    #[test]
    fn a_key_that_is_not_certified_is_refused() {
        let (_, world) = identity();
        let secret = IdentitySecretKey::from_bytes(&[1; 32]);
        assert!(Identity::new(secret, world.members[0].certificate.clone(), [9; 32]).is_none());
    }

    #[test]
    fn another_format_or_version_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("join.toml");
        for (text, found) in [
            ("format = \"veilsum-join-2\"\nnew = 1", "\"veilsum-join-2\""),
            ("server = \"x\"", "nothing"),
            ("format = \"5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e\"", "something else"),
            ("format = 7", "something else"),
        ] {
            std::fs::write(&path, text).expect("room");
            let refused = Join::read(&path).expect_err("another format");
            assert!(matches!(&refused, ConfigError::Format { found: it, .. } if it.contains(found)), "{refused}");
        }
    }

    /// A secret on a line that does not parse stays out of the error, and so out of logs.
    #[test]
    fn errors_quote_no_secrets() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("identity.toml");
        let (identity, _) = identity();
        identity.write(&path).expect("room");
        let seed = hex::encode(*identity.secret.to_bytes());
        let text = std::fs::read_to_string(&path).expect("ours");
        for broken in
            [text.replace(&format!("\"{seed}\""), &format!("\"{seed}\" x")), text.replace(&seed, &format!("{seed}0"))]
        {
            std::fs::write(&path, broken).expect("room");
            let refused = Identity::read(&path).expect_err("broken").to_string();
            assert!(!refused.contains(&seed), "the seed is in the error");
        }
    }

    #[test]
    fn every_floor_survives_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let (_, world) = identity();
        let mut join = join(&world);
        join.policy.cohort_min = 48;
        join.policy.noise_multiplier_min = 0.0;
        join.policy.budget = Budget { epsilon: 3.5, delta: 1e-6 };
        join.policy.layout = Some(Digest([2; 32]));
        join.policy.models = AllowedModels::OneOf([Digest([1; 32])].into());
        join.policy.gamma = GammaBasis::CertifiedGroup { coverage_min: 500_000, corrupt_of_group: 25_000 };
        join.policy.roster_deadline_ms = 7;
        join.policy.window_max_s = 60;
        join.policy.rounds_max = Some(4);
        join.policy.rounds_apart_min = 3;
        join.ca_file = Some("ca.pem".into());
        let path = directory.path().join("join.toml");
        join.write(&path).expect("room");
        join.ca_file = Some(directory.path().join("ca.pem")); // from the folder of the file
        assert_eq!(Join::read(&path).expect("as written"), join);
    }

    #[test]
    fn absent_floors_are_the_defaults_and_unknown_ones_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let (_, world) = identity();
        let join = join(&world);
        let (aggregator, authority) = (&join.policy.aggregator, &join.policy.authority);
        let (aggregator, authority) = (hex::encode(aggregator.as_bytes()), hex::encode(authority.as_bytes()));
        let text = format!(
            "format = \"veilsum-join-1\"\nserver = \"{}\"\ntask = \"{TASK}\"\naggregator_key = \"{aggregator}\"\n\
             authority_key = \"{authority}\"\n",
            join.server
        );
        let path = directory.path().join("join.toml");
        std::fs::write(&path, &text).expect("room");
        assert_eq!(Join::read(&path).expect("defaults"), join);
        for wrong in [
            "rounds_max = 0",
            "rounds_apart_min = 0",
            "window_max_s = 0",
            "cohort_minimum = 3",
            "budget_epsilon = -1.0",
            "noise_multiplier_min = nan",
            "layout = \"00\"",
        ] {
            std::fs::write(&path, format!("{text}[policy]\n{wrong}\n")).expect("room");
            assert!(Join::read(&path).is_err(), "{wrong}");
        }
    }
}
