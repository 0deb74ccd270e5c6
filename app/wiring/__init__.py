"""Parts of app.main's wiring."""
