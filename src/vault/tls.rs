//! Whom a connection trusts, and who it says it is.
//!
//! With `caFile` that bundle alone is trusted; without it, the machine's own store. `tlsServerName` is the
//! name that the certificate must bear instead of the address's.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::config::Connection;
use crate::spec::mistake::{Mistake, mistake};

/// Chooses ring as this process's cryptography. Call it once, before any connection is made.
pub fn install_crypto() {
    // Fails only when one was chosen before, which is then the same one.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// The TLS side of a connection called `name`.
pub(super) fn client(name: &str, connection: &Connection) -> Result<ClientConfig, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut note = |key: &str, path: &Path, what: String, instead: &str| {
        let place = format!("vaults.{name}.{key}");
        mistakes.push(mistake(&place, &format!("{}: {what}", path.display()), instead));
    };
    let roots = match &connection.ca_file {
        None => native(),
        Some(path) => bundle(path).unwrap_or_else(|what| {
            note("caFile", path, what, "name a file of PEM certificates");
            RootCertStore::empty()
        }),
    };
    let mut identity = None;
    if let (Some(cert), Some(key)) = (&connection.client_cert_file, &connection.client_key_file) {
        let chain = certificates(cert).map_err(|what| {
            note("clientCertFile", cert, what, "name a file of PEM certificates");
        });
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
            note("clientKeyFile", key, error.to_string(), "name a file with one PEM key");
        });
        identity = chain.ok().zip(key.ok());
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let wrong = |key: &str, what: String, instead: &str| {
        vec![mistake(&format!("vaults.{name}.{key}"), &what, instead)]
    };
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build().map_err(|error| {
        let what = format!("no certificate to trust: {error}");
        wrong("caFile", what, "name the bundle that signed Vault's certificate")
    })?;
    let verifier: Arc<dyn ServerCertVerifier> = match &connection.tls_server_name {
        None => verifier,
        Some(bears) => {
            let bears = ServerName::try_from(bears.clone()).map_err(|error| {
                wrong(
                    "tlsServerName",
                    format!("{bears:?}: {error}"),
                    "write a DNS name or an address",
                )
            })?;
            Arc::new(OtherName { verifier, bears })
        }
    };
    let config = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some((chain, key)) => config.with_client_auth_cert(chain, key).map_err(|error| {
            wrong("clientKeyFile", error.to_string(), "name the key of the client certificate")
        })?,
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn native() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // What of the machine's store cannot be read is not trusted; the rest is.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn bundle(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    let chain: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(chain) }
}

/// Verifies as usual, against another name than the address's.
#[derive(Debug)]
struct OtherName {
    verifier: Arc<WebPkiServerVerifier>,
    bears: ServerName<'static>,
}

impl ServerCertVerifier for OtherName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Self { verifier, bears } = self;
        verifier.verify_server_cert(end_entity, intermediates, bears, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
