"""What to wake somebody for: one table of rules and targets, and everything that is made from it.

`table.py` and `targets.py` are the data. From them come Prometheus' rules, Grafana's dashboards,
the runbook's entries, and the judgement of a worker where there is no Prometheus.
"""
