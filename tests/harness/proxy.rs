//! nginx before a service, with TLS: as operators run it, on a port and with a certificate of its own.
//!
//! nginx and openssl are Debian's; `scripts/nginx` installs them. Nothing is skipped where they are missing.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long nginx may take to listen.
const START_MAX: Duration = Duration::from_secs(20);

/// A running nginx.
pub struct Proxy {
    /// Where it speaks TLS, under the name `localhost`.
    pub port: u16,
    folder: TempDir,
    nginx: Child,
}

impl Proxy {
    /// Ends TLS and passes everything on.
    pub fn before(service: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        self_signed(folder.path(), "localhost");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let config = format!(
            "pid nginx.pid;\nerror_log error.log;\nevents {{}}\nhttp {{\n  access_log off;\n  client_body_temp_path body;\n  \
             proxy_temp_path proxy;\n  fastcgi_temp_path f;\n  uwsgi_temp_path u;\n  scgi_temp_path s;\n  server {{\n    \
             listen 127.0.0.1:{port} ssl;\n    ssl_certificate cert.pem;\n    ssl_certificate_key key.pem;\n    \
             client_max_body_size 0;\n    location / {{\n      proxy_pass http://{service};\n      proxy_read_timeout 90s;\n    \
             }}\n  }}\n}}\n"
        );
        Self::of(folder, port, &config)
    }

    /// With a configuration of its own, which listens on `port` and finds its files in `folder`, `cert.pem` among them.
    pub fn of(folder: TempDir, port: u16, config: &str) -> Self {
        std::fs::write(folder.path().join("nginx.conf"), config).expect("room");
        let nginx = Command::new(program("nginx"))
            .args(["-e", "error.log", "-g", "daemon off;", "-c", "nginx.conf", "-p"])
            .arg(folder.path())
            .current_dir(folder.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx runs; scripts/nginx installs it");
        let mut proxy = Self { port, folder, nginx };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = proxy.nginx.try_wait().expect("ours");
            let log = || std::fs::read_to_string(proxy.folder.path().join("error.log")).unwrap_or_default();
            assert!(ended.is_none() && started.elapsed() < START_MAX, "nginx does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }

    /// Its certificate, which is its own authority.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// What clients are given as address.
    pub fn address(&self) -> String {
        format!("https://localhost:{}", self.port)
    }
}

impl Drop for Proxy {
    /// Its worker ends with it.
    fn drop(&mut self) {
        let pid = self.nginx.id().to_string();
        let asked = Command::new("kill").args(["-QUIT", &pid]).status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.nginx.kill();
        }
        let _ = self.nginx.wait();
    }
}

/// `cert.pem` and `key.pem` for a name, by nobody but itself.
pub fn self_signed(folder: &Path, name: &str) {
    let made = Command::new(program("openssl"))
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "7"])
        .args(["-keyout", "key.pem", "-out", "cert.pem", "-subj", &format!("/CN={name}")])
        .args(["-addext", &format!("subjectAltName=DNS:{name}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"]) // an authority's certificate is no server's, says rustls
        .current_dir(folder)
        .output()
        .expect("openssl runs; scripts/nginx installs it");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Debian keeps nginx where only root's PATH looks.
fn program(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let found = path.split(':').map(|folder| Path::new(folder).join(name)).find(|file| file.exists());
    found.unwrap_or_else(|| panic!("{name} is missing; scripts/nginx installs it"))
}
