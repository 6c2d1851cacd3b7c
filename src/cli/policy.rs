//! `nightlatch policy`: access rules checked, tried on cases, and tried on the logins of the past, before they are put in
//! force by writing them into their folder.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nightlatch_model::Timestamp;
use nightlatch_page::{MAX_POLICY_FILE_BYTES, Warning};
use nightlatch_policy::{AccessPolicy, NodeFacts};
use nightlatch_rules::{CaseResult, Compiled, cases, compile};
use serde_json::{Value, json};

use super::client::ask;
use super::output::{Format, NO, UNKNOWN, USAGE, YES, complain, say, table};
use super::sessions::span;
use crate::access::{NodeZones, POLICY_DIR, case_files, digest, holds_cases, rule_files};
use crate::agent::admin::v1::{ReplayReply, ReplayRequest, RulesFile};
use crate::clock::Clock;
use crate::config::{self, Span};
use crate::store::text;

/// The most bytes of rules that fit into one question to the daemon.
const MAX_REPLAY_BYTES: usize = 200 * 1024;

/// A file's name and its text.
type Text = (String, String);

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Say what is wrong or doubtful in access rules, with line and hint. Exit status 1 when they cannot be used.
    Check(Paths),
    /// Run the cases in files named `*.test.toml` beside the rules. Exit status 1 when one does not hold.
    Test(Paths),
    /// Show which logins of the past these rules would have decided otherwise. Exit status 1 when there are any.
    Replay {
        /// Only logins of so long ago, as systemd writes it.
        #[arg(long, default_value = "7d", value_parser = span)]
        since: Span,
        #[command(flatten)]
        paths: Paths,
    },
}

#[derive(Debug, Args)]
pub(super) struct Paths {
    /// Files or folders. Default: this machine's folder of rules.
    paths: Vec<PathBuf>,
}

/// Runs the command.
pub(super) fn run(command: &PolicyCommand, format: Format) -> u8 {
    let paths = match command {
        PolicyCommand::Check(paths) | PolicyCommand::Test(paths) | PolicyCommand::Replay { paths, .. } => {
            paths.found()
        }
    };
    let done = match command {
        PolicyCommand::Check(_) => check(&paths, format),
        PolicyCommand::Test(_) => test(&paths, format),
        PolicyCommand::Replay { since, .. } => replay(&paths, *since, format),
    };
    done.unwrap_or_else(|why| {
        complain(&why);
        USAGE
    })
}

impl Paths {
    fn found(&self) -> Vec<PathBuf> {
        if !self.paths.is_empty() {
            return self.paths.clone();
        }
        vec![configured().0]
    }
}

/// This machine's folder of rules, and its labels.
fn configured() -> (PathBuf, NodeFacts) {
    let config = config::load_installed().map(|loaded| loaded.config).unwrap_or_default();
    let node = NodeFacts { labels: config.node.labels, ..NodeFacts::default() };
    (config.login.policy_dir.unwrap_or_else(|| POLICY_DIR.into()), node)
}

fn daemon_takes(folder: &Path) -> Result<(), String> {
    let files = rule_files(folder);
    if files.files()?.is_empty() {
        return Ok(());
    }
    files.readable_by_others()?;
    files.trusted_texts().map(drop)
}

