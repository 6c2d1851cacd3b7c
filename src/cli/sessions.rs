//! `nightlatch sessions`, `nightlatch revoke` and `nightlatch observe`: who is here, who would be refused, and
//! taking access away.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use nightlatch_model::Timestamp;
use serde_json::{Value, json};

use super::client::{ClientError, ask};
use super::output::{Format, NO, UNKNOWN, USAGE, YES, complain, say, table};
use crate::agent::admin::v1::revoke_request::Target;
use crate::agent::admin::v1::{ObservedRequest, RevokeRequest, Session, SessionsReply, SessionsRequest};
use crate::clock::Clock;
use crate::config::Span;

/// How often `watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// The most pages of one list.
const MAX_PAGES: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// List the live sessions.
    List {
        /// The ones that ended and are still remembered.
        #[arg(long)]
        ended: bool,
    },
    /// Print each session as it begins and ends, until interrupted.
    Watch,
    /// End one session; its person may log in again.
    End {
        /// The id that `sessions list` shows.
        id: u64,
    },
}

#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("whom").required(true).args(["user", "session", "all"]))]
pub(super) struct RevokeArguments {
    /// A person: their sessions end, and certificates from before this moment open nothing any more.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// One session by its id; its person may log in again.
    #[arg(long, value_name = "ID")]
    session: Option<u64>,
    /// Everybody who has a session, as with --user.
    #[arg(long)]
    all: bool,
    /// Only say what would end.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ObserveCommand {
    /// Who would have been refused, and why, among the logins that others decided.
    Report {
        /// Only logins of so long ago, as systemd writes it: `14d`, `1h 30min`.
        #[arg(long, default_value = "14d", value_parser = span)]
        since: Span,
    },
}

pub(super) fn span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "not a length of time: write `14d`, `90s` or `1h 30min`".to_owned())
}

/// Runs `nightlatch sessions`.
pub(super) fn run(command: Option<&SessionsCommand>, format: Format) -> u8 {
    match command {
        None | Some(SessionsCommand::List { ended: false }) => list(false, format),
        Some(SessionsCommand::List { ended: true }) => list(true, format),
        Some(SessionsCommand::Watch) => watch(format),
        Some(SessionsCommand::End { id }) => order(Target::Session(*id), false, format),
    }
}

/// Runs `nightlatch revoke`.
pub(super) fn revoke(arguments: RevokeArguments, format: Format) -> u8 {
    let RevokeArguments { user, session, all, dry_run } = arguments;
    let target = match (user, session, all) {
        (Some(user), ..) => Target::User(user),
        (_, Some(id), _) => Target::Session(id),
        (.., true) => Target::All(true),
        _ => {
            complain("say whom: --user NAME, --session ID or --all");
            return USAGE;
        }
    };
    order(target, dry_run, format)
}

fn refused(cause: &ClientError) -> u8 {
    complain(&cause.to_string());
    match cause {
        ClientError::Refused(_) => NO,
        _ => UNKNOWN,
    }
}

fn sessions(ended: bool) -> Result<Vec<Session>, ClientError> {
    let mut all: Vec<Session> = Vec::new();
    for _ in 0..MAX_PAGES {
        let after = all.last().map_or(0, |session| session.id);
        let request = SessionsRequest { ended, after };
        let SessionsReply { sessions, more } =
            ask(|mut client| async move { client.sessions(request).await })?;
        let more = more && !sessions.is_empty();
        all.extend(sessions);
        if !more {
            break;
        }
    }
    Ok(all)
}

fn list(ended: bool, format: Format) -> u8 {
    match sessions(ended) {
        Ok(sessions) => {
            print(&sessions, format);
            YES
        }
        Err(cause) => refused(&cause),
    }
}

fn print(sessions: &[Session], format: Format) {
    if format == Format::Json {
        say(&Value::from(sessions.iter().map(document).collect::<Vec<_>>()).to_string());
    } else if sessions.is_empty() {
        say("no sessions");
    } else {
        let head = ["ID", "USER", "ROLE", "FROM", "TTY", "SINCE", "UNTIL", "STATE"].map(str::to_owned);
        let rows: Vec<Vec<String>> =
            std::iter::once(head.to_vec()).chain(sessions.iter().map(cells)).collect();
        table(&rows);
    }
}

fn cells(session: &Session) -> Vec<String> {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let role = match (session.origin.as_str(), session.admin) {
        ("break-glass", _) => "break-glass",
        ("adopted", _) => "adopted",
        (_, true) => "admin",
        (_, false) => "user",
    };
    let degraded = if session.degraded { " (degraded)" } else { "" };
    let user = if session.user.is_empty() { format!("uid {}", session.uid) } else { session.user.clone() };
    let mut state = session.state.clone();
    for (label, text) in [(": ", &session.reason), (", left behind: ", &session.escaped)] {
        if !text.is_empty() {
            state.push_str(label);
            state.push_str(text);
        }
    }
    let (label, end) = if session.ended == 0 { ("", session.until) } else { ("ended ", session.ended) };
    vec![
        session.id.to_string(),
        user,
        format!("{role}{degraded}"),
        or_dash(&session.rhost),
        or_dash(&session.ttys),
        Timestamp(session.started).to_string(),
        if end == 0 { "-".to_owned() } else { format!("{label}{}", Timestamp(end)) },
        state,
    ]
}

