"""`weighbridge`, with the Python function calls of its main thread counted: `python -m tests.bench.counted serve ...`.

SIGUSR2 starts the count anew and writes what was counted before to the file that COUNTED_CALLS names, as JSON:
{"file.py:function": calls}, for the functions of `app/` alone. Counts do not depend on how busy the machine is.
"""

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

from app.__main__ import main

ROOT = Path(__file__).parents[2]


class CallCounter:
    """Counts calls of functions of `app/` on the thread that makes it."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._calls: Counter[CodeType] = Counter()
        self._app = f"{ROOT / 'app'}{os.sep}"

    def turn(self, _number: int, _frame: FrameType | None) -> None:
        """Report and begin anew."""
        sys.setprofile(None)
        named: Counter[str] = Counter()
        for code, calls in self._calls.items():
            if code.co_filename.startswith(self._app):
                named[f"{code.co_filename.removeprefix(self._app)}:{code.co_qualname}"] += calls
        aside = self._report.with_suffix(".aside")
        aside.write_text(json.dumps(dict(named.most_common())))
        aside.replace(self._report)
        self._calls.clear()
        sys.setprofile(self._count)

    def _count(self, frame: FrameType, event: str, _arg: object) -> None:
        if event == "call":
            self._calls[frame.f_code] += 1


if __name__ == "__main__":
    counter = CallCounter(Path(os.environ["COUNTED_CALLS"]))
    signal.signal(signal.SIGUSR2, counter.turn)
    main()
