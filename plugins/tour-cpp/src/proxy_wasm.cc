// Hostcalls, and the callbacks that the host calls.

#include "proxy_wasm.h"

#include <cstdlib>
#include <map>

// The function of the host with this name.
#define HOST(name) __attribute__((import_module("env"), import_name(#name))) extern "C" uint32_t name

HOST(proxy_log)(uint32_t level, const char* message, size_t size);
HOST(proxy_set_tick_period_milliseconds)(uint32_t period);
HOST(proxy_get_buffer_bytes)(
    uint32_t buffer, uint32_t start, uint32_t max_size, char** data, size_t* size);
HOST(proxy_set_buffer_bytes)(
    uint32_t buffer, uint32_t start, uint32_t size, const char* data, size_t data_size);
HOST(proxy_get_header_map_value)(
    uint32_t map, const char* name, size_t name_size, char** value, size_t* value_size);
HOST(proxy_add_header_map_value)(
    uint32_t map, const char* name, size_t name_size, const char* value, size_t value_size);
HOST(proxy_replace_header_map_value)(
    uint32_t map, const char* name, size_t name_size, const char* value, size_t value_size);
HOST(proxy_remove_header_map_value)(uint32_t map, const char* name, size_t name_size);
HOST(proxy_send_local_response)(
    uint32_t status, const char* details, size_t details_size, const char* body, size_t body_size,
    const char* headers, size_t headers_size, int32_t grpc_status);
HOST(proxy_continue_stream)(uint32_t stream);
HOST(proxy_set_effective_context)(uint32_t context_id);
HOST(proxy_http_call)(
    const char* cluster, size_t cluster_size, const char* headers, size_t headers_size,
    const char* body, size_t body_size, const char* trailers, size_t trailers_size,
    uint32_t timeout, uint32_t* token);
HOST(proxy_get_shared_data)(
    const char* key, size_t key_size, char** value, size_t* value_size, uint32_t* cas);
HOST(proxy_set_shared_data)(
    const char* key, size_t key_size, const char* value, size_t value_size, uint32_t cas);
HOST(proxy_define_metric)(uint32_t type, const char* name, size_t name_size, uint32_t* id);
HOST(proxy_increment_metric)(uint32_t id, int64_t offset);
HOST(proxy_record_metric)(uint32_t id, uint64_t value);

namespace proxy_wasm {
namespace {

constexpr uint32_t kRequestStream = 0;
// Leaves the gRPC status of a local response to the host.
constexpr int32_t kNoGrpcStatus = -1;

// The state of the VM. A function keeps it, so that it is there whichever callback comes first.
struct Vm {
  std::map<uint32_t, std::unique_ptr<Plugin>> plugins;
  std::map<uint32_t, std::unique_ptr<Stream>> streams;
  // Ids of the streams that wait for the answers of calls, by the tokens of these.
  std::map<uint32_t, uint32_t> calls;

  Plugin* plugin(uint32_t context_id) {
    auto found = plugins.find(context_id);
    return found == plugins.end() ? nullptr : found->second.get();
  }

