"""The command: runs rounds in several jobs, and one scenario of workers that stop for a minute."""

import argparse
import asyncio
import signal
import tempfile
from pathlib import Path
from typing import Any, Final

from faults.kills import stopped
from faults.kills.plan import plan
from faults.seeds.run import Progress, commit, run_seeds

JOB: Final = "faults.kills.job"
_ROOT: Final = Path(__file__).parents[3]
_FOLDER: Final = _ROOT / ".faults" / "kills"


async def _rounds(args: argparse.Namespace) -> int:
    """Run the rounds; return how many found something, or were not run."""
    numbers = list(range(args.first, args.first + args.rounds))
    if args.replay is not None:
        numbers = [args.replay] * args.times
    args.folder.mkdir(parents=True, exist_ok=True)
    tested = commit()
    progress = Progress(len(numbers), args.folder / "results.jsonl", tested, "round")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    counts: dict[str, int] = {}

    def seen(result: dict[str, Any]) -> None:
        progress.seen(result)
        for name, count in result.get("counts", {}).items():
            counts[name] = counts.get(name, 0) + count

    await run_seeds(
        numbers,
        jobs=min(args.jobs, len(numbers)),
        folder=args.folder,
        on_result=seen,
        keep=args.replay is not None and args.times == 1,  # a clean one would take its place
        stopped=stop,
        module=JOB,
    )
    story = args.folder / f"seed-{args.replay}" / "story.txt"
    if args.times == 1 and story.exists():
        print(story.read_text())
    what = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{progress.done} rounds on {tested}: {what}")
    if progress.failures:
        failed = ", ".join(str(each["seed"]) for each in progress.failures)
        print(f"rounds that found something: {failed}; their stories are in {args.folder}")
    return len(progress.failures) + len(numbers) - progress.done


async def _stopped(args: argparse.Namespace) -> int:
    """Run the scenario of stopped workers; return how much it found."""
    print(f"workers are stopped at {len(stopped.POINTS)} points for {args.stop_s:g} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="easypay-kills-") as folder:
        found = await stopped.run(Path(folder), args.stop_s)
    for each in found:
        print(f"    {each}")
    print("each payment was charged once and each delivery recorded once" if not found else "")
    return len(found)


async def _all(args: argparse.Namespace) -> int:
    wrong = 0
    if not args.stopped:
        wrong += await _rounds(args)
    if args.stopped or (args.replay is None and not args.no_stopped):
        wrong += await _stopped(args)
    print("VERDICT: everything that was accepted has happened once" if not wrong else "VERDICT: NO")
    return 1 if wrong else 0


def main() -> int:
    """Return 0 if everything agreed, else 1."""
    parser = argparse.ArgumentParser(prog="faults.kills", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    parser.add_argument("--replay", type=int, metavar="ROUND", help="one round, with its story")
    parser.add_argument("--times", type=int, default=1, help="how often to replay it")
    parser.add_argument("--plan", type=int, metavar="ROUND", help="say what a round would do")
    parser.add_argument("--stopped", action="store_true", help="only the workers that stop")
    parser.add_argument("--no-stopped", action="store_true", help="only the rounds")
    parser.add_argument("--stop-s", type=float, default=60.0, help="how long workers stop")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="keeps results")
    args = parser.parse_args()
    if args.plan is not None:
        print("\n".join(plan(args.plan).lines()))
        return 0
    return asyncio.run(_all(args))
