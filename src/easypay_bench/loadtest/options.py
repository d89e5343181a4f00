"""The options of `easypay loadtest`, in the order of its help."""

from pathlib import Path
from typing import Annotated, Final

import typer

KEY_VARIABLE: Final = "EASYPAY_API_KEY"

Url = Annotated[
    str | None, typer.Option(help=f"Another gateway; its test key comes from {KEY_VARIABLE}.")
]
Model = Annotated[
    str,
    typer.Option(
        help="constant: one rate. ramp: from --rate to --to. steps: up by --step until the "
        "knee. closed: as fast as answers come, for the peak."
    ),
]
Rate = Annotated[float, typer.Option(help="Starts per second.")]
To = Annotated[float, typer.Option(help="ramp, steps: the highest rate. Default: 10 times --rate.")]
Step = Annotated[float, typer.Option(help="steps: the increase. Default: --rate.")]
Duration = Annotated[float, typer.Option(help="Seconds of load; with steps, of each step.")]
Warmup = Annotated[float, typer.Option(help="Seconds of load before measuring starts.")]
Connections = Annotated[
    int, typer.Option(min=1, max=20_000, help="Keep-alive connections, all opened first.")
]
MaxInFlight = Annotated[
    int,
    typer.Option(min=1, help="Maximum requests in flight; more are dropped and counted."),
]
Processes = Annotated[int, typer.Option(min=1, max=64, help="Generator processes.")]
Timeout = Annotated[
    float,
    typer.Option(min=0.1, max=600, help="Seconds after which a missing answer counts as wrong."),
]
Scenarios = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[=WEIGHT]",
        help="create (the default), create_capture, get, list, void, refund; may be repeated.",
    ),
]
Replay = Annotated[
    Path | None,
    typer.Option(help='JSON lines to send in turn: {"method", "path", "body", "name"}.'),
]
Html = Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")]
Save = Annotated[Path | None, typer.Option(help="Write all results to this JSON file.")]
Beside = Annotated[
    Path | None,
    typer.Option("--compare", help="Also say what changed since this result of --save."),
]
Seed = Annotated[int, typer.Option(help="Seed of the order of the scenarios.")]
Accounting = Annotated[
    bool, typer.Option(help="Check afterwards that every payment is accounted for.")
]
