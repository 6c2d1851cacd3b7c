//! `nightlatch cert --forget`: the end of a sign-in on this computer.

use std::io::ErrorKind;
use std::path::Path;

use super::files::{WAYS, note_in};
use super::held::Held;
use super::turn::Turn;

/// Takes key, certificate and what the kernel holds away. Whose they were.
pub(super) fn forget(folder: &Path, held: Result<Held, String>) -> Result<Vec<String>, String> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let _turn = Turn::in_folder(folder)?;
    let notes: Vec<_> = WAYS.iter().filter_map(|way| note_in(folder, way)).collect();
    // First what makes certificates, and only then what says that it is there.
    let reached = held.and_then(|held| held.forget_all(folder).map_err(|why| why.to_string()));
    let remove = |name: &str| match std::fs::remove_file(folder.join(name)) {
        Err(why) if why.kind() != ErrorKind::NotFound => {
            Err(format!("{}: {why}", folder.join(name).display()))
        }
        _ => Ok(()),
    };
    WAYS.iter().try_for_each(|way| remove(way.key).and_then(|()| remove(way.certificate)))?;
    match reached {
        Err(why) if notes.iter().any(|note| note.held) => Err(format!(
            "key and certificate are gone, but what renews them is still held: {why}; run this where you signed in, or \
             restart this computer"
        )),
        _ => {
            WAYS.iter().try_for_each(|way| remove(way.note))?;
            let mut names: Vec<String> = notes.into_iter().map(|note| note.name).collect();
            names.sort();
            names.dedup();
            Ok(names)
        }
    }
}

#[cfg(test)]
mod tests {
    use nightlatch_model::Secret;

    use super::super::asked::How;
    use super::super::files::{Note, keep, kept};
    use super::super::tests::{NAME, NOW, asking};
    use super::*;

    #[test]
    fn what_is_forgotten_is_gone_and_what_cannot_be_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let asked = asking(folder.path(), How::OpenPubkey);
        let sign_in = |held| {
            let note = Note { held, ..Note::new(&asked, NAME, NOW) };
            keep(&asked, Some(&Secret::new("key".into())), "certificate\n", &note).unwrap();
            assert!(kept(&asked, NOW).is_some());
        };
        let left = || std::fs::read_dir(folder.path()).unwrap().count();
        sign_in(true);
        let kernel = Held::by_this_process();
        kernel.hold(&asked, &Secret::new("r3fresh".into()), NOW.0, NOW).unwrap();
        std::fs::write(folder.path().join("config"), "the person's own").unwrap();
        assert_eq!(forget(folder.path(), Ok(Held::by_this_process())), Ok(vec![NAME.to_owned()]));
        assert!(kernel.of(&asked).is_none());
        assert_eq!(left(), 1, "what is not ours stays");
        assert_eq!(forget(folder.path(), Ok(Held::by_this_process())), Ok(vec![]));
        assert_eq!(forget(Path::new("/nowhere/at/all"), Ok(Held::by_this_process())), Ok(vec![]));

        // Nothing was held, so nothing is missed; where something was, the note stays to say so again.
        sign_in(false);
        assert_eq!(forget(folder.path(), Err("closed".into())), Ok(vec![NAME.to_owned()]));
        sign_in(true);
        for _ in 0..2 {
            let why = forget(folder.path(), Err("closed".into())).unwrap_err();
            assert!(why.contains("still held: closed"), "{why}");
            assert!(left() == 2 && kept(&asked, NOW).is_none());
        }
    }
}
