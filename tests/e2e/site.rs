//! The node that the stories share: the product installed, one tenant, roles from a file.
//!
//! The authority here is ssh-keygen's, so these stories do not depend on the Entra emulator.

use std::sync::OnceLock;

use nightlatch_world::{
    Binaries, CertificateSpec, Image, LocalCa, Node, NodeSpec, Person, SshOutcome, configure_by_hand,
    install, local_user, prepare,
};

/// The tenant of every story.
pub(crate) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// The node's ARM id.
pub(crate) const NODE_ID: &str = "/subscriptions/00000000-0000-0000-0000-00000000005b/resourceGroups/MC_demo/providers/Microsoft.Compute/virtualMachineScaleSets/pool1/virtualMachines/3";

/// A node with the product on it.
pub(crate) struct Site {
    pub(crate) image: Image,
    pub(crate) node: Node,
    pub(crate) ca: LocalCa,
}

/// The shared node; booted by the first story that needs it.
pub(crate) fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(Site::start)
}

/// A stable object id for a name.
pub(crate) fn oid_of(name: &str) -> String {
    let sum =
        name.bytes().fold(7_u64, |sum, b| sum.wrapping_mul(1_099_511_628_211).wrapping_add(u64::from(b)));
    format!("00000000-0000-4000-8000-{:012x}", sum & 0xffff_ffff_ffff)
}

impl Site {
    /// A node of its own, for stories that break things.
    pub(crate) fn start() -> Self {
        let image = prepare().unwrap();
        let node = Node::boot(&NodeSpec::default()).unwrap();
        let ca = LocalCa::new(&image).unwrap();
        let site = Self { image, node, ca };
        site.node.shell("install -d -m 0755 /etc/nightlatch").unwrap();
        site.configure("");
        let ca_line = format!("{}\n", site.ca.public_key().unwrap());
        site.node.write_file("/etc/nightlatch/ca.pub", ca_line.as_bytes(), 0o644, "root:root").unwrap();
        site.roles(&[]);
        install(&site.node, &Binaries::find().unwrap()).unwrap();
        configure_by_hand(&site.node).unwrap();
        site
    }

    /// Writes the configuration; `more` goes to the end of it.
    pub(crate) fn configure(&self, more: &str) {
        let text = format!(
            "tenant = \"{TENANT}\"\nmode = \"enforce\"\n[node]\nkind = \"vm\"\nresource_id = \"{NODE_ID}\"\n\
             [trust]\nca = [\"file\"]\n[login]\nroles_from = \"file\"\n{more}"
        );
        self.node.write_file("/etc/nightlatch/nightlatch.toml", text.as_bytes(), 0o644, "root:root").unwrap();
    }

    /// Writes the roles file: (name, role), on top of what other stories wrote.
    pub(crate) fn roles(&self, rows: &[(&str, &str)]) {
        let mut text = self
            .node
            .read_file("/etc/nightlatch/roles.toml")
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .unwrap_or_default();
        for (name, role) in rows {
            let oid = oid_of(name);
            text.push_str(&format!("[[assignment]]\nprincipal = \"{oid}\"\nrole = \"{role}\"\n"));
        }
        self.node.write_file("/etc/nightlatch/roles.toml", text.as_bytes(), 0o644, "root:root").unwrap();
    }

    /// What Entra would write into a certificate for this name.
    pub(crate) fn spec(&self, name: &str) -> CertificateSpec {
        let mut spec = CertificateSpec::for_principal(name);
        spec.options.push(format!("extension:oid@entra.microsoft.com={}", oid_of(name)));
        spec.options.push(format!("extension:tid@entra.microsoft.com={TENANT}"));
        spec
    }

    /// A person holding a good certificate for this name.
    pub(crate) fn person(&self, name: &str) -> Person {
        self.person_with(&self.spec(name))
    }

    /// A person holding this certificate.
    pub(crate) fn person_with(&self, spec: &CertificateSpec) -> Person {
        let person = Person::new(&self.image).unwrap();
        person.take_certificate(&self.ca.sign(&person, spec).unwrap()).unwrap();
        person
    }

    /// One login that runs a command.
    pub(crate) fn ssh(&self, person: &Person, user: &str, words: &[&str]) -> SshOutcome {
        self.node.ssh(person, user, words, &[]).unwrap()
    }

    /// A local account with a key of its own.
    pub(crate) fn local(&self, name: &str) -> Person {
        let person = Person::with_key(&self.image, "ed25519").unwrap();
        local_user(&self.node, name, &person).unwrap();
        person
    }
}
