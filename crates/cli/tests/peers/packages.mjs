// The packages that the other programs here use, from the folder that PUSHMARK_TEST_NODE names (scripts/test fills it).
// With --check it says "here" when they can be loaded.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import process from "node:process";

const load = createRequire(`${process.env.PUSHMARK_TEST_NODE ?? "."}/packages.js`);

export const WebSocket = load("ws");
export const { WebSocketServer, Receiver, Sender } = WebSocket;
export const { EventSource } = load("eventsource");
export const { createParser } = load("eventsource-parser");

/** What the test wants of a program: JSON, its only argument. */
export function wanted() {
  // Whoever started it is gone when stdin ends.
  process.stdin.on("end", () => process.exit(0)).resume();
  return JSON.parse(process.argv[2]);
}

/** The text of a file that was named; nothing where none was. */
export function read(path) {
  return path === undefined ? undefined : readFileSync(path, "utf8");
}

/** A line on stdout, written at once. */
export function say(...words) {
  process.stdout.write(`${words.join(" ")}\n`);
}

export function hex(data) {
  return Buffer.from(data).toString("hex");
}

if (process.argv[2] === "--check") {
  say("here");
}
