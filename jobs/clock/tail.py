"""The end of what a child process wrote, bounded and without the secrets that it was given."""

from collections import deque
from collections.abc import Sequence

from pipeline.settings.secrets import mask

LENGTH = 32_768
"""Characters that are kept."""
CHUNK = 4_096
"""Characters of a line that are read at once."""


class Tail:
    """Keeps the newest LENGTH characters; `secrets` are masked in what it shows."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._secrets = tuple(secrets)
        self._chunks: deque[str] = deque()
        self._kept = 0
        self._cut = False

    def add(self, chunk: str) -> None:
        """Append a line, or a part of one."""
        chunk = chunk.replace("\0", "\N{REPLACEMENT CHARACTER}")  # PostgreSQL has no place for it
        self._chunks.append(chunk)
        self._kept += len(chunk)
        while self._kept > LENGTH and len(self._chunks) > 1:
            dropped = self._chunks.popleft()
            self._kept -= len(dropped)
            self._cut = not dropped.endswith("\n")

    def text(self) -> str:
        """Return what was kept, from the beginning of a line if there is one."""
        text = "".join(list(self._chunks))
        if self._cut and "\n" in text[:-1]:
            text = text[text.index("\n") + 1 :]  # half a line might hold half a secret
        return mask(text, self._secrets)

    def last_line(self) -> str | None:
        """Return the last line that says something."""
        return next((line.strip() for line in reversed(self.text().splitlines()) if line.strip()), None)
