"""Errors of opening the store. Messages are for operators: they name files, never contents."""


class StoreFault(Exception):
    """The store cannot be opened or brought up to date."""


class StoreUnusable(StoreFault):
    """The state directory cannot be made or written to."""


class StoreBusy(StoreFault):
    """Another process has the store open."""


class SchemaTooNew(StoreFault):
    """A newer Weighbridge has written this database; an older one must not touch it."""


class StoreDamaged(StoreFault):
    """The file is not a database that can be read."""


class Conflict(Exception):
    """A change would break a rule of the schema, such as a key id that exists already."""
