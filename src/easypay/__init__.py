"""EasyPay: a payment gateway that writes the intent, calls the processor, records the outcome."""

__version__ = "0.1.0"
