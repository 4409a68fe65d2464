"""Exit status 0 while the server of this container takes calls: `/readyz` answers 200.

Standard library only. Reads the port and whether https is spoken where the server does.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys

TIMEOUT_S = 4.0


def is_ready() -> bool:
    port = int(os.environ.get("LIPWIRE_PORT", "8080"))
    connection: http.client.HTTPConnection
    if os.environ.get("LIPWIRE_TLS_CERT"):
        # The certificate is for the name that clients use, and this never leaves the machine.
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(
            "localhost", port, timeout=TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection("localhost", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready() else 1)
