"""`weighbridge`, and `python -m app`."""


def main() -> None:
    """Run the command line."""
    from app.cli.main import app

    app(prog_name="weighbridge")


if __name__ == "__main__":
    main()
