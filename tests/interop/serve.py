"""Run one Python client in its own interpreter, which has that client and no pytest.

    python serve.py python_sdk

Each line of standard input is one call as JSON; the line printed for it has the reply as the client
returned it, or the error.
"""

import contextlib
import importlib
import json
import sys
import traceback


def main():
    client = importlib.import_module(f"{sys.argv[1]}.client")
    for line in sys.stdin:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # a client may print
                result = {"reply": client.call(**json.loads(line))}
        except Exception:
            result = {"failed": traceback.format_exc()}
        print(json.dumps(result, default=str), flush=True)


if __name__ == "__main__":
    main()