  Stream* stream(uint32_t context_id) {
    auto found = streams.find(context_id);
    return found == streams.end() ? nullptr : found->second.get();
  }
};

Vm& vm() {
  static Vm vm;
  return vm;
}

// Logs a status that nothing in a correct plugin leads to.
bool Check(const char* hostcall, uint32_t status) {
  if (status != 0) {
    Log(LogLevel::kError, std::string(hostcall) + " returned status " + std::to_string(status));
  }
  return status == 0;
}

// Takes what the host wrote to a block that it asked for; for an empty value it asks for none.
std::string Take(char* data, size_t size) {
  std::string taken(data, size);
  std::free(data);
  return taken;
}

void Append(std::string& bytes, uint32_t number) {
  // Wasm and the ABI are little-endian.
  bytes.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

// Fields as the ABI lays them out: the number of pairs, the length of each name and value, then
// each name and value with a zero byte behind it.
std::string Serialize(const Fields& fields) {
  std::string bytes;
  Append(bytes, fields.size());
  for (const auto& [name, value] : fields) {
    Append(bytes, name.size());
    Append(bytes, value.size());
  }
  for (const auto& [name, value] : fields) {
    bytes.append(name).append(1, '\0').append(value).append(1, '\0');
  }
  return bytes;
}

}  // namespace

void Log(LogLevel level, std::string_view message) {
  proxy_log(static_cast<uint32_t>(level), message.data(), message.size());
}

void SetTickPeriod(uint32_t milliseconds) {
  Check("proxy_set_tick_period_milliseconds", proxy_set_tick_period_milliseconds(milliseconds));
}

std::string BufferBytes(Buffer buffer, uint32_t start, uint32_t max_size) {
  char* data = nullptr;
  size_t size = 0;
  uint32_t status =
      proxy_get_buffer_bytes(static_cast<uint32_t>(buffer), start, max_size, &data, &size);
  return Check("proxy_get_buffer_bytes", status) ? Take(data, size) : std::string();
}

void SetBufferBytes(Buffer buffer, uint32_t start, uint32_t size, std::string_view bytes) {
  Check("proxy_set_buffer_bytes",
        proxy_set_buffer_bytes(
            static_cast<uint32_t>(buffer), start, size, bytes.data(), bytes.size()));
}

std::optional<std::string> Header(Map map, std::string_view name) {
  char* value = nullptr;
  size_t size = 0;
  uint32_t status = proxy_get_header_map_value(
      static_cast<uint32_t>(map), name.data(), name.size(), &value, &size);
  if (status != 0) return std::nullopt;
  return Take(value, size);
}

void AddHeader(Map map, std::string_view name, std::string_view value) {
  Check("proxy_add_header_map_value",
        proxy_add_header_map_value(
            static_cast<uint32_t>(map), name.data(), name.size(), value.data(), value.size()));
}

void SetHeader(Map map, std::string_view name, std::string_view value) {
  Check("proxy_replace_header_map_value",
        proxy_replace_header_map_value(
            static_cast<uint32_t>(map), name.data(), name.size(), value.data(), value.size()));
}

void RemoveHeader(Map map, std::string_view name) {
  Check("proxy_remove_header_map_value",
        proxy_remove_header_map_value(static_cast<uint32_t>(map), name.data(), name.size()));
}

void SendLocalResponse(uint32_t status, const Fields& headers, std::string_view body) {
  std::string fields = Serialize(headers);
  Check("proxy_send_local_response",
        proxy_send_local_response(
            status, nullptr, 0, body.data(), body.size(), fields.data(), fields.size(),
            kNoGrpcStatus));
}

void ResumeRequest() {
  Check("proxy_continue_stream", proxy_continue_stream(kRequestStream));
}

bool SetEffectiveContext(uint32_t context_id) {
  return proxy_set_effective_context(context_id) == 0;
}

Status Stream::HttpCall(
    std::string_view cluster, const Fields& headers, uint32_t timeout_milliseconds) {
  std::string fields = Serialize(headers);
  std::string none = Serialize({});
  uint32_t token = 0;
  uint32_t status = proxy_http_call(
      cluster.data(), cluster.size(), fields.data(), fields.size(), nullptr, 0, none.data(),
      none.size(), timeout_milliseconds, &token);
  if (status == 0) vm().calls[token] = context_id_;
  return static_cast<Status>(status);
}

SharedData GetSharedData(std::string_view key) {
  char* value = nullptr;
  size_t size = 0;
  uint32_t cas = 0;
  uint32_t status = proxy_get_shared_data(key.data(), key.size(), &value, &size, &cas);
  if (status != 0) return {"", 0};
  return {Take(value, size), cas};
}

bool SetSharedData(std::string_view key, std::string_view value, uint32_t cas) {
  return proxy_set_shared_data(key.data(), key.size(), value.data(), value.size(), cas) == 0;
}

Metric::Metric(MetricType type, std::string_view name) {
  Check("proxy_define_metric",
        proxy_define_metric(static_cast<uint32_t>(type), name.data(), name.size(), &id_));
}

void Metric::Increment(int64_t offset) const {
  Check("proxy_increment_metric", proxy_increment_metric(id_, offset));
}

void Metric::Record(uint64_t value) const {
  Check("proxy_record_metric", proxy_record_metric(id_, value));
}

// A function that the host calls.
#define CALLBACK(name) __attribute__((export_name(#name))) extern "C"

CALLBACK(proxy_abi_version_0_2_1) void proxy_abi_version_0_2_1() {}

CALLBACK(proxy_on_memory_allocate) void* proxy_on_memory_allocate(size_t size) {
  return std::malloc(size);
}

CALLBACK(proxy_on_context_create)
void proxy_on_context_create(uint32_t context_id, uint32_t parent_context_id) {
  if (parent_context_id == 0) {
    vm().plugins[context_id] = NewPlugin();
  } else if (Plugin* plugin = vm().plugin(parent_context_id)) {
    vm().streams[context_id] = plugin->NewStream(context_id);
  }
}

CALLBACK(proxy_on_vm_start) uint32_t proxy_on_vm_start(uint32_t, uint32_t) { return 1; }

CALLBACK(proxy_on_configure)
uint32_t proxy_on_configure(uint32_t context_id, uint32_t configuration_size) {
  Plugin* plugin = vm().plugin(context_id);
  if (plugin == nullptr) return 0;
  std::string configuration;
  if (configuration_size > 0) {
    configuration = BufferBytes(Buffer::kPluginConfiguration, 0, configuration_size);
  }
  return plugin->OnConfigure(configuration) ? 1 : 0;
}

CALLBACK(proxy_on_tick) void proxy_on_tick(uint32_t context_id) {
  if (Plugin* plugin = vm().plugin(context_id)) plugin->OnTick();
}

CALLBACK(proxy_on_http_call_response)
void proxy_on_http_call_response(
    uint32_t, uint32_t token, uint32_t headers, uint32_t, uint32_t) {
  auto waiting = vm().calls.find(token);
  if (waiting == vm().calls.end()) return;
  uint32_t context_id = waiting->second;
  vm().calls.erase(waiting);
  // A stream that has ended meanwhile is no longer known, and nobody waits for the answer.
  Stream* stream = vm().stream(context_id);
  if (stream != nullptr && SetEffectiveContext(context_id)) stream->OnHttpCallResponse(headers);
}

CALLBACK(proxy_on_request_headers)
Action proxy_on_request_headers(uint32_t context_id, uint32_t, uint32_t end_of_stream) {
  Stream* stream = vm().stream(context_id);
  return stream != nullptr ? stream->OnRequestHeaders(end_of_stream != 0) : Action::kContinue;
}

CALLBACK(proxy_on_request_body)
Action proxy_on_request_body(uint32_t context_id, uint32_t size, uint32_t end_of_stream) {
  Stream* stream = vm().stream(context_id);
  return stream != nullptr ? stream->OnRequestBody(size, end_of_stream != 0) : Action::kContinue;
}

CALLBACK(proxy_on_request_trailers)
Action proxy_on_request_trailers(uint32_t context_id, uint32_t) {
  Stream* stream = vm().stream(context_id);
  return stream != nullptr ? stream->OnRequestTrailers() : Action::kContinue;
}

CALLBACK(proxy_on_response_headers)
Action proxy_on_response_headers(uint32_t context_id, uint32_t, uint32_t end_of_stream) {
  Stream* stream = vm().stream(context_id);
  return stream != nullptr ? stream->OnResponseHeaders(end_of_stream != 0) : Action::kContinue;
}

CALLBACK(proxy_on_response_body)
Action proxy_on_response_body(uint32_t context_id, uint32_t size, uint32_t end_of_stream) {
  Stream* stream = vm().stream(context_id);
  return stream != nullptr ? stream->OnResponseBody(size, end_of_stream != 0) : Action::kContinue;
}

CALLBACK(proxy_on_response_trailers)
Action proxy_on_response_trailers(uint32_t context_id, uint32_t) {
  Stream* stream = vm().stream(context_id);
  return stream != nullptr ? stream->OnResponseTrailers() : Action::kContinue;
}

CALLBACK(proxy_on_log) void proxy_on_log(uint32_t context_id) {
  if (Stream* stream = vm().stream(context_id)) stream->OnLog();
}

CALLBACK(proxy_on_done) uint32_t proxy_on_done(uint32_t) { return 1; }

CALLBACK(proxy_on_delete) void proxy_on_delete(uint32_t context_id) {
  vm().plugins.erase(context_id);
  vm().streams.erase(context_id);
}

}  // namespace proxy_wasm
