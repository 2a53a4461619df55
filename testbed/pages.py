"""What a process of this machine serves."""

import http.client
import urllib.error
import urllib.request


def page(port: int, path: str, timeout: float = 5.0) -> tuple[int, str]:
    """The status and the text; 0 and nothing if there is no answer within `timeout` seconds."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
