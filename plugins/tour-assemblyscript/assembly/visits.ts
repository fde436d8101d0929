// The count of responses, which all plugins and workers of the proxy share.

import { setSharedData, sharedData } from "./hostcalls";

/** Name of the count in the shared data. */
const KEY = "tour.count";
/** How often another one may come first before the count is given up. */
const TRIES = 16;

/** Counts one more and returns the number; 0 if others were always faster. */
export function countVisit(): u64 {
  for (let i = 0; i < TRIES; i++) {
    const present = sharedData(KEY);
    const next = parse(present.value) + 1;
    // A write succeeds only if nobody else has written since the read.
    if (setSharedData(KEY, next.toString(), present.cas)) return next;
  }
  return 0;
}

/** What is no number begins anew. */
function parse(text: string): u64 {
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i);
    if (digit < 0x30 || digit > 0x39) return 0;
  }
  return text.length > 0 ? U64.parseInt(text) : 0;
}
