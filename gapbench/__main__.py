"""`python -m gapbench` is `gapbench`."""

from __future__ import annotations

from gapbench.cli import main

if __name__ == "__main__":
    main()
