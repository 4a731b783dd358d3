// A WebSocket client by Node's ws.
//
// Wants { url, ca, deflate }; with { echo: true } it sends messages of all sizes and kinds, in fragments too, and holds what comes
// back against them, else it says what comes. Says "open EXTENSIONS", "message text|binary HEX", "echoed N" or "differs …",
// "pong", and "closed CODE" or "failed WHY".

import { randomBytes } from "node:crypto";
import { WebSocket, hex, read, say, wanted } from "./packages.mjs";

const { url, ca, deflate = false, echo = false } = wanted();
const socket = new WebSocket(url, { ca: read(ca), perMessageDeflate: deflate });

/** Each message with the sizes of the fragments that it is sent in; none: whole. */
const messages = [];
for (const size of [0, 1, 125, 126, 127, 4_095, 4_096, 65_535, 65_536, 300_000]) {
  messages.push({ data: Buffer.alloc(size, "lorem ipsum "), binary: false });
  messages.push({ data: randomBytes(size), binary: true });
}
messages.push({ data: Buffer.from("gruß an alle 🦀 \u0000\r\n"), binary: false });
// Cut in the middle of a character.
messages.push({ data: Buffer.from("€uro".repeat(500)), binary: false, cut: [1, 1, 500] });
messages.push({ data: randomBytes(100_000), binary: true, cut: [1, 0, 70_000] });
messages.push({ data: Buffer.from("and a last one"), binary: false });

let back = 0;

socket.on("open", () => {
  say("open", socket.extensions || "none");
  if (!echo) {
    return;
  }
  for (const { data, binary, cut = [] } of messages) {
    let at = 0;
    for (const size of cut) {
      socket.send(data.subarray(at, at + size), { binary, fin: false });
      socket.ping("in between");
      at += size;
    }
    socket.send(data.subarray(at), { binary, fin: true });
  }
});
socket.on("message", (data, binary) => {
  if (!echo) {
    say("message", binary ? "binary" : "text", hex(data));
    return;
  }
  const sent = messages[back];
  if (sent === undefined || sent.binary !== binary || !sent.data.equals(data)) {
    say("differs", `message ${back}: ${data.length} bytes came, ${sent?.data.length} were sent`);
  }
  back += 1;
  if (back === messages.length) {
    say("echoed", back);
    socket.close(1000, "enough");
  }
});
socket.on("pong", () => say("pong"));
socket.on("close", (code) => say("closed", code));
socket.on("error", (error) => say("failed", error.message));
