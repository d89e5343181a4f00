"""Grafana's dashboards, made from tables: `easypay alerts dashboards --to DIR`."""

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from easypay.alerts.model import Select
from easypay.alerts.targets import OBJECTIVES, PERCENTILES, where_of

_WIDTH: Final = 8
_HEIGHT: Final = 8
_ACROSS: Final = 3
_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_SCHEMA: Final = 39
"""The version of Grafana's dashboard schema that these are written in (Grafana 10.4 and later)."""


class Panel(msgspec.Struct, frozen=True):
    """A time series: lines by (query, legend). `limit`: a target, drawn as a line."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    limit: float | None = None


class Board(msgspec.Struct, frozen=True):
    """One dashboard."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def _rate(metric: str, by: str = "", where: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{where}[$__rate_interval]))"


def _quantile(share: float, metric: str, where: str = "") -> str:
    return f"histogram_quantile({share:g}, {_rate(f'{metric}_bucket', 'le', where)})"


def _targets() -> Iterator[Panel]:
    """A panel for each target: how fast its budget burns, then the percentile itself."""
    for each in OBJECTIVES:
        this = f'{{target="{each.key}"}}'
        lines = tuple(
            (f"easypay:target_missed:ratio{window}{this}", window) for window in ("5m", "1h", "6h")
        )
        yield Panel(f"missed: {each.title}", "percentunit", lines, each.budget)
    for one in PERCENTILES:
        matchers = Select("", where_of(one)).promql()
        query = _quantile(one.share, one.histogram, matchers)
        yield Panel(f"{one.key}: {one.title}", "s", ((query, one.key),), one.limit_s)


BOARDS: Final[tuple[Board, ...]] = (
    Board(
        "easypay-targets",
        "EasyPay: targets",
        (
            Panel("alerts", "short", (('ALERTS{alertname=~"EasyPay.*"}', "{{alertname}}"),)),
            *_targets(),
        ),
    ),
    Board(
        "easypay-payments",
        "EasyPay: payments and processor",
        (
            Panel(
                "requests by status",
                "reqps",
                (
                    (
                        _rate(
                            "http_server_request_duration_seconds_count",
                            "http_response_status_code",
                        ),
                        "{{http_response_status_code}}",
                    ),
                ),
            ),
            Panel(
                "outcomes",
                "ops",
                ((_rate("easypay_payment_operations_total", "outcome"), "{{outcome}}"),),
            ),
            Panel(
                "the processor's time",
                "s",
                (
                    (_quantile(0.5, "easypay_processor_call_duration_seconds"), "p50"),
                    (_quantile(0.95, "easypay_processor_call_duration_seconds"), "p95"),
                    (_quantile(0.99, "easypay_processor_call_duration_seconds"), "p99"),
                ),
            ),
            Panel("unknown outcomes", "short", (("max(easypay_unknown_operations)", "unknown"),)),
            Panel(
                "age of the oldest unknown outcome",
                "s",
                (("max(easypay_unknown_age_seconds)", "age"),),
                1200,
            ),
            Panel(
                "late charges", "short", (("max by (state) (easypay_late_charges)", "{{state}}"),)
            ),
            Panel(
                "connections to the processor",
                "short",
                (("sum by (state) (easypay_processor_connections)", "{{state}}"),),
            ),
            Panel(
                "connections made, lookups",
                "ops",
                (
                    (_rate("easypay_processor_connections_made_total", "result"), "{{result}}"),
                    (_rate("easypay_dns_lookups_total", "result"), "DNS {{result}}"),
                ),
            ),
            Panel(
                "outcomes that are not recorded",
                "short",
                (("sum(easypay_outcomes_unrecorded)", "outcomes"),),
            ),
        ),
    ),
    Board(
        "easypay-work",
        "EasyPay: database, work and processes",
        (
            Panel(
                "statements, p95",
                "s",
                (
                    (
                        "histogram_quantile(0.95, "
                        + _rate(
                            "db_client_operation_duration_seconds_bucket", "le, db_query_summary"
                        )
                        + ")",
                        "{{db_query_summary}}",
                    ),
                ),
            ),
            Panel(
                "waiting for a commit",
                "short",
                (("sum by (group) (easypay_group_queue)", "{{group}}"),),
            ),
            Panel(
                "the pool",
                "short",
                (
                    (
                        "sum by (db_client_connection_state) (db_client_connection_count)",
                        "{{db_client_connection_state}}",
                    ),
                ),
            ),
            Panel(
                "work that is due",
                "s",
                (("max by (list) (easypay_work_age_seconds)", "{{list}}"),),
                60,
            ),
            Panel(
                "work lists",
                "short",
                (("max by (list, state) (easypay_work_rows)", "{{list}} {{state}}"),),
            ),
            Panel(
                "the feed", "s", ((_quantile(0.95, "easypay_feed_behind_seconds"), "behind, p95"),)
            ),
            Panel(
                "books",
                "s",
                (("max(easypay_reconciliation_age_seconds)", "read to their end"),),
                86_400,
            ),
            Panel(
                "differences",
                "short",
                (("max by (kind) (easypay_reconciliation_breaks)", "{{kind}}"),),
            ),
            Panel("replica", "s", (("max(easypay_replica_lag_seconds)", "lag"),), 30),
            Panel(
                "CPU",
                "short",
                (("rate(process_cpu_seconds_total[$__rate_interval])", "{{instance}}"),),
            ),
            Panel("memory", "bytes", (("process_resident_memory_bytes", "{{instance}}"),)),
            Panel(
                "event loop, p99",
                "s",
                ((_quantile(0.99, "easypay_event_loop_lag_seconds"), "late"),),
            ),
            Panel(
                "disks",
                "percentunit",
                (("max by (of, instance) (easypay_disk_used_ratio)", "{{of}} {{instance}}"),),
                0.9,
            ),
            Panel(
                "days that are left",
                "d",
                (
                    ("max(easypay_partition_horizon_days)", "months"),
                    ("max(easypay_processor_certificate_days)", "the processor's certificate"),
                    ("max(easypay_api_key_expiry_days)", "an API key"),
                ),
            ),
        ),
    ),
)


def _panel(panel: Panel, at: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    custom = {"drawStyle": "line", "fillOpacity": 0, "lineWidth": 1, "showPoints": "never"}
    style = {"thresholdsStyle": {"mode": "off" if panel.limit is None else "line"}}
    return {
        "id": at + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {
            "x": at % _ACROSS * _WIDTH,
            "y": at // _ACROSS * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": _SOURCE,
                "expr": query,
                "legendFormat": legend,
            }
            for n, (query, legend) in enumerate(panel.lines)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": custom | style,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {
            "legend": {
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": True,
                "calcs": [],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def dashboard(board: Board) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "tags": ["easypay"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [
                {
                    "name": "source",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                }
            ]
        },
        "panels": [_panel(panel, at) for at, panel in enumerate(board.panels)],
    }


def files() -> dict[str, str]:
    """Return the dashboards by file name."""
    return {
        f"{board.uid}.json": json.dumps(dashboard(board), indent=2, ensure_ascii=False) + "\n"
        for board in BOARDS
    }
