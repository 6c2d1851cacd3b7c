//! The shape of this repository, read from its files: which room may use which, what the locked rooms link,
//! and that the documents still say what the code does. The table of imports stands in `ARCHITECTURE.md`;
//! this file reads it there, so that there is one of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test binary: what it cannot read is a failed test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nightlatch::telemetry::message_id;
use nightlatch_model::{Answer, Reason};

/// Not to be linked: a second TLS stack, C's OpenSSL, RSA with RUSTSEC-2023-0071. `deny.toml` lists the same.
const BANNED: [&str; 5] = ["ring", "openssl", "openssl-sys", "native-tls", "rsa"];
/// Where types of the gRPC library may stand.
const GRPC_ADAPTERS: [&str; 8] = [
    "src/agent/admin.rs",
    "src/agent/daemon.rs",
    "src/broker/grpc.rs",
    "src/broker/grpc_words.rs",
    "src/broker/mod.rs",
    "src/cli/client.rs",
    "src/cli/explain.rs",
    "src/cli/token/client.rs",
];
/// The longest source file, in lines.
const MAX_FILE_LINES: usize = 620;
/// The longest program file: it names its library and nothing else.
const MAX_BIN_LINES: usize = 40;
/// The longest file of unsafe code of the programs that run as root or for strangers.
const MAX_HOOK_SYS_LINES: usize = 60;

// ---- arrows ----

