// A WebSocket server by Node's ws: gives back whatever it gets, whole or in fragments with a ping between them.
//
// Wants { cert, key } for TLS, { deflate } as ws understands perMessageDeflate, { fragment } for the size of fragments.
// Says "port N", then for each session "open EXTENSIONS", "closed CODE", "failed WHY", and "pong" for each answered ping.

import http from "node:http";
import https from "node:https";
import { WebSocketServer, read, say, wanted } from "./packages.mjs";

const { cert, key, deflate = false, fragment = Infinity } = wanted();
const server = cert
  ? https.createServer({ cert: read(cert), key: read(key) })
  : http.createServer();
const sockets = new WebSocketServer({ server, path: "/ws", perMessageDeflate: deflate });

sockets.on("connection", (socket) => {
  say("open", socket.extensions || "none");
  socket.on("close", (code) => say("closed", code));
  socket.on("error", (error) => say("failed", error.message));
  socket.on("pong", () => say("pong"));
  socket.on("message", (data, binary) => {
    const words = binary ? "" : data.toString();
    if (words.startsWith("close ")) {
      socket.close(Number(words.slice(6)), "as you say");
      return;
    }
    if (data.length <= fragment) {
      socket.send(data, { binary });
      return;
    }
    for (let at = 0; at < data.length; at += fragment) {
      const fin = at + fragment >= data.length;
      socket.send(data.subarray(at, at + fragment), { binary, fin });
      if (at === 0) {
        socket.ping("still there?");
      }
    }
  });
});
server.listen(0, "127.0.0.1", () => say("port", server.address().port));
