"""A load test as one HTML page that loads nothing from elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from easypay_bench.charts import Line, chart
from easypay_bench.history import report
from easypay_bench.history.compare import Change
from easypay_bench.html_page import html_page
from easypay_bench.loadtest.histograms import Second
from easypay_bench.loadtest.run import Result, Step

_NAMES: Final = ("p50", "p90", "p95", "p99", "p99.9", "max")


def page(result: Result, beside: Sequence[Change] = ()) -> str:
    """Return the whole page. `beside`: what changed since an earlier run."""
    machine, plan = result.machine, result.plan
    mix = ", ".join(f"{name} {weight:g}" for name, weight in plan.weights.items())
    load = "a replayed file" if plan.replay else mix
    facts = (
        f"{plan.schedule.model} model, {load}; {plan.connections:,} connections, "
        f"{plan.processes} generator process(es); {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['system']}; commit {machine['commit'] or 'unknown'}"
        f"{' (modified)' if machine['modified'] else ''}; {result.started_at}"
    )
    figures = "".join(_charts(result))
    return html_page(
        "EasyPay load test",
        f"{_verdict(result)}<p>{escape(facts)}</p>"
        f"<h2>Targets</h2>{_targets(result)}"
        f"<h2>Charts</h2><main>{figures}</main>"
        f"<h2>Latency, ms, from when each request was due</h2>{_latencies(result.last_good)}"
        f"<h2>Rate</h2>{_rates(result)}"
        + (f"<h2>Beside the earlier run</h2>{report.html_table(beside)}" if beside else ""),
    )


def _charts(result: Result) -> Iterable[str]:
    step = result.last_good
    numbered = list(enumerate(step.percentiles_ms))
    yield chart(
        "Latency by percentile",
        [Line("all calls", [(float(n), ms) for n, (_, ms) in numbered])],
        x_unit="percentile",
        y_unit="ms",
        x_ticks=[(float(n), f"{share:g}") for n, (share, _) in numbered],
        log_y=True,
    )
    if len(result.steps) > 1:
        rates = [(each.asked_rps, each) for each in result.steps]
        yield chart(
            "Latency by rate",
            [
                Line(name, [(rate, each.total_ms.get(name)) for rate, each in rates])
                for name in ("p50", "p95", "p99")
            ],
            x_unit="starts/s asked",
            y_unit="ms",
            log_y=True,
        )
    seconds = _joined(result.steps)
    yield chart(
        "Rate",
        [
            Line("asked", [(at, s.due) for at, s in seconds], behind=True),
            Line("answered", [(at, s.done) for at, s in seconds]),
            Line("wrong", [(at, s.wrong) for at, s in seconds]),
            Line("dropped", [(at, s.dropped) for at, s in seconds]),
        ],
        x_unit="s",
        y_unit="per second",
    )
    yield chart(
        "Latency over time",
        [
            Line("p50", [(at, s.p50_ms) for at, s in seconds]),
            Line("p99", [(at, s.p99_ms) for at, s in seconds]),
        ],
        x_unit="s",
        y_unit="ms",
        log_y=True,
    )
    names = [(float(n), name) for n, name in enumerate(_NAMES)]
    yield chart(
        "Our time and the processor's",
        [
            Line("our own", [(n, step.own_ms.get(name)) for n, name in names]),
            Line("the processor's", [(n, step.processor_ms.get(name)) for n, name in names]),
        ],
        x_unit="percentile",
        y_unit="ms",
        x_ticks=names,
        log_y=True,
    )
    yield chart(
        "CPU by process",
        [
            Line(name, [(float(n), used[name]) for n, used in enumerate(result.cpu_by_second)])
            for name in result.cpu_cores
        ],
        x_unit="s",
        y_unit="cores",
    )


def _joined(steps: list[Step]) -> list[tuple[float, Second]]:
    """Return the seconds of all steps, one after the other."""
    joined: list[tuple[float, Second]] = []
    offset = 0
    for step in steps:
        joined += [(float(offset + at), second) for at, second in step.seconds]
        offset += (step.seconds[-1][0] + 1) if step.seconds else 0
    return joined


def _verdict(result: Result) -> str:
    state = "missed" if result.exit_status else "met"
    first = f"<p class={state}>{escape(result.judgement)}</p>"
    if result.wrong_accounts:
        items = "".join(f"<li>{escape(text)}</li>" for text in result.wrong_accounts)
        return f"{first}<ul class=wrong>{items}</ul>"
    lines = []
    if result.payments is not None:
        where = "here and at the processor" if result.processor_asked else "here"
        lines.append(f"{result.payments:,} payments, each accounted for {where}.")
    if result.knee_rps is not None:
        lines.append(f"The knee: {result.knee_rps:,g}/s was still served well.")
    lines += [f"The generator was the limit: {s.saturated}." for s in result.steps if s.saturated]
    return f"{first}<p>{escape(' '.join(lines))}</p>"


def _targets(result: Result) -> str:
    words = {True: "met", False: "missed", None: "unknown"}
    rows = "".join(
        f"<tr><td>{escape(each.target.key)}<td>{escape(each.target.wanted)}"
        f"<td>{escape(each.measured)}"
        f"<td class={words[each.met]}>{escape(each.why or words[each.met])}"
        for each in result.verdicts
    )
    return f"<table><tr><th>target<th>wanted<th>measured<th>{rows}</table>"


def _latencies(step: Step) -> str:
    head = "".join(f"<th>{name}" for name in _NAMES)
    rows: list[tuple[str, str, Mapping[str, float]]] = [
        (name, f"{step.counts[name]:,}", spread) for name, spread in sorted(step.calls.items())
    ]
    rows += [
        ("all", "", step.total_ms),
        ("our own time", "", step.own_ms),
        ("the processor's", "", step.processor_ms),
        ("the generator was late", "", step.lateness_ms),
    ]
    body = "".join(
        f"<tr><td>{escape(name)}<td>{count}"
        + "".join(f"<td>{spread[each]:,.2f}" for each in _NAMES)
        for name, count, spread in rows
        if spread
    )
    return f"<table><tr><th><th>count{head}{body}</table>"


def _rates(result: Result) -> str:
    rows = "".join(
        f"<tr><td>{step.asked_rps:,g}<td>{step.due_rps:,.1f}<td>{step.answered_rps:,.1f}"
        f"<td>{step.dropped:,}<td>{sum(step.wrong.values()):,}"
        for step in result.steps
    )
    return f"<table><tr><th>asked/s<th>due/s<th>answered/s<th>dropped<th>wrong{rows}</table>"
