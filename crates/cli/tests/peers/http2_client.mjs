// An HTTP/2 client by node:http2, with event streams and WebSockets (RFC 8441) as streams of one connection.
//
// Wants { origin, ca, streams }. The streams' events are read by eventsource-parser, the WebSockets' frames by ws. Says "protocol ALPN",
// "event N HEX", "message N text|binary HEX", "echoed N" for what each WebSocket sent and got back, "ended N" and "failed …".

import http2 from "node:http2";
import { Receiver, Sender, createParser, hex, read, say, wanted } from "./packages.mjs";

const { origin, ca, streams } = wanted();
const session = http2.connect(origin, { ca: read(ca) });
session.on("error", (error) => say("failed", error.message));
session.on("goaway", (code) => say("goaway", code));

function checked(stream, number, begin) {
  stream.on("error", (error) => say("failed", number, error.message));
  stream.on("close", () => say("ended", number, stream.rstCode));
  stream.on("response", (headers) => {
    if (headers[":status"] === 200) {
      begin();
    } else {
      say("failed", number, headers[":status"]);
    }
  });
}

function events(number) {
  const stream = session.request({ ":path": "/sse", accept: "text/event-stream" });
  checked(stream, number, () => {
    const parser = createParser({
      onEvent: (event) => say("event", number, hex(event.data)),
      onError: (error) => say("failed", number, error.message),
    });
    stream.setEncoding("utf8");
    stream.on("data", (text) => parser.feed(text));
    say("began", number);
  });
}

function socket(number) {
  const stream = session.request(
    { ":method": "CONNECT", ":protocol": "websocket", ":path": "/ws", "sec-websocket-version": "13" },
    { endStream: false },
  );
  checked(stream, number, () => {
    const sender = new Sender(stream, {});
    const receiver = new Receiver({ isServer: false });
    const options = { mask: true, fin: true, compress: false, binary: false };
    const greeting = `greetings from ${number} `.repeat(5_000);
    receiver.on("message", (data, binary) => {
      if (data.toString() === greeting) {
        say("echoed", number);
      } else {
        say("message", number, binary ? "binary" : "text", hex(data));
      }
    });
    receiver.on("conclude", (code) => {
      say("concluded", number, code);
      // 1005 stands for a frame without a code (RFC 6455, section 7.1.5).
      sender.close(code === 1005 ? undefined : code, "", true, () => stream.end());
    });
    receiver.on("error", (error) => say("failed", number, error.message));
    stream.pipe(receiver);
    sender.send(greeting, options);
    say("began", number);
  });
}

session.on("remoteSettings", (settings) => {
  say("protocol", session.alpnProtocol, settings.enableConnectProtocol);
  for (let number = 0; number < streams; number += 1) {
    (number % 2 === 0 ? events : socket)(number);
  }
});
