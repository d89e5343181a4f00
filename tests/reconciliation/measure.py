"""Measure `easypay reconcile` on one large batch: time, and the most memory of the process.

    make bench-books ARGS="--transactions 100000"

A small server plays the processor's lists from memory, in a process of its own. The database has a
sale for each transaction. Every one of them must be matched and settled, and nothing may differ.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import asyncpg

from easypay import ids
from easypay.db import embedded
from easypay.merchants import admin
from easypay.merchants.directory import Directory
from easypay.merchants.vault import Vault
from easypay.mode import MODE
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from harness import ENCRYPTION_KEY, migrated
from json_server import serving

PAGE = 1000
AMOUNT = 25_00
OK = {"resultCode": "Ok", "message": [{"code": "I00001", "text": "Successful."}]}
NONE = {"resultCode": "Ok", "message": [{"code": "I00004", "text": "No records found."}]}


def line(number: int, reference: str, at: str) -> dict[str, Any]:
    return {
        "transId": str(60_000_000_000 + number),
        "submitTimeUTC": at,
        "submitTimeLocal": at[:-1],
        "transactionStatus": "settledSuccessfully",
        "invoiceNumber": reference,
        "firstName": "Jane",
        "lastName": "Doe",
        "accountType": "Visa",
        "accountNumber": "XXXX1111",
        "settleAmount": AMOUNT / 100,
        "marketType": "eCommerce",
        "product": "Card Not Present",
        "hasReturnedItemsSpecified": False,
    }


def play(told: Connection, references: list[str], settled_at: str) -> None:
    """Serve the lists until the process is ended."""
    pages = [
        json.dumps(
            {
                "transactions": [
                    line(first + n, reference, settled_at)
                    for n, reference in enumerate(references[first : first + PAGE])
                ],
                "totalNumInResultSet": len(references),
                "messages": OK,
            }
        ).encode()
        for first in range(0, len(references), PAGE)
    ]
    batch = {
        "batchId": "4711",
        "settlementTimeUTC": settled_at,
        "settlementState": "settledSuccessfully",
        "paymentMethod": "creditCard",
        "statistics": [
            {
                "accountType": "Visa",
                "chargeAmount": len(references) * AMOUNT / 100,
                "chargeCount": len(references),
                "refundAmount": 0.0,
                "refundCount": 0,
            }
        ],
    }

    def answer(request: dict[str, Any]) -> object:
        ((method, fields),) = request.items()
        match method:
            case "getMerchantDetailsRequest":
                return {"currencies": ["USD"], "messages": OK}
            case "getSettledBatchListRequest":
                return {"batchList": [batch], "messages": OK}
            case "getTransactionListRequest":
                number = int(fields["paging"]["offset"]) - 1
                return pages[number] if number < len(pages) else {"messages": NONE}
            case _:
                return {"totalNumInResultSet": 0, "messages": NONE}

    async def serve() -> None:
        async with serving(answer) as url:
            told.send(url)
            await asyncio.Event().wait()

    asyncio.run(serve())


async def fill(dsn: str, url: str, count: int, operations: list[uuid.UUID], at: datetime) -> None:
    """Make a merchant with an account, and a captured payment for each operation's id."""
    connection = await asyncpg.connect(dsn)
    vault = Vault(ENCRYPTION_KEY)
    merchant = await admin.create_merchant(
        connection, name="books", allow_raw_cards=True, currencies=("USD",)
    )
    credentials = {"login_id": "a", "transaction_key": "b"}
    account = AUTHORIZE_NET.account("test", credentials, url)
    await admin.set_processor_account(
        connection, vault, AUTHORIZE_NET, merchant.merchant_id, "test", account.credentials
    )
    os.environ["EASYPAY_AUTHORIZE_NET_TEST_URL"] = url
    directory = Directory(
        connection,
        vault,
        {AUTHORIZE_NET.name: _at(url)},
        lease_s=1,
    )
    login = await directory.current_login(merchant.merchant_id, MODE["test"], AUTHORIZE_NET.name)
    assert login is not None
    await connection.execute("UPDATE processor_logins SET created_at = $1", at - timedelta(days=9))
    await connection.execute(
        "INSERT INTO payments (merchant_id, id, mode, status, amount_minor, authorized_minor,"
        " captured_minor, currency, capture, method_type, card_brand, card_last4, processor,"
        " transaction_id, order_reference, created_at, updated_at, login_id)"
        " SELECT $1, u.id, 'test', 'captured', $2, $2, $2, 'USD', 'automatic', 'card', 'visa',"
        " '1111', 'authorize_net', (60000000000 + u.n - 1)::text, 'order-' || u.n, $3, $3, $4"
        "   FROM unnest($5::uuid[]) WITH ORDINALITY AS u(id, n)",
        merchant.merchant_id,
        AMOUNT,
        at,
        login.id,
        operations,
    )
    await connection.execute(
        "INSERT INTO operations (merchant_id, id, payment_id, mode, kind, state, amount_minor,"
        " currency, reference, transaction_id, begun_at, finished_at)"
        " SELECT $1, u.id, u.id, 'test', 'sale', 'approved', $2, 'USD', u.reference,"
        " (60000000000 + u.n - 1)::text, $3, $3"
        "   FROM unnest($4::uuid[], $5::text[]) WITH ORDINALITY AS u(id, reference, n)",
        merchant.merchant_id,
        AMOUNT,
        at,
        operations,
        [ids.reference(each) for each in operations],
    )
    await connection.execute("ANALYZE payments; ANALYZE operations")
    await connection.close()


