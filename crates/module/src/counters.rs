//! What a store has done, for metrics, and which tags were found to have moved.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use wasmplug_api::Digest;

use crate::{
    error::FetchError,
    request::{FetchedModule, StoreCounters},
};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    fetched: AtomicU64,
    failed_downloads: AtomicU64,
    wrong_modules: AtomicU64,
    refused_signatures: AtomicU64,
    moved_tags: AtomicU64,
    /// Where each URL was last told to have moved to, so that it is told once.
    told: Mutex<HashMap<String, Digest>>,
}

// === impl Counters ===

impl Counters {
    pub(crate) fn count_lookup(&self, is_hit: bool) {
        bump(if is_hit { &self.hits } else { &self.misses });
    }

    pub(crate) fn count_fetch(&self, result: &Result<FetchedModule, FetchError>) {
        bump(match result {
            Ok(_) => &self.fetched,
            Err(FetchError::Signature { .. }) => &self.refused_signatures,
            Err(
                FetchError::DigestMismatch(_)
                | FetchError::NotWasm { .. }
                | FetchError::Image { .. }
                | FetchError::Unpack { .. }
                | FetchError::Corrupt { .. },
            ) => &self.wrong_modules,
            Err(_) => &self.failed_downloads,
        });
    }

    /// Tells, once, that a URL points at another image than before.
    pub(crate) fn tag_moved(&self, url: &str, from: &Digest, to: &Digest, takes_effect: bool) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(url.to_owned(), to.clone()).as_ref() == Some(to) {
            return;
        }
        bump(&self.moved_tags);
        if takes_effect {
            tracing::info!(url, %from, %to, "the tag was moved to another image, which is taken");
        } else {
            tracing::warn!(
                url, %from, %to,
                "the tag was moved to another image; `imagePullPolicy` keeps the one from before"
            );
        }
    }

    pub(crate) fn read(&self) -> StoreCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreCounters {
            hits: read(&self.hits),
            misses: read(&self.misses),
            fetched: read(&self.fetched),
            failed_downloads: read(&self.failed_downloads),
            wrong_modules: read(&self.wrong_modules),
            refused_signatures: read(&self.refused_signatures),
            moved_tags: read(&self.moved_tags),
        }
    }
}

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
