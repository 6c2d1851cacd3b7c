//! `nightlatch login`, `logout` and `whoami`: a person's own sign-in, kept by the broker.
//!
//! With the browser, this program listens on a loopback port and hands what the browser brought to the
//! broker untouched; it never sees a token. The code of a device sign-in is shown plainly.

use std::io::{IsTerminal, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use tokio_stream::{Stream, StreamExt};

use super::output::{Format, NO, YES, complain, say};
use super::token::show::{caller_document, caller_line};
use super::token::{BrokerError, refused, with_broker};
use crate::broker::v1::login_progress::Step;
use crate::broker::v1::{
    BeginLoginRequest, FinishLoginRequest, LoginProgress, LogoutRequest, SignedIn, WhoAmIRequest,
};
use crate::clock::Clock;

/// The largest request that the browser may make, in bytes.
const MAX_REDIRECT_BYTES: usize = 16 * 1024;
/// How long a browser may take to send its request once it is connected.
const BROWSER_READ: Duration = Duration::from_secs(5);
/// How many connections are looked at before the sign-in is given up: browsers also ask for icons.
const MAX_BROWSER_REQUESTS: usize = 16;
/// How long a page may stay open before whoever waits for it gives up, and others may sign in.
const BROWSER_LIMIT: Duration = Duration::from_secs(15 * 60);
/// What the person reads after Ctrl-C.
pub(super) const INTERRUPTED: &str = "interrupted; nobody was signed in";
/// What the person sees in the browser at the end.
const PAGE: &str = "<!doctype html><meta charset=utf-8><title>Nightlatch</title>\
    <p>The browser's part is done. Go back to the terminal; this page may be closed.";

/// How to sign in.
#[derive(Debug, Clone, Args, Default)]
pub(super) struct LoginArguments {
    /// Show a code to type on another device, instead of opening the browser here. Many tenants block it,
    /// and the configuration must allow it (`broker.device_code`).
    #[arg(long)]
    pub(super) device_code: bool,
    /// Consent to this scope at once; may be repeated.
    #[arg(long)]
    pub(super) scope: Vec<String>,
    /// The claims that the sign-in must satisfy, as a service sent them (JSON).
    #[arg(long)]
    pub(super) claims: Option<String>,
    /// The name to propose on the sign-in page.
    #[arg(long)]
    pub(super) login_hint: Option<String>,
}

/// Signs the caller in.
pub(super) fn login(arguments: &LoginArguments, format: Option<Format>) -> u8 {
    match sign_in(arguments) {
        Ok(person) => {
            let document = json!({"username": person.username, "tenant": person.tenant,
                                  "objectId": person.object_id});
            match format {
                Some(Format::Json) => say(&document.to_string()),
                _ => say(&format!("signed in as {} (tenant {})", person.username, person.tenant)),
            }
            YES
        }
        Err(cause) => {
            login_refusal(&cause).iter().for_each(|line| complain(line));
            cause.exit()
        }
    }
}

/// What the person reads. Never the advice to sign in: that is what just failed.
fn login_refusal(cause: &BrokerError) -> Vec<String> {
    let mut lines = vec![cause.to_string()];
    if cause.reason() == "source_refused" {
        lines.push("that is for this node's administrator, in /etc/nightlatch/nightlatch.toml".to_owned());
    }
    lines
}

/// The sign-in itself; what the person has to do is said on stderr, so that stdout stays a program's.
pub(super) fn sign_in(arguments: &LoginArguments) -> Result<SignedIn, BrokerError> {
    let listener = if arguments.device_code { None } else { Some(listen()?) };
    let redirect_port = listener.as_ref().map_or(0, |(_, port)| u32::from(*port));
    let request = BeginLoginRequest {
        device_code: arguments.device_code,
        scopes: arguments.scope.clone(),
        claims: arguments.claims.clone().unwrap_or_default(),
        login_hint: arguments.login_hint.clone().unwrap_or_default(),
        redirect_port,
    };
    with_broker(|mut broker| async move {
        let finisher = broker.clone();
        let mut listener = listener.map(|(listener, _)| listener);
        let progress = async {
            let steps = broker.begin_login(request).await?.into_inner();
            Ok(steps.map(|step| step.map_err(BrokerError::from)))
        };
        let mut screen = Screen::new(std::io::stderr(), std::io::stderr().is_terminal());
        follow(progress, interrupted(), &mut screen, |url| {
            open_browser(url);
            let Some(listener) = listener.take() else { return };
            let redirect = tokio::task::spawn_blocking(move || wait_for_browser(&listener));
            let mut finisher = finisher.clone();
            tokio::spawn(async move {
                if let Ok(Some(redirect)) = redirect.await
                    && let Err(status) = finisher.finish_login(FinishLoginRequest { redirect }).await
                {
                    complain(status.message());
                }
            });
        })
        .await
    })
}

/// The person pressed Ctrl-C.
pub(super) async fn interrupted() {
    // Where the signal cannot be listened to, it ends the program as it always did.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Follows the broker's steps until somebody is signed in, it is refused, or the person interrupts. Dropping
/// the stream tells the broker that nobody waits any more.
async fn follow<S, I>(
    begin: impl Future<Output = Result<S, BrokerError>>,
    interrupted: I,
    screen: &mut Screen<impl Write>,
    mut browser: impl FnMut(&str),
) -> Result<SignedIn, BrokerError>
where
    S: Stream<Item = Result<LoginProgress, BrokerError>>,
    I: Future<Output = ()>,
{
    let steps = async {
        let steps = begin.await?;
        let mut steps = std::pin::pin!(steps);
        while let Some(step) = steps.next().await {
            match step?.step {
                Some(Step::Browser(step)) => browser(&step.url),
                Some(Step::Device(device)) => {
                    let seconds = u64::from(device.expires_in);
                    screen.line(&code_line(&device.verification_uri, &device.user_code, seconds));
                }
                Some(Step::Waiting(seconds)) => screen.waiting(seconds),
                Some(Step::Done(person)) => return Ok(person),
                None => {}
            }
        }
        Err(ended("the sign-in ended without an answer; try again", "sign_in_ended"))
    };
    let end = tokio::select! {
        end = steps => end,
        () = interrupted => Err(ended(INTERRUPTED, "interrupted")),
    };
    screen.end();
    end
}

fn ended(message: &str, reason: &str) -> BrokerError {
    BrokerError::Refused { message: message.to_owned(), reason: reason.to_owned(), claims: None, exit: NO }
}

/// Where the person reads on: lines, and on a terminal one line that is kept up to date.
struct Screen<W> {
    to: W,
    terminal: bool,
    /// The last line has no end yet.
    open: bool,
}

impl<W: Write> Screen<W> {
    const fn new(to: W, terminal: bool) -> Self {
        Self { to, terminal, open: false }
    }

    fn line(&mut self, text: &str) {
        self.end();
        let _ = writeln!(self.to, "nightlatch: {text}");
    }

    /// Only a terminal is kept up to date: a log would fill with it.
    fn waiting(&mut self, seconds: u32) {
        if self.terminal {
            self.open = true;
            let _ = write!(self.to, "\rwaiting for the sign-in, {seconds} s (Ctrl-C ends it) ");
            let _ = self.to.flush();
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = writeln!(self.to);
        }
    }
}

pub(super) fn listen() -> Result<(TcpListener, u16), BrokerError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BrokerError::Runtime)?;
    let port = listener.local_addr().map_err(BrokerError::Runtime)?.port();
    Ok((listener, port))
}

