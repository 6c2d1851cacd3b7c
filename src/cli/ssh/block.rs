//! The block of ssh's configuration. It is read by ssh and then by a shell: what either would read otherwise is never
//! written.

use nightlatch_jwt::Expiration;

use super::asked::{Asked, How};
use super::{ConfigArguments, Kind};

/// The block for these hosts.
pub(super) fn block(arguments: &ConfigArguments, asked: &Asked, program: &str) -> Result<String, String> {
    if asked.fresh {
        return Err(
            "with `--fresh` every connection would open a browser: give it to `nightlatch cert`".into()
        );
    }
    if asked.how == How::Device {
        return Err("when ssh runs this there may be no terminal to show a device code on: sign in with `nightlatch cert \
                    --kind entra --device-code` before, and leave it out here"
            .into());
    }
    let hosts = arguments.host.join(",");
    let folder = asked.folder.display().to_string();
    let token = match &asked.how {
        How::Pipeline(file) => Some(file.display().to_string()),
        How::OpenPubkey | How::Browser | How::Device => None,
    };
    let plain = |text: &str, more: &[u8]| {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+@:".contains(&b) || more.contains(&b))
    };
    let paths = [folder.as_str(), program].into_iter().chain(token.as_deref());
    let hint = asked.hint.as_deref();
    let texts = paths.into_iter().chain(hint);
    if !texts.into_iter().all(|text| plain(text, b"")) || !plain(&hosts, b"*?!,") {
        let why = "a host pattern, a name or a path here has a character that ssh or the shell would read otherwise";
        return Err(why.into());
    }
    let mut more = token.map_or_else(String::new, |file| format!(" --federated-token-file {file}"));
    if arguments.cert.kind == Some(Kind::Entra) {
        more.push_str(" --kind entra");
    }
    if let Some(context) = asked.context {
        more = format!("{more} --acrs {context}");
    }
    if arguments.cert.expiration.is_some() {
        let lasts = match asked.expiration {
            Expiration::AfterIssue(seconds) => format!("{seconds}s"),
            Expiration::IdToken => "oidc".to_owned(),
            Expiration::Refreshed => "oidc-refreshed".to_owned(),
        };
        more = format!("{more} --expiration {lasts}");
    }
    if let Some(hint) = hint {
        more = format!("{more} --login-hint {hint}");
    }
    if arguments.cert.once {
        more.push_str(" --once");
    }
    let way = asked.way();
    let (key, certificate) = (way.key, way.certificate);
    let (tenant, client, cloud) = (asked.tenant, asked.client, asked.cloud);
    let ready = format!(
        "{program} cert --tenant {tenant} --client-id {client} --cloud {cloud} --folder {folder}{more} >/dev/null"
    );
    Ok(format!(
        "Match host {hosts} exec \"{ready}\"\n    IdentityFile {folder}/{key}\n    \
         CertificateFile {folder}/{certificate}\n    IdentitiesOnly yes"
    ))
}
