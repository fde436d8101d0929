//! Looks the names of clusters up, apart from all requests, again and again.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::UpstreamAddress;
use super::cluster::{Cluster, count};

/// Most look-ups at one time; the others wait. Source: ours.
const MAX_LOOK_UPS: usize = 16;

/// Looks names up on a thread of its own until it is told to stop.
pub(crate) struct Resolver {
    /// Clusters, and the number of a host of each that has a name.
    names: Vec<(Arc<Cluster>, usize)>,
    changed: Arc<watch::Sender<()>>,
}

// === impl Resolver ===

impl Resolver {
    /// `changed` is told when a cluster got other endpoints. `None` if no host has a name.
    pub(super) fn new<'a>(
        clusters: impl Iterator<Item = &'a Arc<Cluster>>,
        changed: Arc<watch::Sender<()>>,
    ) -> Option<Self> {
        let names = clusters.flat_map(|cluster| {
            let hosts = cluster.config().hosts().iter().enumerate();
            let named = hosts.filter(|(_, host)| host.host().parse::<std::net::IpAddr>().is_err());
            named.map(|(at, _)| (Arc::clone(cluster), at))
        });
        let names: Vec<_> = names.collect();
        (!names.is_empty()).then_some(Self { names, changed })
    }

    pub(crate) fn run(self, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("resolver")
            .max_blocking_threads(MAX_LOOK_UPS)
            .build()?;
        runtime.block_on(async {
            let mut follow = JoinSet::new();
            for (cluster, host) in self.names {
                let changed = Arc::clone(&self.changed);
                follow.spawn(async move { follow_name(&cluster, host, &changed).await });
            }
            // Without a sender there is nobody left to stop for.
            let _ = stop.wait_for(|stop| *stop).await;
        });
        // A look-up that hangs is nothing to wait for.
        runtime.shutdown_background();
        Ok(())
    }
}

/// Looks one name up for as long as the process lives.
async fn follow_name(cluster: &Arc<Cluster>, host: usize, changed: &watch::Sender<()>) {
    let Some(address) = cluster.config().hosts().get(host) else { return };
    let mut was_found = true;
    loop {
        count(&cluster.counters.look_ups);
        let found = look_up(cluster, address.clone()).await;
        let is_found = found.is_ok();
        let found = found.map_err(|error| {
            count(&cluster.counters.failed_look_ups);
            if was_found {
                // Said once, not every few seconds.
                let (cluster, name) = (cluster.name(), address.host());
                tracing::warn!(
                    cluster,
                    name,
                    error = %error,
                    "a name cannot be looked up; addresses that are known stay in use"
                );
            }
        });
        if is_found && !was_found {
            let (cluster, name) = (cluster.name(), address.host());
            tracing::info!(cluster, name, "a name can be looked up again");
        }
        was_found = is_found;
        if cluster.resolved(host, found.ok()) {
            changed.send_replace(());
        }
        tokio::time::sleep(cluster.options().resolve_interval).await;
    }
}

async fn look_up(
    cluster: &Arc<Cluster>,
    address: UpstreamAddress,
) -> std::io::Result<Vec<SocketAddr>> {
    let names = cluster.options().resolver.clone();
    let look_up = move || names.resolve(address.host(), address.port());
    let found = tokio::task::spawn_blocking(look_up).await.map_err(std::io::Error::other)??;
    if found.is_empty() {
        return Err(std::io::Error::other("the name has no address"));
    }
    Ok(found)
}
