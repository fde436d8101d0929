//! One request: what it asks of plugins and upstream, and which answers are right.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use fastrand::Rng;

use crate::guests::{Fault, Kind, Place};
use crate::upstream::{Behaviour, answer_number, pattern};
use crate::wire::{Answer, Broken};

/// Of a thousand requests of a storm, how many kill a VM, flood, and hang in a plugin or upstream.
const DEADLY: u32 = 25;
const FLOODING: u32 = 20;
const HANGING: u32 = 3;
/// Of a thousand requests, how many meet a bad upstream.
const BAD_UPSTREAM: u32 = 60;
/// Longest bodies.
const USUAL_BYTES: usize = 4000;
const LARGE_BYTES: usize = 300_000;
/// What an upstream that lies sends in one piece with its lie: read apart, the lie would come too
/// late for anybody to notice.
const LYING_BYTES: usize = 1000;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    /// What the plugin `gate` does, which fails closed.
    pub(crate) gate: Option<Fault>,
    /// What the plugin `open` does, which fails open.
    pub(crate) open: Option<Fault>,
    pub(crate) behaviour: Behaviour,
    body: usize,
    answer: usize,
    is_chunked: bool,
    /// Whether the connection is closed behind it.
    pub(crate) closes: bool,
}

/// What else was going on while a request was under way.
pub(crate) struct Surroundings {
    /// Numbers of the configurations that may have answered.
    pub(crate) configurations: RangeInclusive<u64>,
    /// Whether the VM of the plugin that fails closed may have died, and of the one that fails open.
    pub(crate) may_gate_die: bool,
    pub(crate) may_open_die: bool,
}

/// What came of a request, if it was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The whole right answer, and every plugin in effect.
    Right,
    /// What was asked for was broken, and broke as it should.
    AsBroken,
    /// Refused, or gone on without the plugin that fails open, because its VM died.
    Neighbour,
}

/// Ways in which a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Right,
    /// 503 without a body: a plugin that fails closed cannot run.
    Refused,
    /// Closed within the answer, or in place of it.
    Cut,
    /// 408 or 504.
    Idle,
    /// 502 or 503 with a text that says why.
    NoUpstream,
}

// === impl Ask ===

impl Ask {
    /// Nothing is broken but perhaps the upstream.
    pub(crate) fn calm(id: u64, rng: &mut Rng) -> Self {
        let behaviour = if rng.u32(0..1000) < BAD_UPSTREAM {
            Behaviour::BAD[rng.usize(0..Behaviour::BAD.len())]
        } else {
            Behaviour::GOOD[rng.usize(0..Behaviour::GOOD.len())]
        };
        let most = match behaviour {
            Behaviour::Long | Behaviour::Unwanted => LYING_BYTES,
            _ if rng.u32(0..40) == 0 => LARGE_BYTES,
            _ => USUAL_BYTES,
        };
        let (has_body, is_chunked) = (rng.bool(), rng.bool());
        let body = if has_body { rng.usize(1..most.max(2)) } else { 0 };
        let gate = match rng.u32(0..10) {
            0 => Some(Fault { place: Place::CallResponse, kind: Kind::Call }),
            1 => Some(Fault { place: Place::RequestBody, kind: Kind::Buffer }),
            2 => Some(Fault { place: Place::ResponseBody, kind: Kind::Buffer }),
            _ => None,
        };
        let (answer, is_chunked) = (rng.usize(0..most), has_body && is_chunked);
        let closes = rng.u32(0..30) == 0;
        Self { id, gate, open: None, behaviour, body, answer, is_chunked, closes }
    }

    /// Anything may be broken.
    pub(crate) fn stormy(id: u64, rng: &mut Rng) -> Self {
        let ask = Self::calm(id, rng);
        let place = Place::ALL[rng.usize(0..Place::ALL.len())];
        let chance = rng.u32(0..1000);
        let kind = if chance < DEADLY {
            Kind::FATAL[rng.usize(0..Kind::FATAL.len())]
        } else if chance < DEADLY + FLOODING {
            Kind::FLOODS[rng.usize(0..Kind::FLOODS.len())]
        } else if chance < DEADLY + FLOODING + HANGING {
            return ask.hanging(place, rng);
        } else {
            return ask;
        };
        let is_held = matches!(place, Place::Tick | Place::CallResponse | Place::Queue);
        if is_held && !kind.is_fatal() {
            return ask;
        }
        ask.break_at(Fault { place, kind }, rng)
    }

    fn hanging(self, place: Place, rng: &mut Rng) -> Self {
        match place {
            // Nothing to hold there.
            Place::Log | Place::Done | Place::Delete => {
                Self { gate: None, behaviour: Behaviour::Hang, ..self }
            }
            Place::Tick | Place::CallResponse | Place::Queue => {
                self.break_at(Fault { place: Place::RequestHeaders, kind: Kind::Hang }, rng)
            }
            _ => self.break_at(Fault { place, kind: Kind::Hang }, rng),
        }
    }

