// What a header and a log line can hold.

#pragma once

#include <string>
#include <string_view>

// Whether a text is visible ASCII and spaces, which any header and any log line can hold.
inline bool IsPlain(std::string_view text) {
  for (char c : text) {
    if (c < ' ' || c > '~') return false;
  }
  return true;
}

// A text for one line of a log.
inline std::string Printable(std::string_view text) {
  std::string printable(text);
  for (char& c : printable) {
    if (c < ' ' || c > '~') c = '?';
  }
  return printable;
}