/// A program that opens the page is the person's own choice of browser; where there is none, the address
/// is printed and that is enough.
pub(super) fn open_browser(url: &str) {
    complain(&format!("to sign in, open this page in a browser on this machine:\n\n  {url}\n"));
    if std::env::var_os("DISPLAY").is_some() || std::env::var_os("WAYLAND_DISPLAY").is_some() {
        let null = std::process::Stdio::null;
        let _ = std::process::Command::new("xdg-open").arg(url).stdout(null()).stderr(null()).spawn();
    }
}

/// Where to type which code.
pub(super) fn code_line(uri: &str, code: &str, seconds: u64) -> String {
    format!("to sign in, open {uri} and enter the code {code} (it ends in {} minutes)", seconds / 60)
}

/// The first request that carries an answer of Entra: the query of a GET or the body of a form POST.
pub(super) fn wait_for_browser(listener: &TcpListener) -> Option<String> {
    wait_within(listener, BROWSER_LIMIT)
}

/// The same with so much time for all of it.
fn wait_within(listener: &TcpListener, limit: Duration) -> Option<String> {
    let end = Clock::System.boot() + limit;
    for _ in 0..MAX_BROWSER_REQUESTS {
        let left = PollTimeout::try_from(end.saturating_sub(Clock::System.boot())).ok()?;
        let mut wait = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wait, left) {
            Ok(1..) => {}
            Err(Errno::EINTR) => continue,
            _ => return None,
        }
        let (stream, peer) = listener.accept().ok()?;
        if !peer.ip().is_loopback() {
            continue;
        }
        if let Some(redirect) = answer(stream) {
            return Some(redirect);
        }
    }
    None
}

