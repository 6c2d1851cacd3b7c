//! The forms of the grants: which fields stand in them, and the claims that go with them.

use nightlatch_model::Secret;
use nightlatch_tokens::{Claims, Resource};
use serde_json::{Map, Value, json};

/// `client_assertion_type` of a signed JWT (RFC 7523).
pub const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// `grant_type` of a token that stands for somebody else's (Microsoft Learn, "On-Behalf-Of flow").
pub const ON_BEHALF_OF_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// `grant_type` of a device code (RFC 8628).
pub const DEVICE_CODE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Which grant a form uses; what a refusal means depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// An application by itself.
    Client,
    /// A refresh token of a person.
    Refresh,
    /// A code from a browser.
    Code,
    /// A device code that a person is typing somewhere.
    Device,
    /// A person's token, exchanged by an application.
    OnBehalfOf,
}

impl Grant {
    /// The grant of a form; a form without one is an application's own.
    #[must_use]
    pub fn of(form: &Form<'_>) -> Self {
        match form.get("grant_type") {
            Some("refresh_token") => Self::Refresh,
            Some("authorization_code") => Self::Code,
            Some(DEVICE_CODE_GRANT) => Self::Device,
            Some(ON_BEHALF_OF_GRANT) => Self::OnBehalfOf,
            _ => Self::Client,
        }
    }
}

/// A form in the making. It borrows its secrets, so that none of them is copied before it is written out.
#[derive(Clone, Default)]
pub struct Form<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Form<'a> {
    /// A form with these fields, for grants that are put together elsewhere.
    #[must_use]
    pub fn new(fields: &[(&'a str, &'a str)]) -> Self {
        Self(fields.to_vec())
    }

    /// `grant_type=client_credentials` for the whole of a resource; `scope` as from [`scope_of`].
    #[must_use]
    pub fn client_credentials(scope: &'a str) -> Self {
        Self(vec![("grant_type", "client_credentials"), ("scope", scope)])
    }

    /// `assertion` is a person's access token for this very application.
    #[must_use]
    pub fn on_behalf_of(assertion: &'a Secret, scope: &'a str) -> Self {
        Self(vec![
            ("grant_type", ON_BEHALF_OF_GRANT),
            ("requested_token_use", "on_behalf_of"),
            ("assertion", assertion.expose()),
            ("scope", scope),
        ])
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &'a str, value: &'a str) -> Self {
        self.0.push((name, value));
        self
    }

    /// Adds a field where there is a value.
    #[must_use]
    pub fn maybe(self, name: &'a str, value: Option<&'a str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds what the application proves itself with.
    #[must_use]
    pub fn client(self, client: &'a Client<'a>) -> Self {
        let form = self.with("client_id", client.id);
        match &client.proof {
            Proof::None => form,
            Proof::Secret(secret) => form.with("client_secret", secret.expose()),
            Proof::Assertion(assertion) => form
                .with("client_assertion_type", CLIENT_ASSERTION_TYPE)
                .with("client_assertion", assertion.expose()),
        }
    }

    /// A field's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(have, _)| *have == name).map(|(_, value)| *value)
    }

    /// All fields in order.
    #[must_use]
    pub fn fields(&self) -> &[(&'a str, &'a str)] {
        &self.0
    }
}

/// An application and its proof.
pub struct Client<'a> {
    id: &'a str,
    proof: Proof<'a>,
}

