//! What CheckAccess v2 (the policy decision point) and v1 (Azure Resource Manager) answer about one
//! person at this node. Both are questions; neither changes anything.

use std::time::Duration;

use nightlatch_model::{ObjectId, TenantId, Timestamp};
use nightlatch_policy::{ActionSet, RoleAnswer, Scope, ScopeKind, UnknownCause};
use serde_json::{Value, json};

use super::heard::{Answer, ask};
use super::metadata::add;
use super::scrub::Scrubber;
use super::shape;
use crate::azure::{Ask, Caller, CheckAccess, Pdp, Purpose, RoleQuestion, RoleSource};
use crate::entra::http::{Http, Request};
use crate::entra::node_identity::NodeIdentity;

/// How long the product's own reader may take.
const READER_LIMIT: Duration = Duration::from_secs(15);

/// Who is asked about, where.
pub(super) struct Inquiry {
    pub(super) tenant: TenantId,
    pub(super) person: ObjectId,
    pub(super) scope: Scope,
    pub(super) actions: ActionSet,
}

/// One service that answers about roles.
pub(super) struct Service {
    /// Its base address.
    pub(super) base: String,
    /// For whom its tokens are.
    pub(super) audience: String,
    /// The second version, or the first.
    pub(super) is_pdp: bool,
}

/// What it answered.
pub(super) struct Heard {
    pub(super) raw: Answer,
    pub(super) reader: &'static str,
    pub(super) scope: Scope,
}

impl Service {
    /// Asks, raw and through the product's own reader.
    pub(super) async fn ask(
        &self,
        http: &Http,
        identity: &NodeIdentity,
        about: &Inquiry,
        now: Timestamp,
    ) -> Heard {
        let scope = about.scope.clone();
        let Ok(token) = identity.token(&self.audience, now).await else {
            return Heard { raw: Answer::None("no token of the node's own"), reader: "not asked", scope };
        };
        let url = if self.is_pdp {
            format!(
                "{}/providers/microsoft.authorization/checkAccess?api-version=2021-06-01-preview",
                self.base.trim_end_matches('/')
            )
        } else {
            let at = scope.as_str().trim_end_matches('/');
            format!(
                "{}{at}/providers/Microsoft.Authorization/checkaccess?api-version=2018-09-01-preview",
                self.base
            )
        };
        let request = Request::post_json(url, &body(about)).authorization("Bearer", token.secret());
        let raw = ask(http, request).await;
        let caller = Caller::new(http.clone(), identity.clone(), &self.audience);
        let source = if self.is_pdp {
            RoleSource::Pdp(Pdp::new(caller, &self.base))
        } else {
            RoleSource::CheckAccess(CheckAccess::new(caller, &self.base))
        };
        let question = RoleQuestion {
            tenant: about.tenant,
            oid: about.person,
            scopes: vec![(ScopeKind::Node, scope.clone())],
            actions: about.actions.clone(),
        };
        let found = source.roles(&question, &Ask::new(Purpose::NewLogin, now, READER_LIMIT)).await;
        let understood = matches!(raw, Answer::Reply { status: 200..=299, .. });
        Heard { reader: role_word(&found.answer, understood), raw, scope }
    }
}

/// The body of both versions, as the product asks (Azure/checkaccess-v2-go-sdk).
fn body(about: &Inquiry) -> Value {
    let actions: Vec<Value> = about
        .actions
        .requested()
        .into_iter()
        .map(|action| json!({"Id": action.id, "IsDataAction": true, "Attributes": {}}))
        .collect();
    json!({
        "Subject": {"Attributes": {"ObjectId": about.person.to_string(), "_claim_names": r#"{"groups":"src1"}"#}},
        "Actions": actions,
        "Resource": {"Id": about.scope.as_str()},
    })
}

/// What the product's reader made of it, in a word that quotes nothing.
pub(super) const fn role_word(answer: &RoleAnswer, success: bool) -> &'static str {
    match answer {
        RoleAnswer::Granted(_) => "granted",
        RoleAnswer::NotGranted(_) => "not granted",
        RoleAnswer::Unknown(UnknownCause::NodeNotPermitted) => "this node may not ask",
        RoleAnswer::Unknown(UnknownCause::Throttled { .. }) => "throttled",
        RoleAnswer::Unknown(UnknownCause::ScopeUnknown) => "scope unknown",
        RoleAnswer::Unknown(UnknownCause::Upstream(_)) if success => "does not understand",
        RoleAnswer::Unknown(UnknownCause::Upstream(_)) => "no answer",
    }
}

impl Heard {
    /// The form in which it is told.
    pub(super) fn shape(&self, scrub: &mut Scrubber) -> Value {
        let mut out = shape::answer(scrub, &self.raw);
        let scope = scrub.text(self.scope.as_str());
        add(&mut out, "asked_at", json!(scope));
        add(&mut out, "reader", json!(self.reader));
        out
    }
}
