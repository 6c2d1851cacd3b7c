//! Against prepared answers: what is taken for a token, what is not, and what each refusal means.

mod answers;
mod proofs;
mod refusals;

use nightlatch_model::Timestamp;

use super::TokenEndpoint;
use crate::entra::http::{Http, ProxyRule};
use crate::entra::tiny_server::{Answer, Server};

const NOW: Timestamp = Timestamp(1_800_000_000);
const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const CLIENT: &str = "8d6e7a10-0000-4000-8000-000000000001";

async fn endpoint(answers: Vec<Answer>) -> (TokenEndpoint, Server) {
    let server = Server::start(answers).await;
    let http = Http::internet(ProxyRule::Direct).unwrap();
    (TokenEndpoint::new(http, &server.url(""), TENANT), server)
}
