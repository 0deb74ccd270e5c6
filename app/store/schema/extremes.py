"""The greatest and the least of several values, for which databases have different words."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class Greatest(FunctionElement[int]):
    """Of integers, none of them NULL."""

    inherit_cache = True
    type = sa.BigInteger()
    name = "greatest"


class Least(FunctionElement[int]):
    """Of integers, none of them NULL."""

    inherit_cache = True
    type = sa.BigInteger()
    name = "least"


@compiles(Greatest)
def _greatest(element: Greatest, compiler: SQLCompiler, **how: Any) -> str:  # noqa: ANN401 - as compilers call it
    return f"greatest({compiler.process(element.clauses, **how)})"


@compiles(Least)
def _least(element: Least, compiler: SQLCompiler, **how: Any) -> str:  # noqa: ANN401
    return f"least({compiler.process(element.clauses, **how)})"


@compiles(Greatest, "sqlite")
def _sqlite_max(element: Greatest, compiler: SQLCompiler, **how: Any) -> str:  # noqa: ANN401
    return f"max({compiler.process(element.clauses, **how)})"


@compiles(Least, "sqlite")
def _sqlite_min(element: Least, compiler: SQLCompiler, **how: Any) -> str:  # noqa: ANN401
    return f"min({compiler.process(element.clauses, **how)})"
