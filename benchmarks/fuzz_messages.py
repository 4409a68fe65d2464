"""Random and mutated control messages: each is understood or refused, nothing else happens.

    python -m benchmarks.fuzz_messages --count 1000000
    python -m benchmarks.fuzz_messages --atheris        # guided by coverage (pip install atheris)

What `decode_client` gives must be one of its message types, and encode to JSON again where the
server sends it back; what it raises must be a `ProtocolError` with a short sentence.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report import here
from server import protocol
from server.protocol import (
    CLIENT_TYPES,
    ErrorMessage,
    PingMessage,
    PongMessage,
    ProtocolError,
    encode_message,
)

MAX_SENTENCE = 300
TYPES = (*CLIENT_TYPES, "", "stats", "__class__")
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1e308, -0.0, 2**63, 2**4000, "", "x" * 20, "\ud800", "\x00", [], {},
    [[[]]], {"type": "ping"}, 1.5, "NaN",
)  # fmt: skip
SEEDS = (
    '{"type": "ping", "t": 123.4}',
    '{"type": "interrupt"}',
    '{"type": "session.end"}',
    '{"type":"ping","t":"a string"}',
)
TOKENS = ('"', "{", "}", "[", "]", ":", ",", "null", "NaN", "Infinity", "1e999", "\\u0000", "\\")


def check(data: str | bytes) -> str:
    """What came of one message: the type it was understood as, or the code of its refusal.

    Raises:
        Exception: anything but a `ProtocolError`: a fault of ours.
    """
    try:
        message = protocol.decode_client(data)
    except ProtocolError as error:
        assert len(str(error)) <= MAX_SENTENCE, f"a sentence of {len(str(error))} characters"
        json.loads(encode_message(ErrorMessage(error.code, str(error))))
        return error.code
    if isinstance(message, PingMessage):
        json.loads(encode_message(PongMessage(message.t)).encode("utf-8"))
    json.loads(encode_message(message))
    return next(name for name, cls in CLIENT_TYPES.items() if type(message) is cls)


def structured(dice: random.Random) -> str:
    """A JSON object with odd fields."""
    message = {"type": dice.choice(TYPES), "t": dice.choice(VALUES)}
    if dice.random() < 0.3:
        message[dice.choice(("t", "type", "generation", "x"))] = dice.choice(VALUES)
    return json.dumps(message)


def mutated(dice: random.Random) -> str:
    """A good message with a few characters changed."""
    text = dice.choice(SEEDS)
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(text) + 1)
        part = dice.choice(TOKENS) if dice.random() < 0.5 else chr(dice.randrange(0xD7FF))
        text = text[:at] + part + text[at + dice.randrange(3) :]
    return text


def noise(dice: random.Random) -> str | bytes:
    """Characters or bytes of any kind; now and then a depth or a length that is meant to hurt."""
    match dice.randrange(20):
        case 0:
            return "[" * dice.randrange(16_000)
        case 1:
            return '{"a":' * dice.randrange(3_000)
        case 2:
            return "9" * dice.randrange(16_000)
        case 3:
            return dice.randbytes(dice.randrange(64))
        case _:
            length = dice.randrange(40)
            return "".join(chr(dice.randrange(0xD7FF)) for _ in range(length))


GENERATORS: tuple[Callable[[random.Random], str | bytes], ...] = (structured, mutated, noise)


def fuzz(count: int, seed: int) -> Counter[str]:
    """How often each outcome was seen."""
    dice = random.Random(seed)
    return Counter(check(dice.choice(GENERATORS)(dice)) for _ in range(count))


def run_atheris(count: int, seed: int) -> None:
    """Lets libFuzzer look for inputs that reach new code; does not return."""
    import atheris

    corpus = Path(tempfile.mkdtemp())
    for number, message in enumerate(SEEDS):
        (corpus / str(number)).write_text(message, encoding="utf-8")
    arguments = [f"-runs={count}", f"-seed={seed + 1}", "-max_len=200", str(corpus)]
    protocol.decode_client = atheris.instrument_func(protocol.decode_client)
    atheris.Setup([sys.argv[0], *arguments], lambda data: check(data.decode("utf-8", "replace")))
    atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_messages", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true", help="guided by coverage")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    if options.atheris:
        run_atheris(options.count, options.seed)
    circumstances = asdict(here("python -m benchmarks.fuzz_messages", given))
    began = time.process_time()
    outcomes = fuzz(options.count, options.seed)
    figures = {
        "circumstances": circumstances,
        "messages": options.count,
        "outcomes": dict(outcomes.most_common()),
        "cpu_s": round(time.process_time() - began, 1),
    }
    text = json.dumps(figures, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
