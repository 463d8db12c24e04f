//! A sink that is a bucket of an S3-compatible object store.
//!
//! Requests are signed by `rusty_s3`, which sends nothing, and sent by hyper over the TLS that the rest of the vault
//! uses. An object is made only where there is none, so nothing is written over, whoever else writes.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, IF_NONE_MATCH};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use url::Url;

use super::{CheckpointSink, unusable};
use crate::model::{Error, Result};

/// How long a signature is good for.
const SIGNED_FOR: Duration = Duration::from_mins(5);

/// No checkpoint is larger.
const LARGEST: usize = 4 << 30;

/// How often a request is sent that the store does not manage to answer.
const TRIES: u32 = 3;

/// How long the store may take to answer, and how much longer for each megabyte that it is sent. Afterwards, how long it
/// may pause while it sends.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_A_MEGABYTE: Duration = Duration::from_secs(1);

/// What a bucket is and how to get in.
pub struct Settings<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where the object store is.
    pub endpoint: Url,
    /// Whether the bucket is part of the path, and not of the host's name.
    pub path_style: bool,
    /// Its region.
    pub region: &'a str,
    /// What the names of all objects begin with.
    pub prefix: &'a str,
    /// The id of the access key.
    pub access_key_id: &'a str,
    /// The access key.
    pub secret_access_key: &'a str,
}

