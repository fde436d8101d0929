//! A plugin with one VM for the whole process, which lives on a thread of its own.
//!
//! ```text
//! worker:  RemoteFilter ──Job──> thread:  WasmFactory, VM, one HttpStream for each stream
//!                 └<─────Reply──────────────┘
//! ```
//!
//! A filter hands over each message part and says `Later` to the chain, which holds what follows.
//! The thread calls the plugin and sends back what it lets go, what it asked for and what it set.
//! Jobs and replies of a stream keep their order, so both sides agree about what lies where.
//! What the plugin holds lies on its thread. Nobody ever waits for the other side: a worker goes
//! on with its other streams, and the thread with the next job.

mod filter;
mod host;
mod thread;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak as WeakArc};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::AbortHandle;
use wasmplug_api::FailStrategy;
use wasmplug_host::abi::{DataAction, HeadersAction, TrailersAction};
use wasmplug_host::{
    BackOff, BodyBuffer, Fields, LifeSpan, LogFields, StreamActions, StreamHost as _,
};

pub(crate) use self::filter::RemoteFilter;
use crate::attributes::{StreamFacts, StreamShared};
use crate::filter::Side;
use crate::plugin_home::PluginHome;
use crate::snapshot::PluginSpec;

/// Most streams of all workers that the plugin's thread may have at one time; further ones meet
/// the `failStrategy`. Each has at most four jobs waiting, so this bounds the queues as well.
const MAX_STREAMS: usize = 16_384;

/// Where the one thread of a plugin is found.
#[derive(Debug, Default)]
pub(crate) struct ThreadSlot(Mutex<WeakArc<PluginThread>>);

/// The way to the plugin's thread, which ends with the last of them.
#[derive(Debug)]
struct PluginThread {
    jobs: UnboundedSender<Job>,
    /// Streams that are open.
    streams: AtomicUsize,
    last_stream: AtomicU64,
    /// Workers whose new streams come here.
    users: AtomicUsize,
}

/// What a worker tells the thread.
struct Job {
    stream: u64,
    event: Event,
}

enum Event {
    /// The first word about a stream.
    Open(Back),
    Headers(Asked, Fields, bool),
    Body(Asked, BodyBuffer, bool),
    Trailers(Asked, Fields),
    Log(Box<LogFields>, Box<StreamFacts>),
    Finish,
    /// No worker has new streams for the plugin.
    Retire,
}

/// One call that is to be answered.
struct Asked {
    side: Side,
    /// Which one it is, so that an answer that nobody wants any more is known.
    number: u32,
    facts: Box<StreamFacts>,
}

/// The way back to a stream; the worker is told if it is dropped.
struct Back {
    link: u64,
    replies: UnboundedSender<Reply>,
}

/// What the thread tells a worker.
struct Reply {
    link: u64,
    /// `None` if the thread has lost the stream and what it held of it.
    news: Option<Box<News>>,
}

/// What happened to a stream on the plugin's thread.
#[derive(Default)]
struct News {
    /// What the plugin said to a call.
    verdict: Option<(Side, u32, Verdict)>,
    /// What is let go of the request and of the response.
    let_go: [Content; 2],
    actions: StreamActions,
    /// The plugin cannot run, or died.
    has_failed: bool,
    /// Body bytes that stay on the thread.
    held_body: [usize; 2],
    effects: Vec<Effect>,
    time_spent: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Headers(HeadersAction),
    Body(DataAction),
    Trailers(TrailersAction),
}

/// Parts of one message.
#[derive(Default)]
struct Content {
    headers: Option<Fields>,
    body: BodyBuffer,
    trailers: Option<Fields>,
}

/// What a plugin changed about a stream besides its messages.
enum Effect {
    Property(Vec<u8>, Vec<u8>, LifeSpan),
    FilterState(String, Vec<u8>, LifeSpan),
    Route(Option<usize>),
}

/// Makes the filters of such a plugin on one worker.
pub(crate) struct RemoteFactory {
    spec: Arc<PluginSpec>,
    home: Rc<PluginHome>,
    thread: RefCell<Option<Arc<PluginThread>>>,
    back_off: Cell<BackOff>,
    links: Rc<Links>,
    last_link: Cell<u64>,
    replies: UnboundedSender<Reply>,
    receiver: AbortHandle,
    is_retired: Cell<bool>,
}

/// The streams of one worker that wait for replies.
#[derive(Default)]
struct Links(RefCell<HashMap<u64, Rc<Link>>>);

/// Replies to one stream that it has not looked at.
struct Link {
    number: u64,
    inbox: RefCell<VecDeque<Option<Box<News>>>>,
    stream: Weak<StreamShared>,
}

// === impl ThreadSlot ===

impl ThreadSlot {
    /// The thread that runs, or a new one. Asked for at changes of the configuration, and after
    /// the thread was lost.
    fn get(&self, spec: &Arc<PluginSpec>, home: &PluginHome) -> std::io::Result<Arc<PluginThread>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = slot.upgrade().filter(|thread| !thread.jobs.is_closed()) {
            return Ok(thread);
        }
        let thread = Arc::new(PluginThread::start(spec, home)?);
        *slot = Arc::downgrade(&thread);
        Ok(thread)
    }
}

// === impl PluginThread ===

impl PluginThread {
    fn start(spec: &Arc<PluginSpec>, home: &PluginHome) -> std::io::Result<Self> {
        let (jobs, received) = mpsc::unbounded_channel();
        let spec = Arc::clone(spec);
        let shared = (Arc::clone(&home.config), Arc::clone(&home.upstreams));
        let host = Arc::clone(&home.host);
        let thread = std::thread::Builder::new().name("wasm-process".into());
        thread.spawn(move || thread::run(spec, shared, host, received))?;
        let (streams, users) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Ok(Self { jobs, streams, last_stream: AtomicU64::new(0), users })
    }

