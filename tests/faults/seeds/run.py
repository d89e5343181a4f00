"""The command: runs many seeds in several jobs, shows progress, and can be continued."""

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from faults.seeds import mutations
from faults.seeds.plan import plan

_ROOT: Final = Path(__file__).parents[3]
_TESTS: Final = Path(__file__).parents[2]
_MOST_PER_JOB: Final = 200
"""A job's PostgreSQL and simulator are replaced after this many seeds."""
Seen = Callable[[dict[str, Any]], None]


def commit() -> str:
    """Return the tested commit, with `-changed` if the tree differs from it."""
    head = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=_ROOT, capture_output=True, text=True
    ).stdout.strip()
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", "src", "tests/faults/seeds", "tests/harness"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
    ).stdout.strip()
    return (head or "no-commit") + ("-changed" if changed else "")


async def run_seeds(
    seeds: Iterable[int],
    *,
    jobs: int,
    folder: Path,
    on_result: Seen,
    source: Path = _ROOT / "src",
    keep: bool = False,
    stopped: asyncio.Event | None = None,
    module: str = "faults.seeds.worker",
) -> None:
    """Run every seed once, `jobs` at a time; each job is a process that runs `module` and has its
    own servers.

    `on_result` gets each result as it comes. Failed seeds keep their folder below `folder`.
    """
    stopped = stopped or asyncio.Event()
    waiting = iter(list(seeds))

    async def job() -> None:
        while not stopped.is_set():
            async with _Worker(folder, source, keep, module) as worker:
                for number in range(_MOST_PER_JOB):
                    seed = None if stopped.is_set() else next(waiting, None)
                    if seed is None:
                        return
                    result = await worker.run(seed, stopped)
                    if result is None:
                        return
                    on_result(result)
                    if result["verdict"] == "died":
                        if number == 0:  # it cannot start, and the next would not either
                            stopped.set()
                        break

    await asyncio.gather(*(job() for _ in range(jobs)))


