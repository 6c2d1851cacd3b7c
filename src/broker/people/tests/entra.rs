//! A token endpoint whose answers a test makes up one by one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightlatch_model::{Guid, ObjectId, Secret, TenantId};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::broker::people::{LOGIN_LIMIT, People, Settings};
use crate::clock::{Clock, ManualClock};
use crate::entra::http::{Http, ProxyRule};
use crate::entra::sign_in::{PersonId, SignIn};
use crate::store::sealed::Sealed;

pub(super) const NOW: i64 = 1_795_300_000;
pub(super) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(super) const CLIENT: &str = "0a990000-0000-4000-8000-000000000001";
pub(super) const ALICE: &str = "a11ce000-0000-4000-8000-000000000001";
pub(super) const ADELE: &str = "ade1e000-0000-4000-8000-000000000002";

pub(super) type Form = HashMap<String, String>;
type Answers = dyn Fn(&Form) -> (u16, Value) + Send + Sync;

/// The running endpoint.
pub(super) struct Entra {
    pub(super) base: String,
    asked: Arc<Mutex<Vec<Form>>>,
}

impl Entra {
    pub(super) async fn start(answers: impl Fn(&Form) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, seen): (Arc<Answers>, _) = (Arc::new(answers), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
                tokio::spawn(async move { serve(stream, &*answers, &seen).await });
            }
        });
        Self { base, asked }
    }

    /// Every form that came.
    pub(super) fn asked(&self) -> Vec<Form> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn people(&self, sealed: &Arc<Sealed>) -> People {
        people(&self.base, CLIENT, sealed)
    }
}

pub(super) fn people(base: &str, client: &str, sealed: &Arc<Sealed>) -> People {
    let http = Http::internet(ProxyRule::Direct).unwrap();
    let sign_in = SignIn::new(http, base, tenant(), client.parse().unwrap());
    let settings = Settings { scopes: Vec::new(), device_code: true, login_limit: LOGIN_LIMIT };
    let clock = Clock::Manual(ManualClock::at(nightlatch_model::Timestamp(NOW)));
    People::open(sign_in, settings, Arc::clone(sealed), clock)
}

/// Signs somebody in as if a flow had just ended.
pub(super) async fn sign_in(people: &People, uid: u32, oid: &str, refresh_token: &str) {
    let person =
        PersonId { tenant: tenant(), object_id: object(oid), username: format!("{uid}@contoso.com") };
    people.0.take_up(uid, person, Secret::new(refresh_token.into())).await.unwrap();
}

pub(super) fn tenant() -> TenantId {
    TENANT.parse().unwrap()
}

pub(super) fn object(oid: &str) -> ObjectId {
    ObjectId(oid.parse::<Guid>().unwrap())
}

pub(super) fn jwt(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256", "typ": "JWT"})), part(claims))
}

/// An answer about `oid`; the issuer is put in as the form is answered.
pub(super) fn tokens(base: &str, oid: &str, number: u64) -> Value {
    json!({
        "token_type": "Bearer",
        "expires_in": 3600,
        "access_token": jwt(&json!({"oid": oid, "appid": CLIENT, "uti": format!("at-{number}")})),
        "refresh_token": format!("rt-{number}"),
        "id_token": jwt(&json!({
            "iss": format!("{base}/{TENANT}/v2.0"), "aud": CLIENT, "tid": TENANT, "oid": oid,
            "exp": NOW + 3600, "nbf": NOW, "iat": NOW, "preferred_username": "x@contoso.com",
        })),
    })
}

async fn serve(mut stream: TcpStream, answers: &Answers, seen: &Mutex<Vec<Form>>) -> Option<()> {
    let mut bytes = Vec::new();
    let form = loop {
        let mut part = [0_u8; 4096];
        let read = stream.read(&mut part).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        if body.len() >= length {
            let url = Url::parse(&format!("http://x/?{body}")).unwrap();
            let mut form: Form = url.query_pairs().into_owned().collect();
            let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
            form.insert("base".into(), format!("http://{host}"));
            form.insert("path".into(), head.split(' ').nth(1).unwrap().to_owned());
            break form;
        }
    };
    seen.lock().unwrap().push(form.clone());
    let (status, body) = answers(&form);
    let body = body.to_string();
    let text = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}
