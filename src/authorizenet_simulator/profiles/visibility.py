"""Which profiles a request finds: the setting `profile_lag_ms` hides new ones for a while.

The check for duplicates does not come here: it knows every profile at once, as the original's does.
"""

from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.customer_profiles import PaymentProfile, Profile
from authorizenet_simulator.state.ledger import Ledger


def profile(ledger: Ledger, account: Account, profile_id: int) -> Profile | None:
    """Return the account's profile; None if it has none with this id, or it is still hidden."""
    found = ledger.profiles.find(account.login, profile_id)
    return None if found is None or _hidden(ledger, account, found.made_at) else found


def payment(
    ledger: Ledger, account: Account, profile: Profile, payment_id: int
) -> PaymentProfile | None:
    """Return the profile's payment method; None if it has none with this id, or it is hidden."""
    found = profile.payment(payment_id)
    return None if found is None or _hidden(ledger, account, found.made_at) else found


def payments(ledger: Ledger, account: Account, profile: Profile) -> list[PaymentProfile]:
    """Return the profile's payment methods that are not hidden."""
    return [each for each in profile.payments if not _hidden(ledger, account, each.made_at)]


def _hidden(ledger: Ledger, account: Account, made_at: int) -> bool:
    lag_ms = ledger.settings_of(account).profile_lag_ms
    return lag_ms > 0 and ledger.clock.now_ms() < made_at + lag_ms
