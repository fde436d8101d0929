// A tour of what a Proxy-Wasm plugin can do; plugins/README.md says what it does with which
// request.

#include <charconv>
#include <set>

#include "proxy_wasm.h"
#include "settings.h"
#include "text.h"

using namespace proxy_wasm;

namespace {

// Longest time that the answer of the cluster may take, in milliseconds.
constexpr uint32_t kCallTimeout = 5000;
// Most bytes of the cluster's answer that become the body of a refusal.
constexpr uint32_t kMaxReasonBytes = 1024;
// Name of the count in the shared data.
constexpr std::string_view kCountKey = "tour.count";
// How often another one may come first before the count is given up.
constexpr int kCountTries = 16;

void Info(const std::string& message) { Log(LogLevel::kInfo, message); }
void Error(const std::string& message) { Log(LogLevel::kError, message); }

void Reply(uint32_t status, std::string_view body) {
  SendLocalResponse(status, {{"content-type", "text/plain"}}, body);
}

bool StartsWith(std::string_view text, std::string_view beginning) {
  return text.substr(0, beginning.size()) == beginning;
}

// Counts one more response, together with all plugins and workers of the proxy, and returns the
// number; nothing if others were always faster.
std::optional<uint64_t> CountVisit() {
  for (int i = 0; i < kCountTries; i++) {
    auto [value, cas] = GetSharedData(kCountKey);
    // What is no number begins anew.
    uint64_t count = 0;
    const char* end = value.data() + value.size();
    if (std::from_chars(value.data(), end, count).ptr != end) count = 0;
    count++;
    // A write succeeds only if nobody else has written since the read.
    if (SetSharedData(kCountKey, std::to_string(count), cas)) return count;
  }
  return std::nullopt;
}

// The plugin context.
class Tour : public Plugin {
 public:
  bool OnConfigure(const std::string& configuration) override;
  std::unique_ptr<Stream> NewStream(uint32_t context_id) override;
  void OnTick() override;

  Settings settings;
  const Metric requests{MetricType::kCounter, "tour_requests"};
  const Metric streams{MetricType::kGauge, "tour_streams"};
  const Metric body_bytes{MetricType::kHistogram, "tour_body_bytes"};
  // Ids of the streams that wait for the next tick.
  std::set<uint32_t> held;
};

// The stream context.
class TourStream : public Stream {
 public:
  TourStream(uint32_t context_id, Tour& tour) : Stream(context_id), tour_(tour) {}

  Action OnRequestHeaders(bool end_of_stream) override;
  Action OnRequestBody(uint32_t size, bool end_of_stream) override;
  Action OnRequestTrailers() override;
  Action OnResponseHeaders(bool end_of_stream) override;
  Action OnResponseBody(uint32_t size, bool end_of_stream) override;
  Action OnResponseTrailers() override;
  void OnHttpCallResponse(uint32_t headers) override;
  void OnLog() override;

 private:
  void CountIn();
  Action Ask();
  Action Hold();
  void ChangeRequestBody();
  void ChangeResponseBody();
  void RecordBody(const std::string& side);

