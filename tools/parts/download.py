"""One file onto the disk: resumed, watched for stalls, counted, hashed, renamed into place only when it is right."""

import errno
import hashlib
import http.client
import os
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from .lock import PartError
from .resolve import reason

CHUNK = 256 << 10
ATTEMPTS = 4
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def megabytes(count):
    return f"{count / 1e6:.1f} MB"


def duration(seconds):
    seconds = int(seconds + 0.5)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}" if seconds >= 3600 else \
        f"{seconds // 60}:{seconds % 60:02}"


class Progress:
    """A bar with bytes and time left on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, total, stream=None):
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.total, self.done, self.fetched = total, 0, 0
        self.started = self.last = time.monotonic()
        self.name = ""

    def begin(self, name, size, have):
        self.name = name
        self.done += have
        if not self.terminal:
            note = f", {megabytes(have)} of it here already" if have else ""
            print(f"fetching {name} ({megabytes(size)}{note})", file=self.stream, flush=True)

    def add(self, count):
        self.done += count
        self.fetched += max(count, 0)
        now = time.monotonic()
        if now - self.last < (0.2 if self.terminal else 10):
            return
        self.last = now
        rate = self.fetched / max(now - self.started, 0.001)
        left = duration((self.total - self.done) / rate) if rate > 1 else "?"
        part = min(self.done / self.total, 1) if self.total else 1
        if not self.terminal:
            print(f"  {part:4.0%}  {megabytes(self.done)} of {megabytes(self.total)}, {left} left", file=self.stream, flush=True)
            return
        width = 20
        bar = "#" * int(part * width)
        print(f"\r[{bar:<{width}}] {part:4.0%} {megabytes(self.done)} of {megabytes(self.total)}, "
              f"{megabytes(rate)}/s, {left} left  {self.name[:28]}\033[K", end="", file=self.stream, flush=True)

    def clear(self):
        if self.terminal:
            print("\r\033[K", end="", file=self.stream, flush=True)


def sha256_of(path, tick=None):
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
            if tick:
                tick()
    return digest.hexdigest()


class Cut(Exception):
    """The connection ended early: worth another try from where it stopped."""


def write(handle, block, part):
    try:
        handle.write(block)
    except OSError as error:
        if error.errno in FULL:
            raise PartError(f"the disk is full: {part.file} stopped at {megabytes(handle.tell())} of {megabytes(part.size)} "
                            f"(kept as {part.file}.part); free some space and run the same command again") from error
        raise


def start_of(answer, have):
    """Where the server's bytes begin: `have` when it resumes as asked, 0 when it starts over."""
    if answer.status == 206:
        begin = answer.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
        if begin != str(have):
            raise PartError("the server resumes at another place than asked; delete the .part file and run again")
        return have
    return 0


def transfer(source, part, path, timeout, progress):
    """One connection. Raises Cut when it ended early, PartError when trying again would not help."""
    have = os.path.getsize(path) if os.path.exists(path) else 0
    headers = {"User-Agent": "choir-fetch-parts", "Accept-Encoding": "identity", **source.headers}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        answer = source.opener.open(urllib.request.Request(source.url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            os.truncate(path, 0)
            progress.add(-have)
            raise Cut("the server would not resume") from error
        if error.code in (408, 429, 500, 502, 503, 504):
            raise Cut(f"the server answered {error.code}") from error
        raise PartError(f"the server answered {error.code} for {part.file}; run the same command again later") from error
    except (OSError, http.client.HTTPException) as error:
        raise Cut(reason(error)) from error
    with answer:
        begin = start_of(answer, have) if urllib.parse.urlsplit(source.url).scheme != "file" else 0
        announced = answer.headers.get("Content-Length", "")
        if announced.isdigit() and begin + int(announced) != part.size:
            raise PartError(f"the server offers {begin + int(announced)} bytes for {part.file} where parts.lock says "
                            f"{part.size}; it is not the pinned file, so nothing was taken")
        progress.add(begin - have)
        with open(path, "r+b" if os.path.exists(path) else "wb", buffering=0) as handle:
            handle.seek(begin)
            handle.truncate()
            count = begin
            while count < part.size:
                try:
                    block = answer.read1(CHUNK) if hasattr(answer, "read1") else answer.read(CHUNK)
                except (TimeoutError, socket.timeout) as error:
                    raise Cut(f"no byte came for {timeout:g} s") from error
                except (OSError, http.client.HTTPException) as error:
                    raise Cut(f"the connection was cut ({reason(error)})") from error
                if not block:
                    raise Cut("the connection was cut")
                block = block[: part.size - count]
                write(handle, block, part)
                count += len(block)
                progress.add(len(block))


def whole(path, part):
    return os.path.exists(path) and os.path.getsize(path) == part.size


def fetch(resolve, part, folder, timeout, progress):
    """Brings `part` into `folder`. `resolve` is called only when bytes are really needed."""
    path = os.path.join(folder, part.file)
    partial = path + ".part"
    if os.path.exists(partial) and os.path.getsize(partial) > part.size:
        os.truncate(partial, 0)
    have = os.path.getsize(partial) if os.path.exists(partial) else 0
    progress.begin(part.file, part.size, have)
    resumed = have > 0
    if whole(partial, part) and sha256_of(partial) == part.sha256:
        os.replace(partial, path)
        return
    if whole(partial, part):  # left by a run that found it wrong
        os.truncate(partial, 0)
        progress.add(-have)
        resumed = False
    source = resolve(part)
    failures = 0
    while True:
        before = os.path.getsize(partial) if os.path.exists(partial) else 0
        try:
            transfer(source, part, partial, timeout, progress)
        except Cut as cut:
            now = os.path.getsize(partial) if os.path.exists(partial) else 0
            failures = 1 if now > before + (1 << 20) else failures + 1  # one that moves on is not failing
            if failures >= ATTEMPTS:
                raise PartError(f"{part.file} could not be fetched: {cut} at {megabytes(now)} of {megabytes(part.size)} "
                                f"(kept as {part.file}.part); check the network and run the same command again") from cut
            resumed = resumed or now > 0
            time.sleep(min(0.5 * 2 ** failures, timeout / 2, 8))
            continue
        if sha256_of(partial) == part.sha256:
            os.replace(partial, path)
            return
        if resumed:  # the first half may have been what was wrong: once more, from the start
            os.truncate(partial, 0)
            progress.add(-part.size)
            resumed = False
            continue
        raise PartError(f"{part.file} has a wrong sha256: it is not the pinned file (kept as {part.file}.part, not used); "
                        "run the same command again, and if it stays wrong do not trust that server")
