//! Many changes of configuration under load.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use serde_json::json;
use tokio::task::{JoinSet, LocalSet};

use crate::ask::{Ask, Surroundings, Verdict};
use crate::report::{assert_flat, publish};
use crate::resources::{open_files, resident_kib};
use crate::rig::{Chain, Numbers, Rig};
use crate::upstream::Upstream;
use crate::wire::Connection;
use crate::{SWAPS_VARIABLE, alone, eventually, number};

/// Changes of a short run.
const SWAPS: u64 = 300;
/// Changes before memory is taken to be warm: one part of this. It takes some five thousand.
const WARM_UP: u64 = 2;
/// Connections that ask at one time.
const CLIENTS: usize = 4;

/// What clients and the changes share.
struct Shared {
    address: SocketAddr,
    numbers: Arc<Numbers>,
    is_done: AtomicBool,
    requests: AtomicU64,
}

/// What the clients' thread finds.
struct Found {
    wrong: Vec<String>,
    bypassed: u64,
    repeated: u64,
}

#[test]
fn no_request_and_no_memory_is_lost_to_changes_of_configuration() {
    let _alone = alone();
    let swaps = number(SWAPS_VARIABLE).unwrap_or(SWAPS);
    let (addresses_out, addresses) = mpsc::channel();
    let (start, begins) = mpsc::channel();
    let asking = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async move {
            let upstream = Upstream::start("x-gate").await;
            addresses_out.send((upstream.address, upstream.void)).unwrap();
            let shared: Arc<Shared> = begins.recv().unwrap();
            let mut clients = JoinSet::new();
            for client in 0..CLIENTS {
                clients.spawn_local(ask_until_done(Arc::clone(&shared), client));
            }
            let wrong = clients.join_all().await.into_iter().filter_map(Result::err).collect();
            let received = &upstream.received;
            let (bypassed, repeated) = (received.unmarked.get(), received.repeated.get());
            Found { wrong, bypassed, repeated }
        })
    });
    let (upstream, void) = addresses.recv().unwrap();
    let mut rig = Rig::start(upstream, void);
    let shared = Arc::new(Shared {
        address: rig.proxy.listen_address(),
        numbers: Arc::clone(&rig.numbers),
        is_done: AtomicBool::new(false),
        requests: AtomicU64::new(0),
    });
    start.send(Arc::clone(&shared)).unwrap();
    let (begun, mut after_warm_up, mut files) = (Instant::now(), 0, 0);
    for swap in 0..swaps {
        // A module that comes anew is compiled anew, which takes longest.
        rig.change(if swap % 20 == 0 { Chain::Three } else { Chain::Two });
        // Never so fast that no request sees a configuration.
        let before = shared.requests.load(Ordering::Acquire);
        eventually("requests go on", || {
            shared.requests.load(Ordering::Acquire) >= before + 2 || asking.is_finished()
        });
        if swap == swaps / WARM_UP {
            (after_warm_up, files) = (resident_kib(), open_files().len());
        }
    }
    let (at_end, files_at_end) = (resident_kib(), open_files().len());
    shared.is_done.store(true, Ordering::Release);
    let found = asking.join().unwrap();
    let held = rig.plugins().len();
    eventually("only plugins of the last form are held", || rig.living_specs() == held);
    let workers = u64::try_from(crate::rig::WORKERS).unwrap();
    let running: Vec<u64> = rig.plugins().iter().map(|plugin| plugin.stats.running()).collect();
    publish(
        "swaps",
        &json!({
            "swaps": swaps,
            "seconds": begun.elapsed().as_secs(),
            "requests": shared.requests.load(Ordering::Acquire),
            "lost": found.wrong.len(),
            "bypassed": found.bypassed,
            "repeated_at_upstream": found.repeated,
            "forms_of_plugins_held": held,
            "resident_kib_after_warm_up": after_warm_up,
            "resident_kib_at_end": at_end,
            "files_after_warm_up": files,
            "files_at_end": files_at_end,
        }),
    );
    assert_flat(swaps > SWAPS, after_warm_up, at_end);
    assert!(found.wrong.is_empty(), "{:#?}", found.wrong);
    assert_eq!((found.bypassed, found.repeated), (0, 0));
    assert_eq!(running, vec![workers; held]);
    rig.change(Chain::Empty);
    eventually("no plugin is held", || rig.living_specs() == 0);
    rig.proxy.stop();
}

/// Asks again and again on one connection; the first answer that is not right ends it.
async fn ask_until_done(shared: Arc<Shared>, client: usize) -> Result<(), String> {
    let mut connection = None;
    let mut id = u64::try_from(client).unwrap() + 1;
    while !shared.is_done.load(Ordering::Acquire) {
        let ask = Ask::plain(id);
        id += u64::try_from(CLIENTS).unwrap();
        let oldest = shared.numbers.applied.load(Ordering::Acquire);
        let mut open: Connection = match connection.take() {
            Some(open) => open,
            None => {
                Connection::open(shared.address).await.map_err(|broken| format!("{broken:?}"))?
            }
        };
        let outcome = open.exchange(&ask.bytes(), 1).await.remove(0);
        let newest = shared.numbers.published.load(Ordering::Acquire);
        let around = Surroundings {
            configurations: oldest..=newest,
            may_gate_die: false,
            may_open_die: false,
        };
        match ask.judge(&outcome, &around)? {
            Verdict::Right => {}
            other => return Err(format!("{other:?}: {ask:?}")),
        }
        if outcome.is_ok_and(|answer| answer.keeps_alive()) {
            connection = Some(open);
        }
        shared.requests.fetch_add(1, Ordering::AcqRel);
    }
    Ok(())
}
