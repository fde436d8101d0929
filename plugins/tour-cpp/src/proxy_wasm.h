// The part of the Proxy-Wasm ABI that this plugin needs, with the types of C++.
//
// Source: Proxy-Wasm ABI 0.2.1.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace proxy_wasm {

// What a hostcall returned.
enum class Status : uint32_t { kOk = 0, kNotFound = 1, kCasMismatch = 8 };

// Severity of a log line.
enum class LogLevel : uint32_t { kDebug = 1, kInfo = 2, kError = 4 };

// What becomes of the stream after a callback.
enum class Action : uint32_t { kContinue = 0, kPause = 1 };

// A set of headers.
enum class Map : uint32_t { kRequestHeaders = 0, kResponseHeaders = 2, kCallResponseHeaders = 6 };

// A run of bytes.
enum class Buffer : uint32_t {
  kRequestBody = 0,
  kResponseBody = 1,
  kCallResponseBody = 4,
  kPluginConfiguration = 7,
};

// What a metric does with its values.
enum class MetricType : uint32_t { kCounter = 0, kGauge = 1, kHistogram = 2 };

// Names and values of headers.
using Fields = std::vector<std::pair<std::string_view, std::string_view>>;

// A stream context: one for each request.
class Stream {
 public:
  explicit Stream(uint32_t context_id) : context_id_(context_id) {}
  virtual ~Stream() = default;

  virtual Action OnRequestHeaders(bool end_of_stream) { return Action::kContinue; }
  // Hears the size of this chunk, or of all that has come while the body is held.
  virtual Action OnRequestBody(uint32_t size, bool end_of_stream) { return Action::kContinue; }
  virtual Action OnRequestTrailers() { return Action::kContinue; }
  virtual Action OnResponseHeaders(bool end_of_stream) { return Action::kContinue; }
  virtual Action OnResponseBody(uint32_t size, bool end_of_stream) { return Action::kContinue; }
  virtual Action OnResponseTrailers() { return Action::kContinue; }
  // Runs when a call of this stream has its answer; without headers, there is none.
  virtual void OnHttpCallResponse(uint32_t headers) {}
  // The last callback of the stream.
  virtual void OnLog() {}

  uint32_t context_id() const { return context_id_; }

  // Sends a request without a body to a cluster; OnHttpCallResponse hears of the answer.
  Status HttpCall(std::string_view cluster, const Fields& headers, uint32_t timeout_milliseconds);

 private:
  const uint32_t context_id_;
};

// A plugin context: one for each plugin configuration in the VM.
class Plugin {
 public:
  virtual ~Plugin() = default;

  // Receives the plugin configuration. False refuses it.
  virtual bool OnConfigure(const std::string& configuration) = 0;
  // Makes the context of one request.
  virtual std::unique_ptr<Stream> NewStream(uint32_t context_id) = 0;
  // Runs once in each period of SetTickPeriod.
  virtual void OnTick() {}
};

// Makes a plugin context. The plugin defines it.
std::unique_ptr<Plugin> NewPlugin();

// Logs a message.
void Log(LogLevel level, std::string_view message);

// Asks for a tick in each of these periods; 0 ends them.
void SetTickPeriod(uint32_t milliseconds);

// At most max_size bytes of a buffer.
std::string BufferBytes(Buffer buffer, uint32_t start, uint32_t max_size);

// Replaces size bytes from the start of a buffer, or adds to its end if start is there.
void SetBufferBytes(Buffer buffer, uint32_t start, uint32_t size, std::string_view bytes);

// The first value of a header.
std::optional<std::string> Header(Map map, std::string_view name);

// Adds a header beside those of the same name.
void AddHeader(Map map, std::string_view name, std::string_view value);

// Replaces all headers of the same name.
void SetHeader(Map map, std::string_view name, std::string_view value);

// Removes all headers of the name.
void RemoveHeader(Map map, std::string_view name);

// Answers the request in place of the upstream.
void SendLocalResponse(uint32_t status, const Fields& headers, std::string_view body);

// Lets a request go on that is held.
void ResumeRequest();

// Lets the hostcalls of this callback act on another context; false if it has ended.
bool SetEffectiveContext(uint32_t context_id);

// A value that all VMs share.
struct SharedData {
  std::string value;
  // With which SetSharedData notices that another one was faster; 0 for an absent value.
  uint32_t cas;
};

// A value that all VMs share; an absent one is empty.
SharedData GetSharedData(std::string_view key);

// Writes a value; false if it changed since it was read.
bool SetSharedData(std::string_view key, std::string_view value, uint32_t cas);

// A metric of the host.
class Metric {
 public:
  // Makes a metric, or finds the one with this name.
  Metric(MetricType type, std::string_view name);

  // Adds to a counter or a gauge.
  void Increment(int64_t offset) const;
  // Adds a value to a histogram.
  void Record(uint64_t value) const;

 private:
  uint32_t id_ = 0;
};

}  // namespace proxy_wasm
