//! A deployment as aggregator/deploy describes it, on one machine: a PostgreSQL cluster with passwords, roles and grants by the
//! shipped SQL, two replicas with the shipped configuration, the shipped nginx before them. Names and ports are replaced, nothing
//! else. For tests; wants PostgreSQL's programs (`scripts/postgres`), nginx and openssl (`scripts/nginx`).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::deployment::free_port;
use crate::manifests;
use crate::postgres;
use crate::programs::{Said, veilsum_program};
use crate::proxy::{Proxy, self_signed};

/// The cluster; it ends with this.
pub struct Cluster {
    /// On 127.0.0.1.
    pub port: u16,
    _keeper: postgres::Cluster,
}

impl Cluster {
    fn start(password: &str) -> Self {
        let port = free_port();
        let address = format!("-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off");
        Self { port, _keeper: postgres::Cluster::with_password(&[&address], password) }
    }

    /// An address for a role; the password is in a file.
    pub fn url(&self, role: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/veilsum", self.port)
    }
}

/// One replica.
pub struct Replica {
    /// Its folder: `veilsum.toml`, `data`, `serve.log`.
    pub folder: PathBuf,
    /// Where `/healthz` and its like answer.
    pub operations: u16,
    listen: u16,
    passwords: PathBuf,
    serve: Option<Child>,
}

impl Replica {
    /// A command of the program, run where its configuration and passwords are.
    pub fn veilsum(&self, arguments: &[&str]) -> Said {
        self.veilsum_with(&[], arguments)
    }

    /// The same, with more in its environment.
    pub fn veilsum_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Said {
        let mut command = Command::new(veilsum_program());
        command.args(arguments).current_dir(&self.folder).env("PGPASSFILE", &self.passwords);
        command.envs(environment.iter().copied()).output().expect("it was built").into()
    }

    /// Starts it, with settings of the environment.
    pub fn start(&mut self, settings: &[(&str, &str)]) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).expect("room");
        let mut command = Command::new(veilsum_program());
        command.arg("serve").current_dir(&self.folder).env("PGPASSFILE", &self.passwords);
        command.envs(settings.iter().copied()).stdout(Stdio::null()).stderr(log);
        self.serve = Some(command.spawn().expect("it was built"));
        let ready = self.veilsum(&["ready", "--within", "120"]);
        assert_eq!(ready.code, 0, "{}{}", ready.err, std::fs::read_to_string(self.log()).unwrap_or_default());
    }

    /// Asks it to end, as an operator's machinery does; whether it said that all went well.
    pub fn stop(&mut self) -> bool {
        let mut serve = self.serve.take().expect("it runs");
        let asked = Command::new("kill").args(["-TERM", &serve.id().to_string()]).status();
        assert!(asked.is_ok_and(|status| status.success()));
        serve.wait().expect("it ends").success()
    }

    /// Where its log goes.
    pub fn log(&self) -> PathBuf {
        self.folder.join("serve.log")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(serve) = &mut self.serve {
            let _ = serve.kill();
            let _ = serve.wait();
        }
    }
}

/// All of it, running.
pub struct Operated {
    /// Two of them; they end before the cluster.
    pub replicas: [Replica; 2],
    /// TLS before both.
    pub proxy: Proxy,
    /// Their database.
    pub cluster: Cluster,
    /// Everything on disk.
    pub folder: TempDir,
}

impl Operated {
    /// Does what docs/operating.md says, in its order, for this authority.
    pub fn start(authority_key: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let secrets = secrets(folder.path());
        let password = std::fs::read_to_string(secrets.join("postgres.password")).expect("it was made");
        let cluster = Cluster::start(password.trim());
        let sql = |name: &str| manifests::folder().join("postgres").join(name).display().to_string();
        let psql = |role: &str, database: &str, more: &[&str]| psql(folder.path(), &cluster, role, database, more);
        let from = format!("secrets={}", secrets.display());
        for _ in 0..2 {
            psql("postgres", "postgres", &["-v", &from, "-f", &sql("roles.sql")]); // it may run again
        }
        let mut migrate = Command::new(veilsum_program());
        migrate.arg("migrate").env("DATABASE_URL", cluster.url("veilsum_owner"));
        let said: Said = migrate.env("PGPASSFILE", secrets.join("owner.pgpass")).output().expect("it was built").into();
        assert_eq!(said.code, 0, "{}", said.err);
        for _ in 0..2 {
            psql("veilsum_owner", "veilsum", &["-f", &sql("grants.sql")]);
        }
        let replicas = ["veilsum-1", "veilsum-2"].map(|name| {
            let mut replica = replica(name, folder.path(), authority_key, &cluster);
            replica.start(&[]);
            replica
        });
        let proxy = proxy(&replicas);
        Self { replicas, proxy, cluster, folder }
    }

