//! Storms and calms in turn.

use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::checker::Checker;
use crate::report::{Usage, assert_flat, publish};
use crate::resources::{open_files, resident_kib};
use crate::rig::{Chain, Rig};
use crate::upstream::Upstream;
use crate::{alone, end, eventually, seed};

/// Requests of one storm, and of the calm behind it.
const STORM: u64 = 1500;
const CALM: u64 = 500;
/// Rounds of a run that is given no time.
const ROUNDS: u64 = 1;
/// Memory is looked at in the second and in the last of so many parts of a run.
const WARM_UP: usize = 5;

/// What the checker's thread finds.
struct Found {
    totals: Value,
    wrong: Vec<String>,
    unmarked: u64,
    requests_at_upstream: u64,
    retried: u64,
    repeated: u64,
    mangled: u64,
    first_wrong_at_upstream: Option<String>,
    after_warm_up: Usage,
    at_end: Usage,
}

#[test]
fn every_answer_is_right_while_everything_breaks() {
    let _alone = alone();
    let (seed, end, begun) = (seed(), end(), Instant::now());
    let (addresses_out, addresses) = mpsc::channel();
    let (start, begins) = mpsc::channel();
    let (flips, flip) = mpsc::sync_channel(1);
    let (finish, finished) = mpsc::channel();
    let checking = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async move {
            let upstream = Upstream::start("x-gate").await;
            addresses_out.send((upstream.address, upstream.void)).unwrap();
            let (address, numbers) = begins.recv().unwrap();
            let checker = Checker::new(seed, address, numbers, flips.clone());
            let found = rounds(&checker, &upstream, end).await;
            checker.close_all();
            upstream.close_all();
            // Connections are closed by their tasks, which need a turn.
            tokio::task::yield_now().await;
            drop::<SyncSender<()>>(flips);
            drop(checker);
            finished.recv().unwrap_or(());
            found
        })
    });
    let (upstream, void) = addresses.recv().unwrap();
    let mut rig = Rig::start(upstream, void);
    let files = open_files();
    let at_start = Usage { resident_kib: resident_kib(), files: files.len() };
    start.send((rig.proxy.listen_address(), rig.numbers.clone())).unwrap();
    let changes = flip_until_it_ends(&mut rig, &flip);
    let plugins = plugins(&rig);
    rig.change(Chain::Empty);
    eventually("no plugin is held", || rig.living_specs() == 0);
    eventually("no client is connected", || {
        rig.metric("envoy_http_downstream_cx_active") == Some(0)
    });
    let is_back = wait_for_files(files.len());
    finish.send(()).unwrap();
    let found = checking.join().unwrap();
    let report = json!({
        "seed": seed,
        "seconds": begun.elapsed().as_secs(),
        "changes_of_configuration": changes,
        "clients": found.totals,
        "requests": found.totals["requests"],
        "verified": found.totals["verified"],
        "wrong": found.totals["wrong"],
        "refused_beside_a_death": found.totals["neighbours_of_a_death"],
        "requests_at_upstream": found.requests_at_upstream,
        "bypassed": found.unmarked,
        "retried_at_upstream": found.retried,
        "repeated_at_upstream": found.repeated,
        "mangled_at_upstream": found.mangled,
        "plugins": plugins,
        "resident_kib_at_start": at_start.resident_kib,
        "resident_kib_after_warm_up": found.after_warm_up.resident_kib,
        "resident_kib_at_end": found.at_end.resident_kib,
        "files_at_start": at_start.files,
        "files_at_end": open_files().len(),
    });
    publish("chaos", &report);
    assert!(found.wrong.is_empty(), "seed {seed}:\n{}", found.wrong.join("\n"));
    let at_upstream = (found.unmarked, found.repeated, found.mangled);
    assert_eq!(at_upstream, (0, 0, 0), "seed {seed}: {:?}", found.first_wrong_at_upstream);
    is_back.unwrap_or_else(|left| panic!("seed {seed}: files that stay open: {left:#?}"));
    // Last, because it says least of what went wrong.
    assert_flat(end.is_some(), found.after_warm_up.resident_kib, found.at_end.resident_kib);
    rig.proxy.stop();
}

/// Alternates until the time or the rounds are over.
async fn rounds(checker: &Rc<Checker>, upstream: &Upstream, end: Option<Instant>) -> Found {
    let is_over = |round: u64| match end {
        Some(end) => Instant::now() >= end,
        None => round >= ROUNDS,
    };
    let (mut round, mut calms) = (0, Vec::new());
    while !is_over(round) && !checker.is_over() {
        checker.storm(STORM).await;
        checker.calm(CALM).await;
        round += 1;
        calms.push(Usage::now());
    }
    let part = calms.len() / WARM_UP;
    let early = calms.iter().skip(part).take(part.max(1));
    let late = calms.iter().rev().take(part.max(1));
    let (after_warm_up, at_end) = (least(early), least(late));
    let received = &upstream.received;
    Found {
        totals: checker.totals.borrow().json(),
        wrong: checker.wrong.take(),
        unmarked: received.unmarked.get(),
        requests_at_upstream: received.requests.get(),
        retried: received.retried.get(),
        repeated: received.repeated.get(),
        mangled: received.mangled.get(),
        first_wrong_at_upstream: received.first_wrong(),
        after_warm_up,
        at_end,
    }
}

/// The least memory of these, and its files.
///
/// Memory of guests that took all they could goes up and down by a third from calm to calm; what is
/// never given back lifts the least.
fn least<'a>(calms: impl Iterator<Item = &'a Usage>) -> Usage {
    calms.min_by_key(|usage| usage.resident_kib).copied().unwrap_or_default()
}

/// Changes the configuration whenever the checker asks for it; says how often.
fn flip_until_it_ends(rig: &mut Rig, asked: &Receiver<()>) -> u64 {
    let mut changes = 0;
    for chain in Chain::FLIPS.into_iter().cycle() {
        if asked.recv().is_err() {
            break;
        }
        rig.change(chain);
        changes += 1;
    }
    changes
}

/// What the plugins of the last configuration have been through.
fn plugins(rig: &Rig) -> Value {
    let plugins = rig.plugins().into_iter().map(|plugin| {
        let failures: serde_json::Map<String, Value> = plugin
            .stats
            .failures()
            .map(|(kind, count)| (format!("{kind:?}"), count.into()))
            .collect();
        let restarts = plugin.stats.restarts();
        let about = json!({ "restarts": restarts, "failures": failures });
        (plugin.resource.name.clone(), about)
    });
    Value::Object(plugins.collect())
}

/// Waits until so many files are open at most; those that are, if there are more.
fn wait_for_files(at_most: usize) -> Result<(), Vec<String>> {
    let begin = Instant::now();
    while open_files().len() > at_most {
        if begin.elapsed() > wasmplug_testkit::patience() {
            return Err(open_files());
        }
        std::thread::yield_now();
    }
    Ok(())
}

impl Usage {
    fn now() -> Self {
        Self { resident_kib: resident_kib(), files: open_files().len() }
    }
}
