//! The administrator's files about people and keys.

use nightlatch::login::{IdentityMap, KeptKey, MAX_CA_KEYS, Revocations, TrustStore, parse_ca_file};
use nightlatch_model::{LoginName, ObjectId, Timestamp};
use nightlatch_sshcert::Certificate;

const NOW: Timestamp = Timestamp(1_800_000_000);
/// A certificate as `ssh-keygen -s ca -I "alice 7" -z 7` makes it.
const CERTIFICATE: &str = include_str!("seeds/alice-cert.pub");

/// Any text as the identity map: what is taken has canonical names and object ids, each name once, and
/// gives back exactly what stands in it.
pub fn identity_map(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(map) = IdentityMap::parse(text) else { return };
    let table: toml::Table = toml::from_str(text).expect("what was taken is TOML");
    assert!(table.keys().all(|key| key == "person"));
    let rows = table.get("person").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let mut names = Vec::new();
    for row in rows {
        // A derived reader takes a list in the order of the fields as well.
        let Some(row) = row.as_table() else { return };
        let word = |key: &str| row.get(key).and_then(toml::Value::as_str).expect("two texts");
        let name = LoginName::parse(word("name")).expect("a canonical name");
        let oid: ObjectId = word("oid").parse().expect("an object id");
        assert_eq!(map.get(&name), Some(oid));
        assert!(!names.contains(&name), "{name} twice");
        names.push(name);
    }
    let nobody = LoginName::parse("nobody.of-the.seeds@fuzz.example").expect("a name");
    assert!(map.get(&nobody).is_none() || names.contains(&nobody));
}

/// Any text as the file of what was taken back, as the file of pinned keys, and any JSON as the keys
/// kept over a restart: every line that is taken can match something, a certificate is covered when a
/// line says so and never otherwise, and a complaint names the first bad line.
pub fn revocations(data: &[u8]) {
    if let Ok(kept) = serde_json::from_slice::<Vec<KeptKey>>(data) {
        let mut store = TrustStore::new(3600);
        store.restore(kept, NOW);
        let kept = store.kept();
        assert!(kept.len() <= MAX_CA_KEYS && kept.iter().all(|key| key.seen <= NOW));
        let mut again = TrustStore::new(3600);
        again.restore(kept.clone(), NOW);
        let spelled = |kept: &[KeptKey]| serde_json::to_string(kept).expect("keys are plain");
        assert_eq!(spelled(&again.kept()), spelled(&kept), "what is kept comes back");
    }
    let Ok(text) = str::from_utf8(data) else { return };
    let lines: Vec<&str> = text.lines().collect();
    let before = |line: usize| lines.get(..line - 1).expect("a line of the file").join("\n");
    let full = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
    match parse_ca_file(text) {
        Ok(keys) => assert_eq!(keys.len(), lines.iter().filter(|line| full(line)).count()),
        Err(line) => assert!(parse_ca_file(&before(line)).is_ok(), "line {line} is the first bad one"),
    }
    let revoked = match Revocations::parse(text) {
        Ok(revoked) => revoked,
        Err(line) => {
            assert!(Revocations::parse(&before(line)).is_ok(), "line {line} is the first bad one");
            return;
        }
    };
    let mut parts = CERTIFICATE.split(' ');
    let mut part = || parts.next().unwrap_or_default();
    let cert = Certificate::from_openssh(part(), part()).expect("a certificate");
    let mut covered = false;
    for line in lines.iter().filter(|line| full(line)) {
        let (word, value) = line.trim().split_once(' ').expect("a word and a value");
        let value = value.trim();
        covered |= match word {
            "ca" | "key" => {
                let mark = value.split_whitespace().next().unwrap_or_default();
                let digest = mark.strip_prefix("SHA256:").expect("a fingerprint");
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
                assert!(digest.len() == 43 && digest.bytes().all(plain), "{line:?} can match nothing");
                mark == cert.subject_key().fingerprint()
            }
            "serial" => value.parse::<u64>().expect("a number") == cert.serial(),
            "key-id" => value == cert.key_id(),
            other => panic!("{other:?} was taken"),
        };
    }
    assert_eq!(revoked.covers(&cert), covered, "{text:?}");
}
