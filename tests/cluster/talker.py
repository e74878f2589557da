#!/usr/bin/env python3
"""A person who talks while things break: runs on a node that stays, reaches the agent as any browser does, by TLS through
the node's own forwarder, and comes back by itself. Python's own library only.

usage: talker.py URL TOKEN TEXT

Says TEXT, prints SPEAKING once the answer to it has begun and SAID once it is acknowledged, asks "Are you still there?", and
prints one line of JSON: answered (the last question was), errors, longest_gap_s (between two pieces of an answer over one
connection), away_s (from the last word of a lost connection to the first of the next), reconnects, lost (turns that were
acknowledged and are not there any more), notes.
"""
import base64
import json
import os
import socket
import ssl
import struct
import sys
import time
import urllib.parse

PATIENCE_S = 180
RETRY_S = 0.5


class Gone(Exception):
    """The connection is no more."""


class Page:
    """A WebSocket client (RFC 6455), as much as is needed."""

    def __init__(self, url, token):
        self.at = urllib.parse.urlsplit(url)
        self.token, self.sock, self.data = token, None, b""

    def connect(self):
        port = self.at.port or (443 if self.at.scheme == "https" else 80)
        self.sock = socket.create_connection((self.at.hostname, port), 10)
        if self.at.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # what is tested is who answers, not who he is
            self.sock = context.wrap_socket(self.sock, server_hostname=self.at.hostname)
        key = base64.b64encode(os.urandom(16)).decode()
        proof = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        self.sock.sendall((f"GET /ws HTTP/1.1\r\nHost: {self.at.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{proof}"
                           f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            self.more(30)
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise Gone(head.split(b"\r\n")[0].decode(errors="replace"))

    def more(self, timeout):
        self.sock.settimeout(timeout)
        piece = self.sock.recv(65536)
        if not piece:
            raise Gone("closed")
        self.data += piece

    def send(self, message):
        data, mask = json.dumps(message).encode(), os.urandom(4)
        length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        self.sock.sendall(b"\x81" + length + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def frame(self, timeout):
        while True:
            if len(self.data) >= 2:
                size, at = self.data[1] & 127, 2
                wide = {126: 2, 127: 8}.get(size, 0)
                if len(self.data) >= 2 + wide:
                    if wide:
                        size, at = int.from_bytes(self.data[2:2 + wide], "big"), 2 + wide
                    if len(self.data) >= at + size:
                        kind, body, self.data = self.data[0] & 15, self.data[at:at + size], self.data[at + size:]
                        return kind, body
            self.more(timeout)

    def event(self, timeout):
        """The next message, None after that many seconds of silence."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                kind, body = self.frame(max(0.05, end - time.monotonic()))
            except TimeoutError:
                return None
            if kind == 8:
                raise Gone("closed by the server")
            if kind == 9:
                self.sock.sendall(b"\x8a\x80" + os.urandom(4))
            if kind == 1:
                return json.loads(body)
        return None


class Talker:
    def __init__(self, url, token):
        self.page = Page(url, token)
        self.result = {"answered": False, "errors": [], "longest_gap_s": 0.0, "reconnects": 0, "lost": 0, "away_s": 0.0, "notes": []}
        self.seen = None  # (epoch, turns) of the last acknowledged turn
        self.heard = time.monotonic()

    def hear(self, timeout):
        event = self.page.event(timeout)
        if event:
            self.heard = time.monotonic()
        if event and event["type"] in ("hello", "saved"):
            epoch, turns = event.get("epoch", 0), event.get("turns", 0)
            if self.seen and epoch > self.seen[0]:
                self.page.send({"type": "seen", "epoch": self.seen[0], "turns": self.seen[1]})
                self.result["lost"] += max(0, self.seen[1] - event.get("taken_turns", turns))
            self.seen = (epoch, turns)
        return event

    def connect(self):
        """As the page does: again and again."""
        last, end = self.heard, time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                self.page.connect()
                if not self.hear(10):
                    raise Gone("it does not greet")
                self.result["away_s"] = max(self.result["away_s"], round(time.monotonic() - last, 2))
                return True
            except (OSError, Gone):
                time.sleep(RETRY_S)
        self.result["errors"].append(f"no connection in {PATIENCE_S} s")
        return False

    def acknowledged(self, before):
        """Waits until one more turn is kept than before."""
        end = time.monotonic() + 20
        while self.seen and self.seen[1] <= before and time.monotonic() < end:
            try:
                self.hear(1)
            except (OSError, Gone):
                self.result["reconnects"] += 1
                return self.connect()
        return True

    def say(self, text, speaking=None):
        """One turn to its end. What a lost connection took with it is said again, once it is known not to be kept."""
        end = time.monotonic() + PATIENCE_S
        self.page.send({"type": "user_message", "data": text, "source": "ws"})
        last = None
        while time.monotonic() < end:
            try:
                event = self.hear(1)
            except (OSError, Gone):
                self.result["reconnects"] += 1
                if not self.connect():
                    return False
                self.page.send({"type": "user_message", "data": text, "source": "ws"})
                last = None
                continue
            now = time.monotonic()
            if event and event["type"] == "agent_delta":
                if last:
                    self.result["longest_gap_s"] = round(max(self.result["longest_gap_s"], now - last), 2)
                elif speaking:
                    speaking()
                    speaking = None
                last = now
            elif event and event["type"] == "agent":
                if "light local model" in event["data"]:
                    self.result["notes"].append("the light model went on")
                return True
            elif event and event["type"] == "error" and event["data"].startswith("answered, but"):  # a full disk: the person is told
                self.result["notes"].append(event["data"][:120])
                return True
            elif event and event["type"] == "error":
                self.result["errors"].append(event["data"][:200])
                return False
        self.result["errors"].append(f"no answer in {PATIENCE_S} s")
        return False


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    talker = Talker(sys.argv[1], sys.argv[2])
    if talker.connect():
        talker.result["away_s"] = 0.0
        before = talker.seen[1] if talker.seen else 0
        if talker.say(sys.argv[3], lambda: print("SPEAKING", flush=True)) and talker.acknowledged(before):
            print("SAID", flush=True)
        # Whatever has happened: the conversation must go on.
        talker.result["answered"] = talker.say("Are you still there?")
    print(json.dumps(talker.result), flush=True)


if __name__ == "__main__":
    main()