class _Worker:
    """A job's process. Its servers' files are in memory if possible, and are removed with it."""

    def __init__(self, folder: Path, source: Path, keep: bool, module: str) -> None:
        self._folder = folder
        self._module = module
        self._source = source
        self._keep = keep
        shm = Path("/dev/shm")
        self._place = Path(
            tempfile.mkdtemp(prefix="easypay-seeds-", dir=shm if shm.is_dir() else None)
        )

    async def __aenter__(self) -> "_Worker":
        others = [each for each in [os.environ.get("PYTHONPATH")] if each]
        path = os.pathsep.join([str(self._source), str(_TESTS), *others])
        with (self._place / "worker.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                str(self._place),
                *(["keep"] if self._keep else []),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # only the runner gets Ctrl-C
                limit=1 << 24,
            )
        return self

    async def run(self, seed: int, stopped: asyncio.Event) -> dict[str, Any] | None:
        """Return one seed's result; None if the run was stopped meanwhile."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seed}\n".encode())
        line = asyncio.create_task(self._process.stdout.readline())
        stop = asyncio.create_task(stopped.wait())
        await asyncio.wait({line, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not line.done():
            line.cancel()
            return None
        made = self._place / f"seed-{seed}"
        if made.exists():
            shutil.rmtree(self._folder / made.name, ignore_errors=True)
            shutil.move(made, self._folder / made.name)
        if text := line.result():
            result: dict[str, Any] = json.loads(text)
            return result
        log = (self._place / "worker.log").read_text(errors="replace")[-2000:]
        return {"seed": seed, "verdict": "died", "found": [f"the job died: {log}"], "took_s": 0}

    async def __aexit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 15)
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        shutil.rmtree(self._place, ignore_errors=True)


# Output ---------------------------------------------------------------------------------------


class Progress:
    """Print counts, the rate and the time left. `what`: what a number stands for."""

    def __init__(self, total: int, file: Path, tested: str, what: str = "seed") -> None:
        self._what = what
        self._total = total
        self._file = file
        self._tested = tested
        self._begun = time.monotonic()
        self.done = 0
        self.failures: list[dict[str, Any]] = []

    def seen(self, result: dict[str, Any]) -> None:
        self.done += 1
        result |= {"commit": self._tested, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        with self._file.open("a") as file:
            file.write(json.dumps(result) + "\n")
        if result["verdict"] != "clean":
            self.failures.append(result)
            print(f"{self._what} {result['seed']}: {result['verdict']} after {result['took_s']} s")
            for each in result["found"]:
                print(f"    {each[:300]}")
        passed_s = time.monotonic() - self._begun
        rate = self.done / passed_s
        left_s = (self._total - self.done) / rate
        if self.done % 10 == 0 or self.done == self._total or result["verdict"] != "clean":
            print(
                f"{self.done}/{self._total} {self._what}s, {rate * 60:.0f} a minute, "
                f"{len(self.failures)} found something, {left_s / 60:.1f} min left",
                flush=True,
            )


def _done_before(file: Path, tested: str) -> set[int]:
    if not file.exists():
        return set()
    results = (json.loads(line) for line in file.read_text().splitlines() if line.strip())
    return {each["seed"] for each in results if each.get("commit") == tested}


def _show_known(file: Path) -> None:
    """Print what every run so far has found, by message."""
    if not file.exists():
        print(f"nothing was run yet: {file} does not exist")
        return
    for line in file.read_text().splitlines():
        result = json.loads(line)
        if result["verdict"] != "clean":
            print(f"{result['commit']} seed {result['seed']}")
            for each in result["found"]:
                print(f"    {each[:200]}")


async def _run(args: argparse.Namespace, folder: Path, source: Path) -> int:
    tested = commit() + (f"+{args.mutate}" if args.mutate else "")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "results.jsonl"
    seeds = list(range(args.first, args.first + args.seeds))
    if args.replay is not None:
        seeds = [args.replay] * args.times
    elif not args.again:
        before = _done_before(file, tested)
        if skipped := [seed for seed in seeds if seed in before]:
            print(f"{len(skipped)} seeds are done on {tested}; --again runs them again")
        seeds = [seed for seed in seeds if seed not in before]
    progress = Progress(len(seeds), file, tested)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)

    found_by: list[int] = []

    def seen(result: dict[str, Any]) -> None:
        progress.seen(result)
        if args.mutate and mutations.BY_NAME[args.mutate].is_found_by(result["found"]):
            found_by.append(result["seed"])
            if args.replay is None:
                stopped.set()

    await run_seeds(
        seeds,
        jobs=min(args.jobs, max(1, len(seeds))),
        folder=folder,
        on_result=seen,
        source=source,
        # Of many runs, only what found something is kept: a clean one would take its place.
        keep=args.replay is not None and args.times == 1,
        stopped=stopped,
    )
    story = folder / f"seed-{args.replay}" / "story.txt"
    if args.times == 1 and story.exists():
        print(story.read_text())
    if args.mutate:
        word = f"found by {len(found_by)}, first by seed {found_by[0]}" if found_by else "NOT found"
        print(f"{args.mutate}: {word}; {progress.done} seeds were run")
        return 0 if found_by else 1
    print(f"{progress.done} seeds on {tested}, {len(progress.failures)} found something: {folder}")
    return 1 if progress.failures else 0


def main() -> int:
    """Return 0 if everything agreed (with --mutate: if a seed found the mutation), else 1."""
    parser = argparse.ArgumentParser(prog="faults.seeds", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    parser.add_argument("--again", action="store_true", help="also those done on this commit")
    parser.add_argument("--replay", type=int, metavar="SEED", help="one seed, with its story")
    parser.add_argument("--times", type=int, default=1, help="how often to replay it")
    parser.add_argument("--plan", type=int, metavar="SEED", help="say what a seed would do")
    parser.add_argument("--known", action="store_true", help="list what was found so far")
    parser.add_argument("--mutate", choices=sorted(mutations.BY_NAME), help="take a mending out")
    parser.add_argument("--folder", type=Path, default=_ROOT / ".faults", help="keeps results")
    args = parser.parse_args()
    if args.plan is not None:
        print("\n".join(plan(args.plan).lines()))
        return 0
    if args.known:
        _show_known(args.folder / "results.jsonl")
        return 0
    if args.mutate is None:
        return asyncio.run(_run(args, args.folder, _ROOT / "src"))
    with mutations.mutated(_ROOT / "src", args.mutate) as source:
        return asyncio.run(_run(args, args.folder / f"mutated-{args.mutate}", source))
