"""How fast EasyPay is on this machine, and where the time goes: what `make bench` shows."""