/// A bucket.
pub struct BucketSink {
    bucket: Bucket,
    credentials: Credentials,
    prefix: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl BucketSink {
    /// A sink in a bucket, which must be there.
    ///
    /// # Errors
    /// When the endpoint cannot be that of an object store, or this system has no certificates to trust.
    pub fn new(settings: &Settings<'_>) -> Result<Self> {
        let style = if settings.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let endpoint = settings.endpoint.clone();
        let plain = endpoint.scheme() == "http";
        let name = settings.name;
        let failed = |error: String| unusable(format!("the bucket {name} cannot be used: {error}"));
        let bucket = Bucket::new(endpoint, style, name.to_owned(), settings.region.to_owned())
            .map_err(|error| failed(error.to_string()))?;
        let connector = HttpsConnectorBuilder::new().with_native_roots().map_err(|error| failed(error.to_string()))?;
        // Plain http is for loopback only, which the configuration sees to.
        let connector = if plain { connector.https_or_http() } else { connector.https_only() };
        Ok(Self {
            bucket,
            credentials: Credentials::new(settings.access_key_id, settings.secret_access_key),
            prefix: settings.prefix.to_owned(),
            client: Client::builder(TokioExecutor::new()).build(connector.enable_http1().build()),
        })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn failed(&self, what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let error = error.into();
        unusable(format!("the checkpoint sink in {} cannot be used: {what}: {error}", self.describe())).because(error)
    }

    /// Sends a request until it is answered. A store that is silent is not asked again.
    async fn send(&self, method: &Method, url: &Url, body: &Bytes) -> Result<(StatusCode, Bytes)> {
        let mut tries = 1;
        loop {
            let answer = self.send_once(method, url, body.clone()).await;
            let again = match &answer {
                Ok((status, _)) => status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED,
                Err(error) => !error.is::<Elapsed>(),
            };
            if !again || tries == TRIES {
                return answer.map_err(|error| {
                    if error.is::<Elapsed>() {
                        return self.failed(method.as_str(), "the store does not answer");
                    }
                    self.failed(method.as_str(), error)
                });
            }
            tokio::time::sleep(Duration::from_millis(100) * tries).await;
            tries += 1;
        }
    }

    async fn send_once(
        &self,
        method: &Method,
        url: &Url,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let megabytes = u32::try_from(body.len() >> 20).unwrap_or(u32::MAX);
        let patience = PATIENCE.saturating_add(PATIENCE_A_MEGABYTE.saturating_mul(megabytes));
        let mut request = Request::builder().method(method).uri(url.as_str());
        if method == Method::PUT {
            request = request.header(IF_NONE_MATCH, "*").header(CONTENT_LENGTH, body.len());
        }
        let response = timeout(patience, self.client.request(request.body(Full::new(body))?)).await??;
        let status = response.status();
        let (mut coming, mut body) = (Limited::new(response.into_body(), LARGEST), Vec::new());
        while let Some(frame) = timeout(PATIENCE, coming.frame()).await? {
            body.extend(frame?.into_data().unwrap_or_default());
        }
        Ok((status, body.into()))
    }

    /// What the store refuses, with its own code: the rest of its message may tell of the request.
    fn refused(&self, what: &str, (status, body): &(StatusCode, Bytes)) -> Error {
        let text = String::from_utf8_lossy(body);
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
        let known = code.filter(|code| code.len() < 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let known = known.unwrap_or_default();
        self.failed(what, io::Error::other(format!("{status} {known}{}", advice(known))))
    }
}

#[async_trait]
impl CheckpointSink for BucketSink {
    async fn make(&self) -> Result<()> {
        // A bucket has an owner, who makes it.
        Ok(())
    }

    async fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let key = self.key(name);
        let url = self.bucket.put_object(Some(&self.credentials), &key).sign(SIGNED_FOR);
        let answer = self.send(&Method::PUT, &url, &Bytes::copy_from_slice(bytes)).await?;
        let was_there = matches!(answer.0, StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT);
        if !answer.0.is_success() && !was_there {
            return Err(self.refused("PUT", &answer));
        }
        let kept = self.get(name).await?;
        if kept.as_deref() == Some(bytes) {
            return Ok(());
        }
        let what = if was_there { "is there with another content" } else { "read back as something else" };
        Err(self.failed("PUT", io::Error::other(format!("{name} {what}"))))
    }

    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let key = self.key(name);
        let url = self.bucket.get_object(Some(&self.credentials), &key).sign(SIGNED_FOR);
        let answer = self.send(&Method::GET, &url, &Bytes::new()).await?;
        match answer.0 {
            StatusCode::OK => Ok(Some(answer.1.into())),
            StatusCode::NOT_FOUND if !contains(&answer.1, b"NoSuchBucket") => Ok(None),
            _ => Err(self.refused("GET", &answer)),
        }
    }

    async fn is_there(&self) -> Result<()> {
        // A bucket that is not there cannot be listed.
        Ok(())
    }

    async fn list(&self, kind: &str) -> Result<Vec<String>> {
        let (mut names, mut token) = (Vec::new(), None);
        loop {
            let mut action = self.bucket.list_objects_v2(Some(&self.credentials));
            action.with_prefix(format!("{}{kind}-", self.prefix));
            if let Some(token) = token {
                action.with_continuation_token(token);
            }
            let answer = self.send(&Method::GET, &action.sign(SIGNED_FOR), &Bytes::new()).await?;
            if !answer.0.is_success() {
                return Err(self.refused("LIST", &answer));
            }
            let text = std::str::from_utf8(&answer.1).map_err(|error| self.failed("LIST", error))?;
            let listed = ListObjectsV2::parse_response(text).map_err(|error| self.failed("LIST", error.to_string()))?;
            let name = |key: &str| Some(key.strip_prefix(&self.prefix)?.to_owned());
            names.extend(listed.contents.iter().filter_map(|object| name(&object.key)));
            token = listed.next_continuation_token;
            if token.is_none() {
                names.sort();
                return Ok(names);
            }
        }
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let key = self.key(name);
        let url = self.bucket.delete_object(Some(&self.credentials), &key).sign(SIGNED_FOR);
        let answer = self.send(&Method::DELETE, &url, &Bytes::new()).await?;
        if answer.0.is_success() || answer.0 == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(self.refused("DELETE", &answer))
    }

    fn describe(&self) -> String {
        let url = self.bucket.base_url();
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("bucket {} at {}://{host}{port}", self.bucket.name(), url.scheme())
    }
}

/// What to do about an answer of the store.
fn advice(code: &str) -> &'static str {
    match code {
        "AccessDenied" => " (its key lacks a right that docs/operating.md lists)",
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
            " (see to access_key_id and secret_access_key of the sink, and to its region)"
        }
        "NoSuchBucket" => " (make the bucket, or name another)",
        "RequestTimeTooSkewed" => " (set this machine's clock)",
        _ => "",
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
