"""`make check` refuses long functions, and matches that would silently ignore a new value."""

import subprocess
import sys
from pathlib import Path

CONTRACTS = Path(__file__).parents[2] / "tools/contracts.py"


def test_only_the_planted_violations_are_found(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(
        "def long():\n" + "    pass\n" * 70
        + "def fits():\n" + "    pass\n" * 69
        + "match 1:\n    case 2:\n        pass\n    case _:\n        print()\n"
        + "match 1:\n    case 2:\n        pass\n    case _:\n        assert_never(1)\n"
        + "match 1:\n    case 2:\n        pass\n    case other:\n        raise ValueError(other)\n"
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, CONTRACTS, tmp_path], capture_output=True, text=True, check=False
    )
    places = [
        line.rpartition("planted.py:")[2].partition(":")[0] for line in done.stdout.split("\n")
    ]
    assert places == ["1", "145", ""]
    assert done.returncode == 1
