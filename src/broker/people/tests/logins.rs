//! Beginning and finishing: by whom, how often, how long.

use reqwest::Url;
use tokio::sync::mpsc::Receiver;

use super::entra::{self, ADELE, ALICE, CLIENT, Entra, NOW, TENANT, jwt, sign_in, tokens};
use super::*;

type Steps = Receiver<Result<Progress, LoginError>>;

fn wish() -> LoginWish {
    LoginWish { redirect_port: Some(49_152), ..LoginWish::default() }
}

/// The `state` and `nonce` on the page that is to be opened.
async fn page(steps: &mut Steps) -> (String, String) {
    let Some(Ok(Progress::Browser { url })) = steps.recv().await else { panic!("no page") };
    let url = Url::parse(&url).unwrap();
    let get = |name: &str| url.query_pairs().find(|(n, _)| n == name).unwrap().1.into_owned();
    (get("state"), get("nonce"))
}

/// An endpoint that signs the person `CODE:NONCE:OID` in.
async fn entra() -> Entra {
    Entra::start(|form| {
        let mut parts = form["code"].split(':').skip(1);
        let (nonce, oid) = (parts.next().unwrap(), parts.next().unwrap());
        let mut body = tokens(&form["base"], oid, 1);
        body["id_token"] = jwt(&json!({"iss": format!("{}/{TENANT}/v2.0", form["base"]), "aud": CLIENT,
            "tid": TENANT, "oid": oid, "exp": NOW + 60, "nonce": nonce, "preferred_username": "new@contoso.com"}))
        .into();
        (200, body)
    })
    .await
}

#[tokio::test]
async fn only_who_began_can_finish_and_only_once() {
    let entra = entra().await;
    let (sealed, _) = sealed_on(&MemoryDisk::default());
    let people = entra.people(&sealed);
    let mut steps = people.begin(1000, wish()).unwrap();
    let (state, nonce) = page(&mut steps).await;
    let good = format!("code=c:{nonce}:{ALICE}&state={state}");
    for (uid, redirect) in [
        (1001, good.clone()),
        (0, good.clone()),
        (1000, good.replace(&state, "x")),
        (1000, format!("{good}x")),
    ] {
        assert_eq!(people.finish(uid, &redirect).await, Err(LoginError::NotWaiting), "{uid} {redirect}");
    }
    assert!(matches!(people.finish(1000, "nonsense").await, Err(LoginError::Redirect(_))));
    assert!(entra.asked().is_empty(), "a code of somebody else was redeemed");
    let who = people.finish(1000, &good).await.unwrap();
    assert_eq!((who.username.as_str(), people.person(1000).as_ref()), ("new@contoso.com", Some(&who)));
    assert_eq!(steps.recv().await, Some(Ok(Progress::Done(who))));
    assert_eq!(people.finish(1000, &good).await, Err(LoginError::NotWaiting), "it counted twice");
    assert_eq!(stored(&sealed, 1000).as_deref(), Some("rt-1"));
    let asked = entra.asked();
    assert_eq!((asked.len(), asked[0]["redirect_uri"].as_str()), (1, "http://localhost:49152"));
    assert_eq!(
        (asked[0]["code_verifier"].len(), asked[0]["grant_type"].as_str()),
        (43, "authorization_code")
    );
}

#[tokio::test]
async fn a_sign_in_of_another_person_takes_the_place_of_the_first() {
    let entra = entra().await;
    let disk = MemoryDisk::default();
    let people = entra.people(&sealed_on(&disk).0);
    sign_in(&people, 1000, ADELE, "rt-old").await;
    let mut steps = people.begin(1000, wish()).unwrap();
    let (state, nonce) = page(&mut steps).await;
    let purged = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&purged);
    people.on_change(move |uid| {
        seen.fetch_add(u64::from(uid), Ordering::SeqCst);
    });
    people.finish(1000, &format!("code=c:{nonce}:{ALICE}&state={state}")).await.unwrap();
    assert_eq!(purged.load(Ordering::SeqCst), 1000);
    assert_eq!(people.person(1000).unwrap().object_id, entra::object(ALICE));
    assert_eq!(stored(&sealed_on(&disk).0, 1000).as_deref(), Some("rt-1"));
}

