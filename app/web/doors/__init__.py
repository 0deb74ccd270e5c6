"""The doors to the gateway: how a forwarded call enters it and how its answer leaves."""