/// The texts of rules and of cases.
fn texts(paths: &[PathBuf]) -> Result<(Vec<Text>, Vec<Text>), String> {
    let (mut rules, mut cases) = (Vec::new(), Vec::new());
    for path in paths {
        if path.is_dir() {
            rules.extend(rule_files(path).texts()?);
            cases.extend(case_files(path).texts()?);
        } else {
            let list = if holds_cases(path) { &mut cases } else { &mut rules };
            list.push(text(path, MAX_POLICY_FILE_BYTES as u64)?);
        }
    }
    Ok((rules, cases))
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn check(paths: &[PathBuf], format: Format) -> Result<u8, String> {
    let (rules, with_cases) = texts(paths)?;
    let (in_force, node) = configured();
    let in_force = *paths == [in_force];
    // Of the folder in force the daemon must be able to read all, and nobody else may write any.
    if in_force && let Err(why) = paths.iter().try_for_each(|folder| daemon_takes(folder)) {
        if format == Format::Json {
            say(&json!({"ok": false, "error": {"problem": why}}).to_string());
        } else {
            complain(&why);
        }
        return Ok(NO);
    }
    let found = compile(&rules, &NodeZones);
    let found = found.and_then(|compiled| cases(&with_cases).map(|cases| (compiled, cases.len())));
    // Rules on their way to other machines are not measured by the labels of this one.
    let here = |compiled: &Compiled| if in_force { compiled.doubts_on(&node) } else { Vec::new() };
    let (status, document) = match &found {
        Ok((compiled, cases)) => {
            let doubts = [compiled.warnings.clone(), here(compiled)].concat();
            (YES, checked(&compiled.policy, &doubts, *cases, &digest(&rules), paths, format))
        }
        Err(cause) => {
            if format != Format::Json {
                complain(&cause.to_string());
            }
            let error =
                json!({"file": cause.file, "line": cause.line, "problem": cause.problem, "hint": cause.hint});
            (NO, json!({"ok": false, "error": error}))
        }
    };
    if format == Format::Json {
        say(&document.to_string());
    }
    Ok(status)
}

fn checked(
    policy: &AccessPolicy,
    warnings: &[Warning],
    cases: usize,
    digest: &str,
    paths: &[PathBuf],
    format: Format,
) -> Value {
    if format != Format::Json {
        for warning in warnings {
            say(&format!("warning: {warning}"));
        }
        let rows = policy.rules.iter().map(|rule| vec![rule.name.to_string(), rule.effect.word().to_owned()]);
        table(&rows.collect::<Vec<_>>());
        let (rules, doubts) = (policy.rules.len(), warnings.len());
        say(&match rules {
            0 => format!("no rules in {}: the role alone decides", shown(paths)),
            _ => {
                [(rules, "rule"), (doubts, "warning"), (cases, "case")]
                    .map(|(number, word)| counted(number as u64, word))
                    .join(", ")
                    + &format!(", digest {digest}")
            }
        });
    }
    let warning =
        |one: &Warning| json!({"file": one.file, "line": one.line, "rule": one.rule, "text": one.text});
    json!({"ok": true, "rules": policy.rules.len(), "digest": digest, "cases": cases,
           "warnings": warnings.iter().map(warning).collect::<Vec<_>>()})
}

fn counted(number: impl Into<u64>, word: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

fn test(paths: &[PathBuf], format: Format) -> Result<u8, String> {
    let (rules, with_cases) = texts(paths)?;
    let refused = |cause: nightlatch_page::PolicyError| cause.to_string();
    let compiled = compile(&rules, &NodeZones).map_err(refused)?;
    let cases = cases(&with_cases).map_err(refused)?;
    if cases.is_empty() {
        return Err(format!("no cases in {}: write them into files named `*.test.toml`", shown(paths)));
    }
    let (mut failed, mut document) = (0_usize, Vec::new());
    for case in &cases {
        let result = case.run(&compiled.policy, &NodeZones);
        let held = result == CaseResult::Held;
        failed += usize::from(!held);
        if format == Format::Json {
            document.push(match &result {
                CaseResult::Held => json!({"case": case.name, "ok": true}),
                CaseResult::Differs { expected, came, trace } => {
                    json!({"case": case.name, "ok": false, "expected": expected, "came": came, "trace": trace})
                }
            });
            continue;
        }
        say(&format!("{} {}", if held { "ok    " } else { "FAILED" }, case.name));
        if let CaseResult::Differs { expected, came, trace } = result {
            say(&format!("       {}: expected {expected}, came {came}", case.place));
            say(&format!("       {trace}"));
        }
    }
    if format == Format::Json {
        say(&Value::Array(document).to_string());
    } else {
        say(&format!("{}, {failed} failed", counted(cases.len() as u64, "case")));
    }
    Ok(if failed == 0 { YES } else { NO })
}

fn replay(paths: &[PathBuf], since: Span, format: Format) -> Result<u8, String> {
    let (rules, _) = texts(paths)?;
    if rules.iter().map(|(_, text)| text.len()).sum::<usize>() > MAX_REPLAY_BYTES {
        return Err(format!("more than {MAX_REPLAY_BYTES} bytes of rules: give the files that change"));
    }
    let files = rules.into_iter().map(|(name, text)| RulesFile { name, text }).collect();
    let request = ReplayRequest { since: Clock::System.now().plus(-since.0).0, files };
    let reply = match ask(|mut client| async move { client.replay(request).await }) {
        Ok(reply) => reply,
        Err(cause) => {
            complain(&cause.to_string());
            return Ok(UNKNOWN);
        }
    };
    if !reply.error.is_empty() {
        return Err(reply.error);
    }
    let differs = reply.refused > 0 || reply.permitted > 0 || reply.prompted > 0 || !reply.rows.is_empty();
    if format == Format::Json {
        say(&document(&reply).to_string());
    } else {
        print(&reply);
    }
    Ok(if differs { NO } else { YES })
}

fn print(reply: &ReplayReply) {
    let head = ["WHEN", "USER", "FOR", "FROM", "WAS", "WOULD BE", "RULE", "REF"].map(str::to_owned).to_vec();
    let rows = reply.rows.iter().map(|row| {
        let at = Timestamp(row.at).to_string();
        let or = |text: &String| if text.is_empty() { "-".to_owned() } else { text.clone() };
        vec![
            at,
            row.user.clone(),
            row.service.clone(),
            or(&row.rhost),
            row.was.clone(),
            row.now.clone(),
            or(&row.rule),
            row.correlation.clone(),
        ]
    });
    if !reply.rows.is_empty() {
        table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    }
    let more = if reply.unreadable == 0 {
        String::new()
    } else {
        format!("; {} were refused before the rules were asked, or say too little", reply.unreadable)
    };
    if reply.looked_at == 0 {
        say(&format!("no decision is remembered from that time{more}"));
        return;
    }
    let asked = match reply.prompted {
        0 => String::new(),
        asked => format!(", {} asked to sign in at the prompt", counted(asked, "login")),
    };
    say(&format!(
        "{} since {}: {} would have been refused, {} permitted{asked}{more}",
        counted(reply.looked_at, "decision"),
        Timestamp(reply.oldest),
        counted(reply.refused, "permit"),
        counted(reply.permitted, "refusal")
    ));
}

fn document(reply: &ReplayReply) -> Value {
    let row = |row: &crate::agent::admin::v1::ReplayRow| {
        json!({"at": row.at, "user": row.user, "service": row.service, "rhost": row.rhost, "was": row.was,
               "now": row.now, "rule": row.rule, "correlation": row.correlation})
    };
    json!({"looked_at": reply.looked_at, "unreadable": reply.unreadable, "refused": reply.refused,
           "permitted": reply.permitted, "prompted": reply.prompted, "rows": reply.rows.iter().map(row).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_cases_are_told_apart_and_a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.toml", "[[rule]]\nname = \"x\"\neffect = \"permit\"\nwho = { anyone = true }\n");
        write("a.test.toml", "[[case]]\nname = \"anybody\"\nexpect = \"permit\"\nrule = \"x\"\n");
        let all = [folder.path().to_owned()];
        assert_eq!(check(&all, Format::Json), Ok(YES));
        assert_eq!(test(&all, Format::Json), Ok(YES));
        assert_eq!(
            test(&[folder.path().join("a.toml")], Format::Json).unwrap_err().split(' ').next(),
            Some("no")
        );
        write("a.test.toml", "[[case]]\nname = \"anybody\"\nexpect = \"policy_denied\"\n");
        assert_eq!(test(&all, Format::Json), Ok(NO));
        write("a.toml", "[[rule]]\nname = \"x\"\nefect = \"permit\"\nwho = { anyone = true }\n");
        assert_eq!(check(&all, Format::Json), Ok(NO));
        let missing = check(&[PathBuf::from("/nowhere/x.toml")], Format::Json).unwrap_err();
        assert!(missing.contains("/nowhere/x.toml"), "{missing}");
    }

    #[test]
    fn an_empty_folder_is_no_policy() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(&[folder.path().to_owned()], Format::Json), Ok(YES));
        assert!(test(&[PathBuf::from("/nowhere")], Format::Json).is_err());
    }
}
