// The part of the Proxy-Wasm ABI that this plugin needs, with AssemblyScript's own types.
//
// A text from the wire is a string with one character for each byte (ISO 8859-1): not every header
// is UTF-8, and this way nothing is lost.
//
// Source: Proxy-Wasm ABI 0.2.1.

@external("env", "proxy_log")
declare function proxy_log(level: u32, message: usize, size: usize): u32;
@external("env", "proxy_set_tick_period_milliseconds")
declare function proxy_set_tick_period_milliseconds(period: u32): u32;
@external("env", "proxy_get_buffer_bytes")
declare function proxy_get_buffer_bytes(
  buffer: u32, start: u32, maxSize: u32, data: usize, size: usize): u32;
@external("env", "proxy_set_buffer_bytes")
declare function proxy_set_buffer_bytes(
  buffer: u32, start: u32, size: u32, data: usize, dataSize: usize): u32;
@external("env", "proxy_get_header_map_value")
declare function proxy_get_header_map_value(
  map: u32, name: usize, nameSize: usize, value: usize, valueSize: usize): u32;
@external("env", "proxy_add_header_map_value")
declare function proxy_add_header_map_value(
  map: u32, name: usize, nameSize: usize, value: usize, valueSize: usize): u32;
@external("env", "proxy_replace_header_map_value")
declare function proxy_replace_header_map_value(
  map: u32, name: usize, nameSize: usize, value: usize, valueSize: usize): u32;
@external("env", "proxy_remove_header_map_value")
declare function proxy_remove_header_map_value(map: u32, name: usize, nameSize: usize): u32;
@external("env", "proxy_send_local_response")
declare function proxy_send_local_response(
  statusCode: u32, details: usize, detailsSize: usize, body: usize, bodySize: usize,
  headers: usize, headersSize: usize, grpcStatus: i32): u32;
@external("env", "proxy_continue_stream")
declare function proxy_continue_stream(stream: u32): u32;
@external("env", "proxy_set_effective_context")
declare function proxy_set_effective_context(contextId: u32): u32;
@external("env", "proxy_http_call")
declare function proxy_http_call(
  cluster: usize, clusterSize: usize, headers: usize, headersSize: usize,
  body: usize, bodySize: usize, trailers: usize, trailersSize: usize,
  timeout: u32, token: usize): u32;
@external("env", "proxy_get_shared_data")
declare function proxy_get_shared_data(
  key: usize, keySize: usize, value: usize, valueSize: usize, cas: usize): u32;
@external("env", "proxy_set_shared_data")
declare function proxy_set_shared_data(
  key: usize, keySize: usize, value: usize, valueSize: usize, cas: u32): u32;
@external("env", "proxy_define_metric")
declare function proxy_define_metric(type: u32, name: usize, nameSize: usize, id: usize): u32;
@external("env", "proxy_increment_metric")
declare function proxy_increment_metric(id: u32, offset: i64): u32;
@external("env", "proxy_record_metric")
declare function proxy_record_metric(id: u32, value: u64): u32;

/** What a hostcall returned. */
export namespace Status {
  export const OK: u32 = 0;
}

/** Severity of a log line. */
export const enum LogLevel {
  Debug = 1,
  Info = 2,
  Error = 4,
}

/** A set of headers. */
export const enum HeaderMap {
  Request = 0,
  Response = 2,
  CallResponse = 6,
}

/** A run of bytes. */
export const enum Buffer {
  RequestBody = 0,
  ResponseBody = 1,
  CallResponseBody = 4,
  PluginConfiguration = 7,
}

/** What a metric does with its values. */
export const enum MetricType {
  Counter = 0,
  Gauge = 1,
  Histogram = 2,
}

/** Leaves the gRPC status of a local response to the host. */
const NO_GRPC_STATUS: i32 = -1;

/** Where hostcalls write their results: a pointer and a size, and one number more. */
const OUT = memory.data(12);

/** The bytes of a text. */
function bytes(text: string): ArrayBuffer {
  const buffer = new ArrayBuffer(text.length);
  for (let i = 0; i < text.length; i++) {
    store<u8>(changetype<usize>(buffer) + i, <u8>text.charCodeAt(i));
  }
  return buffer;
}

/** Takes what the host wrote to a block that it asked for; for an empty value it asks for none. */
function takeBytes(): Uint8Array {
  const address = load<usize>(OUT);
  const size = load<u32>(OUT, 4);
  const taken = new Uint8Array(size);
  if (size > 0) {
    memory.copy(taken.dataStart, address, size);
    heap.free(address);
  }
  return taken;
}

/** The text of these bytes. */
export function text(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i++) {
    text += String.fromCharCode(bytes[i]);
  }
  return text;
}

/**
 * Fields as the ABI lays them out: the number of pairs, the length of each name and value, then
 * each name and value with a zero byte behind it.
 */
function serialize(fields: string[][]): ArrayBuffer {
  let size = 4;
  for (let i = 0; i < fields.length; i++) {
    size += 10 + fields[i][0].length + fields[i][1].length;
  }
  const buffer = new ArrayBuffer(size);
  let at = changetype<usize>(buffer);
  store<u32>(at, fields.length);
  at += 4;
  for (let i = 0; i < fields.length; i++) {
    store<u32>(at, fields[i][0].length);
    store<u32>(at, fields[i][1].length, 4);
    at += 8;
  }
  for (let i = 0; i < fields.length; i++) {
    for (let part = 0; part < 2; part++) {
      const content = bytes(fields[i][part]);
      memory.copy(at, changetype<usize>(content), content.byteLength);
      // A new buffer holds zeros: the one behind each part is there.
      at += content.byteLength + 1;
    }
  }
  return buffer;
}

