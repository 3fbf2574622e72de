"""The commands and programs in the pages, as a reader would run them.

A fenced block ``sh`` or ``python`` is run; a block ``text`` right behind it is what it must print: its lines in this
order, with anything between them. A word after the language says what a block is:

``slow``   run by ``make test-all`` alone
``long``   never run: hours, a whole model, or another machine; its commands must be ones that the parser takes
``fails``  exit code 2, and what it prints is on standard error
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md")))
KINDS = ("", "slow", "long", "fails")

_BLOCK = re.compile(r"^```(sh|python)(?: (\w+))?\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    """One block; ``line`` is where it begins."""

    line: int
    language: str
    kind: str
    text: str
    prints: str

    def printed_in(self, output: str) -> bool:
        """Whether the output has the lines that the page shows."""
        lines = iter(output.splitlines())
        return all(any(line in found for found in lines) for line in self.prints.splitlines())


def snippets(page: Path) -> list[Snippet]:
    """The blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = []
    for m in _BLOCK.finditer(text):
        if (m[2] or "") not in KINDS:
            raise ValueError(f"{page.name}: a block must be one of {', '.join(KINDS[1:])}, not {m[2]!r}")
        found.append(Snippet(text[: m.start()].count("\n") + 1, m[1], m[2] or "", m[3], m[4] or ""))
    return found


def commands(page: Path) -> list[list[str]]:
    """Words of every command of this project in the blocks of a page."""
    lines = [line for s in snippets(page) if s.language == "sh" for line in s.text.splitlines()]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if _ours(words)]


def mentioned(page: Path) -> list[list[str]]:
    """Words of every command that is named in the text, whole or not."""
    found = re.findall(r"`((?:senbazuru|python -m)\s[^`]*)`", page.read_text(encoding="utf-8"))
    return [words for words in (text.split() for text in found) if _ours(words)]


def _ours(words: list[str]) -> bool:
    return words[:1] == ["senbazuru"] or (words[:2] == ["python", "-m"] and words[2].startswith("scripts."))
