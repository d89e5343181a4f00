"""Every rule: when somebody is called, and what that person needs to know. Pure data.

A new rule is an entry here. Then it is in Prometheus' rules, in the runbook, in what a worker
judges by itself, and in the tests that let it fire. docs/monitoring.md says which files to renew.
"""

from typing import Final

from easypay.alerts.model import Absent, Counts, Level, Missing, Rise, Rule, Select, Share, Stands
from easypay.alerts.targets import burns

_OPERATIONS: Final = "easypay_payment_operations_total"
_MONEY: Final = ("operation", "!~", "inquiry|vault_.*")


def _outcomes(outcome: str) -> Counts:
    return Counts(Select(_OPERATIONS, (_MONEY, ("outcome", "=", outcome))))


_CALLS: Final = Counts(Select(_OPERATIONS, (_MONEY,)))

FACTS: Final[tuple[Rule, ...]] = (
    Rule(
        name="EasyPayDown",
        severity="page",
        when=Level(Select("up", (("job", "=", "easypay"),)), "<", 1, by="instance"),
        lasts="1m",
        summary="a gateway does not answer the scrape",
        means="No gateway answers at this address.",
        look="Is the process running, and what is the last line of its log? `/livez` answers if "
        "the process "
        "runs, `/readyz` says why no payment could be written.",
        do="Start it. If it stops at once, the last line says which setting or migration is "
        "missing. If "
        "`/readyz` names the database, repair that first.",
        over="`/readyz` answers 200.",
        may_lack=True,
    ),
    Rule(
        name="EasyPayNoGateway",
        severity="page",
        when=Absent(Select("db_client_connection_count")),
        lasts="1m",
        summary="no gateway shows its metrics",
        means="No gateway runs, or whoever judges reads none: then most of the other rules are "
        "silent, whatever happens.",
        look="Does `/livez` of a gateway answer? If it does: is the scrape's job called `easypay`, "
        "and where a worker judges, has it the gateways' `EASYPAY_METRICS_DIR` or their "
        "`EASYPAY_ALERTS_SCRAPE`?",
        do="Start a gateway; or correct the scrape or the worker's settings.",
        over="a gateway's metrics are read.",
    ),
    Rule(
        name="EasyPayDatabaseAway",
        severity="page",
        when=Level(Select("db_client_connection_count"), "<", 1, over="sum"),
        lasts="30s",
        summary="no gateway has a connection to the database",
        means="The database does not answer. New payments get 503; nothing is charged for them.",
        look="Does the server run, is its disk full, did its address or password change? "
        "`easypay db doctor` once it answers.",
        do="Bring it back. Do not stop the gateways: they may hold outcomes that are not "
        "recorded yet "
        "(`easypay_outcomes_unrecorded`).",
        over="`/readyz` answers 200, and `easypay_outcomes_unrecorded` is 0.",
    ),
    Rule(
        name="EasyPayOutcomesUnrecorded",
        severity="page",
        when=Level(Select("easypay_outcomes_unrecorded"), ">", 0, over="sum"),
        lasts="1m",
        summary="the processor has answered, and the database does not take the outcome",
        means="Outcomes are kept in memory and tried again. A gateway that is killed now loses "
        "what it knows "
        "of them; a decline cannot be found again.",
        look="The log names each with its reference. Does the database answer, is it full, is a "
        "row locked?",
        do="Repair the database before you stop any gateway.",
        over="the figure is 0; the log says `recorded after retries`.",
        may_lack=True,
    ),
    Rule(
        name="EasyPayUnknownOutcomes",
        severity="page",
        when=Share(_outcomes("unknown"), _CALLS, above=0.02, least=3, within="5m"),
        summary="more than 2 % of the calls to the processor have an unknown outcome",
        means="The processor's answers get lost or come too late. Each such payment is "
        "`processing` until its "
        "outcome is found out, which happens by itself.",
        look="`easypay_processor_call_duration_seconds`, the processor's status page, the "
        "network in between.",
        do="Do not repeat payments with a new key, and do not shorten "
        "`EASYPAY_PROCESSOR_DEADLINE_S`. Wait for "
        "the processor, or stop taking payments at the shop if it lasts.",
        over="`easypay operation list --open` is empty.",
    ),
    Rule(
        name="EasyPayUnknownOutcomesMany",
        severity="page",
        when=Level(Select("easypay_unknown_operations"), ">", 100),
        lasts="1m",
        summary="more than 100 outcomes are unknown",
        means="They come faster than they are found out, or finding out fails.",
        look="`easypay_unknown_age_seconds`: below two minutes they are found out, above it "
        "they are not.",
        do="As for EasyPayUnknownOutcomes; if the age climbs, as for EasyPayUnknownOutcomesStay.",
        over="the figure falls below 100; it goes to 0 by itself.",
    ),
    Rule(
        name="EasyPayUnknownOutcomesStay",
        severity="page",
        when=Level(Select("easypay_unknown_age_seconds"), ">", 1200),
        lasts="1m",
        summary="an outcome has been unknown for more than 20 minutes",
        means="Inquiries about it fail, or prove nothing.",
        look="`easypay operation list --open` shows the last finding of each.",
        do="If the findings name a failed call, check the processor's status page and whether "
        "the account may "
        "use its reporting API (`getUnsettledTransactionList`). If they say `inconclusive`, "
        "find the reference "
        "in the merchant interface, then end it by hand: `easypay operation resolve REFERENCE "
        "--as charged "
        "--transaction-id …` or `--as absent`, each with `--because`.",
        over="`easypay operation list --open` does not show it any more.",
    ),
    Rule(
        name="EasyPayInquiriesInconclusive",
        severity="ticket",
        when=Rise(Select("easypay_inquiries_inconclusive_total"), 5, "15m"),
        summary="inquiries at the processor prove nothing",
        means="The processor answers something that cannot be read as proof, so unknown "
        "outcomes stay open.",
        look="`easypay operation show REFERENCE` of one that is open: what did the processor say?",
        do="Nothing while `easypay_unknown_age_seconds` stays below 20 minutes. Otherwise as for "
        "EasyPayUnknownOutcomesStay, and report what it said.",
        over="the counter stands still for a quarter of an hour.",
    ),
    Rule(
        name="EasyPayProcessorUnreachable",
        severity="page",
        when=Share(_outcomes("not_sent"), _CALLS, above=0.1, least=3, within="5m"),
        summary="the processor cannot be reached",
        means="Connections are refused or not made. No money moved for these payments; shops "
        "get 503 and repeat.",
        look="`easypay_processor_connections_made_total` and `easypay_dns_lookups_total` by "
        "`result`: the "
        "network or DNS? The log has the reason.",
        do="Mend the way: DNS, firewall (allow the processor's names, its addresses change), "
        "certificate.",
        over="`not_sent` does not grow any more.",
    ),
    Rule(
        name="EasyPayAccountRefused",
        severity="page",
        when=Rise(Select("easypay_processor_account_refused_total"), 0, "5m"),
        summary="the processor refuses a merchant's credentials",
        means="The payments of that merchant get 502; nothing is charged.",
        look="The log's critical lines name the merchant and the mode.",
        do="As for `the processor refuses the … account` below.",
        over="a payment of the merchant is answered; the counter stands still for five minutes.",
    ),
    Rule(
        name="EasyPayLateChargeNeedsPerson",
        severity="page",
        when=Level(Select("easypay_late_charges", (("state", "=", "needs_person"),)), ">", 0),
        summary="a charge was found after its payment had failed, and needs a person",
        means="EasyPay may not give it back by itself. The customer is charged, and the payment "
        "says `failed`.",
        look="`easypay late-charges list --open` says which and why.",
        do="Void or refund it in the merchant interface, or keep it and deliver; then `easypay "
        "late-charges "
        'close REFERENCE --because "…"`.',
        over="`easypay late-charges list --open` is empty.",
    ),
    Rule(
        name="EasyPayLateCharge",
        severity="ticket",
        when=Rise(Select("easypay_late_charges_found_total"), 0, "1h"),
        summary="a charge was found after its payment had failed",
        means="It is being given back.",
        look="`easypay late-charges list`: it must become `returned` within a day.",
        do="Nothing for one. For several in a day raise `EASYPAY_UNKNOWN_ABSENT_AFTER_S`: the "
        "processor's "
        "reports lag by more than that.",
        over="an hour has passed without another.",
    ),
    Rule(
        name="EasyPayNoWorker",
        severity="page",
        when=Missing(Select("easypay_work_rows")),
        lasts="1m",
        summary="no worker shows its metrics",
        means="No worker runs, or none is scraped. Webhooks, queued payments, batches and the "
        "books wait; "
        "payments are taken.",
        look="Does `easypay worker` run anywhere? It shows its metrics with "
        "`EASYPAY_METRICS_DIR` or "
        "`EASYPAY_METRICS_LISTEN`.",
        do="Start one. Nothing is lost: it does what has waited.",
        over="`easypay_work_rows` is there again.",
    ),
    Rule(
        name="EasyPayWorkWaits",
        severity="page",
        when=Level(Select("easypay_work_age_seconds"), ">", 60, by="list"),
        summary="work has been due for more than a minute",
        means="Webhooks, queued payments or other work of the list is not done in time. Nothing "
        "is lost.",
        look="Does a worker run (`easypay jobs depth`)? `easypay_work_ended_total` by `how`: "
        "does it end?",
        do="Start a worker, or more of them. If work ends as `later`, its reason is in `easypay "
        "jobs list`.",
        over="`easypay jobs depth` shows an age below a minute.",
    ),
    Rule(
        name="EasyPayWorkParked",
        severity="ticket",
        when=Level(Select("easypay_work_rows", (("state", "=", "parked"),)), ">", 0, by="list"),
        summary="work was given up and waits for a person",
        means="It failed too often, or in a way that trying again does not cure.",
        look="`easypay jobs list` says what and why.",
        do='`easypay jobs retry LIST JOB --because "…"` once the reason is mended, or `easypay '
        "jobs drop`.",
        over="`easypay jobs list` is empty.",
    ),
    Rule(
        name="EasyPayFeedBehind",
        severity="ticket",
        when=Share(
            Counts(
                Select("easypay_feed_behind_seconds_count"),
                Select("easypay_feed_behind_seconds_bucket", (("le", "=", "2.5"),)),
            ),
            Counts(Select("easypay_feed_behind_seconds_count")),
            *(0.2, 3, "5m"),
        ),
        summary="events get their place in the feed seconds late",
        means="Webhooks, filtered lists and statistics are as far behind. Payments are not "
        "affected.",
        look="A transaction that stays open (`easypay db doctor`), or a leader without CPU.",
        do="End the transaction, or give the host CPU.",
        over="events get their place within a second.",
    ),
    Rule(
        name="EasyPayFeedStands",
        severity="page",
        when=Stands(
            Select("easypay_feed_events_total"),
            Select(_OPERATIONS, (_MONEY, ("outcome", "=", "approved"))),
            *(10, "5m"),
        ),
        summary="payments are made, and their events get no place in the feed",
        means="No process leads the feed. Webhooks and filtered lists stand still; payments are "
        "not affected.",
        look="`the feed waits for the database` in the logs of the gateways.",
        do="Restart one gateway (SIGTERM loses no request). Report what its log says.",
        over="`easypay_feed_events_total` grows.",
    ),
    Rule(
        name="EasyPayBooksDiffer",
        severity="ticket",
        when=Level(Select("easypay_reconciliation_break_age_seconds"), ">", 86_400),
        summary="a difference between the processor's books and ours has been open for a day",
        means="Money that no operation explains, or that does not arrive.",
        look="`easypay breaks list`, and `easypay breaks show brk_…` for both sides; "
        "[finance](finance.md) says "
        "what each kind means.",
        do="What the kind asks for, such as a refund of a charge that nobody wanted. A "
        "difference whose other "
        "side arrives goes by itself; close any other with `easypay breaks match brk_… "
        '--because "…"`.',
        over="`easypay breaks list` shows none that is older than a day.",
    ),
    Rule(
        name="EasyPayBooksNotRead",
        severity="ticket",
        when=Level(Select("easypay_reconciliation_age_seconds"), ">", 86_400),
        summary="an account's books have not been read for a day",
        means="Payments are not told that they settled, and differences are not found.",
        look="Does a worker run? `easypay reconcile` reads them now and says what fails.",
        do="Start a worker; if it says E00011, switch on the Transaction Details API at "
        "Authorize.Net (Account, "
        "Settings, Transaction Details API).",
        over="`easypay reconcile` ends without an error.",
    ),
    Rule(
        name="EasyPayBooksFail",
        severity="ticket",
        when=Rise(Select("easypay_reconciliations_total", (("result", "=", "failed"),)), 0, "15m"),
        summary="an account's books cannot be read",
        means="Reading them failed and is tried again. After a day EasyPayBooksNotRead follows.",
        look="The log line `the books of account … cannot be read`, or `easypay reconcile`.",
        do="As there.",
        over="`easypay reconcile` ends without an error; the counter stands still for a quarter "
        "of an hour.",
    ),
    Rule(
        name="EasyPayProcessorTellsNothing",
        severity="ticket",
        when=Level(Select("easypay_processor_webhooks", (("state", "!=", "active"),)), ">", 0),
        lasts="1m",
        summary="the processor does not send an account's notifications any more",
        means="Its webhook is switched off or deleted there. Outcomes are learned all the same, "
        "by asking.",
        look="As for `the processor sends no notifications of the account …` below.",
        do="As there.",
        over="`easypay processor register-webhooks --check` finds all of them active.",
    ),
    Rule(
        name="EasyPayNotificationsMissed",
        severity="ticket",
        when=Share(
            Counts(Select("easypay_notifications_expected_total", (("result", "=", "missed"),))),
            Counts(Select("easypay_notifications_expected_total")),
            *(0.1, 3, "30m"),
        ),
        summary="notifications of charges do not arrive",
        means="The processor does not reach the gateway. Outcomes are learned all the same, by "
        "asking.",
        look="As for `the processor has told nothing of … of … charges of the account …` below.",
        do="As there.",
        over="half an hour has passed in which they came.",
    ),
    Rule(
        name="EasyPayNotificationsRefused",
        severity="ticket",
        when=Rise(Select("easypay_notifications_total", (("result", "=", "refused"),)), 10, "5m"),
        summary="notifications are refused for their signature",
        means="An account's signature key is wrong, or somebody tries the address.",
        look="The addresses in the gateways' request log; the account's signature key in the "
        "merchant interface.",
        do="Save the account with the right key: `easypay merchant account mer_… --mode live …`.",
        over="the counter stands still for five minutes.",
    ),
    Rule(
        name="EasyPayClockWrong",
        severity="page",
        when=Level(Select("easypay_clock_offset_seconds"), ">", 30, by="instance", absolute=True),
        lasts="1m",
        summary="a host's clock differs from the database's by more than 30 s",
        means="Ages and due times stay right; ids, logs and months follow the host's clock.",
        look="As for `the clock of this host is …` below.",
        do="As there.",
        over="`easypay_clock_offset_seconds` is below 0.1.",
    ),
    Rule(
        name="EasyPayMonthsRunOut",
        severity="page",
        when=Level(Select("easypay_partition_horizon_days"), "<", 25),
        lasts="1m",
        summary="in less than 25 days payments will have no table for their month",
        means="Months could not be made for weeks. At 0 payments are taken all the same, but "
        "more slowly, and "
        "their rows must be moved later.",
        look="`easypay db partitions` shows missing months in red; the log says in `… failed; "
        "next try in a "
        "minute: …` why they could not be made.",
        do="As described there.",
        over="`easypay db partitions` shows none that is missing.",
    ),
    Rule(
        name="EasyPayReplicaBehind",
        severity="ticket",
        when=Level(Select("easypay_replica_lag_seconds"), ">", 30),
        lasts="1m",
        summary="the read replica is more than 30 s behind",
        means="Lists are read from the primary, which has more to do.",
        look="The log line `the read replica is left out` says whether it is away, silent, "
        "paused or held up.",
        do="Mend that; a long query on the replica ends by `pg_cancel_backend`.",
        over="`easypay_replica_lag_seconds` is below 0.5.",
        may_lack=True,
    ),
    Rule(
        name="EasyPayDiskFull",
        severity="page",
        when=Level(Select("easypay_disk_used_ratio"), ">", 0.9, by="of"),
        lasts="1m",
        summary="a disk is more than 90 % full",
        means="`database`: the server's data; when it is full no payment can be written. "
        "`host`: logs and metrics.",
        look="`easypay db doctor`: replication slots that hold back the log, and the largest "
        "tables.",
        do="Make room: drop a slot that nobody reads, `easypay db archive` old months, or "
        "enlarge the disk.",
        over="less than 90 % are used.",
    ),
    Rule(
        name="EasyPayCertificateExpires",
        severity="ticket",
        when=Level(Select("easypay_processor_certificate_days"), "<", 7, by="processor"),
        lasts="1m",
        summary="the certificate of a processor ends within a week",
        means="It is the processor's own, or that of a proxy in between. When it has ended, no "
        "payment can be sent.",
        look="`openssl s_client -connect HOST:443` from this host: whose certificate is it?",
        do="A proxy of yours: renew it. The processor's: they renew it in time as a rule; ask "
        "them in the last days.",
        over="the figure is above 7 days; connections are renewed within minutes.",
        may_lack=True,
    ),
    Rule(
        name="EasyPayKeyExpires",
        severity="ticket",
        when=Level(Select("easypay_api_key_expiry_days"), "<", 7),
        lasts="1m",
        summary="an API key ends within a week",
        means="The shop that uses it gets 401 from then on.",
        look="`easypay key list mer_…` shows when each ends. Has the merchant a newer one?",
        do="Make a new one with `easypay key create mer_…`, and revoke the old one when the "
        "shop uses it.",
        over="the old key is revoked, or has ended.",
    ),
)

RULES: Final = (*burns(), *FACTS)
