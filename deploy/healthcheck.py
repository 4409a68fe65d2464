"""Exit status 0 while the server of this container takes calls: `/readyz` answers 200.

Standard library only. Port and https are read from the environment, as the server reads them; a
server that has them from a TOML file or its command line needs a health check of its own.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys

TIMEOUT_S = 4.0  # one less than the image gives it


def is_ready() -> bool:
    """Whether calls are taken at this moment: not while the engine starts or calls are drained."""
    port = int(os.environ.get("LIPWIRE_PORT", "8080"))
    connection: http.client.HTTPConnection
    if os.environ.get("LIPWIRE_TLS_CERT"):
        # The certificate is for the name that clients use, and this never leaves the machine.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
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
