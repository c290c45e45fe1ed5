"""A measuring worker that knows the answers: FAKE_BEHAVIOR is a JSON object of behaviors by batch size."""

from __future__ import annotations

import json
import os
import sys
import time

from gapbench.execution.executor import JobOrder, encode, read_messages


def say(message):
    os.write(1, encode(message))


def main():
    messages = read_messages(sys.stdin.buffer)
    next(messages)
    if os.environ.get("FAKE_REFUSES"):
        say({"kind": "refused", "error": os.environ["FAKE_REFUSES"]})
        return
    say({"kind": "ready"})
    for number, message in enumerate(messages):
        spec = JobOrder.model_validate(message).specs[0]
        behavior = json.loads(os.environ.get("FAKE_BEHAVIOR", "{}")).get(str(spec.batch_size), "")
        if behavior == "fail":
            say({"kind": "failed", "error": "RuntimeError: no such kernel"})
            continue
        if behavior == "hang":
            time.sleep(60.0)
        if behavior == "die":
            print("Killed by something", file=sys.stderr)
            os._exit(9)
        scales = {"train": float(spec.batch_size), "evaluation": 10.0, "setup_seconds": 0.25, "outside_seconds": 0.25}
        scales |= {"program_seconds": 3.0 if number == 0 else 1.0}
        say({"kind": "measured", "scales": scales, "import_seconds": 2.0 if number == 0 else 0.0, "peak_mib": 700.0})


if __name__ == "__main__":
    main()
