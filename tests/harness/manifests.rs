//! aggregator/deploy as its readers see it: YAML with its merges, commands, environments, unit files. For tests that hold it
//! against the program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

use crate::programs::root;

/// What an operator replaces in every veilsum.toml.
pub const AUTHORITY_PLACEHOLDER: &str = "REPLACE-WITH-THE-64-DIGITS-OF-YOUR-AUTHORITY";

/// The folder.
pub fn folder() -> PathBuf {
    root().join("aggregator/deploy")
}

/// A file of it.
pub fn text(path: &str) -> String {
    let path = folder().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file of it, by its path in it.
pub fn files() -> Vec<String> {
    let (mut found, mut waiting) = (Vec::new(), vec![folder()]);
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && path.file_name() != Some("secrets".as_ref()) {
                waiting.push(path);
            } else if path.is_file() {
                found.push(path.strip_prefix(folder()).expect("in it").to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// The documents of a YAML file.
pub fn yaml(path: &str) -> Vec<Value> {
    documents(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents(text: &str) -> Result<Vec<Value>, String> {
    YamlLoader::load_from_str(text).map_err(|error| error.to_string())?.iter().map(value).collect()
}

fn value(yaml: &Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Real(text) => Value::from(text.parse::<f64>().map_err(|error| error.to_string())?),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Boolean(truth) => Value::from(*truth),
        Yaml::Array(items) => Value::Array(items.iter().map(value).collect::<Result<_, _>>()?),
        Yaml::Hash(pairs) => {
            let (mut own, mut merged) = (Map::new(), Map::new());
            for (key, item) in pairs {
                let key = key.as_str().ok_or_else(|| format!("a name was expected, {key:?} came"))?;
                match (key, value(item)?) {
                    ("<<", Value::Object(under)) => merged.extend(under),
                    ("<<", other) => return Err(format!("a mapping to merge was expected, {other} came")),
                    (key, item) => drop(own.insert(key.to_string(), item)),
                }
            }
            merged.extend(own); // what is said here wins
            Value::Object(merged)
        }
        Yaml::Null => Value::Null,
        Yaml::Alias(_) | Yaml::BadValue => return Err(format!("{yaml:?}")),
    })
}

/// A list of texts.
#[track_caller]
pub fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.map(|item| item.as_str().unwrap_or_else(|| panic!("a text was expected: {item}")).to_string()).collect()
}

/// The lines of a unit file by `Section.Key`, in order.
pub fn unit(path: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text(path).lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_string();
        } else {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{path}: {line}"));
            found.entry(format!("{section}.{key}")).or_default().push(value.to_string());
        }
    }
    found
}

/// A configuration file with an authority's real key, in a folder: what the operator makes of it.
pub fn configured(path: &str, authority: &str, folder: &Path) -> PathBuf {
    let shipped = text(path);
    assert!(shipped.contains(AUTHORITY_PLACEHOLDER), "{path} names no authority to replace");
    let file = folder.join("veilsum.toml");
    std::fs::write(&file, shipped.replace(AUTHORITY_PLACEHOLDER, authority)).expect("room");
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_and_aliases_are_read_as_compose_reads_them() {
        let text = "x: &x {a: 1, b: [c]}\ny:\n  <<: *x\n  a: 2\nz: *x\n";
        let read = documents(text).expect("yaml");
        assert_eq!(read[0]["y"], serde_json::json!({"a": 2, "b": ["c"]}));
        assert_eq!(read[0]["z"], read[0]["x"]);
        assert!(documents("a: [").is_err() && documents("<<: 1").is_err());
    }
}
