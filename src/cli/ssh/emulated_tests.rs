//! A person's sign-in for a certificate of Entra's against the emulated tenant.

use nightlatch_emulator::world;
use serde_json::{Value, json};

use super::asked::{Asked, How};
use super::files::{kept, last};
use super::held::Held;
use super::person::{Person, wish};
use super::person_tests::CHALLENGE;
use super::renewal::{Renewed, renewed};
use super::rsa::tests::key;
use super::sign_in::code_in;
use super::tests::asking;
use crate::clock::Clock;
use crate::entra::emulated::Tenant;
use crate::entra::sign_in::{RANDOM_BYTES, SignIn, Wish};

const NAME: &str = world::ALICE.upn;

/// The tenant that shares no code with us certifies the key, by a browser and by a code, and challenges as it is told to.
#[tokio::test]
async fn the_emulated_tenant_certifies_our_key() {
    let tenant = Tenant::start().await;
    let entra = tenant.azure_cli();
    let key = key();
    let folder = tempfile::tempdir().unwrap();
    for how in [How::Browser, How::Device] {
        let asked = asking(folder.path(), how);
        let claims: Value = serde_json::from_str(CHALLENGE).unwrap();
        let script = json!({"code": 50_076, "scope": "CheckMyAccess", "claims": claims, "times": 1});
        tenant.control("POST", "/control/entra/scripts", script).await;
        let wish = wish(&asked, key.ask(), Some(NAME.into()));
        let person = Person { entra: &entra, wish: &wish, ask: key.ask(), clock: &Clock::System };
        let opened = std::cell::Cell::new(0);
        let given = if asked.how == How::Device {
            person.on_device(|_| opened.set(opened.get() + 1), async |_| ()).await
        } else {
            let page = async |entra: &SignIn, wish: &Wish| {
                opened.set(opened.get() + 1);
                let browser = entra.browser(wish, 49_152, &[7; RANDOM_BYTES]);
                let code = code_in(&browser, &tenant.browse(browser.url()).await)?;
                Ok((browser, code))
            };
            person.in_browser(page).await
        };
        let now = Clock::System.now();
        assert_eq!(key.keep(&asked, &given.unwrap(), None, None, now).as_deref(), Ok(NAME));
        assert_eq!(opened.get(), 2, "{:?}", asked.how);
        assert!(kept(&asked, now.plus(2_900)).is_some() && kept(&asked, now.plus(3_100)).is_none());
        std::fs::remove_file(folder.path().join("entra.json")).unwrap();
    }
}

/// The tenant renews what it certified: for the same key, and where that is lost for another, until the sign-in is ended there.
#[tokio::test]
async fn the_emulated_tenant_renews_what_it_certified() {
    let tenant = Tenant::start().await;
    let (entra, held, folder) = (tenant.azure_cli(), Held::by_this_process(), tempfile::tempdir().unwrap());
    let asked = Asked { hold: true, ..asking(folder.path(), How::Browser) };
    let key = key();
    let wish = wish(&asked, key.ask(), Some(NAME.into()));
    let person = Person { entra: &entra, wish: &wish, ask: key.ask(), clock: &Clock::System };
    let page = async |entra: &SignIn, wish: &Wish| {
        let browser = entra.browser(wish, 49_152, &[7; RANDOM_BYTES]);
        let code = code_in(&browser, &tenant.browse(browser.url()).await)?;
        Ok((browser, code))
    };
    let given = person.in_browser(page).await.unwrap();
    let now = Clock::System.now();
    key.keep(&asked, &given, Some(&held), None, now).unwrap();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let (private, certificate) = (read("id_rsa"), read("id_rsa-cert.pub"));
    let again = async || renewed(&entra, &asked, &last(&asked).unwrap(), &held, now).await;
    let done = || Ok(Renewed::Done(NAME.into()));
    assert_eq!(again().await, done());
    assert!(read("id_rsa") == private && read("id_rsa-cert.pub") != certificate);
    assert!(kept(&asked, now).is_some());

    std::fs::write(folder.path().join("id_rsa"), "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
    assert!(kept(&asked, now).is_none());
    assert_eq!(again().await, done());
    assert!(read("id_rsa") != private && kept(&asked, now).is_some());

    tenant.control("POST", &format!("/control/users/{NAME}/revoke"), json!({})).await;
    assert_eq!(again().await, Ok(Renewed::Page(None)));
    assert!(held.of(folder.path(), asked.way(), &last(&asked).unwrap()).is_none());
}
