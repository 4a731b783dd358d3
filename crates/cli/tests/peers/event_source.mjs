// An event stream's reader as browsers have it, by the package eventsource: it comes back by itself.
//
// Wants { url }; trusts what NODE_EXTRA_CA_CERTS names. Says "open", "event TYPE ID HEX" and "error STATUS".

import { EventSource, hex, say, wanted } from "./packages.mjs";

const { url } = wanted();
const source = new EventSource(url);
source.onopen = () => say("open");
source.onerror = (error) => say("error", error.code ?? "none");
for (const type of ["message", "b64", "b64t"]) {
  source.addEventListener(type, (event) => say("event", type, event.lastEventId || "-", hex(event.data)));
}
