"""The limit of open files of this process: each connection needs one."""

import resource
from typing import Final

MOST_FILES: Final = 65_536
SPARE_FILES: Final = 128
"""Reserved for files other than connections."""


def allow_files() -> int:
    """Raise the limit of open files (often 1,024 in a shell) as far as allowed; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft
