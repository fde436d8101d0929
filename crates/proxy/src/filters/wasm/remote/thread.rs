//! The thread of one plugin, with its VM and the plugin's view of all streams.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::LocalSet;
use wasmplug_host::abi::{DataAction, HeadersAction, TrailersAction};
use wasmplug_host::{BodyBuffer, Failure, Fields, Host, HttpStream, StreamHost};

use super::host::{RemoteHost, Woken};
use super::{Asked, Back, Content, Event, Job, News, Verdict};
use crate::config::ProxyConfig;
use crate::filter::Side;
use crate::filters::wasm::WasmFactory;
use crate::metrics::WorkerMetrics;
use crate::plugin_home::PluginHome;
use crate::snapshot::PluginSpec;
use crate::upstream::Upstreams;
use crate::worker::{SWEEP_PERIOD, surroundings};

/// What breakers call the thread, where others have the number of a worker.
const NAME: &str = "process";

/// Everything on the thread.
struct Home {
    plugins: Rc<PluginHome>,
    factory: Rc<WasmFactory>,
    streams: HashMap<u64, RemoteStream>,
    woken: Rc<Woken>,
}

/// The plugin's side of one stream.
struct RemoteStream {
    /// `None` if the plugin could not run when the stream began.
    stream: Option<HttpStream>,
    host: Rc<RemoteHost>,
    back: Back,
}

/// Runs the plugin until no worker needs it any more.
pub(super) fn run(
    spec: Arc<PluginSpec>,
    shared: (Arc<ProxyConfig>, Arc<Upstreams>),
    host: Arc<Host>,
    jobs: UnboundedReceiver<Job>,
) {
    let name = spec.resource.to_string();
    let run = || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Nobody asks for the counters of streams here: the workers count them.
        let (config, upstreams) = &shared;
        let metrics = Arc::new(WorkerMetrics::default());
        let surroundings = surroundings(config, upstreams, usize::MAX, metrics)?;
        let plugins = PluginHome::new(host, shared, surroundings, NAME.to_owned());
        LocalSet::new().block_on(&runtime, async move {
            let factory = WasmFactory::start(spec, Rc::clone(&plugins));
            let (streams, woken) = (HashMap::new(), Rc::default());
            Home { plugins, factory, streams, woken }.serve(jobs).await;
        });
        Ok(())
    };
    if let Err(error) = run() {
        tracing::error!(plugin.name = name, error = %error, "the thread of a plugin ended");
    }
}

/// A call that the plugin did not answer.
struct Unserved {
    /// `None` if it was not even called.
    failure: Option<Failure>,
    given_back: [Content; 2],
}

// === impl Unserved ===

impl Unserved {
    /// The plugin does not run.
    fn before(side: Side, content: Content) -> Box<Self> {
        let given_back = match side {
            Side::Request => [content, none()],
            Side::Response => [none(), content],
        };
        Box::new(Self { failure: None, given_back })
    }

    /// The plugin died.
    fn by(failure: Failure) -> Box<Self> {
        Box::new(Self { failure: Some(failure), given_back: [none(), none()] })
    }
}

// === impl Home ===

impl Home {
    async fn serve(mut self, mut jobs: UnboundedReceiver<Job>) {
        let woken = Rc::clone(&self.woken);
        let mut endpoints_changed = self.plugins.upstreams.changes();
        self.plugins.clusters.refresh();
        let mut sweep = tokio::time::interval(SWEEP_PERIOD);
        loop {
            tokio::select! {
                // Cancel-safe: nothing is taken that is not handled.
                job = jobs.recv() => match job {
                    Some(job) => self.handle(job),
                    None => break,
                },
                // Cancel-safe: the list stays.
                () = woken.notify.notified() => {}
                // Cancel-safe.
                _ = sweep.tick() => {
                    self.plugins.sweep(tokio::time::Instant::now());
                    self.plugins.clusters.sweep();
                }
                // Cancel-safe: only looks at a value.
                Ok(()) = endpoints_changed.changed() => self.plugins.clusters.refresh(),
            }
            self.look_at_woken();
        }
        let Self { plugins, factory, streams, .. } = self;
        drop(streams);
        drop(factory);
        // A plugin may ask for time at its end.
        while plugins.has_retired() {
            tokio::time::sleep(SWEEP_PERIOD).await;
            plugins.sweep(tokio::time::Instant::now());
        }
    }