    /// A message that has everything in which a plugin may break.
    fn break_at(self, fault: Fault, rng: &mut Rng) -> Self {
        let in_gate = rng.bool();
        let fault = Some(fault);
        Self {
            gate: fault.filter(|_| in_gate),
            open: fault.filter(|_| !in_gate),
            behaviour: Behaviour::Trailers,
            body: self.body.max(1),
            answer: self.answer.max(1),
            is_chunked: true,
            closes: true,
            ..self
        }
    }

    /// The simplest one.
    pub(crate) fn plain(id: u64) -> Self {
        Self::calm(id, &mut Rng::with_seed(id)).simple()
    }

    /// The same with an answer that is good and leaves the connection open.
    pub(crate) fn on_a_good_upstream(self) -> Self {
        let is_bad = Behaviour::BAD.contains(&self.behaviour);
        let behaviour = if is_bad { Behaviour::Chunked } else { self.behaviour };
        Self { behaviour, closes: false, ..self }
    }

    /// Short, with a good answer, without anything special.
    fn simple(self) -> Self {
        let behaviour = Behaviour::Plain;
        Self {
            gate: None,
            open: None,
            behaviour,
            body: 0,
            is_chunked: false,
            closes: false,
            ..self
        }
    }

    /// What breaks, in words.
    pub(crate) fn what_is_broken(&self) -> Option<String> {
        match (self.gate, self.open) {
            (Some(fault), _) => Some(format!("gate {:?} in {:?}", fault.kind, fault.place)),
            (_, Some(fault)) => Some(format!("open {:?} in {:?}", fault.kind, fault.place)),
            _ if Behaviour::GOOD.contains(&self.behaviour) => None,
            _ => Some(format!("upstream {:?}", self.behaviour)),
        }
    }

    /// Whether a plugin, or the upstream, will not end it by itself.
    pub(crate) fn hangs(&self) -> bool {
        let hangs = |fault: Option<Fault>| fault.is_some_and(|fault| fault.kind == Kind::Hang);
        self.behaviour == Behaviour::Hang
            || hangs(self.gate)
            || hangs(self.open)
            || self.waits_for_a_queue()
    }

    /// The item may reach the VM of another worker.
    fn waits_for_a_queue(&self) -> bool {
        [self.gate, self.open].iter().flatten().any(|fault| fault.place == Place::Queue)
    }

    /// Whether it kills the VM of `gate`, and of `open`.
    pub(crate) fn kills(&self) -> [bool; 2] {
        [self.gate, self.open].map(|fault| fault.is_some_and(|fault| fault.kind.is_fatal()))
    }

