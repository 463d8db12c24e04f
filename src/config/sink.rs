//! Configuration of the checkpoint sinks.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use url::Url;

use super::{Hidden, endpoint, read_secret};

/// A checkpoint sink: a directory, or a bucket of an S3-compatible object store.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sink {
    /// A directory.
    pub directory: Option<PathBuf>,
    /// A bucket's name.
    pub bucket: Option<String>,
    /// Where the object store is: `https://…`, or `http://…` on loopback; Amazon's of the region when not said.
    pub endpoint: Option<String>,
    /// The bucket's region: `us-east-1`.
    pub region: Option<String>,
    /// What the names of all objects begin with.
    pub prefix: Option<String>,
    /// The id of the access key.
    pub access_key_id: Option<String>,
    /// A file that holds it.
    pub access_key_id_file: Option<PathBuf>,
    /// The access key.
    pub secret_access_key: Option<Hidden>,
    /// A file that holds it.
    pub secret_access_key_file: Option<PathBuf>,
}

/// A bucket, with everything that is needed to use it.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Where the object store is.
    pub endpoint: Url,
    /// Whether the bucket is part of the path, and not of the host's name.
    pub path_style: bool,
    /// Its region.
    pub region: String,
    /// What the names of all objects begin with.
    pub prefix: String,
    /// The id of the access key.
    pub access_key_id: Hidden,
    /// The access key.
    pub secret_access_key: Hidden,
}

impl Sink {
    /// A directory.
    #[must_use]
    pub fn in_directory(directory: PathBuf) -> Self {
        Self { directory: Some(directory), ..Self::default() }
    }

    /// Checks what can be checked without touching anything.
    pub(super) fn check(&self, at: usize) -> Result<()> {
        let of_a_bucket = self.endpoint.is_some()
            || self.region.is_some()
            || self.prefix.is_some()
            || self.access_key_id.is_some()
            || self.access_key_id_file.is_some()
            || self.secret_access_key.is_some()
            || self.secret_access_key_file.is_some();
        ensure!(
            self.directory.is_some() != self.bucket.is_some(),
            "sinks[{at}] needs directory or bucket, and not both"
        );
        if self.bucket.is_none() {
            ensure!(
                !of_a_bucket,
                "sinks[{at}] is a directory; only a bucket has an endpoint, a region, a prefix and keys"
            );
            return Ok(());
        }
        ensure!(cfg!(feature = "s3"), "sinks[{at}] is a bucket, which this build cannot use: it lacks the feature s3");
        self.endpoint().with_context(|| format!("sinks[{at}].endpoint"))?;
        ensure!(
            self.access_key_id.is_some() != self.access_key_id_file.is_some(),
            "sinks[{at}] needs access_key_id or access_key_id_file, and not both"
        );
        ensure!(
            self.secret_access_key.is_some() != self.secret_access_key_file.is_some(),
            "sinks[{at}] needs secret_access_key or secret_access_key_file, and not both"
        );
        Ok(())
    }

    /// The files that hold its keys.
    pub fn key_files(&self) -> impl Iterator<Item = PathBuf> + use<> {
        [self.access_key_id_file.clone(), self.secret_access_key_file.clone()].into_iter().flatten()
    }

    fn region(&self) -> String {
        self.region.clone().unwrap_or_else(|| "us-east-1".to_owned())
    }

    fn endpoint(&self) -> Result<Url> {
        let amazon = || format!("https://s3.{}.amazonaws.com", self.region());
        endpoint::parse(&self.endpoint.clone().unwrap_or_else(amazon))
    }

    /// The bucket, with its keys read from their files; `None` for a directory.
    ///
    /// # Errors
    /// When a file that should hold a key cannot be read.
    pub fn bucket(&self) -> Result<Option<Bucket>> {
        let Some(name) = self.bucket.clone() else { return Ok(None) };
        let read = |given: Option<Hidden>, file: &Option<PathBuf>| match (given, file) {
            (Some(given), _) => Ok(given),
            (None, Some(path)) => read_secret(path),
            (None, None) => bail!("the sink in bucket {name} has no access key"),
        };
        let access_key_id = read(self.access_key_id.clone().map(Hidden::from), &self.access_key_id_file)?;
        let secret_access_key = read(self.secret_access_key.clone(), &self.secret_access_key_file)?;
        Ok(Some(Bucket {
            endpoint: self.endpoint()?,
            path_style: self.endpoint.is_some(),
            region: self.region(),
            prefix: self.prefix.clone().unwrap_or_default(),
            access_key_id,
            secret_access_key,
            name,
        }))
    }

    /// Where it is, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match (&self.directory, &self.bucket) {
            (Some(directory), _) => directory.display().to_string(),
            (None, bucket) => {
                let endpoint = self.endpoint.as_deref().unwrap_or("Amazon S3");
                format!("bucket {} at {endpoint}", bucket.as_deref().unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn a_sink_is_a_directory_or_a_bucket_with_its_keys() {
        let keys = "access_key_id = 'k'\nsecret_access_key = 's3cret'\n";
        let bucket = format!("[[sinks]]\nbucket = 'b'\n{keys}");
        for (text, named) in [
            ("[[sinks]]\n".to_owned(), "directory or bucket"),
            (format!("{bucket}directory = 'd'\n"), "directory or bucket"),
            ("[[sinks]]\ndirectory = 'd'\nregion = 'r'\n".to_owned(), "is a directory"),
        ] {
            let error = format!("{:#}", parse(&text).unwrap_err());
            assert!(error.contains(named), "{text}: {error}");
        }
        if !cfg!(feature = "s3") {
            let error = format!("{:#}", parse(&bucket).unwrap_err());
            assert!(error.contains("feature s3"), "{error}");
            return;
        }
        for (text, named) in [
            ("[[sinks]]\nbucket = 'b'\n".to_owned(), "access_key_id"),
            (format!("{bucket}access_key_id_file = 'f'\n"), "access_key_id"),
            (format!("{bucket}endpoint = 'http://storage.example.com'\n"), "loopback only"),
            (format!("{bucket}endpoint = 'storage.example.com'\n"), "endpoint"),
        ] {
            let error = format!("{:#}", parse(&text).unwrap_err());
            assert!(error.contains(named) && !error.contains("s3cret"), "{text}: {error}");
        }
        for endpoint in ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000", "https://s.example.com"]
        {
            let config = parse(&format!("{bucket}endpoint = '{endpoint}'\n")).unwrap();
            assert!(!format!("{config:?}").contains("s3cret"));
            assert!(config.sinks[0].bucket().unwrap().unwrap().path_style);
        }
        let amazon = parse(&format!("{bucket}region = 'eu-west-1'\n")).unwrap().sinks[0].bucket().unwrap().unwrap();
        assert_eq!(amazon.endpoint.as_str(), "https://s3.eu-west-1.amazonaws.com/");
    }
}
