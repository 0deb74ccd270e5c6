"""Parts of the wiring that app.main puts together."""
