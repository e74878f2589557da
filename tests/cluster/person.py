"""A person who talks through one node of a lab while things break elsewhere: talker.py, started there."""
import json
import pathlib
import select
import shlex
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
NOTHING = {"answered": False, "errors": ["the talker said nothing"], "longest_gap_s": 0.0, "reconnects": 0, "lost": 0, "away_s": 0.0, "notes": []}


class Person:
    """node: one that stays. env: names the lab, as for tests/cluster/lab."""

    def __init__(self, node, token, text, env=None):
        words = f"cat > /run/talker.py && exec python3 /run/talker.py https://127.0.0.1:8443 {shlex.quote(token)} {shlex.quote(text)}"
        self.process = subprocess.Popen([HERE / "lab", "exec", node, "bash", "-c", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, env=env)
        self.process.stdin.write((HERE / "talker.py").read_bytes())
        self.process.stdin.close()
        self.data, self.told = b"", None

    def line(self, seconds):
        """The next line, "" after so many seconds without one or at the end."""
        end = time.monotonic() + seconds
        while b"\n" not in self.data:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            piece = self.process.stdout.read1(65536) if ready else b""
            if not piece:
                return ""
            self.data += piece
        line, self.data = self.data.split(b"\n", 1)
        return line.decode().strip()

    def reaches(self, mark, seconds=300):
        """True at "SPEAKING" or "SAID"; False: the conversation was over before."""
        while self.told is None:
            line = self.line(seconds)
            if line == mark:
                return True
            if line.startswith("{"):
                self.told = json.loads(line)
            elif not line:
                break
        return False

    def result(self, seconds=600):
        """What the person went through; see talker.py."""
        self.reaches("", seconds)
        if self.process.poll() is None and self.told is None:
            self.process.kill()
        self.process.wait(30)
        return self.told or dict(NOTHING)
