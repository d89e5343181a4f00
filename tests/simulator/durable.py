"""A simulator process that is killed and started again with its state."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulator.merchant_client import Merchant, Process


class Durable:
    """A process with a state file. After a restart its merchants talk to the new process."""

    def __init__(self, start: Callable[..., Process], file: Path) -> None:
        self.file = file
        self._start = start
        self._shops: list[Merchant] = []
        self.process = start("--state-file", file)

    def merchant(self, **account: Any) -> Merchant:
        self._shops.append(self.process.merchant(**account))
        return self._shops[-1]

    def restart(self) -> Process:
        """Kill the process, unless the test did, and start another with the file."""
        if self.process.running:
            self.process.kill()
        self.process = self._start("--state-file", self.file)
        for shop in self._shops:
            shop.process = self.process
        return self.process