    fn handle(&mut self, job: Job) {
        match job.event {
            Event::Open(back) => self.open(job.stream, back),
            Event::Headers(asked, headers, end) => {
                self.call(job.stream, asked, |entry, side| entry.show_headers(side, headers, end));
            }
            Event::Body(asked, body, end) => {
                self.factory.costs().count_body(asked.side, body.len());
                self.call(job.stream, asked, |entry, side| entry.show_body(side, body, end));
            }
            Event::Trailers(asked, trailers) => {
                self.call(job.stream, asked, |entry, side| entry.show_trailers(side, trailers));
            }
            Event::Log(fields, facts) => {
                if let Some(RemoteStream { stream: Some(stream), host, .. }) =
                    self.streams.get_mut(&job.stream)
                {
                    host.learn(*facts);
                    stream.on_log(*fields);
                }
            }
            Event::Finish => self.finish(job.stream),
            Event::Retire => self.factory.retire_vm(),
        }
    }

    fn open(&mut self, number: u64, back: Back) {
        let surroundings = Rc::clone(&self.plugins.surroundings);
        let host = Rc::new(RemoteHost::new(number, surroundings, Rc::clone(&self.woken)));
        let stream = self.factory.open_stream(Rc::clone(&host) as Rc<dyn StreamHost>);
        self.streams.insert(number, RemoteStream { stream, host, back });
    }

    fn finish(&mut self, number: u64) {
        let Some(entry) = self.streams.remove(&number) else { return };
        if let Some(stream) = entry.stream {
            let was_alive = stream.failure().is_none();
            stream.finish();
            if was_alive {
                self.factory.stream_finished();
            }
        }
    }

    /// Calls the plugin and tells the worker what came of it.
    fn call(
        &mut self,
        stream: u64,
        asked: Asked,
        call: impl FnOnce(&mut RemoteStream, Side) -> Result<Verdict, Box<Unserved>>,
    ) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        let Asked { side, number, facts } = asked;
        entry.host.learn(*facts);
        let mut news = match call(entry, side) {
            Ok(verdict) => entry.news(Some((side, number, verdict))),
            Err(unserved) => {
                let Unserved { failure, given_back } = *unserved;
                if let Some(failure) = failure {
                    self.factory.stream_failed(&failure);
                }
                // What is asked for is told to be continued; the worker looks at the failure.
                let verdict = Some((side, number, Verdict::Headers(HeadersAction::Continue)));
                let let_go = entry.stream.as_mut().map(let_all_go).unwrap_or_default();
                News { verdict, let_go: given_back, ..entry.failed_news() }.with(let_go)
            }
        };
        news.effects = entry.host.take_effects();
        entry.back.send(news);
    }

    /// Tells workers what plugins asked for outside the callbacks of a stream.
    fn look_at_woken(&mut self) {
        let woken = std::mem::take(&mut *self.woken.streams.borrow_mut());
        for number in woken {
            let Some(entry) = self.streams.get_mut(&number) else { continue };
            let mut news = if entry.stream.as_ref().is_some_and(|of| of.failure().is_some()) {
                let let_go = entry.stream.as_mut().map(let_all_go).unwrap_or_default();
                entry.failed_news().with(let_go)
            } else {
                entry.news(None)
            };
            news.effects = entry.host.take_effects();
            entry.back.send(news);
        }
    }
}

// === impl RemoteStream ===

impl RemoteStream {
    fn show_headers(
        &mut self,
        side: Side,
        headers: Fields,
        end: bool,
    ) -> Result<Verdict, Box<Unserved>> {
        let Some(stream) = &mut self.stream else {
            return Err(Unserved::before(side, Content { headers: Some(headers), ..none() }));
        };
        let result = match side {
            Side::Request => stream.on_request_headers(headers, end, false),
            Side::Response => stream.on_response_headers(headers, end, false),
        };
        result.map(Verdict::Headers).map_err(Unserved::by)
    }

    /// What the plugin kept, it is shown again together with what is new.
    fn show_body(
        &mut self,
        side: Side,
        body: BodyBuffer,
        end: bool,
    ) -> Result<Verdict, Box<Unserved>> {
        let Some(stream) = &mut self.stream else {
            return Err(Unserved::before(side, Content { body, ..none() }));
        };
        let mut shown = release_body(stream, side);
        shown.append(body);
        let result = match side {
            Side::Request => stream.on_request_body(shown, end),
            Side::Response => stream.on_response_body(shown, end),
        };
        result.map(Verdict::Body).map_err(Unserved::by)
    }

