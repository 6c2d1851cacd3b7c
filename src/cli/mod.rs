//! The command line: `nightlatch <noun> …`. Exit status 0 yes, 1 no, 2 usage, 3 cannot tell.
//!
//! It prints to the person who typed; it prints no secret and decides nothing.

mod attach;
mod azure_cli;
mod capture;
mod client;
mod completions;
mod config;
mod doctor;
mod explain;
mod kubelogin;
mod output;
mod policy;
mod program;
mod sessions;
mod sign_in;
mod ssh;
mod token;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Entry;

pub use output::{Format, NO, UNKNOWN, USAGE, YES};

/// Entra ID access to this node that ends by itself.
#[derive(Debug, Parser)]
#[command(name = "nightlatch", version, about, arg_required_else_help = true)]
pub struct Arguments {
    /// How to print: table and json everywhere, token, header and env for `token get`.
    #[arg(short, long, global = true, value_enum)]
    output: Option<Format>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say why a login was decided as it was, or how it would be decided now.
    ///
    /// QUESTION is a login name or a correlation id. A name without --last is judged now.
    Explain {
        /// A login name (`alice@contoso.com`) or the correlation id that a refusal shows.
        question: String,
        /// The last decision about this login name instead of a new one.
        #[arg(long, conflicts_with = "cert")]
        last: bool,
        /// Judge with this certificate, as `az ssh cert` wrote it.
        #[arg(long, value_name = "FILE")]
        cert: Option<PathBuf>,
        /// The PAM service to judge for: sshd or sudo.
        #[arg(long, default_value = "sshd")]
        service: String,
        /// The address to judge for, where access rules ask about networks.
        #[arg(long, value_name = "ADDRESS", conflicts_with = "last")]
        from: Option<IpAddr>,
    },
    /// Show how the daemon is doing and how old its knowledge is.
    Status,
    /// The sessions of Entra users on this node.
    Sessions {
        #[command(subcommand)]
        command: Option<sessions::SessionsCommand>,
    },
    /// Take access away at once: end sessions, and make what a person holds worthless.
    Revoke(sessions::RevokeArguments),
    /// What Nightlatch would have decided about logins that others let in (`mode = "observe"`).
    Observe {
        #[command(subcommand)]
        command: sessions::ObserveCommand,
    },
    /// Let sshd, PAM, NSS and sudo ask Nightlatch about Entra users; local users stay as they are.
    ///
    /// Nothing is switched before sshd and visudo accept it, and what does not hold is put back.
    Attach {
        /// Show what would change; change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take out what attach put in; what others wrote since stays.
    Detach {
        /// Show what would change; change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Check everything that a login rests on; change nothing. Only root may.
    Doctor {
        /// Whose login to look at: a login name such as `alice@contoso.com`.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Look instead at the local account kept for emergencies: those that
        /// /etc/nightlatch/break-glass names, or NAME.
        #[arg(long, value_name = "NAME", num_args = 0..=1, conflicts_with = "user")]
        break_glass: Option<Option<String>>,
        #[command(subcommand)]
        part: Option<doctor::Part>,
    },
    /// Access rules: what is demanded of a login beside the role.
    Policy {
        #[command(subcommand)]
        command: policy::PolicyCommand,
    },
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Record, read-only and scrubbed, what this node's Azure really answers.
    ///
    /// Certificate extensions and the document of the authorities' keys are not public: this compares
    /// them with what Nightlatch assumes, and says what to configure. Run it as root on a real node.
    Capture(capture::Arguments),
    /// Tokens from the broker.
    Token {
        #[command(subcommand)]
        command: token::TokenCommand,
    },
    /// Sign in with Entra: the broker keeps your sign-in and renews it.
    Login(sign_in::LoginArguments),
    /// Make the broker forget your sign-in.
    Logout,
    /// Show what the broker sees of you, and who is signed in under your uid.
    Whoami,
    /// Write an SSH certificate of your own: sign in in the browser once, then it is used until it is too old. For nodes that
    /// take OpenPubkey certificates, or with `--kind entra` for those that trust Entra's own authority.
    Cert(ssh::CertCommand),
    /// Log in to a node with a certificate of your own (see `cert`): `nightlatch ssh [user@]node [-- command]`.
    Ssh(ssh::SshArguments),
    /// Print a block of ssh's configuration, so that plain `ssh`, `scp` and what builds on them use a certificate of your own.
    SshConfig(ssh::ConfigArguments),
    /// The exec plugin of kubectl, with the flags of Azure kubelogin.
    Kubelogin {
        #[command(subcommand)]
        command: kubelogin::KubeloginCommand,
    },
    /// Print the completion script of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder.
    #[command(hide = true)]
    Man {
        /// Where to.
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print each value that is set, and the file that set it.
    Show {
        /// All values in force, with those from the machine and the built-in ones.
        #[arg(long)]
        effective: bool,
    },
}

/// Runs the command line. `values` answers `config show`: the resolved configuration is the daemon's
/// knowledge, and this room knows only its protocol.
#[must_use]
pub fn main(values: fn(effective: bool) -> Result<Vec<Entry>, String>) -> ExitCode {
    let arguments = Arguments::parse();
    ExitCode::from(run(arguments, values))
}

fn run(arguments: Arguments, values: fn(effective: bool) -> Result<Vec<Entry>, String>) -> u8 {
    let asked = arguments.output;
    if let Some(why) = misplaced(&arguments.command, asked) {
        output::complain(why);
        return USAGE;
    }
    let format = asked.unwrap_or(Format::Table);
    match arguments.command {
        Command::Explain { question, last, cert, service, from } => {
            let judged_as = explain::DryRunAs { cert: cert.as_deref(), service: &service, from };
            explain::run(&question, last, &judged_as, format)
        }
        Command::Status => explain::status(format),
        Command::Sessions { command } => sessions::run(command.as_ref(), format),
        Command::Revoke(arguments) => sessions::revoke(arguments, format),
        Command::Observe { command } => sessions::observe(&command, format),
        Command::Attach { dry_run } => attach::run(dry_run, format),
        Command::Detach { dry_run } => attach::undo(dry_run, format),
        Command::Doctor { user, break_glass, part } => {
            let about = match break_glass {
                Some(name) => doctor::About::BreakGlass(name),
                None => doctor::About::Login(user),
            };
            doctor::run(&about, part.as_ref(), format)
        }
        Command::Config { command: ConfigCommand::Show { effective } } => {
            config::show(values, effective, format)
        }
        Command::Policy { command } => policy::run(&command, format),
        Command::Capture(what) => capture::run(&what),
        Command::Token { command } => token::run(&command, asked),
        Command::Login(how) => sign_in::login(&how, asked),
        Command::Logout => sign_in::logout(asked),
        Command::Whoami => sign_in::whoami(asked),
        Command::Cert(arguments) => ssh::cert(&arguments, format),
        Command::SshConfig(arguments) => ssh::ssh_config(&arguments),
        Command::Ssh(arguments) => ssh::ssh(&arguments),
        Command::Kubelogin { command } => kubelogin::run(&command),
        Command::Completions { shell } => completions::completions(shell),
        Command::Man { folder } => completions::man(&folder),
    }
}

/// A way to print that only commands with a token, or with variables, have.
fn misplaced(command: &Command, asked: Option<Format>) -> Option<&'static str> {
    use token::TokenCommand::{Get, Header};
    let fits = match asked {
        Some(Format::Token | Format::Header) => matches!(command, Command::Token { command: Get { .. } }),
        Some(Format::Env) => matches!(command, Command::Token { command: Get { .. } | Header { .. } }),
        Some(Format::Table | Format::Json) | None => true,
    };
    (!fits).then_some(
        "-o token, header and env belong to `nightlatch token get` (env to `token header` as well); here it is \
         table or json",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_print_belong_to_the_commands_that_have_something_to_print() {
        let fits = |line: &str| {
            let arguments = Arguments::parse_from(line.split(' '));
            misplaced(&arguments.command, arguments.output).is_none()
        };
        for line in [
            "nightlatch token get --resource r -o token",
            "nightlatch token get --resource r -o env",
            "nightlatch token header --unit a.service -o env",
            "nightlatch doctor client -o json",
            "nightlatch doctor --user a@b -o json",
            "nightlatch doctor --break-glass -o json",
            "nightlatch doctor --break-glass bg -o json",
            "nightlatch -o json doctor",
        ] {
            assert!(fits(line), "{line}");
        }
        for line in [
            "nightlatch token header --unit a.service -o token",
            "nightlatch token list -o env",
            "nightlatch doctor client -o header",
        ] {
            assert!(!fits(line), "{line}");
        }
    }

    #[test]
    fn the_account_for_emergencies_may_be_named_and_is_no_login_of_ours() {
        let asked = |line: &str| match Arguments::try_parse_from(line.split(' ')).map(|found| found.command) {
            Ok(Command::Doctor { break_glass, .. }) => Some(break_glass),
            _ => None,
        };
        assert_eq!(asked("nightlatch doctor"), Some(None));
        assert_eq!(asked("nightlatch doctor --break-glass"), Some(Some(None)));
        assert_eq!(asked("nightlatch doctor --break-glass bg"), Some(Some(Some("bg".to_owned()))));
        assert_eq!(asked("nightlatch doctor --break-glass bg --user a@b"), None);
    }
}
