//! The configuration of the node.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nightlatch::config::{Loaded, load};
use toml::{Table, Value};

/// Parts the file from its drop-ins; no TOML can hold it.
const NEXT_FILE: u8 = 1;

/// Any text as the configuration and its drop-ins: what is refused names one of the files, what is taken names for each value
/// the last file that has it, and each file of it is one by itself.
pub fn config(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let drop_ins = folder.path().join("conf.d");
    fs::create_dir(&drop_ins).expect("a folder");
    fs::set_permissions(&drop_ins, fs::Permissions::from_mode(0o755)).expect("the folder is ours");
    let main = folder.path().join("main.toml");
    let texts: Vec<&[u8]> = data.split(|byte| *byte == NEXT_FILE).take(9).collect();
    let mut files = vec![main.clone()];
    files.extend((1..texts.len()).map(|n| drop_ins.join(format!("{n}.toml"))));
    for (file, text) in files.iter().zip(&texts) {
        fs::write(file, text).expect("the file is written");
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("the file is ours");
    }
    let loaded = match load(&main, &drop_ins) {
        Ok(loaded) => loaded,
        Err(why) => {
            let words = why.to_string();
            let names = |file: &Path| words.contains(&file.display().to_string());
            assert!(files.iter().any(|file| names(file)) || words.contains("cannot be read"), "{words}");
            return;
        }
    };
    let tables: Vec<Table> =
        texts.iter().map(|text| toml::from_slice(text).expect("what was taken is TOML")).collect();
    for (key, file) in &loaded.origins {
        let last = tables.iter().rposition(|table| value(table, key).is_some()).expect("some file has it");
        assert_eq!(&files[last], file, "{key}");
    }
    for file in &files {
        let alone = load(file, &folder.path().join("none"));
        assert!(
            alone.is_ok_and(|Loaded { origins, .. }| origins
                .keys()
                .all(|key| loaded.origins.contains_key(key)))
        );
    }
}

/// The value under a dotted key; none for a table.
fn value<'a>(table: &'a Table, dotted: &str) -> Option<&'a Value> {
    // A key may hold dots itself, in quotation marks.
    let found = table.get(dotted).filter(|value| !value.is_table());
    found.or_else(|| {
        dotted.match_indices('.').find_map(|(at, _)| {
            let (first, rest) = (dotted.get(..at)?, dotted.get(at + 1..)?);
            table.get(first)?.as_table().and_then(|below| value(below, rest))
        })
    })
}
