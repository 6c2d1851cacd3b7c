//! Claims challenges: Entra refuses a sign-in and says which claims the next must carry. It is answered once; a person who
//! satisfied it and is challenged again reads why, and no page opens for ever.

use nightlatch_tokens::Claims;
use serde_json::Value;

use crate::cli::output::complain;
use crate::entra::sign_in::{NoCertificate, Wish};

/// Attempts the sign-in, and where Entra wants more of it once again with the claims that it names beside those
/// that were asked for before.
pub(super) async fn satisfied<T>(
    wish: &Wish,
    mut attempt: impl AsyncFnMut(&Wish) -> Result<T, NoCertificate>,
) -> Result<T, String> {
    let claims = match attempt(wish).await {
        Err(NoCertificate::More(claims, why)) => {
            complain(&format!("{why}; once more, with what Entra asks for"));
            claims
        }
        other => return other.map_err(NoCertificate::sentence),
    };
    let claims = match &wish.claims {
        Some(before) => both(before, &claims)?,
        None => claims,
    };
    let again = Wish { claims: Some(claims), ..wish.clone() };
    attempt(&again).await.map_err(|why| match why {
        NoCertificate::More(_, why) => {
            format!("Entra asked for more, and signing in again did not satisfy it: {why}")
        }
        other => other.sentence(),
    })
}

/// The claims of both, member by member; where both say something else of the same, the challenge has it.
pub(super) fn both(context: &Claims, challenge: &Claims) -> Result<Claims, String> {
    fn add(to: &mut Value, from: Value) {
        match (to, from) {
            (Value::Object(to), Value::Object(from)) => {
                for (name, value) in from {
                    add(to.entry(name).or_insert(Value::Null), value);
                }
            }
            (to, from) => *to = from,
        }
    }
    let read =
        |claims: &Claims| serde_json::from_str::<Value>(claims.as_str()).map_err(|why| why.to_string());
    let mut all = read(context)?;
    add(&mut all, read(challenge)?);
    Claims::new(&all.to_string()).map_err(|why| why.to_string())
}