enum Proof<'a> {
    None,
    Secret(&'a Secret),
    Assertion(&'a Secret),
}

impl<'a> Client<'a> {
    /// A public client: it has nothing to prove itself with.
    #[must_use]
    pub const fn public(id: &'a str) -> Self {
        Self { id, proof: Proof::None }
    }

    /// With a client secret.
    #[must_use]
    pub const fn secret(id: &'a str, secret: &'a Secret) -> Self {
        Self { id, proof: Proof::Secret(secret) }
    }

    /// With a signed assertion: its own, or one of an issuer that the application trusts.
    #[must_use]
    pub const fn assertion(id: &'a str, assertion: &'a Secret) -> Self {
        Self { id, proof: Proof::Assertion(assertion) }
    }
}

/// The `scope` field for a resource: `/.default`, or the named scopes with the resource before each.
#[must_use]
pub fn scope_of(resource: &Resource, scopes: &[String]) -> String {
    if scopes.is_empty() {
        return resource.default_scope();
    }
    let base = resource.exact();
    scopes.iter().map(|scope| format!("{base}/{scope}")).collect::<Vec<_>>().join(" ")
}

/// The `claims` field: the client's capability (`cp1`) where the caller handles continuous access
/// evaluation, merged into the challenge that it was given (Microsoft Learn, "Claims challenges, claims
/// requests and client capabilities"). Without `cae` a capability that stands in the challenge is taken
/// out: such a token would be of a kind that its reader did not ask for.
#[must_use]
pub fn merged_claims(challenge: Option<&Claims>, cae: bool) -> Option<String> {
    let mut whole = challenge
        .and_then(|claims| serde_json::from_str::<Map<String, Value>>(claims.as_str()).ok())
        .unwrap_or_default();
    if cae {
        let wanted = json!({"access_token": {"xms_cc": {"values": ["cp1"]}}});
        if let Value::Object(wanted) = wanted {
            merge(&mut whole, wanted);
        }
    } else if let Some(Value::Object(asked)) = whole.get_mut("access_token") {
        asked.remove("xms_cc");
        if asked.is_empty() {
            whole.remove("access_token");
        }
    }
    (!whole.is_empty()).then(|| Value::Object(whole).to_string())
}

/// Objects are merged, lists joined without doubles; anything else of `more` wins.
fn merge(into: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(have)), Value::Object(more)) => merge(have, more),
            (Some(Value::Array(have)), Value::Array(more)) => {
                for value in more {
                    if !have.contains(&value) {
                        have.push(value);
                    }
                }
            }
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(challenge: Option<&str>, cae: bool) -> Option<Value> {
        let challenge = challenge.map(|text| Claims::new(text).unwrap());
        merged_claims(challenge.as_ref(), cae).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn capability_and_challenge_are_one_document() {
        assert_eq!(merged(None, false), None);
        let capable = json!({"access_token": {"xms_cc": {"values": ["cp1"]}}});
        assert_eq!(merged(None, true), Some(capable.clone()));
        let nbf = r#"{"access_token":{"nbf":{"essential":true,"value":"1"}},"id_token":{"a":null}}"#;
        assert_eq!(
            merged(Some(nbf), true),
            Some(json!({
                "access_token": {"nbf": {"essential": true, "value": "1"}, "xms_cc": {"values": ["cp1"]}},
                "id_token": {"a": null},
            }))
        );
        assert_eq!(merged(Some(nbf), false), Some(serde_json::from_str(nbf).unwrap()));
        for odd in [r#"{"access_token":null}"#, r#"{"access_token":[1]}"#, r#"{"access_token":{"xms_cc":1}}"#]
        {
            assert_eq!(merged(Some(odd), true), Some(capable.clone()), "{odd}");
        }
        let others = r#"{"access_token":{"xms_cc":{"values":["cp1","x"]}}}"#;
        let both = json!({"access_token": {"xms_cc": {"values": ["cp1", "x"]}}});
        assert_eq!(merged(Some(others), true), Some(both));
        assert_eq!(merged(Some(others), false), None, "cp1 only for who says so with the flag");
    }

    #[test]
    fn scopes_carry_their_resource() {
        let resource: Resource = "https://vault.azure.net/".parse().unwrap();
        assert_eq!(scope_of(&resource, &[]), "https://vault.azure.net//.default");
        let scopes = ["a.read".to_owned(), "b.write".to_owned()];
        assert_eq!(
            scope_of(&resource, &scopes),
            "https://vault.azure.net//a.read https://vault.azure.net//b.write"
        );
    }
}
