// A tour of what a Proxy-Wasm plugin can do; plugins/README.md says what it does with which
// request.

import {
  Buffer, HeaderMap, LogLevel, Metric, MetricType, Status, addHeader, bufferBytes, header, log,
  removeHeader, resumeRequest, sendLocalResponse, setBufferBytes, setEffectiveContext, setHeader,
  setTickPeriod,
} from "./hostcalls";
import { Action, Plugin, Stream, setPlugin } from "./proxywasm";
import { Settings, isPlain, printable } from "./settings";
import { countVisit } from "./visits";

// The host calls what the module exports.
export {
  proxy_abi_version_0_2_1, proxy_on_configure, proxy_on_context_create, proxy_on_delete,
  proxy_on_done, proxy_on_http_call_response, proxy_on_log, proxy_on_memory_allocate,
  proxy_on_request_body, proxy_on_request_headers, proxy_on_request_trailers,
  proxy_on_response_body, proxy_on_response_headers, proxy_on_response_trailers, proxy_on_tick,
  proxy_on_vm_start,
} from "./proxywasm";

/** Longest time that the answer of the cluster may take, in milliseconds. */
const CALL_TIMEOUT: u32 = 5000;
/** Most bytes of the cluster's answer that become the body of a refusal. */
const MAX_REASON_BYTES: u32 = 1024;

setPlugin(() => new Tour());

/** The plugin context. */
class Tour extends Plugin {
  settings: Settings = new Settings();
  requests: Metric = new Metric(MetricType.Counter, "tour_requests");
  streams: Metric = new Metric(MetricType.Gauge, "tour_streams");
  bodyBytes: Metric = new Metric(MetricType.Histogram, "tour_body_bytes");
  /** Ids of the streams that wait for the next tick. */
  held: Set<u32> = new Set<u32>();

  onConfigure(configuration: string): bool {
    const settings = Settings.parse(configuration);
    if (settings.refusal != "") {
      log(LogLevel.Error, `configuration refused: ${settings.refusal}`);
      return false;
    }
    setTickPeriod(settings.period);
    log(LogLevel.Info, `asks \`${settings.cluster}\`, greets with \`${settings.greeting}\``);
    this.settings = settings;
    return true;
  }

  newStream(contextId: u32): Stream {
    return new TourStream(contextId, this);
  }

  /** Lets go the requests that wait for it. */
  onTick(): void {
    const held = this.held.values();
    this.held.clear();
    for (let i = 0; i < held.length; i++) {
      if (setEffectiveContext(held[i])) resumeRequest();
    }
  }
}

/** The stream context. */
class TourStream extends Stream {
  private method: string = "";
  private path: string = "";
  /** `-` until there is a response. */
  private status: string = "-";
  /** Whether the request was counted, which it is not if it never came here. */
  private isCounted: bool = false;
  private isResponseText: bool = false;
  /** Bytes of a body that is held. */
  private bodySize: u32 = 0;

  constructor(contextId: u32, private readonly tour: Tour) {
    super(contextId);
  }

  onRequestHeaders(endOfStream: bool): Action {
    this.countIn();
    const path = orEmpty(header(HeaderMap.Request, ":path"));
    this.path = printable(path);
    this.method = printable(orEmpty(header(HeaderMap.Request, ":method")));
    // Only the cluster says who the user is.
    removeHeader(HeaderMap.Request, "x-tour-user");
    if (!endOfStream) {
      // The length will be that of the changed body.
      removeHeader(HeaderMap.Request, "content-length");
    }
    if (!isPlain(path)) {
      reply(400, utf8Bytes("bad path\n"));
      return Action.Pause;
    }
    if (path.startsWith("/ask/")) return this.ask();
    if (path.startsWith("/wait/")) return this.hold();
    return Action.Continue;
  }

  private countIn(): void {
    this.isCounted = true;
    this.tour.requests.increment(1);
    this.tour.streams.increment(1);
  }

  /** Asks the cluster about the request, which waits for the answer. */
  private ask(): Action {
    const settings = this.tour.settings;
    const headers: string[][] = [
      [":method", "GET"],
      [":path", this.path],
      [":authority", settings.authority],
      ["x-tour-method", this.method],
    ];
    log(LogLevel.Info, `${this.path}: asking \`${settings.cluster}\``);
    const call = this.call(settings.cluster, headers, CALL_TIMEOUT);
    if (call.status != Status.OK) {
      log(LogLevel.Error, `${this.path}: not asked, status ${call.status}`);
      reply(503, utf8Bytes("not asked\n"));
    }
    return Action.Pause;
  }

