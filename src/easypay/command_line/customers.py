"""`easypay customer …`: customers and their stored payment methods, from the command line.

What they print as JSON is what the API answers. What is to be deleted at the processor is left to a
worker.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from easypay.command_line.console import (
    DATA_DIR,
    Columns,
    DataDir,
    Json,
    Wide,
    fail,
    in_database,
    new_group,
    show,
    show_rows,
)
from easypay.command_line.merchants import MerchantId, merchant_of

if TYPE_CHECKING:
    from uuid import UUID

    from easypay.mode import Mode

customers = new_group("Look at customers and their payment methods; create, delete and erase them.")

CustomerId = Annotated[str, typer.Argument(metavar="CUSTOMER", help="`cus_…`")]
ModeName = Annotated[str, typer.Option("--mode", help="test or live; the two never mix.")]
Reference = Annotated[str | None, typer.Option(help="The shop's own id of the customer.")]
Email = Annotated[str | None, typer.Option(help="The customer's email address.")]
Name = Annotated[str | None, typer.Option(help="The customer's name.")]
Description = Annotated[str | None, typer.Option(help="One line for the shop.")]
CUSTOMERS: Final = Columns(
    ("id", "reference", "email", "name", "default_payment_method", "created_at"),
    left_out_first=("created_at", "default_payment_method", "name"),
)
METHODS: Final = Columns(
    ("id", "state", "type", "brand", "last4", "exp_month", "exp_year", "default", "created_at"),
    left_out_first=("created_at", "type"),
)
_MOST_METHODS: Final = 200


@customers.command("create")
def create(
    merchant: MerchantId,
    mode: ModeName = "test",
    reference: Reference = None,
    email: Email = None,
    name: Name = None,
    description: Description = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Create a customer.

    Example: `easypay customer create mer_… --reference C-7781 --email ada@example.com`
    """
    import msgspec

    from easypay import ids
    from easypay.api.customer_bodies import CreateCustomer, fields_of
    from easypay.customers import store
    from easypay.customers.model import Asked
    from easypay.customers.views import customer_view
    from easypay.merchants.admin import mode_of

    given = {"reference": reference, "email": email, "name": name, "description": description}
    try:
        body = msgspec.convert(given, CreateCustomer)
    except msgspec.ValidationError as error:
        fail(f"refused: {error}")

    async def work(connection: Any, _: Any) -> Any:
        key = f"easypay customer create {ids.new_id().hex}"
        asked = Asked(merchant_of(merchant), mode_of(mode), key, bytes(32))
        customer, _ = await store.create(connection, asked, fields_of(body))
        return customer_view(customer)

    made = in_database(data_dir, work)
    show(as_json, made, f"Made {made.id}.")


