"""Waiting for something to become true: for tests and for programs that drive a cluster."""
import subprocess
import time

# What a question that comes too early ends with.
EARLY = (OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError)


class NotInTime(AssertionError):
    """It never became true."""


def wait_for(what, seconds, truth, pause=0.2, early=EARLY):
    """Polls until truth() is something true and returns it; `what` is what was waited for in vain."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            last = truth()
            if last:
                return last
        except early as error:
            last = error
        time.sleep(pause)
    raise NotInTime(f"{what}: not within {seconds} s; last: {last!r}")
