// The part of JSON that a plugin configuration needs: an object of texts and whole numbers.
// C++'s library has no JSON.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace json {

// A text, in UTF-8, or a number.
using Value = std::variant<std::string, uint64_t>;

// The fields of an object; nothing if the text is anything else.
std::optional<std::map<std::string, Value>> ParseObject(std::string_view text);

}  // namespace json
