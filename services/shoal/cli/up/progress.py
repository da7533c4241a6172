"""What `up` shows while it works: a line a step; on a terminal the line of the step that runs is rewritten.

Colours only on a terminal, and never with NO_COLOR. Everything goes to stderr: stdout is for what can be piped.
"""

import os
import sys
import time
from typing import TextIO

GREEN, RED, DIM, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


class Progress:
    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out
        self._live = out.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = self._live and not os.environ.get("NO_COLOR")
        self._began = time.monotonic()
        self._shown = ""

    def paint(self, text: str, colour: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._colour else text

    def running(self, text: str) -> None:
        """What is going on. Piped, it is said once a text."""
        if text == self._shown:
            return
        self._shown = text
        if self._live:
            self._out.write(f"\r\x1b[K  {self.paint('·', DIM)} {text}")
            self._out.flush()

    def done(self, text: str) -> None:
        seconds = self.paint(f"{time.monotonic() - self._began:5.1f} s", DIM)
        self._line(f"{self.paint('✓', GREEN)} {seconds}  {text}")

    def note(self, text: str) -> None:
        self._line(f"  {text}")

    def failed(self, text: str) -> None:
        self._line(f"{self.paint('✗', RED)} {text}")

    def _line(self, text: str) -> None:
        self._out.write(f"\r\x1b[K{text}\n" if self._live else f"{text}\n")
        self._out.flush()
        self._shown = ""
