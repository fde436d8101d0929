#include "json.h"

namespace json {
namespace {

// Reads from the front; after the first error it only says that there was one.
class Parser {
 public:
  explicit Parser(std::string_view source) : source_(source) {}

  bool IsAtEnd() {
    SkipSpace();
    return !is_broken_ && source_.empty();
  }

  // Passes this character if it comes next.
  bool Accept(char character) {
    SkipSpace();
    if (is_broken_ || source_.empty() || source_.front() != character) return false;
    source_.remove_prefix(1);
    return true;
  }

  void Expect(char character) {
    if (!Accept(character)) is_broken_ = true;
  }

  Value ReadValue() {
    SkipSpace();
    if (!source_.empty() && source_.front() == '"') return ReadText();
    return ReadNumber();
  }

  std::string ReadText() {
    std::string text;
    Expect('"');
    while (!is_broken_) {
      char character = Next();
      if (character == '"') break;
      if (static_cast<unsigned char>(character) < 0x20) {
        is_broken_ = true;
      } else if (character == '\\') {
        AppendEscaped(text);
      } else {
        text += character;
      }
    }
    return text;
  }

 private:
  // A number without sign, fraction and exponent.
  uint64_t ReadNumber() {
    uint64_t number = 0;
    std::string_view digits = source_.substr(0, source_.find_first_not_of("0123456789"));
    bool is_padded = digits.size() > 1 && digits.front() == '0';
    if (digits.empty() || is_padded) is_broken_ = true;
    for (char digit : digits) {
      if (__builtin_mul_overflow(number, uint64_t{10}, &number) ||
          __builtin_add_overflow(number, static_cast<uint64_t>(digit - '0'), &number)) {
        is_broken_ = true;
      }
    }
    source_.remove_prefix(digits.size());
    return number;
  }

  // What stands behind a backslash.
  void AppendEscaped(std::string& text) {
    char character = Next();
    switch (character) {
      case '"':
      case '/':
      case '\\': text += character; return;
      case 'b': text += '\b'; return;
      case 'f': text += '\f'; return;
      case 'n': text += '\n'; return;
      case 'r': text += '\r'; return;
      case 't': text += '\t'; return;
      case 'u': AppendUtf8(text, ReadCodePoint()); return;
      default: is_broken_ = true;
    }
  }

  // What stands behind `\u`: four digits, and as much again for the second half of a pair.
  uint32_t ReadCodePoint() {
    uint32_t code = ReadHexadecimal();
    if (code >= 0xd800 && code < 0xdc00) {
      if (Next() != '\\' || Next() != 'u') is_broken_ = true;
      uint32_t low = ReadHexadecimal();
      if (low < 0xdc00 || low > 0xdfff) is_broken_ = true;
      return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    if (code >= 0xdc00 && code < 0xe000) is_broken_ = true;
    return code;
  }

  uint32_t ReadHexadecimal() {
    uint32_t number = 0;
    for (int i = 0; i < 4; i++) {
      char character = Next() | 0x20;
      if (character >= '0' && character <= '9') {
        number = number * 16 + (character - '0');
      } else if (character >= 'a' && character <= 'f') {
        number = number * 16 + (character - 'a' + 10);
      } else {
        is_broken_ = true;
      }
    }
    return number;
  }

  static void AppendUtf8(std::string& text, uint32_t code) {
    if (code < 0x80) {
      text += static_cast<char>(code);
      return;
    }
    if (code < 0x800) {
      text += static_cast<char>(0xc0 | (code >> 6));
    } else {
      if (code < 0x10000) {
        text += static_cast<char>(0xe0 | (code >> 12));
      } else {
        text += static_cast<char>(0xf0 | (code >> 18));
        text += static_cast<char>(0x80 | ((code >> 12) & 0x3f));
      }
      text += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    }
    text += static_cast<char>(0x80 | (code & 0x3f));
  }

  // The next character; the end of the text is an error.
  char Next() {
    if (source_.empty()) {
      is_broken_ = true;
      return 0;
    }
    char character = source_.front();
    source_.remove_prefix(1);
    return character;
  }

  void SkipSpace() {
    size_t begin = source_.find_first_not_of(" \t\r\n");
    source_.remove_prefix(begin == source_.npos ? source_.size() : begin);
  }

  std::string_view source_;
  bool is_broken_ = false;
};

}  // namespace

std::optional<std::map<std::string, Value>> ParseObject(std::string_view text) {
  std::map<std::string, Value> fields;
  Parser parser(text);
  parser.Expect('{');
  if (!parser.Accept('}')) {
    do {
      std::string name = parser.ReadText();
      parser.Expect(':');
      fields[name] = parser.ReadValue();
    } while (parser.Accept(','));
    parser.Expect('}');
  }
  if (!parser.IsAtEnd()) return std::nullopt;
  return fields;
}

}  // namespace json
