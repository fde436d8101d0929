// Contexts, and the callbacks that the host calls on them.

import {
  Buffer, Call, LogLevel, Status, bufferBytes, httpCall, log, setEffectiveContext, text,
} from "./hostcalls";

/** What becomes of the stream after a callback. */
export const enum Action {
  Continue = 0,
  Pause = 1,
}

/** A plugin context: one for each plugin configuration in the VM. */
export abstract class Plugin {
  /** Receives the plugin configuration. False refuses it. */
  abstract onConfigure(configuration: string): bool;
  /** Makes the context of one request. */
  abstract newStream(contextId: u32): Stream;
  /** Runs once in each period of `setTickPeriod`. */
  onTick(): void {}
}

/** A stream context: one for each request. */
export abstract class Stream {
  constructor(readonly contextId: u32) {}

  onRequestHeaders(endOfStream: bool): Action { return Action.Continue; }
  /** Hears the size of this chunk, or of all that has come while the body is held. */
  onRequestBody(size: u32, endOfStream: bool): Action { return Action.Continue; }
  onRequestTrailers(): Action { return Action.Continue; }
  onResponseHeaders(endOfStream: bool): Action { return Action.Continue; }
  onResponseBody(size: u32, endOfStream: bool): Action { return Action.Continue; }
  onResponseTrailers(): Action { return Action.Continue; }
  /** Runs when a call of this stream has its answer; without headers, there is none. */
  onHttpCallResponse(headers: u32): void {}
  /** The last callback of the stream. */
  onLog(): void {}

  /** Sends a request to a cluster; `onHttpCallResponse` hears of the answer. */
  call(cluster: string, headers: string[][], timeout: u32): Call {
    const call = httpCall(cluster, headers, timeout);
    if (call.status == Status.OK) {
      calls.set(call.token, this);
    }
    return call;
  }
}

let newPlugin: (() => Plugin) | null = null;
const plugins = new Map<u32, Plugin>();
const streams = new Map<u32, Stream>();
/** Who waits for the answer of which call. */
const calls = new Map<u32, Stream>();

/** Registers what makes a plugin context. */
export function setPlugin(create: () => Plugin): void {
  newPlugin = create;
}

/** What the compiler calls where other languages throw; it says why before the VM ends. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  log(LogLevel.Error, `${message ? message : "abort"} at ${file ? file : "?"}:${line}:${column}`);
  unreachable();
}

export function proxy_abi_version_0_2_1(): void {}

export function proxy_on_memory_allocate(size: usize): usize {
  // Apart from the garbage collector, until the plugin has taken what the host wrote.
  return heap.alloc(size);
}

export function proxy_on_context_create(contextId: u32, parentContextId: u32): void {
  if (parentContextId == 0) {
    plugins.set(contextId, newPlugin!());
  } else if (plugins.has(parentContextId)) {
    streams.set(contextId, plugins.get(parentContextId).newStream(contextId));
  }
}

export function proxy_on_vm_start(contextId: u32, configurationSize: u32): bool {
  return true;
}

export function proxy_on_configure(contextId: u32, configurationSize: u32): bool {
  if (!plugins.has(contextId)) return false;
  let configuration = "";
  if (configurationSize > 0) {
    configuration = text(bufferBytes(Buffer.PluginConfiguration, 0, configurationSize));
  }
  return plugins.get(contextId).onConfigure(configuration);
}

export function proxy_on_tick(contextId: u32): void {
  if (plugins.has(contextId)) plugins.get(contextId).onTick();
}

export function proxy_on_http_call_response(
  contextId: u32, token: u32, headers: u32, bodySize: u32, trailers: u32,
): void {
  if (!calls.has(token)) return;
  const stream = calls.get(token);
  calls.delete(token);
  // A stream that has ended meanwhile is no longer known, and nobody waits for the answer.
  if (setEffectiveContext(stream.contextId)) stream.onHttpCallResponse(headers);
}

export function proxy_on_request_headers(contextId: u32, headers: u32, endOfStream: bool): Action {
  if (!streams.has(contextId)) return Action.Continue;
  return streams.get(contextId).onRequestHeaders(endOfStream);
}

export function proxy_on_request_body(contextId: u32, size: u32, endOfStream: bool): Action {
  if (!streams.has(contextId)) return Action.Continue;
  return streams.get(contextId).onRequestBody(size, endOfStream);
}

export function proxy_on_request_trailers(contextId: u32, trailers: u32): Action {
  if (!streams.has(contextId)) return Action.Continue;
  return streams.get(contextId).onRequestTrailers();
}

export function proxy_on_response_headers(contextId: u32, headers: u32, endOfStream: bool): Action {
  if (!streams.has(contextId)) return Action.Continue;
  return streams.get(contextId).onResponseHeaders(endOfStream);
}

export function proxy_on_response_body(contextId: u32, size: u32, endOfStream: bool): Action {
  if (!streams.has(contextId)) return Action.Continue;
  return streams.get(contextId).onResponseBody(size, endOfStream);
}

export function proxy_on_response_trailers(contextId: u32, trailers: u32): Action {
  if (!streams.has(contextId)) return Action.Continue;
  return streams.get(contextId).onResponseTrailers();
}

export function proxy_on_log(contextId: u32): void {
  if (streams.has(contextId)) streams.get(contextId).onLog();
}

export function proxy_on_done(contextId: u32): bool {
  return true;
}

export function proxy_on_delete(contextId: u32): void {
  plugins.delete(contextId);
  streams.delete(contextId);
}