    /// One statement on the database, as one of its roles.
    pub fn psql(&self, role: &str, statement: &str) {
        psql(self.folder.path(), &self.cluster, role, "veilsum", &["-c", statement]);
    }
}

fn psql(folder: &Path, cluster: &Cluster, role: &str, database: &str, more: &[&str]) {
    let passwords = match role {
        "postgres" => "postgres.pgpass",
        "veilsum_owner" => "owner.pgpass",
        _ => "serve.pgpass",
    };
    let mut command = Command::new("psql");
    command.args(["--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", role, "-d", database]);
    command.args(["-p", &cluster.port.to_string()]).args(more);
    command.env("PGPASSFILE", folder.join("secrets").join(passwords));
    let said: Said = command.output().expect("psql is there").into();
    assert_eq!(said.code, 0, "{}", said.err);
}

/// What compose/make-secrets makes, for this machine's address.
fn secrets(folder: &Path) -> PathBuf {
    let script = folder.join("make-secrets");
    std::fs::copy(manifests::folder().join("compose/make-secrets"), &script).expect("room");
    assert!(Command::new("sh").arg(&script).stderr(Stdio::null()).status().is_ok_and(|status| status.success()));
    let secrets = folder.join("secrets");
    for name in ["postgres.pgpass", "owner.pgpass", "serve.pgpass"] {
        let path = secrets.join(name);
        let text = std::fs::read_to_string(&path).expect("it was made").replace("postgres:*", "127.0.0.1:*");
        std::fs::write(&path, text).expect("room");
    }
    secrets
}

fn replica(name: &str, folder: &Path, authority_key: &str, cluster: &Cluster) -> Replica {
    let (secrets, folder) = (folder.join("secrets"), folder.join(name));
    let data = folder.join("data");
    std::fs::create_dir_all(data.join("service")).expect("room");
    for key in ["sealing.key", "aggregator.key", "checkpoint.key"] {
        std::fs::copy(secrets.join(key), data.join("service").join(key)).expect("room"); // with its mode
    }
    std::fs::copy(secrets.join("admin.token"), data.join("admin.token")).expect("room");
    let [listen, operations, admin] = [(); 3].map(|()| free_port());
    let file = manifests::configured("compose/veilsum.toml", authority_key, &folder);
    let mut text = std::fs::read_to_string(&file).expect("it was written");
    for (shipped, here) in [
        ("postgres://veilsum@postgres/veilsum", cluster.url("veilsum")),
        ("/var/lib/veilsum", data.display().to_string()),
        ("0.0.0.0:8443", format!("127.0.0.1:{listen}")),
        ("0.0.0.0:8444", format!("0.0.0.0:{operations}")),
        ("127.0.0.1:8081", format!("127.0.0.1:{admin}")),
    ] {
        assert!(text.contains(shipped), "{shipped} is not in the shipped configuration");
        text = text.replace(shipped, &here);
    }
    std::fs::write(&file, text).expect("room");
    Replica { folder, operations, listen, passwords: secrets.join("serve.pgpass"), serve: None }
}

fn proxy(replicas: &[Replica; 2]) -> Proxy {
    let folder = tempfile::tempdir().expect("a folder");
    self_signed(folder.path(), "localhost");
    let port = free_port();
    let mut text = manifests::text("compose/nginx.conf");
    let here = format!("{}/", folder.path().display());
    for (shipped, here) in [
        ("/tmp/", here.clone()),
        ("/run/secrets/", here),
        ("/dev/stderr crit", "error.log info".to_string()),
        ("veilsum-1:8443", format!("127.0.0.1:{}", replicas[0].listen)),
        ("veilsum-2:8443", format!("127.0.0.1:{}", replicas[1].listen)),
        ("listen 8443 ssl", format!("listen 127.0.0.1:{port} ssl")),
        // Tests share the machine's limits.
        ("worker_processes auto", "worker_processes 1".to_string()),
        ("worker_rlimit_nofile 65536;", String::new()),
        ("worker_connections 32768", "worker_connections 512".to_string()),
    ] {
        assert!(text.contains(shipped), "{shipped} is not in the shipped nginx.conf");
        text = text.replace(shipped, &here);
    }
    Proxy::of(folder, port, &text)
}