#[test]
fn rooms_import_only_what_the_table_allows() {
    let table = import_table();
    let locked = locked_rooms();
    let mut wrong = Vec::new();
    for source in library_sources() {
        let Some(row) = row_of(&table, &source) else {
            wrong.push(format!("{}: no row in the import table of ARCHITECTURE.md", source.path));
            continue;
        };
        if source.product.contains("crate::{") {
            wrong.push(format!("{}: name one room in each `use crate::`", source.path));
        }
        for used in words_after(&source.product, "crate::") {
            let own = row.room == used || row.room.starts_with(&format!("{used}/"));
            let exists = root().join("src").join(&used).is_dir();
            if exists && !own && !row.may_use.contains(&used) {
                wrong.push(format!("{}: `{}` must not use `{used}`", source.path, row.room));
            }
        }
        for used in words_after(&source.product, "nightlatch_") {
            if locked.contains(&used) && !row.locked.contains(&used) {
                wrong.push(format!("{}: `{}` must not use nightlatch-{used}", source.path, row.room));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that are not in the table:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_of_imports_has_no_circle_and_no_dead_row() {
    let table = import_table();
    let sources = library_sources();
    for row in &table {
        assert!(sources.iter().any(|source| in_room(source, &row.room)), "`{}` is in no file", row.room);
        for used in &row.may_use {
            assert!(root().join("src").join(used).is_dir(), "`{}` may use `{used}`: no such room", row.room);
        }
    }
    // Rooms are taken off while all they use is gone; what remains is a circle.
    let mut left: BTreeMap<&str, &BTreeSet<String>> =
        table.iter().map(|row| (row.room.as_str(), &row.may_use)).collect();
    loop {
        let free: Vec<&str> = left
            .iter()
            .filter(|(_, uses)| !uses.iter().any(|used| left.contains_key(used.as_str())))
            .map(|(room, _)| *room)
            .collect();
        if free.is_empty() {
            break;
        }
        left.retain(|room, _| !free.contains(room));
    }
    assert!(left.is_empty(), "rooms in a circle: {:?}", left.keys());
}

#[test]
fn the_command_line_asks_and_does_not_decide() {
    let known = ["Paths", "Entry", "entries"];
    for source in library_sources().iter().filter(|source| source.path.starts_with("src/cli/")) {
        for rest in source.product.split("crate::agent::").skip(1) {
            let used = rest.split(';').next().unwrap_or_default();
            let mut names =
                used.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty());
            let good = used.starts_with("admin::v1") || names.all(|name| known.contains(&name));
            assert!(good, "{}: crate::agent::{used}", source.path);
        }
        for rest in source.product.split("crate::broker::").skip(1) {
            let used = rest.split(';').next().unwrap_or_default();
            let good = used == "v1" || used.starts_with("v1::") || used.starts_with("identity_header::");
            assert!(good, "{}: crate::broker::{used}", source.path);
        }
    }
}

#[test]
fn grpc_types_stay_in_their_adapters() {
    for source in library_sources() {
        let speaks = source.product.contains("tonic") || source.product.contains("prost");
        assert!(!speaks || GRPC_ADAPTERS.contains(&source.path.as_str()), "{} names tonic", source.path);
    }
}

// ---- locked rooms ----

#[test]
fn locked_rooms_link_what_they_must_and_no_more() {
    for (room, allowed) in [
        ("src/wire", &[][..]),
        ("src/hook", &["nightlatch-wire"]),
        ("src/model", &["serde", "sha2", "thiserror", "zeroize"]),
        (
            "src/jwt",
            &["aws-lc-rs", "base64", "jsonwebtoken", "nightlatch-model", "serde", "serde_json", "thiserror"],
        ),
        ("src/page", &["serde", "thiserror", "toml"]),
        ("src/policy", &["nightlatch-model", "serde"]),
        ("src/rules", &["nightlatch-model", "nightlatch-page", "nightlatch-policy", "serde", "toml"]),
        ("src/sshcert", &["aws-lc-rs", "thiserror"]),
        (
            "src/tokens",
            &["base64", "nightlatch-model", "nightlatch-page", "serde", "serde_json", "thiserror", "toml"],
        ),
        ("src/userdbd", &["nightlatch-model", "serde", "serde_json", "thiserror"]),
        (
            "src/sessiond",
            &[
                "listenfd",
                "nightlatch-model",
                "nightlatch-wire",
                "nix",
                "rustix",
                "serde",
                "serde_json",
                "sha2",
                "thiserror",
            ],
        ),
    ] {
        let found = dependencies(room);
        assert_eq!(
            found,
            allowed.iter().map(|name| (*name).to_owned()).collect(),
            "[dependencies] of {room}"
        );
    }
    let known = "hook jwt model page policy rules sessiond sshcert tokens userdbd wire".split(' ');
    assert_eq!(locked_rooms(), known.map(str::to_owned).collect(), "a new locked room needs a row above");
}

#[test]
fn a_locked_room_is_not_compiled_a_second_time() {
    let map = source("src/lib.rs");
    for room in locked_rooms() {
        let declared = map.product.lines().any(|line| line.trim().ends_with(&format!("mod {room};")));
        assert!(!declared, "src/{room} has a Cargo.toml: `mod {room};` would compile it without its lock");
    }
}

#[test]
fn rooms_that_decide_touch_nothing_outside() {
    for room in ["src/jwt", "src/model", "src/page", "src/policy", "src/rules", "src/sshcert", "src/tokens"] {
        for source in product_sources(room) {
            for outside in ["std::fs", "std::net", "std::env", "std::process", "std::thread", "std::os"] {
                assert!(!source.product.contains(outside), "{} uses {outside}", source.path);
            }
        }
    }
}

#[test]
fn the_emulator_shares_no_code_with_the_product() {
    let linked = dependencies("tests/emulator");
    assert!(!linked.iter().any(|name| name.starts_with("nightlatch")), "{linked:?}");
    for source in product_sources("tests/emulator") {
        let others = words_after(&source.text, "nightlatch_");
        assert!(others.iter().all(|word| word.starts_with("emulator")), "{}: {others:?}", source.path);
    }
}

#[test]
fn banned_crates_are_not_linked() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for name in BANNED {
        let tree = ["tree", "--workspace", "--locked", "--offline", "-e", "normal,build,dev"];
        let done = Command::new(&cargo)
            .current_dir(root())
            .args(tree)
            .args(["--target", "all", "--prefix", "none", "-i", name])
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(out.trim().is_empty(), "{name} is linked:\n{out}");
        // Either nobody turns it on, or Cargo.lock does not even know it; anything else is a failed look.
        assert!(err.contains("nothing to print") || err.contains("did not match any packages"), "{err}");
    }
    let deny = read("deny.toml");
    for name in BANNED {
        assert!(deny.contains(&format!("crate = \"{name}\"")), "deny.toml does not ban {name}");
    }
}

// ---- time, unsafe, size ----

#[test]
fn only_the_clock_reads_a_clock() {
    for source in product_sources("src") {
        let reads = ["SystemTime::now", "clock_gettime", "Instant::now"];
        let mut found: Vec<&str> = reads.into_iter().filter(|call| source.product.contains(call)).collect();
        // The runtime's own timer bounds waits; it stands still in tests and tells nobody the time.
        if source.product.contains("use tokio::time::Instant;")
            && !source.product.contains("std::time::Instant")
        {
            found.retain(|call| *call != "Instant::now");
        }
        // userdbd is a program of its own; its `main` is its clock.
        if source.path == "src/userdbd/main.rs" {
            assert_eq!(source.product.matches("SystemTime::now").count(), 1);
            assert!(source.product.contains("fn now() -> Timestamp"));
            found.retain(|call| *call != "SystemTime::now");
        }
        // So is sessiond, and this file is all of its clock.
        let home = source.path.starts_with("src/clock/") || source.path == "src/sessiond/clock.rs";
        assert!(found.is_empty() || home, "{}: {found:?}", source.path);
    }
}

#[test]
fn unsafe_code_has_two_places() {
    for source in product_sources("src") {
        let code = source.product.replace("unsafe_code", "");
        let found = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
        let home = source.path.starts_with("src/sys/") || source.path == "src/hook/sys.rs";
        assert!(!found || home, "{} holds unsafe code", source.path);
    }
    let lines = read("src/hook/sys.rs").lines().count();
    assert!(lines <= MAX_HOOK_SYS_LINES, "src/hook/sys.rs has {lines} lines");
}

#[test]
fn files_fit_into_a_head() {
    for folder in ["src", "tests", "benches", "fuzz"] {
        for source in sources(folder) {
            let lines = source.text.lines().count();
            let limit = if source.path.starts_with("src/bin/") { MAX_BIN_LINES } else { MAX_FILE_LINES };
            assert!(lines <= limit, "{} has {lines} lines of at most {limit}", source.path);
        }
    }
}

// ---- documents ----

#[test]
fn every_room_is_on_the_map() {
    let map = read("ARCHITECTURE.md");
    for entry in fs::read_dir(root().join("src")).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        assert!(map.contains(&format!("`{name}/`")), "ARCHITECTURE.md does not describe src/{name}/");
    }
}

#[test]
fn every_past_bug_names_a_test_that_exists() {
    let page = read("docs/threats.md");
    let (_, page) = page.split_once("## Past bugs").unwrap();
    let tests: BTreeSet<String> = ["src", "tests", "fuzz"]
        .iter()
        .flat_map(|folder| sources(folder))
        .flat_map(|source| words_after(&source.text, "fn "))
        .collect();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ") && line.contains('`')).collect();
    assert!(rows.len() >= 30, "only {} rows were found in docs/threats.md", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let what = row.trim_start_matches("| ").split(" | ").next().unwrap_or_default();
        let last = row.trim_end_matches(['|', ' ']).rsplit(" | ").next().unwrap_or_default();
        let named: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            wrong.push(format!("{what}: names no test"));
        }
        let missing = named.iter().filter(|name| !tests.contains(**name));
        wrong.extend(missing.map(|name| format!("{what}: `{name}` is no test of this repository")));
    }
    assert!(wrong.is_empty(), "docs/threats.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_reason_is_documented() {
    let page = read("docs/reasons.md");
    let words: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    let expected: Vec<&str> = Reason::ALL.iter().map(|reason| reason.word()).collect();
    assert_eq!(words, expected, "the headings of docs/reasons.md, in the order of Reason::ALL");
    for reason in Reason::ALL {
        let heading = format!("### `{reason}`\n\n");
        let (_, section) = page.split_once(&heading).unwrap();
        let section = section.split_whitespace().take(60).collect::<Vec<_>>().join(" ");
        let kind = if reason.answer() == Answer::Denial { "Denial" } else { "Unknown" };
        let lead = format!("{kind}. Shown: \"{}\"", reason.text());
        assert!(section.starts_with(&lead), "the section of `{reason}` should begin with: {lead}");
    }
}

#[test]
fn the_journal_explains_every_reason() {
    let expected = catalog();
    let found = read("systemd/nightlatch.catalog");
    if found != expected {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nightlatch.catalog");
        fs::write(&path, expected).unwrap();
        panic!("systemd/nightlatch.catalog is not current: cp {} systemd/nightlatch.catalog", path.display());
    }
}

#[test]
fn every_key_of_the_configuration_is_in_the_readme() {
    let readme = read("README.md");
    let mut section = String::new();
    let mut known = BTreeSet::new();
    let files = read("src/config/file.rs") + &read("src/config/broker.rs");
    for line in files.lines() {
        if let Some(name) = line.strip_prefix("pub struct ") {
            section = match name.trim_end_matches(" {") {
                "SignIn" => "broker.sign_in".to_owned(),
                "BrokerIdentity" => "broker.identity".to_owned(),
                other => other.to_lowercase(),
            };
        } else if let Some((key, kind)) = line.strip_prefix("    pub ").and_then(|rest| rest.split_once(": "))
        {
            let kind = kind.trim_end_matches(',');
            let is_table = kind.to_lowercase() == key || ["SignIn", "Vec<BrokerIdentity>"].contains(&kind);
            if !is_table {
                known.insert(if section == "config" { key.to_owned() } else { format!("{section}.{key}") });
            }
        }
    }
    assert!(known.contains("login.domains") && known.contains("tenant"), "{known:?}");
    assert!(known.contains("broker.enabled") && known.contains("broker.identity.kind"), "{known:?}");
    for key in known {
        assert!(readme.contains(&format!("| `{key}` |")), "README.md does not list `{key}`");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut pages: Vec<PathBuf> = vec![];
    for folder in ["", "docs", "docs/adr"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().flatten().map(|entry| entry.path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|ext| ext == "md")));
    }
    assert!(pages.len() > 8, "{pages:?}");
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !link.is_empty() && !link.contains(':') {
                assert!(page.parent().unwrap().join(link).exists(), "{}: {link}", page.display());
            }
        }
    }
}

