"""`python -m easypay`."""

from easypay.command_line.main import main

main()
