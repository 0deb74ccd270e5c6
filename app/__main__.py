"""`weighbridge`, and `python -m app`."""

import os
import sys

from app.stop_signals import hear_stops, leave_when_told


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        leave_when_told()  # before the rest is loaded, which takes most of a start
    hear_stops()
    _fill_gaps()
    from app.cli.main import app

    try:
        app(prog_name="weighbridge")
    finally:
        _let_go()


def _fill_gaps() -> None:
    """Open what a caller has closed of 0, 1 and 2 (`<&-`): the loop aborts when it gets such a number for its own."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)


def _let_go() -> None:
    """Write what was printed and is not written yet; exit code 1 when that cannot be done, as of any failure.

    Python would end with 120 and a traceback. Whoever has closed the pipe, as `head` does, has read enough.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except OSError as error:
        sys.stderr.write(f"weighbridge: what was to be printed cannot be written: {error.strerror}\n")
    else:
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or it is tried again
    sys.exit(1)


if __name__ == "__main__":
    main()
