//! Files that operators and users write: task files, configurations, identity and join files.

use std::path::Path;

use veilsum_aggregator::config::Config;
use veilsum_aggregator::task::{FORMAT, Task, TaskFile};
use veilsum_client::config::{Identity, Join};
use veilsum_crypto::params::RosterParams;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::testing::TASK as TASK_ID;

use super::Target;
use super::edit::{Input, edit};
use super::saved::scratch;
use super::stage::STAGE;

/// Task files.
pub const TASK: Target = Target {
    name: "task",
    what: "task files: a task that is taken has feasible parameters for every roster that it permits",
    run: run_task,
    seeds: task_seeds,
    words: &["roster_min", "nan", "inf", "-0.0", "1e308", "18446744073709551615", "[", "]", "=", "\"", "\n"],
    portion: 3,
    finish: super::nothing,
};

/// Configuration, identity and join files.
pub const CONFIG: Target = Target {
    name: "config",
    what: "veilsum.toml, identity.toml and join.toml: read as they were written, or refused in words that hold no secret",
    run: run_config,
    seeds: config_seeds,
    words: &[
        "format",
        "veilsum-join-1",
        "veilsum-identity-1",
        "[policy]",
        "models",
        "listen",
        "0.0.0.0:1",
        "nan",
        "\\u0000",
    ],
    portion: 2,
    finish: super::nothing,
};

fn task_file() -> TaskFile {
    TaskFile {
        format: FORMAT.into(),
        name: "fuzz".into(),
        rounds: 12,
        invited: 12,
        roster_min: 8,
        roster_max: 12,
        cohort_min: None,
        corrupt_fraction: 0.05,
        dropout_tolerance: 0.1,
        security_bits: 80,
        completion_bits: 30,
        model_len: 20,
        layout: "00".repeat(32),
        weight_max: 0,
        clip_norm: 2.0,
        scale: 165.0,
        noise_multiplier: 4.0,
        wrap_bits: 40,
        dp_delta: 1e-5,
        budget_epsilon: 50.0,
        windows_ms: [500; 7],
        grace_ms: 1_000,
        server_rate: [1.5, 0.3],
        query: None,
    }
}

/// Numbers of every size, and some that are none.
fn number(input: &mut Input<'_>) -> f64 {
    match input.below(6) {
        0 => f64::from(input.byte()) / 255.0,
        1 => f64::from(input.byte()),
        2 => *input.of(&[f64::NAN, f64::INFINITY, -0.0, -1.0, 1e308, 5e-324, 0.9999999, 4_294_967_296.0]),
        3 => 2_f64.powi(i32::from(input.byte()) - 128),
        4 => f64::from_bits(u64::from_le_bytes(input.array())),
        _ => input.number() as f64,
    }
}

fn whole(input: &mut Input<'_>) -> u64 {
    match input.below(4) {
        0 => u64::from(input.byte()),
        1 => *input.of(&[0, 1, 2, 3, 16_384, 16_385, u64::from(u32::MAX), u64::from(u32::MAX) - 1, u64::MAX, 1 << 28]),
        2 => input.number() as u64,
        _ => u64::from_le_bytes(input.array()),
    }
}

