//! aggregator/deploy against the program: every key, path, port, variable, command and probe in it is one that the program
//! knows, nothing runs as root, and no secret stands in a file. No container engine is needed, and none is asked; `scripts/deploy`
//! asks those tools that are there.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use veilsum_aggregator::config::Config;
use veilsum_crypto::primitives::signature::IdentitySecretKey;
use veilsum_crypto::testing::os_rng;
use verification::manifests::*;
use verification::programs::*;

/// Configurations of the service, one for each way to run it.
const CONFIGURATIONS: [&str; 4] = [
    "compose/veilsum.toml",
    "systemd/veilsum.toml",
    "kustomize/base/veilsum.toml",
    "kustomize/overlays/example/veilsum.toml",
];
/// The user of the image, of the owners of secret files, and of pods.
const USER: u64 = 10_001;
/// What `serve` reads beside its settings: PostgreSQL's password file, and how loud the log is.
const OTHER_VARIABLES: [&str; 2] = ["PGPASSFILE", "RUST_LOG"];

fn authority() -> String {
    hex::encode(IdentitySecretKey::generate(&mut os_rng()).public().as_bytes())
}

/// A configuration as an operator completes it.
fn config(path: &str) -> Config {
    let folder = tempfile::tempdir().expect("a folder");
    Config::load(&configured(path, &authority(), folder.path())).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The objects of the base and of the overlay, as Kubernetes is given them before Kustomize changes names and images.
fn manifests() -> Vec<Value> {
    let is_object = |value: &Value| value["kind"] != "Kustomization";
    let paths = files().into_iter().filter(|path| path.starts_with("kustomize/") && path.ends_with(".yaml"));
    paths.flat_map(|path| yaml(&path)).filter(is_object).collect()
}

fn object(kind: &str, name: &str) -> Value {
    let is_it = |value: &Value| value["kind"] == kind && value["metadata"]["name"] == name;
    manifests().into_iter().find(is_it).unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn pods() -> Vec<(String, Value)> {
    let pod = |value: Value| (value["kind"].to_string(), value["spec"]["template"]["spec"].clone());
    manifests().into_iter().map(pod).filter(|(_, pod)| pod.is_object()).collect()
}

fn containers(pod: &Value) -> Vec<Value> {
    ["initContainers", "containers"].iter().flat_map(|list| pod[list].as_array().cloned().unwrap_or_default()).collect()
}

/// Commands that start the program, without its name, from every file.
fn invocations() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut add = |place: &str, words: &[String]| found.push((place.to_string(), words.to_vec()));
    let compose = yaml("compose/compose.yaml").remove(0);
    for (name, service) in compose["services"].as_object().expect("services") {
        if service["image"].as_str().is_some_and(|image| image.starts_with("veilsum:")) {
            let command = texts(&service["command"]);
            add(name, &if command.is_empty() { words_of("serve") } else { command });
        }
    }
    for (kind, pod) in pods() {
        for container in containers(&pod) {
            let words = [texts(&container["command"]), texts(&container["args"])].concat().join(" ");
            match words.split_once("veilsum serve") {
                Some((_, rest)) => add(&kind, &words_of(&format!("serve{rest}"))),
                None if container["command"].is_null() => add(&kind, &words_of(&words)),
                None => {} // other programs of the image
            }
        }
    }
    for path in ["systemd/veilsum.service", "systemd/veilsum-migrate.service"] {
        let starts = unit(path).into_iter().filter(|(key, _)| key.starts_with("Service.Exec"));
        for line in starts.flat_map(|(_, lines)| lines) {
            match line.strip_prefix("/usr/local/bin/veilsum ") {
                Some(words) => add(path, &words_of(words)),
                None => assert!(line.starts_with("/usr/bin/install "), "{path}: {line}"),
            }
        }
    }
    for line in text("Dockerfile").lines() {
        if let Some((_, list)) = line.split_once("CMD [") {
            let words = serde_json::from_str::<Vec<String>>(&format!("[{list}")).expect("a list of words");
            add("Dockerfile", words.strip_prefix(&["veilsum".to_string()]).unwrap_or(&words));
        }
    }
    found
}

fn words_of(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_string).collect()
}