fn document(session: &Session) -> Value {
    let time = |at: i64| (at != 0).then(|| Timestamp(at).to_string());
    json!({
        "id": session.id, "user": session.user, "uid": session.uid, "oid": session.oid,
        "origin": session.origin, "state": session.state, "from": session.rhost, "ttys": session.ttys,
        "started": time(session.started), "until": time(session.until), "admin": session.admin,
        "degraded": session.degraded, "ended": time(session.ended), "reason": session.reason,
        "escaped": session.escaped, "correlation": session.correlation, "certificate": session.certificate,
        "audit_session": session.audit_session, "monitor_pid": session.monitor_pid,
    })
}

fn watch(format: Format) -> u8 {
    let mut known: Option<BTreeSet<u64>> = None;
    let tell = |word: &str, session: &Session| match format {
        Format::Json => say(&json!({"event": word, "session": document(session)}).to_string()),
        _ => say(&format!("{word}  {}", cells(session).join("  "))),
    };
    loop {
        let live = match sessions(false) {
            Ok(live) => live,
            Err(cause) => return refused(&cause),
        };
        let ids: BTreeSet<u64> = live.iter().map(|session| session.id).collect();
        let before = known.get_or_insert_with(BTreeSet::new);
        live.iter().filter(|session| !before.contains(&session.id)).for_each(|session| tell("live", session));
        if before.iter().any(|id| !ids.contains(id)) {
            let ended = sessions(true).unwrap_or_default();
            let gone =
                ended.iter().filter(|session| before.contains(&session.id) && !ids.contains(&session.id));
            gone.for_each(|session| tell("ended", session));
        }
        known = Some(ids);
        std::thread::park_timeout(WATCH_EVERY);
    }
}

fn order(target: Target, dry_run: bool, format: Format) -> u8 {
    let request = RevokeRequest { target: Some(target), dry_run };
    let reply = match ask(|mut client| async move { client.revoke(request).await }) {
        Ok(reply) => reply,
        Err(cause) => return refused(&cause),
    };
    if format == Format::Json {
        let sessions: Vec<Value> = reply.sessions.iter().map(document).collect();
        let document = json!({"dry_run": dry_run, "sessions": sessions, "people": reply.people, "not_kept": reply.not_kept});
        say(&document.to_string());
        return if reply.not_kept.is_empty() { YES } else { NO };
    }
    print(&reply.sessions, format);
    let would = if dry_run { "would " } else { "" };
    for person in &reply.people {
        let verb = if dry_run { "open" } else { "opens" };
        say(&format!("what {person} was issued before now {would}{verb} nothing here"));
    }
    let count = reply.sessions.len();
    let verb = if dry_run || count != 1 { "end" } else { "ends" };
    say(&format!("{count} session{} {would}{verb}", if count == 1 { "" } else { "s" }));
    if !reply.not_kept.is_empty() {
        complain(&format!(
            "it is in force, and forgotten if nightlatchd restarts before the disk takes it: free space, and run this again: {}",
            reply.not_kept
        ));
        return NO;
    }
    YES
}

/// Runs `nightlatch observe`.
pub(super) fn observe(command: &ObserveCommand, format: Format) -> u8 {
    let ObserveCommand::Report { since } = command;
    let request = ObservedRequest { since: Clock::System.now().plus(-since.0).0 };
    let reply = match ask(|mut client| async move { client.observed(request).await }) {
        Ok(reply) => reply,
        Err(cause) => return refused(&cause),
    };
    if format == Format::Json {
        let rows: Vec<Value> = reply
            .rows
            .iter()
            .map(|row| {
                json!({"user": row.user, "verdict": row.verdict, "reason": row.reason, "logins": row.logins,
                    "last": Timestamp(row.last).to_string(), "proof": row.proof, "hint": row.hint})
            })
            .collect();
        say(&Value::from(rows).to_string());
        return YES;
    }
    if reply.rows.is_empty() {
        say(&format!("no login was observed in the last {since}"));
        return YES;
    }
    let head = ["VERDICT", "USER", "LOGINS", "LAST", "BY", "REASON"].map(str::to_owned);
    let rows = reply.rows.iter().map(|row| {
        let reason = if row.reason.is_empty() { "-".to_owned() } else { row.reason.clone() };
        let last = Timestamp(row.last).to_string();
        vec![row.verdict.clone(), row.user.clone(), row.logins.to_string(), last, row.proof.clone(), reason]
    });
    table(&std::iter::once(head.to_vec()).chain(rows).collect::<Vec<_>>());
    let refused: Vec<_> = reply.rows.iter().filter(|row| row.verdict == "refuse").collect();
    let mut told = BTreeSet::new();
    for row in &refused {
        if told.insert((&row.reason, &row.hint)) {
            say(&format!("{}: {}", row.reason, row.hint));
        }
    }
    let people: BTreeSet<&str> = refused.iter().map(|row| row.user.as_str()).collect();
    say(&format!("{} people would have been refused; nobody was", people.len()));
    YES
}
