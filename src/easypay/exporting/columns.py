"""What an export has of each payment, and how PostgreSQL writes it.

The server writes whole lines, and nobody else touches a row: so an export is quick, and the process
that passes it on has time for payments. JSON lines are the payments of the API. A CSV file has the
same fields, with the names of nested ones joined by an underscore.

A text that came from outside could be a formula. A spreadsheet would run `=HYPERLINK(...)` in the
name of whoever opens the file. So in CSV such a text gets an apostrophe before it, which a
spreadsheet takes as "this is text".
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from easypay import ids
from easypay.payment_details import DETAIL_FIELDS


class Kind(Enum):
    """What a value is, and so how it is written."""

    ID = "id"
    WORD = "word"
    """One of our own words: it needs no escaping."""
    NUMBER = "number"
    TEXT = "text"
    """A text from outside: the merchant's, the customer's or the processor's."""
    TIME = "time"
    OBJECT = "object"
    """JSON. The API shows none as `{}`."""


class Column(NamedTuple):
    """A field of the API's payment, and the column of `payments` that has it."""

    field: str
    """`amount`, or `payment_method.brand` if it is nested."""
    column: str
    kind: Kind
    nullable: bool = False
    optional: bool = False
    """Whether the API leaves the field out if there is no value."""
    prefix: str = ids.PAYMENT
    """Of an id."""

    @property
    def name(self) -> str:
        """The column's name in CSV and Parquet."""
        return self.field.replace(".", "_")


def _texts(prefix: str, *columns: str) -> list[Column]:
    return [Column(prefix + each, each, Kind.TEXT, nullable=True) for each in columns]


def _optional_id(field: str, column: str, prefix: str) -> Column:
    return Column(field, column, Kind.ID, nullable=True, optional=True, prefix=prefix)


# What `views.partial_refund` says.
_PARTIAL_REFUND: Final = """CASE WHEN settlement_state IS NULL THEN NULL
        WHEN settlement_state NOT IN ('returned', 'charged_back')
             AND refunded_minor < captured_minor THEN 'possible' ELSE 'impossible' END"""

COLUMNS: Final[Sequence[Column]] = (
    Column("id", "id", Kind.ID),
    Column("status", "status", Kind.WORD),
    Column("amount", "amount_minor", Kind.NUMBER),
    Column("currency", "currency", Kind.WORD),
    Column("captured_amount", "captured_minor", Kind.NUMBER),
    Column("refunded_amount", "refunded_minor", Kind.NUMBER),
    Column("capture", "capture", Kind.WORD),
    Column("payment_method.type", "method_type", Kind.WORD),
    Column("payment_method.brand", "card_brand", Kind.TEXT, nullable=True),
    Column("payment_method.last4", "card_last4", Kind.TEXT, nullable=True),
    Column("payment_method.exp_month", "card_exp_month", Kind.NUMBER, nullable=True),
    Column("payment_method.exp_year", "card_exp_year", Kind.NUMBER, nullable=True),
    _optional_id("payment_method.id", "payment_method_id", ids.PAYMENT_METHOD),
    Column("decline_code", "decline_code", Kind.TEXT, nullable=True),
    Column("processor.name", "processor", Kind.TEXT),
    *_texts("processor.", "transaction_id", "auth_code", "avs_result", "cvv_result"),
    Column("processor.code", "processor_code", Kind.TEXT, nullable=True),
    Column("processor.message", "processor_message", Kind.TEXT, nullable=True),
    Column("processor.avs", "avs_word", Kind.TEXT, nullable=True),
    Column("processor.cvv", "cvv_word", Kind.TEXT, nullable=True),
    *_texts("processor.", "retry", "network_transaction_id"),
    *_texts("", *DETAIL_FIELDS),
    Column("metadata", "metadata", Kind.OBJECT, nullable=True),
    Column("mode", "mode", Kind.WORD),
    Column("version", "version", Kind.NUMBER),
    Column("created_at", "created_at", Kind.TIME),
    Column("updated_at", "updated_at", Kind.TIME),
    _optional_id("possible_duplicate_of", "possible_duplicate_of", ids.PAYMENT),
    _optional_id("customer", "customer_id", ids.CUSTOMER),
    Column("settled_at", "settled_at", Kind.TIME, nullable=True, optional=True),
    Column("settlement_state", "settlement_state", Kind.WORD, nullable=True, optional=True),
    Column("partial_refund", _PARTIAL_REFUND, Kind.WORD, nullable=True, optional=True),
)
NAMES: Final = tuple(column.name for column in COLUMNS)

