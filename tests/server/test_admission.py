"""Places for calls."""

from __future__ import annotations

import pytest

from server.admission import Admission, ServerFull


def test_the_limit_is_kept_and_a_place_given_back_is_free() -> None:
    admission = Admission(2, retry_after_s=7)
    admission.enter("a")
    admission.enter("b")
    with pytest.raises(ServerFull, match="2 calls") as caught:
        admission.enter("c")
    assert caught.value.retry_after_s == 7
    admission.leave("a")
    admission.leave("a")
    admission.enter("c")
    assert admission.taken == 2
