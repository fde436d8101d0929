// The part of JSON that a plugin configuration needs: an object of texts and whole numbers.
// AssemblyScript's library has no JSON.

/** A text or a number. */
export class Value {
  constructor(readonly isText: bool, readonly text: string, readonly number: u64) {}
}

/** The fields of an object; `null` if the text is anything else. */
export function parseObject(text: string): Map<string, Value> | null {
  const fields = new Map<string, Value>();
  const parser = new Parser(text);
  parser.expect("{");
  if (!parser.accept("}")) {
    do {
      const name = parser.text();
      parser.expect(":");
      fields.set(name, parser.value());
    } while (parser.accept(","));
    parser.expect("}");
  }
  return parser.isAtEnd() ? fields : null;
}

/** Reads from the front; after the first error it only says that there was one. */
class Parser {
  private at: i32 = 0;
  private isBroken: bool = false;

  constructor(private readonly source: string) {}

  isAtEnd(): bool {
    this.skipSpace();
    return !this.isBroken && this.at == this.source.length;
  }

  /** Passes this character if it comes next. */
  accept(character: string): bool {
    this.skipSpace();
    const isNext = !this.isBroken && this.source.charAt(this.at) == character;
    if (isNext) this.at++;
    return isNext;
  }

  expect(character: string): void {
    if (!this.accept(character)) this.isBroken = true;
  }

  value(): Value {
    this.skipSpace();
    const isText = this.source.charAt(this.at) == '"';
    return isText ? new Value(true, this.text(), 0) : new Value(false, "", this.number());
  }

  /** A text in quotation marks, in UTF-8. */
  text(): string {
    let text = "";
    this.expect('"');
    while (!this.isBroken) {
      const character = this.next();
      if (character == 0x22) break;
      if (character < 0x20) {
        this.isBroken = true;
      } else if (character == 0x5c) {
        text += this.escape();
      } else {
        text += String.fromCharCode(character);
      }
    }
    return text;
  }

  /** A number without sign, fraction and exponent. */
  private number(): u64 {
    const begin = this.at;
    let number: u64 = 0;
    while (this.at < this.source.length) {
      const digit = this.source.charCodeAt(this.at) - 0x30;
      if (digit < 0 || digit > 9) break;
      const isTooLarge = number > (u64.MAX_VALUE - digit) / 10;
      if (isTooLarge) this.isBroken = true;
      number = number * 10 + digit;
      this.at++;
    }
    const length = this.at - begin;
    const isPadded = length > 1 && this.source.charAt(begin) == "0";
    if (length == 0 || isPadded) this.isBroken = true;
    return number;
  }

  /** What stands behind a backslash. */
  private escape(): string {
    const character = this.next();
    switch (character) {
      case 0x62: return "\b";
      case 0x66: return "\f";
      case 0x6e: return "\n";
      case 0x72: return "\r";
      case 0x74: return "\t";
      case 0x75: return this.codePoint();
      case 0x22: case 0x2f: case 0x5c: return String.fromCharCode(character);
    }
    this.isBroken = true;
    return "";
  }

  /** What stands behind `\u`: four digits, and as much again for the second half of a pair. */
  private codePoint(): string {
    let code = this.hexadecimal();
    if (code >= 0xd800 && code < 0xdc00) {
      if (this.next() != 0x5c || this.next() != 0x75) this.isBroken = true;
      const low = this.hexadecimal();
      if (low < 0xdc00 || low > 0xdfff) this.isBroken = true;
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
      this.isBroken = true;
    }
    return utf8(code);
  }

  private hexadecimal(): i32 {
    let number = 0;
    for (let i = 0; i < 4; i++) {
      const character = this.next() | 0x20;
      if (character >= 0x30 && character <= 0x39) {
        number = number * 16 + character - 0x30;
      } else if (character >= 0x61 && character <= 0x66) {
        number = number * 16 + character - 0x61 + 10;
      } else {
        this.isBroken = true;
      }
    }
    return number;
  }

  /** The next character; the end of the text is an error. */
  private next(): i32 {
    if (this.at >= this.source.length) {
      this.isBroken = true;
      return 0;
    }
    return this.source.charCodeAt(this.at++);
  }

  private skipSpace(): void {
    while (this.at < this.source.length && " \t\r\n".includes(this.source.charAt(this.at))) {
      this.at++;
    }
  }
}

/** The UTF-8 of a code point, one character for each byte. */
function utf8(code: i32): string {
  if (code < 0x80) return String.fromCharCode(code);
  const last = String.fromCharCode(0x80 | (code & 0x3f));
  if (code < 0x800) return String.fromCharCode(0xc0 | (code >> 6)) + last;
  const third = String.fromCharCode(0x80 | ((code >> 6) & 0x3f)) + last;
  if (code < 0x10000) return String.fromCharCode(0xe0 | (code >> 12)) + third;
  const second = String.fromCharCode(0x80 | ((code >> 12) & 0x3f)) + third;
  return String.fromCharCode(0xf0 | (code >> 18)) + second;
}