  onHttpCallResponse(headers: u32): void {
    const status = headers > 0 ? orEmpty(header(HeaderMap.CallResponse, ":status")) : "";
    if (status == "200") {
      log(LogLevel.Info, `${this.path}: allowed`);
      const user = header(HeaderMap.CallResponse, "x-user");
      if (user !== null) setHeader(HeaderMap.Request, "x-tour-user", user);
      resumeRequest();
    } else if (status.startsWith("4")) {
      log(LogLevel.Info, `${this.path}: refused with ${printable(status)}`);
      reply(403, bufferBytes(Buffer.CallResponseBody, 0, MAX_REASON_BYTES));
    } else {
      log(LogLevel.Info, `${this.path}: no answer`);
      reply(503, utf8Bytes("no answer\n"));
    }
  }

  private hold(): Action {
    log(LogLevel.Info, `${this.path}: held`);
    this.tour.held.add(this.contextId);
    return Action.Pause;
  }

  onRequestBody(size: u32, endOfStream: bool): Action {
    // While the body is held, this is the size of all that has come.
    this.bodySize = size;
    if (!endOfStream) return Action.Pause;
    this.changeRequestBody();
    return Action.Continue;
  }

  /** Runs after a body that has ended without saying so. */
  onRequestTrailers(): Action {
    if (this.bodySize > 0) this.changeRequestBody();
    return Action.Continue;
  }

  /** Changes the request's body, which is complete. */
  private changeRequestBody(): void {
    this.recordBody("request");
    const body = bufferBytes(Buffer.RequestBody, 0, this.bodySize);
    for (let i = 0; i < body.length; i++) {
      const byte: i32 = body[i];
      if (0x61 <= byte && byte <= 0x7a) body[i] = <u8>(byte - 0x20);
    }
    setBufferBytes(Buffer.RequestBody, 0, this.bodySize, body);
  }

  private recordBody(side: string): void {
    log(LogLevel.Debug, `${this.path}: ${side} body of ${this.bodySize} bytes`);
    this.tour.bodyBytes.record(this.bodySize);
  }

  /** Runs for the cluster's responses and for the plugin's own replies alike. */
  onResponseHeaders(endOfStream: bool): Action {
    this.status = printable(orEmpty(header(HeaderMap.Response, ":status")));
    this.bodySize = 0;
    addHeader(HeaderMap.Response, "x-tour", "assemblyscript");
    addHeader(HeaderMap.Response, "x-tour-greeting", this.tour.settings.greeting);
    const count = countVisit();
    if (count > 0) {
      addHeader(HeaderMap.Response, "x-tour-count", count.toString());
    } else {
      log(LogLevel.Error, `${this.path}: not counted`);
    }
    const contentType = orEmpty(header(HeaderMap.Response, "content-type"));
    this.isResponseText = !endOfStream && contentType.startsWith("text/plain");
    if (this.isResponseText) removeHeader(HeaderMap.Response, "content-length");
    return Action.Continue;
  }

  onResponseBody(size: u32, endOfStream: bool): Action {
    if (!this.isResponseText) return Action.Continue;
    this.bodySize = size;
    if (!endOfStream) return Action.Pause;
    this.changeResponseBody();
    return Action.Continue;
  }

  onResponseTrailers(): Action {
    if (this.isResponseText && this.bodySize > 0) this.changeResponseBody();
    return Action.Continue;
  }

  /** Changes the response's body, which is complete. */
  private changeResponseBody(): void {
    this.recordBody("response");
    const line = utf8Bytes(`tour: ${this.bodySize} bytes\n`);
    setBufferBytes(Buffer.ResponseBody, this.bodySize, 0, line);
  }

  onLog(): void {
    // A request that was answered in front of this plugin has a log callback, too.
    if (!this.isCounted) return;
    this.tour.streams.increment(-1);
    this.tour.held.delete(this.contextId);
    log(LogLevel.Info, `${this.method} ${this.path} ${this.status}`);
  }
}

function reply(status: u32, body: Uint8Array): void {
  sendLocalResponse(status, [["content-type", "text/plain"]], body);
}

function orEmpty(text: string | null): string {
  return text !== null ? text : "";
}

function utf8Bytes(text: string): Uint8Array {
  return Uint8Array.wrap(String.UTF8.encode(text));
}
