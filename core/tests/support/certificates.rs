//! A certificate authority of the test's own, and a certificate that serves servers and clients.

use std::process::Command;

pub struct Certificates(tempfile::TempDir);

impl Certificates {
    pub fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";
        std::fs::write(dir.path().join("names"), names).unwrap();
        for command in [
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
            "req -newkey rsa:2048 -nodes -subj /CN=server -keyout s.key -out s.csr",
            "x509 -req -in s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out s.pem",
        ] {
            let out =
                Command::new("openssl").args(command.split(' ')).current_dir(dir.path()).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
        Self(dir)
    }

    pub fn path(&self, file: &str) -> String {
        self.0.path().join(file).display().to_string()
    }

    /// What a server needs to speak TLS only, with clients that have a certificate, and to others of
    /// its kind: options and their values.
    pub fn for_servers(&self) -> Vec<(&'static str, String)> {
        vec![
            ("--port", "0".into()),
            ("--tls-port", super::PORT.into()),
            ("--tls-cert-file", self.path("s.pem")),
            ("--tls-key-file", self.path("s.key")),
            ("--tls-ca-cert-file", self.path("ca.pem")),
            ("--tls-auth-clients", "yes".into()),
            ("--tls-replication", "yes".into()),
        ]
    }

    /// What goes behind the `?` of a DSN.
    pub fn for_clients(&self) -> String {
        format!("ca={}&cert={}&key={}", self.path("ca.pem"), self.path("s.pem"), self.path("s.key"))
    }
}