def _at(url: str) -> Any:
    from msgspec.structs import replace

    return replace(AUTHORIZE_NET, urls={"test": url, "live": url})


def operation_ids(count: int, at: datetime) -> list[uuid.UUID]:
    first = ids.lowest_id_at(at - timedelta(milliseconds=count)).int
    return [uuid.UUID(int=first + (n << 80) | 7 << 76 | 2 << 62) for n in range(count)]


def reconcile(dsn: str, url: str) -> tuple[float, float, str]:
    """Run the command; return its seconds, its MiB and what it said."""
    env = os.environ | {
        "EASYPAY_DATABASE_URL": dsn,
        "EASYPAY_ENCRYPTION_KEY": ENCRYPTION_KEY,
        "EASYPAY_AUTHORIZE_NET_TEST_URL": url,
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "easypay", "reconcile", "--json"], env=env, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, said
    return time.perf_counter() - began, usage.ru_maxrss / 1024, said


async def measure(count: int) -> dict[str, Any]:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=12)
    operations = operation_ids(count, at)
    ours, theirs = multiprocessing.Pipe()
    references = [ids.reference(each) for each in operations]
    player = multiprocessing.Process(
        target=play, args=(theirs, references, at.strftime("%Y-%m-%dT%H:%M:%SZ")), daemon=True
    )
    player.start()
    url = ours.recv()
    try:
        with tempfile.TemporaryDirectory() as folder, embedded.running(Path(folder)) as cluster:
            await migrated(cluster.dsn)
            await fill(cluster.dsn, url, count, operations, at)
            seconds, mebibytes, said = reconcile(cluster.dsn, url)
            again_s, _, again = reconcile(cluster.dsn, url)
            connection = await asyncpg.connect(cluster.dsn)
            settled, differ = await connection.fetchrow(
                "SELECT (SELECT count(*) FROM payments WHERE settlement_state = 'settled'),"
                " (SELECT count(*) FROM reconciliation_breaks)"
            )
            await connection.close()
    finally:
        player.terminate()
    assert (settled, differ) == (count, 0), (settled, differ, said)
    assert json.loads(again)["data"][0]["batches"] == 0
    return {
        "transactions": count,
        "seconds": round(seconds, 1),
        "mebibytes": round(mebibytes),
        "again_seconds": round(again_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--transactions", type=int, default=100_000)
    print(asyncio.run(measure(parser.parse_args().transactions)))


if __name__ == "__main__":
    main()
