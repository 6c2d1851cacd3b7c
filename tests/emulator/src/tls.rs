//! The TLS side: a throw-away certificate authority and one leaf for every Microsoft host name this emulator
//! answers to. Both are kept in the state directory, so that a restart does not break who trusts them.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::start::{StartError, write_private};

/// Every name the leaf is good for.
pub(crate) const NAMES: &[&str] = &[
    "localhost",
    "127.0.0.1",
    // The name that a Kubernetes token proxy is called by (identity bindings).
    "*.ests.aks",
    "login.microsoftonline.com",
    "login.microsoft.com",
    "login.windows.net",
    "sts.windows.net",
    "management.azure.com",
    "authorization.azure.net",
    "*.authorization.azure.net",
    "graph.microsoft.com",
    "pas.windows.net",
    "login.microsoftonline.us",
    "login.usgovcloudapi.net",
    "management.usgovcloudapi.net",
    "authorization.azure.us",
    "*.authorization.azure.us",
    "graph.microsoft.us",
    "pasff.usgovcloudapi.net",
    "login.partner.microsoftonline.cn",
    "login.chinacloudapi.cn",
    "sts.chinacloudapi.cn",
    "management.chinacloudapi.cn",
    "authorization.azure.cn",
    "*.authorization.azure.cn",
    "microsoftgraph.chinacloudapi.cn",
    "pas.chinacloudapi.cn",
];

/// The server side's TLS settings, HTTP/2 and HTTP/1.1.
pub(crate) fn server_config(dir: &Path) -> Result<Arc<ServerConfig>, StartError> {
    let (leaf, key) = (dir.join("tls-leaf.pem"), dir.join("tls-leaf-key.pem"));
    if !leaf.exists() || !key.exists() || !dir.join("tls-ca.pem").exists() {
        make(dir).map_err(|error| StartError::Tls(error.to_string()))?;
    }
    let tls = |error: &dyn std::fmt::Display| StartError::Tls(error.to_string());
    let chain = CertificateDer::pem_file_iter(&leaf)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| tls(&error))?;
    let key = PrivateKeyDer::from_pem_file(&key).map_err(|error| tls(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| tls(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error(transparent)]
    Certificate(#[from] rcgen::Error),
    #[error(transparent)]
    Files(#[from] std::io::Error),
}

fn make(dir: &Path) -> Result<(), MakeError> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name.push(DnType::CommonName, "Nightlatch emulator CA (tests only)");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);
    let leaf_key = KeyPair::generate()?;
    let names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let mut leaf = CertificateParams::new(names)?;
    leaf.distinguished_name.push(DnType::CommonName, "nightlatch-emulator");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let leaf_certificate = leaf.signed_by(&leaf_key, &issuer)?;
    std::fs::write(dir.join("tls-ca.pem"), ca_certificate.pem())?;
    std::fs::write(dir.join("tls-leaf.pem"), leaf_certificate.pem())?;
    write_private(&dir.join("tls-leaf-key.pem"), &leaf_key.serialize_pem())?;
    Ok(())
}
