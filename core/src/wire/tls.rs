//! TLS: whom to trust, and who we are.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::dsn::Tls;
use crate::text;

/// The trust and identity of a TLS connection. Made once for all connections of a pool.
///
/// # Errors
/// Which file cannot be used, and why.
pub(super) fn tls_config(files: &Tls) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = &files.ca {
        let pem = |e: &dyn std::fmt::Display| format!("TLS: ca={}: {e}", text::path(ca));
        for certificate in CertificateDer::pem_file_iter(ca).map_err(|e| pem(&e))? {
            roots.add(certificate.map_err(|e| pem(&e))?).map_err(|e| pem(&e))?;
        }
        if roots.is_empty() {
            return Err(pem(&"it contains no certificate"));
        }
    } else {
        // Some of a system's certificates may be unreadable; the others still count.
        for certificate in rustls_native_certs::load_native_certs().certs {
            let _ = roots.add(certificate);
        }
        if roots.is_empty() {
            return Err("TLS: this system has no certificates; install ca-certificates or give ?ca=".into());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS: {e}"))?
        .with_root_certificates(roots);
    let config = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert)
                .and_then(Iterator::collect)
                .map_err(|e| format!("TLS: cert={}: {e}", text::path(cert)))?;
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|e| format!("TLS: key={}: {e}", text::path(key)))?;
            builder.with_client_auth_cert(chain, private).map_err(|e| format!("TLS: {e}"))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}