/// C-240: every configuration is complete but for the authority's key, which nobody can forget to replace.
#[test]
fn every_shipped_configuration_is_one_that_the_service_reads() {
    let shipped: BTreeSet<_> = files().into_iter().filter(|path| path.ends_with("veilsum.toml")).collect();
    assert_eq!(shipped, CONFIGURATIONS.map(String::from).into());
    for path in CONFIGURATIONS {
        let config = config(path); // unknown keys, and addresses in the clear, are refused
        assert!(config.database_url().starts_with("postgres://veilsum@"), "{path}: two replicas need PostgreSQL");
        assert!(
            config.tasks.is_empty(),
            "{path}: tasks are created over the admin API; nothing is written to data_dir"
        );
        let admin = config.admin_listen.unwrap_or_else(|| panic!("{path}: an operator looks at it"));
        assert!(admin.ip().is_loopback() && !config.admin_insecure_listen && !config.insecure_listen, "{path}");
        let file = folder().join(path);
        let said: Said = veilsum(&["config", "check", "--json", "--config", file.to_str().expect("utf-8")]).into();
        let said = said.json(3);
        let check = said["checks"].as_array().expect("a list").iter().find(|check| check["what"] == "authority key");
        assert_eq!(check.expect("it is checked")["holds"], false, "{path}: the placeholder is no key");
    }
}

/// C-240: commands in the files are commands of the program, with options that it has.
#[test]
fn every_command_is_one_that_the_program_has() {
    let invocations = invocations();
    let names: BTreeSet<&str> = invocations.iter().filter_map(|(_, words)| words.first()).map(String::as_str).collect();
    assert_eq!(names, ["config", "migrate", "ready", "serve"].into(), "{invocations:?}");
    for (place, words) in &invocations {
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let said: Said = veilsum(&words).into(); // options before --help are looked at
        assert_eq!(said.code, 0, "{place}: {words:?}: {}", said.err);
    }
    let unknown: Said = veilsum(&["serve", "--nonsense", "--help"]).into();
    assert_eq!(unknown.code, 2, "what this test rests on");
}

/// C-240: variables are settings of the service, or among the few others that it reads.
#[test]
fn every_environment_variable_is_one_that_the_program_reads() {
    let help: Said = veilsum(&["migrate", "--help"]).into();
    let mut known: BTreeSet<String> = OTHER_VARIABLES.map(String::from).into();
    known.extend(help.out.split("[env: ").skip(1).filter_map(|rest| rest.split('=').next()).map(String::from));
    assert!(known.contains("DATABASE_URL"), "{}", help.out);
    let example = serde_json::to_value(config("compose/veilsum.toml")).expect("settings");
    known.extend(example.as_object().expect("settings").keys().map(|key| format!("VEILSUM_{}", key.to_uppercase())));
    known.insert("POSTGRES_PASSWORD_FILE".to_string()); // PostgreSQL's own image

    let mut used = BTreeSet::new();
    let compose = yaml("compose/compose.yaml").remove(0);
    for service in compose["services"].as_object().expect("services").values() {
        used.extend(service["environment"].as_object().into_iter().flat_map(|it| it.keys().cloned()));
    }
    for (_, pod) in pods() {
        for container in containers(&pod) {
            let variables = container["env"].as_array().cloned().unwrap_or_default();
            used.extend(variables.iter().map(|variable| variable["name"].as_str().expect("a name").to_string()));
            assert!(container["envFrom"].is_null(), "nobody looks at what is in there");
        }
        // A service called veilsum would bring VEILSUM_PORT and more: settings that there are none of.
        assert_eq!(pod["enableServiceLinks"], false);
    }
    for path in ["systemd/veilsum.service", "systemd/veilsum-migrate.service"] {
        let lines = unit(path).remove("Service.Environment").unwrap_or_default();
        used.extend(lines.iter().map(|line| line.split('=').next().expect("a name").to_string()));
    }
    assert!(used.contains("PGPASSFILE") && used.is_subset(&known), "{used:?}, known are {known:?}");
}

