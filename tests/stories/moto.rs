//! Amazon's services without Amazon: `moto`, a server on loopback that keeps everything in memory, and a line to it that
//! can be cut.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::process::{setting, skipped};

/// The keys that it takes: any.
pub const ACCESS_KEY_ID: &str = "story";
pub const SECRET_ACCESS_KEY: &str = "a-secret-that-nobody-checks";
pub const REGION: &str = "us-east-1";

/// A running server. Dropped, it is killed.
pub struct Moto {
    child: Child,
    address: SocketAddr,
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
            line.split_once("Running on http://")?.1.trim().parse().ok()
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

    /// A line to it.
    pub fn line(&self) -> Line {
        Line::to(self.address)
    }

    /// Sends a request as anybody can, and answers status and body. A path with a query of its own is sent as it is.
    pub fn ask(&self, service: &str, (method, path): (&str, &str), header: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let authorization = format!("AWS4-HMAC-SHA256 Credential=story/20260101/{REGION}/{service}/aws4_request");
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: {authorization}\r\n{header}\r\n\
             Content-Length: {}\r\n\r\n",
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

#[cfg(feature = "s3")]
impl Moto {
    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        let (status, _) = self.ask("s3", ("PUT", &format!("/{name}")), "Accept: */*", b"");
        assert_eq!(status, 200);
    }

    /// Puts something into a bucket.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        assert_eq!(self.ask("s3", ("PUT", path), "Content-Type: application/octet-stream", bytes).0, 200);
    }
}

#[cfg(feature = "aws-kms")]
impl Moto {
    /// Calls the KMS.
    pub fn kms(&self, deed: &str, ask: &serde_json::Value) -> serde_json::Value {
        let header = format!("X-Amz-Target: TrentService.{deed}\r\nContent-Type: application/x-amz-json-1.1");
        let (status, answer) = self.ask("kms", ("POST", "/"), &header, ask.to_string().as_bytes());
        assert_eq!(status, 200, "{deed} {ask}: {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).unwrap_or_default()
    }

    /// Makes a key with an alias, and answers its full name.
    pub fn make_key(&self, alias: &str) -> String {
        let made = self.kms("CreateKey", &serde_json::json!({}));
        let arn = made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
        self.kms("CreateAlias", &serde_json::json!({ "AliasName": alias, "TargetKeyId": arn }));
        arn
    }

    /// From now on every caller must have keys that it gave out: nobody has.
    pub fn check_credentials(&self) {
        assert_eq!(self.ask("kms", ("POST", "/moto-api/reset-auth"), "Accept: */*", b"0").0, 200);
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service that answers everything with the same.
pub fn answering(status: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 16 << 10];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    endpoint
}

/// What becomes of a connection on a [`Line`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It gets through.
    Open,
    /// It is ended at once.
    Cut,
    /// It is taken, and nothing ever comes back.
    Silent,
}

/// A line to a server, on loopback. What happens to it can be changed at any time.
pub struct Line {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    mode: Mode,
    /// Both ends of what gets through, and what is kept waiting.
    streams: Vec<TcpStream>,
}

impl Line {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { mode: Mode::Open, streams: Vec::new() }));
        let kept = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let mut state = kept.lock().unwrap();
                match state.mode {
                    Mode::Cut => {}
                    Mode::Silent => state.streams.push(near),
                    Mode::Open => {
                        let Ok(far) = TcpStream::connect(server) else { continue };
                        for (from, to) in [(&near, &far), (&far, &near)] {
                            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                            std::thread::spawn(move || {
                                let _ = std::io::copy(&mut from, &mut to);
                                let _ = to.shutdown(Shutdown::Write);
                            });
                        }
                        state.streams.extend([near, far]);
                    }
                }
            }
        });
        Self { address, state }
    }

    /// Where it begins.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what becomes of connections, and ends those that there are.
    pub fn set(&self, mode: Mode) {
        let mut state = self.state.lock().unwrap();
        state.mode = mode;
        for stream in state.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
