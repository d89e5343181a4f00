"""The style and the script of the pages under /docs, under names that change with their content."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple


class DocFile(NamedTuple):
    """A file that the pages use. Its name changes with its content, so it may be kept for ever."""

    name: str
    content_type: bytes
    content: bytes

    @property
    def path(self) -> str:
        return f"/docs/assets/{self.name}"

    @property
    def digest(self) -> str:
        """What a page says of it, so that a browser runs nothing else under its name."""
        return f"sha256-{b64encode(sha256(self.content).digest()).decode()}"


def _file(name: str, content_type: bytes) -> DocFile:
    content = (Path(__file__).parent / "docs" / name).read_bytes()
    stem, _, kind = name.partition(".")
    return DocFile(f"{stem}-{sha256(content).hexdigest()[:16]}.{kind}", content_type, content)


STYLE: Final = _file("style.css", b"text/css; charset=utf-8")
SCRIPT: Final = _file("script.js", b"text/javascript; charset=utf-8")
DOC_FILES: Final = {file.name: file for file in (STYLE, SCRIPT)}
