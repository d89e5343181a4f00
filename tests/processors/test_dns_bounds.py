"""An answer of DNS with thousands of addresses costs no more than one with some."""

import ipaddress
import random
import time

import dns.message
import dns.rrset
import pytest

from dns_server import Records, dns_serving
from easypay.processors.dns_bounds import MOST_BYTES, MOST_RECORDS, first_records
from easypay.processors.host_names import HostNames

NAME = "pay.example"
MANY = tuple(str(ipaddress.ip_address(0xC0000000 + n)) for n in range(4000))


def answer(kind: str, *data: str, cname: bool = False) -> bytes:
    reply = dns.message.make_response(dns.message.make_query(NAME, kind))
    if cname:
        reply.answer.append(dns.rrset.from_text(f"{NAME}.", 60, "IN", "CNAME", "there.example."))
    name = "there.example." if cname else f"{NAME}."
    reply.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *data))
    return reply.to_wire(max_size=65_535)


async def test_of_many_addresses_the_first_are_used() -> None:
    async with dns_serving() as server:
        server.set(NAME, Records(MANY[:500], way="truncated"))
        names = HostNames(resolver=server.address)
        found = (await names.addresses(NAME)).all
        await names.close()
    assert set(found) < set(MANY)
    assert len(found) == MOST_RECORDS
    assert f"A {NAME} tcp" in server.asked


@pytest.mark.parametrize("cname", [False, True])
def test_the_first_records_are_an_answer_of_their_own(cname: bool) -> None:
    few = answer("A", *MANY[:10], cname=cname)
    assert first_records(few) == few
    cut = first_records(answer("A", *MANY, cname=cname))
    read = dns.message.from_wire(cut)
    assert sum(len(each) for each in read.answer) == MOST_RECORDS
    assert len(read.answer) == 1 + cname
    assert len(cut) < MOST_BYTES


def test_long_data_is_cut_too() -> None:
    one = '"' + "x" * 200 + '"'
    wire = answer("TXT", *(" ".join([one] * 20 + [f'"{n}"']) for n in range(12)))
    read = dns.message.from_wire(first_records(wire))
    assert 0 < sum(len(each) for each in read.answer) < 12


def test_an_answer_of_which_nothing_can_be_kept_does_not_say_that_there_is_no_address() -> None:
    one = '"' + "x" * 200 + '"'
    assert first_records(answer("TXT", " ".join([one] * 100))) == b""
    many = answer("A", *MANY[:100])
    end_of_question = len(dns.message.make_query(NAME, "A").to_wire())
    for cut in range(end_of_question + 16):
        assert first_records(many[:cut]) == b""


def test_whatever_comes_costs_little_and_raises_nothing() -> None:
    rng = random.Random(8)
    whole = answer("A", *MANY, cname=True)
    began = time.process_time()
    for _ in range(300):
        wire = bytearray(whole[: rng.randint(0, len(whole))])
        for _ in range(rng.randint(0, 20)):
            if wire:
                wire[rng.randrange(min(len(wire), 200))] = rng.randrange(256)
        assert len(first_records(bytes(wire))) <= MOST_BYTES
    assert time.process_time() - began < 2
    questions = whole[:4] + b"\xff\xff" + whole[6:]
    assert first_records(questions) == b""
