"""Weighbridge: a proxy for the Responses API that passes every byte and weighs every token."""

__version__ = "0.1.0"