    /// As the client writes it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let method = if self.body == 0 { "GET" } else { "POST" };
        let mut head = format!(
            "{method} /r HTTP/1.1\r\nhost: chaos\r\nx-id: {:08x}\r\nx-length: {}\r\nx-answer: {}\r\n\
             x-behaviour: {}\r\n",
            self.id,
            self.body,
            self.answer,
            self.behaviour.name()
        );
        for (name, fault) in [("gate", self.gate), ("open", self.open)] {
            if let Some(fault) = fault {
                let _ = write!(head, "x-{name}-fault: {}\r\n", fault.letters());
            }
        }
        if self.closes {
            head.push_str("connection: close\r\n");
        }
        let body = pattern(self.id, self.body);
        if self.is_chunked {
            let mut bytes = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
            for chunk in body.chunks(2500) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\nx-end: 1\r\n\r\n");
            return bytes;
        }
        if self.body > 0 {
            let _ = write!(head, "content-length: {}\r\n", self.body);
        }
        [format!("{head}\r\n").into_bytes(), body].concat()
    }

    /// How it may end if it shares nothing with a dying neighbour.
    fn ends(&self) -> Vec<End> {
        let usual = match self.behaviour {
            Behaviour::Short | Behaviour::HalfChunk => vec![End::Cut, End::NoUpstream],
            Behaviour::Close | Behaviour::Reset | Behaviour::Garbage | Behaviour::TwoLengths => {
                vec![End::NoUpstream]
            }
            Behaviour::Hang => vec![End::Idle],
            _ => vec![End::Right],
        };
        let is_late = |place: Place| matches!(place, Place::ResponseBody | Place::ResponseTrailers);
        match (self.gate, self.open) {
            (Some(fault), _) if fault.kind == Kind::Hang && is_late(fault.place) => {
                vec![End::Idle, End::Cut]
            }
            (Some(fault), _) if fault.kind == Kind::Hang => vec![End::Idle],
            (Some(fault), _) if !fault.kind.is_fatal() || fault.place.is_after_the_answer() => {
                usual
            }
            (Some(fault), _) if is_late(fault.place) => vec![End::Refused, End::Cut],
            (Some(fault), _) if fault.place == Place::Queue => vec![End::Refused, End::Idle],
            (Some(_), _) => vec![End::Refused],
            // If its VM dies meanwhile, it goes on.
            (None, Some(fault)) if fault.kind == Kind::Hang => {
                vec![End::Idle, End::Cut, End::Right]
            }
            (None, Some(fault)) if fault.place == Place::Queue => vec![End::Idle, End::Right],
            (None, _) => usual,
        }
    }

    /// Judges what came of it.
    pub(crate) fn judge(
        &self,
        outcome: &Result<Answer, Broken>,
        around: &Surroundings,
    ) -> Result<Verdict, String> {
        let is_open_optional = around.may_open_die || self.kills()[1];
        let (end, is_whole) = match outcome {
            Ok(answer) => self.end_of(answer, around, is_open_optional),
            Err(Broken::Closed | Broken::Cut) => Ok((End::Cut, true)),
            Err(other) => Err(format!("{other:?}")),
        }
        .map_err(|wrong| format!("{wrong}\n  asked: {self:?}\n  got: {}", shown(outcome)))?;
        let is_expected = self.ends().contains(&end);
        let is_neighbour = around.may_gate_die && matches!(end, End::Refused | End::Cut);
        match (is_expected, end) {
            (true, End::Right) if is_whole => Ok(Verdict::Right),
            (true, End::Right) if self.kills()[1] => Ok(Verdict::AsBroken),
            (true, End::Right) => Ok(Verdict::Neighbour),
            (true, _) => Ok(Verdict::AsBroken),
            (false, _) if is_neighbour => Ok(Verdict::Neighbour),
            _ => Err(format!(
                "ended as {end:?}, expected one of {:?}\n  asked: {self:?}\n  got: {}",
                self.ends(),
                shown(outcome)
            )),
        }
    }

    /// How it ended, and whether every plugin was in effect.
    fn end_of(
        &self,
        answer: &Answer,
        around: &Surroundings,
        is_open_optional: bool,
    ) -> Result<(End, bool), String> {
        match (answer.status, answer.body.as_slice()) {
            (200 | 204, _) => {
                let is_whole = self.check(answer, around, is_open_optional)?;
                Ok((End::Right, is_whole))
            }
            (503, []) => Ok((End::Refused, true)),
            (408 | 504, _) => Ok((End::Idle, true)),
            (502 | 503, text) if text.starts_with(b"upstream connect error") => {
                Ok((End::NoUpstream, true))
            }
            _ => Err("an answer that nobody should get".to_owned()),
        }
    }

    fn check(
        &self,
        answer: &Answer,
        around: &Surroundings,
        is_open_optional: bool,
    ) -> Result<bool, String> {
        let is_empty = self.behaviour == Behaviour::Unwanted;
        let expected =
            if is_empty { Vec::new() } else { pattern(answer_number(self.id), self.answer) };
        let id = format!("{:08x}", self.id);
        let is = |name: &str, expected: &str| match answer.header(name) {
            Some(value) if value == expected => Ok(()),
            other => Err(format!("`{name}` is {other:?} and not {expected}")),
        };
        is("x-id", &id)?;
        is("x-gate-id", &id)?;
        if answer.status != if is_empty { 204 } else { 200 } {
            return Err(format!("status {}", answer.status));
        }
        if answer.body != expected {
            return Err(format!("{} bytes of {}", answer.body.len(), expected.len()));
        }
        number_in(answer.header("x-saw-gate"), &around.configurations)?;
        let open = answer.header("x-saw-open");
        if is_open_optional && (open == Some("-") || answer.header("x-open-id").is_none()) {
            return Ok(false);
        }
        number_in(open, &around.configurations)?;
        is("x-open-id", &id)?;
        Ok(true)
    }
}

/// Whether a plugin's mark names one of these configurations.
fn number_in(mark: Option<&str>, configurations: &RangeInclusive<u64>) -> Result<(), String> {
    let number = mark.and_then(|mark| {
        let digits: String = mark.chars().filter(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    match number {
        Some(number) if configurations.contains(&number) => Ok(()),
        _ => Err(format!("the mark {mark:?} is of none of the configurations {configurations:?}")),
    }
}

fn shown(outcome: &Result<Answer, Broken>) -> String {
    match outcome {
        Ok(answer) => {
            let start: String = String::from_utf8_lossy(&answer.body).chars().take(80).collect();
            format!("{} {:?} {start:?}", answer.status, answer.interim)
        }
        Err(broken) => format!("{broken:?}"),
    }
}