// ---- reading the tree ----

/// One Rust file.
struct Source {
    /// From the root of the repository.
    path: String,
    /// All of it.
    text: String,
    /// Its code without comments, the contents of strings, and its test module.
    product: String,
}

/// One row of the import table.
struct Row {
    room: String,
    may_use: BTreeSet<String>,
    locked: BTreeSet<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

fn source(path: &str) -> Source {
    let text = read(path);
    let product = code_of(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
    Source { path: path.to_owned(), text, product }
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return found };
    for entry in entries.flatten() {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            if !path.ends_with("/target") {
                found.extend(sources(&path));
            }
        } else if path.ends_with(".rs") {
            found.push(source(&path));
        }
    }
    found
}

/// What ends up in a program: no tests, no examples.
fn product_sources(folder: &str) -> Vec<Source> {
    let mut found = sources(folder);
    found.retain(|source| {
        let inside = source.path.trim_start_matches(folder);
        !inside.ends_with("tests.rs")
            && !inside.ends_with("/tiny_server.rs")
            && !["/tests/", "/testing/", "/examples/", "/benches/"].iter().any(|part| inside.contains(part))
    });
    found
}

/// The rooms of the root library.
fn library_sources() -> Vec<Source> {
    let locked = locked_rooms();
    let mut found = product_sources("src");
    found.retain(|source| {
        let parts: Vec<&str> = source.path.split('/').collect();
        parts.len() > 2 && parts[1] != "bin" && !locked.contains(parts[1])
    });
    found
}

