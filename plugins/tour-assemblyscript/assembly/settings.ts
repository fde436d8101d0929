// The plugin configuration.

import { Value, parseObject } from "./json";

const DEFAULT_AUTHORITY = "tour.example";
const DEFAULT_GREETING = "hello";
const DEFAULT_PERIOD: u64 = 100;
/** Longest time between two ticks, in milliseconds. */
const MAX_PERIOD: u64 = 60000;

/** What the plugin was told. */
export class Settings {
  /** Why the plugin cannot run with it; empty if it can. */
  refusal: string = "";
  /** Name of the cluster that is asked. */
  cluster: string = "";
  /** `:authority` of what it is asked. */
  authority: string = "";
  /** Value of the response header `x-tour-greeting`. */
  greeting: string = "";
  /** Time between two ticks, in milliseconds. */
  period: u32 = 0;

  /** Reads the configuration. */
  static parse(configuration: string): Settings {
    const settings = new Settings();
    const values = parseObject(configuration);
    if (values !== null) {
      settings.take(values);
    } else {
      settings.refuse("it is not a JSON object of texts and whole numbers");
    }
    return settings;
  }

  private take(values: Map<string, Value>): void {
    this.cluster = this.takeText(values, "cluster", "");
    if (this.cluster == "") this.refuse("`cluster` names no cluster");
    this.authority = this.takeText(values, "authority", DEFAULT_AUTHORITY);
    this.greeting = this.takeText(values, "greeting", DEFAULT_GREETING);
    this.period = this.takePeriod(values);
    // Only fields that are not known are left.
    const names = values.keys().sort();
    if (names.length > 0) this.refuse(`\`${printable(names[0])}\` is no field`);
  }

  /** The first reason counts. */
  private refuse(reason: string): void {
    if (this.refusal == "") this.refusal = reason;
  }

  /** Takes a text, which must be fit for a header. */
  private takeText(values: Map<string, Value>, name: string, fallback: string): string {
    if (!values.has(name)) return fallback;
    const value = values.get(name);
    values.delete(name);
    if (!value.isText) this.refuse(`\`${name}\` is not a text`);
    if (!isPlain(value.text)) this.refuse(`\`${name}\` is not plain ASCII`);
    return value.text;
  }

  private takePeriod(values: Map<string, Value>): u32 {
    if (!values.has("period")) return <u32>DEFAULT_PERIOD;
    const value = values.get("period");
    values.delete("period");
    if (value.isText) {
      this.refuse("`period` is not a whole number");
    } else if (value.number < 1 || value.number > MAX_PERIOD) {
      this.refuse(`\`period\` is not from 1 to ${MAX_PERIOD}`);
    }
    return <u32>value.number;
  }
}

/** Whether a text is visible ASCII and spaces, which any header and any log line can hold. */
export function isPlain(text: string): bool {
  return printable(text) == text;
}

/** A text for one line of a log. */
export function printable(text: string): string {
  let printable = "";
  for (let i = 0; i < text.length; i++) {
    const byte = text.charCodeAt(i);
    printable += 0x20 <= byte && byte <= 0x7e ? text.charAt(i) : "?";
  }
  return printable;
}
