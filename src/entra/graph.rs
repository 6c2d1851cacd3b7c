//! Microsoft Graph, for one question only: which object does a login name belong to? Off unless an
//! administrator grants the right to ask and turns it on. Never asked before possession is proven.
//!
//! Microsoft Learn, "Get a user": `GET /v1.0/users/{id | userPrincipalName}?$select=id`.

use std::time::Duration;

use nightlatch_model::{LoginName, ObjectId, Timestamp};
use serde::Deserialize;
use thiserror::Error;

use super::http::{Http, HttpError, Request};
use super::node_identity::{IdentityError, NodeIdentity};

/// How long Graph may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Why a name was not found out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GraphError {
    /// The node has no token for Graph.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No answer, or none that can be read.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Graph says no: the right is missing, or nobody has this name.
    #[error("Graph answered {0}: grant the node's identity User.Read.All, or use `identity.map_file`")]
    Refused(u16),
}

#[derive(Deserialize)]
struct User {
    id: ObjectId,
}

/// Asks Graph with the node's own identity.
#[derive(Clone)]
pub struct Graph {
    http: Http,
    identity: NodeIdentity,
    base: String,
}

impl Graph {
    /// Graph at `base`, such as `https://graph.microsoft.com`.
    #[must_use]
    pub fn new(http: Http, identity: NodeIdentity, base: &str) -> Self {
        Self { http, identity, base: base.to_owned() }
    }

    /// The object id of a person's login name.
    ///
    /// # Errors
    /// [`GraphError`]; none of them is a denial of the person.
    pub async fn object_id(&self, name: &LoginName, now: Timestamp) -> Result<ObjectId, GraphError> {
        let token = self.identity.token(&self.base, now).await?;
        // A login name's alphabet needs no escaping but for `+`, which a path takes as it is.
        let url = format!("{}/v1.0/users/{name}?$select=id", self.base);
        let request = Request::get(url).authorization("Bearer", token.secret()).within(LIMIT);
        let reply = self.http.send(request).await?;
        if !reply.is_success() {
            return Err(GraphError::Refused(reply.status()));
        }
        Ok(reply.json::<User>()?.id)
    }
}
