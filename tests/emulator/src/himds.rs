//! The Arc agent's metadata service on port 40342 (Microsoft Learn, "Authenticate against Azure resources
//! with Azure Arc-enabled servers"): a token only for who can read a challenge file.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use axum::response::Response;
use serde_json::json;

use crate::assumed;
use crate::call::{self, Call};
use crate::ids;
use crate::imds;
use crate::state::Emulated;

/// Answer one call.
pub(crate) fn answer(app: &Emulated, call: &Call) -> Response {
    if !call.header("metadata").eq_ignore_ascii_case("true") {
        let body = json!({"error": "invalid_request", "error_description": "Required metadata header not specified"});
        return call::json(400, &body);
    }
    let path = call.path.trim_end_matches('/').to_ascii_lowercase();
    match path.as_str() {
        "/metadata/identity/oauth2/token" => token(app, call),
        "/metadata/instance" => call::json(200, &imds::instance(&app.world().arc)),
        "/metadata/instance/compute" => call::json(200, &imds::compute(&app.world().arc)),
        assumed::CA_KEYS_PATH => imds::ca_keys(&app.world(), call),
        _ => call::json(404, &json!({"error": "Not found"})),
    }
}

fn token(app: &Emulated, call: &Call) -> Response {
    let dir = app.himds_token_dir.as_path();
    let offered = call.header("authorization").strip_prefix("Basic ").unwrap_or("").to_owned();
    if offered.is_empty() {
        return challenge(app, dir);
    }
    // A challenge is good once: the file goes when its content comes back.
    let held = app.world().himds_challenges.remove(&offered);
    let Some(file) = held else {
        return call::json(
            401,
            &json!({"error": "invalid_request", "error_description": "The challenge key is not valid."}),
        );
    };
    // Losing the file early is no fault of the caller, so a failed removal changes nothing.
    let _ = std::fs::remove_file(file);
    let world = app.world();
    imds::token(&world, &world.arc, call)
}

fn challenge(app: &Emulated, dir: &Path) -> Response {
    let file = dir.join(format!("{}.key", ids::guid()));
    let secret = ids::base64url(&ids::random::<32>());
    let written = std::fs::create_dir_all(dir).and_then(|()| {
        use std::io::Write as _;
        let mut options = std::fs::OpenOptions::new();
        let mut out = options.write(true).create_new(true).mode(0o640).open(&file)?;
        out.write_all(secret.as_bytes())
    });
    if let Err(error) = written {
        let body = json!({"error": "internal_error", "error_description": format!("cannot write the challenge file: {error}")});
        return call::json(500, &body);
    }
    let realm = format!("Basic realm={}", file.display());
    app.world().himds_challenges.insert(secret, file);
    let body =
        json!({"error": "unauthorized_client", "error_description": "Missing Basic Authorization header"});
    call::with_header(call::json(401, &body), "www-authenticate", &realm)
}