/** Logs a status that nothing in a correct plugin leads to. */
function check(hostcall: string, status: u32): bool {
  if (status != Status.OK) {
    log(LogLevel.Error, `${hostcall} returned status ${status}`);
  }
  return status == Status.OK;
}

/** Logs a message. */
export function log(level: LogLevel, message: string): void {
  const line = bytes(message);
  proxy_log(level, changetype<usize>(line), line.byteLength);
}

/** Asks for a tick in each of these periods; 0 ends them. */
export function setTickPeriod(milliseconds: u32): void {
  check("proxy_set_tick_period_milliseconds", proxy_set_tick_period_milliseconds(milliseconds));
}

/** At most `maxSize` bytes of a buffer. */
export function bufferBytes(buffer: Buffer, start: u32, maxSize: u32): Uint8Array {
  const status = proxy_get_buffer_bytes(buffer, start, maxSize, OUT, OUT + 4);
  return check("proxy_get_buffer_bytes", status) ? takeBytes() : new Uint8Array(0);
}

/** Replaces `size` bytes from the start of a buffer, or adds to its end if `start` is there. */
export function setBufferBytes(buffer: Buffer, start: u32, size: u32, data: Uint8Array): void {
  const status = proxy_set_buffer_bytes(buffer, start, size, data.dataStart, data.byteLength);
  check("proxy_set_buffer_bytes", status);
}

/** The first value of a header; `null` if there is none. */
export function header(map: HeaderMap, name: string): string | null {
  const key = bytes(name);
  const status =
    proxy_get_header_map_value(map, changetype<usize>(key), key.byteLength, OUT, OUT + 4);
  return status == Status.OK ? text(takeBytes()) : null;
}

/** Adds a header beside those of the same name. */
export function addHeader(map: HeaderMap, name: string, value: string): void {
  const key = bytes(name);
  const content = bytes(value);
  check("proxy_add_header_map_value", proxy_add_header_map_value(
    map, changetype<usize>(key), key.byteLength, changetype<usize>(content), content.byteLength));
}

/** Replaces all headers of the same name. */
export function setHeader(map: HeaderMap, name: string, value: string): void {
  const key = bytes(name);
  const content = bytes(value);
  check("proxy_replace_header_map_value", proxy_replace_header_map_value(
    map, changetype<usize>(key), key.byteLength, changetype<usize>(content), content.byteLength));
}

/** Removes all headers of the name. */
export function removeHeader(map: HeaderMap, name: string): void {
  const key = bytes(name);
  check("proxy_remove_header_map_value",
    proxy_remove_header_map_value(map, changetype<usize>(key), key.byteLength));
}

/** Answers the request in place of the upstream. */
export function sendLocalResponse(status: u32, headers: string[][], body: Uint8Array): void {
  const fields = serialize(headers);
  check("proxy_send_local_response", proxy_send_local_response(
    status, 0, 0, body.dataStart, body.byteLength,
    changetype<usize>(fields), fields.byteLength, NO_GRPC_STATUS));
}

/** Lets a request go on that is held. */
export function resumeRequest(): void {
  check("proxy_continue_stream", proxy_continue_stream(0));
}

/** Lets the hostcalls of this callback act on another context; false if it has ended. */
export function setEffectiveContext(contextId: u32): bool {
  return proxy_set_effective_context(contextId) == Status.OK;
}

/** What became of a call. */
export class Call {
  constructor(readonly status: u32, readonly token: u32) {}
}

/** Sends a request without a body to a cluster. */
export function httpCall(cluster: string, headers: string[][], timeout: u32): Call {
  const name = bytes(cluster);
  const fields = serialize(headers);
  const none = serialize([]);
  const status = proxy_http_call(
    changetype<usize>(name), name.byteLength, changetype<usize>(fields), fields.byteLength, 0, 0,
    changetype<usize>(none), none.byteLength, timeout, OUT);
  return new Call(status, load<u32>(OUT));
}

/** A value that all VMs share. */
export class SharedData {
  constructor(
    readonly value: string,
    /** With which `setSharedData` notices that another one was faster; 0 for an absent value. */
    readonly cas: u32,
  ) {}
}

/** A value that all VMs share; an absent one is empty. */
export function sharedData(key: string): SharedData {
  const name = bytes(key);
  const status =
    proxy_get_shared_data(changetype<usize>(name), name.byteLength, OUT, OUT + 4, OUT + 8);
  if (status != Status.OK) {
    return new SharedData("", 0);
  }
  const cas = load<u32>(OUT, 8);
  return new SharedData(text(takeBytes()), cas);
}

/** Writes a value; false if it changed since it was read. */
export function setSharedData(key: string, value: string, cas: u32): bool {
  const name = bytes(key);
  const content = bytes(value);
  return proxy_set_shared_data(
    changetype<usize>(name), name.byteLength,
    changetype<usize>(content), content.byteLength, cas) == Status.OK;
}

/** A metric of the host. */
export class Metric {
  private id: u32;

  /** Makes a metric, or finds the one with this name. */
  constructor(type: MetricType, name: string) {
    const key = bytes(name);
    check("proxy_define_metric",
      proxy_define_metric(type, changetype<usize>(key), key.byteLength, OUT));
    this.id = load<u32>(OUT);
  }

  /** Adds to a counter or a gauge. */
  increment(offset: i64): void {
    check("proxy_increment_metric", proxy_increment_metric(this.id, offset));
  }

  /** Adds a value to a histogram. */
  record(value: u64): void {
    check("proxy_record_metric", proxy_record_metric(this.id, value));
  }
}