fn locked_rooms() -> BTreeSet<String> {
    let entries = fs::read_dir(root().join("src")).unwrap().flatten();
    let locked = entries.filter(|entry| entry.path().join("Cargo.toml").exists());
    locked.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn in_room(source: &Source, room: &str) -> bool {
    let path = source.path.trim_start_matches("src/");
    path.strip_prefix(room).is_some_and(|rest| rest.starts_with('/') || rest.starts_with(".rs"))
}

/// The row of a file: that of its own name before that of its folder.
fn row_of<'a>(table: &'a [Row], source: &Source) -> Option<&'a Row> {
    table.iter().filter(|row| in_room(source, &row.room)).max_by_key(|row| row.room.len())
}

/// The table under `| Room | May use | Locked rooms |`.
fn import_table() -> Vec<Row> {
    let page = read("ARCHITECTURE.md");
    let (_, rest) = page.split_once("| Room | May use | Locked rooms |").expect("the import table");
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    let table: Vec<Row> = rows
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(|cell| {
                cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<String>>()
            });
            let mut next = || cells.next().unwrap_or_default();
            let room = next().into_iter().next().unwrap_or_default();
            Row { room, may_use: next(), locked: next() }
        })
        .collect();
    assert!(table.len() > 8, "the import table of ARCHITECTURE.md was not understood");
    table
}

/// The keys of `[dependencies]`, for every target.
fn dependencies(room: &str) -> BTreeSet<String> {
    let manifest: toml::Table = toml::from_str(&read(&format!("{room}/Cargo.toml"))).unwrap();
    let mut found: BTreeSet<String> = BTreeSet::new();
    for key in ["dependencies", "build-dependencies"] {
        found.extend(
            manifest.get(key).and_then(toml::Value::as_table).into_iter().flat_map(|t| t.keys().cloned()),
        );
    }
    assert!(!manifest.contains_key("target"), "{room}: dependencies of one target only are not looked at");
    found
}