/// C-241: ports, data folder and names of key files are those of the configuration beside them; the admin API is published nowhere.
#[test]
fn ports_and_paths_are_those_of_the_configuration() {
    let port = |address: Option<std::net::SocketAddr>| u64::from(address.expect("it is set").port());
    let keys = ["sealing.key", "aggregator.key", "checkpoint.key"];

    let (compose, of) = (yaml("compose/compose.yaml").remove(0), config("compose/veilsum.toml"));
    let nginx = text("compose/nginx.conf");
    for replica in ["veilsum-1", "veilsum-2"] {
        assert!(nginx.contains(&format!("server {replica}:{} ", of.listen.port())), "{replica}");
        let targets: BTreeSet<String> = compose["services"][replica]["secrets"]
            .as_array()
            .expect("secrets")
            .iter()
            .filter_map(|secret| secret["target"].as_str().map(String::from))
            .collect();
        let files = keys.map(|name| of.data_dir.join("service").join(name)).into_iter().chain([of.admin_token_path()]);
        assert_eq!(targets, files.map(|path| path.display().to_string()).collect(), "{replica}");
    }
    assert_eq!(texts(&compose["services"]["nginx"]["ports"]), ["443:8443"]);
    for (name, service) in compose["services"].as_object().expect("services") {
        assert!(name == "nginx" || service["ports"].is_null(), "{name} is published");
    }

    for path in ["kustomize/base/veilsum.toml", "kustomize/overlays/example/veilsum.toml"] {
        let (of, deployment) = (config(path), object("Deployment", "veilsum"));
        let pod = &deployment["spec"]["template"]["spec"];
        let ports = &pod["containers"][0]["ports"];
        assert_eq!(ports[0]["containerPort"], port(Some(of.listen)));
        assert_eq!(ports[1]["containerPort"], port(Some(of.operations)));
        assert_eq!(ports.as_array().expect("a list").len(), 2, "the admin API is not among them");
        let copied = texts(&pod["initContainers"][0]["command"]).join(" ");
        let data = of.data_dir.display().to_string();
        assert!(copied.contains(&format!("{data}/service /secrets/keys/sealing.key")), "{copied}");
        assert!(keys.iter().all(|name| copied.contains(&format!("/secrets/keys/{name}"))), "{copied}");
        let mounts = pod["containers"][0]["volumeMounts"].as_array().expect("a list").clone();
        assert!(mounts.iter().any(|mount| mount["mountPath"] == data.as_str()), "{mounts:?}");
        let admin = port(of.admin_listen);
        let policy = object("NetworkPolicy", "veilsum").to_string();
        let services = [object("Service", "veilsum"), object("Service", "veilsum-operations")].map(|it| it.to_string());
        assert!(!policy.contains(&admin.to_string()) && !services.concat().contains(&admin.to_string()), "{admin}");
    }

    let (unit, of) = (unit("systemd/veilsum.service"), config("systemd/veilsum.toml"));
    let copied = unit["Service.ExecStartPre"].join(" ");
    let data = of.data_dir.display();
    assert!(copied.contains(&format!("-t {data}/service ")) && copied.contains(&format!("-t {data} ")), "{copied}");
    for name in keys.into_iter().chain(["admin.token", "serve.pgpass"]) {
        assert!(copied.contains(&format!("${{CREDENTIALS_DIRECTORY}}/{name}")), "{name}");
        assert!(unit["Service.LoadCredential"].iter().any(|line| line.starts_with(&format!("{name}:/etc/veilsum/"))));
    }
    assert_eq!(unit["Service.Environment"], [format!("PGPASSFILE={data}/serve.pgpass")]);
}

/// C-242: no process of the service runs as root, can become it, or writes where it need not.
#[test]
fn nothing_of_the_service_runs_as_root() {
    let dockerfile = text("Dockerfile");
    let user = dockerfile.lines().rev().find_map(|line| line.strip_prefix("USER ")).expect("the image has a user");
    assert_eq!(user, format!("{USER}:{USER}"));
    let compose = yaml("compose/compose.yaml").remove(0);
    for (name, service) in compose["services"].as_object().expect("services") {
        let image = service["image"].as_str().expect("an image");
        let own = service["user"].as_str().map(|user| user.split(':').next().expect("a number") != "0");
        // PostgreSQL's image gives root away by itself.
        assert!(name == "postgres" || own.unwrap_or(image.starts_with("veilsum:")), "{name} runs as root");
        if name != "postgres" {
            assert_eq!(service["read_only"], true, "{name}");
            assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
            assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        }
    }
    assert_eq!(pods().len(), 2, "the service, and the job that migrates");
    for (kind, pod) in pods() {
        let context = &pod["securityContext"];
        assert_eq!((&context["runAsNonRoot"], &context["runAsUser"]), (&true.into(), &USER.into()), "{kind}");
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{kind}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{kind}");
        for container in containers(&pod) {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{kind}: {container}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{kind}: {container}");
            assert_eq!(texts(&context["capabilities"]["drop"]), ["ALL"], "{kind}: {container}");
            assert!(container["resources"]["requests"]["cpu"].is_string(), "{kind}: {container}");
        }
    }
    for path in ["systemd/veilsum.service", "systemd/veilsum-migrate.service"] {
        let unit = unit(path);
        for (key, value) in [
            ("DynamicUser", "yes"),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("CapabilityBoundingSet", ""),
            ("MemoryDenyWriteExecute", "yes"),
            ("LimitCORE", "0"),
            ("UMask", "0077"),
        ] {
            assert_eq!(unit[&format!("Service.{key}")], [value], "{path}: {key}");
        }
    }
}

