"""The price book, for operators."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from app.domain.errors import NotFound
from app.web.credentials import require_admin

if TYPE_CHECKING:
    from app.gateway.price_list import PriceList

router = APIRouter(prefix="/admin/api/prices", tags=["admin"], dependencies=[Depends(require_admin)])

_LONGEST_SHOWN = 80


@router.get("")
def prices(request: Request, model: Annotated[str | None, Query()] = None) -> dict[str, Any]:
    """The price of one model, or all prices of settings and upstream. Runs in a thread: the data takes long to load."""
    known: PriceList = request.app.state.price_list
    if model is None:
        return {"prices": known.named(), "learned": known.learned()}
    found = known.find(model)
    if found is None:
        raise NotFound(
            f"No price is known for the model {model[:_LONGEST_SHOWN]!r}: "
            f'add [prices."{model[:_LONGEST_SHOWN]}"] with input and output to the settings.'
        )
    return {"prices": [found], "learned": known.learned()}
