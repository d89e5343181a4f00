"""What tests start as a fork of a process that has loaded the code is a process as any other."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import Stack, run_easypay, until
from harness.forks import Fork, ForkServer, Program, start_program

ORDINARY = {"PYTHONHASHSEED": "1"}
"""With it a program is no fork: Python reads it when it starts."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start simulators; return each once it listens."""
    started: list[Program] = []

    def begin(**env: str) -> Program:
        log = tmp_path / f"log-{len(started)}"
        with log.open("wb") as out:
            program = start_program(
                ["authorizenet_simulator", "--port", "0"],
                os.environ | env,
                stdout=out.fileno(),
                stderr=out.fileno(),
            )
        started.append(program)
        while b"listening" not in log.read_bytes():
            assert program.poll() is None
            time.sleep(0.01)
        return program

    yield begin
    for program in started:
        program.kill()
        program.wait()


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (("--version",), b""),
        (("merchant", "list"), b""),
        (("no-such-command",), b""),
        (("merchant", "account", f"mer_{'0' * 32}", "--login-id", "x"), b"\xff\n"),
    ],
)
def test_it_says_what_an_ordinary_process_says(words: tuple[str, ...], stdin: bytes) -> None:
    said = run_easypay(*words, stdin=stdin)
    assert said == run_easypay(*words, stdin=stdin, **ORDINARY)
    assert said.out + said.err


def test_it_has_no_files_that_an_ordinary_process_has_not(start: Callable[..., Program]) -> None:
    def files(program: Program) -> list[str]:
        folder = Path(f"/proc/{program.pid}/fd")
        found = {int(each.name): os.readlink(each) for each in folder.iterdir()}
        return [found[number].partition(":[")[0] for number in sorted(found) if number > 2]

    fork, ordinary = start(), start(**ORDINARY)
    assert (type(fork), type(ordinary)) == (Fork, subprocess.Popen)
    assert files(fork) == files(ordinary)
    assert os.readlink(f"/proc/{fork.pid}/cwd") == os.getcwd()
    assert len(os.listdir(f"/proc/{fork.pid}/task")) == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (signal.SIGTERM, 0),
        (signal.SIGINT, 0),
        (signal.SIGKILL, -signal.SIGKILL),
        (signal.SIGABRT, -signal.SIGABRT),
    ],
)
def test_signals_end_it_as_they_end_a_process(
    start: Callable[..., Program], sent: signal.Signals, status: int
) -> None:
    program = start()
    program.send_signal(signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.01)
    program.send_signal(signal.SIGCONT)
    program.send_signal(sent)
    assert program.wait(10) == program.poll() == program.returncode == status


def test_it_has_the_limits_of_whoever_starts_it(start: Callable[..., Program]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 7, hard))
    try:
        program = start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(program.pid, resource.RLIMIT_NOFILE) == (soft - 7, hard)


def test_no_two_make_the_same_random_numbers(stack: Stack) -> None:
    made = [run_easypay("merchant", "create", name, "--json", **stack.env) for name in "AB"]
    first, second = (each.data["id"] for each in made)
    assert first[-16:] != second[-16:], "the part of an id that is random"


async def test_forks_end_with_the_process_that_forked_them(tmp_path: Path) -> None:
    server = ForkServer()
    with (tmp_path / "log").open("wb") as out, open(os.devnull) as nothing:
        files = {0: nothing.fileno(), 1: out.fileno(), 2: out.fileno()}
        fork = server.fork(["authorizenet_simulator", "--port", "0"], os.environ, files)
    process = Path(f"/proc/{fork.pid}")
    assert process.exists()
    server._process.kill()
    server._process.wait()
    with pytest.raises(RuntimeError, match="the fork server has ended"):
        fork.wait(10)

    async def is_gone() -> bool:
        return not process.exists()

    await until(is_gone)