/// C-242: files name secrets, and hold none; git would not take those that an operator makes beside them.
#[test]
fn no_secret_stands_in_a_file() {
    for path in files() {
        let text = text(&path);
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()) {
            assert!(word.len() < 40 || !word.chars().all(|c| c.is_ascii_hexdigit()), "{path}: {word}");
        }
        assert!(!text.contains("PRIVATE KEY"), "{path}");
        for url in text.split("postgres://").skip(1) {
            let place = url.split(|c: char| c.is_whitespace() || c == '"').next().unwrap_or_default();
            let who = place.split('@').next().unwrap_or_default();
            assert!(!who.contains(':'), "{path}: a password in {place}");
        }
    }
    assert!(manifests().iter().all(|object| object["kind"] != "Secret"), "secrets are referred to, not shipped");
    let compose = yaml("compose/compose.yaml").remove(0);
    for (name, secret) in compose["secrets"].as_object().expect("secrets") {
        assert_eq!(secret["file"], format!("./secrets/{name}"), "{secret}");
    }
    for (_, service) in compose["services"].as_object().expect("services") {
        for (name, value) in service["environment"].as_object().into_iter().flatten() {
            assert!(value.as_str().is_some_and(|value| value.starts_with("/run/secrets/")), "{name}: a file's name");
        }
    }
    assert!(text("compose/.gitignore").lines().any(|line| line == "secrets/"));
    let made = text("compose/make-secrets");
    let made_by_hand = ["cert.pem", "key.pem"];
    for name in compose["secrets"].as_object().expect("secrets").keys() {
        assert!(made.contains(name) || made_by_hand.contains(&name.as_str()), "nobody makes {name}");
    }
}

/// C-241: what a build needs is let through to it, and the image is built as it is shipped.
#[test]
fn the_image_is_built_from_what_the_workspace_needs() {
    let manifest: toml::Table =
        std::fs::read_to_string(root().join("Cargo.toml")).expect("it is there").parse().expect("TOML");
    let workspace = &manifest["workspace"];
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).expect("it is there");
    let let_in: BTreeSet<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let members =
        workspace["members"].as_array().expect("members").iter().map(|member| member.as_str().expect("a path"));
    for needed in members.map(|path| path.split('/').next().expect("a folder")).chain(["Cargo.lock", "migrations"]) {
        assert!(let_in.contains(needed), ".dockerignore keeps {needed} out");
    }
    assert!(ignored.lines().any(|line| line == "*"), "everything else stays out");
    let dockerfile = text("Dockerfile");
    assert!(manifest["profile"].get("dist").is_some() && dockerfile.contains("--profile dist -p veilsum"));
    let floor = workspace["package"]["rust-version"].as_str().expect("a version");
    let minor = |version: &str| version.split(['.', '-']).nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let base = dockerfile.lines().find_map(|line| line.strip_prefix("FROM rust:")).expect("Rust builds it");
    assert!(minor(base) >= minor(floor) && minor(floor).is_some(), "{base} is older than {floor}");
    let version = workspace["package"]["version"].as_str().expect("a version");
    assert!(dockerfile.contains(&format!("image.version=\"{version}\"")), "the label says another version");
    for line in text("compose/compose.yaml").lines().filter(|line| line.contains("image: veilsum:")) {
        assert!(line.ends_with(&format!("veilsum:{version}")), "{line}");
    }
}

