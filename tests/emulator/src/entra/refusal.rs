//! AADSTS errors: the number, the OAuth words that go with it, and the JSON body (Microsoft Learn,
//! "Microsoft Entra authentication and authorization error codes").

use axum::response::Response;
use serde_json::{Value, json};

use crate::call;
use crate::clock;
use crate::ids;
use crate::state::World;

/// A refused request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) code: u32,
    error: &'static str,
    suberror: Option<String>,
    text: String,
    claims: Option<String>,
}

// Number, `error`, usual `suberror`, text. `{}` is filled by `about`.
const KNOWN: &[(u32, &str, &str, &str)] = &[
    (
        50005,
        "invalid_grant",
        "message_only",
        "Conditional Access policy requires a device of a supported platform.",
    ),
    (
        50011,
        "invalid_grant",
        "",
        "The redirect URI '{}' specified in the request does not match the redirect URIs configured for the application.",
    ),
    (
        50020,
        "invalid_grant",
        "",
        "User account '{}' from identity provider does not exist in tenant 'Contoso' and cannot access the application in that tenant.",
    ),
    (
        50034,
        "invalid_grant",
        "",
        "The user account {} does not exist in the Contoso directory. To sign into this application, the account must be added to the directory.",
    ),
    (50057, "invalid_grant", "", "The user account is disabled."),
    (50058, "interaction_required", "", "Session information is not sufficient for single-sign-on."),
    (50074, "interaction_required", "basic_action", "Strong Authentication is required."),
    (
        50076,
        "interaction_required",
        "basic_action",
        "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access '{}'.",
    ),
    (
        50079,
        "interaction_required",
        "basic_action",
        "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication to access '{}'.",
    ),
    (50158, "interaction_required", "basic_action", "External security challenge not satisfied."),
    (
        50173,
        "invalid_grant",
        "bad_token",
        "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password.",
    ),
    (
        50196,
        "invalid_grant",
        "",
        "The server terminated an operation because it encountered a client request loop. Please contact your app vendor.",
    ),
    (
        53000,
        "interaction_required",
        "message_only",
        "Device is not in required device state: non-compliant. Conditional Access policy requires a compliant device, and the device is not compliant.",
    ),
    (
        53003,
        "interaction_required",
        "message_only",
        "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.",
    ),
    (530032, "interaction_required", "message_only", "Blocked by security policy."),
    (
        65001,
        "invalid_grant",
        "consent_required",
        "The user or administrator has not consented to use the application with ID '{}'. Send an interactive authorization request for this user and resource.",
    ),
    (70000, "invalid_grant", "", "Provided grant is invalid or malformed."),
    (
        70008,
        "invalid_grant",
        "bad_token",
        "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.",
    ),
    (
        70011,
        "invalid_scope",
        "",
        "The provided value for the input parameter 'scope' is not valid. The scope {} is not valid.",
    ),
    (
        70016,
        "authorization_pending",
        "",
        "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
    ),
    (
        70018,
        "bad_verification_code",
        "",
        "Invalid verification code due to User typing in wrong user code for device code flow.",
    ),
    (70019, "expired_token", "", "Verification code expired."),
    (70020, "authorization_declined", "", "The end user has denied the authorization request."),
    (
        70043,
        "invalid_grant",
        "token_expired",
        "The refresh token has expired or is invalid due to sign-in frequency checks by conditional access.",
    ),
    (
        90002,
        "invalid_request",
        "",
        "Tenant '{}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.",
    ),
    (
        90014,
        "invalid_request",
        "",
        "The required field '{}' is missing from the credential. Ensure that you have all the necessary parameters for the login request.",
    ),
    (90023, "invalid_request", "", "Unsupported 'claims' value: {}."),
    (90033, "temporarily_unavailable", "", "A transient error has occurred. Please try again."),
    (130507, "invalid_grant", "", "The pass presented for Certificate has expired."),
    (
        500011,
        "invalid_resource",
        "",
        "The resource principal named {} was not found in the tenant named Contoso. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.",
    ),
    (
        500133,
        "invalid_grant",
        "",
        "Assertion is not within its valid time range. Ensure that the access token is not expired before using it for user assertion, or request a new token.",
    ),
    (
        500341,
        "invalid_grant",
        "",
        "The user account {} has been deleted from the Contoso directory. To sign into this application, the account must be added to the directory.",
    ),
    (
        501481,
        "invalid_grant",
        "",
        "The Code_Verifier does not match the code_challenge supplied in the authorization request.",
    ),
    (700003, "invalid_grant", "", "Device object was not found in the tenant 'Contoso' directory."),
    (
        700005,
        "invalid_grant",
        "client_mismatch",
        "Provided Authorization Code or refresh token is intended to use against other client application.",
    ),
    (
        700016,
        "unauthorized_client",
        "",
        "Application with identifier '{}' was not found in the directory 'Contoso'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant.",
    ),
    (700024, "invalid_client", "", "Client assertion is not within its valid time range."),
    (
        700027,
        "invalid_client",
        "",
        "The certificate with identifier used to sign the client assertion is not registered on application, or its signature does not verify. [Reason - {}]",
    ),
    (
        700082,
        "invalid_grant",
        "bad_token",
        "The refresh token has expired due to inactivity. The token was issued too long ago and was inactive for 90.00:00:00.",
    ),
    (
        700211,
        "invalid_client",
        "",
        "No matching federated identity record found for presented assertion issuer '{}'.",
    ),
    (
        700212,
        "invalid_client",
        "",
        "No matching federated identity record found for presented assertion audience '{}'.",
    ),
    (
        700213,
        "invalid_client",
        "",
        "No matching federated identity record found for presented assertion subject '{}'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion.",
    ),
    (
        7000214,
        "invalid_client",
        "",
        "Assertion signature could not be verified with the keys of its issuer. {}",
    ),
    (
        7000215,
        "invalid_client",
        "",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{}'.",
    ),
    (
        7000218,
        "invalid_client",
        "",
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
    ),
    (7000222, "invalid_client", "", "The provided client secret keys for app '{}' are expired."),
    (9002313, "invalid_request", "", "Invalid request. Request is malformed or invalid. {}"),
    (
        9002325,
        "invalid_grant",
        "",
        "Proof Key for Code Exchange is required for cross-origin authorization code redemption.",
    ),
];

