//! Why a login was refused: one closed list, the same word in the journal, on the terminal, in
//! `explain`, in events and in `docs/reasons.md`.

use std::fmt;
use std::str::FromStr;

/// Which of the two kinds of "not yes" a reason is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A definite no.
    Denial,
    /// It could not be found out; refused all the same.
    Unknown,
}

macro_rules! reasons {
    ($($variant:ident $word:literal $answer:ident $text:literal $cure:literal;)*) => {
        /// Why a login was refused.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Reason { $(#[doc = $text] $variant,)* }

        impl Reason {
            /// Every reason, in the order of `docs/reasons.md`.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable word.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Whether this is a definite no.
            #[must_use]
            pub const fn answer(self) -> Answer {
                match self { $(Self::$variant => Answer::$answer,)* }
            }

            /// One sentence for the person who was refused: printable ASCII, no name, no fact
            /// that only an administrator may know.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What to do about it, for the person or the administrator.
            #[must_use]
            pub const fn cure(self) -> &'static str {
                match self { $(Self::$variant => $cure,)* }
            }
        }
    };
}

reasons! {
    // The certificate.
    NotACertificate "not_a_certificate" Denial "a plain key was offered; only Entra SSH certificates log in here"
        "run `az ssh vm` or `az ssh cert` and offer the certificate";
    CertTooLarge "cert_too_large" Denial "the certificate is larger than 48 KiB"
        "ask for a new certificate; if it stays this large, report it to the administrator";
    CertMalformed "cert_malformed" Denial "the certificate cannot be read"
        "ask for a new certificate with `az ssh cert`";
    CertTypeHost "cert_type_host" Denial "this is a host certificate, not a person's"
        "ask for a user certificate with `az ssh cert`";
    KeyUnsupported "key_unsupported" Denial "the certificate's key type or size is not accepted"
        "use RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519";
    SignatureAlgorithm "signature_algorithm" Denial "the certificate is signed with an algorithm that is not accepted"
        "SHA-1 signatures are refused; the certificate authority must sign with SHA-256 or better";
    CaUnknown "ca_unknown" Denial "the certificate was issued by an authority that this node does not trust"
        "sign in to the right tenant with `az login --tenant`, then `az ssh cert`";
    CaRevoked "ca_revoked" Denial "the authority that issued the certificate was revoked on this node"
        "ask the administrator which authority replaces it";
    BadSignature "bad_signature" Denial "the signature of the certificate is wrong"
        "ask for a new certificate; if it happens again, tell the administrator";
    CertExpired "cert_expired" Denial "the certificate has expired"
        "run `az ssh cert` again: Entra's certificates live one hour";
    CertNotYetValid "cert_not_yet_valid" Denial "the certificate is not valid yet"
        "compare the clocks of this node and of the issuer";
    CertLifetime "cert_lifetime" Denial "the certificate is valid for longer than this node accepts"
        "ask for a shorter certificate, or raise `trust.max_lifetime`";
    CriticalOption "critical_option" Denial "the certificate carries a critical option that this node does not know"
        "ask for a certificate without critical options";
    NoPrincipal "no_principal" Denial "the certificate names nobody"
        "ask for a certificate with `az ssh cert`";
    ManyPrincipals "many_principals" Denial "the certificate names more than one principal"
        "exactly one principal is accepted";
    PrincipalAlphabet "principal_alphabet" Denial "the certificate's principal holds a character that is not accepted"
        "letters, digits and . _ + - @ are accepted; sign in with another name of the account";
    WrongPrincipal "wrong_principal" Denial "the certificate names somebody else than the login name"
        "log in with the name in the certificate: `ssh-keygen -L -f CERT` shows it";
    CertRevoked "cert_revoked" Denial "the certificate was revoked"
        "ask for a new certificate with `az ssh cert`";
    // The proof in a certificate that its holder signed (OpenPubkey).
    OpenpubkeyOff "openpubkey_off" Denial "this node takes no OpenPubkey certificates"
        "log in with `az ssh cert`, or set `openpubkey.client_ids`";
    AccessTokenInside "access_token_inside" Denial "the certificate carries an access token, which every machine that sees it could use"
        "sign in again without sending the access token (opkssh: no `--send-access-token`)";
    ProofMalformed "proof_malformed" Denial "the sign-in proof in the certificate is not what an OpenPubkey client writes for this key"
        "sign in again with a current client; `nightlatch explain` names the step";
    IdTokenRefused "id_token_refused" Denial "the ID token in the certificate is not one that this node accepts"
        "sign in with the application and tenant of this node; `nightlatch explain` says what differs";
    IdTokenNoOid "id_token_no_oid" Denial "the ID token in the certificate does not say which Entra object you are"
        "add the scope `profile` to the client's configuration and sign in again";
    IdTokenNoName "id_token_no_name" Denial "the ID token in the certificate does not carry your user name in the claim that this node reads"
        "an administrator adds the optional claim `upn` to the application's ID tokens; then sign in again";
    TokenKeyUnknown "token_key_unknown" Unknown "the ID token is signed with a key that this node does not know yet"
        "try again in a minute; the key set is being fetched";
    TokenKeysUnknown "token_keys_unknown" Unknown "this node has no keys yet to check ID tokens with"
        "check that the node reaches the sign-in host (login.microsoftonline.com)";
    EvidenceMissing "evidence_missing" Denial "the sign-in behind the certificate does not show what this node requires"
        "sign in again as this node requires (another factor, a managed device); `nightlatch explain` names what is missing";
    SignInOver "sign_in_over" Denial "the sign-in behind the certificate is too long ago"
        "sign in again with the client (`opkssh login`)";
    // The name and the person.
    NameNotAllowed "name_not_allowed" Denial "the login name is not one that this node accepts"
        "use the lower-case user name, as in `alice@contoso.com`";
    LocalName "local_name" Denial "the login name collides with a local account of this node"
        "names such as root or a local user's are never taken from Entra; rename the account";
    DomainNotAllowed "domain_not_allowed" Denial "the domain of the login name is not allowed on this node"
        "add the domain to `login.domains`";
    TenantMismatch "tenant_mismatch" Denial "the certificate comes from another tenant"
        "sign in to this node's tenant with `az login --tenant`";
    IdentityUnknown "identity_unknown" Unknown "the Entra object behind the certificate could not be found out"
        "add the person to `identity.map_file`, or allow Graph with `identity.graph`";
    UidTaken "uid_taken" Denial "the user id of this name belongs to another person"
        "an administrator must decide: see `uid_overrides` in docs/reasons.md";
    NameReused "name_reused" Denial "this login name belonged to another person before"
        "an administrator must release the old account first";
    Renamed "renamed" Denial "your account was renamed; its user id was carried over"
        "log in again";
    UidChanged "uid_changed" Denial "the user id changed while the login was under way"
        "log in again";
    // The right.
    NoVmRole "no_vm_role" Denial "you have no VM login role on this node"
        "az role assignment create --role \"Virtual Machine User Login\" --assignee-object-id OID --scope SCOPE";
    DenyAssignment "deny_assignment" Denial "a deny assignment blocks your login to this node"
        "an administrator can list them with `az role assignment list-deny`, or in the portal under Access control";
    PimNotActive "pim_not_active" Denial "your VM login role is not active now"
        "activate it in Privileged Identity Management, then log in again";
    ConditionalRole "conditional_role" Denial "your VM login role carries a condition that this node cannot check"
        "assign the role without a condition";
    NoAdminRole "no_admin_role" Denial "you have no VM administrator role on this node"
        "az role assignment create --role \"Virtual Machine Administrator Login\" --assignee-object-id OID --scope SCOPE";
    // The access rules of the node.
    StepUp "step_up" Denial "this node wants a stronger sign-in for this login"
        "sign in again with `nightlatch cert`, as `nightlatch explain` says, and log in with that certificate";
    PolicyDenied "policy_denied" Denial "an access rule of this node refuses this login"
        "ask the administrator of the node; `nightlatch explain` shows every rule";
    PolicyNoRule "policy_no_rule" Denial "no access rule of this node lets you in"
        "ask the administrator of the node; `nightlatch explain` shows every rule";
    PolicyChanged "policy_changed" Denial "another access rule decides now than when the login began"
        "log in again";
    SessionOver "session_over" Denial "the session has reached the longest time that this node allows"
        "log in again";
    // What could not be found out.
    UpstreamUnknown "upstream_unknown" Unknown "Azure did not answer whether you may log in"
        "try again in a minute; `nightlatch status` on the node shows what is down";
    Throttled "throttled" Unknown "Azure throttles this node's questions"
        "try again in a minute";
    ScopeUnknown "scope_unknown" Unknown "Azure does not know this node yet"
        "a new node needs up to ten minutes to show up in Azure; try again";
    NodeNotPermitted "node_not_permitted" Unknown "this node may not ask Azure about roles"
        "give the node's identity the role `Connected Cluster Managed Identity CheckAccess Reader`";
    CaKeysUnknown "ca_keys_unknown" Unknown "this node has no certificate authority keys yet"
        "check that the node reaches IMDS, or pin a key with `trust.ca_file`";
    ClockSuspect "clock_suspect" Unknown "this node's clock cannot be trusted"
        "set the clock of the node";
    // What was taken away.
    Revoked "revoked" Denial "your access to this node was revoked"
        "ask the administrator; when it is given back, get a new certificate with `az ssh cert`";
    SignInWithdrawn "sign_in_withdrawn" Denial "Entra withdrew your sign-in"
        "sign in again with `az login`, then get a new certificate with `az ssh cert`";
    // The order of things.
    NoAdmit "no_admit" Denial "no certificate was accepted on this connection"
        "log in with ssh and an Entra certificate; other ways in are closed for Entra users";
    SessionsDown "sessions_down" Unknown "your session could not be recorded, and none opens unrecorded"
        "try again in a minute; `systemctl status nightlatch-sessiond` on the node says what is wrong";
    RateLimited "rate_limited" Unknown "too many attempts"
        "wait a minute and try again";
    Internal "internal" Unknown "Nightlatch could not decide"
        "the journal of nightlatchd has the details under the correlation id";
}

impl Reason {
    /// Whether an access rule gave it: it is about this login, and says nothing about the person's role.
    #[must_use]
    pub const fn is_of_access_rules(self) -> bool {
        matches!(
            self,
            Self::StepUp
                | Self::PolicyDenied
                | Self::PolicyNoRule
                | Self::PolicyChanged
                | Self::SessionOver
                | Self::EvidenceMissing
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Reason {
    type Err = ();
    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|reason| reason.word() == word).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_are_unique_and_plain() {
        let words: HashSet<_> = Reason::ALL.iter().map(|r| r.word()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.word().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{reason}");
            assert!(reason.text().bytes().all(|b| (0x20..0x7f).contains(&b)), "{reason}");
            assert!(reason.cure().bytes().all(|b| (0x20..0x7f).contains(&b)), "{reason}");
            assert_eq!(reason.word().parse(), Ok(*reason));
        }
    }
}
