"""Compares what a case did with its bounds."""

from plans.cases import Case
from plans.explain import Found


def what_is_wrong(case: Case, found: Found) -> list[str]:
    """Return what is beyond the bounds of a case, in words."""
    wrong = [f"it does not use {index}" for index in case.uses if index not in found.indexes]
    wrong += [
        f"it reads all of {table}" for table in sorted(found.read_whole - set(case.reads_whole))
    ]
    for what, value, most in (
        ("months", len(found.months - {"default"}), case.months),
        ("locks", found.locks, case.locks),
        ("pages", found.buffers, case.buffers),
        ("sorted rows", found.sorted_rows, case.sorts),
    ):
        if value > most:
            wrong.append(f"{value} {what}; at most {most} are allowed")
    if wrong:
        wrong += ["its statements:", *found.texts]
    return wrong
