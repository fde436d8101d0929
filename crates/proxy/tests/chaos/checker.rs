//! Clients that ask, and judge every answer.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::task::JoinSet;

use crate::ask::{Ask, Surroundings, Verdict};
use crate::report::Totals;
use crate::rig::Numbers;
use crate::wire::{Answer, Broken, Connection};

/// Connections that ask at one time.
const CLIENTS: usize = 16;
/// Requests between two changes of configuration.
const FLIP_EVERY: u64 = 40;
/// Clients that stall at one time; the oldest gives up.
const MAX_STALLED: usize = 40;
/// For how long after a death a plugin may wait before it is started anew: deaths in a row make it
/// longer, and a storm has many.
const GRACE: Duration = Duration::from_secs(2);
/// Wrong answers after which it is pointless to go on.
const MAX_WRONG: usize = 5;

/// All clients.
pub(crate) struct Checker {
    address: SocketAddr,
    numbers: Arc<Numbers>,
    flips: SyncSender<()>,
    /// Of the plugins `gate` and `open`.
    deaths: [Deaths; 2],
    next_id: Cell<u64>,
    left: Cell<u64>,
    is_storm: Cell<bool>,
    clients: RefCell<Vec<Client>>,
    stalled: RefCell<Vec<Connection>>,
    pub(crate) totals: RefCell<Totals>,
    pub(crate) wrong: RefCell<Vec<String>>,
}

/// One client: what it does is decided by its own numbers.
struct Client {
    rng: Rng,
    connection: Option<Connection>,
}

/// When the VM of a plugin may have died.
#[derive(Default)]
struct Deaths {
    under_way: Cell<u64>,
    begun: Cell<u64>,
    last_end: Cell<Option<Instant>>,
}

/// What was known when a request was sent.
struct Before {
    applied: u64,
    begun: [u64; 2],
    may_die: [bool; 2],
}

// === impl Deaths ===

impl Deaths {
    fn may_have_one(&self) -> bool {
        let is_recent = |end: Instant| end.elapsed() < GRACE;
        self.under_way.get() > 0 || self.last_end.get().is_some_and(is_recent)
    }

    fn begin(&self) {
        self.under_way.set(self.under_way.get() + 1);
        self.begun.set(self.begun.get() + 1);
    }

    fn end(&self) {
        self.under_way.set(self.under_way.get() - 1);
        self.last_end.set(Some(Instant::now()));
    }
}

// === impl Checker ===

impl Checker {
    pub(crate) fn new(
        seed: u64,
        address: SocketAddr,
        numbers: Arc<Numbers>,
        flips: SyncSender<()>,
    ) -> Rc<Self> {
        let mut rng = Rng::with_seed(seed);
        let clients = (0..CLIENTS).map(|_| Client { rng: rng.fork(), connection: None });
        Rc::new(Self {
            address,
            numbers,
            flips,
            deaths: Default::default(),
            next_id: Cell::new(1),
            left: Cell::new(0),
            is_storm: Cell::new(false),
            clients: RefCell::new(clients.collect()),
            stalled: RefCell::default(),
            totals: RefCell::default(),
            wrong: RefCell::default(),
        })
    }

    /// So many requests, any of which may break what can be broken.
    pub(crate) async fn storm(self: &Rc<Self>, requests: u64) {
        self.is_storm.set(true);
        self.phase(requests).await;
        self.is_storm.set(false);
    }

    /// So many requests that break nothing but upstreams and their own connections: every one must
    /// be right.
    pub(crate) async fn calm(self: &Rc<Self>, requests: u64) {
        self.recover().await;
        self.phase(requests).await;
    }

    /// Whether to stop.
    pub(crate) fn is_over(&self) -> bool {
        self.wrong.borrow().len() >= MAX_WRONG
    }

    /// Closes what clients hold.
    pub(crate) fn close_all(&self) {
        self.stalled.borrow_mut().clear();
        self.clients.borrow_mut().iter_mut().for_each(|client| client.connection = None);
    }

