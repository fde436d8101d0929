#include "settings.h"

#include "json.h"
#include "text.h"

namespace {

constexpr std::string_view kDefaultAuthority = "tour.example";
constexpr std::string_view kDefaultGreeting = "hello";
constexpr uint64_t kDefaultPeriod = 100;
// Longest time between two ticks, in milliseconds.
constexpr uint64_t kMaxPeriod = 60000;

// Takes fields out of an object and keeps the first reason why that failed.
class Fields {
 public:
  explicit Fields(std::map<std::string, json::Value> values) : values_(std::move(values)) {}

  const std::string& refusal() const { return refusal_; }

  void Refuse(const std::string& reason) {
    if (refusal_.empty()) refusal_ = reason;
  }

  // Takes a text, which must be fit for a header.
  std::string TakeText(const std::string& name, std::string_view fallback) {
    auto value = values_.extract(name);
    if (value.empty()) return std::string(fallback);
    const std::string* text = std::get_if<std::string>(&value.mapped());
    if (text == nullptr) {
      Refuse("`" + name + "` is not a text");
      return "";
    }
    if (!IsPlain(*text)) Refuse("`" + name + "` is not plain ASCII");
    return *text;
  }

  uint32_t TakePeriod() {
    auto value = values_.extract("period");
    if (value.empty()) return kDefaultPeriod;
    const uint64_t* number = std::get_if<uint64_t>(&value.mapped());
    if (number == nullptr) {
      Refuse("`period` is not a whole number");
      return 0;
    }
    if (*number < 1 || *number > kMaxPeriod) {
      Refuse("`period` is not from 1 to " + std::to_string(kMaxPeriod));
    }
    return static_cast<uint32_t>(*number);
  }

  // Only fields that are not known are left.
  void RefuseTheRest() {
    if (!values_.empty()) Refuse("`" + Printable(values_.begin()->first) + "` is no field");
  }

 private:
  std::map<std::string, json::Value> values_;
  std::string refusal_;
};

}  // namespace

std::variant<Settings, Refusal> ParseSettings(std::string_view configuration) {
  auto values = json::ParseObject(configuration);
  if (!values) return Refusal{"it is not a JSON object of texts and whole numbers"};
  Fields fields(std::move(*values));
  Settings settings;
  settings.cluster = fields.TakeText("cluster", "");
  if (settings.cluster.empty()) fields.Refuse("`cluster` names no cluster");
  settings.authority = fields.TakeText("authority", kDefaultAuthority);
  settings.greeting = fields.TakeText("greeting", kDefaultGreeting);
  settings.period = fields.TakePeriod();
  fields.RefuseTheRest();
  if (!fields.refusal().empty()) return Refusal{fields.refusal()};
  return settings;
}
