"""How many recommendations a running service gives a second, with few and with many in flight.

    python serving/load_test.py http://127.0.0.1:8000 --seconds 10

Each request has a history of its own: items of the service's own lists, in changing order. Prints a
line of JSON. `llmrec bench service BUNDLE` measures more, on services of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json

from llmrec.bench.service_load import throughput


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--key", default="", help="API key of scope read")
    parser.add_argument("--no-calibrated", action="store_true", help="without the click model")
    given = parser.parse_args()
    more = {"calibrated": not given.no_calibrated}
    found = asyncio.run(throughput(given.url, given.seconds, given.key, **more))
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


if __name__ == "__main__":
    main()