    fn show_trailers(&mut self, side: Side, trailers: Fields) -> Result<Verdict, Box<Unserved>> {
        let Some(stream) = &mut self.stream else {
            return Err(Unserved::before(side, Content { trailers: Some(trailers), ..none() }));
        };
        let result = match side {
            Side::Request => stream.on_request_trailers(trailers),
            Side::Response => stream.on_response_trailers(trailers),
        };
        result.map(Verdict::Trailers).map_err(Unserved::by)
    }

    /// What a call, or something outside of all calls, left behind.
    fn news(&mut self, verdict: Option<(Side, u32, Verdict)>) -> News {
        let Some(stream) = &mut self.stream else { return News::default() };
        let actions = stream.take_actions();
        let resumes = |side: Side| match side {
            Side::Request => actions.continue_request,
            Side::Response => actions.continue_response,
        };
        let mut let_go = [none(), none()];
        for (side, content) in [Side::Request, Side::Response].into_iter().zip(&mut let_go) {
            match verdict {
                // In a call of one direction the other one stays as it is.
                Some((asked, _, _)) if asked != side => {}
                Some(_) | None if resumes(side) => *content = let_side_go(stream, side),
                Some((_, _, verdict)) => *content = let_go_by(stream, side, verdict),
                None => {}
            }
        }
        News {
            verdict,
            let_go,
            actions,
            has_failed: false,
            held_body: [stream.request_body_len(), stream.response_body_len()],
            effects: Vec::new(),
            time_spent: stream.time_spent(),
        }
    }

    fn failed_news(&self) -> News {
        let time_spent = self.stream.as_ref().map(HttpStream::time_spent).unwrap_or_default();
        News { has_failed: true, time_spent, ..News::default() }
    }
}

// === impl News ===

impl News {
    fn with(mut self, let_go: [Content; 2]) -> Self {
        for (content, more) in self.let_go.iter_mut().zip(let_go) {
            content.append(more);
        }
        self
    }
}

/// What a plugin lets go by what it says to a call.
fn let_go_by(stream: &mut HttpStream, side: Side, verdict: Verdict) -> Content {
    let mut content = Content::default();
    match verdict {
        Verdict::Headers(HeadersAction::Continue) => {
            content.headers = release_headers(stream, side);
        }
        Verdict::Body(DataAction::Continue) => {
            content.body = release_body(stream, side);
            // Those that the plugin has just made.
            content.trailers = release_trailers(stream, side);
        }
        Verdict::Body(DataAction::StopIterationAndWatermark) => {
            content.body = release_body(stream, side);
        }
        Verdict::Body(DataAction::StopIterationNoBuffer) => {
            release_body(stream, side);
        }
        Verdict::Trailers(TrailersAction::Continue) => {
            content.body = release_body(stream, side);
            content.trailers = release_trailers(stream, side);
        }
        Verdict::Headers(_) | Verdict::Body(_) | Verdict::Trailers(_) => {}
    }
    content
}

fn let_side_go(stream: &mut HttpStream, side: Side) -> Content {
    let headers = release_headers(stream, side);
    let body = release_body(stream, side);
    Content { headers, body, trailers: release_trailers(stream, side) }
}

fn let_all_go(stream: &mut HttpStream) -> [Content; 2] {
    [let_side_go(stream, Side::Request), let_side_go(stream, Side::Response)]
}

fn none() -> Content {
    Content::default()
}

fn release_headers(stream: &mut HttpStream, side: Side) -> Option<Fields> {
    match side {
        Side::Request => stream.release_request_headers(),
        Side::Response => stream.release_response_headers(),
    }
}

fn release_body(stream: &mut HttpStream, side: Side) -> BodyBuffer {
    let body = match side {
        Side::Request => stream.release_request_body(),
        Side::Response => stream.release_response_body(),
    };
    body.unwrap_or_default()
}

fn release_trailers(stream: &mut HttpStream, side: Side) -> Option<Fields> {
    match side {
        Side::Request => stream.release_request_trailers(),
        Side::Response => stream.release_response_trailers(),
    }
}