/// C-241: Kustomize finds what it is told, and is told of everything.
#[test]
fn every_manifest_is_listed_and_every_reference_leads_somewhere() {
    for folder in ["kustomize/base", "kustomize/overlays/example"] {
        let listed: BTreeSet<String> =
            texts(&yaml(&format!("{folder}/kustomization.yaml"))[0]["resources"]).into_iter().collect();
        let there = files().into_iter().filter_map(|path| path.strip_prefix(&format!("{folder}/")).map(String::from));
        for name in there.filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml") {
            assert!(listed.contains(&name), "{folder}: {name} is not listed");
        }
        for name in listed {
            assert!(verification::manifests::folder().join(folder).join(&name).exists(), "{folder}: no {name}");
        }
    }
    let budget = object("PodDisruptionBudget", "veilsum");
    let deployment = object("Deployment", "veilsum");
    assert!(deployment["spec"]["replicas"].as_u64() >= Some(2) && budget["spec"]["maxUnavailable"] == 1);
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &budget["spec"]["selector"]["matchLabels"],
        &object("Service", "veilsum")["spec"]["selector"],
        &object("Service", "veilsum-operations")["spec"]["selector"],
    ] {
        for (name, value) in selector.as_object().expect("labels") {
            assert_eq!(&labels[name], value, "{name}");
        }
    }
    let ingress = object("Ingress", "veilsum");
    let path = &ingress["spec"]["rules"][0]["http"]["paths"][0];
    assert_eq!((&path["path"], &path["backend"]["service"]["name"]), (&"/v1/".into(), &"veilsum".into()));
    for (kind, pod) in pods() {
        let volumes: BTreeSet<&str> =
            pod["volumes"].as_array().expect("volumes").iter().filter_map(|volume| volume["name"].as_str()).collect();
        for container in containers(&pod) {
            for mount in container["volumeMounts"].as_array().into_iter().flatten() {
                assert!(volumes.contains(mount["name"].as_str().expect("a name")), "{kind}: {mount}");
            }
        }
    }
}

/// C-241: nginx before the replicas passes /v1/ on, whole and unlogged, as long as requests may take.
#[test]
fn the_proxy_passes_on_what_clients_need_and_nothing_else() {
    let config = text("compose/nginx.conf");
    for line in
        ["access_log off;", "client_max_body_size 1g;", "proxy_read_timeout 90s;", "proxy_request_buffering off;"]
    {
        assert!(config.contains(line), "{line}");
    }
    let passed: Vec<&str> = config.split("location ").skip(1).filter(|it| it.contains("proxy_pass")).collect();
    assert!(passed.len() == 1 && passed[0].starts_with("/v1/ {") && passed[0].contains("proxy_pass http://veilsum;"));
    let ingress = object("Ingress", "veilsum")["metadata"]["annotations"].to_string();
    for part in ["enable-access-log\":\"false", "proxy-body-size\":\"1g", "proxy-read-timeout\":\"90"] {
        assert!(ingress.contains(part), "{part}: {ingress}");
    }
}

/// C-240: the secrets that the script makes are such as the program takes, each once.
#[test]
fn the_script_makes_secrets_once_and_for_their_owner_only() {
    let copy = tempfile::tempdir().expect("a folder");
    let script = copy.path().join("make-secrets");
    std::fs::copy(folder().join("compose/make-secrets"), &script).expect("room");
    let run = || {
        let said: Said = Command::new("sh").arg(&script).output().expect("a shell").into();
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(said.err.contains("cert.pem") && said.out.is_empty(), "{}", said.err);
    };
    run();
    let read = |name: &str| std::fs::read_to_string(copy.path().join("secrets").join(name)).expect("it was made");
    let names = ["sealing.key", "aggregator.key", "checkpoint.key", "admin.token"];
    for (name, kind) in names.into_iter().zip(["service", "signing", "checkpoint", "admin-token"]) {
        let path = copy.path().join("secrets").join(name);
        let said: Said = veilsum(&["keys", "show", "--json", "--kind", kind, path.to_str().expect("utf-8")]).into();
        assert_eq!(said.json(0)["kind"], kind, "{name}");
    }
    let made = names.map(read);
    assert_eq!(BTreeSet::from(made.clone()).len(), names.len(), "each is another");
    let password = read("postgres.password");
    assert_eq!(read("postgres.pgpass"), format!("postgres:*:*:postgres:{password}"));
    run();
    assert_eq!(names.map(read), made, "one that is there is kept");
}
