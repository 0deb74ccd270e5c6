"""The texts of the mock model, in tokens of about four characters."""

import itertools
import re
from random import Random

SENTENCES = (
    "A weighbridge weighs a loaded truck as it drives across, without unloading it.",
    "Every byte leaves as it came — naïve “quotes”, 日本語, ελληνικά and 🚀 included.",
    "Money is counted in whole nano-dollars, never in floats.",
    "Ключ остаётся на сервере, and the ledger remembers each call.",
    "A list:\n- première\n- zweite\n- τρίτη\n",
    'Braces {"like": "these"}, back\\slashes and "quotes" are only text.',
    'So is data: {"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":1}}} here.',
    "What was admitted is settled once, whatever happened to it.",
    "Slow readers, cut connections and full disks are all in a day's work.",
)
_TOKEN = re.compile(r"\s?\S{1,5}|\s")
_COUNT = re.compile(r"\bcount(?:ing)? from (-?\d{1,4}) to (-?\d{1,4})\b", re.IGNORECASE)
_WORDS = re.compile(r"\b(\d{1,4}) words?\b", re.IGNORECASE)


def tokenise(text: str) -> list[str]:
    """Cut a text into tokens; joined again they are the text."""
    return _TOKEN.findall(text)


def reply(question: str, rng: Random) -> str:
    """An answer to the question: it counts when asked to, keeps to "N words" when asked to, else talks for a while."""
    if count := _COUNT.search(question):
        first, last = int(count[1]), int(count[2])
        return ", ".join(map(str, range(first, last + 1) if last >= first else range(first, last - 1, -1)))
    if words := _WORDS.search(question):
        said = itertools.cycle(rng.choice(SENTENCES).split())
        return " ".join(itertools.islice(said, max(1, int(words[1]))))
    return " ".join(rng.sample(SENTENCES, rng.randint(3, 6)))


def talk(tokens: int, rng: Random) -> list[str]:
    """Exactly so many tokens of text."""
    spoken: list[str] = []
    while len(spoken) < tokens:
        spoken += tokenise((" " if spoken else "") + rng.choice(SENTENCES))
    return spoken[:tokens]