_FORMULA: Final = "=+-@\t\n\r＝＋－＠"
"""What a formula begins with: https://owasp.org/www-community/attacks/CSV_Injection. The last four
are the wide forms, which some spreadsheets take too."""
_FORMULA_POINTS: Final = ", ".join(str(ord(each)) for each in _FORMULA)


def harmless(cells: Iterable[Any]) -> list[Any]:
    """Return the cells of a line of CSV in which no text is a formula to a spreadsheet."""
    return [
        "'" + each if isinstance(each, str) and each and each[0] in _FORMULA else each
        for each in cells
    ]


def csv_select(*, harmless: bool) -> str:
    """Return what to select for one line of CSV: the columns, as the API shows their values.

    `harmless`: a text that a spreadsheet would run gets an apostrophe before it.
    """
    return ", ".join(_csv(column, harmless) for column in COLUMNS)


def _csv(column: Column, harmless: bool) -> str:
    name = column.column
    match column.kind:
        case Kind.ID:
            return _id(column)
        case Kind.TIME:
            return _time(name)
        case Kind.TEXT if harmless:
            runs = f"ascii({name}) IN ({_FORMULA_POINTS})"
            return f"CASE WHEN {runs} THEN '''' || {name} ELSE {name} END"
        case Kind.WORD | Kind.NUMBER | Kind.TEXT | Kind.OBJECT:
            return name


def json_select() -> str:
    """Return what to select for one line of JSON: a text, the API's payment."""
    template, values, inside = "", [], ""
    for column in COLUMNS:
        parent, _, leaf = column.field.rpartition(".")
        if parent != inside:
            template += "}" if inside else ""
            template += f',"{parent}":{{' if parent else ""
            inside = parent
        value = _json(column)
        if column.optional:  # the last ones of their object, so the comma before each is its own
            template += "%s"
            values.append(f"""coalesce(',"{leaf}":' || {value}, '')""")
            continue
        comma = "" if not template or template.endswith("{") else ","
        template += f'{comma}"{leaf}":%s'
        values.append(f"coalesce({value}, {_NONE_JSON[column.kind]})" if column.nullable else value)
    return f"format('{{{template}}}', {', '.join(values)})"


_NONE_JSON: Final = dict.fromkeys(Kind, "'null'") | {Kind.OBJECT: "'{}'"}


def _json(column: Column) -> str:
    """Return the SQL of a value as JSON text; null if there is none."""
    name = column.column
    match column.kind:
        case Kind.ID:
            return f"""'"' || {_id(column)} || '"'"""
        case Kind.WORD:
            return f"""'"' || {name} || '"'"""
        case Kind.TIME:
            return f"""'"' || {_time(name)} || '"'"""
        case Kind.TEXT:
            return f"to_json({name})::text"
        case Kind.NUMBER | Kind.OBJECT:
            return f"{name}::text"


def _id(column: Column) -> str:
    """Return the SQL of `ids.typed(...)`."""
    return f"'{column.prefix}_' || encode(uuid_send({column.column}), 'hex')"


def _time(column: str) -> str:
    """Return the SQL of `clock.rfc3339`, in a session whose time zone is UTC."""
    return f"""to_char({column}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