    async fn phase(self: &Rc<Self>, requests: u64) {
        self.left.set(requests);
        let mut running = JoinSet::new();
        for client in self.clients.take() {
            running.spawn_local(Rc::clone(self).run(client));
        }
        while let Some(client) = running.join_next().await {
            self.clients.borrow_mut().push(client.unwrap());
        }
    }

    /// Waits until every plugin runs again on the worker of every client.
    async fn recover(self: &Rc<Self>) {
        let begin = Instant::now();
        let mut clients = self.clients.take();
        for client in &mut clients {
            while begin.elapsed() < wasmplug_testkit::patience() {
                let ask = Ask::plain(self.id());
                let (outcome, around) = self.ask(&ask, &mut client.connection, true).await;
                if matches!(ask.judge(&outcome, &around), Ok(Verdict::Right)) {
                    break;
                }
                client.connection = None;
                self.totals.borrow_mut().probes += 1;
            }
        }
        self.clients.replace(clients);
    }

    async fn run(self: Rc<Self>, mut client: Client) -> Client {
        // They take seconds, which others need not wait for.
        let mut hanging = JoinSet::new();
        while self.take_one() {
            match client.rng.u32(0..100) {
                0..8 => self.stray(&mut client).await,
                8..16 => self.pipeline(&mut client).await,
                _ => {
                    let id = self.id();
                    let rng = &mut client.rng;
                    let is_storm = self.is_storm.get();
                    let ask = if is_storm { Ask::stormy(id, rng) } else { Ask::calm(id, rng) };
                    if ask.hangs() {
                        let checker = Rc::clone(&self);
                        hanging.spawn_local(async move { checker.check(&ask, &mut None).await });
                    } else {
                        self.check(&ask, &mut client.connection).await;
                    }
                }
            }
        }
        while hanging.join_next().await.is_some() {}
        client
    }

    fn take_one(&self) -> bool {
        let left = self.left.get();
        if left == 0 || self.is_over() {
            return false;
        }
        self.left.set(left - 1);
        if left.is_multiple_of(FLIP_EVERY) {
            // One that is still under way is enough.
            let _ = self.flips.try_send(());
        }
        true
    }

