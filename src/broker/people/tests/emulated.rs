//! The whole flows against the emulated tenant, which shares no code with us.

use std::net::SocketAddr;
use std::path::PathBuf;

use nightlatch_emulator::client::{Ask, Reply};
use nightlatch_emulator::world;
use reqwest::Url;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock::Clock;
use crate::entra::http::{Http, ProxyRule};

const LOGIN: &str = "login.microsoftonline.com";

/// A tenant, and a plain door to it: a unit test has no certificate store of its own.
struct Tenant {
    _running: nightlatch_emulator::Running,
    folder: tempfile::TempDir,
    https: SocketAddr,
    control: SocketAddr,
    door: String,
}

impl Tenant {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let running =
            nightlatch_emulator::start(nightlatch_emulator::Options::loopback(folder.path())).await.unwrap();
        let (https, control) = (running.endpoints().https[0], running.endpoints().control.unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let door = format!("http://{}", listener.local_addr().unwrap());
        let ca = folder.path().join("tls-ca.pem");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass_on(stream, https, ca.clone()));
            }
        });
        Self { _running: running, folder, https, control, door }
    }

    async fn control(&self, method: &str, path: &str, body: Value) {
        let reply = Ask::json(method, path, &body).over_tcp(self.control).await.unwrap();
        assert_eq!(reply.status / 100, 2, "{}", reply.text());
    }

    /// Opens a page as a browser would, and gives what it would bring back.
    async fn browse(&self, url: &str) -> String {
        let url = Url::parse(url).unwrap();
        let target = format!("{}?{}", url.path(), url.query().unwrap());
        let ca = self.folder.path().join("tls-ca.pem");
        let reply = Ask::get(target).over_tls(self.https, LOGIN, &ca).await.unwrap();
        assert_eq!(reply.status, 302, "{}", reply.text());
        Url::parse(reply.header("location")).unwrap().query().unwrap().to_owned()
    }

    fn people(&self, tenant: &str, sealed: &Arc<Sealed>) -> People {
        let http = Http::internet(ProxyRule::Direct).unwrap();
        let client = world::OWN_APP.parse().unwrap();
        let sign_in = SignIn::new(http, &self.door, tenant.parse().unwrap(), client);
        let settings = Settings { scopes: Vec::new(), device_code: true, login_limit: LOGIN_LIMIT };
        let sign_in = sign_in.issued_by(&format!("https://{LOGIN}"));
        People::open(sign_in, settings, Arc::clone(sealed), Clock::System)
    }
}

async fn pass_on(mut stream: TcpStream, https: SocketAddr, ca: PathBuf) -> Option<()> {
    let mut bytes = Vec::new();
    let (line, body) = loop {
        let mut part = [0_u8; 4096];
        let read = stream.read(&mut part).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&part[..read]);
        let text = String::from_utf8(bytes.clone()).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0_usize) {
            break (head.lines().next()?.to_owned(), body.to_owned());
        }
    };
    let fields: Vec<(String, String)> =
        Url::parse(&format!("http://x/?{body}")).ok()?.query_pairs().into_owned().collect();
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let reply: Reply = Ask::form(line.split(' ').nth(1)?, &fields).over_tls(https, LOGIN, &ca).await.unwrap();
    let head = format!(
        "HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        reply.status,
        reply.body.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&reply.body).await.ok()?;
    stream.shutdown().await.ok()
}

