//! `nightlatch cert --forget`: the end of a sign-in on this computer.

use std::io::ErrorKind;
use std::path::Path;

use super::files::{WAYS, note_in};
use super::held::Held;
use super::turn::Turn;

/// What was ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Forgotten {
    /// Whose certificates are gone.
    pub(super) names: Vec<String>,
    /// Something was held that no note speaks of any more.
    pub(super) stray: bool,
    /// What renews one of them was not here: it has ended, or another computer with the same home holds it.
    pub(super) elsewhere: bool,
}

/// Takes what the kernel holds away, and the key and the certificate of each note. Files that no note speaks of are not ours.
pub(super) fn forget(folder: &Path, held: Result<Held, String>) -> Result<Forgotten, String> {
    let _turn = if folder.exists() { Some(Turn::in_folder(folder)?) } else { None };
    // Nothing is half forgotten for a note that cannot be read.
    let notes = WAYS.map(|way| note_in(folder, way));
    let mut forgotten = Forgotten::default();
    for (way, note) in WAYS.into_iter().zip(notes.into_iter().collect::<Result<Vec<_>, _>>()?) {
        let is_held_here =
            matches!((&held, &note), (Ok(held), Some(note)) if held.of(folder, way, note).is_some());
        // First what makes certificates, and only then what says that it is there.
        let was_held = match &held {
            Ok(held) => held.forget(folder, way).map_err(|why| why.to_string()),
            Err(why) => Err(why.clone()),
        };
        let Some(note) = note else {
            forgotten.stray |= was_held == Ok(true);
            continue;
        };
        remove(folder, way.key)?;
        remove(folder, way.certificate)?;
        if note.held.is_some() {
            was_held.map_err(|why| {
                format!(
                    "key and certificate are gone, but what renews them is still held: {why}; run this where you signed in, \
                     or restart this computer"
                )
            })?;
            forgotten.elsewhere |= !is_held_here;
        }
        remove(folder, way.note)?;
        forgotten.names.push(note.name);
    }
    forgotten.names.sort();
    forgotten.names.dedup();
    Ok(forgotten)
}

fn remove(folder: &Path, name: &str) -> Result<(), String> {
    let path = folder.join(name);
    match std::fs::remove_file(&path) {
        Err(why) if why.kind() != ErrorKind::NotFound => Err(format!("{}: {why}", path.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use nightlatch_model::Secret;

    use super::super::asked::{Asked, How};
    use super::super::files::{Note, keep, last};
    use super::super::tests::{NAME, NOW, asking};
    use super::*;

    /// Alice signed in here; under which word it is held.
    fn sign_in(asked: &Asked, held: Option<&str>) {
        let note = Note { held: held.map(str::to_owned), ..Note::new(asked, NAME, NOW) };
        keep(asked, Some(&Secret::new("key".into())), "certificate\n", &note).unwrap();
        if held.is_some() {
            let kernel = Held::by_this_process();
            kernel.hold(asked, &note, &Secret::new("r3fresh".into()), NOW).unwrap();
            assert!(kernel.of(&asked.folder, asked.way(), &note).is_some());
        }
    }

    fn left(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            names.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn alice() -> Forgotten {
        Forgotten { names: vec![NAME.to_owned()], ..Forgotten::default() }
    }

    #[test]
    fn a_sign_in_is_ended_and_what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let asked = asking(folder.path(), How::Browser);
        sign_in(&asked, Some("id"));
        let note = last(&asked).unwrap();
        // Somebody keeps a key of their own there, as in ~/.ssh.
        for name in ["config", "id_ed25519", "id_ed25519-cert.pub"] {
            std::fs::write(folder.path().join(name), "the person's own").unwrap();
        }
        assert_eq!(forget(folder.path(), Ok(Held::by_this_process())), Ok(alice()));
        assert!(Held::by_this_process().of(&asked.folder, asked.way(), &note).is_none());
        assert_eq!(left(folder.path()), ["config", "id_ed25519", "id_ed25519-cert.pub"]);
        let nobody = forget(folder.path(), Ok(Held::by_this_process()));
        assert_eq!(nobody, Ok(Forgotten::default()));
    }

    #[test]
    fn what_the_kernel_holds_is_ended_also_where_the_files_are_gone() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("nl");
        let asked = asking(&folder, How::OpenPubkey);
        sign_in(&asked, Some("id"));
        let note = last(&asked).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let stray = Forgotten { stray: true, ..Forgotten::default() };
        assert_eq!(forget(&folder, Ok(Held::by_this_process())), Ok(stray));
        assert!(Held::by_this_process().of(&asked.folder, asked.way(), &note).is_none());
        assert_eq!(forget(&folder, Ok(Held::by_this_process())), Ok(Forgotten::default()));
        assert!(!folder.exists());
        // Signed in on another computer with the same home.
        sign_in(&asked, Some("id"));
        Held::by_this_process().forget(&folder, asked.way()).unwrap();
        let elsewhere = || Ok(Forgotten { elsewhere: true, ..alice() });
        assert_eq!(forget(&folder, Ok(Held::by_this_process())), elsewhere());
        // The same, and here as well, but before.
        sign_in(&asked, Some("id"));
        let there = Note { held: Some("another".into()), ..last(&asked).unwrap() };
        keep(&asked, None, "certificate\n", &there).unwrap();
        assert_eq!(forget(&folder, Ok(Held::by_this_process())), elsewhere());
        assert_eq!(forget(&folder, Ok(Held::by_this_process())), Ok(Forgotten::default()));
    }

    #[test]
    fn a_note_that_cannot_be_read_is_no_word_that_nobody_signed_in() {
        let folder = tempfile::tempdir().unwrap();
        let asked = asking(folder.path(), How::OpenPubkey);
        sign_in(&asked, Some("id"));
        std::fs::write(folder.path().join("entra.json"), "{").unwrap();
        let why = forget(folder.path(), Ok(Held::by_this_process())).unwrap_err();
        assert!(why.contains("entra.json: "), "{why}");
        assert!(left(folder.path()).contains(&"id_ed25519".to_owned()));
        // A newer client's note says more, and is one all the same.
        let note = std::fs::read_to_string(folder.path().join("sign-in.json")).unwrap();
        let newer = note.replacen('{', "{\"more\":1,", 1);
        std::fs::write(folder.path().join("sign-in.json"), newer).unwrap();
        std::fs::remove_file(folder.path().join("entra.json")).unwrap();
        assert_eq!(forget(folder.path(), Ok(Held::by_this_process())), Ok(alice()));
        assert!(left(folder.path()).is_empty());
    }

    #[test]
    fn a_kernel_that_cannot_be_asked_is_said_where_it_matters() {
        let folder = tempfile::tempdir().unwrap();
        let asked = asking(folder.path(), How::OpenPubkey);
        sign_in(&asked, None);
        assert_eq!(forget(folder.path(), Err("closed".into())), Ok(alice()));
        sign_in(&asked, Some("id"));
        for _ in 0..2 {
            let why = forget(folder.path(), Err("closed".into())).unwrap_err();
            assert!(why.contains("still held: closed"), "{why}");
            assert_eq!(left(folder.path()), ["sign-in.json"], "the note stays to say so again");
        }
        assert_eq!(forget(folder.path(), Ok(Held::by_this_process())), Ok(alice()));
    }
}
