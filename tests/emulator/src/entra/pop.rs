//! Proof-of-possession tokens: `token_type=pop` with `req_cnf` at the token endpoint, and the signed HTTP
//! request that a resource takes instead of the bare token (Microsoft Learn, "Proof-of-Possession tokens in
//! MSAL.NET"; RFC 7800, RFC 7638).

use serde_json::{Map, Value, json};

use super::client::own_keys;
use super::refusal::Refusal;
use crate::apps::Jwk;
use crate::form::Fields;
use crate::ids;
use crate::jwt;
use crate::state::World;

/// How far the time of a signed request may be off, seconds.
const REQUEST_WINDOW_SECONDS: i64 = 300;

/// Does the form ask for a proof-of-possession token?
pub(crate) fn is_wanted(form: &Fields) -> bool {
    form.text("token_type") == "pop"
}

/// The `cnf` of the token: what `req_cnf` says, base64url of a JSON object with the key's thumbprint.
pub(crate) fn confirmation(form: &Fields) -> Result<Value, Refusal> {
    let malformed = |why: &str| Refusal::new(9_002_313).about(why);
    let text = form.get("req_cnf").ok_or_else(|| Refusal::new(90014).about("req_cnf"))?;
    let sent: Option<Map<String, Value>> =
        ids::unbase64url(text).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let sent = sent.ok_or_else(|| malformed("'req_cnf' is not base64url of a JSON object."))?;
    let kid = sent.get("kid").and_then(Value::as_str).unwrap_or("");
    if ids::unbase64url(kid).is_none_or(|print| print.len() != 32) {
        return Err(malformed("'kid' of 'req_cnf' is not a SHA-256 thumbprint."));
    }
    let place = sent.get("xms_ksl").and_then(Value::as_str).unwrap_or("");
    Ok(if place.is_empty() { json!({"kid": kid}) } else { json!({"kid": kid, "xms_ksl": place}) })
}

/// The thumbprint of an RSA key (RFC 7638 §3).
pub(crate) fn thumbprint(n: &str, e: &str) -> String {
    let members = format!("{{\"e\":\"{e}\",\"kty\":\"RSA\",\"n\":\"{n}\"}}");
    ids::base64url(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, members.as_bytes()).as_ref())
}

/// Take a signed request as a resource does: the claims of the token inside, or why not.
pub(crate) fn accept(
    world: &World,
    request: &str,
    u: &str,
    nonce: Option<&str>,
) -> Result<Map<String, Value>, &'static str> {
    let outer = jwt::parse(request).ok_or("the request is no JWT")?;
    if !outer.head("typ").eq_ignore_ascii_case("pop") {
        return Err("`typ` is not pop");
    }
    let inner = jwt::parse(outer.claim("at")).ok_or("`at` is no JWT")?;
    if !own_keys(world, inner.head("kid")).iter().any(|key| inner.verifies(key)) {
        return Err("`at` is not signed by the tenant");
    }
    if inner.number("exp").is_none_or(|exp| exp <= world.now()) {
        return Err("`at` has expired");
    }
    let jwk = outer.claims.get("cnf").and_then(|cnf| cnf.get("jwk")).cloned().unwrap_or_default();
    let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| "`cnf` holds no RSA key")?;
    let print = thumbprint(&jwk.n, &jwk.e);
    let bound = inner.claims.get("cnf").and_then(|cnf| cnf.get("kid")).and_then(Value::as_str);
    if bound != Some(&*print) || outer.head("kid") != print {
        return Err("the token is bound to another key");
    }
    if !jwk.public_key().is_some_and(|key| outer.verifies(&key)) {
        return Err("the request is not signed with the token's key");
    }
    let fresh = |ts: i64| (world.now() - ts).abs() <= REQUEST_WINDOW_SECONDS;
    if !outer.number("ts").is_some_and(fresh) {
        return Err("`ts` is not now");
    }
    if outer.claim("u") != u {
        return Err("`u` is not this resource");
    }
    if nonce.is_some_and(|nonce| outer.claim("nonce") != nonce) {
        return Err("`nonce` is not the one asked for");
    }
    Ok(inner.claims)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rsakey::RsaKey;
    use crate::state::TokenKey;

    // The example of RFC 7638 §3.1.
    #[test]
    fn the_thumbprint_is_the_standards() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        assert_eq!(thumbprint(n, "AQAB"), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn req_cnf_names_a_thumbprint() {
        let form =
            |cnf: &str| Fields::parse(&format!("token_type=pop&req_cnf={}", ids::base64url(cnf.as_bytes())));
        let print = ids::base64url(&[7; 32]);
        let good = form(&json!({"kid": print, "xms_ksl": "sw", "other": 1}).to_string());
        assert!(is_wanted(&good));
        assert_eq!(confirmation(&good).unwrap(), json!({"kid": print, "xms_ksl": "sw"}));
        for bad in ["{}", "[]", "{\"kid\":\"AA\"}", "{\"kid\":7}"] {
            assert_eq!(confirmation(&form(bad)).unwrap_err().code, 9_002_313, "{bad}");
        }
        assert_eq!(confirmation(&Fields::parse("token_type=pop")).unwrap_err().code, 90014);
    }

    #[test]
    fn a_signed_request_needs_everything_to_fit() {
        let (tenant, own, other) =
            (RsaKey::generate().unwrap(), RsaKey::generate().unwrap(), RsaKey::generate().unwrap());
        let jwk = |key: &RsaKey| (ids::base64url(key.n()), ids::base64url(key.e()));
        let (n, e) = jwk(&own);
        let print = thumbprint(&n, &e);
        let tenant = Arc::new(tenant);
        let world =
            crate::seed::world("t", Vec::new(), vec![TokenKey { key: tenant.clone(), published: true }]);
        let now = world.now();
        let token =
            |kid: &str, exp: i64| jwt::sign(&tenant, &json!({"exp": exp, "oid": "o", "cnf": {"kid": kid}}));
        let request = |key: &RsaKey, at: String, ts: i64, u: &str| {
            let claims = json!({"at": at, "ts": ts, "u": u, "nonce": "n1",
                                "cnf": {"jwk": {"kty": "RSA", "n": n, "e": e, "alg": "RS256", "kid": print}}});
            let header = json!({"typ": "pop", "alg": "RS256", "kid": print});
            jwt::sign_as(key, &header, &claims)
        };
        let good = request(&own, token(&print, now + 60), now, "/x");
        assert_eq!(accept(&world, &good, "/x", Some("n1")).unwrap()["oid"], "o");
        assert!(accept(&world, &good, "/y", None).is_err());
        assert!(accept(&world, &good, "/x", Some("n2")).is_err());
        for (bad, why) in [
            (request(&own, token("someone", now + 60), now, "/x"), "bound to another key"),
            (request(&other, token(&print, now + 60), now, "/x"), "not signed with the token's key"),
            (request(&own, token(&print, now), now, "/x"), "expired"),
            (request(&own, token(&print, now + 60), now - 301, "/x"), "`ts`"),
            (request(&own, jwt::unsigned(&json!({})), now, "/x"), "signed by the tenant"),
            (token(&print, now + 60), "`typ`"),
        ] {
            let said = accept(&world, &bad, "/x", None).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
