"""What a gateway's metrics count."""

from prometheus_client.parser import text_string_to_metric_families

from harness.http import http_client
from harness.processes import ADMIN_KEY


async def counted(url: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples with these labels."""
    async with http_client(headers={"authorization": f"Bearer {ADMIN_KEY}"}) as client:
        text = (await client.get(f"{url}/metrics")).text
    # To parse all metrics takes longer than to make them.
    own = "".join(line for line in text.splitlines(keepends=True) if line.startswith(name))
    return sum(
        sample.value
        for family in text_string_to_metric_families(own)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