    fn id(&self) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }

    async fn check(&self, ask: &Ask, connection: &mut Option<Connection>) {
        let (outcome, around) = self.ask(ask, connection, self.is_storm.get()).await;
        self.judge(ask, &outcome, &around);
    }

    fn judge(&self, ask: &Ask, outcome: &Result<Answer, Broken>, around: &Surroundings) {
        let verdict = ask.judge(outcome, around);
        self.totals.borrow_mut().count(ask, verdict.as_ref().ok());
        if let Err(wrong) = verdict {
            let storm = if self.is_storm.get() { "storm" } else { "calm" };
            self.wrong.borrow_mut().push(format!("in a {storm}: {wrong}"));
        }
    }

    /// Asks, on the connection that is there if it can still be used.
    async fn ask(
        &self,
        ask: &Ask,
        connection: &mut Option<Connection>,
        is_lenient: bool,
    ) -> (Result<Answer, Broken>, Surroundings) {
        let before = self.before();
        for (deaths, _) in self.deaths.iter().zip(ask.kills()).filter(|(_, kills)| *kills) {
            deaths.begin();
        }
        let outcome = match connection.take() {
            Some(connection) => Ok(connection),
            None => Connection::open(self.address).await,
        };
        let outcome = match outcome {
            Ok(mut open) => {
                let outcome =
                    open.exchange(&ask.bytes(), 1).await.pop().unwrap_or(Err(Broken::Closed));
                if ask.closes && outcome.is_ok() {
                    // Plugins hear of the end of the stream before the connection is closed.
                    drop(open.read_to_close().await);
                } else if outcome
                    .as_ref()
                    .is_ok_and(|answer| answer.status < 400 && answer.keeps_alive())
                {
                    *connection = Some(open);
                }
                outcome
            }
            Err(broken) => Err(broken),
        };
        for (deaths, _) in self.deaths.iter().zip(ask.kills()).filter(|(_, kills)| *kills) {
            deaths.end();
        }
        (outcome, self.around(&before, is_lenient))
    }

    fn before(&self) -> Before {
        Before {
            applied: self.numbers.applied.load(Ordering::Acquire),
            begun: [0, 1].map(|index| self.deaths[index].begun.get()),
            may_die: [0, 1].map(|index| self.deaths[index].may_have_one()),
        }
    }

    fn around(&self, before: &Before, is_lenient: bool) -> Surroundings {
        let may_die = [0, 1].map(|index| {
            let has_begun = self.deaths[index].begun.get() > before.begun[index];
            is_lenient && (before.may_die[index] || has_begun)
        });
        Surroundings {
            configurations: before.applied..=self.numbers.published.load(Ordering::Acquire),
            may_gate_die: may_die[0],
            may_open_die: may_die[1],
        }
    }

    /// Three requests before the first answer.
    async fn pipeline(&self, client: &mut Client) {
        let asks: Vec<Ask> =
            (0..3).map(|_| Ask::calm(self.id(), &mut client.rng).on_a_good_upstream()).collect();
        let before = self.before();
        let Ok(mut open) = Connection::open(self.address).await else {
            self.wrong.borrow_mut().push("the proxy takes no connection".to_owned());
            return;
        };
        let bytes: Vec<u8> = asks.iter().flat_map(Ask::bytes).collect();
        // At the same time: who only writes while the other side only writes waits for ever.
        let outcomes = open.exchange(&bytes, asks.len()).await;
        let around = self.around(&before, self.is_storm.get());
        for (ask, outcome) in asks.iter().zip(&outcomes) {
            self.judge(ask, outcome, &around);
        }
        self.totals.borrow_mut().pipelined += 1;
    }

    /// A client that does not do what clients should.
    async fn stray(&self, client: &mut Client) {
        let rng = &mut client.rng;
        let ask = Ask::calm(self.id(), rng).on_a_good_upstream();
        let bytes = ask.bytes();
        let before = self.before();
        let Ok(mut open) = Connection::open(self.address).await else {
            self.wrong.borrow_mut().push("the proxy takes no connection".to_owned());
            return;
        };
        self.totals.borrow_mut().strays += 1;
        match rng.u32(0..7) {
            // It vanishes, with a FIN or a reset, as soon as it has asked.
            0 => open.send(&bytes).await,
            1 => {
                open.send(&bytes).await;
                open.reset();
            }
            2 => {
                open.send(&bytes[..rng.usize(1..bytes.len())]).await;
                open.reset();
            }
            // It stalls within what it sends, or does not read.
            3 => {
                open.send(&bytes[..rng.usize(1..bytes.len())]).await;
                self.stall(open);
            }
            4 => {
                open.send(&bytes).await;
                self.stall(open);
            }
            // It ends its side at once: an answer is right or there is none.
            5 => {
                open.send(&bytes).await;
                open.finish().await;
                let outcome = open.read_answer().await;
                if !matches!(outcome, Err(Broken::Closed | Broken::Cut)) {
                    let around = self.around(&before, self.is_storm.get());
                    self.judge(&ask, &outcome, &around);
                }
            }
            _ => {
                open.send(b"\x16\x03\x01 no HTTP at all\r\n\r\n").await;
                let outcome = open.read_answer().await;
                let is_refused = match &outcome {
                    Ok(answer) => answer.status == 400,
                    Err(broken) => matches!(broken, Broken::Closed),
                };
                if !is_refused {
                    self.wrong.borrow_mut().push(format!("nonsense got {outcome:?}"));
                }
            }
        }
    }

    fn stall(&self, connection: Connection) {
        let mut stalled = self.stalled.borrow_mut();
        stalled.push(connection);
        if stalled.len() > MAX_STALLED {
            stalled.remove(0);
        }
    }
}