#[tokio::test]
async fn what_entra_refuses_ends_the_sign_in_and_leaves_the_one_before() {
    let entra = entra().await;
    let people = entra.people(&sealed_on(&MemoryDisk::default()).0);
    sign_in(&people, 1000, ADELE, "rt-old").await;
    let mut steps = people.begin(1000, wish()).unwrap();
    let (state, _) = page(&mut steps).await;
    let denied = format!("error=access_denied&error_description=No&state={state}");
    let refused = LoginError::Refused { error: "access_denied".into(), description: "No".into() };
    assert_eq!(people.finish(1000, &denied).await, Err(refused.clone()));
    assert_eq!(steps.recv().await, Some(Err(refused)));
    // A code of another sign-in, put under this one's state: the nonce does not fit.
    let mut steps = people.begin(1000, wish()).unwrap();
    let (state, _) = page(&mut steps).await;
    let said = people.finish(1000, &format!("code=c:other:{ALICE}&state={state}")).await;
    assert!(matches!(&said, Err(LoginError::Failed(failure)) if failure.sentence.contains("begin again")));
    assert_eq!(people.person(1000).unwrap().object_id, entra::object(ADELE));
}

#[tokio::test]
async fn beginnings_have_limits_of_their_own_and_for_all() {
    let entra = rotating(ALICE).await;
    let people = entra.people(&sealed_on(&MemoryDisk::default()).0);
    let mut held = Vec::new();
    for _ in 0..MAX_LOGINS_OF_UID {
        held.push(people.begin(7, wish()).unwrap());
    }
    assert_eq!(people.begin(7, wish()).err(), Some(LoginError::TooMany));
    // A client that goes away frees its place.
    held.clear();
    let freed = |people: People| async move {
        while people.0.logins().under_way() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), freed(people.clone())).await.unwrap();
    for _ in MAX_LOGINS_OF_UID..MAX_BEGINS_OF_UID {
        drop(people.begin(7, wish()).unwrap());
        freed(people.clone()).await;
    }
    assert_eq!(people.begin(7, wish()).err(), Some(LoginError::TooOften));
    // Others still can, until there are too many of all.
    let mut uid = 100;
    while let Ok(steps) = people.begin(uid, wish()) {
        held.push(steps);
        uid += 1;
    }
    assert_eq!(held.len(), MAX_LOGINS);
    let Clock::Manual(clock) = &people.0.clock else { panic!() };
    held.clear();
    freed(people.clone()).await;
    clock.advance(BEGIN_WINDOW.as_secs() as i64);
    assert!(people.begin(7, wish()).is_ok());
}

#[tokio::test]
async fn a_wish_is_checked_before_anything_begins() {
    let entra = rotating(ALICE).await;
    let people = entra.people(&sealed_on(&MemoryDisk::default()).0);
    for odd in [
        LoginWish { redirect_port: None, ..wish() },
        LoginWish { redirect_port: Some(80), ..wish() },
        LoginWish { scopes: vec!["a b".into()], ..wish() },
        LoginWish { scopes: vec!["a".into(); MAX_SCOPES + 1], ..wish() },
        LoginWish { scopes: vec![String::new()], ..wish() },
        LoginWish { login_hint: Some("a\nb".into()), ..wish() },
    ] {
        assert!(matches!(people.begin(1, odd), Err(LoginError::Wish(_))));
    }
    let mut settings = people.0.settings.clone();
    settings.device_code = false;
    let sealed = Arc::clone(&people.0.sealed);
    let strict = People::open(people.0.sign_in.clone(), settings, sealed, people.0.clock.clone());
    let device = LoginWish { device_code: true, ..wish() };
    assert_eq!(strict.begin(1, device).err(), Some(LoginError::DeviceCodeOff));
}

#[tokio::test]
async fn a_stale_sign_in_ends_and_can_no_longer_be_finished() {
    let entra = entra().await;
    let people = entra.people(&sealed_on(&MemoryDisk::default()).0);
    let settings = Settings { login_limit: Duration::from_millis(20), ..people.0.settings.clone() };
    let sealed = Arc::clone(&people.0.sealed);
    let people = People::open(people.0.sign_in.clone(), settings, sealed, people.0.clock.clone());
    let mut steps = people.begin(1000, wish()).unwrap();
    let (state, nonce) = page(&mut steps).await;
    assert_eq!(steps.recv().await, Some(Err(LoginError::TimedOut)));
    let late = format!("code=c:{nonce}:{ALICE}&state={state}");
    assert_eq!(people.finish(1000, &late).await, Err(LoginError::NotWaiting));
    // A sign-out ends what is under way.
    let people = entra.people(&Arc::new(Sealed::in_memory()));
    let mut steps = people.begin(1000, wish()).unwrap();
    page(&mut steps).await;
    people.logout(1000).await.unwrap();
    assert_eq!(steps.recv().await, Some(Err(LoginError::Ended)));
}