impl Refusal {
    /// The refusal of a number; numbers not in the table are an `invalid_grant` without further words.
    pub(crate) fn new(code: u32) -> Self {
        let known = KNOWN.iter().find(|entry| entry.0 == code);
        let &(_, error, suberror, text) =
            known.unwrap_or(&(0, "invalid_grant", "", "The request was refused."));
        Self {
            code,
            error,
            suberror: (!suberror.is_empty()).then(|| suberror.to_owned()),
            text: text.to_owned(),
            claims: None,
        }
    }

    /// Fill the text's blank.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.text = self.text.replace("{}", what);
        self
    }

    /// Hand out a claims challenge.
    pub(crate) fn with_claims(mut self, claims: &Value) -> Self {
        self.claims = Some(claims.to_string());
        self
    }

    /// Another `suberror`.
    pub(crate) fn with_suberror(mut self, suberror: &str) -> Self {
        self.suberror = Some(suberror.to_owned());
        self
    }

    /// OAuth word and full description, for redirects.
    pub(crate) fn words(&self, world: &World) -> (&'static str, String) {
        (self.error, self.describe(world, &ids::guid(), &ids::guid()))
    }

    fn describe(&self, world: &World, trace: &str, correlation: &str) -> String {
        format!(
            "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {}",
            self.code,
            self.text.replace("{}", "").trim_end(),
            clock::spaced(world.now()),
        )
    }

    /// The JSON body.
    pub(crate) fn body(&self, world: &World) -> Value {
        let (trace, correlation) = (ids::guid(), ids::guid());
        let mut body = json!({
            "error": self.error,
            "error_description": self.describe(world, &trace, &correlation),
            "error_codes": [self.code],
            "timestamp": clock::spaced(world.now()),
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://login.microsoftonline.com/error?code={}", self.code),
        });
        if let Some(members) = body.as_object_mut() {
            if let Some(suberror) = &self.suberror {
                members.insert("suberror".into(), suberror.as_str().into());
            }
            if let Some(claims) = &self.claims {
                members.insert("claims".into(), claims.as_str().into());
            }
        }
        body
    }

    /// 401 for a client that could not prove itself, 503 for "try again", 400 for all others.
    pub(crate) fn response(&self, world: &World) -> Response {
        let status = match self.error {
            "invalid_client" => 401,
            "temporarily_unavailable" => 503,
            _ => 400,
        };
        call::json(status, &self.body(world))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_listed_once_and_bodies_carry_everything() {
        let mut seen = std::collections::BTreeSet::new();
        assert!(KNOWN.iter().all(|entry| seen.insert(entry.0)));
        let world = crate::seed::world("t", Vec::new(), Vec::new());
        let challenge = json!({"access_token": {"acrs": {"essential": true, "value": "c1"}}});
        let body = Refusal::new(50076).about("app").with_claims(&challenge).body(&world);
        assert_eq!(body["error_codes"], json!([50076]));
        assert_eq!(body["suberror"], "basic_action");
        assert_eq!(body["claims"], challenge.to_string());
        let text = body["error_description"].as_str().unwrap();
        assert!(text.starts_with("AADSTS50076: ") && text.contains("'app'"), "{text}");
        for word in ["Trace ID: ", "Correlation ID: ", "Timestamp: "] {
            assert!(text.contains(word), "{text}");
        }
        assert_eq!(Refusal::new(42).body(&world)["error_codes"], json!([42]));
    }
}
