//! A person's sign-in for a certificate of Entra's against the emulated tenant.

use nightlatch_emulator::world;
use serde_json::{Value, json};

use super::asked::How;
use super::files::kept;
use super::person::{Person, wish};
use super::person_tests::CHALLENGE;
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
