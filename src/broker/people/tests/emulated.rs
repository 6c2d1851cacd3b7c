//! The whole flows against the emulated tenant, which shares no code with us.

use nightlatch_emulator::world;

use super::*;
use crate::clock::Clock;
use crate::entra::emulated::Tenant;

fn people(of: &Tenant, tenant: &str, sealed: &Arc<Sealed>) -> People {
    let settings = Settings { scopes: Vec::new(), device_code: true, login_limit: LOGIN_LIMIT };
    People::open(of.sign_in(tenant, world::OWN_APP), settings, Arc::clone(sealed), Clock::System)
}

#[tokio::test]
async fn a_person_signs_in_with_a_browser_and_gets_tokens_until_it_is_taken_back() {
    let tenant = Tenant::start().await;
    let (sealed, _) = sealed_on(&MemoryDisk::default());
    let people = people(&tenant, world::TENANT, &sealed);
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
    let people = people(&tenant, world::TENANT, &Arc::new(Sealed::in_memory()));
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
