//! A client for one host with its own authority and its own name: a proxy for federated tokens inside a
//! cluster shows a certificate that neither the system's store nor its address knows.

use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{Http, HttpError, Reach, chain, limits};

/// The most authorities in one file.
const MAX_AUTHORITIES: usize = 16;

/// Where the name of the certificate really lives.
struct Elsewhere {
    host: Arc<str>,
    port: u16,
}

impl Resolve for Elsewhere {
    fn resolve(&self, _name: Name) -> Resolving {
        let (host, port) = (Arc::clone(&self.host), self.port);
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((&*host, port)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Http {
    /// A client that believes the authorities in `ca_pem` alone (without them the system's), and that
    /// reaches every name of its URLs at `host` (and at `port`, where the URL has none): so a server is
    /// asked, and its certificate checked, by another name than its address. Never through a proxy of the
    /// environment.
    ///
    /// # Errors
    /// [`HttpError::Build`] when `ca_pem` holds no certificate, or the client cannot be made.
    pub fn pinned(host: &str, port: u16, ca_pem: Option<&[u8]>) -> Result<Self, HttpError> {
        let mut builder = limits().no_proxy().http1_only().https_only(!cfg!(test));
        builder = builder.dns_resolver(Arc::new(Elsewhere { host: host.into(), port }));
        if let Some(pem) = ca_pem {
            let found =
                reqwest::Certificate::from_pem_bundle(pem).map_err(|e| HttpError::Build(chain(&e)))?;
            if found.is_empty() || found.len() > MAX_AUTHORITIES {
                return Err(HttpError::Build("the CA file holds no certificate, or too many".to_owned()));
            }
            builder = builder.tls_certs_only(found);
        }
        Self::build(builder, Reach::Internet)
    }
}
