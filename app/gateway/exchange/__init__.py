"""One call and its answer, from the request that goes upstream to the settled record."""
