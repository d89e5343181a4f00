"""How fast EasyPay is on this machine, and where the time goes: behind `make bench`."""
