//! Local files that are changed, half written, emptied and closed.

use std::path::Path;

use super::*;
use nightlatch_model::LoginName;

struct Rig {
    folder: tempfile::TempDir,
    files: LocalFiles,
    facts: LocalFacts,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(folder.path().join(name));
        let files = LocalFiles::at([
            (Kind::Pinned, None),
            (Kind::Revoked, at("revoked")),
            (Kind::People, at("identities.toml")),
            (Kind::Local, at("passwd")),
        ]);
        let rig = Self { folder, files, facts: LocalFacts::default() };
        rig.write("passwd", b"");
        rig
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    fn apply(&mut self, changes: Vec<Change>) {
        changes.into_iter().for_each(|change| change.apply(&mut self.facts, Timestamp(0)));
    }

    fn start(&mut self) -> Result<(), String> {
        let changes = self.files.first()?;
        self.apply(changes);
        Ok(())
    }

    fn look(&mut self) {
        let changes = self.files.changes();
        self.apply(changes);
    }

    fn is_revoked(&self, text: &str) {
        assert_eq!(Ok(&self.facts.revoked), Revocations::parse(text).as_ref());
    }
}

#[test]
fn one_bad_line_takes_no_revocation_out_of_force() {
    let mut rig = Rig::new();
    rig.write("revoked", b"serial 7\nsrial 8\nkey-id lost\n");
    rig.start().unwrap();
    rig.is_revoked("serial 7\nkey-id lost");
    let told = |rig: &Rig| lock(&rig.files.health).clone().unwrap_or_default();
    assert!(told(&rig).contains("line 2 is not understood; the other lines are in force"), "{}", told(&rig));
    assert!(rig.files.changes().is_empty(), "it is read once");
    // A file that turns worse forgets nothing; one that is whole again counts alone.
    rig.write("revoked", b"srial 7\nserial 9\n");
    rig.look();
    rig.look();
    rig.is_revoked("serial 7\nkey-id lost\nserial 9");
    rig.write("revoked", b"serial 10\n");
    rig.look();
    rig.look();
    rig.is_revoked("serial 10");
    assert_eq!(told(&rig), "");
}

#[test]
fn what_is_taken_back_counts_at_once_and_what_is_believed_again_once_the_file_is_still() {
    let mut rig = Rig::new();
    rig.start().unwrap();
    rig.write("revoked", b"serial 7\nserial 8\n");
    rig.look();
    rig.is_revoked("serial 7\nserial 8");
    // Written anew, a bit at a time.
    rig.write("revoked", b"serial 9\n");
    rig.look();
    rig.is_revoked("serial 7\nserial 8\nserial 9");
    rig.write("revoked", b"serial 9\nserial 8\n");
    rig.look();
    rig.is_revoked("serial 7\nserial 8\nserial 9");
    rig.look();
    rig.is_revoked("serial 9\nserial 8");
    // Emptied by a full disk it says nothing, however long; removed it says that nothing is taken back.
    rig.write("revoked", b"");
    for _ in 0..3 {
        rig.look();
        rig.is_revoked("serial 9\nserial 8");
    }
    std::fs::remove_file(rig.folder.path().join("revoked")).unwrap();
    rig.look();
    rig.is_revoked("serial 9\nserial 8");
    rig.look();
    rig.is_revoked("");
}

#[test]
fn what_cannot_be_read_is_not_taken_for_empty_and_is_tried_again() {
    let mut rig = Rig::new();
    let (path, away) = (rig.folder.path().join("revoked"), rig.folder.path().join("away"));
    // Whoever runs the tests may read every file: a link is refused as well.
    std::fs::write(&away, "serial 7\n").unwrap();
    std::os::unix::fs::symlink(&away, &path).unwrap();
    let why = rig.start().unwrap_err();
    assert!(why.contains("revoked"), "{why}");
    // A link to nothing, and a folder that cannot be gone through: neither says that there is no such file.
    std::fs::remove_file(&away).unwrap();
    let why = rig.start().unwrap_err();
    assert!(why.contains("revoked"), "{why}");
    std::fs::remove_file(&path).unwrap();
    let revoked = |rig: &mut Rig, path: &Path| {
        let file = rig.files.files.iter_mut().find(|file| file.kind == Kind::Revoked).unwrap();
        file.path = path.to_owned();
    };
    let unreachable = rig.folder.path().join("passwd").join("revoked");
    revoked(&mut rig, &unreachable);
    assert!(rig.start().unwrap_err().contains("revoked"));
    revoked(&mut rig, &path);
    rig.write("revoked", b"serial 7\n");
    rig.start().unwrap();
    rig.is_revoked("serial 7");
    rig.write("revoked", "serial 8\n".repeat(40_000).as_bytes());
    rig.look();
    rig.look();
    let told = || lock(&rig.files.health).clone().unwrap_or_default();
    assert!(told().contains("revoked") && told().contains("bytes"), "{}", told());
    rig.is_revoked("serial 7");
    // The same file, with nothing changed but that it can be read.
    rig.write("revoked", b"serial 7\nserial 8\n");
    let revoked = rig.files.files.iter_mut().find(|file| file.kind == Kind::Revoked).unwrap();
    (revoked.read, revoked.last) = (stamp(&path), stamp(&path));
    rig.look();
    rig.is_revoked("serial 7\nserial 8");
    assert_eq!(*lock(&rig.files.health), None);
}

#[test]
fn without_the_local_accounts_nothing_starts_and_other_files_may_be_bad() {
    let mut rig = Rig::new();
    rig.write("identities.toml", b"[[person]]\nname = 1\n");
    rig.start().unwrap();
    // Behind a link that root made, or with a second name in a backup: it is another program's file.
    let (passwd, moved) = (rig.folder.path().join("passwd"), rig.folder.path().join("moved"));
    std::fs::write(&moved, "azureuser:x:1000:1000::/:/bin/sh\n").unwrap();
    std::fs::hard_link(&moved, rig.folder.path().join("backup")).unwrap();
    std::fs::remove_file(&passwd).unwrap();
    std::os::unix::fs::symlink(&moved, &passwd).unwrap();
    rig.start().unwrap();
    assert!(rig.facts.local.has("azureuser"));
    std::fs::remove_file(&moved).unwrap();
    let why = rig.start().unwrap_err();
    assert!(why.contains("a link to nothing"), "{why}");
    std::fs::remove_file(&passwd).unwrap();
    std::fs::create_dir(&passwd).unwrap();
    let why = rig.files.first().err().unwrap();
    assert!(why.contains("passwd"), "{why}");
}

#[test]
fn a_stray_byte_takes_nothing_out_of_force() {
    let mut rig = Rig::new();
    rig.write("revoked", b"# left in the K\xfcche\nserial 7\n");
    rig.write("passwd", b"azureuser:x:1000:1000:J\xfcrgen:/:/bin/sh\n");
    rig.start().unwrap();
    rig.is_revoked("serial 7");
    assert!(rig.facts.local.shadows(&LoginName::parse("azureuser@contoso.com").unwrap()));
}
