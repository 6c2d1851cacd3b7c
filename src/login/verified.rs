//! Certificates whose signature was found right, so that the second and third hook call of one login
//! do not compute it again. A signature is right or wrong for ever: only what is certain is kept, and
//! trust, time, names and revocations are looked at anew each time.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use nightlatch_sshcert::{CertError, Certificate};

/// The most certificates that are remembered; the oldest goes first.
const MAX_REMEMBERED: usize = 1_024;

type Digest = [u8; 32];

/// Remembers right signatures by the SHA-256 of the whole certificate, key and signature included.
#[derive(Debug, Default)]
pub struct Verified(Mutex<(HashSet<Digest>, VecDeque<Digest>)>);

impl Verified {
    /// The certificate's signature by the key that it names.
    ///
    /// # Errors
    /// Why it is wrong; that is never remembered.
    pub fn check(&self, certificate: &Certificate) -> Result<(), CertError> {
        let Ok(key) = Digest::try_from(digest(&SHA256, certificate.raw()).as_ref()) else {
            return certificate.verify_signature(certificate.ca_key());
        };
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).0.contains(&key) {
            return Ok(());
        }
        certificate.verify_signature(certificate.ca_key())?;
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.0.insert(key) {
            table.1.push_back(key);
        }
        if table.1.len() > MAX_REMEMBERED
            && let Some(oldest) = table.1.pop_front()
        {
            table.0.remove(&oldest);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use nightlatch_sshcert::testing::{CertificateBuilder, TestKey};

    use super::*;

    fn parse(blob: &[u8]) -> Certificate {
        Certificate::parse(blob).unwrap()
    }

    #[test]
    fn only_the_very_same_certificate_is_remembered() {
        let (ca, holder) = (TestKey::ed25519([1; 32]), TestKey::ed25519([2; 32]));
        let good = CertificateBuilder::new(&holder).principals(["alice@contoso.com"]).sign(&ca);
        let verified = Verified::default();
        assert_eq!(verified.check(&parse(&good)), Ok(()));
        assert_eq!(verified.check(&parse(&good)), Ok(()));
        let mut forged = good.clone();
        let last = forged.len() - 1;
        forged[last - 40] ^= 1;
        for _ in 0..3 {
            assert_eq!(verified.check(&parse(&forged)), Err(CertError::BadSignature));
        }
        assert_eq!(verified.0.lock().unwrap().0.len(), 1);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (ca, holder) = (TestKey::ed25519([1; 32]), TestKey::ed25519([2; 32]));
        let verified = Verified::default();
        for serial in 0..1_100 {
            let mut builder = CertificateBuilder::new(&holder);
            builder.serial = serial;
            verified.check(&parse(&builder.sign(&ca))).unwrap();
        }
        let table = verified.0.lock().unwrap();
        assert_eq!((table.0.len(), table.1.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
    }
}