fn answer(mut stream: TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(BROWSER_READ)).ok()?;
    let mut request = Vec::new();
    let mut chunk = [0_u8; 2048];
    let redirect = loop {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(chunk.get(..read)?);
        if request.len() > MAX_REDIRECT_BYTES {
            return None;
        }
        if let Some(whole) = redirect_of(&request) {
            break whole;
        }
    };
    let (status, page) = if redirect.is_some() { ("200 OK", PAGE) } else { ("404 Not Found", "") };
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    redirect
}

/// `None` while the request is not whole; `Some(None)` for one that is not Entra's answer.
fn redirect_of(request: &[u8]) -> Option<Option<String>> {
    let text = String::from_utf8_lossy(request);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let carries =
        |form: &str| form.split('&').any(|pair| pair.starts_with("code=") || pair.starts_with("error="));
    if method == "GET" {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        return Some(carries(query).then(|| query.to_owned()));
    }
    if method != "POST" {
        return Some(None);
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.filter(|length| *length <= MAX_REDIRECT_BYTES).unwrap_or(0);
    let form = body.as_bytes().get(..length)?;
    let form = String::from_utf8_lossy(form).into_owned();
    Some(carries(&form).then_some(form))
}

/// Forgets the caller's sign-in.
pub(super) fn logout(format: Option<Format>) -> u8 {
    let asked =
        with_broker(|mut broker| async move { Ok(broker.logout(LogoutRequest {}).await?.into_inner()) });
    match asked {
        Ok(reply) => {
            if format == Some(Format::Json) {
                say(&json!({"username": reply.username}).to_string());
            } else if reply.username.is_empty() {
                say("nobody was signed in");
            } else {
                say(&format!("signed out {}", reply.username));
            }
            YES
        }
        Err(cause) => refused(&cause),
    }
}

/// What the broker sees of the caller.
pub(super) fn whoami(format: Option<Format>) -> u8 {
    let asked =
        with_broker(|mut broker| async move { Ok(broker.who_am_i(WhoAmIRequest {}).await?.into_inner()) });
    match asked {
        Ok(reply) => {
            if format == Some(Format::Json) {
                say(&caller_document(&reply).to_string());
            } else {
                say(&caller_line(&reply));
                match &reply.person {
                    Some(p) => say(&format!("signed in as {} (tenant {})", p.username, p.tenant)),
                    None => say("nobody is signed in; `nightlatch login` signs you in"),
                }
                let rules = if reply.rules.is_empty() { "none".to_owned() } else { reply.rules.join(", ") };
                say(&format!("rules that name you: {rules}"));
            }
            YES
        }
        Err(cause) => refused(&cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::v1::DeviceStep;

    fn device() -> Step {
        Step::Device(DeviceStep {
            user_code: "AB12CD34".to_owned(),
            verification_uri: "https://microsoft.com/devicelogin".to_owned(),
            expires_in: 900,
            message: String::new(),
        })
    }

    /// Follows these steps; after the last one nothing comes any more.
    fn followed(
        steps: Vec<Step>,
        terminal: bool,
        interrupt: bool,
    ) -> (Result<SignedIn, BrokerError>, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let stream = tokio_stream::iter(steps.into_iter().map(|step| Ok(LoginProgress { step: Some(step) })));
        let stream = stream.chain(tokio_stream::pending());
        let mut screen = Screen::new(Vec::new(), terminal);
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let interrupted = async {
            // All steps were seen before the person lost patience.
            tokio::task::yield_now().await;
            if interrupt {
                drop(go);
                let _ = gone.await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let begin = std::future::ready(Ok(stream));
        let end = runtime.block_on(follow(begin, interrupted, &mut screen, |_| {}));
        (end, String::from_utf8(screen.to).unwrap())
    }

    #[test]
    fn a_code_is_shown_and_the_wait_is_counted_on_a_terminal() {
        let done = || Step::Done(SignedIn { username: "alice@contoso.com".into(), ..SignedIn::default() });
        let (end, said) = followed(vec![device(), Step::Waiting(5), Step::Waiting(10), done()], true, false);
        assert_eq!(end.unwrap().username, "alice@contoso.com");
        let (first, rest) = said.split_once('\n').unwrap();
        assert_eq!(
            first,
            "nightlatch: to sign in, open https://microsoft.com/devicelogin and enter the code AB12CD34 \
             (it ends in 15 minutes)"
        );
        assert!(rest.starts_with("\rwaiting for the sign-in, 5 s") && rest.ends_with(" \n"), "{rest:?}");
        let (_, said) = followed(vec![device(), Step::Waiting(5), done()], false, false);
        assert_eq!(said.lines().count(), 1, "{said:?}");
    }

    #[test]
    fn an_interrupted_sign_in_says_so_and_leaves_a_whole_line() {
        let (end, said) = followed(vec![device(), Step::Waiting(5)], true, true);
        let cause = end.unwrap_err();
        assert_eq!((cause.reason(), cause.exit()), ("interrupted", NO));
        assert!(said.ends_with(" \n"), "{said:?}");
        assert_eq!(login_refusal(&cause), ["interrupted; nobody was signed in"]);
    }

    #[test]
    fn a_sign_in_that_is_not_configured_names_the_setting_and_whose_it_is() {
        let refused = |reason: &str| BrokerError::Refused {
            message: "signing in is not configured on this node; set [broker.sign_in] client_id".to_owned(),
            reason: reason.to_owned(),
            claims: None,
            exit: NO,
        };
        let lines = login_refusal(&refused("source_refused"));
        assert!(lines[0].contains("client_id") && lines[1].contains("administrator"), "{lines:?}");
        assert_eq!(login_refusal(&refused("sign_in_needed")).len(), 1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let begin = std::future::ready(Err::<tokio_stream::Empty<_>, _>(refused("source_refused")));
        let mut screen = Screen::new(Vec::new(), true);
        let end = runtime.block_on(follow(begin, std::future::pending(), &mut screen, |_| {}));
        assert_eq!(end.unwrap_err().reason(), "source_refused");
        assert!(screen.to.is_empty());
    }

    #[test]
    fn only_entras_answer_ends_the_wait() {
        assert_eq!(redirect_of(b"GET /?code=a&state=b HT"), None);
        let whole = redirect_of(b"GET /?code=a&state=b HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(whole, Some(Some("code=a&state=b".into())));
        assert_eq!(redirect_of(b"GET /favicon.ico HTTP/1.1\r\n\r\n"), Some(None));
        assert_eq!(redirect_of(b"PUT /?code=a HTTP/1.1\r\n\r\n"), Some(None));
        let form = b"POST / HTTP/1.1\r\nContent-Length: 14\r\n\r\ncode=a&state=";
        assert_eq!(redirect_of(form), None);
        let form = b"POST / HTTP/1.1\r\ncontent-length: 14\r\n\r\ncode=a&state=bX";
        assert_eq!(redirect_of(form), Some(Some("code=a&state=b".into())));
        assert_eq!(
            redirect_of(b"GET /?error=access_denied&state=b HTTP/1.1\r\n\r\n"),
            Some(Some("error=access_denied&state=b".into()))
        );
    }

    #[test]
    fn a_browser_that_asks_for_an_icon_first_is_waited_for() {
        let (listener, port) = listen().unwrap();
        let browser = std::thread::spawn(move || {
            for target in ["/favicon.ico", "/?code=x&state=y"] {
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                let mut said = String::new();
                stream.read_to_string(&mut said).unwrap();
                assert!(said.starts_with("HTTP/1.1 "), "{said}");
            }
        });
        assert_eq!(wait_for_browser(&listener).as_deref(), Some("code=x&state=y"));
        browser.join().unwrap();
        assert_eq!(wait_within(&listener, Duration::from_millis(20)), None, "nobody comes any more");
    }
}