/// `u8 how`: 0 what follows is the file | 1 the valid file's text, edited | 2.. the valid file with fields set.
fn run_task(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut file = task_file();
    let text = match input.below(4) {
        0 => String::from_utf8_lossy(input.rest()).into_owned(),
        1 => {
            let mut text = toml::to_string(&file).expect("serialises").into_bytes();
            edit(&mut text, &[b"nan", b"-1", b"1e400", b"'''", b"#"], &mut input);
            String::from_utf8_lossy(&text).into_owned()
        }
        _ => {
            (0..input.below(6)).for_each(|_| set_field(&mut file, &mut input));
            toml::to_string(&file).unwrap_or_default() // numbers beyond i64 cannot be written in TOML
        }
    };
    let file = match TaskFile::parse(&text) {
        Ok(file) => file,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    // Feasibility is derived for every permitted size: a wide range takes seconds, by nature.
    if file.roster_max.saturating_sub(file.roster_min) > 24 || file.roster_max > 400 {
        return;
    }
    let task = match Task::new(file) {
        Ok(task) => task,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(task.params.check(), Ok(()), "a task that is taken holds");
    for n in task.params.roster_min..=task.params.roster_max {
        let roster = RosterParams::derive(n, &task.params).expect("feasible at every size");
        // In a complete graph everybody's; in a sparse one few, by a chance that the tables of tests/reference/graph check.
        let corrupt_neighbours = if roster.degree == n - 1 { roster.corrupt } else { 0 };
        assert!(
            2 * roster.threshold > roster.degree + corrupt_neighbours && roster.honest >= 1,
            "the graph keeps its promise: {roster:?}"
        );
    }
    assert!(
        task.params.ring_bits_needed().is_ok_and(|needed| needed <= task.params.ring_bits),
        "the sum fits the ring"
    );
    for counter in [0, 1, 2, task.file.rounds, u64::MAX] {
        assert!(task.server_rate(counter).is_finite(), "a rate is a number");
    }
}

fn set_field(file: &mut TaskFile, input: &mut Input<'_>) {
    let field = input.below(23);
    let (real, integer) = (number(input), whole(input));
    match field {
        0 => file.rounds = integer,
        1 => file.invited = integer as u32,
        2 => file.roster_min = integer as u32,
        3 => file.roster_max = file.roster_min.saturating_add(integer as u32 % 25),
        4 => file.cohort_min = Some(integer as u32),
        5 => file.corrupt_fraction = real,
        6 => file.dropout_tolerance = real,
        7 => file.security_bits = integer as u16,
        8 => file.completion_bits = integer as u16,
        9 => file.model_len = integer as u32,
        10 => file.layout = hex::encode(integer.to_le_bytes().repeat(4)),
        11 => file.weight_max = integer as u32,
        12 => file.clip_norm = real,
        13 => file.scale = real,
        14 => file.noise_multiplier = real,
        15 => file.wrap_bits = integer as u8,
        16 => file.dp_delta = real,
        17 => file.budget_epsilon = real,
        18 => file.windows_ms[integer as usize % 7] = (integer >> 8) as u32,
        19 => file.grace_ms = integer,
        20 => file.server_rate[integer as usize % 2] = real,
        21 => {
            file.roster_min = integer as u32 % 300;
            file.roster_max = file.roster_min.saturating_add(integer as u32 >> 16 & 7);
            file.invited = file.roster_max;
        }
        _ => file.budget_epsilon = 1e9,
    }
}

fn task_seeds() -> Vec<Vec<u8>> {
    let text = toml::to_string(&task_file()).expect("serialises");
    let mut seeds = vec![[&[0], text.as_bytes()].concat()];
    seeds.extend((0..10).map(|kind| vec![1, 1, kind, 60, 0, 1, 2, 3]));
    for field in 0..23 {
        seeds.extend((0..4).map(|kind| vec![2, 1, field, kind, 7, kind, 1]));
    }
    seeds
}

/// `u8 file (3), u8 how`: 0 what follows is the file | else the valid file's text, edited.
fn run_config(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (which, how) = (input.below(3), input.below(3));
    let mut text = valid(which).into_bytes();
    if how == 0 {
        text = input.rest().to_vec();
    } else {
        edit(&mut text, &[b"\"", b"[policy]", b"nan", b"-1", b"\xff\xfe", b"true"], &mut input);
    }
    let folder = scratch();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, &text).expect("room");
    #[cfg(unix)]
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("our own file");
    let said = match which {
        0 => Identity::read(&path)
            .map(|identity| drop(identity.certificate().encode()))
            .map_err(|error| error.to_string()),
        1 => Join::read(&path).map(|join| written_again(&join, folder.path())).map_err(|error| error.to_string()),
        _ => Config::load(&path).map(|config| drop(config.database_url())).map_err(|error| error.to_string()),
    };
    if let Err(said) = said {
        assert!(!said.is_empty());
        // The service's file holds no secrets, and names of its fields are shown: also one that somebody pasted there.
        let holds_secrets = which < 2;
        assert!(
            !holds_secrets || !said.contains(&"5e".repeat(8)) && !said.contains(&"6b".repeat(8)),
            "a refusal holds a secret: {said}"
        );
    }
}

/// What was read is written and read again as the same.
fn written_again(join: &Join, folder: &Path) {
    let path = folder.join("again.toml");
    join.write(&path).expect("room");
    assert!(Join::read(&path).expect("as written") == *join, "a join file survives being written");
}

/// A valid file of each kind.
fn valid(which: usize) -> String {
    let stage = &*STAGE;
    let policy = &stage.world.members[0].policy;
    let (aggregator, authority) = (policy.aggregator, policy.authority);
    match which {
        0 => {
            let seed = IdentitySecretKey::from_bytes(&[0x5e; 32]);
            let body = veilsum_crypto::messages::certificate::CertificateBody {
                identity: seed.public(),
                ..*stage.world.members[0].certificate.body()
            };
            let certificate = veilsum_crypto::messages::Certificate::issue(body, &stage.world.authority);
            format!(
                "format = \"veilsum-identity-1\"\nclient = \"{}\"\nsecret_seed = \"{}\"\ncertificate = \"{}\"\nsaving_key = \"{}\"\n",
                body.client,
                "5e".repeat(32),
                hex::encode(certificate.encode()),
                "6b".repeat(32),
            )
        }
        1 => format!(
            "format = \"veilsum-join-1\"\nserver = \"http://127.0.0.1:1\"\ntask = \"{TASK_ID}\"\naggregator_key = \"{}\"\n\
             authority_key = \"{}\"\n[policy]\ncohort_min = 3\nbudget_epsilon = 2.5\nmodels = [\"{}\"]\n\
             [policy.group]\ncoverage_min = 500000\ncorrupt_of_group = 1000\n",
            hex::encode(aggregator.as_bytes()),
            hex::encode(authority.as_bytes()),
            "07".repeat(32),
        ),
        _ => format!(
            "data_dir = \"data\"\nauthority_key = \"{}\"\nlisten = \"127.0.0.1:0\"\nretention_days = 3\n[[tasks]]\nfile = \"t.toml\"\n",
            hex::encode(authority.as_bytes()),
        ),
    }
}

fn config_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        (0..3_u8).map(|which| [&[which, 0], valid(which.into()).as_bytes()].concat()).collect();
    seeds.extend((0..3).flat_map(|which| (0..10).map(move |kind| vec![which, 1, 1, kind, 100, 0, 1, 2])));
    seeds
}