    /// Room for one more stream, and its number.
    fn open(&self) -> Option<u64> {
        if self.streams.fetch_add(1, Ordering::Relaxed) >= MAX_STREAMS {
            self.close();
            return None;
        }
        Some(self.last_stream.fetch_add(1, Ordering::Relaxed))
    }

    fn close(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// One worker fewer has new streams.
    fn leave(&self) {
        if self.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            // If the thread is gone, so is its VM.
            let _ = self.jobs.send(Job { stream: 0, event: Event::Retire });
        }
    }
}

// === impl Back ===

impl Back {
    fn send(&self, news: News) {
        // Who is gone wants no news.
        let _ = self.replies.send(Reply { link: self.link, news: Some(Box::new(news)) });
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        let _ = self.replies.send(Reply { link: self.link, news: None });
    }
}

// === impl Content ===

impl Content {
    /// Adds what was let go later.
    fn append(&mut self, later: Self) {
        self.headers = later.headers.or(self.headers.take());
        self.body.append(later.body);
        self.trailers = later.trailers.or(self.trailers.take());
    }
}

// === impl RemoteFactory ===

impl RemoteFactory {
    /// Joins the plugin's thread, or starts it. The plugin starts there, meanwhile streams wait.
    pub(crate) fn start(spec: Arc<PluginSpec>, home: &Rc<PluginHome>) -> Rc<Self> {
        let (replies, incoming) = mpsc::unbounded_channel();
        let links = Rc::new(Links::default());
        // Ends with the factory.
        let receiver = tokio::task::spawn_local(Rc::clone(&links).receive(incoming));
        let factory = Self {
            spec,
            home: Rc::clone(home),
            thread: RefCell::default(),
            back_off: Cell::default(),
            links,
            last_link: Cell::default(),
            replies,
            receiver: receiver.abort_handle(),
            is_retired: Cell::default(),
        };
        factory.join();
        Rc::new(factory)
    }

    pub(crate) fn spec(&self) -> &Arc<PluginSpec> {
        &self.spec
    }

    pub(crate) fn new_filter(self: &Rc<Self>, stream: &Rc<StreamShared>) -> RemoteFilter {
        let thread = self.thread().and_then(|thread| thread.open().map(|number| (thread, number)));
        RemoteFilter::new(Rc::clone(self), Rc::clone(stream), thread)
    }

    /// No new stream will come.
    pub(crate) fn retire(&self) {
        if !self.is_retired.replace(true)
            && let Some(thread) = &*self.thread.borrow()
        {
            thread.leave();
        }
    }

    fn fails_open(&self) -> bool {
        self.spec.fail_strategy == FailStrategy::FailOpen
    }

    /// The thread, if there is one.
    fn thread(&self) -> Option<Arc<PluginThread>> {
        let present = self.thread.borrow().clone();
        if let Some(thread) = present.filter(|thread| !thread.jobs.is_closed()) {
            return Some(thread);
        }
        if self.back_off.get().may_start(Instant::now()) {
            self.join();
        }
        self.thread.borrow().clone().filter(|thread| !thread.jobs.is_closed())
    }

    fn join(&self) {
        let back_off = self.back_off.get().after_start(Instant::now(), fastrand::f64());
        self.back_off.set(back_off);
        match self.spec.thread.get(&self.spec, &self.home) {
            Ok(thread) => {
                thread.users.fetch_add(1, Ordering::AcqRel);
                *self.thread.borrow_mut() = Some(thread);
            }
            Err(error) => tracing::error!(
                plugin.name = %self.spec.resource,
                error = %error,
                "cannot start the thread of a plugin with one VM"
            ),
        }
    }

    /// A way back for a stream.
    fn link(&self, stream: &Rc<StreamShared>) -> (Rc<Link>, Back) {
        let number = self.last_link.get().wrapping_add(1);
        self.last_link.set(number);
        let inbox = RefCell::default();
        let link = Rc::new(Link { number, inbox, stream: Rc::downgrade(stream) });
        self.links.0.borrow_mut().insert(number, Rc::clone(&link));
        (link, Back { link: number, replies: self.replies.clone() })
    }

    fn unlink(&self, link: &Link) {
        self.links.0.borrow_mut().remove(&link.number);
    }
}

impl Drop for RemoteFactory {
    fn drop(&mut self) {
        self.retire();
        self.receiver.abort();
    }
}

impl std::fmt::Debug for RemoteFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteFactory")
            .field("resource", &self.spec.resource)
            .finish_non_exhaustive()
    }
}

// === impl Links ===

impl Links {
    /// Gives replies to their streams and wakes these.
    async fn receive(self: Rc<Self>, mut replies: UnboundedReceiver<Reply>) {
        while let Some(reply) = replies.recv().await {
            let link = self.0.borrow().get(&reply.link).map(Rc::clone);
            let Some(link) = link else { continue };
            link.inbox.borrow_mut().push_back(reply.news);
            if let Some(stream) = link.stream.upgrade() {
                stream.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_streams_and_again_when_one_has_ended() {
        let (jobs, _received) = mpsc::unbounded_channel();
        let (streams, users) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let thread = PluginThread { jobs, streams, last_stream: AtomicU64::new(0), users };
        let numbers: std::collections::BTreeSet<_> =
            (0..MAX_STREAMS).filter_map(|_| thread.open()).collect();
        assert_eq!(numbers.len(), MAX_STREAMS);
        assert_eq!(thread.open(), None);
        thread.close();
        assert!(thread.open().is_some_and(|number| !numbers.contains(&number)));
        assert_eq!(thread.open(), None);
    }
}