#[tokio::test]
async fn a_person_signs_in_with_a_browser_and_gets_tokens_until_it_is_taken_back() {
    let tenant = Tenant::start().await;
    let (sealed, _) = sealed_on(&MemoryDisk::default());
    let people = tenant.people(world::TENANT, &sealed);
    let wish = LoginWish {
        redirect_port: Some(49_152),
        login_hint: Some("alice@contoso.com".into()),
        scopes: vec!["https://management.azure.com/.default".into()],
        ..LoginWish::default()
    };
    let mut steps = people.begin(1000, wish).unwrap();
    let Some(Ok(Progress::Browser { url })) = steps.recv().await else { panic!("no page") };
    let who = people.finish(1000, &tenant.browse(&url).await).await.unwrap();
    assert_eq!((who.username.as_str(), who.object_id.to_string().as_str()), ("alice@contoso.com", ALICE));
    assert_eq!(steps.recv().await, Some(Ok(Progress::Done(who))));
    let first = stored(&sealed, 1000).unwrap();
    let token = people.fetch(&key(Some(1000)), None).await.unwrap();
    assert_eq!(token.stamp.oid.as_deref(), Some(ALICE));
    assert_ne!(stored(&sealed, 1000).unwrap(), first, "the refresh token was not rotated");
    // Another factor is wanted: the sign-in stays, and says what to do.
    let challenge = Claims::new(r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#).unwrap();
    let failure = people.fetch(&key(Some(1000)), Some(&challenge)).await.err().unwrap();
    assert_eq!(failure.class, FailureClass::NeedsUser, "{}", failure.sentence);
    let wish = LoginWish {
        redirect_port: Some(49_153),
        login_hint: Some("alice@contoso.com".into()),
        claims: Some(Claims::new(failure.claims.as_deref().unwrap()).unwrap()),
        ..LoginWish::default()
    };
    let mut steps = people.begin(1000, wish).unwrap();
    let Some(Ok(Progress::Browser { url })) = steps.recv().await else { panic!("no page") };
    people.finish(1000, &tenant.browse(&url).await).await.unwrap();
    people.fetch(&key(Some(1000)), Some(&challenge)).await.unwrap();
    // Taken back at Entra.
    tenant
        .control("POST", "/control/entra/scripts", json!({"code": 50173, "who": "alice@contoso.com"}))
        .await;
    let failure = people.fetch(&key(Some(1000)), None).await.err().unwrap();
    assert_eq!(failure.class, FailureClass::Revoked, "{}", failure.sentence);
    assert_eq!((people.person(1000), stored(&sealed, 1000)), (None, None));
}

#[tokio::test]
async fn a_person_signs_in_on_another_device() {
    let tenant = Tenant::start().await;
    let settings =
        json!({"device_interval": 1, "device_approve_after": 1, "interactive_user": "adele@contoso.com"});
    tenant.control("PUT", "/control/entra", settings).await;
    let people = tenant.people(world::TENANT, &Arc::new(Sealed::in_memory()));
    let wish = || LoginWish { device_code: true, ..LoginWish::default() };
    let mut steps = people.begin(1001, wish()).unwrap();
    let Some(Ok(Progress::Device { user_code, verification_uri, expires_in, .. })) = steps.recv().await
    else {
        panic!("no code")
    };
    assert_eq!((user_code.len(), verification_uri.starts_with("https://")), (9, true));
    assert_eq!(expires_in, Duration::from_secs(900));
    let mut waited = 0;
    let who = loop {
        match steps.recv().await {
            Some(Ok(Progress::Waiting(_))) => waited += 1,
            Some(Ok(Progress::Done(who))) => break who,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((waited, who.object_id.to_string().as_str()), (1, ADELE));
    assert_eq!(people.fetch(&key(Some(1001)), None).await.unwrap().stamp.oid.as_deref(), Some(ADELE));
    // Declined there.
    tenant.control("PUT", "/control/entra", json!({"device_approve_after": null})).await;
    let mut steps = people.begin(1002, wish()).unwrap();
    let Some(Ok(Progress::Device { user_code, .. })) = steps.recv().await else { panic!("no code") };
    tenant.control("POST", &format!("/control/device/{user_code}"), json!({})).await;
    let said = steps.recv().await.unwrap().unwrap_err();
    assert!(matches!(&said, LoginError::Failed(failure) if failure.sentence.contains("declined")), "{said}");
    assert!(people.person(1002).is_none());
}
