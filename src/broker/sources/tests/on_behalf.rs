//! The person: handed on to whoever keeps people, and what an application may do on their behalf.

use std::sync::Arc;

use nightlatch_emulator::world;
use nightlatch_model::{Secret, Timestamp};
use nightlatch_tokens::{FailureClass, IdentityKind, Token};
use serde_json::json;

use super::{Person, Tenant, VAULT, claims, file, key, one, refused};
use crate::broker::Source;
use crate::broker::sources::{IdentitySettings, Proof, Way};

const PUBLIC: &str = "login.microsoftonline.com";

fn acting(tenant: &Tenant) -> Vec<IdentitySettings> {
    let proof = Proof::Secret(file(tenant.folder.path(), "secret", world::NODE_APP_SECRET));
    one("agent", Way::OnBehalfOf(tenant.application(PUBLIC, world::NODE_APP, proof)))
}

async fn alices(tenant: &Tenant, audience: &str) -> Token {
    let body =
        json!({"user": world::ALICE.upn, "audience": audience, "client_id": world::OWN_APP, "v2": true});
    let made = tenant.control("POST", "/control/tokens", body).await;
    let text = made["access_token"].as_str().unwrap().to_owned();
    Token::bearer(Secret::new(text), Timestamp(i64::MAX), None)
}

#[tokio::test]
async fn an_application_acts_for_the_person_of_this_uid_only() {
    let tenant = Tenant::new().await;
    let person = Person::with(alices(&tenant, world::NODE_APP).await);
    let sources = tenant.sources(acting(&tenant), Some(Arc::clone(&person) as Arc<dyn Source>));
    let failure = refused(&sources, &key("agent", VAULT)).await;
    assert_eq!(failure.class, FailureClass::NeedsUser, "nobody is meant without an owner");
    assert!(person.asked.lock().unwrap().is_empty());
    let mut wanted = key("agent", VAULT);
    wanted.owner = Some(1000);
    let token = sources.fetch(&wanted, None).await.unwrap_or_else(|failure| panic!("{}", failure.sentence));
    assert_eq!(token.stamp.oid.as_deref(), Some(world::ALICE.oid));
    assert_eq!(claims(&token)["aud"], VAULT);
    {
        let asked = person.asked.lock().unwrap();
        assert_eq!((asked.len(), asked[0].owner, &*asked[0].identity), (1, Some(1000), "person"));
        assert_eq!(asked[0].resource.exact(), world::NODE_APP);
    }
    let failure = refused(&sources, &wanted).await;
    assert_eq!(failure.class, FailureClass::NeedsUser, "the person has signed out");
    assert_eq!(sources.identities().by_name("agent").unwrap().kind, IdentityKind::OnBehalfOf);
}

#[tokio::test]
async fn a_persons_token_for_somebody_else_is_exchanged_for_nothing() {
    let tenant = Tenant::new().await;
    let person = Person::with(alices(&tenant, "https://graph.microsoft.com").await);
    let sources = tenant.sources(acting(&tenant), Some(person));
    let mut wanted = key("agent", VAULT);
    wanted.owner = Some(1000);
    let failure = refused(&sources, &wanted).await;
    assert!(failure.sentence.contains("AADSTS9002313"), "{}", failure.sentence);
}

#[tokio::test]
async fn nothing_is_exchanged_for_who_signed_in_meanwhile() {
    let tenant = Tenant::new().await;
    let person = Person::with(alices(&tenant, world::NODE_APP).await);
    let sources = tenant.sources(acting(&tenant), Some(person));
    let mut wanted = key("agent", VAULT);
    (wanted.owner, wanted.on_behalf_of) = (Some(1000), Some(world::ADELE.oid.to_owned()));
    let failure = refused(&sources, &wanted).await;
    assert!(failure.sentence.contains("another person"), "{}", failure.sentence);

    let person = Person::with(alices(&tenant, world::NODE_APP).await);
    let sources = tenant.sources(acting(&tenant), Some(person));
    wanted.on_behalf_of = Some(world::ALICE.oid.to_uppercase());
    let token = sources.fetch(&wanted, None).await.unwrap_or_else(|failure| panic!("{}", failure.sentence));
    assert_eq!(token.stamp.oid.as_deref(), Some(world::ALICE.oid));
}

#[tokio::test]
async fn the_person_is_asked_by_who_keeps_people() {
    let tenant = Tenant::new().await;
    let alone = tenant.sources(Vec::new(), None);
    let failure = refused(&alone, &key("person", VAULT)).await;
    assert!(failure.sentence.contains("broker.sign_in.client_id"), "{}", failure.sentence);
    let token = Token::bearer(Secret::new("at".to_owned()), Timestamp(i64::MAX), None);
    let person = Person::with(token);
    let sources = tenant.sources(Vec::new(), Some(Arc::clone(&person) as Arc<dyn Source>));
    let mut wanted = key("person", VAULT);
    wanted.owner = Some(7);
    assert_eq!(sources.fetch(&wanted, None).await.unwrap().secret.expose(), "at");
    assert_eq!(*person.asked.lock().unwrap(), [wanted.clone()]);
    assert_eq!(sources.circuit(&wanted), "people");
}
