//! A module in a file: read as it is, each time.
//!
//! Source: `WasmPlugin.url`, scheme `file`. Differs: Istio checks neither size, nor digest, nor
//! whether it is a module.

use std::{
    io::{ErrorKind, Read as _},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;

use super::{Fetcher, FoundSignatures, Identity, beside, blocking};
use crate::error::FetchError;

pub(crate) struct FileFetcher {
    pub(crate) url: String,
    pub(crate) path: PathBuf,
    pub(crate) limit: u64,
}

// === impl FileFetcher ===

impl Fetcher for FileFetcher {
    type Located = ();

    async fn locate(&mut self) -> Result<(Identity, ()), FetchError> {
        Ok((Identity::default(), ()))
    }

    async fn signatures(&mut self, _: &Identity) -> Result<FoundSignatures, FetchError> {
        let mut path = self.path.clone().into_os_string();
        path.push(beside::SUFFIX);
        let path = PathBuf::from(path);
        let looked = path.display().to_string();
        let url = self.url.clone();
        let read = blocking(&self.url, move || read(url, path, beside::MAX_BYTES)).await?;
        let evidence = match read {
            Ok(bytes) => vec![beside::evidence(&looked, &bytes)],
            Err(FetchError::File { source, .. }) if source.kind() == ErrorKind::NotFound => vec![],
            Err(error) => return Err(error),
        };
        Ok(FoundSignatures { evidence, looked: vec![looked] })
    }

    async fn download(&mut self, (): ()) -> Result<Bytes, FetchError> {
        let (url, path, limit) = (self.url.clone(), self.path.clone(), self.limit);
        blocking(&self.url, move || read(url, path, limit)).await?
    }
}

fn read(url: String, path: PathBuf, limit: u64) -> Result<Bytes, FetchError> {
    let mut bytes = Vec::new();
    let mut read = || {
        // A pipe or a device might never end.
        if !fs_err::metadata(&path)?.is_file() {
            return Err(std::io::Error::other("not a regular file"));
        }
        fs_err::File::open(&path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)
    };
    match read() {
        Ok(length) if length as u64 > limit => {
            Err(FetchError::TooLarge { url, what: "module", limit })
        }
        Ok(_) => Ok(Bytes::from(bytes)),
        Err(source) => Err(FetchError::File { path, source: Arc::new(source) }),
    }
}
