//! Amazon's services without Amazon: `moto`, a server on loopback that keeps everything in memory.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::process::{setting, skipped};

/// The keys that it takes: any.
pub const ACCESS_KEY_ID: &str = "story";
pub const SECRET_ACCESS_KEY: &str = "a-secret-that-nobody-checks";

/// A running server. Dropped, it is killed.
pub struct Moto {
    child: Child,
    address: String,
}

impl Moto {
    /// Starts one; `None`, and a notice, without the Python that has it.
    pub fn start(story: &str) -> Option<Self> {
        let Some(python) = setting("LACUNA_TEST_PYTHON") else {
            skipped(story, "LACUNA_TEST_PYTHON");
            return None;
        };
        let mut command = Command::new(python);
        command.args(["-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        let address = lines.by_ref().find_map(|line| {
            said.push_str(&line);
            Some(line.split_once("Running on http://")?.1.trim().to_owned())
        });
        // Reads to the end, so that the server never waits for somebody to read.
        std::thread::spawn(move || lines.for_each(drop));
        let address = address.unwrap_or_else(|| panic!("moto ended: {said}"));
        Some(Self { child, address })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a bucket.
    #[cfg(feature = "s3")]
    pub fn make_bucket(&self, name: &str) {
        let (status, _) = self.ask("PUT", &format!("/{name}"), b"");
        assert_eq!(status, 200);
    }

    /// Makes a key in KMS, and an alias for it.
    #[cfg(feature = "aws-kms")]
    pub fn make_key(&self, alias: &str) {
        let made = self.ask_kms("CreateKey", "{}");
        let made: serde_json::Value = serde_json::from_slice(&made).unwrap();
        let key = made["KeyMetadata"]["KeyId"].as_str().unwrap();
        self.ask_kms("CreateAlias", &format!(r#"{{"AliasName":"alias/{alias}","TargetKeyId":"{key}"}}"#));
    }

    #[cfg(feature = "aws-kms")]
    fn ask_kms(&self, what: &str, body: &str) -> Vec<u8> {
        let head =
            format!("POST / HTTP/1.0\r\nX-Amz-Target: TrentService.{what}\r\nContent-Type: application/x-amz-json-1.1");
        let (status, answer) = self.send(&head, "kms", body.as_bytes());
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
        answer
    }

    /// Sends a request as anybody can, and answers status and body. A path with a query of its own is sent as it is.
    #[cfg(feature = "s3")]
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.send(&format!("{method} {path} HTTP/1.0\r\nContent-Type: application/octet-stream"), "s3", body)
    }

    /// Sends a request that begins with `head` to one of the services.
    fn send(&self, head: &str, service: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let authorization = format!("AWS4-HMAC-SHA256 Credential=story/20260101/us-east-1/{service}/aws4_request");
        let head = format!(
            "{head}\r\nHost: {}\r\nAuthorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        (status, answer.split_off(end + 4))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
