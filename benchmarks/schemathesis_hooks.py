"""Lets schemathesis send SDP.

    export LIPWIRE_TOKEN_SECRET=...   # of at least 32 characters
    lipwire serve --backend passthrough --max-sessions 64 --no-calibration --auth on
    SCHEMATHESIS_HOOKS=benchmarks.schemathesis_hooks schemathesis run \\
        http://localhost:8080/openapi.json --seed 1 --max-examples 300 \\
        -H "Authorization: Bearer $(lipwire token --scope admin)" --checks not_a_server_error\\
        ,status_code_conformance,content_type_conformance,response_schema_conformance
"""

from __future__ import annotations

import schemathesis


@schemathesis.serializer("application/sdp", "application/trickle-ice-sdpfrag")  # type: ignore[untyped-decorator]
def sdp(context: schemathesis.SerializationContext, value: object) -> bytes:
    """The text of an offer or a fragment of one as it goes over the wire."""
    return str(value).encode("utf-8", "replace")
