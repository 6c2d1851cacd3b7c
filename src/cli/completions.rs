//! `nightlatch completions SHELL` and `nightlatch man`: made from the command line's own description, so
//! that they cannot differ from it.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Arguments;
use super::output::{UNKNOWN, YES, complain};

/// Prints the completion script of a shell.
pub(super) fn completions(shell: Shell) -> u8 {
    written(std::io::stdout().write_all(&script(shell)))
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "nightlatch", &mut script);
    script
}

/// Writes one page a command into a folder.
pub(super) fn man(folder: &Path) -> u8 {
    let done = std::fs::create_dir_all(folder);
    written(done.and_then(|()| clap_mangen::generate_to(Arguments::command(), folder)))
}

fn written(done: std::io::Result<()>) -> u8 {
    match done {
        Ok(()) => YES,
        Err(cause) => {
            complain(&format!("cannot write: {cause}"));
            UNKNOWN
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each command that a person sees, as it is typed: `token get`.
    fn commands(of: &clap::Command, before: &str, all: &mut Vec<String>) {
        for command in of.get_subcommands().filter(|command| !command.is_hide_set()) {
            let words = format!("{before} {}", command.get_name()).trim().to_owned();
            commands(command, &words, all);
            all.push(words);
        }
    }

    fn all_commands() -> Vec<String> {
        let mut all = Vec::new();
        commands(&Arguments::command(), "", &mut all);
        assert!(all.len() > 20 && all.contains(&"kubelogin get-token".to_owned()), "{all:?}");
        all
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn each_shell_completes_each_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).unwrap();
            for words in all_commands() {
                let last = words.rsplit(' ').next().unwrap();
                assert!(script.contains(last), "{shell}: {words}");
            }
        }
    }

    /// A shell that cannot read its script completes nothing at all, for no command.
    #[test]
    fn bash_reads_its_completion_script() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nightlatch.bash");
        std::fs::write(&file, script(Shell::Bash)).unwrap();
        let done = std::process::Command::new("bash").arg("-n").arg(&file).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    #[test]
    fn a_manual_page_is_written_for_each_command() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("man1");
        assert_eq!(man(&into), YES);
        for words in all_commands() {
            let page = into.join(format!("nightlatch-{}.1", words.replace(' ', "-")));
            let text = std::fs::read_to_string(&page).unwrap();
            assert!(text.contains(".TH"), "{}", page.display());
        }
        assert_eq!(man(&folder.path().join("man1/nightlatch.1")), UNKNOWN);
    }

    #[test]
    fn the_written_page_names_each_command() {
        let page = include_str!("../../man/nightlatch.1");
        // Fonts and escapes off, so that words follow each other as they are read.
        let mut plain = page.replace("\\-", "-").replace('"', "");
        for font in [".BR", ".BI", ".B", ".I", ".RB", ".RI"] {
            plain = plain.replace(&format!("\n{font} "), "\n");
        }
        let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in all_commands() {
            assert!(plain.contains(&words), "man/nightlatch.1 does not name `nightlatch {words}`");
        }
    }
}