@customers.command("list")
def list_customers(
    merchant: MerchantId,
    mode: ModeName = "test",
    reference: Reference = None,
    email: Email = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 20,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """List a merchant's customers, newest first, without those that were deleted.

    Example: `easypay customer list mer_… --email ada@example.com`
    """
    from easypay.customers import store
    from easypay.customers.views import customer_view
    from easypay.merchants.admin import mode_of

    async def work(connection: Any, _: Any) -> Any:
        found = await store.list_page(
            connection,
            merchant_of(merchant),
            mode_of(mode),
            below=store.HIGHEST,
            limit=limit,
            reference=reference,
            email=email,
        )
        return [customer_view(each) for each in found]

    show_rows(as_json, in_database(data_dir, work), CUSTOMERS, "No customers.", wide=wide)


@customers.command("show")
def show_customer(
    customer: CustomerId, data_dir: DataDir = DATA_DIR, as_json: Json = False
) -> None:
    """Show a customer, and what waits for a person at the processor. Of one that was erased: how
    far that is, and what is kept.

    Example: `easypay customer show cus_…`
    """
    from msgspec import UNSET

    from easypay import ids
    from easypay.customers import erasure_views, store, vault_work
    from easypay.customers.views import customer_view

    waiting: list[str] = []

    async def work(connection: Any, merchant_id: "UUID", mode: "Mode", found: "UUID") -> Any:
        for kind, row_id, reason in await vault_work.parked(connection, merchant_id, mode, found):
            named = (
                ids.typed(ids.PAYMENT_METHOD, row_id) if kind == "method" else f"profile {row_id}"
            )
            waiting.append(f"parked: {named}: {reason} (`easypay jobs list`)")
        row = await store.find(connection, merchant_id, mode, found)
        if row is not None and row.deleted_at is not None:
            erasure = await erasure_views.read(connection, row)
            if erasure is not None:
                return customer_view(row, erasure)
        return customer_view(await store.get(connection, merchant_id, mode, found))

    shown = _on_customer(data_dir, customer, work)
    if shown.erasure:
        show(as_json, shown, "\n".join([_erasure_lines(shown.erasure), *waiting]))
        return
    lines = [
        f"{field}: {value}"
        for field in shown.__struct_fields__
        if (value := getattr(shown, field)) not in (None, {}, False, UNSET)
    ]
    show(as_json, shown, "\n".join([*lines, *waiting]))


@customers.command("methods")
def list_methods(
    customer: CustomerId,
    wide: Wide = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """List a customer's stored payment methods, newest first.

    Example: `easypay customer methods cus_…`
    """
    from easypay.customers import store
    from easypay.customers.views import method_view

    async def work(connection: Any, merchant_id: "UUID", mode: "Mode", found: "UUID") -> Any:
        methods = await store.list_methods(
            connection, merchant_id, mode, found, below=store.HIGHEST, limit=_MOST_METHODS
        )
        return [method_view(each) for each in methods]

    rows = _on_customer(data_dir, customer, work)
    show_rows(as_json, rows, METHODS, "No payment methods.", wide=wide)


@customers.command("delete")
def delete(customer: CustomerId, data_dir: DataDir = DATA_DIR, as_json: Json = False) -> None:
    """Delete a customer with all payment methods. A worker deletes them at the processor, too.

    Example: `easypay customer delete cus_…`
    """
    from easypay.customers import store

    async def work(connection: Any, merchant_id: "UUID", mode: "Mode", found: "UUID") -> Any:
        await store.delete(connection, merchant_id, mode, found, None, call_s=0.0)
        return {"deleted": customer}

    show(as_json, _on_customer(data_dir, customer, work), f"Deleted {customer}.")


@customers.command("erase")
def erase(
    customer: CustomerId,
    because: Annotated[
        str, typer.Option(help="Why; it goes into the audit log. Write no personal data here.")
    ],
    references: Annotated[
        bool,
        typer.Option("--references", help="Also references and descriptions on its payments."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Erase a customer's personal data, here and at the processor. Nothing brings them back.

    The customer is deleted at once; a worker does the rest. `easypay customer show` says how far it
    is. Example: `easypay customer erase cus_… --because "asked by letter on 3 May" --references`
    """
    import getpass

    from easypay.customers import erasure_rows, erasure_views, store
    from easypay.customers.erasure_rows import ErasureRequest

    if not yes and not typer.confirm(f"Erase {customer}? Nothing brings its data back."):
        fail("nothing was erased")
    asked = ErasureRequest(getpass.getuser(), because, references)

    async def work(connection: Any, merchant_id: "UUID", mode: "Mode", found: "UUID") -> Any:
        who = (merchant_id, mode, found)
        erasure, _ = await erasure_rows.begin(connection, *who, asked, call_s=0.0)
        row = await store.find(connection, *who)
        assert row is not None, "customers are never removed"
        return await erasure_views.shown(connection, erasure, row)

    begun = _on_customer(data_dir, customer, work)
    show(as_json, begun, f"{customer} is being erased: a worker does it.")


@customers.command("delete-method")
def delete_method(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="`pm_…`")],
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> None:
    """Delete a stored payment method. A worker deletes it at the processor, too.

    Example: `easypay customer delete-method pm_…`
    """
    from easypay import ids
    from easypay.customers import method_rows

    async def work(connection: Any, merchant_id: "UUID", mode: "Mode", found: "UUID") -> Any:
        await method_rows.delete(connection, merchant_id, mode, found, None, 0.0)
        return {"deleted": method}

    done = _on(data_dir, "payment_methods", ids.PAYMENT_METHOD, method, work)
    show(as_json, done, f"Deleted {method}.")


def _erasure_lines(erasure: Any) -> str:
    """Return how far an erasure is, and what was removed, as lines."""
    rows = ", ".join(f"{each.rows} of {each.table}" for each in erasure.erased if each.rows)
    lines = [f"id: {erasure.id}", f"state: {erasure.state}", f"erased_at: {erasure.erased_at}"]
    if erasure.waiting_for:
        lines.append(f"waiting for: {erasure.waiting_for}")
    lines.append(f"rows changed: {rows or 'none'}")
    lines += [f"kept: {each.table} ({each.why})" for each in erasure.kept]
    lines += [f"not reached: {each.what}: {each.why}" for each in erasure.not_reached]
    return "\n".join(lines)


Work = Callable[[Any, "UUID", "Mode", "UUID"], Awaitable[Any]]


def _on_customer(data_dir: Path, customer: str, do: Work) -> Any:
    from easypay import ids

    return _on(data_dir, "customers", ids.CUSTOMER, customer, do)


def _on(data_dir: Path, table: str, kind: str, text: str, do: Work) -> Any:
    """Run `do(connection, merchant, mode, id)` on the row of this id, whoever has it."""
    from easypay import ids
    from easypay.customers import store

    row_id = ids.parse(kind, text)
    if row_id is None:
        fail(f"{text!r} is not an id of this kind ({kind}_…)")

    async def work(connection: Any, _: Any) -> Any:
        whose = await store.whose(connection, table, row_id)
        if whose is None:
            raise LookupError(f"there is no {text}")
        return await do(connection, *whose, row_id)

    return in_database(data_dir, work)
