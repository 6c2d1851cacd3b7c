//! The floor of `nightlatch kubelogin get-token`: one question over imds.sock with the standard library, and
//! what came back goes to stdout. No check of who answers, no JSON, no HTTP/2.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

fn main() -> io::Result<()> {
    let resource = std::env::args().nth(1).unwrap_or_default();
    let mut stream = UnixStream::connect("/run/nightlatch/imds.sock")?;
    let question = format!(
        "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource} HTTP/1.1\r\n\
         Host: localhost\r\nMetadata: true\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(question.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    io::stdout().write_all(&answer)
}