/// The identifiers that follow `before`.
fn words_after(text: &str, before: &str) -> BTreeSet<String> {
    let rest = text.split(before).skip(1);
    rest.map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()).collect()
}

/// Rust without its comments and without what stands in its strings.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let mut code = String::with_capacity(text.len());
    let mut here = 0;
    while here < bytes.len() {
        let end = match (at(here), at(here + 1)) {
            (b'/', b'/') => text[here..].find('\n').map_or(bytes.len(), |len| here + len),
            (b'r', b'"' | b'#') if !at(here.wrapping_sub(1)).is_ascii_alphanumeric() => {
                let hashes = bytes[here + 1..].iter().take_while(|byte| **byte == b'#').count();
                if at(here + 1 + hashes) == b'"' {
                    let close = format!("\"{}", "#".repeat(hashes));
                    let begin = here + 2 + hashes;
                    text[begin..].find(&close).map_or(bytes.len(), |len| begin + len + close.len())
                } else {
                    here
                }
            }
            (b'"', _) => {
                let mut end = here + 1;
                while end < bytes.len() && at(end) != b'"' {
                    end += if at(end) == b'\\' { 2 } else { 1 };
                }
                end + 1
            }
            (b'\'', b'\\') => text[here + 2..].find('\'').map_or(bytes.len(), |len| here + 3 + len.max(1)),
            (b'\'', _) if at(here + 2) == b'\'' => here + 3,
            _ => here,
        };
        if end == here {
            let next = text[here..].chars().next().map_or(1, char::len_utf8);
            code.push_str(&text[here..here + next]);
            here += next;
        } else {
            code.push(' ');
            here = end.min(bytes.len());
        }
    }
    code
}

#[test]
fn comments_and_strings_are_not_code() {
    let text = "let a = \"unsafe \\\" //\"; // unsafe\nlet b: &'static str = r#\"x \" unsafe\"#; let c = '\"'; d('\\'');";
    let code = code_of(text);
    assert!(!code.contains("unsafe"), "{code}");
    assert!(
        code.contains("let b: &'static str =") && code.contains("let c =") && code.contains("d("),
        "{code}"
    );
}

// ---- the journal's catalog ----

/// Words of a catalog entry are broken so that a line has at most this many bytes.
const CATALOG_WIDTH: usize = 78;

/// What `systemd/nightlatch.catalog` must hold (systemd.io, "Journal Message Catalogs").
fn catalog() -> String {
    let mut text = String::from(
        "# Installed as /usr/lib/systemd/catalog/nightlatch.catalog; then `journalctl --update-catalog`.\n\
         # With it `journalctl -x` says beside each decision what it means and what to do.\n\
         # One entry for each reason of src/model/reason.rs; a test keeps it so.\n",
    );
    let entry = |id: String, subject: String, body: &[String]| {
        let body: Vec<String> = body.iter().map(|paragraph| wrap(paragraph)).collect();
        format!("\n-- {id}\nSubject: {subject}\nDefined-By: Nightlatch\n\n{}\n", body.join("\n\n"))
    };
    let more = "The whole decision, rule by rule: nightlatch explain @NIGHTLATCH_CORRELATION@";
    text += &entry(
        message_id(None),
        "A certificate was admitted or a login was allowed".into(),
        &[
            "The person @NIGHTLATCH_USER@ passed every rule that the service @NIGHTLATCH_SERVICE@ asks for. For \
             the service \"hook\" this is no login yet: sshd goes on to demand the key, and PAM decides."
                .into(),
            more.into(),
        ],
    );
    for reason in Reason::ALL {
        let kind = match reason.answer() {
            Answer::Denial => "This is a definite no.",
            Answer::Unknown => "This is no verdict on the person: it could not be found out, and is refused.",
        };
        text += &entry(
            message_id(Some(*reason)),
            format!("Login refused: {reason}"),
            &[
                format!("@NIGHTLATCH_USER@ was refused: {}. {kind}", reason.text()),
                format!("What to do: {}", reason.cure()),
                more.into(),
            ],
        );
    }
    text
}

fn wrap(paragraph: &str) -> String {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= CATALOG_WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
