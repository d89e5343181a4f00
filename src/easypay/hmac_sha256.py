"""HMAC-SHA-256 of many messages under one key: the key's two blocks are hashed once (RFC 2104).

The digests are those of `hmac.digest`, which sets the algorithm up again for every message. For
messages of our size that takes more than twice as long.
"""

import hashlib
from collections.abc import Callable
from typing import Final

Digest = Callable[[bytes], bytes]
_BLOCK: Final = 64


def keyed_digest(key: bytes) -> Digest:
    """Return the function that digests a message under `key` into 32 bytes."""
    block = hashlib.sha256(key).digest() if len(key) > _BLOCK else key
    padded = block.ljust(_BLOCK, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(message: bytes) -> bytes:
        inside, outside = inner.copy(), outer.copy()
        inside.update(message)
        outside.update(inside.digest())
        return outside.digest()

    return digest