  Tour& tour_;
  std::string method_;
  std::string path_;
  // `-` until there is a response.
  std::string status_ = "-";
  // Whether the request was counted, which it is not if it never came here.
  bool is_counted_ = false;
  bool is_response_text_ = false;
  // Bytes of a body that is held.
  uint32_t body_size_ = 0;
};

// --- Tour

bool Tour::OnConfigure(const std::string& configuration) {
  auto parsed = ParseSettings(configuration);
  if (auto* refusal = std::get_if<Refusal>(&parsed)) {
    Error("configuration refused: " + refusal->reason);
    return false;
  }
  settings = std::get<Settings>(parsed);
  SetTickPeriod(settings.period);
  Info("asks `" + settings.cluster + "`, greets with `" + settings.greeting + "`");
  return true;
}

std::unique_ptr<Stream> Tour::NewStream(uint32_t context_id) {
  return std::make_unique<TourStream>(context_id, *this);
}

// Lets go the requests that wait for it.
void Tour::OnTick() {
  std::set<uint32_t> released;
  released.swap(held);
  for (uint32_t stream : released) {
    if (SetEffectiveContext(stream)) ResumeRequest();
  }
}

// --- TourStream

Action TourStream::OnRequestHeaders(bool end_of_stream) {
  CountIn();
  std::string path = Header(Map::kRequestHeaders, ":path").value_or("");
  path_ = Printable(path);
  method_ = Printable(Header(Map::kRequestHeaders, ":method").value_or(""));
  // Only the cluster says who the user is.
  RemoveHeader(Map::kRequestHeaders, "x-tour-user");
  if (!end_of_stream) {
    // The length will be that of the changed body.
    RemoveHeader(Map::kRequestHeaders, "content-length");
  }
  if (!IsPlain(path)) {
    Reply(400, "bad path\n");
    return Action::kPause;
  }
  if (StartsWith(path, "/ask/")) return Ask();
  if (StartsWith(path, "/wait/")) return Hold();
  return Action::kContinue;
}

void TourStream::CountIn() {
  is_counted_ = true;
  tour_.requests.Increment(1);
  tour_.streams.Increment(1);
}

// Asks the cluster about the request, which waits for the answer.
Action TourStream::Ask() {
  const Settings& settings = tour_.settings;
  Info(path_ + ": asking `" + settings.cluster + "`");
  Status status = HttpCall(
      settings.cluster,
      {
          {":method", "GET"},
          {":path", path_},
          {":authority", settings.authority},
          {"x-tour-method", method_},
      },
      kCallTimeout);
  if (status != Status::kOk) {
    Error(path_ + ": not asked, status " + std::to_string(static_cast<uint32_t>(status)));
    Reply(503, "not asked\n");
  }
  return Action::kPause;
}

void TourStream::OnHttpCallResponse(uint32_t headers) {
  std::string status;
  if (headers > 0) status = Header(Map::kCallResponseHeaders, ":status").value_or("");
  if (status == "200") {
    Info(path_ + ": allowed");
    if (auto user = Header(Map::kCallResponseHeaders, "x-user")) {
      SetHeader(Map::kRequestHeaders, "x-tour-user", *user);
    }
    ResumeRequest();
  } else if (StartsWith(status, "4")) {
    Info(path_ + ": refused with " + Printable(status));
    Reply(403, BufferBytes(Buffer::kCallResponseBody, 0, kMaxReasonBytes));
  } else {
    Info(path_ + ": no answer");
    Reply(503, "no answer\n");
  }
}

Action TourStream::Hold() {
  Info(path_ + ": held");
  tour_.held.insert(context_id());
  return Action::kPause;
}

Action TourStream::OnRequestBody(uint32_t size, bool end_of_stream) {
  // While the body is held, this is the size of all that has come.
  body_size_ = size;
  if (!end_of_stream) return Action::kPause;
  ChangeRequestBody();
  return Action::kContinue;
}

// Runs after a body that has ended without saying so.
Action TourStream::OnRequestTrailers() {
  if (body_size_ > 0) ChangeRequestBody();
  return Action::kContinue;
}

// Changes the request's body, which is complete.
void TourStream::ChangeRequestBody() {
  RecordBody("request");
  std::string body = BufferBytes(Buffer::kRequestBody, 0, body_size_);
  for (char& c : body) {
    if ('a' <= c && c <= 'z') c -= 'a' - 'A';
  }
  SetBufferBytes(Buffer::kRequestBody, 0, body_size_, body);
}

void TourStream::RecordBody(const std::string& side) {
  std::string size = std::to_string(body_size_);
  Log(LogLevel::kDebug, path_ + ": " + side + " body of " + size + " bytes");
  tour_.body_bytes.Record(body_size_);
}

// Runs for the cluster's responses and for the plugin's own replies alike.
Action TourStream::OnResponseHeaders(bool end_of_stream) {
  status_ = Printable(Header(Map::kResponseHeaders, ":status").value_or(""));
  body_size_ = 0;
  AddHeader(Map::kResponseHeaders, "x-tour", "cpp");
  AddHeader(Map::kResponseHeaders, "x-tour-greeting", tour_.settings.greeting);
  if (auto count = CountVisit()) {
    AddHeader(Map::kResponseHeaders, "x-tour-count", std::to_string(*count));
  } else {
    Error(path_ + ": not counted");
  }
  std::string content_type = Header(Map::kResponseHeaders, "content-type").value_or("");
  is_response_text_ = !end_of_stream && StartsWith(content_type, "text/plain");
  if (is_response_text_) RemoveHeader(Map::kResponseHeaders, "content-length");
  return Action::kContinue;
}

Action TourStream::OnResponseBody(uint32_t size, bool end_of_stream) {
  if (!is_response_text_) return Action::kContinue;
  body_size_ = size;
  if (!end_of_stream) return Action::kPause;
  ChangeResponseBody();
  return Action::kContinue;
}

Action TourStream::OnResponseTrailers() {
  if (is_response_text_ && body_size_ > 0) ChangeResponseBody();
  return Action::kContinue;
}

// Changes the response's body, which is complete.
void TourStream::ChangeResponseBody() {
  RecordBody("response");
  SetBufferBytes(
      Buffer::kResponseBody, body_size_, 0, "tour: " + std::to_string(body_size_) + " bytes\n");
}

void TourStream::OnLog() {
  // A request that was answered in front of this plugin has a log callback, too.
  if (!is_counted_) return;
  tour_.streams.Increment(-1);
  tour_.held.erase(context_id());
  Info(method_ + " " + path_ + " " + status_);
}

}  // namespace

std::unique_ptr<Plugin> proxy_wasm::NewPlugin() { return std::make_unique<Tour>(); }
