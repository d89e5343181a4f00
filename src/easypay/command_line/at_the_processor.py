"""What a command needs to ask the processor and to record what it learns."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from easypay.command_line.console import fail

if TYPE_CHECKING:
    from easypay.command_line.data_dir import Access
    from easypay.merchants.directory import Directory
    from easypay.payments.statements import Recorder
    from easypay.processors.base import Processor
    from easypay.settings import Settings


@dataclass(frozen=True)
class Tools:
    """The one door for outcomes, the processors' clients, and the accounts with their keys."""

    settings: "Settings"
    recorder: "Recorder"
    processors: "dict[str, Processor]"
    directory: "Directory"


@asynccontextmanager
async def at_the_processor(
    connection: Any, access: "Access", addresses: Mapping[str, str] | None = None
) -> AsyncIterator[Tools]:
    """Yield the tools of a command on this connection, and close them. `addresses`: of the
    processors, if others than those of the environment."""
    from pydantic import SecretStr, ValidationError

    from easypay.command_line.data_dir import what_is_wrong
    from easypay.db.partitions import Months
    from easypay.merchants.directory import Directory
    from easypay.merchants.vault import Vault
    from easypay.payments import statements
    from easypay.payments.statements import Recorder
    from easypay.processors.integration import ClientOptions
    from easypay.processors.registry import installed
    from easypay.settings import Settings

    try:
        settings = Settings(
            database_url=SecretStr(access.database_url),
            encryption_key=SecretStr(access.encryption_key),
        )
    except ValidationError as error:
        fail(what_is_wrong(error))
    months = Months()
    await months.load(connection)
    lane = statements.lane(statements.RECORD_CHANGES, access.database_url)
    committer = statements.group_committer(
        statements.RECORD_CHANGES, [lane], month_of=months.of, size=1, limit=None, patience_s=30.0
    )
    integrations = installed(settings.processor_addresses if addresses is None else addresses)
    options = ClientOptions(
        connect_timeout_s=settings.processor_connect_timeout_s,
        resolver=settings.resolver,
        dns_stale_s=settings.processor_dns_stale_s,
    )
    processors = {name: each.make(options) for name, each in integrations.items()}
    try:
        await lane.open()
        yield Tools(
            settings=settings,
            recorder=Recorder(
                committer, connection, first_inquiry_s=settings.unknown_first_inquiry_s
            ),
            processors=processors,
            directory=Directory(
                connection,
                Vault(access.encryption_key),
                integrations,
                lease_s=settings.cache_lease_s,
            ),
        )
    finally:
        await committer.close()
        for processor in processors.values():
            await processor.close()
