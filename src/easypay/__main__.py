"""`python -m easypay`."""

from easypay.cli import main

main()
