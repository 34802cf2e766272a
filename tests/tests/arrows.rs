//! The arrows of the house: who may use whom. A test reads the `use` lines; Cargo holds what lies between packages.
//!
//! Each rule names a place and what it must not mention. docs/architecture.md draws the picture.

use std::path::{Path, PathBuf};

/// Files below `place` must not mention any of `never` outside comments.
struct Arrow {
    place: &'static str,
    never: &'static [&'static str],
}

const ARROWS: &[Arrow] = &[
    // crypto: upward only
    Arrow { place: "crypto/src/ids.rs", never: &["crate::"] },
    Arrow {
        place: "crypto/src/math",
        never: &[
            "crate::messages",
            "crate::client",
            "crate::server",
            "crate::params",
            "crate::update",
            "crate::privacy",
            "crate::rules",
        ],
    },
    Arrow {
        place: "crypto/src/primitives",
        never: &[
            "crate::messages",
            "crate::client",
            "crate::server",
            "crate::params",
            "crate::update",
            "crate::privacy",
            "crate::rules",
            "crate::transparency",
        ],
    },
    Arrow {
        place: "crypto/src/graph.rs",
        never: &["crate::messages", "crate::client", "crate::server", "crate::update", "crate::privacy"],
    },
    Arrow {
        place: "crypto/src/params",
        never: &["crate::messages", "crate::client", "crate::server", "crate::update", "crate::privacy"],
    },
    Arrow {
        place: "crypto/src/params.rs",
        never: &["crate::messages", "crate::client", "crate::server", "crate::update", "crate::privacy"],
    },
    Arrow {
        place: "crypto/src/update",
        never: &[
            "crate::messages",
            "crate::client",
            "crate::server",
            "crate::privacy::accountant",
            "crate::privacy::budget",
        ],
    },
    Arrow {
        place: "crypto/src/privacy",
        never: &["crate::messages", "crate::client", "crate::server", "crate::params"],
    },
    Arrow {
        place: "crypto/src/statistics",
        never: &["crate::messages", "crate::client", "crate::server", "crate::update"],
    },
    Arrow {
        place: "crypto/src/transparency",
        never: &["crate::messages", "crate::client", "crate::server", "crate::params"],
    },
    Arrow {
        place: "crypto/src/messages",
        never: &["crate::client", "crate::server", "crate::update", "crate::privacy", "crate::transparency"],
    },
    Arrow { place: "crypto/src/client", never: &["crate::server", "crate::audit"] },
    Arrow { place: "crypto/src/server", never: &["crate::client", "crate::audit"] },
    // crypto decides: no I/O, no clock, no randomness of its own
    Arrow { place: "crypto/src", never: &["std::fs", "std::net", "std::time", "SystemTime", "tokio", "sqlx", "axum"] },
    // the client's training sees nothing of the protocol
    Arrow {
        place: "client-lib/src/training",
        never: &[
            "veilsum_crypto::client",
            "veilsum_crypto::messages",
            "crate::participant",
            "crate::transport",
            "crate::saved",
        ],
    },
    Arrow { place: "client-lib/src/transport", never: &["crate::participant", "crate::saved", "crate::training"] },
    // aggregator: http -> round -> store
    Arrow { place: "aggregator/src/store", never: &["crate::round", "crate::http", "axum"] },
    Arrow { place: "aggregator/src/store.rs", never: &["crate::round", "crate::http", "axum"] },
    Arrow { place: "aggregator/src/round", never: &["crate::http", "axum", "sqlx"] },
    Arrow { place: "aggregator/src/round.rs", never: &["crate::http", "axum", "sqlx"] },
    Arrow { place: "aggregator/src/http", never: &["sqlx", "crate::store::sql"] },
    Arrow { place: "aggregator/src", never: &["veilsum_client"] },
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rust_files(place: &Path, files: &mut Vec<PathBuf>) {
    if place.is_file() {
        files.push(place.to_path_buf());
    } else if let Ok(entries) = place.read_dir() {
        entries.flatten().for_each(|entry| rust_files(&entry.path(), files));
    }
}

/// Lines that the compiler sees, tests of the file left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn violations(arrow: &Arrow, root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    rust_files(&root.join(arrow.place), &mut files);
    assert!(!files.is_empty(), "{} is gone: name where it went", arrow.place);
    let mut found = Vec::new();
    for file in
        files.iter().filter(|file| file.extension().is_some_and(|end| end == "rs") && !file.ends_with("testing.rs"))
    {
        let text = std::fs::read_to_string(file).expect("a source file is readable");
        for (line, words) in code(&text) {
            found.extend(
                arrow
                    .never
                    .iter()
                    .filter(|word| words.contains(*word))
                    .map(|word| format!("{}:{}: {} must not use {word}", file.display(), line + 1, arrow.place)),
            );
        }
    }
    found
}

#[test]
fn every_arrow_points_the_way_the_house_was_drawn() {
    let root = root();
    let found: Vec<String> = ARROWS
        .iter()
        .filter(|arrow| arrow.place.ends_with(".rs") || root.join(arrow.place).exists())
        .flat_map(|arrow| violations(arrow, &root))
        .collect();
    assert!(found.is_empty(), "arrows turned round:\n{}", found.join("\n"));
}

/// The test above can fail: an arrow turned round in a copy is found.
#[test]
fn an_arrow_turned_round_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("crypto/src/client");
    std::fs::create_dir_all(&place).expect("made");
    std::fs::write(place.join("mask.rs"), "use crate::server::Phase;\n").expect("written");
    let arrow = Arrow { place: "crypto/src/client", never: &["crate::server"] };
    assert_eq!(violations(&arrow, folder.path()).len(), 1);
}

/// `unsafe` stands nowhere; its one later place is crypto/src/math/kernels.
#[test]
fn nothing_is_unsafe() {
    let mut files = Vec::new();
    for place in ["crypto/src", "client-lib/src", "aggregator/src", "aggregator/cli/src"] {
        rust_files(&root().join(place), &mut files);
    }
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
        let text = std::fs::read_to_string(file).expect("a source file is readable");
        let found = code(&text).find(|(_, line)| line.contains("unsafe {") || line.contains("unsafe fn"));
        assert!(found.is_none(), "{}: {found:?}", file.display());
    }
}
