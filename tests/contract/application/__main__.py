"""An application that knows nothing of any proxy: it does one thing and says what it saw, as JSON.

    python -I -S FOLDER ACTION ARGUMENTS(JSON)

The public functions of these modules are the actions. What fails is said as `{"error": NAME OF THE ERRNO}`, or
`{"error": "timeout"}` after LIMIT seconds. Where the environment has ALL_PROXY=socks5h://HOST:PORT it is an application
that obeys that, and NO_PROXY (a list of addresses): what an explicit proxy is for. Any Python from 3.9 on runs it, with
the standard library alone and without site: it starts fast.
"""

import errno
import json
import sys

import much
import others
import single
from connection import say

ACTIONS = {name: action for module in (single, much, others) for name, action in vars(module).items()}


def main() -> None:
    action, arguments = ACTIONS[sys.argv[1]], json.loads(sys.argv[2])
    try:
        result = action(**arguments)
    except TimeoutError:
        result = {"error": "timeout"}
    except OSError as error:
        result = {"error": errno.errorcode.get(error.errno or 0, str(error))}
    if result is not None:
        say(**result)


main()
