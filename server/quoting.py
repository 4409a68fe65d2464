"""What an error may repeat of what a client sent. Pure.

A client can put a secret anywhere: a token into the path, a ticket into `mode`. So answers, closing
messages and log lines quote nothing that could be one. Every secret of this server is longer than
QUOTED_CHARACTERS: tokens and tickets, ids of sessions and uploads, resume tokens, TURN passwords.
"""

from __future__ import annotations

QUOTED_CHARACTERS = 24


def quoted(sent: object) -> str:
    """`sent` as Python writes it, in ASCII on one line; of anything long its length alone."""
    text = ascii(sent)
    if len(text) > QUOTED_CHARACTERS + 2:  # the quotation marks
        length = len(sent) if isinstance(sent, str | bytes) else len(text)
        return f"{length} characters"
    return text
