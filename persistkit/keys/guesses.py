"""Guesses: which characters are likely at the places in doubt, by the text around them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from persistkit.keys.lattice import DIGITS, DIMENSIONS

if TYPE_CHECKING:
    from persistkit.keys.lattice import Integers, Reals

__all__ = ["Guesses", "Likelihoods"]

# Keys as programs write them; a directory's own solved keys soon count for more.
_EXAMPLES: Final = (
    "https://example.com:8080/path/to_file?user_name=a_b&next=https://example.org:443/x/y_z?page=2",
    "http://localhost:8000/v1/chat/completions?url=http://127.0.0.1:80/index_page.html",
    '{"name": "value", "count": 12, "tags": ["a_b", "c"], "ok": true}',
    '{"user_id":"ab_12","step":3,"path":"/tmp/x_y","url":"https://a.b/c"}',
    '<a href="https://example.com/a_b" class="link">text</a>',
    '<div class="a b"><p>text</p><br/><img src="/img/x.png"/></div>',
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\ntext<|eot_id|>",
    "<|im_start|>system\ntext<|im_end|>\n<|im_start|>assistant",
    "session:5f0c/step:12/tool:web_search/result",
    "agent/run_12/step_3:final_answer?max_tokens=5",
    "loop:7f3c-11:step:12",
    "cache/load_table:ab12/args_kwargs:3f",
    "user:42:profile|item:7|total",
    "C:\\Users\\user_name\\Documents\\my_file.txt",
    "D:\\data\\run_1\\*.csv",
    "\\\\server\\share\\file_name",
    'SELECT user_id, COUNT(*) FROM log_events WHERE name = "x" AND a < 3 AND b >= 4 AND c <> 5 GROUP BY user_id',
    "src/**/*.py",
    "data/*/part_*.parquet",
    "logs/2026_11_??/*.log",
    "data/**/run_log_*/step_??/part_*.json",
    "cache/**/user_*/item_id_??/**.csv",
    "models/*_v?/step_*/**/*_*.bin",
    "*/5 * * * *",
    "0 12 */2 * *",
    "*/15 0,12 1/2 * * /usr/bin/run_it /etc/x_y.conf > /var/log/it",
    "* */3 * 1 * /usr/local/bin/run /etc/run.conf >> /var/log/run_it.log",
    "2026-11-25T15:02:43.120+00:00",
    "12:30:05 2026/11/25",
    "2001:db8::8a2e:370:7334",
    "[fe80::1]:8080",
    "# title: **bold_text** and *it* | col_a | col_b |\n> quote [x](https://a.b/c_d)",
    "|a|b|\n|:--|--:|",
    'What is the answer? "Yes": no/maybe, a_b',
    "some_module/sub_module/__init__.py",
    "/usr/lib/python3/x_y/z_a.so",
    "a_b_c_d/e_f_g/h_i:j_k?l_m",
    "model:gpt_4/temperature:0/prompt_hash:ab",
    "file:///home/user_name/a_b",
)
_SPECIALS: Final = b'"*/:<>?\\|'
_PLACES: Final = re.compile(b"_{1,3}")
_SANITIZED: Final = bytes.maketrans(_SPECIALS, b"_" * len(_SPECIALS))
_KINDS: Final = bytes(
    ord("0") if chr(byte).isdigit() and byte < 128 else ord("a") if byte > 127 or chr(byte).isalpha() else byte
    for byte in range(256)
)
_NUMBERED: Final = bytes.maketrans(bytes(sorted(_SPECIALS + b"_")), b"0123456789")
_TRUST: Final = 1.0
_Context = tuple[object, ...]


class Likelihoods:
    """Counts of the characters seen between which neighbours, from the finest context to the coarsest."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._counts: dict[_Context, dict[int, int]] = {}
        for key in (*(example.encode() for example in _EXAMPLES), *keys):
            self.learn(key)

    def learn(self, key: bytes) -> None:
        """Count what stands at the places in doubt of a key."""
        text = key.translate(_SANITIZED)
        for run, contexts in _contexts(text):
            code = int(key[run.start() : run.end()].translate(_NUMBERED))
            for context in contexts:
                counts = self._counts.setdefault(context, {})
                counts[code] = counts.get(code, 0) + 1

    def of(self, text: bytes) -> list[tuple[int, Reals]]:
        """Return the start and the probabilities, one axis per place, of each run of places in a sanitized text."""
        return [
            (run.start(), self._probabilities(run.end() - run.start(), contexts)) for run, contexts in _contexts(text)
        ]

    def _probabilities(self, places: int, contexts: list[_Context]) -> Reals:
        shares = np.full(10**places, 10.0**-places)
        for context in contexts:
            counts = self._counts.get(context)
            if counts:
                total = sum(counts.values())
                shares *= _TRUST / (total + _TRUST)
                for code, count in counts.items():
                    shares[code] += count / (total + _TRUST)
        return shares.reshape((10,) * places)


def _contexts(text: bytes) -> Iterator[tuple[re.Match[bytes], list[_Context]]]:
    kinds = text.translate(_KINDS)
    runs = list(_PLACES.finditer(text))
    for number, run in enumerate(runs):
        start, end = run.span()
        size = end - start
        left, right = kinds[max(0, start - 1) : start], kinds[end : end + 1]
        yield (
            run,
            [
                (size,),
                (size, left, right),
                (size, kinds[max(0, start - 3) : start], kinds[end : end + 3]),
                (size, text[max(0, start - 3) : start], text[end : end + 3], None),
                (size, number, len(runs), left, right),
            ],
        )


class Guesses:
    """The likeliest digits at all places of a text but nine, which are left free: the least certain ones.

    Attributes:
        free: the nine places, as bytes from the start of the text.
        guessed: the other places.
        digits: the guesses, one row each, the likeliest first.
    """

    def __init__(self, runs: list[tuple[int, Reals]], most: int) -> None:
        doubts = []
        for start, shares in runs:
            for axis in range(shares.ndim):
                alone = shares.sum(axis=tuple(other for other in range(shares.ndim) if other != axis))
                doubts.append((float((alone * np.log(alone)).sum()), start + axis))
        self.free = sorted(place for _, place in sorted(doubts)[:DIMENSIONS])
        self.guessed = [place for _, place in sorted(doubts, key=lambda doubt: doubt[1]) if place not in self.free]
        logarithms, self.digits = np.zeros(1), np.zeros((1, 0), np.int64)
        for start, shares in runs:
            known = tuple(axis for axis in range(shares.ndim) if start + axis in self.free)
            alone = np.log(shares.sum(axis=known))
            if alone.ndim:
                logarithms, self.digits = _joined(logarithms, self.digits, alone, most)


def _joined(logarithms: Reals, digits: Integers, shares: Reals, most: int) -> tuple[Reals, Integers]:
    """Return the likeliest pairs of a guess so far and what the next run can be."""
    order = np.argsort(-shares, axis=None)[:most]
    # The n-th best with the m-th best of two sorted lists is not among the first n * m - 1.
    counts = np.minimum(most // np.arange(1, len(logarithms) + 1), len(order))
    former = np.repeat(np.arange(len(logarithms)), counts)
    latter = order[np.arange(len(former)) - (np.cumsum(counts) - counts)[former]]
    together = logarithms[former] + shares.ravel()[latter]
    best = np.argsort(-together, kind="stable")[:most]
    characters = DIGITS[np.stack(np.unravel_index(latter[best], shares.shape), axis=1)]
    return together[best], np.concatenate([digits[former[best]], characters], axis=1)
