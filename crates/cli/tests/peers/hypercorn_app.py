# Event streams and WebSockets that give back what is sent to them, served by hypercorn: HTTP/1.1 and HTTP/2, also RFC 8441.
#
# Wants JSON, its only argument: { cert, key } for TLS, { stream } for a file with what every event stream is to say. Such a file
# holds a list of [text, bytes a chunk]; the stream ends with it. Without it a stream gives back what is POSTed to its session.
# A client that takes gzip gets it.
# Says "port N", and "request METHOD HTTP-VERSION SCHEME" for each request.

import asyncio
import base64
import json
import socket
import sys
import uuid
import zlib

from hypercorn.asyncio import serve
from hypercorn.config import Config

WANTED = json.loads(sys.argv[1])
SESSIONS = {}


def say(*words):
    print(*words, flush=True)


def event(media, payload):
    """One message as our event streams have it."""
    if media.startswith(b"text/") and b"\r" not in payload:
        return b"".join(b"data: " + line + b"\n" for line in payload.split(b"\n")) + b"\n"
    kind = b"b64t" if media.startswith(b"text/") else b"b64"
    return b"event: " + kind + b"\ndata: " + base64.b64encode(payload) + b"\n\n"


async def body_of(receive):
    body = b""
    while True:
        part = await receive()
        if part["type"] == "http.disconnect":
            return None
        body += part.get("body", b"")
        if not part.get("more_body"):
            return body


async def answer(send, status, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def end(send, body=b""):
    await send({"type": "http.response.body", "body": body})


async def stream(scope, receive, send):
    name = uuid.uuid4().hex.encode()
    queue = SESSIONS[name] = asyncio.Queue()
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"pushmark-session", name)]
    squeeze = None
    if b"gzip" in dict(scope["headers"]).get(b"accept-encoding", b""):
        headers.append((b"content-encoding", b"gzip"))
        squeeze = zlib.compressobj(wbits=31)
    await answer(send, 200, headers)
    if "stream" in WANTED:
        with open(WANTED["stream"], encoding="utf-8", newline="") as file:
            script = json.load(file)
        for text, step in script:
            said = text.encode()
            for at in range(0, len(said), step):
                chunk = said[at : at + step]
                if squeeze:
                    chunk = squeeze.compress(chunk) + squeeze.flush(zlib.Z_SYNC_FLUSH)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await end(send, squeeze.flush() if squeeze else b"")
        return

    async def down():
        while True:
            said = await queue.get()
            if squeeze:
                said = squeeze.compress(said) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            await send({"type": "http.response.body", "body": said, "more_body": True})

    async def gone():
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.create_task(down()), asyncio.create_task(gone())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    del SESSIONS[name]


async def http(scope, receive, send):
    session = scope["query_string"].removeprefix(b"session=")
    match scope["method"], scope["path"]:
        case "GET", "/sse":
            await stream(scope, receive, send)
        case "POST", "/sse" if session in SESSIONS:
            media = dict(scope["headers"]).get(b"content-type", b"")
            payload = await body_of(receive)
            if payload is not None:
                SESSIONS[session].put_nowait(event(media, payload))
                await answer(send, 204)
                await end(send)
        case _:
            await answer(send, 404, [(b"content-type", b"text/plain")])
            await end(send, b"this server has /sse and /ws\n")


async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            say("closed", message.get("code"))
            return
        text = message.get("text")
        if text is not None and text.startswith("close "):
            await send({"type": "websocket.close", "code": int(text[6:])})
            return
        await send({"type": "websocket.send", "bytes": message.get("bytes"), "text": text})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            step = (await receive())["type"]
            await send({"type": f"{step}.complete"})
            if step == "lifespan.shutdown":
                return
    method = scope.get("method", "CONNECT")
    say("request", method, scope["http_version"], scope["scheme"])
    if scope["type"] == "websocket":
        await websocket(receive, send)
    else:
        await http(scope, receive, send)


async def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.loglevel = "WARNING"
    config.websocket_max_message_size = 64 << 20
    if "cert" in WANTED:
        config.certfile, config.keyfile = WANTED["cert"], WANTED["key"]
    # Whoever started it is gone when stdin ends.
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    say("port", listener.getsockname()[1])
    await serve(app, config, shutdown_trigger=lambda: over)


asyncio.run(main())
